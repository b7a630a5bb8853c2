//! A sandbox's whole state as one file: a tar archive of the registry and the server's CA. It is
//! taken while the sandbox runs as well, in one consistent state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::folder::{Folder, FolderError, SERVER_CA, SERVER_CA_KEY, STATE};
use super::store::{Store, StoreError};
use crate::explain::{Explain, Kind};

/// The largest file of an archive: 4 GiB.
const MAX_FILE: u64 = 4 << 30;
/// What an archive holds: the name, its mode, and whether it must be there.
const PARTS: [(&str, u32, bool); 3] = [
    (STATE, 0o600, true),
    (SERVER_CA_KEY, 0o600, false),
    (SERVER_CA, 0o644, false),
];

/// Writes the state of the folder into a new file of mode 0600; answers the names in it.
///
/// # Errors
/// `sandbox.no-state`, `sandbox.snapshot`, `sandbox.snapshot-exists`, `sandbox.state`.
pub fn save(state: &Path, file: &Path) -> Result<Vec<&'static str>, SnapshotError> {
    let database = state.join(STATE);
    if !database.is_file() {
        return Err(SnapshotError::Nothing(state.to_owned()));
    }
    let failed = |source| SnapshotError::io(file, source);
    let name = file
        .file_name()
        .ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
    let partial = file.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let copy = partial.with_extension("sqlite");
    if file.exists() {
        return Err(SnapshotError::Exists(file.to_owned()));
    }
    let _ = (fs::remove_file(&copy), fs::remove_file(&partial));
    // SQLite makes the copy: the file must be private before there is anything in it.
    let saved = create(&copy).map_err(failed).and_then(|_| {
        Store::copy(&database, &copy)?;
        pack(state, &copy, &partial).map_err(failed)
    });
    let _ = fs::remove_file(&copy);
    // A link, not a rename: what somebody else has put there meanwhile is kept.
    let linked = saved.and_then(|names| match fs::hard_link(&partial, file) {
        Ok(()) => Ok(names),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(SnapshotError::Exists(file.to_owned()))
        }
        Err(error) => Err(failed(error)),
    });
    let _ = fs::remove_file(&partial);
    linked
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn pack(state: &Path, database: &Path, into: &Path) -> io::Result<Vec<&'static str>> {
    let mut archive = tar::Builder::new(create(into)?);
    let mut names = Vec::new();
    for (name, mode, _) in PARTS {
        let path = if name == STATE {
            database.to_owned()
        } else {
            state.join(name)
        };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(mode);
        header.set_cksum();
        archive.append_data(&mut header, name, &mut file)?;
        names.push(name);
    }
    archive.into_inner()?.sync_all()?;
    Ok(names)
}

/// Puts a snapshot's state in the place of the folder's own.
///
/// # Errors
/// `sandbox.running` while a sandbox runs over it, `sandbox.snapshot` when the file is no snapshot,
/// `sandbox.state*`. The folder is then as it was.
pub fn restore(file: &Path, folder: Folder) -> Result<Vec<&'static str>, SnapshotError> {
    let fresh = folder.file(".restore");
    let _ = fs::remove_dir_all(&fresh);
    let unpacked = unpack(file, &fresh).and_then(|names| {
        // Reads the database as the sandbox will, before anything is replaced.
        drop(Store::durable(&fresh.join(STATE))?);
        Ok(names)
    });
    let replaced = unpacked.and_then(|names| {
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(fresh.join(format!("{STATE}{suffix}")));
        }
        replace(&folder, &fresh, &names)?;
        Ok(names)
    });
    let _ = fs::remove_dir_all(&fresh);
    replaced
}

/// Moves the files; the registry last, so that a folder with the snapshot's registry has its CA.
fn replace(folder: &Folder, fresh: &Path, names: &[&'static str]) -> Result<(), SnapshotError> {
    let failed = |path: &Path, source| SnapshotError::io(path, source);
    for suffix in ["-wal", "-shm"] {
        let old = folder.file(&format!("{STATE}{suffix}"));
        match fs::remove_file(&old) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&old, error)),
            _ => {}
        }
    }
    for (name, ..) in PARTS.iter().rev() {
        let path = folder.file(name);
        let moved = if names.contains(name) {
            fs::rename(fresh.join(name), &path)
        } else {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                other => other,
            }
        };
        moved.map_err(|source| failed(&path, source))?;
    }
    Ok(())
}

