//! Certificate profiles: what a kind of certificate says, in TOML, read strictly.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::core::draft::extras::{self, Extension, Extras};
use crate::core::draft::{self, Purpose};
use crate::core::key::KeyAlgorithm;
use crate::core::lifetime::OnCaExpiry;
use crate::core::near::distance;
use crate::core::pattern;
use crate::core::time::{Span, TimeError};
use crate::explain::{Explain, Kind};

/// The profiles we ship: name and text, from `profiles/`.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("ci", include_str!("../../../profiles/ci.toml")),
    ("device", include_str!("../../../profiles/device.toml")),
    (
        "intermediate-ca",
        include_str!("../../../profiles/intermediate-ca.toml"),
    ),
    ("root-ca", include_str!("../../../profiles/root-ca.toml")),
    ("server", include_str!("../../../profiles/server.toml")),
];

/// What a profile says. What it leaves out is as without a profile.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Profile {
    /// One line about it.
    pub description: Option<String>,
    /// Subject with placeholders.
    pub subject: Option<String>,
    /// subjectAltName entries with placeholders.
    pub alternative_names: Vec<String>,
    /// The new key's algorithm.
    pub key: Option<KeyAlgorithm>,
    /// Lifetime from now.
    pub validity: Option<Span>,
    /// How far before now the window begins.
    pub backdate: Option<Span>,
    /// Decides key usage and extended key usage.
    pub purpose: Option<Purpose>,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
    /// What to do when the CA ends first.
    pub on_ca_expiry: Option<OnCaExpiry>,
}

/// The TOML, as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    description: Option<String>,
    subject: Option<Spanned<String>>,
    #[serde(default)]
    alternative_names: Vec<Spanned<String>>,
    key: Option<Key>,
    validity: Option<Spanned<String>>,
    backdate: Option<Spanned<String>>,
    purpose: Option<Use>,
    path_len: Option<Spanned<u8>>,
    #[serde(default)]
    key_usage: Vec<Spanned<String>>,
    #[serde(default)]
    extended_key_usage: Vec<Spanned<String>>,
    #[serde(default)]
    extensions: Vec<More>,
    on_ca_expiry: Option<Expiry>,
}

/// One of `[[extensions]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct More {
    oid: Spanned<String>,
    #[serde(default)]
    critical: bool,
    der: Option<Spanned<String>>,
    text: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    P256,
    P384,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Use {
    Client,
    Server,
    Both,
    RootCa,
    IntermediateCa,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expiry {
    Fail,
    Clamp,
}

impl Profile {
    /// The text of a profile that we ship.
    pub fn built_in(name: &str) -> Option<&'static str> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| *text)
    }

    /// Reads `text`; `file` is its name in messages.
    ///
    /// # Errors
    /// `profile.invalid` with line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, ProfileError> {
        let source = Source { text, file };
        let raw: Raw = toml::from_str(text)
            .map_err(|error| source.wrong(error.span(), clearer(error.message())))?;
        source.check_names(&raw)?;
        source.check_ca(&raw)?;
        let extras = source.extras(&raw)?;
        Ok(Self {
            validity: source.span(raw.validity.as_ref(), false)?,
            backdate: source.span(raw.backdate.as_ref(), true)?,
            description: raw.description,
            subject: raw.subject.map(Spanned::into_inner),
            alternative_names: raw
                .alternative_names
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            key: raw.key.map(Key::algorithm),
            extras,
            purpose: source.purpose(raw.purpose, raw.path_len.as_ref())?,
            on_ca_expiry: raw.on_ca_expiry.map(Expiry::rule),
        })
    }
}

