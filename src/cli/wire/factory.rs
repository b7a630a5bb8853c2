//! The adapters behind everything that issues: disk, clock, randomness, keys and the ledger.

use std::path::{Path, PathBuf};

use super::super::settings::Settings;
use crate::core::key::{KeyError, PrivateKey};
use crate::core::ledger_place::LedgerPlace;
use crate::effects::clock::SystemClock;
use crate::effects::entropy::OsEntropy;
use crate::effects::files::Disk;
use crate::effects::folders::BulkDisk;
use crate::effects::keys::{LocalSigner, RingKeys};
#[cfg(feature = "postgres")]
use crate::effects::ledger::postgres;
use crate::effects::ledger::sqlite;
use crate::effects::passphrase::UserPassphrases;
use crate::effects::streams::DiskStreams;
use crate::effects::swap::FolderSwap;
use crate::explain::Failure;
#[cfg(not(feature = "postgres"))]
use crate::explain::Kind;
use crate::flows::device_batch::DeviceBatch;
use crate::flows::device_issue::DeviceIssue;
use crate::ports::ledger::Ledger;
use crate::ports::{Passphrases, Signer};

/// What issuing commands act through.
pub(in crate::cli) struct Factory {
    pub(in crate::cli) clock: SystemClock,
    pub(in crate::cli) entropy: OsEntropy,
    pub(in crate::cli) files: Disk,
    pub(in crate::cli) folders: BulkDisk,
    pub(in crate::cli) keygen: RingKeys,
    pub(in crate::cli) ledger: Box<dyn Ledger + Send + Sync>,
    pub(in crate::cli) streams: DiskStreams,
    pub(in crate::cli) swap: FolderSwap,
}

impl Factory {
    /// Over the project's ledger.
    pub(in crate::cli) fn open(settings: &Settings) -> Result<Self, Failure> {
        Self::over(&settings.ledger()?)
    }

    /// The disk alone, for what needs no project yet.
    pub(in crate::cli) fn disk() -> Disk {
        Disk
    }

    /// Lists alone, for what needs no project.
    pub(in crate::cli) fn lists() -> DiskStreams {
        DiskStreams
    }

    /// Over this ledger.
    pub(in crate::cli) fn over(ledger: &LedgerPlace) -> Result<Self, Failure> {
        Ok(Self {
            clock: SystemClock,
            entropy: OsEntropy::default(),
            files: Disk,
            folders: BulkDisk,
            keygen: RingKeys::default(),
            ledger: open_ledger(ledger)?,
            streams: DiskStreams,
            swap: FolderSwap,
        })
    }
}

fn open_ledger(place: &LedgerPlace) -> Result<Box<dyn Ledger + Send + Sync>, Failure> {
    match place {
        LedgerPlace::File(path) => Ok(Box::new(sqlite::open(path)?)),
        #[cfg(feature = "postgres")]
        LedgerPlace::Server(access) => Ok(Box::new(postgres::open(access)?)),
        #[cfg(not(feature = "postgres"))]
        LedgerPlace::Server(access) => Err(Failure::new(
            Kind::Input,
            "ledger.no-postgres",
            format!(
                "`{}` is a PostgreSQL server, and this nameplate was built without it",
                access.url
            ),
        )
        .hint("build it with `--features postgres`, or name a file")),
    }
}

/// Where passphrases come from.
pub(in crate::cli) fn passphrases() -> impl Passphrases {
    UserPassphrases
}

impl Factory {
    /// Issues one identity.
    pub(in crate::cli) fn issue(&self) -> DeviceIssue<'_> {
        DeviceIssue {
            clock: &self.clock,
            entropy: &self.entropy,
            files: &self.files,
            keygen: &self.keygen,
            ledger: &*self.ledger,
            signer_of: &signer_of,
        }
    }

    /// Issues many identities, on every core.
    pub(in crate::cli) fn batch(&self) -> DeviceBatch<'_> {
        DeviceBatch {
            clock: &self.clock,
            entropy: &self.entropy,
            files: &self.files,
            folders: &self.folders,
            keygen: &self.keygen,
            streams: &self.streams,
            ledger: &*self.ledger,
            threads: threads(),
        }
    }
}

/// How many threads work at once: one for each core.
pub(in crate::cli) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A signer over a private key in this process.
pub(in crate::cli) fn signer_of(key: &PrivateKey) -> Result<Box<dyn Signer>, KeyError> {
    Ok(Box::new(LocalSigner::new(key)?))
}

/// A path as people read it: without the present folder in front.
pub(in crate::cli) fn shown(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    [here.as_path(), Path::new(".")]
        .into_iter()
        .find_map(|front| path.strip_prefix(front).ok())
        .filter(|rest| !rest.as_os_str().is_empty())
        .unwrap_or(path)
        .to_owned()
}
