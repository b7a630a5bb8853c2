//! The key exchange of Network Time Security over TLS 1.3, by rustls with ring.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned,
};
use zeroize::Zeroizing;

use super::clock::SystemClock;
use super::dial::resolve;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::nts::trust::{Accepted, Trust};
use crate::core::nts::{self, EXPORTER_LABEL, KEY_BYTES, ke};
use crate::core::server::ServerFault;
use crate::ports::{Clock, NtsKeys, NtsSession};

/// The machine's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct NtsNetwork;

impl NtsKeys for NtsNetwork {
    fn exchange(
        &self,
        servers: &[Endpoint],
        trust: &Trust,
        timeout: Duration,
    ) -> Vec<Result<NtsSession, String>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = servers
                .iter()
                .map(|server| scope.spawn(move || exchange_with(server, trust, timeout)))
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    let died = || Err("the asking thread died".into());
                    thread.join().unwrap_or_else(|_| died())
                })
                .collect()
        })
    }
}

fn exchange_with(
    server: &Endpoint,
    trust: &Trust,
    timeout: Duration,
) -> Result<NtsSession, String> {
    let deadline = SystemClock.monotonic() + timeout;
    let judge = Arc::new(Judge {
        provider: Arc::new(rustls::crypto::ring::default_provider()),
        host: server.host.clone(),
        trust: trust.clone(),
        outcome: Mutex::new(None),
    });
    let (stream, address) = connect(server, deadline)?;
    let connection = client(&judge, &server.host)?;
    let mut tls = StreamOwned::new(connection, stream);
    let answer = talk(&mut tls, deadline);
    let accepted = match judge.outcome() {
        Some(Err(fault)) => return Err(format!("key exchange refused: {fault}")),
        Some(Ok(accepted)) => accepted,
        None => {
            return Err(answer
                .err()
                .unwrap_or_else(|| "it showed no certificate".into()));
        }
    };
    let offer = ke::read(&answer?).map_err(|error| error.to_string())?;
    if tls.conn.alpn_protocol() != Some(nts::ALPN) {
        return Err("it does not speak the NTS key exchange (ALPN ntske/1)".into());
    }
    Ok(NtsSession {
        address,
        offer,
        accepted,
        to_server: export(&tls.conn, false)?,
        to_client: export(&tls.conn, true)?,
    })
}

fn client(judge: &Arc<Judge>, host: &str) -> Result<ClientConnection, String> {
    let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(judge) as _;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&judge.provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![nts::ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

/// Tries every address the name has, each with a fair share of the time left.
fn connect(server: &Endpoint, deadline: Duration) -> Result<(TcpStream, IpAddr), String> {
    let left = || deadline.saturating_sub(SystemClock.monotonic());
    let addresses = resolve(server, left()).map_err(|error| error.to_string())?;
    let mut last = "it did not answer in time".to_owned();
    for (n, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - n).unwrap_or(1);
        let share = left() / others;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok((stream, address.ip())),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// Sends the question and reads up to the end record.
fn talk(
    tls: &mut StreamOwned<ClientConnection, TcpStream>,
    deadline: Duration,
) -> Result<Vec<u8>, String> {
    let timed = |stream: &TcpStream| -> Result<(), String> {
        let left = deadline.saturating_sub(SystemClock.monotonic());
        if left.is_zero() {
            return Err("it did not answer in time".into());
        }
        let set = stream.set_read_timeout(Some(left));
        set.and_then(|()| stream.set_write_timeout(Some(left)))
            .map_err(|error| error.to_string())
    };
    let say = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it did not answer in time".into(),
        _ => format!("key exchange failed: {error}"),
    };
    timed(&tls.sock)?;
    tls.write_all(&ke::request()).map_err(say)?;
    let mut bytes = Vec::new();
    let mut part = [0; 2048];
    while !ke::is_complete(&bytes) && bytes.len() <= ke::MAX_BYTES {
        timed(&tls.sock)?;
        match tls.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            // Some servers close the connection without a word, once they have answered.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(say(error)),
        }
    }
    Ok(bytes)
}

fn export(
    connection: &ClientConnection,
    to_client: bool,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, String> {
    let context = nts::exporter_context(to_client);
    connection
        .export_keying_material([0; KEY_BYTES], EXPORTER_LABEL, Some(&context))
        .map(Zeroizing::new)
        .map_err(|error| error.to_string())
}

/// Judges the server by the rule of [`Trust`], and remembers the outcome.
#[derive(Debug)]
struct Judge {
    provider: Arc<CryptoProvider>,
    host: String,
    trust: Trust,
    outcome: Mutex<Option<Result<Accepted, ServerFault>>>,
}

impl Judge {
    fn outcome(&self) -> Option<Result<Accepted, ServerFault>> {
        let outcome = self.outcome.lock();
        outcome.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown: Result<Vec<Certificate>, _> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| Certificate::from_der(der))
            .collect();
        let outcome = shown
            .map_err(|error| ServerFault::Unreadable(error.to_string()))
            .and_then(|shown| self.trust.accept(shown, &self.host));
        let good = outcome.is_ok();
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        if good {
            return Ok(ServerCertVerified::assertion());
        }
        let alert = CertificateError::ApplicationVerificationFailure;
        Err(Error::InvalidCertificate(alert))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Not offered: RFC 8915 §3 wants TLS 1.3.
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
