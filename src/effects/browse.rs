//! Looking around in folders of the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::Disk;
use crate::ports::{Browse, FileError};

impl Browse for Disk {
    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn folders(&self, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
        inside(folder, Path::is_dir)
    }

    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, FileError> {
        inside(folder, Path::is_file)
    }
}

fn inside(folder: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => FileError::Missing(folder.to_owned()),
        _ => FileError::Read {
            path: folder.to_owned(),
            source,
        },
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
