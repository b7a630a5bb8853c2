//! `policy lint`

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{read_text, region_flag};
use crate::cli::args_lint::{LintArgs, lines, write_findings, write_tally};
use crate::cli::report::{Linting, Report, count, note};
use crate::cli::settings::Settings;
use crate::cli::wire::factory::Factory;
use crate::cli::wire_device::Machine;
use crate::core::bundle::Secrecy;
use crate::core::finding::{Checked, Placed, Severity, Tally};
use crate::core::ids::AccountId;
use crate::core::policylint::{Fix, Request, fix, lint};
use crate::core::suppress::Suppressions;
use crate::core::time::UtcTime;
use crate::explain::{Failure, Kind};
use crate::ports::{Clock, Files};

/// Say what is wrong or doubtful in AWS IoT policies, as Device Defender sees it and more
///
/// Exit code 1 when a finding weighs at least --fail-on. `nameplate explain RULE` says why a rule
/// matters and what to do. `--format sarif` and `junit` are for CI.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Policy documents, JSON; `-` is stdin
    #[arg(value_name = "FILE|-", required = true)]
    files: Vec<PathBuf>,
    /// The account that the policies are for; --region names the Region
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Mend what can be mended with certainty, in the file itself
    #[arg(long)]
    fix: bool,
    /// Where the mended document goes instead; `-` is stdout
    #[arg(long, short, value_name = "FILE|-", requires = "fix")]
    out: Option<PathBuf>,
    #[command(flatten)]
    lint: LintArgs,
}

/// What the linter found.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Linted {
    policies: usize,
    #[serde(flatten)]
    tally: Tally,
    fail_on: Severity,
    failed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixed: Vec<Mended>,
    files: Vec<Checked>,
    /// The mended document, when it goes to stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
}

/// What was mended in one document.
#[derive(serde::Serialize)]
struct Mended {
    artifact: String,
    fixes: Vec<Fix>,
}

/// What one run knows.
struct Run {
    request: Request,
    suppressions: Suppressions,
    now: UtcTime,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Linted, Failure> {
        self.check()?;
        let run = Run {
            request: Request {
                region: region_flag(settings)?,
                account: self.account.clone(),
            },
            suppressions: self.lint.suppressions(settings)?,
            now: Machine::default().clock.now(),
        };
        let mut mended = Vec::new();
        let mut document = None;
        let mut files = Vec::new();
        for path in &self.files {
            let mut text = read_text(path)?;
            if self.fix {
                let (now, applied) = run.mend(path, &text);
                document = self.write(path, &now, !applied.is_empty())?;
                text = now;
                mended.push(Mended {
                    artifact: path.display().to_string(),
                    fixes: applied,
                });
            }
            files.push(run.checked(path, &text));
        }
        run.suppressions.apply(&mut files, run.now);
        let tally = Tally::of(files.iter().flat_map(|checked| &checked.findings));
        let fail_on = self.lint.fail_on();
        let linted = Linted {
            policies: self.files.len(),
            tally,
            fail_on,
            failed: tally.at_least(fail_on) > 0,
            fixed: mended,
            files,
            document,
        };
        if linted.document.is_some() {
            // stdout holds the document alone.
            note(linted.said());
        }
        Ok(linted)
    }

    fn check(&self) -> Result<(), Failure> {
        let stdin = self.files.iter().filter(|path| is_stdio(path)).count();
        if stdin > 1 {
            let message = "`-` was named more than once";
            return Err(
                Failure::new(Kind::Usage, "policy.stdin", message).hint("name the others as files")
            );
        }
        if self.files.len() > 1 && (self.out.is_some() || (self.fix && stdin > 0)) {
            let message = "several documents cannot be mended into one";
            return Err(Failure::new(Kind::Usage, "policy.out-many", message)
                .hint("mend them in their files with --fix, or one at a time"));
        }
        Ok(())
    }

    /// Puts a mended document where it belongs; answers it when that is stdout.
    fn write(&self, path: &Path, text: &str, changed: bool) -> Result<Option<String>, Failure> {
        let out = self.out.as_deref().unwrap_or(path);
        if is_stdio(out) {
            return Ok(Some(text.to_owned()));
        }
        if self.out.is_some() {
            Factory::disk().write_new(out, text.as_bytes(), Secrecy::Public)?;
        } else if changed {
            Factory::disk().replace(out, text.as_bytes(), Secrecy::Public)?;
        }
        Ok(None)
    }
}

impl Run {
    fn checked(&self, path: &Path, text: &str) -> Checked {
        Checked {
            artifact: path.display().to_string(),
            findings: lint(text, &self.request).findings,
        }
    }

    /// The document with its fixes; what is suppressed stands.
    fn mend(&self, path: &Path, text: &str) -> (String, Vec<Fix>) {
        let mut before = vec![self.checked(path, text)];
        self.suppressions.apply(&mut before, self.now);
        let all = before.iter().flat_map(|checked| &checked.findings);
        let stands = |placed: &&Placed| placed.suppressed.is_some();
        let standing: BTreeSet<(&str, &str)> = all
            .filter(stands)
            .map(|placed| (placed.finding.rule, &placed.finding.path[..]))
            .collect();
        let fixed = fix(text, &self.request, |fix| {
            !standing.contains(&(fix.rule, &fix.path))
        });
        (fixed.text, fixed.fixes)
    }
}

fn is_stdio(path: &Path) -> bool {
    path == Path::new("-")
}

impl Linted {
    /// The findings and their number, as text.
    fn said(&self) -> String {
        struct Said<'a>(&'a Linted);
        impl fmt::Display for Said<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f)
            }
        }
        Said(self).to_string()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mended in &self.fixed {
            for fix in &mended.fixes {
                let to = fix.to.as_str().unwrap_or_default();
                let Mended { artifact, .. } = mended;
                writeln!(f, "{artifact}: fixed[{}]: {}: `{to}`", fix.rule, fix.path)?;
            }
        }
        write_findings(f, &self.files)?;
        let fixes: usize = self.fixed.iter().map(|mended| mended.fixes.len()).sum();
        let policies = match self.policies {
            1 => "1 policy".to_owned(),
            many => format!("{many} policies"),
        };
        write!(f, "{policies}: ")?;
        if fixes > 0 {
            write!(f, "{} fixed, ", count(fixes as u64, "finding"))?;
        }
        write_tally(f, self.tally)
    }
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
        match &self.document {
            Some(document) => f.write_str(document),
            None => self.write(f),
        }
    }
}
