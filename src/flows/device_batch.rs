//! `device batch`: for each block, intents in one transaction → keys, signatures and staging folders
//! → one sync → each folder into its place → confirmations in one transaction. Threads work on
//! blocks of their own, so that one's keys are made while another waits for the disk.
//!
//! A process killed anywhere leaves one of: an intent without a folder in place (given up and
//! redone), or an intent with its whole folder in place (confirmed). Never half a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::draft::{Draft, DraftError, DraftSpec, IssuerView, Purpose};
use crate::core::ids::{CertificateId, hex};
use crate::core::key::{KeyAlgorithm, KeyError};
use crate::core::record::{
    CertificateRecord, CertificateState, IdentityPurpose, Intent, SerialKey,
};
use crate::core::subject::Subject;
use crate::core::time::Validity;
use crate::explain::{Explain, Kind};
use crate::flows::device_issue::{belongs, saved};
use crate::flows::issuer::{Issuer, IssuerError, IssuerText, key_file};
use crate::ports::folders::Folders;
use crate::ports::ledger::{Confirmation, Ledger, LedgerError};
use crate::ports::{Clock, Entropy, FileError, Files, Keygen, SignError};

/// The most devices in one transaction and one sync.
pub const BLOCK: usize = 512;
/// The fewest, unless the list is shorter: below this, syncs cost more than what they save.
const MIN_BLOCK: usize = 64;
/// The folder beside the identities where they are made; gone when the run is over.
pub const STAGING: &str = ".nameplate-staging";

/// What the flow may use. Threads take turns at the ledger, so that one block's keys are made
/// while another's transaction waits for the disk.
pub struct DeviceBatch<'a> {
    /// The time.
    pub clock: &'a (dyn Clock + Sync),
    /// Serial numbers.
    pub entropy: &'a (dyn Entropy + Sync),
    /// The disk.
    pub files: &'a (dyn Files + Sync),
    /// The disk, in bulk.
    pub folders: &'a dyn Folders,
    /// Makes keys, on every core.
    pub keygen: &'a (dyn Keygen + Sync),
    /// The record.
    pub ledger: Mutex<&'a mut (dyn Ledger + Send)>,
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
}

/// What is asked.
pub struct Request<'a> {
    /// The devices, each name once.
    pub orders: &'a [Order],
    /// The folder that gets one folder for each device; absolute.
    pub out: &'a Path,
    /// The window of every certificate.
    pub validity: Validity,
    /// P-256 or P-384.
    pub algorithm: KeyAlgorithm,
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
    /// Where its files are.
    pub folder: Option<PathBuf>,
}

/// Hears how the work goes on, from any thread.
pub trait Watch: Sync {
    /// These devices have their identity; each device is told once, in no particular order.
    fn done(&self, devices: &[Done]);
    /// After each block.
    fn progress(&self, tally: Tally);
}

impl<'p> DeviceBatch<'p> {
    /// Issues every order that has no live identity.
    ///
    /// # Errors
    /// `ledger.live` with `fail_if_exists` and `file.exists`, before anything is issued; what the
    /// parts say, with how far it got.
    pub fn run(&self, request: &Request<'_>, watch: &dyn Watch) -> Result<Tally, BatchError> {
        let _held = self.ledger().hold()?;
        let window = request.issuer.window(self.clock.now())?;
        if !window.covers(&request.validity) {
            return Err(BatchError::Issuer(IssuerError::Empty));
        }
        let view = request.issuer.view()?;
        let staging = request.out.join(STAGING);
        self.files.create_dir(request.out)?;
        self.folders.remove(&staging)?;
        let mut survey = Survey::default();
        for block in request.orders.chunks(BLOCK) {
            self.look_at(block, request, watch, &mut survey)?;
        }
        self.files.create_dir(&staging)?;
        let run = Run {
            flow: self,
            request,
            watch,
            view,
            issuer: request.issuer.certificate()?.id().clone(),
            text: request.issuer.text(),
            staging,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            tally: Mutex::new(survey.tally),
        };
        let outcome = run.all(&survey.todo);
        let cleared = self.folders.remove(&run.staging);
        let tally = *run.tally();
        if let Err(source) = outcome {
            return Err(BatchError::Stopped {
                done: tally.done(),
                total: request.orders.len(),
                source: Box::new(source),
            });
        }
        cleared?;
        Ok(tally)
    }

