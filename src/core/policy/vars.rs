//! What is known about one connection, under the names that policies use for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::catalog::{
    ALTERNATIVE_NAMES, CERTIFICATE_ATTRIBUTES, Family, Suffix, find, split_suffix, successor,
};
use crate::core::cert::Certificate;
use crate::core::subject::Subject;

/// The most values of one repeated certificate attribute that AWS IoT keeps.
const MAX_VALUES: usize = 5;
/// The longest value, in characters, that is put in a variable's place.
const MAX_LENGTH: usize = 1024;
/// A client id is put in place whatever it holds; every other value only without these.
const NEVER_SUBSTITUTED: [char; 5] = ['*', '$', '+', '?', '#'];

/// The thing that a connection stands for.
#[derive(Clone, Copy, Debug)]
pub struct ThingFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, if it has one.
    pub type_name: Option<&'a str>,
    /// Its attributes.
    pub attributes: &'a BTreeMap<String, String>,
}

/// Which of a certificate's things a connection stands for (developer guide, "Thing policy
/// variables"): the one it is attached to exclusively, whatever the client id; else the one whose
/// name is the client id. Each thing is its name and whether it is attached exclusively.
pub fn stands_for<'a>(
    client_id: &str,
    things: impl Iterator<Item = (&'a str, bool)> + Clone,
) -> Option<usize> {
    let mut exclusive = things.clone();
    let found = exclusive.position(|(_, exclusive)| exclusive);
    found.or_else(|| things.clone().position(|(name, _)| name == client_id))
}

/// Condition keys and policy variables with their values. Keys compare without case, except the
/// name in `Attributes[…]`.
#[derive(Clone, Debug)]
pub struct Facts {
    values: BTreeMap<String, Vec<String>>,
    /// The certificate variables that have a value, by their names as documented.
    available: Vec<String>,
    /// There is a certificate.
    certificate: bool,
    /// Asked over HTTPS, where there is no client id and no thing.
    https: bool,
}

/// Why a variable has nothing to put in its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Missing {
    /// The certificate has no such attribute.
    Attribute,
    /// Known for `iot:Connect` alone.
    ConnectOnly,
    /// Asked over HTTPS, where there is no connection.
    Https,
    /// The certificate has only so many values of it.
    Index(usize),
    /// It stands for several values.
    List,
    /// No certificate is known.
    NoCertificate,
    /// The connection does not bring it.
    NotGiven,
    /// The certificate is attached to no thing that this connection could stand for.
    NotAttached,
    /// An old name; this is the new one.
    Stale(String),
    /// The value holds a character that is never put in place.
    Special(char),
    /// The thing has no such attribute or no type.
    Thing,
    /// The value has this many characters, which is more than AWS IoT puts in place.
    TooLong(usize),
    /// No such variable is documented.
    Unknown,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute | Self::Index(0) => {
                f.write_str("the certificate has no such attribute")
            }
            Self::ConnectOnly => f.write_str("it is known for iot:Connect only"),
            Self::Https => f.write_str("it is asked over HTTPS, where there is no connection"),
            Self::Index(count) => write!(f, "the certificate has {count} of it, counted from .0"),
            Self::List => f.write_str("it is a list, and no single value"),
            Self::NoCertificate => f.write_str("no certificate is known"),
            Self::NotAttached => f.write_str(
                "the certificate is attached to no thing exclusively, nor to one named as the \
                 client id",
            ),
            Self::NotGiven => f.write_str("the request does not bring it"),
            Self::Special(c) => write!(f, "its value holds `{c}`"),
            Self::Stale(now) => write!(f, "it is an old name; today it is ${{{now}}}"),
            Self::Thing => f.write_str("the thing has none"),
            Self::TooLong(length) => write!(
                f,
                "its value has {length} characters, more than {MAX_LENGTH}"
            ),
            Self::Unknown => f.write_str("there is no such variable"),
        }
    }
}

impl Facts {
    /// A connection with this client id, and no thing attached. An empty client id is none.
    pub fn new(client_id: &str) -> Self {
        let mut facts = Self {
            values: BTreeMap::new(),
            available: Vec::new(),
            certificate: false,
            https: false,
        };
        if !client_id.is_empty() {
            facts = facts.with("iot:ClientId", vec![client_id.to_owned()]);
        }
        facts.with("iot:Connection.Thing.IsAttached", vec!["false".to_owned()])
    }

    /// Sets a key of the caller's own.
    #[must_use]
    pub fn with(mut self, key: &str, values: Vec<String>) -> Self {
        self.values.insert(normal(key), values);
        self
    }

    /// The thing that the certificate is attached to.
    #[must_use]
    pub fn thing(self, thing: ThingFacts<'_>) -> Self {
        let one = |value: &str| vec![value.to_owned()];
        let mut facts = self
            .with("iot:Connection.Thing.IsAttached", one("true"))
            .with("iot:Connection.Thing.ThingName", one(thing.name));
        if let Some(type_name) = thing.type_name {
            facts = facts.with("iot:Connection.Thing.ThingTypeName", one(type_name));
        }
        thing.attributes.iter().fold(facts, |facts, (name, value)| {
            let key = format!("iot:Connection.Thing.Attributes[{name}]");
            facts.with(&key, one(value))
        })
    }

