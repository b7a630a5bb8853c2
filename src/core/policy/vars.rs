//! What is known about one connection, under the names that policies use for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::core::cert::Certificate;
use crate::core::subject::Subject;

/// The most values of one repeated certificate attribute that AWS IoT keeps.
const MAX_VALUES: usize = 5;
/// The longest value, in characters, that is put in a variable's place.
const MAX_LENGTH: usize = 1024;
/// A client id is put in place whatever it holds; every other value only without these.
const NEVER_SUBSTITUTED: [char; 5] = ['*', '$', '+', '?', '#'];

/// Policy name of a certificate attribute → its short name or dotted OID.
const CERTIFICATE_ATTRIBUTES: [(&str, &str); 13] = [
    ("DistinguishedNameQualifier", "2.5.4.46"),
    ("Country", "2.5.4.6"),
    ("Organization", "2.5.4.10"),
    ("OrganizationalUnit", "2.5.4.11"),
    ("State", "2.5.4.8"),
    ("CommonName", "2.5.4.3"),
    ("SerialNumber", "2.5.4.5"),
    ("Title", "2.5.4.12"),
    ("Surname", "2.5.4.4"),
    ("GivenName", "2.5.4.42"),
    ("Initials", "2.5.4.43"),
    ("Pseudonym", "2.5.4.65"),
    ("GenerationQualifier", "2.5.4.44"),
];

/// Prefix of our alternative names → policy name.
const ALTERNATIVE_NAMES: [(&str, &str); 4] = [
    ("email:", "RFC822Name"),
    ("DNS:", "DNSName"),
    ("URI:", "UniformResourceIdentifier"),
    ("IP:", "IPAddress"),
];

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

/// Condition keys and policy variables with their values. Keys compare without case, except the
/// name in `Attributes[…]`.
#[derive(Clone, Debug)]
pub struct Facts {
    values: BTreeMap<String, Vec<String>>,
    /// The certificate variables that have a value, by their names as documented.
    available: Vec<String>,
}

impl Facts {
    /// A connection with this client id, and no thing attached.
    pub fn new(client_id: &str) -> Self {
        let facts = Self {
            values: BTreeMap::new(),
            available: Vec::new(),
        };
        facts
            .with("iot:ClientId", vec![client_id.to_owned()])
            .with("iot:Connection.Thing.IsAttached", vec!["false".to_owned()])
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
        self.name("Subject", &certificate.subject);
        self.name("Issuer", &certificate.issuer);
        for (prefix, name) in ALTERNATIVE_NAMES {
            let values = certificate.alternative_names.iter();
            let values = values.filter_map(|entry| entry.strip_prefix(prefix));
            let key = format!("iot:Certificate.Subject.AlternativeName.{name}");
            self.many(&key, values.map(str::to_owned).collect());
        }
        let available = self.available.clone();
        self.with(
            "iot:Certificate.SerialNumber",
            vec![decimal(&certificate.serial)],
        )
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

    /// Every value of a condition key; empty when it is absent.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(&normal(key)).map_or(&[], |all| &all[..])
    }

    /// The text that takes a variable's place; `None` when AWS IoT would leave it unreplaced.
    pub fn substitute(&self, key: &str) -> Option<&str> {
        let value = self.values(key).first()?;
        let plain = !value.contains(NEVER_SUBSTITUTED) && value.chars().count() <= MAX_LENGTH;
        (plain || key.eq_ignore_ascii_case("iot:ClientId")).then_some(&value[..])
    }

    fn name(&mut self, side: &str, name: &Subject) {
        for (policy_name, oid) in CERTIFICATE_ATTRIBUTES {
            let values = name.attributes().iter().filter(|a| a.oid == oid);
            let values = values.map(|a| escaped(&a.value)).collect();
            self.many(&format!("iot:Certificate.{side}.{policy_name}"), values);
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
