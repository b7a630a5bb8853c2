//! Names that AWS IoT gives rules to, parsed once. Patterns are those of the API model.

use std::fmt;
use std::str::FromStr;

use crate::explain::{Explain, Kind};

/// Text that breaks the rule of its kind of name.
#[derive(Debug, thiserror::Error)]
#[error("`{value}` is not {} {what}: {rule}", article(what))]
pub struct IdError {
    /// What it was meant to be.
    pub what: &'static str,
    /// The rule, in words.
    pub rule: &'static str,
    /// The text as given, shortened to 80 characters.
    pub value: String,
}

fn article(what: &str) -> &'static str {
    if what.starts_with(['A', 'a', 'E', 'e', 'I', 'i', 'O', 'o']) {
        "an"
    } else {
        "a"
    }
}

impl Explain for IdError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "name.invalid"
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $lengths:expr, $allowed:expr, $rule:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $allowed;
                let fits = ($lengths).contains(&text.len()) && text.bytes().all(allowed);
                fits.then(|| Self(text.to_owned())).ok_or_else(|| IdError {
                    what: $what,
                    rule: $rule,
                    value: text.chars().take(80).collect(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// A thing, thing type, thing group or billing group name: `[a-zA-Z0-9:_-]{1,128}`.
    ThingName, "thing name", 1..=128,
    |b| b.is_ascii_alphanumeric() || b":_-".contains(&b),
    "1 to 128 letters, digits, `:`, `_` or `-`";
    /// A provisioning template name: `[0-9A-Za-z_-]{1,36}`.
    TemplateName, "template name", 1..=36,
    |b| b.is_ascii_alphanumeric() || b"_-".contains(&b),
    "1 to 36 letters, digits, `_` or `-`";
    /// An AWS IoT policy name: `[\w+=,.@-]{1,128}`.
    PolicyName, "policy name", 1..=128,
    |b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b),
    "1 to 128 letters, digits or `_+=,.@-`";
    /// An AWS account id: 12 digits.
    AccountId, "AWS account id", 12..=12,
    |b| b.is_ascii_digit(),
    "12 digits";
    /// An AWS Region name, such as `eu-west-1`.
    Region, "AWS Region", 1..=32,
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-',
    "lower-case letters, digits and `-`, such as eu-west-1";
}

/// A certificate id: lower-hex SHA-256 of the DER, as AWS IoT shows it. 64 characters.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateId([u8; 64]);

impl CertificateId {
    /// The id of a certificate's DER bytes.
    pub fn of_der(der: &[u8]) -> Self {
        Self::of_hash(ring::digest::digest(&ring::digest::SHA256, der).as_ref())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Digits are UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 32 bytes of the hash.
    pub fn bytes(&self) -> [u8; 32] {
        let digit = |b: u8| match b {
            b'0'..=b'9' => b - b'0',
            _ => b - b'a' + 10,
        };
        std::array::from_fn(|n| digit(self.0[2 * n]) << 4 | digit(self.0[2 * n + 1]))
    }

    /// From the 32 bytes of the hash; `None` for another number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == 32).then(|| Self::of_hash(bytes))
    }

    /// The first 12 characters, for people.
    pub fn short(&self) -> &str {
        &self.as_str()[..12]
    }

    fn of_hash(hash: &[u8]) -> Self {
        let mut text = [0; 64];
        write_hex(hash, &mut text);
        Self(text)
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CertificateId")
            .field(&self.as_str())
            .finish()
    }
}

impl FromStr for CertificateId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if let Ok(mut digits) = <[u8; 64]>::try_from(text.as_bytes())
            && digits.iter().all(u8::is_ascii_hexdigit)
        {
            digits.make_ascii_lowercase();
            return Ok(Self(digits));
        }
        Err(IdError {
            what: "certificate id",
            rule: "64 hexadecimal digits",
            value: text.chars().take(80).collect(),
        })
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for CertificateId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for CertificateId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Where a control plane's objects live; makes their ARNs.
#[derive(Clone, Debug, Eq, Hash, PartialEq, serde::Serialize)]
pub struct Place {
    /// The account.
    pub account: AccountId,
    /// The Region.
    pub region: Region,
}

impl Place {
    /// `aws`, `aws-cn` or `aws-us-gov`, by the Region.
    pub fn partition(&self) -> &'static str {
        match self.region.as_str() {
            r if r.starts_with("cn-") => "aws-cn",
            r if r.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// `arn:aws:iot:REGION:ACCOUNT:KIND/NAME`, where `kind` is `cert`, `cacert`, `policy`,
    /// `thing`, `thinggroup`, `provisioningtemplate`, `client`, `topic` or `topicfilter`.
    pub fn arn(&self, kind: &str, name: impl fmt::Display) -> String {
        format!(
            "arn:{}:iot:{}:{}:{kind}/{name}",
            self.partition(),
            self.region,
            self.account
        )
    }
}

/// Bytes from hexadecimal of either case; `None` for anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2];
    write_hex(bytes, &mut text);
    // Digits are UTF-8.
    String::from_utf8(text).unwrap_or_default()
}

/// Two digits for each byte, as far as there is room.
fn write_hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_api_model() {
        assert!("pump:A-1_b".parse::<ThingName>().is_ok());
        assert!("a".repeat(128).parse::<ThingName>().is_ok());
        for bad in ["", "pump 1", "pump.1", "pümp", &"a".repeat(129)] {
            assert!(bad.parse::<ThingName>().is_err(), "{bad}");
        }
        assert!("a".repeat(37).parse::<TemplateName>().is_err());
        assert!("a.b@c".parse::<PolicyName>().is_ok());
        assert!("123456789012".parse::<AccountId>().is_ok());
        let error = "1".parse::<AccountId>().unwrap_err();
        assert_eq!(error.to_string(), "`1` is not an AWS account id: 12 digits");
        let id = CertificateId::of_der(b"x");
        assert_eq!(CertificateId::from_bytes(&id.bytes()), Some(id));
        assert!(
            "FF".repeat(32)
                .parse::<CertificateId>()
                .unwrap()
                .as_str()
                .starts_with("ff")
        );
    }
}
