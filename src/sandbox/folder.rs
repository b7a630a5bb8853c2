//! The sandbox's durable folder: who may use it, what lies in it, and how a running one is found.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::admin::TOKEN;
use super::logs::{LogFile, OLD_LOGS, Record};
use crate::core::ids::{AccountId, Region};
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// The registry.
pub const STATE: &str = "state.sqlite";
/// Every record of what happened, one JSON object a line.
pub const LOGS: &str = "logs.ndjson";
/// The certificate that the MQTT endpoint's own certificate leads to, PEM.
pub const SERVER_CA: &str = "server-ca.pem";
/// Its key, PKCS#8 PEM, mode 0600.
pub const SERVER_CA_KEY: &str = "server-ca.key.pem";
const LOCK: &str = "lock";
const RUNNING: &str = "running.json";

/// How often the lock is tried while nobody says to have it.
const LOOKS: u32 = 50;
/// How long one who looks may take, several times over.
const LOOK: std::time::Duration = std::time::Duration::from_millis(10);
/// How much of the end of `logs.ndjson` is read to show what happened last: 256 KiB.
const TAIL_BYTES: u64 = 256 * 1024;

/// Where a running sandbox listens; `running.json`.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct RunningInfo {
    /// Its process.
    pub pid: u32,
    /// The control plane's URL.
    pub control_url: String,
    /// The MQTT endpoint's name: what the client must send as TLS server name.
    pub mqtt_host: Option<String>,
    /// The MQTT endpoint's port; `None` when only the control plane runs.
    pub mqtt_port: Option<u16>,
    /// The port of HTTPS publishes and of MQTT by ALPN, if there is one.
    #[serde(default)]
    pub https_port: Option<u16>,
    /// Other accounts and Regions with a port of their own for MQTT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlacePort>,
    /// The certificate that the MQTT endpoint is verified with, PEM.
    pub ca_file: Option<PathBuf>,
    /// The URL of its own interface, on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_url: Option<String>,
    /// The page's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui_url: Option<String>,
    /// The credentials that it knows, where it takes no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// The account it plays.
    pub account: AccountId,
    /// The Region it plays.
    pub region: Region,
    /// Since when.
    pub started: UtcTime,
}

/// Where the MQTT endpoint of another account or Region listens.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize)]
pub struct PlacePort {
    /// Its account.
    pub account: AccountId,
    /// Its Region.
    pub region: Region,
    /// Its port, where the endpoint's name is its own.
    pub mqtt_port: u16,
}

/// A state folder, held by this process alone until it is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Creates the folder if it is missing, and takes its lock.
    ///
    /// # Errors
    /// `sandbox.running` when another process holds it, `sandbox.state` when it cannot be used.
    pub fn take(path: &Path) -> Result<Self, FolderError> {
        let failed = |source| FolderError::io(path, source);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        let lock = open_lock(&path).map_err(failed)?;
        match patiently(&lock, &path) {
            Ok(()) => Ok(Self { path, lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::Running {
                pid: read_running(&path).map(|info| info.pid),
                path,
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where a file of this folder is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file that records are appended to.
    ///
    /// # Errors
    /// `sandbox.state`.
    pub fn logs(&self) -> Result<LogFile, FolderError> {
        let path = self.file(LOGS);
        LogFile::open(&path).map_err(|source| FolderError::io(&path, source))
    }

    /// A text file of this folder; `None` when it is not there.
    ///
    /// # Errors
    /// `sandbox.state`.
    pub fn read(&self, name: &str) -> Result<Option<String>, FolderError> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::io(&path, source)),
        }
    }

    /// Puts a file into the folder in one step, durably; `mode` is its permission bits from its
    /// first moment.
    ///
    /// # Errors
    /// `sandbox.state`.
    pub fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), FolderError> {
        let (path, temporary) = (self.file(name), self.file(&format!(".{name}.tmp")));
        let put = || -> io::Result<()> {
            let _ = fs::remove_file(&temporary);
            let mut options = OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.path)?.sync_all()
        };
        put().map_err(|source| FolderError::io(&path, source))
    }

    /// Says where this sandbox listens, for others to find.
    ///
    /// # Errors
    /// `sandbox.state`.
    pub fn announce(&self, info: &RunningInfo) -> Result<(), FolderError> {
        let text = serde_json::to_string_pretty(info).unwrap_or_default();
        self.write(RUNNING, &format!("{text}\n"), 0o600)
    }

    /// Takes back what [`Folder::announce`] said.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(self.file(RUNNING));
        let _ = fs::remove_file(self.file(TOKEN));
    }

    /// Removes everything a sandbox writes, and the folder if nothing else is in it.
    ///
    /// # Errors
    /// `sandbox.state`.
    pub fn erase(self) -> Result<Vec<PathBuf>, FolderError> {
        let sqlite = ["", "-wal", "-shm", "-journal"].map(|suffix| format!("{STATE}{suffix}"));
        let others = [
            LOGS,
            OLD_LOGS,
            TOKEN,
            SERVER_CA,
            SERVER_CA_KEY,
            RUNNING,
            LOCK,
        ]
        .map(str::to_owned);
        let mut removed = Vec::new();
        for name in sqlite.into_iter().chain(others) {
            let path = self.file(&name);
            match fs::remove_file(&path) {
                Ok(()) => removed.push(path),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(FolderError::io(&path, source)),
            }
        }
        let _ = fs::remove_dir(&self.path);
        Ok(removed)
    }
}

