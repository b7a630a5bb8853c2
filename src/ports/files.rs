//! Files and folders. Every write that returns has reached the disk.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::core::bundle::Secrecy;
use crate::explain::{Explain, Kind};

/// Reads and writes whole files.
pub trait Files {
    /// Reads a file of at most `max_bytes`; zeroized when dropped.
    ///
    /// # Errors
    /// `file.read`, `file.missing`, `file.size`.
    fn read(&self, path: &Path, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, FileError>;

    /// Writes a file that must not exist yet, with its mode set at creation, synced to disk. A
    /// failure in the middle leaves no file.
    ///
    /// # Errors
    /// `file.exists`, `file.write`.
    fn write_new(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError>;

    /// Puts a file in place of whatever is there: temporary file, sync, rename, sync of the folder.
    ///
    /// # Errors
    /// `file.write`.
    fn replace(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError>;

    /// Creates a folder of mode 0700 and its parents; fine if it exists.
    ///
    /// # Errors
    /// `file.write`.
    fn create_dir(&self, path: &Path) -> Result<(), FileError>;

    /// Whether anything is at this path.
    fn exists(&self, path: &Path) -> bool;

    /// The permission bits of a file (such as 0o600); `None` if it cannot be read.
    fn mode(&self, path: &Path) -> Option<u32>;
}

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// In use.
    #[error("another process is writing `{0}`")]
    Busy(PathBuf),
    /// Would overwrite.
    #[error("`{0}` already exists")]
    Exists(PathBuf),
    /// Not there.
    #[error("`{0}` does not exist")]
    Missing(PathBuf),
    /// Could not be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Larger than the reader allows.
    #[error("`{path}` is larger than {max_bytes} bytes")]
    Size {
        /// The file.
        path: PathBuf,
        /// The bound.
        max_bytes: u64,
    },
    /// Could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Explain for FileError {
    fn kind(&self) -> Kind {
        match self {
            Self::Busy(_) => Kind::Unavailable,
            Self::Exists(_) => Kind::Refused,
            Self::Write { source, .. } if is_full(source) || is_failing(source) => {
                Kind::Unavailable
            }
            Self::Read { source, .. } if is_failing(source) => Kind::Unavailable,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Busy(_) => "file.busy",
            Self::Exists(_) => "file.exists",
            Self::Missing(_) => "file.missing",
            Self::Read { .. } => "file.read",
            Self::Size { .. } => "file.size",
            Self::Write { source, .. } if is_full(source) => "file.disk-full",
            Self::Write { .. } => "file.write",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy(_) => Some("wait until it is done, or name another output".into()),
            Self::Exists(_) => {
                Some("move it away, or choose another place; keys are never overwritten".into())
            }
            Self::Write { source, .. } if is_full(source) => {
                Some("make room on this disk, then run the same command again".into())
            }
            Self::Read { source, .. } | Self::Write { source, .. } if is_failing(source) => {
                Some("the disk failed; look at `dmesg`, then run the same command again".into())
            }
            _ => None,
        }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// EIO: the device under the file system failed, for now or for good.
fn is_failing(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(5)
}
