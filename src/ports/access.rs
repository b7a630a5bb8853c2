//! Who may do what with a file.

use std::path::Path;

use super::FileError;

/// Sees and mends modes.
pub trait Access {
    /// Mode and owner of what is there, a symbolic link followed; `None` if it cannot be seen.
    fn of(&self, path: &Path) -> Option<FileAccess>;

    /// Sets the permission bits of a file or folder, which must not be a symbolic link.
    ///
    /// # Errors
    /// `file.write`.
    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), FileError>;

    /// The effective user and group of this process.
    fn process(&self) -> (u32, u32);
}

/// Mode and owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileAccess {
    /// Permission bits, such as 0o600.
    pub mode: u32,
    /// The owner's user id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
    /// Whether the name itself is a symbolic link.
    pub link: bool,
}
