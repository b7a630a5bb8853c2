//! `device batch`: intents → keys and certificates → output, durable → confirmations, with the mark up
//! to which the output is vouched for. One transaction confirms a group of blocks and claims the
//! next. Threads work on blocks of their own, so that one's keys are made while another waits for
//! the disk.
//!
//! A process killed anywhere leaves intents. Of a stream, what follows the mark is cut
//! off, and those intents are given up and made anew. Of folders, each is in its place whole
//! (confirmed by the next run) or not at all (given up). Never half an identity, never two.

mod claims;
mod commit;
mod error;
mod list;
mod make;
mod sink;
mod tickets;
mod work;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use error::BatchError;
pub use list::{Checked, ListCheck, OpenRows, OrderOf};

use crate::core::draft::stamp::Stamp;
use crate::core::draft::{DraftSpec, Extras, Purpose};
use crate::core::handover::{Authority, Shape};
use crate::core::ids::{CertificateId, hex};
use crate::core::key::{KeyAlgorithm, PrivateKey};
use crate::core::record::{CertificateRecord, IdentityPurpose, SerialKey};
use crate::core::subject::Subject;
use crate::core::time::Validity;
use crate::flows::issuer::{Issuer, IssuerError};
use crate::ports::folders::Folders;
use crate::ports::ledger::{Ledger, LedgerError};
use crate::ports::streams::Streams;
use crate::ports::{Clock, Entropy, FileError, Files, Keygen};

use sink::Sink;
use work::Work;

/// The most devices placed with one sync, in folders.
pub const BLOCK: usize = 512;
/// The fewest, unless the list is shorter: below this, syncs cost more than what they save.
const MIN_BLOCK: usize = 64;
/// Devices in one block of a stream.
const STREAM_BLOCK: usize = 256;
/// Blocks that are synced and confirmed together.
const GROUP: usize = 5;
/// The folder beside the identities where they are made; gone when the run is over.
pub const STAGING: &str = ".nameplate-staging";

/// What the flow may use.
pub struct DeviceBatch<'a> {
    /// The time.
    pub clock: &'a (dyn Clock + Sync),
    /// Serial numbers.
    pub entropy: &'a (dyn Entropy + Sync),
    /// The disk.
    pub files: &'a (dyn Files + Sync),
    /// The disk, in bulk.
    pub folders: &'a dyn Folders,
    /// Outputs that grow.
    pub streams: &'a dyn Streams,
    /// Makes keys, on every core.
    pub keygen: &'a (dyn Keygen + Sync),
    /// The record.
    pub ledger: &'a (dyn Ledger + Sync),
    /// How many threads take blocks.
    pub threads: usize,
}

/// One device to issue.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its name; also its folder's.
    pub device: String,
    /// Its subject.
    pub subject: Subject,
    /// Its own subjectAltName entries, where they vary from device to device; else empty.
    pub alternative_names: Vec<String>,
}

/// What is asked.
pub struct Request<'a> {
    /// Opens the list, which was checked whole.
    pub rows: OpenRows<'a>,
    /// What a row asks for.
    pub order: OrderOf<'a>,
    /// How many devices the list has.
    pub total: u64,
    /// The folder that gets one folder for each device, or the stream; absolute. `-` is stdout.
    pub out: &'a Path,
    /// How identities are handed over.
    pub shape: Shape,
    /// Protects PKCS#12 files.
    pub password: Option<&'a str>,
    /// Where to write down what was issued, signed by the CA; absolute.
    pub manifest: Option<&'a Path>,
    /// The window of every certificate.
    pub validity: Validity,
    /// P-256 or P-384.
    pub algorithm: KeyAlgorithm,
    /// Decides key usage and extended key usage.
    pub purpose: Purpose,
    /// subjectAltName entries that all devices share.
    pub alternative_names: Vec<String>,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
    /// Who signs.
    pub issuer: Issuer<'a>,
    /// The batch's name in the ledger.
    pub batch: &'a str,
    /// Refuse a device that has an identity, instead of skipping it.
    pub fail_if_exists: bool,
}

/// How far it got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Tally {
    /// New identities.
    pub issued: usize,
    /// Identities that an earlier, broken run had placed and this one confirmed.
    pub finished: usize,
    /// Devices that had a live identity already.
    pub skipped: usize,
    /// Of those, the ones whose key is no longer where it was put.
    pub moved: usize,
}

impl Tally {
    /// Devices that are done.
    pub fn done(&self) -> usize {
        self.issued + self.finished + self.skipped
    }
}

/// How a device came by its identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// This run issued it.
    Issued,
    /// An earlier run had put it in place; this one confirmed it.
    Finished,
    /// It had one before.
    Skipped,
}