    /// The certificate that the connection was made with.
    #[must_use]
    pub fn certificate(mut self, certificate: &Certificate) -> Self {
        self.certificate = true;
        self.name("Subject", &certificate.subject);
        self.name("Issuer", &certificate.issuer);
        self.alternative_names(certificate);
        let serial = vec![decimal(&certificate.serial)];
        self.available.push("iot:Certificate.SerialNumber".into());
        let available = self.available.clone();
        self.with("iot:Certificate.SerialNumber", serial)
            .with("iot:Certificate.AvailableKeys", available)
    }

    /// Where the connection comes from.
    #[must_use]
    pub fn source_ip(self, ip: IpAddr) -> Self {
        self.with("aws:SourceIp", vec![ip.to_string()])
    }

    /// The features a CONNECT asks for: `PersistentConnect`, `LastWill`.
    #[must_use]
    pub fn connect_attributes(self, attributes: &[&str]) -> Self {
        let values = attributes.iter().map(|a| (*a).to_owned()).collect();
        self.with("iot:ConnectAttributes", values)
    }

    /// The same device asking over HTTPS, where there is neither client id nor thing.
    #[must_use]
    pub fn over_https(mut self) -> Self {
        self.https = true;
        self.values
            .retain(|key, _| !(key == "iot:clientid" || key.starts_with("iot:connect")));
        self
    }

    /// Every value of a condition key; empty when it is absent.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(&normal(key)).map_or(&[], |all| &all[..])
    }

    /// The text that takes a variable's place; `None` when AWS IoT would leave it unreplaced.
    pub fn substitute(&self, key: &str) -> Option<&str> {
        self.look_up(key).ok()
    }

    /// The text that takes a variable's place.
    ///
    /// # Errors
    /// Why AWS IoT would leave it unreplaced.
    pub fn look_up(&self, key: &str) -> Result<&str, Missing> {
        let values = self.values(key);
        let Some(value) = values.first() else {
            return Err(self.why_absent(key));
        };
        if find(key).is_some_and(|known| known.many) {
            return Err(Missing::List);
        }
        if key.eq_ignore_ascii_case("iot:ClientId") {
            return Ok(value);
        }
        if let Some(special) = value.chars().find(|c| NEVER_SUBSTITUTED.contains(c)) {
            return Err(Missing::Special(special));
        }
        // Bytes bound characters from above, so that short values need not be counted.
        if value.len() > MAX_LENGTH && value.chars().count() > MAX_LENGTH {
            return Err(Missing::TooLong(value.chars().count()));
        }
        Ok(value)
    }

    fn why_absent(&self, key: &str) -> Missing {
        if let Some(now) = successor(key) {
            return Missing::Stale(now);
        }
        let Some(known) = find(key) else {
            return Missing::Unknown;
        };
        match known.family {
            Family::Certificate if !self.certificate => Missing::NoCertificate,
            Family::Certificate => match split_suffix(&key.to_ascii_lowercase()) {
                (base, Suffix::Index(_)) => {
                    Missing::Index(self.values(&format!("{base}.list")).len())
                }
                _ => Missing::Attribute,
            },
            Family::Thing | Family::Connection if self.https => Missing::Https,
            Family::Thing if self.values("iot:Connection.Thing.ThingName").is_empty() => {
                Missing::NotAttached
            }
            Family::Thing => Missing::Thing,
            Family::Connect => Missing::ConnectOnly,
            Family::Connection | Family::Network => Missing::NotGiven,
        }
    }

    fn name(&mut self, side: &str, name: &Subject) {
        for (policy_name, oid) in CERTIFICATE_ATTRIBUTES {
            let values = name.attributes().iter().filter(|a| a.oid == oid);
            let values = values.map(|a| escaped(&a.value)).collect();
            self.many(&format!("iot:Certificate.{side}.{policy_name}"), values);
        }
    }

    fn alternative_names(&mut self, certificate: &Certificate) {
        let parsed = x509_parser::certificate::X509Certificate::from_der(certificate.der());
        let Ok((_, x509)) = parsed else { return };
        for extension in x509.extensions() {
            let (side, names) = match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => ("Subject", &names.general_names),
                ParsedExtension::IssuerAlternativeName(names) => ("Issuer", &names.general_names),
                _ => continue,
            };
            for kind in ALTERNATIVE_NAMES {
                let values = names.iter().filter_map(alternative_name);
                let values = values.filter(|(of, _)| *of == kind).map(|(_, text)| text);
                let key = format!("iot:Certificate.{side}.AlternativeName.{kind}");
                self.many(&key, values.collect());
            }
        }
    }

    /// One key for the first value, one for each by index, one for all.
    fn many(&mut self, key: &str, mut values: Vec<String>) {
        values.truncate(MAX_VALUES);
        let Some(first) = values.first() else { return };
        self.available.push(key.to_owned());
        self.values.insert(normal(key), vec![first.clone()]);
        for (n, value) in values.iter().enumerate() {
            let key = normal(&format!("{key}.{n}"));
            self.values.insert(key, vec![value.clone()]);
        }
        self.values.insert(normal(&format!("{key}.List")), values);
    }
}

