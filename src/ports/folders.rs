//! Many small folders written fast and made durable together.

use std::any::Any;
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

    /// Keeps `place` in use until the answer is dropped, beside other processes that use it. What
    /// is in `leftovers` is removed when nobody else does: its makers are dead.
    ///
    /// # Errors
    /// `file.write`.
    fn occupy(&self, place: &Path, leftovers: &Path) -> Result<Box<dyn Any>, FileError>;

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

    /// Removes a folder if it is empty.
    fn remove_empty(&self, folder: &Path);

    /// Removes a folder and all in it; fine if it is not there.
    ///
    /// # Errors
    /// `file.write`.
    fn remove(&self, folder: &Path) -> Result<(), FileError>;
}
