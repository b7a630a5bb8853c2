//! Findings that somebody has looked at and lets stand, for a while: what, why, and until when.

use crate::core::finding::{Checked, Finding, Placed, Severity};
use crate::core::glob::glob;
use crate::core::rules;
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// A file of suppressions.
#[derive(Debug)]
pub struct Suppressions {
    file: String,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    expires: UtcTime,
    raw: Raw,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    suppress: Vec<toml::Spanned<Raw>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    rule: String,
    subject: Option<String>,
    fingerprint: Option<String>,
    path: Option<String>,
    reason: String,
    expires: Date,
}

/// A TOML date or a text.
#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Date {
    Text(String),
    Toml(toml::value::Datetime),
}

impl Suppressions {
    /// None at all.
    pub fn none() -> Self {
        Self {
            file: String::new(),
            entries: Vec::new(),
        }
    }

    /// Reads `[[suppress]]` tables: `rule` (an id, or `cert.*`), `reason` and `expires`, and to
    /// narrow it `path`, `subject` (both with `*`) and `fingerprint` (a certificate id or its
    /// first digits).
    ///
    /// # Errors
    /// `suppression.syntax` with line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, SuppressError> {
        let wrong = |at: usize, reason: String| {
            let before = &text[..at.min(text.len())];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            SuppressError {
                file: file.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                reason,
            }
        };
        let parsed: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            wrong(at, error.message().trim().to_owned())
        })?;
        let mut entries = Vec::new();
        for spanned in parsed.suppress {
            let at = spanned.span().start;
            let raw = spanned.into_inner();
            let expires = raw.check().map_err(|reason| wrong(at, reason))?;
            entries.push(Entry {
                line: wrong(at, String::new()).line,
                expires,
                raw,
            });
        }
        Ok(Self {
            file: file.to_owned(),
            entries,
        })
    }

    /// Marks what is suppressed at `now`, and adds what is to be said of the suppressions
    /// themselves: those that are over, and those that hide nothing.
    pub fn apply(&self, files: &mut Vec<Checked>, now: UtcTime) {
        let mut own = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let over = now >= entry.expires;
            let mut hidden = 0;
            for checked in files.iter_mut() {
                for placed in &mut checked.findings {
                    if entry.raw.matches(&checked.artifact, placed) {
                        hidden += 1;
                        if !over && placed.suppressed.is_none() {
                            placed.suppressed = Some(entry.raw.reason.clone());
                        }
                    }
                }
            }
            let said = match (over, hidden) {
                (true, _) => (
                    "suppression.expired",
                    format!("it ended at {}", entry.expires),
                ),
                (false, 0) => ("suppression.unused", "nothing is hidden by it".to_owned()),
                _ => continue,
            };
            own.push(entry.note(number, said));
        }
        if !own.is_empty() {
            files.push(Checked {
                artifact: self.file.clone(),
                findings: own,
            });
        }
    }
}

impl Entry {
    fn note(&self, number: usize, (rule, said): (&'static str, String)) -> Placed {
        let path = format!("$.suppress[{number}]");
        let message = format!("`{}` ({}): {said}", self.raw.rule, self.raw.reason);
        let mut finding = Finding::new(Severity::Note, rule, &path, message);
        finding.remedy = rules::find(rule).map(|rule| rule.remedy.clone());
        Placed {
            line: Some(self.line),
            ..finding.into()
        }
    }
}

impl Raw {
    /// When it ends, if all else is in order.
    fn check(&self) -> Result<UtcTime, String> {
        if self.reason.trim().is_empty() {
            return Err("`reason` is empty: say why this may stand".into());
        }
        let pattern = self.rule.ends_with(".*");
        if !pattern && rules::find(&self.rule).is_none() {
            return Err(format!("there is no rule `{}`", self.rule));
        }
        let text = match &self.expires {
            Date::Text(text) => text.clone(),
            Date::Toml(date) => date.to_string(),
        };
        text.parse::<UtcTime>()
            .map_err(|_| format!("`expires` is `{text}`; write a date, such as 2027-01-31"))
    }

