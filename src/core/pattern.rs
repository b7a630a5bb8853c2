//! Subjects with placeholders: `CN={name},serialNumber={serial}`.

use crate::core::subject::{Subject, SubjectError};
use crate::explain::{Explain, Kind};

/// The placeholders in a pattern, in order.
///
/// # Errors
/// `pattern.syntax` when a brace is left open.
pub fn placeholders(pattern: &str) -> Result<Vec<&str>, PatternError> {
    let mut names = Vec::new();
    let mut rest = pattern;
    while let Some((_, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| PatternError::Open(pattern.to_owned()))?;
        names.push(name);
        rest = after;
    }
    Ok(names)
}

/// The subject with every placeholder replaced. A value cannot break out of its attribute.
///
/// # Errors
/// `pattern.unknown` when `value_of` does not know a placeholder; `subject.*`.
pub fn fill<'a>(
    pattern: &str,
    value_of: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<Subject, PatternError> {
    Ok(expand(pattern, value_of, true)?.parse()?)
}

/// The text with every placeholder replaced by its value as it is: for a name of one kind.
///
/// # Errors
/// `pattern.unknown` when `value_of` does not know a placeholder; `pattern.syntax`.
pub fn fill_text<'a>(
    pattern: &str,
    value_of: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, PatternError> {
    expand(pattern, value_of, false)
}

fn expand<'a>(
    pattern: &str,
    value_of: &dyn Fn(&str) -> Option<&'a str>,
    escape: bool,
) -> Result<String, PatternError> {
    let mut text = String::with_capacity(pattern.len() + 32);
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| PatternError::Open(pattern.to_owned()))?;
        let value = value_of(name).ok_or_else(|| PatternError::Unknown(name.to_owned()))?;
        text.push_str(before);
        for c in value.chars() {
            if escape && matches!(c, '\\' | ',' | '/' | '+' | '=') {
                text.push('\\');
            }
            text.push(c);
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// A pattern that gives no subject.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// `{` without `}`.
    #[error("`{0}` has a `{{` without its `}}`")]
    Open(String),
    /// The filled-in text is not a subject.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// No value.
    #[error("the pattern names `{{{0}}}`, and there is no such value")]
    Unknown(String),
}

impl Explain for PatternError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Open(_) => "pattern.syntax",
            Self::Subject(error) => error.code(),
            Self::Unknown(_) => "pattern.unknown",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Subject(error) => error.hint(),
            Self::Unknown(name) => Some(format!("give it with --set {name}=VALUE")),
            Self::Open(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_inside_their_attribute() {
        let subject = fill("CN={name},O=Pumps", &|key| {
            (key == "name").then_some("a,O=Evil\\/+=x")
        })
        .unwrap();
        assert_eq!(subject.first("CN"), Some("a,O=Evil\\/+=x"));
        assert_eq!(subject.attributes().len(), 2);
        assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
    }

    #[test]
    fn slips_are_named() {
        let none = |_: &str| None;
        assert_eq!(fill("CN={x}", &none).unwrap_err().code(), "pattern.unknown");
        assert_eq!(fill("CN={x", &none).unwrap_err().code(), "pattern.syntax");
        assert_eq!(placeholders("CN={a},O={b}").unwrap(), ["a", "b"]);
    }
}
