//! Removing files, one by one and by name.

use std::path::Path;

use super::FileError;

/// Takes single files and empty folders away. What returns has reached the disk.
pub trait Tidy {
    /// Removes a file; `false` when there was none.
    ///
    /// # Errors
    /// `file.write`.
    fn remove_file(&self, path: &Path) -> Result<bool, FileError>;

    /// Removes a folder if nothing is in it; `false` when something is.
    ///
    /// # Errors
    /// `file.write`.
    fn remove_if_empty(&self, folder: &Path) -> Result<bool, FileError>;
}