    fn ledger(&self) -> MutexGuard<'_, &'p mut (dyn Ledger + Send + 'p)> {
        // What the ledger writes is a transaction, so a thread that died left nothing half done.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles what a killed run left of these, and finds out which are still to be issued.
    fn look_at<'o>(
        &self,
        block: &'o [Order],
        request: &Request<'_>,
        watch: &dyn Watch,
        survey: &mut Survey<'o>,
    ) -> Result<(), BatchError> {
        let names: Vec<&str> = block.iter().map(|order| &order.device[..]).collect();
        let live = self.ledger().live(&names, IdentityPurpose::Operational)?;
        let mut live: HashMap<String, CertificateRecord> = live
            .into_iter()
            .map(|record| (record.device.clone(), record))
            .collect();
        let (mut done, mut confirmations, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for order in block {
            let record = live.remove(&order.device);
            match record {
                Some(record) if record.state != CertificateState::Intended => {
                    self.skip(record, request, &mut (survey, &mut done))?;
                    continue;
                }
                Some(record) => {
                    if let Some(leaf) = self.placed(&record) {
                        survey.tally.finished += 1;
                        done.push(Done::new(&record, &leaf, Standing::Finished));
                        confirmations.push(Confirmation {
                            key: record.key(),
                            der: leaf.der().to_vec(),
                        });
                        continue;
                    }
                    lost.push(record.key());
                }
                None => {}
            }
            self.refuse_occupied(request, order)?;
            survey.todo.push(order);
        }
        let now = self.clock.now();
        if !confirmations.is_empty() {
            self.ledger().confirm(&confirmations, now)?;
        }
        if !lost.is_empty() {
            self.ledger().abandon(&lost, now)?;
        }
        watch.done(&done);
        watch.progress(survey.tally);
        Ok(())
    }

    fn skip(
        &self,
        record: CertificateRecord,
        request: &Request<'_>,
        (survey, done): &mut (&mut Survey<'_>, &mut Vec<Done>),
    ) -> Result<(), BatchError> {
        if request.fail_if_exists {
            return Err(BatchError::Ledger(LedgerError::Live {
                device: record.device,
                purpose: record.purpose,
            }));
        }
        let key = record
            .folder
            .as_ref()
            .map(|folder| folder.join(bundle::KEY));
        survey.tally.moved += usize::from(key.is_some_and(|key| !self.files.exists(&key)));
        survey.tally.skipped += 1;
        done.extend(record.id.clone().map(|id| Done {
            name: record.device,
            standing: Standing::Skipped,
            certificate_id: id,
            serial: hex(&record.serial),
            validity: record.validity,
            folder: record.folder,
        }));
        Ok(())
    }

    /// The certificate of an intent whose folder is in place: whole, and the one intended.
    fn placed(&self, record: &CertificateRecord) -> Option<Certificate> {
        let folder = record.folder.as_ref()?;
        saved(self.files, self.keygen, folder).filter(|leaf| belongs(record, leaf))
    }

    /// A folder that the ledger knows nothing of is not ours to touch.
    fn refuse_occupied(&self, request: &Request<'_>, order: &Order) -> Result<(), BatchError> {
        let folder = request.out.join(&order.device);
        if self.files.exists(&folder) {
            return Err(BatchError::File(FileError::Exists(folder)));
        }
        Ok(())
    }
}

/// What there is before anything is signed.
#[derive(Default)]
struct Survey<'o> {
    todo: Vec<&'o Order>,
    tally: Tally,
}

/// What every thread needs.
struct Run<'a, 'p> {
    flow: &'a DeviceBatch<'p>,
    request: &'a Request<'a>,
    watch: &'a dyn Watch,
    view: IssuerView,
    issuer: CertificateId,
    text: IssuerText,
    staging: PathBuf,
    next: AtomicUsize,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

impl Run<'_, '_> {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Threads take blocks until there are none, or one fails: the others finish theirs.
    fn all(&self, todo: &[&Order]) -> Result<(), BatchError> {
        let threads = self.flow.threads.max(1);
        let size = todo.len().div_ceil(threads * 4).clamp(MIN_BLOCK, BLOCK);
        let blocks: Vec<&[&Order]> = todo.chunks(size).collect();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.min(blocks.len()))
                .map(|_| scope.spawn(|| self.work(&blocks)))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or(Err(BatchError::Thread)))
                .fold(Ok(()), Result::and)
        })
    }

    fn work(&self, blocks: &[&[&Order]]) -> Result<(), BatchError> {
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = blocks.get(number) else {
                return Ok(());
            };
            let staging = self.staging.join(number.to_string());
            let done = self.block(&staging, block).inspect_err(|_| {
                self.stop.store(true, Ordering::Relaxed);
                // Makes room; what stays intended is settled by the next run.
                let _ = self.flow.folders.remove(&staging);
            })?;
            let tally = {
                let mut tally = self.tally();
                tally.issued += done.len();
                *tally
            };
            self.watch.done(&done);
            self.watch.progress(tally);
        }
        Ok(())
    }

    /// Written down, made, durable, in place, confirmed: in this order and no other.
    fn block(&self, staging: &Path, block: &[&Order]) -> Result<Vec<Done>, BatchError> {
        let intents: Vec<Intent> = block.iter().map(|order| self.intent(order)).collect();
        self.flow.ledger().intend(&intents, self.flow.clock.now())?;
        self.flow.files.create_dir(staging)?;
        let mut leaves = Vec::with_capacity(block.len());
        for (order, intent) in block.iter().zip(&intents) {
            leaves.push(self.make(staging, order, (intent, leaves.is_empty()))?);
        }
        self.place(staging, block)?;
        let confirmations: Vec<Confirmation> = intents
            .iter()
            .zip(&leaves)
            .map(|(intent, leaf)| Confirmation {
                key: intent.key.clone(),
                der: leaf.der().to_vec(),
            })
            .collect();
        self.flow
            .ledger()
            .confirm(&confirmations, self.flow.clock.now())?;
        let done = |(intent, leaf): (&Intent, &Certificate)| {
            let record = CertificateRecord::intended(intent, self.request.validity.not_before);
            Done::new(&record, leaf, Standing::Issued)
        };
        Ok(intents.iter().zip(&leaves).map(done).collect())
    }

    fn intent(&self, order: &Order) -> Intent {
        let mut serial = [0; 16];
        self.flow.entropy.fill(&mut serial);
        serial[0] &= 0x7f;
        serial[15] |= u8::from(serial == [0; 16]);
        Intent {
            key: SerialKey {
                issuer: self.issuer.clone(),
                serial: serial.to_vec(),
            },
            device: order.device.clone(),
            purpose: IdentityPurpose::Operational,
            subject: order.subject.to_string(),
            validity: self.request.validity,
            key_algorithm: self.request.algorithm.to_string(),
            folder: Some(self.request.out.join(&order.device)),
            batch: Some(self.request.batch.to_owned()),
            replaces: None,
            flaw: None,
        }
    }

    /// Key, certificate and files. One signature of each block is verified: it costs twice a
    /// signature to verify one, and the key was proved to be the CA's when it was opened.
    fn make(
        &self,
        staging: &Path,
        order: &Order,
        (intent, verify): (&Intent, bool),
    ) -> Result<Certificate, BatchError> {
        let request = self.request;
        let keygen = self.flow.keygen;
        let (key, public) = keygen
            .generate(request.algorithm)
            .map_err(BatchError::Key)?;
        let mut serial = [0; 16];
        serial.copy_from_slice(&intent.key.serial);
        let spec = DraftSpec {
            subject: order.subject.clone(),
            serial,
            validity: request.validity,
            public_key: &public,
            purpose: Purpose::Device,
            alternative_names: Vec::new(),
        };
        let draft = Draft::new(&spec, &self.view)?;
        let signature = request.issuer.signer.sign(draft.tbs())?;
        let leaf = if verify {
            draft.seal(&signature)?
        } else {
            draft.seal_trusting(&signature)?
        };
        let [chain, ca, certificate] = self.text.public_files(&leaf);
        let files = [key_file(&key), chain, ca, certificate];
        self.flow
            .folders
            .write(&staging.join(&order.device), &files)?;
        Ok(leaf)
    }

    /// Everything durable first, then each folder under its name, then the names durable.
    fn place(&self, staging: &Path, block: &[&Order]) -> Result<(), BatchError> {
        let (folders, out) = (self.flow.folders, self.request.out);
        folders.sync(staging)?;
        for order in block {
            folders.place(&staging.join(&order.device), &out.join(&order.device))?;
        }
        folders.sync_names(out)?;
        Ok(folders.remove(staging)?)
    }
}