/// The policy's name for a kind of alternative name, and the name as text.
fn alternative_name(name: &GeneralName<'_>) -> Option<(&'static str, String)> {
    match name {
        GeneralName::RFC822Name(text) => Some(("RFC822Name", escaped(text))),
        GeneralName::DNSName(text) => Some(("DNSName", escaped(text))),
        GeneralName::URI(text) => Some(("UniformResourceIdentifier", escaped(text))),
        // How AWS IoT writes the separators is not documented; values are escaped as everywhere.
        GeneralName::DirectoryName(name) => {
            Some(("DirectoryName", Subject::from_x509(name).to_string()))
        }
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or(v6).ok()?;
            Some(("IPAddress", address.to_string()))
        }
        _ => None,
    }
}

/// A key in lower case, but for what stands in brackets.
fn normal(key: &str) -> String {
    match key.split_once('[') {
        Some((before, after)) => format!("{}[{after}", before.to_ascii_lowercase()),
        None => key.to_ascii_lowercase(),
    }
}

/// A certificate's value as policies must write it: `, " \ + = < > ;` behind a backslash.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, ',' | '"' | '\\' | '+' | '=' | '<' | '>' | ';') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A big-endian number in decimal, as policies see certificate serial numbers.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0_u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = u8::try_from(value % 10).unwrap_or(0);
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap_or(0));
            carry /= 10;
        }
    }
    digits.iter().rev().map(|d| char::from(b'0' + d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_decimal() {
        let serial = [0x92, 0x12, 0x85, 0xcb, 0xb7, 0xa5, 0xe0, 0x86];
        assert_eq!(decimal(&serial), "10525622389124227206");
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[1, 0]), "256");
    }

    #[test]
    fn only_plain_values_take_a_variables_place() {
        let value = |v: &str| vec![v.to_owned()];
        let long = "x".repeat(1025);
        let facts = Facts::new("a+b")
            .with("iot:Certificate.Subject.CommonName", value("a+b"))
            .with("iot:Certificate.Subject.Title", value(&long))
            .with("iot:Certificate.Subject.Country", value("DE"));
        assert_eq!(facts.substitute("iot:ClientId"), Some("a+b"));
        for (key, expected) in [
            ("iot:Certificate.Subject.CommonName", None),
            ("iot:Certificate.Subject.Title", None),
            ("iot:Certificate.Subject.Country", Some("DE")),
            ("iot:certificate.subject.country", Some("DE")),
            ("iot:Certificate.Subject.State", None),
            ("iot:ConnectAttributes", None),
        ] {
            assert_eq!(facts.substitute(key), expected, "{key}");
        }
    }

    #[test]
    fn a_thing_brings_its_variables() {
        let attributes = BTreeMap::from([("Site".to_owned(), "north".to_owned())]);
        let bare = Facts::new("pump-1");
        assert_eq!(
            bare.substitute("iot:Connection.Thing.IsAttached"),
            Some("false")
        );
        assert_eq!(bare.substitute("iot:Connection.Thing.ThingName"), None);
        let facts = bare.thing(ThingFacts {
            name: "pump-1",
            type_name: None,
            attributes: &attributes,
        });
        for (key, expected) in [
            ("iot:Connection.Thing.ThingName", Some("pump-1")),
            ("iot:Connection.Thing.IsAttached", Some("true")),
            ("iot:Connection.Thing.ThingTypeName", None),
            ("iot:Connection.Thing.Attributes[Site]", Some("north")),
            ("iot:Connection.Thing.Attributes[site]", None),
            ("iot:Thing.ThingName", None),
        ] {
            assert_eq!(facts.substitute(key), expected, "{key}");
        }
    }

    #[test]
    fn repeated_values_have_an_index_and_a_list() {
        let mut facts = Facts::new("x");
        let values = (0..7).map(|n| format!("v{n}")).collect();
        facts.many("iot:Certificate.Subject.OrganizationalUnit", values);
        let at = |suffix: &str| {
            let key = format!("iot:Certificate.Subject.OrganizationalUnit{suffix}");
            facts.values(&key).to_vec()
        };
        assert_eq!(at(""), ["v0"]);
        assert_eq!(at(".1"), ["v1"]);
        assert_eq!(at(".List").len(), 5);
        assert!(at(".5").is_empty());
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escaped("O=Amazon.com Inc."), r"O\=Amazon.com Inc.");
    }
}
