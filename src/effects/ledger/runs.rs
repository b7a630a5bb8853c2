//! Runs that issue: each is alive as long as it holds the lock on its own file beside the ledger,
//! which the kernel takes from it when its process dies.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::sql::{Fault, is_passing};
use crate::ports::ledger::Run;

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

/// Makes and locks the file of run `id`, which no other run had before. It gets its name once it is
/// locked: whoever finds an unlocked file by such a name knows that its run is dead.
pub(super) fn begin(ledger: &Path, id: i64) -> Result<LockedRun, Fault> {
    let path = lock_file(ledger, id);
    let failed = |e: std::io::Error| Fault {
        why: format!("the run's lock file `{}`: {e}", path.display()),
        retry: is_passing(&e),
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    clear(folder);
    let unnamed = path.with_extension("new");
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&unnamed)
        .map_err(failed)?;
    lock.lock().map_err(failed)?;
    std::fs::rename(&unnamed, &path).map_err(failed)?;
    Ok(LockedRun {
        id: id.to_string(),
        path: path.clone(),
        _lock: lock,
    })
}

/// Removes what dead runs left.
fn clear(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.extension().is_some_and(|ending| ending == "lock") {
            held(&path);
        }
    }
}

/// Whether the run's process is still there. When in doubt it is: its rows are then waited for.
pub(super) fn is_alive(ledger: &Path, id: i64) -> bool {
    held(&lock_file(ledger, id))
}

/// Whether a process holds the lock; a file that none holds is removed.
fn held(path: &Path) -> bool {
    match File::options().write(true).open(path) {
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        Ok(file) => match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_file(path);
                false
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
        },
    }
}

fn lock_file(ledger: &Path, id: i64) -> PathBuf {
    let mut folder = ledger.file_name().unwrap_or_default().to_owned();
    folder.push(".runs");
    ledger.with_file_name(folder).join(format!("{id}.lock"))
}
