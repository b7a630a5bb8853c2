//! Lists that are read more than once, and files that only grow.

use std::io::Read;
use std::path::Path;

use super::FileError;
use crate::core::bundle::Secrecy;

/// Opens lists and growing files.
pub trait Streams: Sync {
    /// What can be read from its start any number of times; `-` is stdin, kept in a temporary file.
    ///
    /// # Errors
    /// `file.missing`, `file.read`, `file.write`, `file.disk-full`.
    fn source(&self, path: &Path) -> Result<Box<dyn Source>, FileError>;

    /// A growing file, created with its mode when it is not there, and kept from other processes
    /// until it is dropped; `-` is stdout, which can neither be cut nor read.
    ///
    /// # Errors
    /// `file.busy` when another process has it open, `file.write`, `file.disk-full`.
    fn stream(&self, path: &Path, secrecy: Secrecy) -> Result<Box<dyn Stream>, FileError>;
}

/// Something to read from its start, any number of times.
pub trait Source: Sync {
    /// A fresh reader at the start.
    ///
    /// # Errors
    /// `file.read`.
    fn open(&self) -> Result<Box<dyn Read + Send>, FileError>;
}

/// A file that grows at its end.
pub trait Stream: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// `file.read`.
    fn length(&self) -> Result<u64, FileError>;

    /// Cuts it to this length, durably.
    ///
    /// # Errors
    /// `file.write`.
    fn cut(&self, length: u64) -> Result<(), FileError>;

    /// Puts bytes at its end; durable after [`Stream::sync`].
    ///
    /// # Errors
    /// `file.write`, `file.disk-full`.
    fn append(&self, bytes: &[u8]) -> Result<(), FileError>;

    /// Makes durable what was put there before, also while more is put there.
    ///
    /// # Errors
    /// `file.write`.
    fn sync(&self) -> Result<(), FileError>;

    /// A reader at its start.
    ///
    /// # Errors
    /// `file.read`.
    fn read(&self) -> Result<Box<dyn Read>, FileError>;
}
