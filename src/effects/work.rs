//! Work folders, held by flock(2).

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::files::Disk;
use crate::ports::{FileError, Work};

impl Work for Disk {
    fn hold(&self, folder: &Path) -> Result<Box<dyn Any>, FileError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed(folder, error))?;
        sync_parent(folder).map_err(|error| failed(folder, error))?;
        let open = File::open(folder).map_err(|error| failed(folder, error))?;
        match open.try_lock() {
            Ok(()) => {}
            // A file system without locks leaves nothing to hold.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(failed(folder, error)),
            Err(TryLockError::WouldBlock) => return Err(FileError::Busy(folder.to_owned())),
        }
        // The one who held it may have removed it meanwhile, and another made it anew.
        let held = open.metadata().map(|meta| meta.ino()).ok();
        let there = fs::metadata(folder).map(|meta| meta.ino()).ok();
        if held != there {
            return Err(FileError::Busy(folder.to_owned()));
        }
        Ok(Box::new(open))
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        let removed = match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed.and_then(|()| sync_parent(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| failed(path, error)),
        }
    }

    fn wipe(&self, path: &Path) -> Result<(), FileError> {
        let overwrite = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(path)?;
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
            file.write_all(&vec![0; length.min(1 << 20)])?;
            file.sync_all()
        };
        match overwrite() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| failed(path, error))?,
        }
        self.remove(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_a_folder_and_what_is_wiped_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("work");
        let held = Disk.hold(&folder).unwrap();
        assert!(matches!(Disk.hold(&folder), Err(FileError::Busy(_))));
        drop(held);
        let _held = Disk.hold(&folder).unwrap();
        let file = folder.join("secret");
        fs::write(&file, "x").unwrap();
        Disk.wipe(&file).unwrap();
        Disk.wipe(&file).unwrap();
        assert!(!file.exists());
        Disk.remove(&folder).unwrap();
        Disk.remove(&folder).unwrap();
        assert!(!folder.exists());
    }
}
