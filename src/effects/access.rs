//! Modes and owners on the disk.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::files::Disk;
use crate::ports::{Access, FileAccess, FileError};

impl Access for Disk {
    fn of(&self, path: &Path) -> Option<FileAccess> {
        let link = path.symlink_metadata().ok()?.is_symlink();
        let there = path.metadata().ok()?;
        Some(FileAccess {
            mode: there.mode() & 0o7777,
            uid: there.uid(),
            gid: there.gid(),
            link,
        })
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        let go = || -> std::io::Result<()> {
            // Opened without following a link, so that nothing else is changed in its place.
            let file: File = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)?;
            file.set_permissions(Permissions::from_mode(mode))
        };
        go().map_err(|source| FileError::Write {
            path: path.to_owned(),
            source,
        })
    }

    fn process(&self) -> (u32, u32) {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    }
}
