//! `cert lint`

use std::fmt;

use serde_json::Value;

use super::gather::{Places, time};
use crate::cli::args_lint::{LintArgs, lines, write_findings, write_tally};
use crate::cli::report::{Linting, Report, count};
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::certlint::{self, Request, Role, Unit};
use crate::core::finding::{Checked, Severity, Tally};
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Failure, Kind};
use crate::flows::cert_gather::Artifact;
use crate::ports::Clock;

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
    #[command(flatten)]
    lint: LintArgs,
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
        let suppressions = self.lint.suppressions(settings)?;
        let artifacts = self.places.gather(&machine)?;
        let certificates = artifacts.iter().map(certificates_in).sum();
        let mut files = lint(&artifacts, &request);
        if certificates == 0 && files.iter().all(|checked| checked.findings.is_empty()) {
            return Err(nothing(&artifacts));
        }
        suppressions.apply(&mut files, now);
        let tally = Tally::of(files.iter().flat_map(|checked| &checked.findings));
        let fail_on = self.lint.fail_on();
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

    fn margin(&self) -> Result<Span, Failure> {
        let margin = self.margin.parse();
        margin.map_err(|error: crate::core::time::TimeError| {
            Failure::new(Kind::Usage, error.code(), format!("--margin: {error}"))
        })
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
        Some(lines(&self.files))
    }
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_findings(f, &self.files)?;
        write!(f, "{}: ", count(self.certificates as u64, "certificate"))?;
        write_tally(f, self.tally)
    }
}
