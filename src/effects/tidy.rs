//! Removing files and empty folders from the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use super::files::Disk;
use crate::ports::{FileError, Tidy};

impl Tidy for Disk {
    fn remove_file(&self, path: &Path) -> Result<bool, FileError> {
        match fs::remove_file(path).and_then(|()| sync_parent(path)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(path, error)),
        }
    }

    fn remove_if_empty(&self, folder: &Path) -> Result<bool, FileError> {
        match fs::remove_dir(folder).and_then(|()| sync_parent(folder)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(failed(folder, error)),
        }
    }
}

fn failed(path: &Path, source: io::Error) -> FileError {
    FileError::Write {
        path: path.to_owned(),
        source,
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
