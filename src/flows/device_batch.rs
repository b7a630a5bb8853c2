//! `device batch`: for each block, intents in one transaction → keys, signatures and staging folders
//! on all cores → one sync → each folder into its place → confirmations in one transaction.
//!
//! A process killed anywhere leaves one of: an intent without a folder in place (given up and
//! redone), or an intent with its whole folder in place (confirmed). Never half a folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::core::draft::{Draft, DraftError, DraftSpec, IssuerView, Purpose};
use crate::core::ids::CertificateId;
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

/// Devices in one transaction and one sync.
pub const BLOCK: usize = 512;
/// The folder beside the identities where they are made; gone when the run is over.
pub const STAGING: &str = ".nameplate-staging";

/// What the flow may use.
pub struct DeviceBatch<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// Serial numbers.
    pub entropy: &'a dyn Entropy,
    /// The disk.
    pub files: &'a dyn Files,
    /// The disk, in bulk.
    pub folders: &'a dyn Folders,
    /// Makes keys, on every core.
    pub keygen: &'a (dyn Keygen + Sync),
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// How many threads make keys and signatures.
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
}

impl Tally {
    /// Devices that are done.
    pub fn done(&self) -> usize {
        self.issued + self.finished + self.skipped
    }
}

/// What every thread needs.
struct Work<'a> {
    request: &'a Request<'a>,
    view: IssuerView,
    text: IssuerText,
    staging: PathBuf,
}

/// A device of the block, with the serial number that was written down for it.
struct Job<'a> {
    order: &'a Order,
    serial: [u8; 16],
    der: Vec<u8>,
}

impl Job<'_> {
    fn key(&self, issuer: &CertificateId) -> SerialKey {
        SerialKey {
            issuer: issuer.clone(),
            serial: self.serial.to_vec(),
        }
    }
}

impl DeviceBatch<'_> {
    /// Issues every order that has no live identity. `progress` hears after each block.
    ///
    /// # Errors
    /// `ledger.live` with `fail_if_exists`; what the parts say, with how far it got.
    pub fn run(
        &self,
        request: &Request<'_>,
        progress: &mut dyn FnMut(Tally),
    ) -> Result<Tally, BatchError> {
        let _held = self.ledger.hold()?;
        let window = request.issuer.window(self.clock.now())?;
        if !window.covers(&request.validity) {
            return Err(BatchError::Issuer(IssuerError::Empty));
        }
        if request.fail_if_exists {
            self.refuse_live(request)?;
        }
        let work = Work {
            request,
            view: request.issuer.view()?,
            text: request.issuer.text(),
            staging: request.out.join(STAGING),
        };
        self.files.create_dir(request.out)?;
        self.folders.remove(&work.staging)?;
        let mut tally = Tally::default();
        let outcome = request.orders.chunks(BLOCK).try_for_each(|block| {
            self.files.create_dir(&work.staging)?;
            self.block(&work, block, &mut tally)?;
            progress(tally);
            Ok(())
        });
        let cleared = self.folders.remove(&work.staging);
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

    fn refuse_live(&self, request: &Request<'_>) -> Result<(), BatchError> {
        for block in request.orders.chunks(BLOCK) {
            let live = self.live(block)?;
            if let Some(record) = live.iter().find(|r| r.state != CertificateState::Intended) {
                return Err(BatchError::Ledger(LedgerError::Live {
                    device: record.device.clone(),
                    purpose: record.purpose,
                }));
            }
        }
        Ok(())
    }

    fn live(&self, block: &[Order]) -> Result<Vec<CertificateRecord>, BatchError> {
        let names: Vec<&str> = block.iter().map(|order| &order.device[..]).collect();
        Ok(self.ledger.live(&names, IdentityPurpose::Operational)?)
    }

    fn block(&self, work: &Work<'_>, block: &[Order], tally: &mut Tally) -> Result<(), BatchError> {
        let finished = self.settle_leftovers(block)?;
        let live = self.live(block)?;
        let has: HashSet<&str> = live.iter().map(|record| &record.device[..]).collect();
        let mut jobs: Vec<Job<'_>> = block
            .iter()
            .filter(|order| !has.contains(&order.device[..]))
            .map(|order| self.job(order))
            .collect();
        tally.finished += finished;
        tally.skipped += block.len() - jobs.len() - finished;
        if jobs.is_empty() {
            return Ok(());
        }
        self.refuse_occupied(work, &jobs)?;
        let issuer = work.request.issuer.certificate()?.id().clone();
        let intents: Vec<Intent> = jobs.iter().map(|job| intent(work, &issuer, job)).collect();
        self.ledger.intend(&intents, self.clock.now())?;
        let placed = make(self, work, &mut jobs).and_then(|()| self.place(work, &jobs));
        if let Err(error) = placed {
            // Make room first; what then stays intended is settled by the next run.
            let _ = self.folders.remove(&work.staging);
            tally.issued += self.settle_leftovers(block).unwrap_or(0);
            return Err(error);
        }
        let confirmations: Vec<Confirmation> = jobs
            .into_iter()
            .map(|job| Confirmation {
                key: job.key(&issuer),
                der: job.der,
            })
            .collect();
        self.ledger.confirm(&confirmations, self.clock.now())?;
        tally.issued += confirmations.len();
        Ok(())
    }

    /// Confirms the intents of a killed run whose folders are in place, gives up the others, and
    /// returns how many were confirmed.
    fn settle_leftovers(&self, block: &[Order]) -> Result<usize, BatchError> {
        let (mut confirmations, mut lost) = (Vec::new(), Vec::new());
        for record in self.live(block)? {
            if record.state != CertificateState::Intended {
                continue;
            }
            let folder = record.folder.clone().unwrap_or_default();
            match saved(self.files, self.keygen, &folder) {
                Some(leaf) if belongs(&record, &leaf) => confirmations.push(Confirmation {
                    key: record.key(),
                    der: leaf.der().to_vec(),
                }),
                _ => lost.push(record.key()),
            }
        }
        let now = self.clock.now();
        if !confirmations.is_empty() {
            self.ledger.confirm(&confirmations, now)?;
        }
        if !lost.is_empty() {
            self.ledger.abandon(&lost, now)?;
        }
        Ok(confirmations.len())
    }

    fn job<'o>(&self, order: &'o Order) -> Job<'o> {
        let mut serial = [0; 16];
        self.entropy.fill(&mut serial);
        serial[0] &= 0x7f;
        serial[15] |= u8::from(serial == [0; 16]);
        Job {
            order,
            serial,
            der: Vec::new(),
        }
    }

    /// A folder that the ledger knows nothing of is not ours to touch.
    fn refuse_occupied(&self, work: &Work<'_>, jobs: &[Job<'_>]) -> Result<(), BatchError> {
        let taken = jobs
            .iter()
            .map(|job| work.request.out.join(&job.order.device))
            .find(|folder| self.files.exists(folder));
        taken.map_or(Ok(()), |folder| {
            Err(BatchError::File(FileError::Exists(folder)))
        })
    }

    /// Everything durable first, then each folder under its name, then the names durable.
    fn place(&self, work: &Work<'_>, jobs: &[Job<'_>]) -> Result<(), BatchError> {
        self.folders.sync(&work.staging)?;
        for job in jobs {
            let name = &job.order.device;
            self.folders
                .place(&work.staging.join(name), &work.request.out.join(name))?;
        }
        Ok(self.folders.sync_names(work.request.out)?)
    }
}

