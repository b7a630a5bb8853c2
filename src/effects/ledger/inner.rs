//! One connection to a ledger's file: its set-up, its journal, and what every write needs.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::rows;
use crate::core::ids::CertificateId;
use crate::core::record::{CertificateRecord, CertificateState, Event, GENESIS, SerialKey};
use crate::core::time::UtcTime;
use crate::ports::ledger::{LedgerError, Run};

/// The schema version this program writes.
const VERSION: i64 = 2;
/// What leads from each version to the next.
const MIGRATIONS: [&str; 2] = [include_str!("schema.sql"), include_str!("schema_2.sql")];
/// Pages kept in memory: the random ends of the indexes spill into the log below this.
const CACHE_KIB: i64 = 16 * 1024;
/// How long to wait for another process's transaction.
const BUSY: Duration = Duration::from_secs(30);

/// What one thread at a time may touch.
pub(super) struct Inner {
    pub(super) connection: Connection,
    path: PathBuf,
    /// The last event's number and hash, as of this process's last look.
    head: Cell<(i64, [u8; 32])>,
}

impl Inner {
    /// Over an open connection; [`Inner::prepare`] comes next.
    pub(super) fn new(connection: Connection, path: &Path) -> Self {
        Self {
            connection,
            path: path.to_owned(),
            head: Cell::new((0, GENESIS)),
        }
    }

    /// Sets the connection up and brings the schema to this program's version.
    pub(super) fn prepare(&self) -> Result<(), LedgerError> {
        let at = |e| self.failed(e);
        self.connection.busy_timeout(BUSY).map_err(at)?;
        self.connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(at)?;
        self.connection
            .pragma_update(None, "synchronous", "FULL")
            .map_err(at)?;
        self.connection
            .pragma_update(None, "cache_size", -CACHE_KIB)
            .map_err(at)?;
        self.connection.set_prepared_statement_cache_capacity(64);
        let transaction = self.begin()?;
        let version: i64 = transaction
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(at)?;
        if version > VERSION {
            return Err(LedgerError::Schema {
                path: self.path.clone(),
                found: version,
                known: VERSION,
            });
        }
        let known = usize::try_from(version).unwrap_or_default();
        for step in MIGRATIONS.iter().skip(known) {
            transaction.execute_batch(step).map_err(at)?;
        }
        if version < VERSION {
            transaction
                .pragma_update(None, "user_version", VERSION)
                .map_err(at)?;
        }
        transaction.commit().map_err(at)
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> LedgerError {
        LedgerError::Database {
            path: self.path.clone(),
            why: error.to_string(),
            retry: is_passing(&error),
        }
    }

    /// Starts a writing transaction: waits for other writers, then sees all they wrote.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, LedgerError> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|e| self.failed(e))
    }

    pub(super) fn look_up_head(&self) -> Result<(), LedgerError> {
        let head = self
            .connection
            .query_row(
                "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(|e| self.failed(e))?;
        self.head.set(head.unwrap_or((0, GENESIS)));
        Ok(())
    }

    /// Appends to the journal, inside [`super::sqlite::SqliteLedger`]'s writing transaction.
    pub(super) fn event(
        &self,
        now: UtcTime,
        kind: &str,
        subject: &str,
        body: &serde_json::Value,
    ) -> Result<(), LedgerError> {
        let (last, previous) = self.head.get();
        let event = Event {
            seq: last + 1,
            at: now,
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            body: body.to_string(),
        };
        let hash = event.hash(&previous);
        self.connection
            .prepare_cached(
                "INSERT INTO events (seq, at, kind, subject, body, hash) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    event.seq,
                    event.at.unix(),
                    event.kind,
                    event.subject,
                    event.body,
                    hash
                ])
            })
            .map_err(|e| self.failed(e))?;
        self.head.set((event.seq, hash));
        Ok(())
    }

    pub(super) fn certificate_event(
        &self,
        record: &CertificateRecord,
        detail: &str,
    ) -> Result<(), LedgerError> {
        let mut body = serde_json::json!({
            "device": record.device,
            "row": record.digest(),
        });
        if let Some(id) = &record.id {
            body["id"] = id.as_str().into();
        }
        if !detail.is_empty() {
            body["detail"] = detail.into();
        }
        let kind = format!("certificate.{}", record.state);
        self.event(record.updated, &kind, &record.key().event_subject(), &body)
    }

    pub(super) fn save(&self, record: &CertificateRecord, detail: &str) -> Result<(), LedgerError> {
        rows::update(&self.connection, record).map_err(|e| self.failed(e))?;
        self.certificate_event(record, detail)
    }

    pub(super) fn open_intent(&self, key: &SerialKey) -> Result<CertificateRecord, LedgerError> {
        rows::by_key(&self.connection, key)
            .map_err(|e| self.failed(e))?
            .filter(|record| record.state == CertificateState::Intended)
            .ok_or_else(|| LedgerError::NoIntent(key.event_subject()))
    }

    pub(super) fn certificate(
        &self,
        id: &CertificateId,
    ) -> Result<Option<CertificateRecord>, LedgerError> {
        let sql = format!("SELECT {} FROM certificates WHERE id = ?1", rows::COLUMNS);
        self.connection
            .prepare_cached(&sql)
            .and_then(|mut one| one.query_row([id.as_str()], rows::certificate).optional())
            .map_err(|e| self.failed(e))
    }

    pub(super) fn known(&self, id: &CertificateId) -> Result<CertificateRecord, LedgerError> {
        self.certificate(id)?
            .ok_or_else(|| LedgerError::Unknown(id.to_string()))
    }

    /// The row that keeps `record` out.
    pub(super) fn holder(
        &self,
        record: &CertificateRecord,
    ) -> Result<CertificateRecord, LedgerError> {
        rows::holder(&self.connection, record)
            .map_err(|e| self.failed(e))?
            .ok_or_else(|| LedgerError::Serial(crate::core::ids::hex(&record.serial)))
    }

    /// One event for many rows: each by its serial number, with what it now holds.
    pub(super) fn block_event(
        &self,
        run: &dyn Run,
        kind: &str,
        records: &[CertificateRecord],
    ) -> Result<(), LedgerError> {
        let subject = format!("run:{}", run.id());
        for records in records.chunk_by(|a, b| a.issuer == b.issuer) {
            let rows: serde_json::Map<_, _> = records
                .iter()
                .map(|record| {
                    (
                        crate::core::ids::hex(&record.serial),
                        record.digest().into(),
                    )
                })
                .collect();
            let body = serde_json::json!({ "issuer": records[0].issuer, "rows": rows });
            self.event(records[0].updated, kind, &subject, &body)?;
        }
        Ok(())
    }
}

/// Whether trying again later may help.
pub(super) fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
        )
    )
}