impl Done {
    fn new(record: &CertificateRecord, leaf: &Certificate, standing: Standing) -> Self {
        Self {
            name: record.device.clone(),
            standing,
            certificate_id: leaf.id().clone(),
            serial: hex(&record.serial),
            validity: leaf.validity,
            folder: record.folder.clone(),
        }
    }
}

/// Why a batch did not finish.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Not drafted or sealed.
    #[error("a certificate was not made")]
    Draft(#[from] DraftError),
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA cannot issue.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// No key.
    #[error("a device's key was not made")]
    Key(#[source] KeyError),
    /// The record failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Not signed.
    #[error("a certificate was not signed")]
    Sign(#[from] SignError),
    /// Some are done.
    #[error("stopped after {done} of {total} devices; each of those is complete")]
    Stopped {
        /// Done.
        done: usize,
        /// Asked.
        total: usize,
        /// Why.
        #[source]
        source: Box<BatchError>,
    },
    /// A thread panicked.
    #[error("a thread that makes identities died")]
    Thread,
}

impl BatchError {
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Draft(e) => e,
            Self::File(e) => e,
            Self::Issuer(e) => e,
            Self::Key(e) => e,
            Self::Ledger(e) => e,
            Self::Sign(e) => e,
            Self::Stopped { source, .. } => &**source,
            Self::Thread => return None,
        })
    }
}

impl Explain for BatchError {
    fn kind(&self) -> Kind {
        self.inner().map_or(Kind::Bug, Explain::kind)
    }
    fn code(&self) -> &'static str {
        self.inner().map_or("batch.thread", Explain::code)
    }
    fn hint(&self) -> Option<String> {
        self.inner()
            .and_then(Explain::hint)
            .or_else(|| Some("the same command again goes on where this one stopped".into()))
    }
}
