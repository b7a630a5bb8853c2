//! TCP, and TLS by rustls with ring.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error,
    SignatureScheme, WantsVerifier,
};

use super::clock::SystemClock;
use super::proxy::tunnel;
use crate::core::cert::Certificate;
use crate::core::chain::{Chain, ChainError};
use crate::core::endpoint::Endpoint;
use crate::core::proxy::Proxy;
use crate::core::server::{self, ServerFault};
use crate::core::time::UtcTime;
use crate::ports::{Channel, Clock, Dial, DialError, Received, ServerSeen, Step, Target};

/// The machine's network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// What every connection goes through, if anything.
    pub proxy: Option<Proxy>,
}

impl Dial for Network {
    fn open(&self, target: &Target<'_>) -> Result<Box<dyn Channel>, DialError> {
        let witness = Arc::new(Witness::new(Some(Trust {
            host: target.endpoint.host.clone(),
            roots: target.server_roots.to_vec(),
            at: target.at,
        })));
        let chain = target
            .identity
            .chain
            .iter()
            .map(|certificate| CertificateDer::from(certificate.der().to_vec()))
            .collect();
        let pkcs8 = PrivatePkcs8KeyDer::from(target.identity.key.pkcs8().to_vec());
        let config = start_config(&witness, target.at)?
            .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(pkcs8))
            .map_err(|error| DialError::Identity(error.to_string()))?;
        match self.connect(target.endpoint, config, &witness, target.timeout) {
            Ok(channel) => Ok(Box::new(channel)),
            Err(error) => Err(witness.fault().map_or(error, DialError::Server)),
        }
    }
}

impl Network {
    fn connect(
        &self,
        endpoint: &Endpoint,
        config: ClientConfig,
        witness: &Witness,
        timeout: Duration,
    ) -> Result<TlsChannel, DialError> {
        let deadline = SystemClock.monotonic() + timeout;
        let (stream, address) = match &self.proxy {
            Some(proxy) => tunnel(proxy, endpoint, deadline)?,
            None => connect_tcp(endpoint, &resolve(endpoint, left(deadline))?, deadline)?,
        };
        let mut channel = TlsChannel::over(stream, address, endpoint, config)?;
        channel.handshake(deadline)?;
        channel.seen.chain = witness.certificates()?;
        let connection = &channel.connection;
        channel.seen.tls_version = version(connection);
        channel.seen.cipher_suite = suite(connection);
        channel.seen.alpn = alpn(connection);
        Ok(channel)
    }
}

/// Remembers what the server showed, and verifies it if told whom to trust.
///
/// A chain is refused only once the server has proved possession of its key, or has not: so that
/// both are known.
#[derive(Debug)]
pub(super) struct Witness {
    provider: Arc<CryptoProvider>,
    trust: Option<Trust>,
    seen: Mutex<Vec<Vec<u8>>>,
    fault: Mutex<Option<ServerFault>>,
    possession: Mutex<Option<bool>>,
}

/// Whom to trust to vouch for which host, and when.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) host: String,
    pub(super) roots: Vec<Certificate>,
    pub(super) at: UtcTime,
}

