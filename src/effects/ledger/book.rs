//! The ledger over a database: what is one transaction, what is written to the journal, and who was
//! first. The same for SQLite and PostgreSQL.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::journal::Journal;
use super::rows::{self, Cursor};
use super::sql::{Database, Fault, Hold, Mode, first};
use super::work::{Inner, Work};
use super::{ids, transfer, verify};
use crate::core::ids::CertificateId;
use crate::core::ledger_file::Entry;
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, IdentityPurpose, Intent,
    LedgerCheck, RotationRecord, SerialKey,
};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::UtcTime;
use crate::ports::ledger::{
    Block, Checkpoint, Claim, Confirmation, Feed, Filter, Ledger, LedgerError, NextCrl, Run,
};

/// How many certificates a list reads at once.
const PAGE: i64 = 1_024;

/// An open ledger. Threads take turns at it.
pub struct SqlLedger {
    place: PathBuf,
    inner: Mutex<Inner>,
}

impl SqlLedger {
    /// Over an open database whose schema is ours; `place` is how errors call it.
    pub(super) fn over(place: &Path, database: Box<dyn Database>) -> Self {
        let inner = Inner {
            database,
            issuers: HashMap::new(),
        };
        Self {
            place: place.to_owned(),
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What is written is a transaction, so a thread that died left nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, fault: Fault) -> LedgerError {
        fault.at(&self.place)
    }

    /// Runs `work` in one transaction on top of the journal's present end.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.write_if(work, |_| true)
    }

    /// The same, taken back when the outcome is not what was hoped for.
    fn write_if<T>(
        &self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, LedgerError>,
        is_good: impl FnOnce(&T) -> bool,
    ) -> Result<T, LedgerError> {
        let mut inner = self.inner();
        inner
            .database
            .begin(Mode::Write)
            .map_err(|fault| self.failed(fault))?;
        let outcome = Journal::read(&mut *inner.database)
            .map_err(|fault| self.failed(fault))
            .and_then(|journal| {
                work(&mut Work {
                    inner: &mut inner,
                    journal,
                    place: &self.place,
                })
            })
            .map(|outcome| (is_good(&outcome), outcome))
            .and_then(|(is_good, outcome)| {
                if is_good {
                    let done = inner.database.commit();
                    done.map_err(|fault| self.failed(fault))?;
                }
                Ok((is_good, outcome))
            });
        if !matches!(outcome, Ok((true, _))) {
            inner.database.rollback();
            inner.issuers.clear();
        }
        outcome.map(|(_, outcome)| outcome)
    }

    /// Reads without a transaction.
    fn read<T>(
        &self,
        read: impl FnOnce(&mut dyn Database) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        read(&mut *self.inner().database).map_err(|fault| self.failed(fault))
    }

    /// Reads one moment's state.
    pub(super) fn snapshot<T>(
        &self,
        read: impl FnOnce(&mut dyn Database) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        self.read(|database| {
            database.begin(Mode::Snapshot)?;
            let outcome = read(database);
            database.rollback();
            outcome
        })
    }
}

impl Ledger for SqlLedger {
    fn hold(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        self.read(|database| database.hold(Hold::Authorities))?
            .ok_or_else(|| LedgerError::Held(self.place.clone()))
    }

    fn hold_rotations(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        self.read(|database| database.hold(Hold::Rotations))?
            .ok_or_else(|| LedgerError::HeldRotations(self.place.clone()))
    }

    fn begin_run(&self, now: UtcTime) -> Result<Box<dyn Run>, LedgerError> {
        // A transaction of its own: without one, an error of the commit comes after the answer and
        // is lost, and the next run gets the same number.
        let number = self.write(|work| {
            let sql = "INSERT INTO runs (started) VALUES (?1) RETURNING id";
            work.with(|database| {
                let number = first(database, (sql, &[now.into()]), |row| rows::int(row, 0))?;
                number.ok_or_else(|| Fault::unreadable(0))
            })
        })?;
        self.read(|database| database.begin_run(number))
    }

    fn claim(
        &self,
        run: &dyn Run,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        self.write(|work| work.claim(run, intents, now))
    }

    fn confirm_block(
        &self,
        run: &dyn Run,
        confirmations: &[Confirmation],
        checkpoint: Option<&Checkpoint>,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        let block = Block {
            confirmations,
            checkpoint,
        };
        self.write(|work| work.confirm(run, &block, now))
    }

