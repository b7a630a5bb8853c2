//! Why a batch did not finish.

use std::path::PathBuf;

use crate::core::batch::ListError;
use crate::core::draft::DraftError;
use crate::core::handover::HandoverError;
use crate::core::key::KeyError;
use crate::explain::{Explain, Kind};
use crate::flows::issuer::IssuerError;
use crate::ports::ledger::LedgerError;
use crate::ports::{FileError, SignError};

/// Why a batch did not finish.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Not drafted or sealed.
    #[error("a certificate was not made")]
    Draft(#[from] DraftError),
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not put into its shape.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The CA cannot issue.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// No key.
    #[error("a device's key was not made")]
    Key(#[source] KeyError),
    /// The record failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The list cannot be used.
    #[error(transparent)]
    List(#[from] ListError),
    /// Somebody cut the output.
    #[error("`{path}` was changed: it is shorter than what the ledger says was written to it")]
    Short {
        /// The output or its manifest.
        path: PathBuf,
    },
    /// Not signed.
    #[error("a certificate was not signed")]
    Sign(#[from] SignError),
    /// Some are done.
    #[error("stopped after {done} of {total} devices; each of those is complete")]
    Stopped {
        /// Done.
        done: usize,
        /// Asked.
        total: u64,
        /// Why.
        #[source]
        source: Box<BatchError>,
    },
    /// A thread panicked.
    #[error("a thread that makes identities died")]
    Thread,
}

impl BatchError {
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Draft(e) => e,
            Self::File(e) => e,
            Self::Handover(e) => e,
            Self::Issuer(e) => e,
            Self::Key(e) => e,
            Self::Ledger(e) => e,
            Self::List(e) => e,
            Self::Sign(e) => e,
            Self::Stopped { source, .. } => &**source,
            Self::Short { .. } | Self::Thread => return None,
        })
    }
}

impl Explain for BatchError {
    fn kind(&self) -> Kind {
        match self {
            Self::Short { .. } => Kind::Refused,
            _ => self.inner().map_or(Kind::Bug, Explain::kind),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Short { .. } => "output.short",
            _ => self.inner().map_or("batch.thread", Explain::code),
        }
    }
    fn hint(&self) -> Option<String> {
        if let Self::Short { .. } = self {
            return Some("put the file back as it was, or name another --out".into());
        }
        self.inner()
            .and_then(Explain::hint)
            .or_else(|| Some("the same command again goes on where this one stopped".into()))
    }
}
