//! Identity folders in bulk: plain writes, then one syncfs(2) for all of them.

use std::any::Any;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::core::bundle::File;
use crate::ports::FileError;
use crate::ports::folders::Folders;

/// The machine's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct BulkDisk;

fn failed(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| match source.kind() {
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => {
            FileError::Exists(path.to_owned())
        }
        _ => FileError::Write {
            path: path.to_owned(),
            source,
        },
    }
}

impl Folders for BulkDisk {
    fn write(&self, folder: &Path, files: &[File]) -> Result<(), FileError> {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder))?;
        for file in files {
            let path = folder.join(file.name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(file.secrecy.mode())
                .open(&path)
                .and_then(|mut open| open.write_all(&file.bytes))
                .map_err(failed(&path))?;
        }
        Ok(())
    }

    fn occupy(&self, place: &Path, leftovers: &Path) -> Result<Box<dyn Any>, FileError> {
        let open = fs::File::open(place).map_err(failed(place))?;
        if open.try_lock().is_ok() {
            self.remove(leftovers)?;
        }
        // A file system without locks leaves nothing to wait for.
        match open.lock_shared() {
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(failed(place)(error)),
            _ => Ok(Box::new(open)),
        }
    }

    fn remove_empty(&self, folder: &Path) {
        let _ = fs::remove_dir(folder);
    }

    fn sync(&self, place: &Path) -> Result<(), FileError> {
        fs::File::open(place)
            .and_then(|open| Ok(rustix::fs::syncfs(open)?))
            .map_err(failed(place))
    }

    fn sync_names(&self, folder: &Path) -> Result<(), FileError> {
        fs::File::open(folder)
            .and_then(|open| open.sync_all())
            .map_err(failed(folder))
    }

    fn place(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let moved = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // A file system without RENAME_NOREPLACE: a plain rename refuses a folder with content.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::rename(from, to),
            other => other.map_err(io::Error::from),
        };
        moved.map_err(failed(to))
    }

    fn remove(&self, folder: &Path) -> Result<(), FileError> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(folder)(error)),
            _ => Ok(()),
        }
    }
}
