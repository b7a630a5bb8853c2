//! Folders that change places, by renameat2(2).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::ports::{FileError, Swap};

/// The machine's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct FolderSwap;

impl Swap for FolderSwap {
    fn exchange(&self, one: &Path, other: &Path) -> Result<bool, FileError> {
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => sync_parent(one).map(|()| true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(write_error(one, error.into())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => sync_parent(to),
            Err(Errno::EXIST) => Err(FileError::Exists(to.to_owned())),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => plain_rename(from, to),
            Err(error) => Err(write_error(from, error.into())),
        }
    }
}

/// For file systems without `RENAME_NOREPLACE`: rename(2) replaces an empty folder only.
fn plain_rename(from: &Path, to: &Path) -> Result<(), FileError> {
    if to.symlink_metadata().is_ok() {
        return Err(FileError::Exists(to.to_owned()));
    }
    std::fs::rename(from, to).map_err(|error| write_error(from, error))?;
    sync_parent(to)
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| write_error(path, error))
}

fn write_error(path: &Path, source: io::Error) -> FileError {
    FileError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_change_places_and_never_cover_one_another() {
        let place = tempfile::tempdir().unwrap();
        let (one, other, third) = (
            place.path().join("a"),
            place.path().join("b"),
            place.path().join("c"),
        );
        for (folder, text) in [(&one, "1"), (&other, "2")] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("file"), text).unwrap();
        }
        assert!(FolderSwap.exchange(&one, &other).unwrap());
        assert_eq!(std::fs::read_to_string(one.join("file")).unwrap(), "2");
        assert!(matches!(
            FolderSwap.rename(&one, &other),
            Err(FileError::Exists(_))
        ));
        FolderSwap.rename(&one, &third).unwrap();
        assert_eq!(std::fs::read_to_string(third.join("file")).unwrap(), "2");
    }
}
