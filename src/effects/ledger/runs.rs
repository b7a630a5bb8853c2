//! Runs that issue: each is alive as long as it holds the lock on its own file beside the ledger,
//! which the kernel takes from it when its process dies.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::ports::ledger::{LedgerError, Run};

/// A living run; the file goes with it.
pub(super) struct LockedRun {
    id: String,
    path: PathBuf,
    _lock: File,
}

impl Run for LockedRun {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for LockedRun {
    fn drop(&mut self) {
        // A file that stays is unlocked, and its run counts as dead all the same.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes and locks the file of run `id`, which no other run had before, and takes away the files of
/// runs that died.
pub(super) fn begin(ledger: &Path, id: i64) -> Result<LockedRun, LedgerError> {
    let path = lock_file(ledger, &id.to_string());
    let failed = |e: std::io::Error| LedgerError::Database {
        path: ledger.to_owned(),
        why: format!("the run's lock file `{}`: {e}", path.display()),
        retry: e.kind() == std::io::ErrorKind::StorageFull,
    };
    let folder = path.parent().unwrap_or(ledger);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    clear(ledger, folder);
    Ok(LockedRun {
        id: id.to_string(),
        _lock: locked(&path).map_err(failed)?,
        path,
    })
}

/// Another process that clears may take the file away between making and locking it: then it has
/// no name any more, and is made again.
fn locked(path: &Path) -> std::io::Result<File> {
    loop {
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        lock.lock()?;
        let own = lock.metadata()?.ino();
        if std::fs::metadata(path).is_ok_and(|named| named.ino() == own) {
            return Ok(lock);
        }
    }
}

fn clear(ledger: &Path, folder: &Path) {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for name in names.map(|entry| entry.file_name()) {
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".lock")) {
            is_alive(ledger, id);
        }
    }
}

/// Whether the run's process is still there; the file of a dead one is taken away. When in doubt it is: its rows are then waited for.
pub(super) fn is_alive(ledger: &Path, id: &str) -> bool {
    let path = lock_file(ledger, id);
    match File::options().write(true).open(&path) {
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        Ok(file) => match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_file(&path);
                false
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
        },
    }
}

fn lock_file(ledger: &Path, id: &str) -> PathBuf {
    let mut folder = ledger.file_name().unwrap_or_default().to_owned();
    folder.push(".runs");
    ledger.with_file_name(folder).join(format!("{id}.lock"))
}