/// One device and its identity.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Done {
    /// The device's name.
    pub name: String,
    /// How it came by its identity.
    pub standing: Standing,
    /// The certificate's id.
    pub certificate_id: CertificateId,
    /// The serial number, lower hex.
    pub serial: String,
    /// From when to when it is valid.
    #[serde(flatten)]
    pub validity: Validity,
    /// Where its files are; `None` in a stream.
    pub folder: Option<PathBuf>,
}

/// Hears how the work goes on, from any thread.
pub trait Watch: Sync {
    /// Whether [`Watch::done`] is to be told.
    fn listens(&self) -> bool;
    /// These devices have their identity; each device is told once, in no particular order.
    fn done(&self, devices: &[Done]);
    /// After each block.
    fn progress(&self, tally: Tally);
    /// This many devices are being issued by another process, which is waited for.
    fn waiting(&self, devices: usize);
}

/// An identity that was made and is not yet in its place.
struct Made {
    order: Order,
    key: SerialKey,
    id: CertificateId,
    private: PrivateKey,
    der: Vec<u8>,
}

impl DeviceBatch<'_> {
    /// Issues every order that has no live identity.
    ///
    /// # Errors
    /// `ledger.live` with `fail_if_exists` and `file.exists`, before anything is issued;
    /// `output.short`, `file.busy`; what the parts say, with how far it got.
    pub fn run(&self, request: &Request<'_>, watch: &dyn Watch) -> Result<Tally, BatchError> {
        let window = request.issuer.window(self.clock.now())?;
        if !window.covers(&request.validity) {
            return Err(BatchError::Issuer(IssuerError::Empty));
        }
        let stamp = self.stamp(request)?;
        let run = self.ledger.begin_run(self.clock.now())?;
        let folders = !request.shape.is_stream();
        if folders {
            self.files.create_dir(request.out)?;
        }
        if folders || request.fail_if_exists {
            self.survey(request)?;
        }
        let root = request.out.join(STAGING);
        let _occupied = folders
            .then(|| self.folders.occupy(request.out, &root))
            .transpose()?;
        let staging = root.join(self.random_name());
        if folders {
            self.files.create_dir(&staging)?;
        }
        let sink = Sink::open((self, &*run), request)?;
        let work = Work::new((self, request, watch), (stamp, &*run, staging), sink)?;
        let outcome = work.all();
        let cleared = if folders {
            let cleared = self.folders.remove(&work.staging);
            self.folders.remove_empty(&root);
            cleared
        } else {
            Ok(())
        };
        let tally = work.tally();
        let ended = outcome.and_then(|()| work.into_sink().finish(self, request));
        if let Err(source) = ended {
            return Err(BatchError::Stopped {
                done: tally.done(),
                total: request.total,
                source: Box::new(source),
            });
        }
        cleared?;
        Ok(tally)
    }

    /// The part of a certificate that all devices share.
    fn stamp(&self, request: &Request<'_>) -> Result<Stamp, BatchError> {
        let view = request.issuer.view()?;
        let (_, public) = self
            .keygen
            .generate(request.algorithm)
            .map_err(BatchError::Key)?;
        let spec = DraftSpec {
            subject: Subject::common_name("device"),
            serial: [1; 16],
            validity: request.validity,
            public_key: &public,
            purpose: request.purpose,
            alternative_names: request.alternative_names.clone(),
            extras: request.extras.clone(),
        };
        Ok(Stamp::new(&spec, &view)?)
    }

    fn random_name(&self) -> String {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        hex(&random)
    }

    /// Refuses, before anything is issued, a device that has an identity and must not, and a
    /// folder that the ledger knows nothing of: it is not ours to touch.
    fn survey(&self, request: &Request<'_>) -> Result<(), BatchError> {
        let mut rows = (request.rows)()?.flatten();
        loop {
            let block: Vec<_> = rows.by_ref().take(BLOCK).collect();
            if block.is_empty() {
                return Ok(());
            }
            let names: Vec<&str> = block.iter().map(|row| row.name.as_str()).collect();
            let live = self.live(&names)?;
            if let Some(record) = live.values().find(|record| record.id.is_some())
                && request.fail_if_exists
            {
                return Err(BatchError::Ledger(LedgerError::Live {
                    device: record.device.clone(),
                    purpose: record.purpose,
                }));
            }
            for name in names.iter().filter(|name| !live.contains_key(**name)) {
                let folder = request.out.join(name);
                let stranger = !request.shape.is_stream() && self.files.exists(&folder);
                // Another process may have put it there since.
                if stranger && self.live(&[name])?.is_empty() {
                    return Err(BatchError::File(FileError::Exists(folder)));
                }
            }
        }
    }

    fn live(&self, names: &[&str]) -> Result<HashMap<String, CertificateRecord>, BatchError> {
        let live = self.ledger.live(names, IdentityPurpose::Operational)?;
        let keyed = |record: CertificateRecord| (record.device.clone(), record);
        Ok(live.into_iter().map(keyed).collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What threads share is changed in one step each, so one that died left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
