//! Connections to a server: a channel over mutual TLS.

use std::net::SocketAddr;
use std::time::Duration;

use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::key::PrivateKey;
use crate::core::server::ServerFault;
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// Opens connections.
pub trait Dial {
    /// Connects over mutual TLS. The server's name and chain are verified.
    ///
    /// # Errors
    /// `dial.*`, `server.*`.
    fn open(&self, target: &Target<'_>) -> Result<Box<dyn Channel>, DialError>;
}

/// Where to connect to, as whom, and whom to trust.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The server; its host is also the name in SNI.
    pub endpoint: &'a Endpoint,
    /// What we present.
    pub identity: &'a Identity,
    /// Whom we trust to vouch for the server.
    pub server_roots: &'a [Certificate],
    /// The time at which the server's chain must be valid.
    pub at: UtcTime,
    /// The most time that name look-up, TCP and TLS may take together.
    pub timeout: Duration,
}

/// A private key and the certificates that go with it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Leaf first, then its issuers.
    pub chain: Vec<Certificate>,
    /// The leaf's key.
    pub key: PrivateKey,
}

/// What a server showed in its handshake.
#[derive(Clone, Debug)]
pub struct ServerSeen {
    /// The address that answered.
    pub address: SocketAddr,
    /// `TLSv1.3` or `TLSv1.2`; `None` when the handshake did not end.
    pub tls_version: Option<String>,
    /// The cipher suite's name; `None` when the handshake did not end.
    pub cipher_suite: Option<String>,
    /// The protocol it chose by ALPN; `None` when it chose none.
    pub alpn: Option<String>,
    /// Its certificates as shown, leaf first.
    pub chain: Vec<Certificate>,
}

/// An open connection.
pub trait Channel {
    /// What the server showed.
    fn peer(&self) -> &ServerSeen;

    /// Sends all of it.
    ///
    /// # Errors
    /// `dial.alert`, `dial.closed`.
    fn send(&mut self, bytes: &[u8]) -> Result<(), DialError>;

    /// Waits for bytes, at most this long.
    ///
    /// # Errors
    /// `dial.alert`, `dial.tls`, `dial.closed` when the connection was reset.
    fn receive(&mut self, timeout: Duration) -> Result<Received, DialError>;

    /// Says goodbye in TLS and closes.
    fn close(self: Box<Self>);
}

/// What waiting brought.
#[derive(Debug, Eq, PartialEq)]
pub enum Received {
    /// At least one byte.
    Bytes(Vec<u8>),
    /// The other side is done.
    Closed,
    /// Nothing in that time.
    Nothing,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Looking up the name.
    Dns,
    /// Connecting.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// After the handshake.
    Data,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dns => "the DNS look-up",
            Self::Tcp => "connecting over TCP",
            Self::Tls => "the TLS handshake",
            Self::Data => "the connection",
        })
    }
}

/// A connection that did not come about, or ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The server ended TLS with this alert.
    #[error("`{endpoint}` ended TLS with the alert `{alert}`")]
    Alert {
        /// The server.
        endpoint: Endpoint,
        /// RFC 8446 §6.2 name, such as `UnknownCA`.
        alert: String,
    },
    /// The server closed.
    #[error("`{endpoint}` closed the connection during {step}")]
    Closed {
        /// The server.
        endpoint: Endpoint,
        /// When.
        step: Step,
    },
    /// The name has no address.
    #[error("the name `{host}` cannot be looked up: {reason}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// Our own key or certificate cannot be used.
    #[error("this identity cannot be used for TLS: {0}")]
    Identity(String),
    /// Something answers, but not TLS.
    #[error("what answers at `{0}` is not TLS")]
    NotTls(Endpoint),
    /// The proxy on the way gives no tunnel.
    #[error("the proxy `{proxy}` gives no tunnel: {reason}")]
    Proxy {
        /// The proxy.
        proxy: Endpoint,
        /// What it said, or why it was not reached.
        reason: String,
    },
    /// Nobody listens there.
    #[error("`{endpoint}` refused the TCP connection ({address})")]
    Refused {
        /// The server.
        endpoint: Endpoint,
        /// The last address tried.
        address: SocketAddr,
    },
    /// The server is not the one it should be.
    #[error(transparent)]
    Server(#[from] ServerFault),
    /// No answer in time.
    #[error("`{endpoint}` did not answer in time: {step}")]
    Timeout {
        /// The server.
        endpoint: Endpoint,
        /// What was waited for.
        step: Step,
    },
    /// TLS did not work out.
    #[error("TLS with `{endpoint}` failed: {reason}")]
    Tls {
        /// The server.
        endpoint: Endpoint,
        /// What the TLS library says.
        reason: String,
    },
    /// No way there.
    #[error("`{endpoint}` cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        endpoint: Endpoint,
        /// What the system says.
        reason: String,
    },
}

impl Explain for DialError {
    fn kind(&self) -> Kind {
        match self {
            Self::Identity(_) => Kind::Input,
            Self::Alert { .. } | Self::NotTls(_) | Self::Server(_) | Self::Tls { .. } => {
                Kind::Negative
            }
            Self::Closed { .. }
            | Self::Dns { .. }
            | Self::Proxy { .. }
            | Self::Refused { .. }
            | Self::Timeout { .. }
            | Self::Unreachable { .. } => Kind::Unavailable,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Alert { .. } => "dial.alert",
            Self::Closed { .. } => "dial.closed",
            Self::Dns { .. } => "dial.dns",
            Self::Identity(_) => "dial.identity",
            Self::NotTls(_) => "dial.not-tls",
            Self::Proxy { .. } => "dial.proxy",
            Self::Refused { .. } => "dial.refused",
            Self::Server(fault) => fault.code(),
            Self::Timeout { .. } => "dial.timeout",
            Self::Tls { .. } => "dial.tls",
            Self::Unreachable { .. } => "dial.unreachable",
        }
    }
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Alert { .. } => {
                "look at the certificate's status at the target, and at this device's clock".into()
            }
            Self::Closed { .. } | Self::Tls { .. } => {
                "check that the port speaks MQTT over TLS (8883)".into()
            }
            Self::Dns { .. } => "check the endpoint's spelling and this device's resolver".into(),
            Self::Identity(_) => "run `nameplate preflight` on this identity".into(),
            Self::NotTls(_) => {
                "check the port: AWS IoT speaks MQTT over TLS on 8883, never 1883".into()
            }
            Self::Proxy { .. } => {
                "check the proxy's address and login (--proxy, HTTPS_PROXY), and that it lets this \
                 host and port through"
                    .into()
            }
            Self::Refused { .. } => {
                "check the port, and that the server runs (`nameplate sandbox status`)".into()
            }
            Self::Server(fault) => return fault.hint(),
            Self::Timeout { .. } | Self::Unreachable { .. } => {
                "check this device's network, and that no firewall drops the port".into()
            }
        })
    }
}