/// The text and its name, for messages.
struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl Source<'_> {
    fn wrong(&self, span: Option<Range<usize>>, why: String) -> ProfileError {
        let (line, column) = place(self.text, span.map_or(0, |span| span.start));
        ProfileError {
            file: self.file.to_owned(),
            line,
            column,
            why,
        }
    }

    fn refused(&self, at: &Spanned<String>, error: &dyn std::fmt::Display) -> ProfileError {
        self.wrong(Some(at.span()), error.to_string())
    }

    /// A CA's certificate says nothing that is a device's.
    fn check_ca(&self, raw: &Raw) -> Result<(), ProfileError> {
        if !matches!(raw.purpose, Some(Use::RootCa | Use::IntermediateCa)) {
            return Ok(());
        }
        let names = raw.alternative_names.iter();
        let usages = raw.key_usage.iter().chain(&raw.extended_key_usage);
        let more = raw.extensions.iter().map(|one| &one.oid);
        match names.chain(usages).chain(more).next() {
            None => Ok(()),
            Some(first) => Err(self.refused(
                first,
                &"a CA has no alternative names, usages or extensions of its own",
            )),
        }
    }

    fn extras(&self, raw: &Raw) -> Result<Extras, ProfileError> {
        let bit = |at: &Spanned<String>| {
            let known = extras::key_usages().join(", ");
            extras::key_usage(at.as_ref())
                .ok_or_else(|| self.refused(at, &format!("a key usage is one of {known}")))
        };
        let usage = |at: &Spanned<String>| {
            extras::usage(at.as_ref()).ok_or_else(|| {
                self.refused(
                    at,
                    &"an extended key usage is clientAuth, serverAuth, … or an OID",
                )
            })
        };
        let extended_key_usage: Vec<String> = raw
            .extended_key_usage
            .iter()
            .map(usage)
            .collect::<Result<_, _>>()?;
        if let (Some(_), Some(at)) = (raw.purpose, raw.extended_key_usage.first()) {
            let message = "extended_key_usage takes the place of purpose; leave one of them out";
            return Err(self.refused(at, &message));
        }
        Ok(Extras {
            key_usage: raw.key_usage.iter().map(bit).collect::<Result<_, _>>()?,
            extended_key_usage,
            extensions: self.extensions(&raw.extensions)?,
        })
    }

    fn extensions(&self, all: &[More]) -> Result<Vec<Extension>, ProfileError> {
        let mut extensions: Vec<Extension> = Vec::with_capacity(all.len());
        for one in all {
            let oid = one.oid.as_ref();
            extras::check_oid(oid).map_err(|why| self.refused(&one.oid, &why))?;
            if extensions.iter().any(|earlier| earlier.oid == *oid) {
                return Err(self.refused(&one.oid, &"this extension is here twice"));
            }
            let der = match (&one.der, &one.text) {
                (Some(at), None) => {
                    extras::element(at.as_ref()).map_err(|why| self.refused(at, &why))?
                }
                (None, Some(at)) if at.as_ref().contains(['{', '}']) => {
                    let message =
                        "placeholders are filled in only in subject and alternative_names";
                    return Err(self.refused(at, &message));
                }
                (None, Some(at)) => extras::text(at.as_ref()),
                _ => return Err(self.refused(&one.oid, &"give either der or text")),
            };
            extensions.push(Extension {
                oid: oid.clone(),
                critical: one.critical,
                der,
            });
        }
        Ok(extensions)
    }

    /// A path length belongs to a CA.
    fn purpose(
        &self,
        purpose: Option<Use>,
        path_len: Option<&Spanned<u8>>,
    ) -> Result<Option<Purpose>, ProfileError> {
        let length = path_len.map(|length| *length.as_ref());
        match (purpose, path_len) {
            (None | Some(Use::Client | Use::Server | Use::Both), Some(length)) => Err(self.wrong(
                Some(length.span()),
                "path_len is for the purposes root-ca and intermediate-ca".into(),
            )),
            _ => Ok(purpose.map(|purpose| purpose.with(length))),
        }
    }

    /// Patterns are tried with any value, so that a slip shows before a device is issued.
    fn check_names(&self, raw: &Raw) -> Result<(), ProfileError> {
        if let Some(subject) = &raw.subject {
            pattern::fill(subject.as_ref(), &|_| Some("x"))
                .map_err(|error| self.refused(subject, &error))?;
        }
        for name in &raw.alternative_names {
            let asked = pattern::placeholders(name.as_ref());
            let asked = asked.map_err(|error| self.refused(name, &error))?;
            if asked.is_empty() {
                draft::check_alternative_name(name.as_ref())
                    .map_err(|error| self.refused(name, &error))?;
            }
        }
        Ok(())
    }

    fn span(
        &self,
        text: Option<&Spanned<String>>,
        zero: bool,
    ) -> Result<Option<Span>, ProfileError> {
        let Some(at) = text else { return Ok(None) };
        let span: Span = at
            .as_ref()
            .parse()
            .map_err(|error: TimeError| self.refused(at, &error))?;
        if span.as_seconds() == 0 && !zero {
            return Err(self.refused(at, &"a certificate cannot be valid for no time"));
        }
        Ok(Some(span))
    }
}

impl Key {
    fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::P256 => KeyAlgorithm::EcP256,
            Self::P384 => KeyAlgorithm::EcP384,
        }
    }
}

impl Use {
    fn with(self, path_len: Option<u8>) -> Purpose {
        match self {
            Self::RootCa => Purpose::Root { path_len },
            Self::IntermediateCa => Purpose::Intermediate { path_len },
            Self::Client => Purpose::Device,
            Self::Server => Purpose::Server,
            Self::Both => Purpose::ClientAndServer,
        }
    }
}

impl Expiry {
    fn rule(self) -> OnCaExpiry {
        match self {
            Self::Fail => OnCaExpiry::Fail,
            Self::Clamp => OnCaExpiry::Clamp,
        }
    }
}

