//! Distinguished names (RFC 5280 §4.1.2.4), as an ordered list of attributes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use x509_parser::x509::X509Name;

use crate::explain::{Explain, Kind};

/// The attribute types we can name: short name, dotted OID, upper bound in characters (RFC 5280
/// appendix A.1), and the name that JITP templates give it, if they have one.
pub const ATTRIBUTES: &[(&str, &str, usize, Option<&str>)] = &[
    ("C", "2.5.4.6", 2, Some("Country")),
    ("ST", "2.5.4.8", 128, Some("StateName")),
    ("L", "2.5.4.7", 128, None),
    ("O", "2.5.4.10", 64, Some("Organization")),
    ("OU", "2.5.4.11", 64, Some("OrganizationalUnit")),
    ("CN", "2.5.4.3", 64, Some("CommonName")),
    ("serialNumber", "2.5.4.5", 64, Some("SerialNumber")),
    (
        "dnQualifier",
        "2.5.4.46",
        64,
        Some("DistinguishedNameQualifier"),
    ),
    ("title", "2.5.4.12", 64, None),
    ("SN", "2.5.4.4", 64, None),
    ("GN", "2.5.4.42", 64, None),
    ("initials", "2.5.4.43", 64, None),
    ("pseudonym", "2.5.4.65", 128, None),
    ("generationQualifier", "2.5.4.44", 64, None),
    ("DC", "0.9.2342.19200300.100.1.25", 63, None),
    ("UID", "0.9.2342.19200300.100.1.1", 256, None),
    ("emailAddress", "1.2.840.113549.1.9.1", 255, None),
];

/// One attribute: its type as a dotted OID, and its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribute {
    /// Dotted OID.
    pub oid: Cow<'static, str>,
    /// The value as text; a value that is not text is shown as `#` and hexadecimal.
    pub value: String,
}

/// A distinguished name, in the order it is encoded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Subject {
    attributes: Vec<Attribute>,
}

impl Subject {
    /// From parts, in order.
    pub fn new(attributes: Vec<Attribute>) -> Self {
        Self { attributes }
    }

    /// Only a common name.
    pub fn common_name(cn: &str) -> Self {
        Self::new(vec![Attribute {
            oid: "2.5.4.3".into(),
            value: cn.into(),
        }])
    }

    /// From a parsed certificate's name.
    pub fn from_x509(name: &X509Name<'_>) -> Self {
        let attributes = name
            .iter_attributes()
            .map(|attribute| Attribute {
                oid: attribute.attr_type().to_id_string().into(),
                value: attribute.as_str().map_or_else(
                    |_| format!("#{}", crate::core::ids::hex(attribute.as_slice())),
                    str::to_owned,
                ),
            })
            .collect();
        Self { attributes }
    }

    /// The attributes, in order.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The first value of the attribute with this short name (`CN`, `serialNumber`, …).
    pub fn first(&self, short: &str) -> Option<&str> {
        let oid = ATTRIBUTES.iter().find(|(name, ..)| *name == short)?.1;
        self.attributes
            .iter()
            .find(|a| a.oid == oid)
            .map(|a| &a.value[..])
    }

    /// The value that JITP reads for `AWS::IoT::Certificate::<parameter>`, except `Id`.
    pub fn jitp(&self, parameter: &str) -> Option<&str> {
        let oid = ATTRIBUTES
            .iter()
            .find(|(.., jitp)| *jitp == Some(parameter))?
            .1;
        self.attributes
            .iter()
            .find(|a| a.oid == oid)
            .map(|a| &a.value[..])
    }

    /// This name with `attribute` set: replaced where it stands, or put last.
    #[must_use]
    pub fn with(mut self, short: &str, value: &str) -> Self {
        let oid = oid_of(short).unwrap_or_else(|| short.to_owned().into());
        match self.attributes.iter_mut().find(|a| a.oid == oid) {
            Some(attribute) => value.clone_into(&mut attribute.value),
            None => self.attributes.push(Attribute {
                oid,
                value: value.to_owned(),
            }),
        }
        self
    }
}

fn oid_of(name: &str) -> Option<Cow<'static, str>> {
    let known = ATTRIBUTES
        .iter()
        .find(|(short, ..)| short.eq_ignore_ascii_case(name));
    if let Some((_, oid, ..)) = known {
        return Some(Cow::Borrowed(oid));
    }
    let dotted = name.contains('.') && name.split('.').all(|arc| arc.parse::<u64>().is_ok());
    dotted.then(|| name.to_owned().into())
}

impl FromStr for Subject {
    type Err = SubjectError;

    /// `CN=pump-1,O=Example,C=DE`, with `\,` for a comma inside a value, or OpenSSL's
    /// `/C=DE/O=Example/CN=pump-1`. Kept in the order written.
    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let (body, separator) = match text.strip_prefix('/') {
            Some(rest) => (rest, '/'),
            None => (text, ','),
        };
        let mut attributes = Vec::new();
        for part in split_unescaped(body, separator) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| SubjectError::Syntax(part.to_owned()))?;
            let (name, value) = (name.trim(), unescape(trimmed(value)));
            let oid = oid_of(name).ok_or_else(|| SubjectError::Attribute(name.to_owned()))?;
            check_value(name, &oid, &value)?;
            attributes.push(Attribute { oid, value });
        }
        if attributes.is_empty() {
            Err(SubjectError::Empty)
        } else {
            Ok(Self { attributes })
        }
    }
}