    fn matches(&self, artifact: &str, placed: &Placed) -> bool {
        let fits = |pattern: &Option<String>, text: Option<&str>| {
            let Some(pattern) = pattern else { return true };
            text.is_some_and(|text| glob(pattern, text))
        };
        let fingerprint = self.fingerprint.as_ref().is_none_or(|wanted| {
            let wanted = wanted.replace(':', "").to_ascii_lowercase();
            wanted.len() >= 8 && placed.id.as_ref().is_some_and(|id| id.starts_with(&wanted))
        });
        let artifact = artifact.strip_prefix("./").unwrap_or(artifact);
        glob(&self.rule, placed.finding.rule)
            && fits(&self.path, Some(artifact))
            && fits(&self.subject, placed.subject.as_deref())
            && fingerprint
    }
}

/// A file of suppressions that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{file}`, line {line}, column {column}: {reason}")]
pub struct SuppressError {
    file: String,
    line: usize,
    column: usize,
    reason: String,
}

impl Explain for SuppressError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "suppression.syntax"
    }
    fn hint(&self) -> Option<String> {
        Some(
            "each [[suppress]] has `rule`, `reason` and `expires`; see docs/certificates.md".into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: &'static str, subject: &str) -> Placed {
        Placed {
            subject: Some(subject.into()),
            id: Some("ab".repeat(32)),
            ..Finding::error(rule, "$", "so").into()
        }
    }

    fn files() -> Vec<Checked> {
        vec![Checked {
            artifact: "./old/a.pem".into(),
            findings: vec![
                found("cert.version", "CN=pump-1"),
                found("cert.expired", "CN=pump-1"),
            ],
        }]
    }

    #[test]
    fn what_is_let_stand_is_marked_until_its_date() {
        let text = "[[suppress]]\nrule = \"cert.version\"\nsubject = \"CN=pump-*\"\n\
                    path = \"old/*\"\nfingerprint = \"AB:AB:AB:AB\"\nreason = \"r\"\nexpires = 2027-01-31\n";
        let suppressions = Suppressions::parse(text, "s.toml").unwrap();
        let mut checked = files();
        suppressions.apply(&mut checked, "2027-01-30".parse().unwrap());
        assert_eq!(checked[0].findings[0].suppressed.as_deref(), Some("r"));
        assert_eq!(checked[0].findings[1].suppressed, None);
        assert_eq!(checked.len(), 1);

        let mut checked = files();
        suppressions.apply(&mut checked, "2027-01-31".parse().unwrap());
        assert_eq!(checked[0].findings[0].suppressed, None);
        assert_eq!(checked[1].findings[0].finding.rule, "suppression.expired");
        assert_eq!(checked[1].findings[0].line, Some(1));
    }

    #[test]
    fn what_hides_nothing_is_told() {
        for narrowed in [
            "subject = \"CN=valve-*\"",
            "path = \"new/*\"",
            "fingerprint = \"00112233\"",
            "fingerprint = \"ab\"",
        ] {
            let text = format!(
                "\n[[suppress]]\nrule = \"cert.*\"\n{narrowed}\nreason = \"r\"\nexpires = \"2027-01-31\"\n"
            );
            let suppressions = Suppressions::parse(&text, "s.toml").unwrap();
            let mut checked = files();
            suppressions.apply(&mut checked, "2026-01-30".parse().unwrap());
            assert_eq!(
                checked[1].findings[0].finding.rule, "suppression.unused",
                "{narrowed}"
            );
            assert_eq!(checked[1].findings[0].line, Some(2));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let full = |rule: &str, reason: &str, expires: &str| {
            format!(
                "[[suppress]]\nrule = \"{rule}\"\nreason = \"{reason}\"\nexpires = \"{expires}\"\n"
            )
        };
        for (text, word) in [
            (
                "[[suppress]]\nrule = \"cert.version\"\n".to_owned(),
                "missing field",
            ),
            (full("cert.nope", "r", "2027-01-31"), "no rule `cert.nope`"),
            (full("cert.version", " ", "2027-01-31"), "`reason` is empty"),
            (full("cert.version", "r", "soon"), "write a date"),
            ("a = 1".to_owned(), "unknown field"),
            ("[[suppress".to_owned(), "line 1, column"),
        ] {
            let error = Suppressions::parse(&text, "s.toml").unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.code(), "suppression.syntax");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxyyc", false),
            ("*.pem", "x/y.pem", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