fn intent(work: &Work<'_>, issuer: &CertificateId, job: &Job<'_>) -> Intent {
    let request = work.request;
    Intent {
        key: job.key(issuer),
        device: job.order.device.clone(),
        purpose: IdentityPurpose::Operational,
        subject: job.order.subject.to_string(),
        validity: request.validity,
        key_algorithm: request.algorithm.to_string(),
        folder: Some(request.out.join(&job.order.device)),
        batch: Some(request.batch.to_owned()),
        replaces: None,
    }
}

/// Makes every job's identity in the staging folder, on all cores. The first failure stops all.
fn make(flow: &DeviceBatch<'_>, work: &Work<'_>, jobs: &mut [Job<'_>]) -> Result<(), BatchError> {
    let maker = Maker {
        keygen: flow.keygen,
        folders: flow.folders,
        work,
        stop: AtomicBool::new(false),
    };
    let share = jobs.len().div_ceil(flow.threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .chunks_mut(share)
            .map(|share| scope.spawn(|| maker.make_all(share)))
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(BatchError::Thread)));
        results.fold(Ok(()), Result::and)
    })
}

/// What threads share.
struct Maker<'a> {
    keygen: &'a (dyn Keygen + Sync),
    folders: &'a dyn Folders,
    work: &'a Work<'a>,
    stop: AtomicBool,
}

impl Maker<'_> {
    fn make_all(&self, jobs: &mut [Job<'_>]) -> Result<(), BatchError> {
        for (number, job) in jobs.iter_mut().enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            // One signature of each share is verified: it costs twice a signature to verify one,
            // and the key was proved to be the CA's when it was opened.
            if let Err(error) = self.make_one(job, number == 0) {
                self.stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn make_one(&self, job: &mut Job<'_>, verify: bool) -> Result<(), BatchError> {
        let request = self.work.request;
        let (key, public) = self
            .keygen
            .generate(request.algorithm)
            .map_err(BatchError::Key)?;
        let spec = DraftSpec {
            subject: job.order.subject.clone(),
            serial: job.serial,
            validity: request.validity,
            public_key: &public,
            purpose: Purpose::Device,
            alternative_names: Vec::new(),
        };
        let draft = Draft::new(&spec, &self.work.view)?;
        let signature = request.issuer.signer.sign(draft.tbs())?;
        let leaf = if verify {
            draft.seal(&signature)?
        } else {
            draft.seal_trusting(&signature)?
        };
        let [chain, ca, certificate] = self.work.text.public_files(&leaf);
        let files = [key_file(&key), chain, ca, certificate];
        self.folders
            .write(&self.work.staging.join(&job.order.device), &files)?;
        job.der = leaf.der().to_vec();
        Ok(())
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
