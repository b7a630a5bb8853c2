//! An HTTP proxy that tunnels TCP by CONNECT (RFC 9110 §9.3.6), as people write it in `HTTPS_PROXY`.

use std::fmt;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use crate::core::endpoint::Endpoint;
use crate::explain::{Explain, Kind};

/// The longest answer to CONNECT that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 8192;

/// A proxy, and what it wants to know of us.
#[derive(Clone)]
pub struct Proxy {
    /// Where it is.
    pub endpoint: Endpoint,
    /// `user:password`, decoded.
    credentials: Option<Zeroizing<String>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.endpoint)
    }
}

impl Proxy {
    /// Reads `[http://][USER:PASSWORD@]HOST[:PORT][/]`; port 80 when left out, as in any such URL.
    ///
    /// # Errors
    /// `proxy.syntax`; nothing of the text is repeated, because a password may be in it.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                let word = scheme.chars().all(|c| c.is_ascii_alphanumeric());
                let scheme = if word { scheme } else { "this" };
                return Err(ProxyError::Scheme(scheme.chars().take(16).collect()));
            }
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(decoded(credentials)?), place),
            None => (None, rest),
        };
        let endpoint = Endpoint::parse(place, 80).map_err(|_| ProxyError::Syntax)?;
        Ok(Self {
            endpoint,
            credentials,
        })
    }

    /// The request that opens a tunnel to `to`.
    pub fn request(&self, to: &Endpoint) -> Zeroizing<String> {
        let login = self.credentials.as_ref().map(|credentials| {
            let encoded = Base64::encode_string(credentials.as_bytes());
            Zeroizing::new(format!("Proxy-Authorization: Basic {encoded}\r\n"))
        });
        let login = login.as_ref().map_or("", |login| login.as_str());
        Zeroizing::new(format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{login}\r\n"
        ))
    }
}

/// What a proxy answered to CONNECT: how many bytes the answer has, or `None` when more is to come.
/// The tunnel begins after them.
///
/// # Errors
/// Why there is no tunnel, in words.
pub fn answered(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        if bytes.len() >= MAX_ANSWER_BYTES {
            return Err("its answer has no end".into());
        }
        // What cannot become a status line is not waited for.
        let start = &bytes[..bytes.len().min(5)];
        if !b"HTTP/".starts_with(start) {
            return Err("it does not speak HTTP".into());
        }
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.splitn(3, ' ');
    let (version, status) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if !version.starts_with("HTTP/1.") {
        return Err("it does not speak HTTP".into());
    }
    match status {
        "200" => Ok(Some(end + 4)),
        "407" => Err("it wants a login (407): give it as http://USER:PASSWORD@HOST:PORT".into()),
        "403" => Err("it forbids that host or port (403)".into()),
        _ => {
            let said: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
            Err(format!("it answered `{said}`"))
        }
    }
}

/// Whether `NO_PROXY` (comma-separated names, domains with or without a leading dot, addresses, or
/// `*`) or being on this machine keeps a host from the environment's proxy.
pub fn bypasses(no_proxy: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let here = host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    here || no_proxy.split(',').map(str::trim).any(|rule| {
        let rule = rule.to_ascii_lowercase();
        let domain = rule.trim_start_matches("*.").trim_start_matches('.');
        rule == "*"
            || (!domain.is_empty()
                && (host == domain
                    || host
                        .strip_suffix(domain)
                        .is_some_and(|rest| rest.ends_with('.'))))
    })
}

fn decoded(text: &str) -> Result<Zeroizing<String>, ProxyError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(ProxyError::Syntax);
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| ProxyError::Syntax)?);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| ProxyError::Syntax)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Text that is not a proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Another kind of proxy.
    #[error("a proxy by `{0}://` cannot be gone through: only HTTP with CONNECT")]
    Scheme(String),
    /// Not a place.
    #[error("the proxy is not `http://HOST:PORT` or `http://USER:PASSWORD@HOST:PORT`")]
    Syntax,
}

impl Explain for ProxyError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "proxy.syntax"
    }
    fn hint(&self) -> Option<String> {
        Some("write --proxy http://HOST:PORT; percent-encode what is special in a password".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_proxy_is_read_and_its_password_never_shown() {
        for (text, place, login) in [
            ("http://proxy:3128", "proxy:3128", None),
            ("proxy", "proxy:80", None),
            ("HTTP://10.0.0.1:8080/", "10.0.0.1:8080", None),
            (
                "http://al%40ice:p%3Ass@proxy:1",
                "proxy:1",
                Some("YWxAaWNlOnA6c3M="),
            ),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(proxy.endpoint.to_string(), place, "{text}");
            let to = Endpoint::parse("a.example", 443).unwrap();
            let request = proxy.request(&to);
            assert!(
                request.starts_with("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n")
            );
            assert!(request.ends_with("\r\n\r\n"));
            assert_eq!(request.contains("Proxy-Authorization"), login.is_some());
            assert!(login.is_none_or(|login| request.contains(&format!("Basic {login}\r\n"))));
            assert_eq!(format!("{proxy:?}"), format!("Proxy({place})"));
        }
        for bad in [
            "",
            "socks5://a:1",
            "https://a:1",
            "http://a:x",
            "http://%zz@a:1",
            "a/b",
        ] {
            let error = Proxy::parse(bad).unwrap_err();
            assert_eq!(error.code(), "proxy.syntax", "{bad}");
            assert!(!error.to_string().contains("%zz"));
        }
    }

    #[test]
    fn an_answer_is_a_tunnel_a_reason_or_not_whole() {
        assert_eq!(answered(b""), Ok(None));
        assert_eq!(answered(b"HTTP/1.1 200 Conn"), Ok(None));
        assert_eq!(answered(b"HTTP/1.1 200 OK\r\n\r\nxyz"), Ok(Some(19)));
        assert_eq!(answered(b"HTTP/1.0 200\r\nA: b\r\n\r\n"), Ok(Some(22)));
        for (bytes, words) in [
            (&b"HTTP/1.1 407 Auth\r\n\r\n"[..], "407"),
            (b"HTTP/1.1 403 No\r\n\r\n", "forbids"),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway"),
            (b"220 smtp", "does not speak HTTP"),
            (b"SMTP 200 OK\r\n\r\n", "does not speak HTTP"),
            (&[b'H'; 0], ""),
            (&[b'H'; MAX_ANSWER_BYTES], "no end"),
        ] {
            match answered(bytes) {
                Err(why) => assert!(why.contains(words), "{why}"),
                Ok(tunnel) => assert_eq!((tunnel, words), (None, "")),
            }
        }
    }

    #[test]
    fn hosts_of_this_machine_and_of_no_proxy_are_reached_directly() {
        for (rules, host, direct) in [
            ("", "localhost", true),
            ("", "127.0.0.1", true),
            ("", "::1", true),
            ("", "a.example", false),
            ("example", "a.example", true),
            (".example", "a.example", true),
            ("*.example, b", "b", true),
            ("ample", "a.example", false),
            ("*", "a.example", true),
            (",,", "a.example", false),
        ] {
            assert_eq!(bypasses(rules, host), direct, "{rules} {host}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = answered(&bytes);
            let _ = Proxy::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
