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