impl Witness {
    pub(super) fn new(trust: Option<Trust>) -> Self {
        Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            trust,
            seen: Mutex::default(),
            fault: Mutex::default(),
            possession: Mutex::default(),
        }
    }

    pub(super) fn certificates(&self) -> Result<Vec<Certificate>, ServerFault> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<_, _>>()
            .map_err(|error| ServerFault::Unreadable(error.to_string()))
    }

    pub(super) fn fault(&self) -> Option<ServerFault> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }

    /// Whether the server holds the key of its certificate; `None` when it did not come to that.
    pub(super) fn possession(&self) -> Option<bool> {
        *self
            .possession
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self) -> Result<(), ServerFault> {
        let chain = Chain::new(self.certificates()?)
            .ok_or_else(|| ServerFault::Unreadable("there is none".into()))?;
        let Some(trust) = &self.trust else {
            return Ok(());
        };
        server::verify(&chain, &trust.host, &trust.roots, trust.at)
    }

    /// Notes whether the signature is good, and refuses what was found to be wrong before.
    fn proved(
        &self,
        outcome: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let held = outcome.is_ok();
        *self
            .possession
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(held);
        match self.fault() {
            Some(fault) => Err(Error::InvalidCertificate(certificate_error(&fault))),
            None => outcome,
        }
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = std::iter::once(end_entity).chain(intermediates);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            shown.map(|der| der.to_vec()).collect();
        if let Err(fault) = self.judge() {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.proved(verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.proved(verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// So that the alert we send names the fault.
fn certificate_error(fault: &ServerFault) -> CertificateError {
    match fault {
        ServerFault::Chain(ChainError::Expired(_)) => CertificateError::Expired,
        ServerFault::Chain(ChainError::NotYetValid(_)) => CertificateError::NotValidYet,
        ServerFault::Chain(ChainError::UnknownIssuer) => CertificateError::UnknownIssuer,
        ServerFault::Chain(ChainError::Usage) => CertificateError::InvalidPurpose,
        ServerFault::Name { .. } => CertificateError::NotValidForName,
        // `bad_certificate`: "contained signatures that did not verify correctly, etc."
        ServerFault::Chain(_) | ServerFault::Unreadable(_) => CertificateError::BadEncoding,
    }
}

#[derive(Debug)]
struct FixedTime(UtcTime);

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

pub(super) fn start_config(
    witness: &Arc<Witness>,
    at: UtcTime,
) -> Result<ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, DialError> {
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_details(Arc::clone(&witness.provider), Arc::new(FixedTime(at)))
            .with_safe_default_protocol_versions()
            .map_err(|error| DialError::Identity(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(witness) as _;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

/// `TLSv1.3` or `TLSv1.2`, once the server chose.
pub(super) fn version(connection: &ClientConnection) -> Option<String> {
    connection.protocol_version().map(|version| match version {
        rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
        rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    })
}

/// The cipher suite's name, once the server chose.
pub(super) fn suite(connection: &ClientConnection) -> Option<String> {
    let suite = connection.negotiated_cipher_suite();
    suite.map(|suite| format!("{:?}", suite.suite()))
}

/// The protocol that the server chose by ALPN.
pub(super) fn alpn(connection: &ClientConnection) -> Option<String> {
    let alpn = connection.alpn_protocol();
    alpn.map(|name| String::from_utf8_lossy(name).into_owned())
}

pub(super) fn left(deadline: Duration) -> Duration {
    deadline.saturating_sub(SystemClock.monotonic())
}

/// Tries every address the name has, each with a fair share of the time left.
pub(super) fn connect_tcp(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    deadline: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut last = DialError::Timeout {
        endpoint: endpoint.clone(),
        step: Step::Tcp,
    };
    for (n, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - n).unwrap_or(1);
        let share = left(deadline) / others;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => {
                // Small packets, each waited for.
                let _ = stream.set_nodelay(true);
                return Ok((stream, *address));
            }
            Err(error) => last = tcp_error(endpoint, *address, &error),
        }
    }
    Err(last)
}

fn tcp_error(endpoint: &Endpoint, address: SocketAddr, error: &io::Error) -> DialError {
    let endpoint = endpoint.clone();
    match error.kind() {
        ErrorKind::ConnectionRefused => DialError::Refused { endpoint, address },
        ErrorKind::TimedOut | ErrorKind::WouldBlock => DialError::Timeout {
            endpoint,
            step: Step::Tcp,
        },
        _ => DialError::Unreachable {
            endpoint,
            reason: error.to_string(),
        },
    }
}

/// Looks the name up on a thread of its own: the resolver has no time-out to set.
pub(super) fn resolve(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, DialError> {
    let host = endpoint.host.clone();
    let port = endpoint.port;
    // Not every resolver knows that these names lead to this machine (RFC 6761 §6.3).
    if host.to_ascii_lowercase().ends_with(".localhost") {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let found = (&host[..], port).to_socket_addrs().map(Iterator::collect);
        // Nobody waits any more when the time-out came first.
        let _ = sender.send(found);
    });
    let dns = |reason: String| DialError::Dns {
        host: endpoint.host.clone(),
        reason,
    };
    match receiver.recv_timeout(timeout) {
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses;
            if addresses.is_empty() {
                return Err(dns("it has no address".into()));
            }
            Ok(addresses)
        }
        Ok(Err(error)) => Err(dns(error.to_string())),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(DialError::Timeout {
                endpoint: endpoint.clone(),
                step: Step::Dns,
            })
        }
    }
}

/// TLS over a TCP connection.
pub(super) struct TlsChannel {
    stream: TcpStream,
    pub(super) connection: ClientConnection,
    endpoint: Endpoint,
    seen: ServerSeen,
}

impl TlsChannel {
    /// Ready for the handshake.
    pub(super) fn over(
        stream: TcpStream,
        address: SocketAddr,
        endpoint: &Endpoint,
        mut config: ClientConfig,
    ) -> Result<Self, DialError> {
        // AWS IoT gives no session tickets, and a resumed handshake would show no certificate.
        config.resumption = Resumption::disabled();
        if endpoint.alpn {
            config.alpn_protocols = vec![Endpoint::MQTT_ALPN.to_vec()];
        }
        let tls = |reason: String| DialError::Tls {
            endpoint: endpoint.clone(),
            reason,
        };
        let name =
            ServerName::try_from(endpoint.host.clone()).map_err(|error| tls(error.to_string()))?;
        let connection = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| tls(error.to_string()))?;
        Ok(Self {
            stream,
            connection,
            endpoint: endpoint.clone(),
            seen: ServerSeen {
                address,
                tls_version: None,
                cipher_suite: None,
                alpn: None,
                chain: Vec::new(),
            },
        })
    }

    pub(super) fn handshake(&mut self, deadline: Duration) -> Result<(), DialError> {
        while self.connection.is_handshaking() {
            self.flush(Step::Tls)?;
            if !self.connection.is_handshaking() {
                break;
            }
            if !self.fill(left(deadline), Step::Tls)? {
                return Err(DialError::Timeout {
                    endpoint: self.endpoint.clone(),
                    step: Step::Tls,
                });
            }
        }
        self.flush(Step::Tls)
    }

    /// Writes what TLS wants written. When that fails, an alert that came before says more.
    fn flush(&mut self, step: Step) -> Result<(), DialError> {
        let _ = self.stream.set_write_timeout(Some(Duration::from_secs(10)));
        while self.connection.wants_write() {
            if let Err(error) = self.connection.write_tls(&mut self.stream) {
                let error = self.io_error(&error, step);
                return match self.fill(Duration::from_millis(200), step) {
                    Err(alert @ DialError::Alert { .. }) => Err(alert),
                    _ => Err(error),
                };
            }
        }
        Ok(())
    }

    /// Reads once; false when nothing came in that time.
    fn fill(&mut self, timeout: Duration, step: Step) -> Result<bool, DialError> {
        if timeout.is_zero() {
            return Ok(false);
        }
        let _ = self.stream.set_read_timeout(Some(timeout));
        match self.connection.read_tls(&mut self.stream) {
            Ok(0) => return Err(self.closed(step)),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(self.io_error(&error, step)),
        }
        match self.connection.process_new_packets() {
            Ok(_) => Ok(true),
            Err(error) => {
                // Tell the server why; it does not matter whether it still listens.
                let _ = self.connection.write_tls(&mut self.stream);
                Err(self.tls_error(error))
            }
        }
    }

    fn closed(&self, step: Step) -> DialError {
        DialError::Closed {
            endpoint: self.endpoint.clone(),
            step,
        }
    }

    fn io_error(&self, error: &io::Error, step: Step) -> DialError {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => DialError::Timeout {
                endpoint: self.endpoint.clone(),
                step,
            },
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                self.closed(step)
            }
            _ => DialError::Unreachable {
                endpoint: self.endpoint.clone(),
                reason: error.to_string(),
            },
        }
    }

    fn tls_error(&self, error: Error) -> DialError {
        let endpoint = self.endpoint.clone();
        match error {
            Error::AlertReceived(alert) => DialError::Alert {
                endpoint,
                alert: alert_name(&format!("{alert:?}")),
            },
            Error::InvalidMessage(_) => DialError::NotTls(endpoint),
            other => DialError::Tls {
                endpoint,
                reason: other.to_string(),
            },
        }
    }
}