impl Drop for Folder {
    /// Gives the lock back by name: a child process that is just being started holds the same open
    /// file for a moment, and closing ours alone would leave the folder locked by it.
    fn drop(&mut self) {
        self.withdraw();
        let _ = self.lock.unlock();
    }
}

/// The sandbox that runs over this folder now; `None` when there is none.
pub fn find_running(path: &Path) -> Option<RunningInfo> {
    // Without its word nothing runs, and the lock need not be touched.
    let running = read_running(path)?;
    let lock = OpenOptions::new().read(true).open(path.join(LOCK)).ok()?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock_shared() {
        return Some(running);
    }
    let _ = lock.unlock();
    None
}

/// Erases the folders in `place` whose names begin with `prefix` and whose sandboxes were killed.
pub fn erase_abandoned(place: &Path, prefix: &str) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    for path in ours.map(|entry| entry.path()) {
        // One that has not said where it listens may be starting.
        if read_running(&path).is_some()
            && let Ok(folder) = Folder::take(&path)
        {
            let _ = folder.erase();
        }
    }
}

/// The last records of a folder that say `Failure`, oldest first, at most `most`.
pub fn last_failures(path: &Path, most: usize) -> Vec<Record> {
    let text = tail(&path.join(LOGS)).unwrap_or_default();
    let mut failures: Vec<Record> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(Record::failed)
        .collect();
    failures.split_off(failures.len().saturating_sub(most))
}

fn tail(path: &Path) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Takes the lock. Whoever only looks whether a sandbox runs holds it for a moment, and says
/// nothing of itself: that is waited out.
fn patiently(lock: &File, folder: &Path) -> Result<(), TryLockError> {
    for _ in 0..LOOKS {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if read_running(folder).is_none() => {
                std::thread::sleep(LOOK);
            }
            other => return other,
        }
    }
    lock.try_lock()
}

fn open_lock(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(folder.join(LOCK))
}

fn read_running(folder: &Path) -> Option<RunningInfo> {
    let text = fs::read_to_string(folder.join(RUNNING)).ok()?;
    serde_json::from_str(&text).ok()
}

/// A state folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process serves from it.
    #[error("a sandbox already runs over `{path}`{}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Running {
        /// The folder.
        path: PathBuf,
        /// Its process, if it says.
        pid: Option<u32>,
    },
    /// A file or folder cannot be read or written.
    #[error("the sandbox's state `{path}` cannot be used")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FolderError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::State {
            path: path.to_owned(),
            source,
        }
    }
}

impl Explain for FolderError {
    fn kind(&self) -> Kind {
        match self {
            Self::Running { .. } => Kind::Refused,
            Self::State { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Kind::Unavailable,
                _ => Kind::Input,
            },
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Running { .. } => "sandbox.running",
            Self::State { .. } => "sandbox.state",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Running { .. } => {
                Some("use the one that runs (`nameplate sandbox status`), or stop it first".into())
            }
            Self::State { .. } => Some("name another folder with --state".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_found_only_while_it_runs() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("sandbox");
        assert!(find_running(&path).is_none());
        let folder = Folder::take(&path).unwrap();
        let info = RunningInfo {
            pid: 7,
            control_url: "http://127.0.0.1:1".into(),
            mqtt_host: None,
            mqtt_port: None,
            places: Vec::new(),
            https_port: None,
            ca_file: None,
            admin_url: None,
            ui_url: None,
            credentials: None,
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            started: UtcTime::from_unix(0),
        };
        folder.announce(&info).unwrap();
        assert_eq!(find_running(&path).unwrap().pid, 7);
        let error = Folder::take(&path).unwrap_err();
        assert_eq!(error.code(), "sandbox.running");
        assert!(error.to_string().contains("process 7"), "{error}");
        drop(folder);
        assert!(find_running(&path).is_none());
        Folder::take(&path).unwrap().erase().unwrap();
        assert!(!path.exists());
    }

    /// A child that is being started inherits the open lock file until its program begins.
    #[test]
    fn a_folder_given_back_is_free_though_a_child_still_holds_its_file() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        let held_by_child = folder.lock.try_clone().unwrap();
        drop(folder);
        drop(Folder::take(place.path()).unwrap());
        drop(held_by_child);
    }

    #[test]
    fn who_only_looks_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        drop(Folder::take(place.path()).unwrap());
        let looker = open_lock(place.path()).unwrap();
        looker.try_lock_shared().unwrap();
        let path = place.path().to_owned();
        let taker = std::thread::spawn(move || Folder::take(&path).map(drop));
        std::thread::sleep(LOOK * 3);
        looker.unlock().unwrap();
        taker.join().unwrap().unwrap();
    }

    #[test]
    fn a_running_file_without_its_process_is_nobody() {
        let place = tempfile::tempdir().unwrap();
        drop(Folder::take(place.path()).unwrap());
        fs::write(place.path().join(RUNNING), "{}").unwrap();
        assert!(find_running(place.path()).is_none());
    }
}
