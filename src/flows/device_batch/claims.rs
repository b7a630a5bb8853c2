//! Who issues for which device: claims, and what stands in their way.

use super::work::Work;
use super::{BatchError, Done, Order, Standing, Tally, lock};
use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::draft::{dated, positive};
use crate::core::ids::hex;
use crate::core::record::{CertificateRecord, IdentityPurpose, Intent, SerialKey};
use crate::flows::device_issue::{belongs, saved};
use crate::ports::ledger::{Claim, Confirmation, LedgerError};

/// What the ledger said to claims.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) mine: Vec<(Order, SerialKey)>,
    pub(super) again: Vec<Order>,
    pub(super) done: Vec<Done>,
    pub(super) tally: Tally,
}

impl Work<'_, '_> {
    pub(super) fn claim(&self, orders: Vec<Order>) -> Result<Sorted, BatchError> {
        let intents = self.intents(&orders);
        let now = self.flow.clock.now();
        let claims = self.flow.ledger.claim(self.run, &intents, now)?;
        self.sorted(orders, intents, claims)
    }

    pub(super) fn sorted(
        &self,
        orders: Vec<Order>,
        intents: Vec<Intent>,
        claims: Vec<Claim>,
    ) -> Result<Sorted, BatchError> {
        let mut sorted = Sorted::default();
        let (mut busy, mut confirmed, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for ((order, intent), claim) in orders.into_iter().zip(intents).zip(claims) {
            match claim {
                Claim::Claimed => sorted.mine.push((order, intent.key)),
                Claim::Live(record) => self.skip(*record, &mut sorted)?,
                Claim::Busy => busy.push(order),
                Claim::Leftover(record) => {
                    if let Some(leaf) = self.placed(&record) {
                        confirmed.push((record, leaf));
                    } else {
                        lost.push(record.key());
                        lock(&self.given_up).insert(order.device.clone());
                        sorted.again.push(order);
                    }
                }
            }
        }
        lock(&self.waiting).extend(busy);
        if !lost.is_empty() {
            self.give_up(&lost)?;
        }
        for (record, leaf) in confirmed {
            self.confirm_leftover(&record, &leaf, &mut sorted)?;
        }
        Ok(sorted)
    }

    /// Another process may have settled the same leftovers meanwhile: then there is nothing to do.
    fn give_up(&self, lost: &[SerialKey]) -> Result<(), BatchError> {
        match self.flow.ledger.abandon(lost, self.flow.clock.now()) {
            Ok(()) => Ok(()),
            Err(LedgerError::NoIntent(_)) if lost.len() == 1 => Ok(()),
            Err(LedgerError::NoIntent(_)) => lost
                .iter()
                .try_for_each(|one| self.give_up(std::slice::from_ref(one))),
            Err(error) => Err(error.into()),
        }
    }

    /// A folder that a dead run had put in place whole. Another process may confirm it as well.
    fn confirm_leftover(
        &self,
        record: &CertificateRecord,
        leaf: &Certificate,
        sorted: &mut Sorted,
    ) -> Result<(), BatchError> {
        let confirmation = Confirmation {
            key: record.key(),
            id: leaf.id().clone(),
            der: leaf.der().to_vec(),
        };
        let now = self.flow.clock.now();
        match self.flow.ledger.confirm(&[confirmation], now) {
            Ok(()) => sorted.tally.finished += 1,
            Err(LedgerError::NoIntent(_)) => {
                sorted.tally.skipped += 1;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        sorted.done.push(Done {
            name: record.device.clone(),
            standing: Standing::Finished,
            certificate_id: leaf.id().clone(),
            serial: hex(&record.serial),
            validity: leaf.validity,
            folder: record.folder.clone(),
        });
        Ok(())
    }

    fn skip(&self, record: CertificateRecord, sorted: &mut Sorted) -> Result<(), BatchError> {
        if self.request.fail_if_exists {
            return Err(BatchError::Ledger(LedgerError::Live {
                device: record.device,
                purpose: record.purpose,
            }));
        }
        // Only a folder of PEM files is known to hold a key by this name.
        if self.request.shape.is_folder_of_pem() {
            let key = record
                .folder
                .as_ref()
                .map(|folder| folder.join(bundle::KEY));
            let gone = key.is_some_and(|key| !self.flow.files.exists(&key));
            sorted.tally.moved += usize::from(gone);
        }
        sorted.tally.skipped += 1;
        if self.watch.listens() {
            sorted.done.extend(record.id.clone().map(|id| Done {
                name: record.device,
                standing: Standing::Skipped,
                certificate_id: id,
                serial: hex(&record.serial),
                validity: record.validity,
                folder: record.folder,
            }));
        }
        Ok(())
    }

    /// The certificate of an intent whose folder is in place: whole, and the one intended.
    fn placed(&self, record: &CertificateRecord) -> Option<Certificate> {
        let folder = record.folder.as_ref()?;
        saved(self.flow.files, self.flow.keygen, folder).filter(|leaf| belongs(record, leaf))
    }

    pub(super) fn intents(&self, orders: &[Order]) -> Vec<Intent> {
        // At once: each call is one to the kernel.
        let mut serials = vec![[0; 16]; orders.len()];
        self.flow.entropy.fill(serials.as_flattened_mut());
        let now = self.flow.clock.now();
        for serial in &mut serials {
            *serial = dated(*serial, now);
        }
        let pairs = orders.iter().zip(serials);
        pairs
            .map(|(order, serial)| self.intent(order, serial))
            .collect()
    }

    fn intent(&self, order: &Order, serial: [u8; 16]) -> Intent {
        let request = self.request;
        Intent {
            key: SerialKey {
                issuer: self.issuer.clone(),
                serial: positive(serial).to_vec(),
            },
            device: order.device.clone(),
            purpose: IdentityPurpose::Operational,
            subject: order.subject.to_string(),
            validity: request.validity,
            key_algorithm: request.algorithm.to_string(),
            folder: (!request.shape.is_stream()).then(|| request.out.join(&order.device)),
            batch: Some(request.batch.to_owned()),
            replaces: None,
            flaw: None,
        }
    }
}