/// `UnknownCA` → `unknown_ca`: the name that RFC 8446 §6 and every other tool gives it.
fn alert_name(camel: &str) -> String {
    let mut name = String::new();
    let mut after_lower = false;
    for c in camel.chars() {
        if c.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = c.is_ascii_lowercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}

impl Channel for TlsChannel {
    fn peer(&self) -> &ServerSeen {
        &self.seen
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), DialError> {
        let written = self.connection.writer().write_all(bytes);
        written.map_err(|error| self.io_error(&error, Step::Data))?;
        self.flush(Step::Data)
    }

    fn receive(&mut self, timeout: Duration) -> Result<Received, DialError> {
        let deadline = SystemClock.monotonic() + timeout;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.connection.reader().read(&mut buffer) {
                Ok(0) => return Ok(Received::Closed),
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(Received::Bytes(buffer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(Received::Closed),
            }
            match self.fill(left(deadline), Step::Data) {
                Ok(true) => {}
                Ok(false) => return Ok(Received::Nothing),
                Err(DialError::Closed { .. }) => return Ok(Received::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    fn close(mut self: Box<Self>) {
        self.connection.send_close_notify();
        let _ = self.connection.write_tls(&mut self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_rfc() {
        for (camel, name) in [
            ("UnknownCA", "unknown_ca"),
            ("CertificateExpired", "certificate_expired"),
            ("BadCertificate", "bad_certificate"),
        ] {
            assert_eq!(alert_name(camel), name);
        }
    }
}
