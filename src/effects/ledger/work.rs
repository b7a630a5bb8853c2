//! What happens inside a transaction that writes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::journal::Journal;
use super::sql::{Database, Fault, first};
use super::{ids, rows};
use crate::core::ids::{CertificateId, hex};
use crate::core::record::{CertificateRecord, CertificateState, Intent, SerialKey};
use crate::core::time::UtcTime;
use crate::ports::ledger::{Block, Claim, Confirmation, LedgerError, Run};

/// What one thread at a time may touch.
pub(super) struct Inner {
    pub(super) database: Box<dyn Database>,
    /// The numbers of issuers that stand in the database for good.
    pub(super) issuers: HashMap<CertificateId, i64>,
}

/// A transaction that writes.
pub(super) struct Work<'a> {
    pub(super) inner: &'a mut Inner,
    pub(super) journal: Journal,
    pub(super) place: &'a Path,
}

impl Work<'_> {
    /// Runs part of the transaction.
    pub(super) fn with<T>(
        &mut self,
        part: impl FnOnce(&mut dyn Database) -> Result<T, Fault>,
    ) -> Result<T, LedgerError> {
        part(&mut *self.inner.database).map_err(|fault| fault.at(self.place))
    }

    /// Appends an event.
    pub(super) fn event(
        &mut self,
        now: UtcTime,
        kind: &str,
        (subject, body): (String, serde_json::Value),
    ) -> Result<(), LedgerError> {
        let event = (kind, subject, body.to_string());
        self.journal
            .append(&mut *self.inner.database, now, event)
            .map_err(|fault| fault.at(self.place))
    }

    /// Writes a row back, and an event about it.
    pub(super) fn save(
        &mut self,
        (nr, record): (i64, &CertificateRecord),
        detail: &str,
    ) -> Result<(), LedgerError> {
        self.with(|database| rows::update(database, (nr, record)))?;
        self.journal
            .certificate(&mut *self.inner.database, record, detail)
            .map_err(|fault| fault.at(self.place))
    }

    /// An event about each block of rows.
    pub(super) fn block(
        &mut self,
        (run, kind): (&str, &str),
        records: &[impl Borrow<CertificateRecord>],
    ) -> Result<(), LedgerError> {
        self.journal
            .block(&mut *self.inner.database, (run, kind), records)
            .map_err(|fault| fault.at(self.place))
    }

    pub(super) fn open_intent(
        &mut self,
        key: &SerialKey,
    ) -> Result<(i64, CertificateRecord), LedgerError> {
        self.with(|database| rows::by_key(database, key))?
            .filter(|(_, record)| record.state == CertificateState::Intended)
            .ok_or_else(|| LedgerError::NoIntent(key.event_subject()))
    }

    pub(super) fn known(
        &mut self,
        id: &CertificateId,
    ) -> Result<(i64, CertificateRecord), LedgerError> {
        if self.with(ids::is_behind)? {
            self.with(ids::catch_up)?;
        }
        self.with(|database| rows::by_id(database, id))?
            .ok_or_else(|| LedgerError::Unknown(id.to_string()))
    }

    /// The issuer's number, given to it at its first certificate.
    pub(super) fn issuer(&mut self, id: &CertificateId) -> Result<i64, LedgerError> {
        if let Some(number) = self.inner.issuers.get(id) {
            return Ok(*number);
        }
        let number = self.with(|database| {
            database.execute(
                "INSERT INTO issuers (id) VALUES (?1) ON CONFLICT (id) DO NOTHING",
                &[id.bytes().into()],
            )?;
            let sql = "SELECT ref FROM issuers WHERE id = ?1";
            let number = first(database, (sql, &[id.bytes().into()]), |row| {
                rows::int(row, 0)
            })?;
            number.ok_or_else(|| Fault::unreadable(0))
        })?;
        self.inner.issuers.insert(id.clone(), number);
        Ok(number)
    }

    pub(super) fn claim(
        &mut self,
        run: &dyn Run,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        let mut living = HashMap::new();
        let mut all = Vec::with_capacity(intents.len());
        for intent in intents {
            let record = CertificateRecord {
                run: Some(run.id().to_owned()),
                ..CertificateRecord::intended(intent, now)
            };
            all.push((self.issuer(&record.issuer)?, Arc::new(record)));
        }
        let added = self.with(|database| database.insert_free(&all))?;
        let mut claims = Vec::with_capacity(all.len());
        let mut written = Vec::with_capacity(all.len());
        for ((_, record), added) in all.into_iter().zip(added) {
            if added {
                written.push(record);
                claims.push(Claim::Claimed);
            } else {
                claims.push(self.in_the_way(run, &record, &mut living)?);
            }
        }
        self.block((run.id(), "certificates.intended"), &written)?;
        Ok(claims)
    }

    pub(super) fn confirm(
        &mut self,
        run: &dyn Run,
        block: &Block<'_>,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        let number = number_of(run)?;
        let mut all = Vec::with_capacity(block.confirmations.len());
        for one in block.confirmations {
            all.push((self.issuer(&one.key.issuer)?, one));
        }
        let numbered = self.with(|database| database.seal(number, &all, now))?;
        if numbered.len() < all.len() {
            let is_lost = |one: &&Confirmation| {
                let mut records = numbered.iter().map(|(_, record)| record);
                !records.any(|record| record.serial == one.key.serial)
            };
            let lost = block.confirmations.iter().find(is_lost);
            let subject = lost.map(|one| one.key.event_subject());
            return Err(LedgerError::NoIntent(subject.unwrap_or_default()));
        }
        let sealed = self.indexed(numbered)?;
        self.block((run.id(), "certificates.issued"), &sealed)?;
        match block.checkpoint {
            Some(mark) => self.with(|database| rows::save_checkpoint(database, mark)),
            None => Ok(()),
        }
    }

    /// The records, found by their ids from now on even if the index of ids had passed their rows.
    fn indexed(
        &mut self,
        numbered: Vec<(i64, CertificateRecord)>,
    ) -> Result<Vec<CertificateRecord>, LedgerError> {
        self.with(|database| {
            let last = ids::last(database)?;
            let late = |(nr, record): &(i64, CertificateRecord)| match &record.id {
                Some(id) => ids::add_late(database, (*nr, id), last),
                None => Ok(()),
            };
            numbered.iter().try_for_each(late)
        })?;
        Ok(numbered.into_iter().map(|(_, record)| record).collect())
    }

    /// What stands in the way of `record`, as its claim's answer.
    fn in_the_way(
        &mut self,
        run: &dyn Run,
        record: &CertificateRecord,
        living: &mut HashMap<i64, bool>,
    ) -> Result<Claim, LedgerError> {
        let holder = self
            .with(|database| rows::holder(database, record))?
            .ok_or_else(|| LedgerError::Serial(hex(&record.serial)))?;
        if holder.state != CertificateState::Intended {
            return Ok(Claim::Live(Box::new(holder)));
        }
        let alive = match rows::run_number(&holder) {
            None => false,
            Some(_) if holder.run.as_deref() == Some(run.id()) => true,
            Some(other) => *living
                .entry(other)
                .or_insert_with(|| self.inner.database.is_alive(other)),
        };
        Ok(if alive {
            Claim::Busy
        } else {
            Claim::Leftover(Box::new(holder))
        })
    }
}

/// A run's number in the database.
fn number_of(run: &dyn Run) -> Result<i64, LedgerError> {
    let number = run.id().parse();
    number.map_err(|_| LedgerError::NoIntent(format!("run:{}", run.id())))
}