    fn confirm_and_claim(
        &self,
        run: &dyn Run,
        block: &Block<'_>,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        self.write(|work| {
            work.confirm(run, block, now)?;
            work.claim(run, intents, now)
        })
    }

    fn checkpoint(&self, output: &str) -> Result<Option<Checkpoint>, LedgerError> {
        self.read(|database| rows::checkpoint(database, output))
    }

    fn add_authority(&self, authority: &AuthorityRecord) -> Result<(), LedgerError> {
        self.write(|work| {
            let sql = "SELECT id FROM authorities WHERE name = ?1";
            let name = &authority.name;
            let known = work.with(|database| {
                first(database, (sql, &[name.into()]), |row| rows::text(row, 0))
            })?;
            match known {
                Some(id) if id == authority.certificate.id().as_str() => return Ok(()),
                Some(_) => return Err(LedgerError::NameTaken(name.clone())),
                None => {}
            }
            work.with(|database| rows::add_authority(database, authority))?;
            let body = json!({ "id": authority.certificate.id(), "row": authority.digest() });
            let kind = format!("authority.{}", authority.origin);
            work.event(authority.created, &kind, (authority.event_subject(), body))
        })
    }

    fn authorities(&self) -> Result<Vec<AuthorityRecord>, LedgerError> {
        self.read(rows::authorities)
    }

    fn confirm(&self, confirmations: &[Confirmation], now: UtcTime) -> Result<(), LedgerError> {
        self.write(|work| {
            for confirmation in confirmations {
                let (nr, mut record) = work.open_intent(&confirmation.key)?;
                record.id = Some(confirmation.id.clone());
                record.der = Some(confirmation.der.clone());
                record.state = CertificateState::Issued;
                record.updated = now;
                work.save((nr, &record), "")?;
            }
            Ok(())
        })
    }

    fn abandon(&self, keys: &[SerialKey], now: UtcTime) -> Result<(), LedgerError> {
        self.write(|work| {
            for key in keys {
                let (nr, mut record) = work.open_intent(key)?;
                record.state = CertificateState::Abandoned;
                record.live = false;
                record.updated = now;
                work.save((nr, &record), "")?;
            }
            Ok(())
        })
    }

    fn live(
        &self,
        devices: &[&str],
        purpose: IdentityPurpose,
    ) -> Result<Vec<CertificateRecord>, LedgerError> {
        let sql = format!(
            "{} WHERE e.device = ?1 AND e.purpose = ?2 AND e.live = 1",
            rows::SELECT
        );
        self.read(|database| {
            let mut found = Vec::new();
            for device in devices {
                let values = [(*device).into(), purpose.as_str().into()];
                found.extend(first(database, (&sql, &values), rows::certificate)?);
            }
            Ok(found)
        })
    }

    fn certificate(&self, id: &CertificateId) -> Result<Option<CertificateRecord>, LedgerError> {
        if self.read(ids::is_behind)? {
            // It is found all the same when this fails, only later.
            let _ = self.write(|work| work.with(ids::catch_up));
        }
        let found = self.read(|database| rows::by_id(database, id))?;
        Ok(found.map(|(_, record)| record))
    }

    fn certificates(&self, filter: &Filter) -> Result<Vec<CertificateRecord>, LedgerError> {
        let mut all = Vec::new();
        self.for_each_certificate(filter, &mut |record| {
            all.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    fn for_each_certificate(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(CertificateRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut left = filter.limit.map_or(i64::MAX, i64::from);
        let mut cursor = Cursor::first(filter);
        while left > 0 {
            let (sql, values) = rows::page(filter, cursor, left.min(PAGE));
            let found =
                self.read(|database| super::sql::every(database, (&sql, &values), rows::numbered))?;
            let last = found.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            for (nr, record) in found {
                left -= 1;
                cursor = cursor.then(nr, &record);
                if each(record).is_break() {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn set_state(
        &self,
        id: &CertificateId,
        state: CertificateState,
        detail: &str,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|work| {
            let (nr, mut record) = work.known(id)?;
            if record.state == state {
                return Ok(());
            }
            record.state = state;
            record.live &= state == CertificateState::Issued;
            record.updated = now;
            work.save((nr, &record), detail)
        })
    }

    fn revoke(
        &self,
        id: &CertificateId,
        reason: RevocationReason,
        now: UtcTime,
    ) -> Result<Revocation, LedgerError> {
        self.write(|work| {
            let (nr, mut record) = work.known(id)?;
            if let Some(before) = record.standing_revocation() {
                return Ok(before);
            }
            let revocation = Revocation { at: now, reason };
            record.state = CertificateState::Revoked;
            record.live = false;
            record.revocation = Some(revocation);
            record.updated = now;
            work.save((nr, &record), reason.as_str())?;
            Ok(revocation)
        })
    }

    fn next_crl(&self, issuer: &CertificateId) -> Result<NextCrl, LedgerError> {
        self.snapshot(|database| rows::next_crl(database, issuer))
    }

    fn last_crl(&self, issuer: &CertificateId) -> Result<Option<CrlRecord>, LedgerError> {
        self.read(|database| rows::last_crl(database, issuer))
    }

    fn save_crl(&self, crl: &CrlRecord) -> Result<(), LedgerError> {
        self.write(|work| {
            let last = work.with(|database| rows::last_crl(database, &crl.issuer))?;
            if last.map_or(0, |last| last.number) + 1 != crl.number {
                return Err(LedgerError::CrlNumber(crl.number));
            }
            work.with(|database| rows::save_crl(database, crl))?;
            let body = json!({ "row": crl.digest() });
            work.event(crl.this_update, "crl.made", (crl.event_subject(), body))
        })
    }

    fn promote(
        &self,
        old: &CertificateId,
        new: &CertificateId,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|work| {
            let ((old_nr, mut old), (new_nr, mut new)) = (work.known(old)?, work.known(new)?);
            if new.live && !old.live {
                return Ok(());
            }
            if new.state != CertificateState::Issued || new.replaces != old.id {
                return Err(LedgerError::NoIntent(new.key().event_subject()));
            }
            old.live = false;
            if old.state == CertificateState::Issued {
                old.state = CertificateState::Superseded;
            }
            new.live = true;
            (old.updated, new.updated) = (now, now);
            work.save((old_nr, &old), "replaced by a proved successor")?;
            work.save((new_nr, &new), "proved; now the live identity")
        })
    }

    fn set_folder(
        &self,
        id: &CertificateId,
        folder: &Path,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|work| {
            let (nr, mut record) = work.known(id)?;
            record.folder = Some(folder.to_owned());
            record.updated = now;
            work.save((nr, &record), "moved")
        })
    }

    fn rotation(&self, device: &str) -> Result<Option<RotationRecord>, LedgerError> {
        let sql = "SELECT device, old, new, step, started, updated FROM rotations \
                   WHERE device = ?1";
        self.read(|database| first(database, (sql, &[device.into()]), rows::rotation))
    }

    fn save_rotation(&self, rotation: &RotationRecord) -> Result<(), LedgerError> {
        self.write(|work| {
            work.with(|database| rows::save_rotation(database, rotation))?;
            let body = json!({
                "old": rotation.old,
                "new": rotation.new,
                "step": rotation.step,
            });
            let subject = format!("rotation:{}", rotation.device);
            work.event(rotation.updated, "rotation.step", (subject, body))
        })
    }

    fn end_rotation(&self, device: &str, outcome: &str, now: UtcTime) -> Result<(), LedgerError> {
        self.write(|work| {
            let sql = "DELETE FROM rotations WHERE device = ?1";
            let removed = work.with(|database| database.execute(sql, &[device.into()]))?;
            if removed == 0 {
                return Ok(());
            }
            let body = json!({ "outcome": outcome });
            work.event(now, "rotation.ended", (format!("rotation:{device}"), body))
        })
    }

    fn verify(&self) -> Result<LedgerCheck, LedgerError> {
        self.snapshot(verify::verify)
    }

    fn export(&self, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), LedgerError> {
        self.snapshot(|database| transfer::export(database, each))
    }

    fn import(&self, feed: &mut dyn FnMut() -> Feed) -> Result<Option<LedgerCheck>, LedgerError> {
        self.write_if(
            |work| {
                if !work.with(transfer::is_empty)? {
                    return Err(LedgerError::NotEmpty(self.place.clone()));
                }
                transfer::fill(work, feed)
            },
            |check| check.as_ref().is_some_and(|check| check.broken.is_none()),
        )
    }
}
