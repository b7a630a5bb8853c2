//! A folder in which one process at a time does work that outlives it.

use std::any::Any;
use std::path::Path;

use super::FileError;

/// Work folders. What returns has reached the disk.
pub trait Work {
    /// Creates the folder with mode 0700 if it is missing, and holds it until dropped.
    ///
    /// # Errors
    /// `file.busy` when another process holds it, `file.write`.
    fn hold(&self, folder: &Path) -> Result<Box<dyn Any>, FileError>;

    /// Removes a folder and all in it, or a file; fine if it is not there.
    ///
    /// # Errors
    /// `file.write`.
    fn remove(&self, path: &Path) -> Result<(), FileError>;

    /// Overwrites a file's bytes, and removes it; fine if it is not there. What lay under it on a
    /// flash chip may outlive that.
    ///
    /// # Errors
    /// `file.write`.
    fn wipe(&self, path: &Path) -> Result<(), FileError>;
}