fn unpack(file: &Path, into: &Path) -> Result<Vec<&'static str>, SnapshotError> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |source| SnapshotError::io(file, source);
    let mut archive = File::open(file).map_err(failed)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(into)
        .map_err(|source| SnapshotError::io(into, source))?;
    archive.rewind().map_err(failed)?;
    let mut archive = tar::Archive::new(archive);
    let mut names = Vec::new();
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let known = PARTS.iter().find(|(name, ..)| Path::new(name) == path);
        let Some((name, mode, _)) = known.filter(|(name, ..)| !names.contains(name)) else {
            let why = format!("it holds `{}`", path.display());
            return Err(SnapshotError::Foreign(file.to_owned(), why));
        };
        let mut options = OpenOptions::new();
        let mut out = options
            .write(true)
            .create_new(true)
            .mode(*mode)
            .open(into.join(name))
            .map_err(|source| SnapshotError::io(into, source))?;
        io::copy(&mut entry.by_ref().take(MAX_FILE), &mut out).map_err(failed)?;
        out.sync_all().map_err(failed)?;
        names.push(*name);
    }
    let missing = PARTS
        .iter()
        .find(|(name, _, needed)| *needed && !names.contains(name));
    match missing {
        None => Ok(names),
        Some((name, ..)) => {
            let why = format!("it holds no `{name}`");
            Err(SnapshotError::Foreign(file.to_owned(), why))
        }
    }
}

/// A snapshot that cannot be taken or put back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file is there already.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// The state folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The file is no snapshot.
    #[error("`{}` is not a snapshot of a sandbox: {}", .0.display(), .1)]
    Foreign(PathBuf, String),
    /// A file that cannot be read or written.
    #[error("`{}` cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no state to save.
    #[error("there is no sandbox state in `{}`", .0.display())]
    Nothing(PathBuf),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SnapshotError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl Explain for SnapshotError {
    fn kind(&self) -> Kind {
        match self {
            Self::Exists(_) => Kind::Refused,
            Self::Folder(error) => error.kind(),
            Self::Foreign(..) | Self::Nothing(_) => Kind::Input,
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Unavailable,
                _ => Kind::Input,
            },
            Self::Store(error) => error.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Exists(_) => "sandbox.snapshot-exists",
            Self::Folder(error) => error.code(),
            Self::Foreign(..) | Self::Io { .. } => "sandbox.snapshot",
            Self::Nothing(_) => "sandbox.no-state",
            Self::Store(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(_) => Some("name another file; snapshots are never overwritten".into()),
            Self::Folder(error) => error.hint(),
            Self::Foreign(..) => Some("name a file that `sandbox snapshot` wrote".into()),
            Self::Io { .. } => None,
            Self::Nothing(_) => {
                Some("one that was started with --ephemeral keeps none there".into())
            }
            Self::Store(error) => error.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_snapshot_brings_the_state_back_and_nothing_else_is_one() {
        let place = tempfile::tempdir().unwrap();
        let (state, file) = (place.path().join("state"), place.path().join("snap.tar"));
        assert_eq!(save(&state, &file).unwrap_err().code(), "sandbox.no-state");
        let folder = Folder::take(&state).unwrap();
        drop(Store::durable(&folder.file(STATE)).unwrap());
        folder.write(SERVER_CA_KEY, "key", 0o600).unwrap();
        folder.write(SERVER_CA, "certificate", 0o644).unwrap();
        // Taken while the folder is in use.
        assert_eq!(save(&state, &file).unwrap().len(), 3);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = save(&state, &file).unwrap_err();
        assert_eq!(error.code(), "sandbox.snapshot-exists");
        let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");

        folder.write(SERVER_CA_KEY, "other", 0o600).unwrap();
        let junk = place.path().join("junk");
        fs::write(&junk, "x".repeat(2000)).unwrap();
        assert!(restore(&junk, folder).is_err());
        assert_eq!(
            fs::read_to_string(state.join(SERVER_CA_KEY)).unwrap(),
            "other"
        );
        restore(&file, Folder::take(&state).unwrap()).unwrap();
        assert_eq!(
            fs::read_to_string(state.join(SERVER_CA_KEY)).unwrap(),
            "key"
        );
        let mode = fs::metadata(state.join(SERVER_CA_KEY))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);

        let mut archive = tar::Builder::new(File::create(&junk).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_cksum();
        archive.append_data(&mut header, "lock", &b"x"[..]).unwrap();
        drop(archive.into_inner().unwrap());
        let error = restore(&junk, Folder::take(&state).unwrap()).unwrap_err();
        assert!(error.to_string().contains("it holds `lock`"), "{error}");
    }
}
