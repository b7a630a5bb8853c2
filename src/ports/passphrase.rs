//! Passphrases, from wherever the user keeps them.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::explain::{Explain, Kind};

/// Where a passphrase is to come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PassphraseSource {
    /// This file.
    File(PathBuf),
    /// This open file descriptor.
    Descriptor(u32),
    /// Nobody said: ask, if a person sits at the terminal.
    Ask,
}

/// What a passphrase is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PassphraseUse {
    /// To open a key that exists.
    Open,
    /// The PIN of a token.
    Pin,
    /// To protect a new one: a person types it twice.
    Protect,
}

/// Gets passphrases.
pub trait Passphrases {
    /// The passphrase for `what`, without its closing newline; never empty. `None` when nobody gave
    /// one and nobody is there to be asked.
    ///
    /// # Errors
    /// `passphrase.*`.
    fn read(
        &self,
        source: &PassphraseSource,
        what: &str,
        wanted: PassphraseUse,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, PassphraseError>;
}

/// No usable passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Typed twice, differently.
    #[error("the two passphrases differ")]
    Differ,
    /// Nothing in it.
    #[error("the passphrase from {0} is empty")]
    Empty(String),
    /// The person gave up.
    #[error("the passphrase was not typed to its end")]
    Interrupted,
    /// More than one line.
    #[error("the passphrase from {0} has more than one line")]
    Lines(String),
    /// More than 1024 bytes.
    #[error("the passphrase from {0} is longer than 1024 bytes")]
    Long(String),
    /// Its source cannot be read.
    #[error("the passphrase cannot be read from {origin}")]
    Read {
        /// File or descriptor.
        origin: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Explain for PassphraseError {
    fn kind(&self) -> Kind {
        match self {
            Self::Interrupted => Kind::Unavailable,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Differ => "passphrase.differ",
            Self::Empty(_) => "passphrase.empty",
            Self::Interrupted => "passphrase.interrupted",
            Self::Lines(_) => "passphrase.lines",
            Self::Long(_) => "passphrase.long",
            Self::Read { .. } => "passphrase.read",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Differ | Self::Interrupted => Some("run the same command again".into()),
            Self::Lines(_) => Some("keep nothing but the passphrase in it, on one line".into()),
            _ => None,
        }
    }
}
