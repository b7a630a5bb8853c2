//! A look at a server's TLS face, without showing who looks.

use std::net::SocketAddr;
use std::time::Duration;

use super::dial::DialError;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::time::UtcTime;

/// Looks at servers.
pub trait Probe {
    /// Looks the name up, connects (through the proxy, if there is one) and does a TLS handshake with
    /// SNI. A server that nobody trusted vouches for is refused with the alert that says why
    /// (RFC 8446 §6.2), and what it showed is recorded all the same. Sends no client certificate and
    /// no data. What went wrong is part of the answer.
    fn look(&self, look: &Look<'_>) -> Looked;
}

/// What to look at.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The server; its host is also the name in SNI.
    pub endpoint: &'a Endpoint,
    /// Who may vouch for the server, and the time at which its chain must be valid; `None` refuses
    /// nobody.
    pub trust: Option<(&'a [Certificate], UtcTime)>,
    /// The most that all of it may take.
    pub timeout: Duration,
}

/// What came of it, step by step.
#[derive(Clone, Debug, Default)]
pub struct Looked {
    /// The proxy that was gone through; then the name was not looked up here.
    pub proxy: Option<Endpoint>,
    /// What the name leads to.
    pub addresses: Vec<SocketAddr>,
    /// The address that answered.
    pub address: Option<SocketAddr>,
    /// `TLSv1.3` or `TLSv1.2`, once the server chose.
    pub tls_version: Option<String>,
    /// The cipher suite's name, once the server chose.
    pub cipher_suite: Option<String>,
    /// The protocol that the server took of those offered.
    pub alpn: Option<String>,
    /// Its certificates as shown, leaf first.
    pub chain: Vec<Certificate>,
    /// Whether it proved that it holds the leaf's key; `None` when it did not come to that.
    pub possession: Option<bool>,
    /// What client certificate it asked for, if it asked.
    pub client_auth: Option<ClientAuth>,
    /// From the start to the end of it, in milliseconds.
    pub elapsed_ms: u64,
    /// Why it ended before the handshake was done, unless it was we who refused the server.
    pub error: Option<DialError>,
}

/// A server's CertificateRequest (RFC 8446 §4.3.2).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientAuth {
    /// The signature schemes it takes, by their names in the RFC.
    pub schemes: Vec<String>,
    /// The subjects of the CAs it names, DER; none is any.
    pub authorities: Vec<Vec<u8>>,
}
