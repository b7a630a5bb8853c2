//! Folders that change places.

use std::path::Path;

use super::FileError;

/// Moves whole folders and files on one file system. What returns has reached the disk.
pub trait Swap {
    /// Exchanges two folders in one step; `false` when this file system cannot.
    ///
    /// # Errors
    /// `file.write`.
    fn exchange(&self, one: &Path, other: &Path) -> Result<bool, FileError>;

    /// Renames a folder or a file; its new name must be free.
    ///
    /// # Errors
    /// `file.exists`, `file.write`.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;
}
