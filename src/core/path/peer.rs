//! Whether a certificate is for the name that a peer was asked by (RFC 9525 §6): a dNSName, with a
//! wildcard as its whole first label at most, or an iPAddress; the common name does not count.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::names::{General, is_dns};
use crate::explain::{Explain, Kind};

/// The name to look for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerName {
    /// A DNS name, lower-case, without a final period.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl PeerName {
    /// Whether one of the subjectAltName entries is this name.
    pub(super) fn is_among(&self, names: &[General<'_>]) -> bool {
        names.iter().any(|name| match (self, name) {
            (Self::Dns(asked), General::Dns(pattern)) => covers(pattern, asked),
            (Self::Ip(IpAddr::V4(asked)), General::Ip(bytes)) => *bytes == asked.octets(),
            (Self::Ip(IpAddr::V6(asked)), General::Ip(bytes)) => *bytes == asked.octets(),
            _ => false,
        })
    }
}

fn covers(pattern: &str, asked: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let Some(parent) = pattern.strip_prefix("*.") else {
        return is_dns(&pattern) && pattern == asked;
    };
    // A wildcard right below a top-level domain would stand for strangers' names.
    is_dns(parent)
        && parent.contains('.')
        && asked
            .split_once('.')
            .is_some_and(|(_, rest)| rest == parent)
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if is_dns(&name) {
            Ok(Self::Dns(name))
        } else {
            Err(PeerNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Text that is no name to look for.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a DNS name nor an IP address")]
pub struct PeerNameError(String);

impl Explain for PeerNameError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
    fn code(&self) -> &'static str {
        "verify.name"
    }
    fn hint(&self) -> Option<String> {
        Some("give the host alone, without scheme, port or wildcard".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_whole_label() {
        for (pattern, asked, yes) in [
            ("example.com", "Example.COM.", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("ba*.example.com", "baz.example.com", false),
            ("a.*.example.com", "a.b.example.com", false),
            ("*.com", "example.com", false),
            ("*", "com", false),
            (".example.com", "a.example.com", false),
        ] {
            let asked: PeerName = asked.parse().unwrap();
            assert_eq!(
                asked.is_among(&[General::Dns(pattern)]),
                yes,
                "{pattern} {asked}"
            );
        }
        let address: PeerName = "192.0.2.1".parse().unwrap();
        assert!(address.is_among(&[General::Ip(&[192, 0, 2, 1])]));
        assert!(!address.is_among(&[General::Dns("192.0.2.1")]));
        let six: PeerName = "::1".parse().unwrap();
        assert!(!six.is_among(&[General::Ip(&[0, 0, 0, 1])]));
        for bad in ["", "https://a", "*.example.com", "a b", "a:8883"] {
            assert_eq!(bad.parse::<PeerName>().unwrap_err().code(), "verify.name");
        }
    }
}
