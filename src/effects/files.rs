//! The disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::core::bundle::Secrecy;
use crate::ports::{FileError, Files};

/// The machine's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let failed = |source: io::Error| match source.kind() {
            ErrorKind::NotFound => FileError::Missing(path.to_owned()),
            _ => FileError::Read {
                path: path.to_owned(),
                source,
            },
        };
        let file = File::open(path).map_err(failed)?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > max_bytes {
            return Err(FileError::Size {
                path: path.to_owned(),
                max_bytes,
            });
        }
        Ok(bytes)
    }

    fn write_new(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
        let failed = |source: io::Error| match source.kind() {
            ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
            _ => FileError::Write {
                path: path.to_owned(),
                source,
            },
        };
        if self.exists(path) {
            return Err(FileError::Exists(path.to_owned()));
        }
        // Written without a name, so that a process killed here leaves nothing.
        match write_unnamed(path, bytes, secrecy) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(source) => return Err(failed(source)),
        }
        let temporary = temporary_beside(path);
        let go = || -> io::Result<()> {
            write_temporary(&temporary, bytes, secrecy)?;
            rename_new(&temporary, path)?;
            sync_parent(path)
        };
        go().map_err(|source| {
            let _ = fs::remove_file(&temporary);
            failed(source)
        })
    }

    fn replace(&self, path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), FileError> {
        let temporary = temporary_beside(path);
        let go = || -> io::Result<()> {
            write_temporary(&temporary, bytes, secrecy)?;
            fs::rename(&temporary, path)?;
            sync_parent(path)
        };
        go().map_err(|source| {
            let _ = fs::remove_file(&temporary);
            FileError::Write {
                path: path.to_owned(),
                source,
            }
        })
    }

    fn create_dir(&self, path: &Path) -> Result<(), FileError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| FileError::Write {
                path: path.to_owned(),
                source,
            })
    }

    fn exists(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        fs::metadata(path)
            .ok()
            .map(|meta| meta.permissions().mode() & 0o7777)
    }
}

/// Writes a file that gets its name when all of it is on the disk. False, and nothing done, where the
/// file system has no files without a name (O_TMPFILE), or /proc is not there to name them by.
fn write_unnamed(path: &Path, bytes: &[u8], secrecy: Secrecy) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
    use rustix::io::Errno;
    let folder = parent(path);
    let mode = Mode::from_raw_mode(secrecy.mode());
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let Ok(descriptor) = open(folder, flags, mode) else {
        return Ok(false);
    };
    let mut file = File::from(descriptor);
    file.write_all(bytes)?;
    file.sync_all()?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, &unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    sync_parent(path)?;
    Ok(true)
}

fn write_temporary(path: &Path, bytes: &[u8], secrecy: Secrecy) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_new(path, secrecy)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames without replacing: RENAME_NOREPLACE, or a hard link where a file system lacks it.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        other => Ok(other?),
    }
}

fn create_new(path: &Path, secrecy: Secrecy) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(secrecy.mode())
        .open(path)
}

/// A name in the same folder, so that the rename stays on one file system.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Makes a new name in a folder durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent();
    parent
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
