//! The ledger as a batch uses it: claims, and confirmations with the mark up to which the output
//! is vouched for. The mark stands in a small file beside the output, written after the output and
//! before the ledger: it says what the mark is when the block's first device is confirmed, and
//! what it is otherwise, so that no moment of death leaves it wrong.

use std::any::Any;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::{BatchError, lock};
use crate::core::bundle::Secrecy;
use crate::core::ids::hex;
use crate::core::record::{
    CertificateRecord, CertificateState, IdentityPurpose, Intent, SerialKey,
};
use crate::core::time::UtcTime;
use crate::ports::Files;
use crate::ports::ledger::{Confirmation, Ledger, LedgerError};

/// The most bytes of a mark's file.
const MAX_BYTES: u64 = 4_096;

/// The record. Threads take turns at it.
pub struct Book<'a> {
    ledger: Mutex<&'a mut (dyn Ledger + Send)>,
    files: &'a (dyn Files + Sync),
}

/// What the ledger says to an intent.
pub(super) enum Claim {
    /// It is ours to issue.
    Claimed,
    /// The device has its identity.
    Live(Box<CertificateRecord>),
    /// A dead run intended it.
    Leftover(Box<CertificateRecord>),
}

/// Up to where an output is vouched for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub(super) struct Mark {
    /// Bytes of the stream.
    pub(super) offset: u64,
    /// Devices in it, and lines of the manifest.
    pub(super) rows: u64,
}

/// A mark, and the one before it.
pub(super) struct Checkpoint {
    /// Whose mark it is.
    pub(super) output: PathBuf,
    /// Before the block.
    pub(super) before: Mark,
    /// With it.
    pub(super) after: Mark,
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Saved {
    before: Mark,
    after: Mark,
    device: String,
    serial: String,
}

impl<'a> Book<'a> {
    /// Over this ledger.
    pub fn new(ledger: &'a mut (dyn Ledger + Send), files: &'a (dyn Files + Sync)) -> Self {
        Self {
            ledger: Mutex::new(ledger),
            files,
        }
    }

    fn ledger(&self) -> MutexGuard<'_, &'a mut (dyn Ledger + Send)> {
        lock(&self.ledger)
    }

    /// Keeps other issuing processes out until the answer is dropped.
    pub(super) fn begin(&self) -> Result<Box<dyn Any>, LedgerError> {
        self.ledger().hold()
    }

    pub(super) fn live(
        &self,
        names: &[&str],
    ) -> Result<HashMap<String, CertificateRecord>, LedgerError> {
        let live = self.ledger().live(names, IdentityPurpose::Operational)?;
        let keyed = |record: CertificateRecord| (record.device.clone(), record);
        Ok(live.into_iter().map(keyed).collect())
    }

    /// Writes down every intent whose device has no live identity; one answer for each.
    pub(super) fn claim(
        &self,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        let names: Vec<&str> = intents.iter().map(|intent| &intent.device[..]).collect();
        let mut live = self.live(&names)?;
        let mut ours = Vec::with_capacity(intents.len());
        let mut answer = |intent: &Intent| match live.remove(&intent.device).map(Box::new) {
            Some(record) if record.state == CertificateState::Intended => Claim::Leftover(record),
            Some(record) => Claim::Live(record),
            None => {
                ours.push(intent.clone());
                Claim::Claimed
            }
        };
        let claims = intents.iter().map(&mut answer).collect();
        if !ours.is_empty() {
            self.ledger().intend(&ours, now)?;
        }
        Ok(claims)
    }

    pub(super) fn confirm(&self, all: &[Confirmation], now: UtcTime) -> Result<(), LedgerError> {
        self.ledger().confirm(all, now)
    }

    pub(super) fn abandon(&self, keys: &[SerialKey], now: UtcTime) -> Result<(), LedgerError> {
        self.ledger().abandon(keys, now)
    }

    /// Confirms a block whose output is durable. `first` is the name of its first device.
    pub(super) fn confirm_block(
        &self,
        (first, all): (&str, &[Confirmation]),
        checkpoint: Option<&Checkpoint>,
        now: UtcTime,
    ) -> Result<(), BatchError> {
        if let Some(checkpoint) = checkpoint {
            let serial = all.first().map_or(&[][..], |one| &one.key.serial);
            let saved = Saved {
                before: checkpoint.before,
                after: checkpoint.after,
                device: first.to_owned(),
                serial: hex(serial),
            };
            let text = serde_json::to_vec(&saved).unwrap_or_default();
            let path = beside(&checkpoint.output);
            self.files.replace(&path, &text, Secrecy::Public)?;
        }
        Ok(self.confirm(all, now)?)
    }

    /// Begins an output of which nothing is vouched for yet.
    pub(super) fn begin_output(&self, output: &Path) -> Result<(), BatchError> {
        let checkpoint = Checkpoint {
            output: output.to_owned(),
            before: Mark::default(),
            after: Mark::default(),
        };
        self.confirm_block(("", &[]), Some(&checkpoint), UtcTime::from_unix(0))
    }

    /// The mark of an output; `None` when it is not one of ours.
    pub(super) fn mark(&self, output: &Path) -> Result<Option<Mark>, BatchError> {
        let path = beside(output);
        if !self.files.exists(&path) {
            return Ok(None);
        }
        let text = self.files.read(&path, MAX_BYTES)?;
        let saved: Saved = serde_json::from_slice(&text).map_err(|_| BatchError::Mark { path })?;
        if saved.device.is_empty() {
            return Ok(Some(saved.after));
        }
        let confirmed = self.live(&[&saved.device])?.values().any(|record| {
            record.state != CertificateState::Intended && hex(&record.serial) == saved.serial
        });
        Ok(Some(if confirmed { saved.after } else { saved.before }))
    }
}

/// `out.tar.mark` for `out.tar`.
fn beside(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".mark");
    name.into()
}
