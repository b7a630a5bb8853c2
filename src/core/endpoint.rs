//! A host and a port, as a person writes them.

use std::fmt;

use crate::explain::{Explain, Kind};

/// Where to connect to: a DNS name or an IP address, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether a TLS client has to ask for MQTT by its ALPN name, because other protocols are served
    /// at the same port.
    pub alpn: bool,
}

impl Endpoint {
    /// MQTT with X.509 (AWS IoT developer guide, "Device communication protocols").
    pub const MQTT_PORT: u16 = 8883;
    /// HTTPS, where AWS IoT serves MQTT with X.509 to those who ask for it by [`Self::MQTT_ALPN`].
    pub const HTTPS_PORT: u16 = 443;
    /// The ALPN name of MQTT with X.509 (same page).
    pub const MQTT_ALPN: &'static [u8] = b"x-amzn-mqtt-ca";
    /// NTP (RFC 5905 §7.2).
    pub const NTP_PORT: u16 = 123;

    /// Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`. At port 443 MQTT is asked for by ALPN.
    ///
    /// # Errors
    /// `endpoint.syntax`, also for a URL: only the host is wanted.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.chars().take(80).collect());
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| wrong()))?;
        let written = |b: u8| b.is_ascii_alphanumeric() || b".-_:%".contains(&b);
        if port == 0 || !(1..=253).contains(&host.len()) || !host.bytes().all(written) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            alpn: port == Self::HTTPS_PORT,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl serde::Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Endpoint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, Self::MQTT_PORT).map_err(serde::de::Error::custom)
    }
}

/// Text that is not an endpoint.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an endpoint; write HOST or HOST:PORT, without a scheme or a path")]
pub struct EndpointError(String);

impl Explain for EndpointError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "endpoint.syntax"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_and_written_back() {
        for (text, host, port) in [
            (
                "a.iot.eu-west-1.amazonaws.com",
                "a.iot.eu-west-1.amazonaws.com",
                8883,
            ),
            ("localhost:9", "localhost", 9),
            ("127.0.0.1:8884", "127.0.0.1", 8884),
            ("[::1]:123", "::1", 123),
            ("[::1]", "::1", 8883),
            ("fe80::1", "fe80::1", 8883),
        ] {
            let endpoint = Endpoint::parse(text, 8883).unwrap();
            assert_eq!((&endpoint.host[..], endpoint.port), (host, port), "{text}");
            assert_eq!(Endpoint::parse(&endpoint.to_string(), 1).unwrap(), endpoint);
            assert!(!endpoint.alpn);
        }
        assert!(Endpoint::parse("a.example:443", 8883).unwrap().alpn);
        for bad in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "mqtts://a",
            "a/b",
            "a b",
            "[::1",
            "[::1]x",
        ] {
            assert!(Endpoint::parse(bad, 8883).is_err(), "{bad}");
        }
    }
}
