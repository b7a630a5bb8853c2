//! One result of a linter, audit or advisor: rule, severity, place, fact, remedy.

use std::fmt;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but is likely not what was meant.
    Warning,
    /// Will be refused, or cannot work.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Finding {
    /// Stable, dotted, documented: `template.ref-undeclared`. Scripts match on this.
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// Where: a JSON path such as `$.Resources.thing.Properties.ThingName`.
    pub path: String,
    /// One line: what is so.
    pub message: String,
    /// What to do about it, if we know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding without a remedy.
    pub fn new(
        severity: Severity,
        rule: &'static str,
        path: &str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            severity,
            path: path.to_owned(),
            message: message.into(),
            remedy: None,
        }
    }

    /// Something that will be refused.
    pub fn error(rule: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, rule, path, message)
    }

    /// Something that is likely not meant.
    pub fn warning(rule: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, rule, path, message)
    }

    /// Adds what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// A finding in one of many things that were looked at.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Placed {
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
    /// The line of the file that the thing begins on, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column in that line, in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// Which thing of the file, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The certificate's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why it is not counted: the reason that its suppression gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<String>,
}

/// One file or server that was looked at, and what was found in it.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Checked {
    /// The path, `-` for stdin, or `tls://host:port`.
    pub artifact: String,
    /// In the order they were found.
    pub findings: Vec<Placed>,
}

/// How many findings there are of each weight; those suppressed are counted apart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Tally {
    /// Errors.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
    /// Notes.
    pub notes: usize,
    /// Suppressed, of whatever weight.
    pub suppressed: usize,
}

impl Tally {
    /// Counts them.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Placed>) -> Self {
        let mut tally = Self::default();
        for placed in findings {
            *match (&placed.suppressed, placed.finding.severity) {
                (Some(_), _) => &mut tally.suppressed,
                (None, Severity::Error) => &mut tally.errors,
                (None, Severity::Warning) => &mut tally.warnings,
                (None, Severity::Note) => &mut tally.notes,
            } += 1;
        }
        tally
    }

    /// How many weigh at least this much.
    pub fn at_least(&self, severity: Severity) -> usize {
        match severity {
            Severity::Error => self.errors,
            Severity::Warning => self.errors + self.warnings,
            Severity::Note => self.errors + self.warnings + self.notes,
        }
    }
}

impl From<Finding> for Placed {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            line: None,
            column: None,
            index: None,
            subject: None,
            id: None,
            suppressed: None,
        }
    }
}

impl fmt::Display for Finding {
    /// `error[template.status]: $.Resources… : fact`, and the remedy on its own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}[{}]: {}: {}",
            self.severity, self.rule, self.path, self.message
        )?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  remedy: {remedy}"),
            None => Ok(()),
        }
    }
}
