//! Many small folders written fast and made durable together.

use std::path::Path;

use super::FileError;
use crate::core::bundle::File;

/// Writes identity folders in bulk. Nothing is durable before [`Folders::sync`] returns.
pub trait Folders: Sync {
    /// Writes a new folder (mode 0700) with these files, each with its mode at creation.
    ///
    /// # Errors
    /// `file.write`, `file.disk-full`.
    fn write(&self, folder: &Path, files: &[File]) -> Result<(), FileError>;

    /// Makes everything written to the file system of `place` durable.
    ///
    /// # Errors
    /// `file.write`.
    fn sync(&self, place: &Path) -> Result<(), FileError>;

    /// Makes the names in one folder durable.
    ///
    /// # Errors
    /// `file.write`.
    fn sync_names(&self, folder: &Path) -> Result<(), FileError>;

    /// Moves a folder to a name that is free.
    ///
    /// # Errors
    /// `file.exists`, `file.write`.
    fn place(&self, from: &Path, to: &Path) -> Result<(), FileError>;

    /// Removes a folder and all in it; fine if it is not there.
    ///
    /// # Errors
    /// `file.write`.
    fn remove(&self, folder: &Path) -> Result<(), FileError>;
}
