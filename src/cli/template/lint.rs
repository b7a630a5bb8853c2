//! `template lint`

use std::fmt;
use std::path::PathBuf;

use super::KindArg;
use crate::cli::report::{Linting, Report, count};
use crate::cli::settings::Settings;
use crate::core::finding::{Checked, Finding, Placed, Severity};
use crate::core::template::{Template, TemplateKind};
use crate::explain::Failure;
use crate::flows::template_register::{kind_of, lint};

/// Say what AWS IoT would refuse in a provisioning template, and where
///
/// Exits with 1 when there is an error; warnings alone do not.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The template, JSON; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it is for [default: by the parameters that it declares]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
}

/// What the linter found.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Linted {
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<TemplateKind>,
    errors: usize,
    findings: Vec<Finding>,
    #[serde(skip)]
    checked: [Checked; 1],
}

impl Args {
    pub(in crate::cli) fn run(self, _settings: &Settings) -> Result<Linted, Failure> {
        let body = super::read_text(&self.file)?;
        let by_parameters = || Template::parse(&body).ok().map(|t| kind_of(&t));
        let kind = self.kind.map(TemplateKind::from).or_else(by_parameters);
        let findings = lint(&body, kind);
        let is_error = |finding: &&Finding| finding.severity == Severity::Error;
        let checked = Checked {
            artifact: self.file.display().to_string(),
            findings: findings.iter().cloned().map(Placed::from).collect(),
        };
        Ok(Linted {
            checked: [checked],
            file: self.file,
            kind,
            errors: findings.iter().filter(is_error).count(),
            findings,
        })
    }
}

impl Report for Linted {
    fn exit_code(&self) -> u8 {
        u8::from(self.errors > 0)
    }

    fn linting(&self) -> Option<Linting<'_>> {
        Some(Linting {
            files: &self.checked,
            fail_on: Severity::Error,
        })
    }
}

impl fmt::Display for Linted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let kind = self.kind.map_or("not a template", TemplateKind::as_str);
        let others = self.findings.len() - self.errors;
        let file = self.file.display();
        match (self.errors, others) {
            (0, 0) => write!(f, "{file}: no findings ({kind})"),
            (errors, others) => {
                let (errors, others) = (
                    count(errors as u64, "error"),
                    count(others as u64, "other finding"),
                );
                write!(f, "{file}: {errors}, {others} ({kind})")
            }
        }
    }
}
