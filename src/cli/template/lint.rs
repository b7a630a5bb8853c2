//! `template lint`

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use super::{PolicyArgs, UsageArg};
use crate::cli::args_lint::{LintArgs, lines, write_findings, write_tally};
use crate::cli::args_profile::ProfileArgs;
use crate::cli::report::{Linting, Report};
use crate::cli::settings::Settings;
use crate::cli::wire::target::{TargetReport, connect};
use crate::cli::wire_device::Machine;
use crate::core::finding::{Checked, Placed, Severity, Tally};
use crate::core::template::{Subjects, Usage};
use crate::explain::Failure;
use crate::flows::template_lint::Request;
use crate::ports::Clock;

/// Say what AWS IoT would refuse in a provisioning template, what fails later, and where
///
/// Exit code 1 when a finding weighs at least --fail-on. `nameplate explain RULE` says why a rule
/// matters and what to do. `--format sarif` and `junit` are for CI.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The template, JSON; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who runs it [default: by what it declares]
    #[arg(long, value_enum)]
    kind: Option<UsageArg>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Look whether the thing type, groups and policies that it names are at the target
    #[arg(long)]
    at_target: bool,
    #[command(flatten)]
    lint: LintArgs,
}

/// What the linter found.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Linted {
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<TargetReport>,
    #[serde(flatten)]
    tally: Tally,
    fail_on: Severity,
    failed: bool,
    findings: Vec<Placed>,
    #[serde(skip)]
    checked: Vec<Checked>,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Linted, Failure> {
        let body = super::read_text(&self.file)?;
        let suppressions = self.lint.suppressions(settings)?;
        let subjects = self.subjects(settings)?;
        let connected = self.at_target.then(|| connect(settings)).transpose()?;
        let target = connected.as_ref().map(|one| one.target.clone());
        let place = match &target {
            Some(target) => target.place.clone(),
            None => settings.sandbox_place()?,
        };
        let request = Request {
            body: &body,
            usage: self.kind.map(Usage::from),
            subjects: subjects.as_ref(),
            documents: self.policy.documents(&body)?,
            place: &place,
            plane: connected.as_ref().map(|one| &*one.plane),
        };
        let found = request.run()?;
        let mut checked = vec![Checked {
            artifact: self.file.display().to_string(),
            findings: found.findings,
        }];
        suppressions.apply(&mut checked, Machine::default().clock.now());
        let tally = Tally::of(checked.iter().flat_map(|one| &one.findings));
        let fail_on = self.lint.fail_on();
        Ok(Linted {
            kind: found.usage,
            target,
            tally,
            fail_on,
            failed: tally.at_least(fail_on) > 0,
            findings: checked
                .iter()
                .flat_map(|one| one.findings.clone())
                .collect(),
            checked,
            file: self.file,
        })
    }

    /// The subjects of the profile's certificates; `None` when nothing names them.
    fn subjects(&self, settings: &Settings) -> Result<Option<Subjects>, Failure> {
        let profile = self.profile.load(settings)?;
        let patterns = self.profile.patterns(&profile)?;
        let said = patterns.said().then(|| patterns.subjects());
        Ok(said.transpose()?)
    }
}

impl Report for Linted {
    fn exit_code(&self) -> u8 {
        u8::from(self.failed)
    }

    fn linting(&self) -> Option<Linting<'_>> {
        Some(Linting {
            files: &self.checked,
            fail_on: self.fail_on,
        })
    }

    fn lines(&self) -> Option<Vec<Value>> {
        Some(lines(&self.checked))
    }
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_findings(f, &self.checked)?;
        let kind = self.kind.map_or("not a template", Usage::as_str);
        write!(f, "{} ({kind}): ", self.file.display())?;
        write_tally(f, self.tally)
    }
}
