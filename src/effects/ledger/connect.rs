//! Connecting to PostgreSQL: where to, as whom, and through TLS where it leaves the machine.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use postgres::{Client, Config, NoTls};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::sql::Fault;
use crate::core::cert::Certificate;
use crate::core::ledger_place::{Account, Encryption, ServerAccess, password_in};

/// How long to wait for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where servers of this machine have their socket.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// A password file or a file of roots is smaller.
const MAX_BYTES: u64 = 1 << 20;

/// Connects, with the first password there is: the URL's, the file's, the environment's, the
/// password file's.
pub(super) fn connect(access: &ServerAccess) -> Result<Client, Fault> {
    let mut config: Config = access.url.secret_url().parse().map_err(address_fault)?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let there = SOCKETS.iter().find(|folder| Path::new(folder).is_dir());
        config.host(there.unwrap_or(&"localhost"));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    config.application_name("nameplate");
    if config.get_password().is_none()
        && let Some(password) = password(access, &config)?
    {
        config.password(password.as_bytes());
    }
    let encrypt = match access.url.encryption {
        Encryption::Auto => leaves_the_machine(&config),
        Encryption::On => true,
        Encryption::Off => false,
    };
    if !encrypt {
        config.ssl_mode(SslMode::Disable);
        return Ok(config.connect(NoTls)?);
    }
    config.ssl_mode(SslMode::Require);
    let tls = Tls::new(access.url.roots.as_deref())?;
    Ok(config.connect(tls)?)
}

/// The error names keys and never values, so that no password is in it.
fn address_fault(error: postgres::Error) -> Fault {
    Fault {
        retry: false,
        ..Fault::from(error)
    }
}

/// Whether a server is named by anything but a socket or a loopback address.
fn leaves_the_machine(config: &Config) -> bool {
    let far = |host: &Host| match host {
        Host::Tcp(name) => {
            let address = name.parse::<std::net::IpAddr>();
            name != "localhost" && !address.is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => false,
    };
    let addresses = config.get_hostaddrs();
    if addresses.is_empty() {
        config.get_hosts().iter().any(far)
    } else {
        addresses.iter().any(|address| !address.is_loopback())
    }
}

fn password(access: &ServerAccess, config: &Config) -> Result<Option<Zeroizing<String>>, Fault> {
    if let Some(path) = &access.password_file {
        let text = secret_file(path)?;
        let line = text.lines().next().unwrap_or_default();
        return Ok(Some(Zeroizing::new(line.to_owned())));
    }
    if access.password.is_some() {
        return Ok(access.password.clone());
    }
    let Some(path) = access.pass_file.as_ref().filter(|path| path.is_file()) else {
        return Ok(None);
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.as_str(),
        // As libpq: a socket in the usual folder.
        _ => "localhost",
    };
    let user = config.get_user().unwrap_or_default();
    let account = Account {
        host,
        port: &port.to_string(),
        database: config.get_dbname().unwrap_or(user),
        user,
    };
    Ok(password_in(&secret_file(path)?, account))
}

/// Reads a file that only its owner may read.
fn secret_file(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let wrong = |why: String| Fault {
        why: format!("the password file `{}`: {why}", path.display()),
        retry: false,
    };
    let metadata = path.metadata().map_err(|e| wrong(e.to_string()))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(wrong(
            "others may read it; run `chmod 600` on it first".into(),
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err(wrong("it is too large for one".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    Ok(Zeroizing::new(text))
}

/// TLS in which the server proves its name.
#[derive(Clone)]
struct Tls(Arc<ClientConfig>);

impl Tls {
    fn new(roots: Option<&Path>) -> Result<Self, Fault> {
        let mut store = RootCertStore::empty();
        if let Some(path) = roots {
            let wrong = |why: &dyn std::fmt::Display| Fault {
                why: format!("the roots in `{}`: {why}", path.display()),
                retry: false,
            };
            let text = std::fs::read(path).map_err(|e| wrong(&e))?;
            for root in Certificate::all_from_pem(&text).map_err(|e| wrong(&e))? {
                let der = root.der().to_vec().into();
                store.add(der).map_err(|e| wrong(&e))?;
            }
        } else {
            store.add_parsable_certificates(
                webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned(),
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Fault {
                why: e.to_string(),
                retry: false,
            })?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Encrypted<S>;
    type TlsConnect = Named;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Named, InvalidDnsNameError> {
        Ok(Named {
            config: Arc::clone(&self.0),
            name: ServerName::try_from(host.to_owned())?,
        })
    }
}

/// A server to shake hands with.
struct Named {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Named {
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let handshake = TlsConnector::from(self.config).connect(self.name, stream);
        Box::pin(async { Ok(Encrypted(Box::new(handshake.await?))) })
    }
}

struct Encrypted<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
