//! The ledger in one SQLite file: WAL, `synchronous=FULL`, so what is committed survives a power
//! cut.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::inner::{Inner, is_passing};
use super::{rows, runs, verify};
use crate::core::ids::CertificateId;
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, IdentityPurpose, Intent,
    LedgerCheck, RotationRecord, SerialKey,
};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::UtcTime;
use crate::ports::ledger::{
    Checkpoint, Claim, Confirmation, Filter, Ledger, LedgerError, NextCrl, Run,
};

/// An open ledger. Threads take turns at it.
pub struct SqliteLedger {
    path: PathBuf,
    inner: Mutex<Inner>,
}

impl SqliteLedger {
    /// Opens the ledger, creating it (mode 0600) when it is not there.
    ///
    /// # Errors
    /// `ledger.database`, `ledger.schema`.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let failed = |why: &dyn std::fmt::Display, retry| LedgerError::Database {
            path: path.to_owned(),
            why: why.to_string(),
            retry,
        };
        if !path.exists() {
            File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(|e| failed(&e, e.kind() == std::io::ErrorKind::StorageFull))?;
        }
        let connection = Connection::open(path).map_err(|e| failed(&e, is_passing(&e)))?;
        let inner = Inner::new(connection, path);
        inner.prepare()?;
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(inner),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What is written is a transaction, so a thread that died left nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one transaction on top of the journal's present head.
    fn write<T>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let inner = self.inner();
        let transaction = inner.begin()?;
        inner.look_up_head()?;
        let outcome = work(&inner)?;
        transaction.commit().map_err(|e| inner.failed(e))?;
        Ok(outcome)
    }

    /// Locks the file beside the database whose name ends in `suffix`.
    fn lock(
        &self,
        suffix: &str,
        held: fn(PathBuf) -> LedgerError,
    ) -> Result<Box<dyn std::any::Any>, LedgerError> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        let failed = |e: std::io::Error| LedgerError::Database {
            path: self.path.clone(),
            why: format!("its lock file: {e}"),
            retry: e.kind() == std::io::ErrorKind::StorageFull,
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.with_file_name(name))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(held(self.path.clone())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Ledger for SqliteLedger {
    fn hold(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        self.lock(".lock", LedgerError::Held)
    }

    fn hold_rotations(&self) -> Result<Box<dyn std::any::Any>, LedgerError> {
        self.lock(".rotations.lock", LedgerError::HeldRotations)
    }

    fn begin_run(&self, now: UtcTime) -> Result<Box<dyn Run>, LedgerError> {
        let id = {
            let inner = self.inner();
            inner
                .connection
                .query_row(
                    "INSERT INTO runs (started) VALUES (?1) RETURNING id",
                    [now.unix()],
                    |row| row.get::<_, i64>(0),
                )
                .map_err(|e| inner.failed(e))?
        };
        Ok(Box::new(runs::begin(&self.path, id)?))
    }

    fn claim(
        &self,
        run: &dyn Run,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        let mut living = HashMap::new();
        self.write(|inner| {
            let mut claims = Vec::with_capacity(intents.len());
            let mut written = Vec::with_capacity(intents.len());
            for intent in intents {
                let record = CertificateRecord {
                    run: Some(run.id().to_owned()),
                    ..CertificateRecord::intended(intent, now)
                };
                let added =
                    rows::insert_free(&inner.connection, &record).map_err(|e| inner.failed(e))?;
                if added {
                    written.push(record);
                    claims.push(Claim::Claimed);
                    continue;
                }
                let holder = inner.holder(&record)?;
                claims.push(match &holder.run {
                    _ if holder.state != CertificateState::Intended => {
                        Claim::Live(Box::new(holder))
                    }
                    Some(other) if other == run.id() => Claim::Busy,
                    Some(other)
                        if *living
                            .entry(other.clone())
                            .or_insert_with(|| runs::is_alive(&self.path, other)) =>
                    {
                        Claim::Busy
                    }
                    _ => Claim::Leftover(Box::new(holder)),
                });
            }
            inner.block_event(run, "certificates.intended", &written)?;
            Ok(claims)
        })
    }

    fn confirm_block(
        &self,
        run: &dyn Run,
        confirmations: &[Confirmation],
        checkpoint: Option<&Checkpoint>,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|inner| {
            let mut written = Vec::with_capacity(confirmations.len());
            for confirmation in confirmations {
                let record = rows::issue(&inner.connection, (run.id(), confirmation), now)
                    .map_err(|e| inner.failed(e))?
                    .ok_or_else(|| LedgerError::NoIntent(confirmation.key.event_subject()))?;
                written.push(record);
            }
            inner.block_event(run, "certificates.issued", &written)?;
            match checkpoint {
                Some(mark) => {
                    rows::save_checkpoint(&inner.connection, mark).map_err(|e| inner.failed(e))
                }
                None => Ok(()),
            }
        })
    }

    fn checkpoint(&self, output: &str) -> Result<Option<Checkpoint>, LedgerError> {
        let inner = self.inner();
        rows::checkpoint(&inner.connection, output).map_err(|e| inner.failed(e))
    }

    fn add_authority(&self, authority: &AuthorityRecord) -> Result<(), LedgerError> {
        self.write(|inner| {
            let connection = &inner.connection;
            let known: Option<String> = connection
                .query_row(
                    "SELECT id FROM authorities WHERE name = ?1",
                    [&authority.name],
                    |row| row.get(0),
                )
                .optional()
                .map_err(|e| inner.failed(e))?;
            match known {
                Some(id) if id == authority.certificate.id().as_str() => return Ok(()),
                Some(_) => return Err(LedgerError::NameTaken(authority.name.clone())),
                None => {}
            }
            connection
                .execute(
                    "INSERT INTO authorities (name, id, der, parent, folder, origin, created) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        authority.name,
                        authority.certificate.id().as_str(),
                        authority.certificate.der(),
                        authority.parent.as_ref().map(CertificateId::as_str),
                        authority.folder.to_string_lossy(),
                        authority.origin.as_str(),
                        authority.created.unix(),
                    ],
                )
                .map_err(|e| inner.failed(e))?;
            let body = serde_json::json!({
                "id": authority.certificate.id(),
                "row": authority.digest(),
            });
            let kind = format!("authority.{}", authority.origin);
            inner.event(authority.created, &kind, &authority.event_subject(), &body)
        })
    }

    fn authorities(&self) -> Result<Vec<AuthorityRecord>, LedgerError> {
        let inner = self.inner();
        inner
            .connection
            .prepare_cached(
                "SELECT name, der, parent, folder, origin, created FROM authorities ORDER BY name",
            )
            .and_then(|mut all| all.query_map([], rows::authority)?.collect())
            .map_err(|e| inner.failed(e))
    }

    fn confirm(&self, confirmations: &[Confirmation], now: UtcTime) -> Result<(), LedgerError> {
        self.write(|inner| {
            for confirmation in confirmations {
                let mut record = inner.open_intent(&confirmation.key)?;
                record.id = Some(CertificateId::of_der(&confirmation.der));
                record.der = Some(confirmation.der.clone());
                record.state = CertificateState::Issued;
                record.updated = now;
                inner.save(&record, "")?;
            }
            Ok(())
        })
    }

    fn abandon(&self, keys: &[SerialKey], now: UtcTime) -> Result<(), LedgerError> {
        self.write(|inner| {
            for key in keys {
                let mut record = inner.open_intent(key)?;
                record.state = CertificateState::Abandoned;
                record.live = false;
                record.updated = now;
                inner.save(&record, "")?;
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
            "SELECT {} FROM certificates WHERE device = ?1 AND purpose = ?2 AND live = 1",
            rows::COLUMNS
        );
        let inner = self.inner();
        let mut found = Vec::new();
        for device in devices {
            let row = inner
                .connection
                .prepare_cached(&sql)
                .and_then(|mut one| {
                    one.query_row(params![device, purpose.as_str()], rows::certificate)
                        .optional()
                })
                .map_err(|e| inner.failed(e))?;
            found.extend(row);
        }
        Ok(found)
    }

    fn certificate(&self, id: &CertificateId) -> Result<Option<CertificateRecord>, LedgerError> {
        self.inner().certificate(id)
    }

    fn certificates(&self, filter: &Filter) -> Result<Vec<CertificateRecord>, LedgerError> {
        let inner = self.inner();
        inner
            .connection
            .prepare_cached(&rows::filtered())
            .and_then(|mut all| {
                all.query_map(params_from_iter(rows::filter(filter)), rows::certificate)?
                    .collect()
            })
            .map_err(|e| inner.failed(e))
    }

    fn for_each_certificate(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(CertificateRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let inner = self.inner();
        let mut visit = || -> rusqlite::Result<()> {
            let mut all = inner.connection.prepare_cached(&rows::filtered())?;
            let mut found = all.query(params_from_iter(rows::filter(filter)))?;
            while let Some(row) = found.next()? {
                if each(rows::certificate(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        visit().map_err(|e| inner.failed(e))
    }

    fn set_state(
        &self,
        id: &CertificateId,
        state: CertificateState,
        detail: &str,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|inner| {
            let mut record = inner.known(id)?;
            if record.state == state {
                return Ok(());
            }
            record.state = state;
            record.live &= state == CertificateState::Issued;
            record.updated = now;
            inner.save(&record, detail)
        })
    }

    fn revoke(
        &self,
        id: &CertificateId,
        reason: RevocationReason,
        now: UtcTime,
    ) -> Result<Revocation, LedgerError> {
        self.write(|inner| {
            let mut record = inner.known(id)?;
            if let Some(before) = record.standing_revocation() {
                return Ok(before);
            }
            let revocation = Revocation { at: now, reason };
            record.state = CertificateState::Revoked;
            record.live = false;
            record.revocation = Some(revocation);
            record.updated = now;
            inner.save(&record, reason.as_str())?;
            Ok(revocation)
        })
    }

    fn next_crl(&self, issuer: &CertificateId) -> Result<NextCrl, LedgerError> {
        let inner = self.inner();
        rows::next_crl(&inner.connection, issuer).map_err(|e| inner.failed(e))
    }

    fn last_crl(&self, issuer: &CertificateId) -> Result<Option<CrlRecord>, LedgerError> {
        let inner = self.inner();
        rows::last_crl(&inner.connection, issuer).map_err(|e| inner.failed(e))
    }

    fn save_crl(&self, crl: &CrlRecord) -> Result<(), LedgerError> {
        self.write(|inner| {
            let last =
                rows::last_crl(&inner.connection, &crl.issuer).map_err(|e| inner.failed(e))?;
            if last.map_or(0, |last| last.number) + 1 != crl.number {
                return Err(LedgerError::CrlNumber(crl.number));
            }
            rows::save_crl(&inner.connection, crl).map_err(|e| inner.failed(e))?;
            let body = serde_json::json!({ "row": crl.digest() });
            inner.event(crl.this_update, "crl.made", &crl.event_subject(), &body)
        })
    }

    fn promote(
        &self,
        old: &CertificateId,
        new: &CertificateId,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|inner| {
            let (mut old, mut new) = (inner.known(old)?, inner.known(new)?);
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
            inner.save(&old, "replaced by a proved successor")?;
            inner.save(&new, "proved; now the live identity")
        })
    }

    fn set_folder(
        &self,
        id: &CertificateId,
        folder: &Path,
        now: UtcTime,
    ) -> Result<(), LedgerError> {
        self.write(|inner| {
            let mut record = inner.known(id)?;
            record.folder = Some(folder.to_owned());
            record.updated = now;
            inner.save(&record, "moved")
        })
    }

    fn rotation(&self, device: &str) -> Result<Option<RotationRecord>, LedgerError> {
        let inner = self.inner();
        inner
            .connection
            .query_row(
                "SELECT device, old, new, step, started, updated FROM rotations WHERE device = ?1",
                [device],
                rows::rotation,
            )
            .optional()
            .map_err(|e| inner.failed(e))
    }

    fn save_rotation(&self, rotation: &RotationRecord) -> Result<(), LedgerError> {
        self.write(|inner| {
            let connection = &inner.connection;
            connection
                .execute(
                    "INSERT INTO rotations (device, old, new, step, started, updated) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (device) DO UPDATE SET \
                     old = excluded.old, new = excluded.new, step = excluded.step, \
                     started = excluded.started, updated = excluded.updated",
                    params![
                        rotation.device,
                        rotation.old.as_str(),
                        rotation.new.as_ref().map(CertificateId::as_str),
                        rotation.step,
                        rotation.started.unix(),
                        rotation.updated.unix(),
                    ],
                )
                .map_err(|e| inner.failed(e))?;
            let body = serde_json::json!({
                "old": rotation.old,
                "new": rotation.new,
                "step": rotation.step,
            });
            let subject = format!("rotation:{}", rotation.device);
            inner.event(rotation.updated, "rotation.step", &subject, &body)
        })
    }

    fn end_rotation(&self, device: &str, outcome: &str, now: UtcTime) -> Result<(), LedgerError> {
        self.write(|inner| {
            let connection = &inner.connection;
            let removed = connection
                .execute("DELETE FROM rotations WHERE device = ?1", [device])
                .map_err(|e| inner.failed(e))?;
            if removed == 0 {
                return Ok(());
            }
            let body = serde_json::json!({ "outcome": outcome });
            inner.event(now, "rotation.ended", &format!("rotation:{device}"), &body)
        })
    }

    fn verify(&self) -> Result<LedgerCheck, LedgerError> {
        let inner = self.inner();
        verify::verify(&inner.connection).map_err(|e| inner.failed(e))
    }
}
