//! Why a sandbox does not start.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::folder::FolderError;
use super::registry::RegistryError;
use super::store::StoreError;
use super::tls::TlsError;
use crate::explain::{Explain, Kind};

/// A sandbox that does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A port that cannot be listened on.
    #[error("the {what} cannot listen on {address}")]
    Bind {
        /// Which of the two.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The page is for this machine only.
    #[error("the page cannot listen on {0}: others could reach it")]
    PageOpen(SocketAddr),
    /// The state folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The registry's state.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No threads or sockets to be had.
    #[error("the sandbox cannot start")]
    Start(#[source] io::Error),
    /// The registry's file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The endpoint's certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Explain for ServerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse => Kind::Unavailable,
            Self::Bind { .. } | Self::PageOpen(_) => Kind::Input,
            Self::Folder(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Start(_) => Kind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Tls(error) => error.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse => {
                "sandbox.port-taken"
            }
            Self::Bind { .. } => "sandbox.bind",
            Self::PageOpen(_) => "sandbox.page-open",
            Self::Folder(error) => error.code(),
            Self::Registry(error) => error.code(),
            Self::Start(_) => "sandbox.start",
            Self::Store(error) => error.code(),
            Self::Tls(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { what, .. } => {
                let flag = match *what {
                    "control plane" => "--control",
                    "page" => "--ui",
                    "HTTPS endpoint" => "--https",
                    _ => "--mqtt",
                };
                Some(format!(
                    "choose another address with {flag} ADDR:PORT; port 0 takes any free one"
                ))
            }
            Self::PageOpen(_) => Some("use --ui 127.0.0.1:PORT".into()),
            Self::Folder(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Start(_) => None,
            Self::Store(error) => error.hint(),
            Self::Tls(error) => error.hint(),
        }
    }
}
