//! A look at a server's TLS face: every step is recorded, and a server that is not the right one is
//! told so by the alert that a refusing client sends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use super::clock::SystemClock;
use super::dial::{
    Network, TlsChannel, Trust, Witness, alpn, connect_tcp, left, resolve, start_config, suite,
    version,
};
use super::proxy::tunnel;
use crate::core::time::UtcTime;
use crate::ports::{Channel, ClientAuth, Clock, DialError, Look, Looked, Probe};

impl Probe for Network {
    fn look(&self, look: &Look<'_>) -> Looked {
        let start = SystemClock.monotonic();
        let mut looked = Looked::default();
        if let Err(error) = self.steps(look, &mut looked, start + look.timeout) {
            looked.error = Some(error);
        }
        let elapsed = SystemClock.monotonic().saturating_sub(start);
        looked.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        looked
    }
}

impl Network {
    fn steps(
        &self,
        look: &Look<'_>,
        looked: &mut Looked,
        deadline: Duration,
    ) -> Result<(), DialError> {
        let (stream, address) = if let Some(proxy) = &self.proxy {
            looked.proxy = Some(proxy.endpoint.clone());
            tunnel(proxy, look.endpoint, deadline)?
        } else {
            looked.addresses = resolve(look.endpoint, left(deadline))?;
            connect_tcp(look.endpoint, &looked.addresses, deadline)?
        };
        looked.address = Some(address);
        handshake((stream, address), look, looked, deadline)
    }
}

fn handshake(
    (stream, address): (std::net::TcpStream, SocketAddr),
    look: &Look<'_>,
    looked: &mut Looked,
    deadline: Duration,
) -> Result<(), DialError> {
    let witness = Arc::new(Witness::new(look.trust.map(|(roots, at)| Trust {
        host: look.endpoint.host.clone(),
        roots: roots.to_vec(),
        at,
    })));
    let at = look.trust.map_or(UtcTime::from_unix(0), |(_, at)| at);
    let asked = Arc::new(Asked::default());
    let config = start_config(&witness, at)?.with_client_cert_resolver(asked.clone());
    let mut channel = TlsChannel::over(stream, address, look.endpoint, config)?;
    let outcome = channel.handshake(deadline);
    looked.tls_version = version(&channel.connection);
    looked.cipher_suite = suite(&channel.connection);
    looked.alpn = alpn(&channel.connection);
    looked.possession = witness.possession();
    looked.client_auth = asked
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    looked.chain = witness.certificates()?;
    // That we refused it is no news: the chain tells why.
    match outcome {
        Err(_) if witness.fault().is_some() => {}
        Err(error) => return Err(error),
        Ok(()) => Box::new(channel).close(),
    }
    Ok(())
}

/// Hears what client certificate the server wants, and shows none.
#[derive(Debug, Default)]
struct Asked(Mutex<Option<ClientAuth>>);

impl ResolvesClientCert for Asked {
    fn resolve(
        &self,
        authorities: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ClientAuth {
            schemes: schemes.iter().map(|scheme| scheme_name(*scheme)).collect(),
            authorities: authorities.iter().map(|name| name.to_vec()).collect(),
        });
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// RFC 8446 §4.2.3 names.
fn scheme_name(scheme: SignatureScheme) -> String {
    match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::ED25519 => "ed25519",
        SignatureScheme::ED448 => "ed448",
        other => return format!("{:#06x}", u16::from(other)),
    }
    .to_owned()
}