/// What serde says of an unknown key or value, shorter, with the nearest that is known.
fn clearer(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    let what = match message.split_once(" `") {
        Some(("unknown field", _)) => "there is no key",
        Some(("unknown variant", _)) => "there is no value",
        _ => return message.replace('\n', ", "),
    };
    let wrong = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
    let far = |word: &str| {
        let within = wrong.len() > 2 && word.contains(wrong);
        if within { 1 } else { distance(wrong, word) }
    };
    let near = known.iter().min_by_key(|word| far(word));
    let bound = (wrong.chars().count() / 2).clamp(1, 4);
    match near.filter(|word| far(word) <= bound) {
        Some(word) => format!("{what} `{wrong}`; did you mean `{word}`?"),
        None => format!("{what} `{wrong}` here; there are {}", known.join(", ")),
    }
}

/// Line and column of a byte, both from 1; the column counts characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}, line {line}, column {column}: {why}")]
pub struct ProfileError {
    file: String,
    line: usize,
    column: usize,
    why: String,
}

impl Explain for ProfileError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "profile.invalid"
    }
    fn hint(&self) -> Option<String> {
        Some("`nameplate profile show device` prints a profile to start from".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_ship_reads() {
        for (name, text) in BUILT_IN {
            let profile = Profile::parse(text, name).unwrap();
            assert!(profile.description.is_some() && profile.purpose.is_some());
        }
    }

    #[test]
    fn slips_are_met_with_what_was_meant() {
        for (text, part) in [
            (
                "subjekt = 'CN=a'",
                "no key `subjekt`; did you mean `subject`?",
            ),
            ("alternativ_names = []", "did you mean `alternative_names`?"),
            ("key = 'p265'", "no value `p265`; did you mean `p256`?"),
            ("purpose = 'root'", "did you mean `root-ca`?"),
            ("key = 'rsa'", "no value `rsa` here; there are p256, p384"),
            ("x = 1", "no key `x` here; there are description, subject,"),
            (
                "[[extensions]]\noid = '1.2'\nde = ''",
                "did you mean `der`?",
            ),
        ] {
            let error = Profile::parse(text, "x.toml").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_ca_has_a_path_length() {
        let purpose = |text| Profile::parse(text, "x.toml").unwrap().purpose;
        let path_len = Some(2);
        assert_eq!(
            purpose("purpose = 'intermediate-ca'\npath_len = 2"),
            Some(Purpose::Intermediate { path_len })
        );
        let path_len = None;
        assert_eq!(
            purpose("purpose = 'root-ca'"),
            Some(Purpose::Root { path_len })
        );
    }

    #[test]
    fn slips_are_placed() {
        for (text, at) in [
            ("subjekt = 'CN=a'", (1, 1)),
            ("# ü\nkey = 'rsa'", (2, 7)),
            ("key = 'p256'\nvalidity = '90'", (2, 12)),
            ("validity = '0s'", (1, 12)),
            ("subject = 'CN={name'", (1, 11)),
            ("subject = 'pump'", (1, 11)),
            ("alternative_names = ['DNS:{name}', 'IP:pump']", (1, 36)),
            ("purpose = 'ca'", (1, 11)),
            ("purpose = 'both'\npath_len = 0", (2, 12)),
            ("purpose = 'root-ca'\npath_len = 256", (2, 12)),
            ("path_len = 0", (1, 12)),
            (
                "purpose = 'root-ca'\nalternative_names = ['DNS:a']",
                (2, 22),
            ),
            ("on_ca_expiry = true", (1, 16)),
            ("key = 'p256'\nkey = 'p256'", (2, 1)),
            ("key_usage = ['keyCertSign']", (1, 14)),
            ("extended_key_usage = ['client']", (1, 23)),
            (
                "purpose = 'client'\nextended_key_usage = ['clientAuth']",
                (2, 23),
            ),
            ("[[extensions]]\noid = '2.5.29.17'\nder = '0500'", (2, 7)),
            ("[[extensions]]\noid = '1.2.3'", (2, 7)),
            ("[[extensions]]\noid = '1.2.3'\nder = '05'", (3, 7)),
            ("[[extensions]]\noid = '1.2.3'\ntext = '{name}'", (3, 8)),
            (
                "[[extensions]]\noid = '1.2.3'\ntext = 'a'\nvalue = 1",
                (4, 1),
            ),
            (
                "[[extensions]]\noid='1.2'\ntext='a'\n[[extensions]]\noid='1.2'\ntext='a'",
                (5, 5),
            ),
            (
                "purpose = 'root-ca'\nkey_usage = ['digitalSignature']",
                (2, 14),
            ),
        ] {
            let error = Profile::parse(text, "x.toml").unwrap_err();
            assert_eq!((error.line, error.column), at, "{text}: {error}");
        }
    }
}
