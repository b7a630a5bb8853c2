//! `cert lint`

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::gather::{Places, time};
use crate::cli::report::{Linting, Report, count};
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::certlint::{self, Request, Role, Unit};
use crate::core::finding::{Checked, Placed, Severity, Tally};
use crate::core::suppress::Suppressions;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Failure, Kind};
use crate::flows::cert_gather::Artifact;
use crate::ports::{Clock, Files};

/// The suppressions that are taken when none are named, beside nameplate.toml or here.
const SUPPRESSIONS: &str = "nameplate-lint.toml";
/// The most of it that is read.
const MAX_SUPPRESSIONS: u64 = 1 << 20;

/// Say what is wrong or doubtful in certificates, for device PKI and AWS IoT
///
/// Exit code 1 when a finding weighs at least --fail-on. `nameplate explain RULE` says why a rule
/// matters and what to do. `--format sarif` and `junit` are for CI.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    places: Places,
    /// What the certificates are for [default: what each says of itself]
    #[arg(long = "as", value_name = "ROLE", value_enum, default_value_t = RoleArg::Auto, hide_default_value = true)]
    role: RoleArg,
    /// As seen at this time (RFC 3339, or `+90d`) [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Tell of certificates that end within this long
    #[arg(long, value_name = "SPAN", default_value = "30d")]
    margin: String,
    /// From which weight on a finding makes the exit code 1
    #[arg(long, value_name = "WEIGHT", value_enum, default_value_t = Weight::Error)]
    fail_on: Weight,
    /// The same as --fail-on warning
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with = "fail_on")]
    deny: Option<Deny>,
    /// Findings to let stand, each with a reason and a date [default: nameplate-lint.toml in the
    /// project or here, if there is one]
    #[arg(long, value_name = "FILE")]
    suppressions: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum RoleArg {
    /// By what each certificate says of itself
    Auto,
    /// TLS clients
    Device,
    /// TLS servers
    Server,
    /// CAs that sign themselves
    Root,
    /// CAs below another
    Intermediate,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Weight {
    Error,
    Warning,
    Note,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Deny {
    Warnings,
}

/// What the linter found.
#[derive(serde::Serialize)]
pub(super) struct Linted {
    at: UtcTime,
    certificates: usize,
    #[serde(flatten)]
    tally: Tally,
    fail_on: Severity,
    failed: bool,
    files: Vec<Checked>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Linted, Failure> {
        let machine = Machine::default();
        let now = machine.clock.now();
        let request = Request {
            role: self.role(),
            at: time(self.at.as_deref(), now)?,
            margin: self.margin()?,
        };
        let suppressions = self.suppressions(settings, &machine)?;
        let artifacts = self.places.gather(&machine)?;
        let certificates = artifacts.iter().map(certificates_in).sum();
        let mut files = lint(&artifacts, &request);
        if certificates == 0 && files.iter().all(|checked| checked.findings.is_empty()) {
            return Err(nothing(&artifacts));
        }
        suppressions.apply(&mut files, now);
        let tally = Tally::of(files.iter().flat_map(|checked| &checked.findings));
        let fail_on = self.fail_on();
        Ok(Linted {
            at: request.at,
            certificates,
            tally,
            fail_on,
            failed: tally.at_least(fail_on) > 0,
            files,
        })
    }

    fn role(&self) -> Option<Role> {
        match self.role {
            RoleArg::Auto => None,
            RoleArg::Device => Some(Role::Device),
            RoleArg::Server => Some(Role::Server),
            RoleArg::Root => Some(Role::Root),
            RoleArg::Intermediate => Some(Role::Intermediate),
        }
    }

    fn fail_on(&self) -> Severity {
        match (self.deny, self.fail_on) {
            (Some(Deny::Warnings), _) | (None, Weight::Warning) => Severity::Warning,
            (None, Weight::Error) => Severity::Error,
            (None, Weight::Note) => Severity::Note,
        }
    }

    fn margin(&self) -> Result<Span, Failure> {
        let margin = self.margin.parse();
        margin.map_err(|error: crate::core::time::TimeError| {
            Failure::new(Kind::Usage, error.code(), format!("--margin: {error}"))
        })
    }

    fn suppressions(
        &self,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<Suppressions, Failure> {
        let named = self.suppressions.clone();
        let beside = settings.project.as_deref().unwrap_or(Path::new(""));
        let usual = || {
            let usual = beside.join(SUPPRESSIONS);
            machine.files.exists(&usual).then_some(usual)
        };
        let Some(path) = named.or_else(usual) else {
            return Ok(Suppressions::none());
        };
        let bytes = machine.files.read(&path, MAX_SUPPRESSIONS)?;
        let shown = super::super::wire::factory::shown(&path);
        let text = String::from_utf8_lossy(&bytes);
        Ok(Suppressions::parse(&text, &shown.display().to_string())?)
    }
}

fn certificates_in(artifact: &Artifact) -> usize {
    let all = artifact.items.iter();
    all.filter(|item| item.certificate().is_some()).count()
}

fn lint(artifacts: &[Artifact], request: &Request) -> Vec<Checked> {
    let units: Vec<Unit<'_>> = artifacts
        .iter()
        .map(|artifact| Unit {
            items: &artifact.items,
            issuers: &artifact.issuers,
            presented: artifact.presented,
        })
        .collect();
    let findings = certlint::lint(&units, request);
    let names = artifacts.iter().map(|artifact| artifact.name.clone());
    names
        .zip(findings)
        .map(|(artifact, findings)| Checked { artifact, findings })
        .collect()
}

/// Only keys, requests or the like were named.
fn nothing(artifacts: &[Artifact]) -> Failure {
    use crate::core::intake::Thing;
    let mut what = artifacts.iter().flat_map(|artifact| &artifact.items);
    let what = what.find_map(|item| match &item.thing {
        Thing::Other { what, .. } => Some(*what),
        _ => None,
    });
    let message = format!(
        "there is no certificate here, only {}",
        what.unwrap_or("nothing")
    );
    Failure::new(Kind::Input, "cert.none", message)
        .hint("`nameplate cert inspect` names what is in a file")
}

impl Report for Linted {
    fn exit_code(&self) -> u8 {
        u8::from(self.failed)
    }

    fn linting(&self) -> Option<Linting<'_>> {
        Some(Linting {
            files: &self.files,
            fail_on: self.fail_on,
        })
    }

    fn lines(&self) -> Option<Vec<Value>> {
        let all = self.files.iter().flat_map(|checked| {
            let with_place = |placed: &Placed| {
                let mut line = json!({ "artifact": checked.artifact });
                if let (Some(line), Value::Object(rest)) = (line.as_object_mut(), json!(placed)) {
                    line.extend(rest);
                }
                line
            };
            checked.findings.iter().map(with_place).collect::<Vec<_>>()
        });
        Some(all.collect())
    }
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for checked in &self.files {
            let counted = checked
                .findings
                .iter()
                .filter(|one| one.suppressed.is_none());
            for placed in counted {
                write!(f, "{}", checked.artifact)?;
                if let Some(line) = placed.line {
                    write!(f, ":{line}")?;
                }
                writeln!(f, ": {}", placed.finding)?;
            }
        }
        write!(f, "{}: ", count(self.certificates as u64, "certificate"))?;
        let Tally {
            errors,
            warnings,
            notes,
            suppressed,
        } = self.tally;
        if errors + warnings + notes == 0 {
            f.write_str("no findings")?;
        } else {
            let all = [(errors, "error"), (warnings, "warning"), (notes, "note")];
            let said: Vec<String> = all
                .iter()
                .filter(|(number, _)| *number > 0)
                .map(|(number, noun)| count(*number as u64, noun))
                .collect();
            f.write_str(&said.join(", "))?;
        }
        match suppressed {
            0 => Ok(()),
            some => write!(f, ", {some} suppressed"),
        }
    }
}