/// Whether a value fits its attribute's bound (RFC 5280 appendix A.1) and holds no control
/// character.
///
/// # Errors
/// `subject.value`.
pub fn check_value(name: &str, oid: &str, value: &str) -> Result<(), SubjectError> {
    let max = ATTRIBUTES
        .iter()
        .find(|(_, known, ..)| *known == oid)
        .map_or(256, |(.., m, _)| *m);
    let length = value.chars().count();
    let printable = !value.chars().any(char::is_control);
    if (1..=max).contains(&length) && printable {
        return Ok(());
    }
    Err(SubjectError::Value {
        name: name.to_owned(),
        length,
        max,
    })
}

/// What stands between separators that are not escaped, unless it is blank.
fn split_unescaped(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    let parts = text.split(move |c: char| {
        let ends = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    parts.filter(|part| !part.trim().is_empty())
}

/// Without the spaces around it, except one at the end that is escaped.
fn trimmed(value: &str) -> &str {
    // Only these: others, such as U+2000, are part of the value, as X.509 has it.
    let space = |c: char| c.is_ascii_whitespace();
    let value = value.trim_start_matches(space);
    let end = value.trim_end_matches(space);
    let slashes = end.bytes().rev().take_while(|byte| *byte == b'\\').count();
    let kept = value[end.len()..]
        .chars()
        .next()
        .filter(|_| slashes % 2 == 1);
    &value[..end.len() + kept.map_or(0, char::len_utf8)]
}

/// `\` before a character, or before two hexadecimal digits that stand for a byte (RFC 4514 §2.4).
fn unescape(value: &str) -> String {
    if !value.contains('\\') {
        return value.to_owned();
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('\\') {
        out.extend_from_slice(before.as_bytes());
        let pair = after.get(..2).and_then(crate::core::ids::unhex);
        let length = match (&pair, after.chars().next()) {
            (Some(byte), _) => {
                out.extend_from_slice(byte);
                2
            }
            (None, Some(c)) => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                c.len_utf8()
            }
            (None, None) => {
                out.push(b'\\');
                0
            }
        };
        rest = &after[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

impl fmt::Display for Subject {
    /// `CN=pump-1, O=Example`, in encoded order, with `,`, `+`, `\`, controls and the spaces at both
    /// ends of a value escaped (RFC 4514 §2.4).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Attribute { oid, value }) in self.attributes.iter().enumerate() {
            let name = ATTRIBUTES.iter().find(|(_, known, ..)| known == oid);
            let separator = if n == 0 { "" } else { ", " };
            write!(
                f,
                "{separator}{}=",
                name.map_or(&oid[..], |(short, ..)| short)
            )?;
            let last = value.len().saturating_sub(1);
            for (at, c) in value.char_indices() {
                match c {
                    ' ' if at == 0 || at == last => f.write_str("\\20")?,
                    ',' | '+' | '\\' => write!(f, "\\{c}")?,
                    c if c.is_control() => {
                        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                            write!(f, "\\{byte:02x}")?;
                        }
                    }
                    c => write!(f, "{c}")?,
                }
            }
        }
        Ok(())
    }
}

impl serde::Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is not a distinguished name.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// A type we cannot name.
    #[error("`{0}` is not an attribute type; use C, ST, L, O, OU, CN, serialNumber, … or an OID")]
    Attribute(String),
    /// No attribute at all.
    #[error("the subject is empty")]
    Empty,
    /// Not `TYPE=VALUE`.
    #[error("`{0}` in the subject is not TYPE=VALUE")]
    Syntax(String),
    /// Empty, too long, or with a control character.
    #[error("the {name} value has {length} characters; 1 to {max} printable ones are allowed")]
    Value {
        /// The attribute as written.
        name: String,
        /// Characters given.
        length: usize,
        /// Characters allowed.
        max: usize,
    },
}

impl Explain for SubjectError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Attribute(_) => "subject.attribute",
            Self::Empty => "subject.empty",
            Self::Syntax(_) => "subject.syntax",
            Self::Value { .. } => "subject.value",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_controls_survive_being_printed() {
        for value in [
            " a",
            "a ",
            "  ",
            " ",
            "a b",
            " , ",
            "é ",
            "\u{2000}=\u{2000}",
        ] {
            let subject = Subject::new(vec![Attribute {
                oid: "2.5.4.10".into(),
                value: value.into(),
            }]);
            let text = subject.to_string();
            assert_eq!(text.parse::<Subject>().unwrap(), subject, "{text:?}");
        }
    }

    #[test]
    fn both_ways_of_writing_a_name_are_read() {
        let comma: Subject = r"CN=pump-1, O=Pumps\, Inc,C=DE".parse().unwrap();
        let slash: Subject = "/CN=pump-1/O=Pumps, Inc/C=DE".parse().unwrap();
        assert_eq!(comma, slash);
        assert_eq!(comma.to_string(), r"CN=pump-1, O=Pumps\, Inc, C=DE");
        assert_eq!(comma.first("O"), Some("Pumps, Inc"));
        assert_eq!(comma.jitp("CommonName"), Some("pump-1"));
        assert_eq!(comma.jitp("SerialNumber"), None);
    }

    #[test]
    fn wrong_names_are_refused_with_their_part() {
        for bad in ["", "pump", "XX=1", "CN=", "C=DEU"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }
}
