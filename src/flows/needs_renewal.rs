//! `device needs-renewal`: finds the certificates that files and folders hold.

use std::path::{Path, PathBuf};

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::explain::{Explain, Kind};
use crate::flows::identity::{self, IdentityError};
use crate::ports::{Browse, FileError, Files};

/// What the flow may use.
pub struct Finder<'a> {
    /// Reads certificates.
    pub files: &'a dyn Files,
    /// Finds identity folders.
    pub browse: &'a dyn Browse,
    /// Every certificate of a file rather than its first: a leaf is only as good as its issuers.
    pub bundle: bool,
}

/// One certificate, and where it was.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file; `-` for stdin.
    pub path: PathBuf,
    /// The certificate.
    pub certificate: Certificate,
}

impl Finder<'_> {
    /// The certificates of all these places: PEM or DER files, identity folders, folders of
    /// identity folders, and `-` for stdin. All that cannot be read is told at once.
    ///
    /// # Errors
    /// `renewal.no-identity`, `file.*`, `pem.*`, `cert.*`.
    pub fn find(&self, places: &[PathBuf]) -> Result<Vec<Found>, RenewalError> {
        let mut found = Vec::new();
        let mut broken = Vec::new();
        for place in places {
            for path in self.files_of(place)? {
                match self.read(&path) {
                    Ok(all) => found.extend(all),
                    Err(error) => broken.push(error),
                }
            }
        }
        match RenewalError::from_all(broken) {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    fn files_of(&self, place: &Path) -> Result<Vec<PathBuf>, RenewalError> {
        if !self.browse.is_folder(place) {
            return Ok(vec![place.to_owned()]);
        }
        let own = place.join(bundle::CERTIFICATE);
        if self.files.exists(&own) {
            return Ok(vec![own]);
        }
        let inside = self.browse.folders(place).map_err(RenewalError::Folder)?;
        let all: Vec<PathBuf> = inside
            .iter()
            .map(|folder| folder.join(bundle::CERTIFICATE))
            .filter(|path| self.files.exists(path))
            .collect();
        if all.is_empty() {
            return Err(RenewalError::NoIdentity(place.to_owned()));
        }
        Ok(all)
    }

    fn read(&self, path: &Path) -> Result<Vec<Found>, IdentityError> {
        let real = if path.as_os_str() == "-" {
            Path::new("/dev/stdin")
        } else {
            path
        };
        let mut certificates = identity::certificates(self.files, real)?;
        if !self.bundle {
            certificates.truncate(1);
        }
        let found = |certificate| Found {
            path: path.to_owned(),
            certificate,
        };
        Ok(certificates.into_iter().map(found).collect())
    }
}

/// Why nothing can be said about a certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// A folder cannot be listed.
    #[error(transparent)]
    Folder(FileError),
    /// Several cannot be read.
    #[error("{count} certificates cannot be read; the first: {first}; the others: {others}")]
    Many {
        /// How many.
        count: usize,
        /// The first.
        #[source]
        first: IdentityError,
        /// The others, in words.
        others: String,
    },
    /// A folder without one.
    #[error("`{0}` holds no identity, and none of its folders does")]
    NoIdentity(PathBuf),
    /// One cannot be read.
    #[error(transparent)]
    One(IdentityError),
}

impl RenewalError {
    fn from_all(mut broken: Vec<IdentityError>) -> Option<Self> {
        if broken.is_empty() {
            return None;
        }
        let first = broken.remove(0);
        if broken.is_empty() {
            return Some(Self::One(first));
        }
        let others: Vec<String> = broken.iter().map(ToString::to_string).collect();
        Some(Self::Many {
            count: broken.len() + 1,
            first,
            others: others.join("; "),
        })
    }
}

impl Explain for RenewalError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Many { first, .. } | Self::One(first) => first.kind(),
            Self::NoIdentity(_) => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            Self::Many { first, .. } | Self::One(first) => first.code(),
            Self::NoIdentity(_) => "renewal.no-identity",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => error.hint(),
            Self::Many { first, .. } | Self::One(first) => first.hint(),
            Self::NoIdentity(_) => Some(format!(
                "name a certificate's file, or a folder with {} in it",
                bundle::CERTIFICATE
            )),
        }
    }
}
