//! Flags and text that linters share: from which weight on a finding fails the run, and the findings
//! that may stand for a while.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::report::count;
use super::settings::Settings;
use super::wire::factory::{Factory, shown};
use crate::core::finding::{Checked, Placed, Severity, Tally};
use crate::core::suppress::Suppressions;
use crate::explain::Failure;
use crate::ports::Files;

/// The suppressions that are taken when none are named, beside nameplate.toml or here.
const SUPPRESSIONS: &str = "nameplate-lint.toml";
/// The most of it that is read.
const MAX_SUPPRESSIONS: u64 = 1 << 20;

/// What every linter takes.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct LintArgs {
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
enum Weight {
    Error,
    Warning,
    Note,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Deny {
    Warnings,
}

impl LintArgs {
    /// From which weight on a finding fails the run.
    pub(super) fn fail_on(&self) -> Severity {
        match (self.deny, self.fail_on) {
            (Some(Deny::Warnings), _) | (None, Weight::Warning) => Severity::Warning,
            (None, Weight::Error) => Severity::Error,
            (None, Weight::Note) => Severity::Note,
        }
    }

    /// The findings that may stand.
    pub(super) fn suppressions(&self, settings: &Settings) -> Result<Suppressions, Failure> {
        let files = Factory::disk();
        let named = self.suppressions.clone();
        let beside = settings.project.as_deref().unwrap_or(Path::new(""));
        let usual = || {
            let usual = beside.join(SUPPRESSIONS);
            files.exists(&usual).then_some(usual)
        };
        let Some(path) = named.or_else(usual) else {
            return Ok(Suppressions::none());
        };
        let bytes = files.read(&path, MAX_SUPPRESSIONS)?;
        let shown = shown(&path);
        let text = String::from_utf8_lossy(&bytes);
        Ok(Suppressions::parse(&text, &shown.display().to_string())?)
    }
}

/// One object for each finding, with what it was found in.
pub(super) fn lines(files: &[Checked]) -> Vec<Value> {
    let all = files.iter().flat_map(|checked| {
        let with_place = |placed: &Placed| {
            let mut line = json!({ "artifact": checked.artifact });
            if let (Some(line), Value::Object(rest)) = (line.as_object_mut(), json!(placed)) {
                line.extend(rest);
            }
            line
        };
        checked.findings.iter().map(with_place).collect::<Vec<_>>()
    });
    all.collect()
}

/// `file:line:column: finding`, for all that are not suppressed.
pub(super) fn write_findings(f: &mut fmt::Formatter<'_>, files: &[Checked]) -> fmt::Result {
    for checked in files {
        let counted = checked
            .findings
            .iter()
            .filter(|one| one.suppressed.is_none());
        for placed in counted {
            write!(f, "{}", checked.artifact)?;
            for at in [placed.line, placed.column].into_iter().flatten() {
                write!(f, ":{at}")?;
            }
            writeln!(f, ": {}", placed.finding)?;
        }
    }
    Ok(())
}

/// `1 error, 2 notes, 1 suppressed`, or that there are none.
pub(super) fn write_tally(f: &mut fmt::Formatter<'_>, tally: Tally) -> fmt::Result {
    let Tally {
        errors,
        warnings,
        notes,
        suppressed,
    } = tally;
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
