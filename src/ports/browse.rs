//! Looking around in folders.

use std::path::{Path, PathBuf};

use super::FileError;

/// Tells what is in a folder.
pub trait Browse {
    /// Whether there is a folder at this path; links are followed.
    fn is_folder(&self, path: &Path) -> bool;

    /// The folders directly inside, by name.
    ///
    /// # Errors
    /// `file.read`, `file.missing`.
    fn folders(&self, folder: &Path) -> Result<Vec<PathBuf>, FileError>;

    /// The files directly inside, by name.
    ///
    /// # Errors
    /// `file.read`, `file.missing`.
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, FileError>;
}
