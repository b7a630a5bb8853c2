//! The ledger in one SQLite file: WAL, `synchronous=FULL`, so what is committed survives a power
//! cut.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params, params_from_iter};

use super::book::SqlLedger;
use super::sql::{Database, Fault, Hold, Mode, Row, Value, Visit, is_passing};
use super::{rows, runs};
use crate::core::record::{CertificateRecord, CertificateState};
use crate::core::time::UtcTime;
use crate::ports::ledger::{Confirmation, LedgerError, Run};

/// The schema version this program writes.
const VERSION: i64 = 5;
/// What leads from each version to the next.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
];
/// Pages kept in memory.
const CACHE_KIB: i64 = 8 * 1024;
/// Pages that gather in the log before they go to their places: serial numbers end randomly, so a
/// batch changes the same pages over and over.
const CHECKPOINT_PAGES: i64 = 8 * 1024;
/// How long to wait for another process's transaction.
const BUSY: Duration = Duration::from_secs(30);

/// Opens the ledger in the file `path`, creating it (mode 0600) when it is not there.
///
/// # Errors
/// `ledger.database`, `ledger.schema`.
pub fn open(path: &Path) -> Result<SqlLedger, LedgerError> {
    let failed = |fault: Fault| fault.at(path);
    if !path.exists() {
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| failed(io_fault(&e)))?;
    }
    let connection = Connection::open(path).map_err(|e| failed(e.into()))?;
    let mut database = Sqlite {
        connection,
        path: path.to_owned(),
        claimed: HashMap::new(),
    };
    database.settings().map_err(failed)?;
    database.migrate()?;
    Ok(SqlLedger::over(path, Box::new(database)))
}

/// An open file.
struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// What this process claimed and did not seal yet, by issuer's number and serial number: its
    /// row's number and what the row holds, so that it is not searched for and read again.
    claimed: HashMap<(i64, ShortSerial), (i64, Arc<CertificateRecord>)>,
}

/// A serial number's bytes, zeros after them, and how many they are.
type ShortSerial = ([u8; 20], u8);

/// A serial number of at most 20 bytes, as RFC 5280 §4.1.2.2 has them.
fn short(serial: &[u8]) -> Option<ShortSerial> {
    let mut bytes = [0; 20];
    bytes.get_mut(..serial.len())?.copy_from_slice(serial);
    Some((bytes, u8::try_from(serial.len()).ok()?))
}

impl Sqlite {
    fn settings(&self) -> Result<(), Fault> {
        self.connection.busy_timeout(BUSY)?;
        for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL")] {
            self.connection.pragma_update(None, name, value)?;
        }
        self.connection
            .pragma_update(None, "cache_size", -CACHE_KIB)?;
        self.connection
            .pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        self.connection.set_prepared_statement_cache_capacity(64);
        // Else a query that may use a partial index is planned anew for every value bound to it.
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(())
    }

    fn migrate(&mut self) -> Result<(), LedgerError> {
        let place = self.path.clone();
        self.begin(Mode::Write).map_err(|fault| fault.at(&place))?;
        let done = self.steps();
        if done.is_err() {
            self.rollback();
        }
        done
    }

    fn steps(&mut self) -> Result<(), LedgerError> {
        let failed = |fault: rusqlite::Error| Fault::from(fault).at(&self.path);
        let version: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        if version > VERSION {
            return Err(LedgerError::Schema {
                path: self.path.clone(),
                found: version,
                known: VERSION,
            });
        }
        let known = usize::try_from(version).unwrap_or_default();
        for step in MIGRATIONS.iter().skip(known) {
            self.connection.execute_batch(step).map_err(failed)?;
        }
        if version < VERSION {
            self.connection
                .pragma_update(None, "user_version", VERSION)
                .map_err(failed)?;
        }
        self.connection.execute_batch("COMMIT").map_err(failed)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self {
            why: error.to_string(),
            retry: matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                )
            ),
        }
    }
}

fn io_fault(error: &std::io::Error) -> Fault {
    Fault {
        why: error.to_string(),
        retry: is_passing(error),
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Row for rusqlite::Row<'_> {
    fn int(&self, at: usize) -> Result<Option<i64>, Fault> {
        self.get(at).map_err(|_| Fault::unreadable(at))
    }
    fn text(&self, at: usize) -> Result<Option<String>, Fault> {
        self.get(at).map_err(|_| Fault::unreadable(at))
    }
    fn blob(&self, at: usize) -> Result<Option<Vec<u8>>, Fault> {
        self.get(at).map_err(|_| Fault::unreadable(at))
    }
}

impl Database for Sqlite {
    fn begin(&mut self, mode: Mode) -> Result<(), Fault> {
        let sql = match mode {
            Mode::Write => "BEGIN IMMEDIATE",
            Mode::Snapshot => "BEGIN",
        };
        Ok(self.connection.execute_batch(sql)?)
    }

    fn commit(&mut self) -> Result<(), Fault> {
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // Should this fail, the next transaction tells.
            let _ = self.connection.execute_batch("ROLLBACK");
            // Some of it may not be there; what is, is found by its serial number.
            self.claimed.clear();
        }
    }

    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute(params_from_iter(values))? as u64)
    }

    fn query(&mut self, sql: &str, values: &[Value<'_>], visit: Visit<'_>) -> Result<(), Fault> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(params_from_iter(values))?;
        while let Some(row) = found.next()? {
            if visit(row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn insert_free(&mut self, all: &[(i64, Arc<CertificateRecord>)]) -> Result<Vec<bool>, Fault> {
        let mut insert = self.connection.prepare_cached(&format!(
            "INSERT INTO entries ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, \
             ?13, ?14, ?15, ?16, ?17) ON CONFLICT DO NOTHING",
            rows::INTENT_COLUMNS
        ))?;
        let mut added = Vec::with_capacity(all.len());
        for (issuer, record) in all {
            let values = rows::intent_values(*issuer, record);
            let is_new = insert.execute(params_from_iter(&values))? == 1;
            added.push(is_new);
            if is_new && let Some(serial) = short(&record.serial) {
                let nr = self.connection.last_insert_rowid();
                let claimed = (nr, Arc::clone(record));
                self.claimed.insert((*issuer, serial), claimed);
            }
        }
        Ok(added)
    }

    fn seal(
        &mut self,
        run: i64,
        all: &[(i64, &Confirmation)],
        now: UtcTime,
    ) -> Result<Vec<(i64, CertificateRecord)>, Fault> {
        let mut find = self.connection.prepare_cached(&format!(
            "{} WHERE e.issuer = ?1 AND e.serial = ?2",
            rows::SELECT
        ))?;
        let mut check = self.connection.prepare_cached(
            "SELECT nr FROM entries \
             WHERE nr = ?1 AND serial = ?2 AND state = 'intended' AND run = ?3",
        )?;
        // Not from a SELECT: each such INSERT keeps a journal of its own, with copies of all pages.
        let mut seal = self.connection.prepare_cached(
            "INSERT INTO seals (nr, id, der, sealed) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (nr) DO NOTHING",
        )?;
        let mut sealed = Vec::with_capacity(all.len());
        for (issuer, one) in all {
            let serial = &one.key.serial;
            let claimed = short(serial).and_then(|short| self.claimed.remove(&(*issuer, short)));
            let found = match claimed {
                Some((nr, record)) => Some((nr, Arc::unwrap_or_clone(record))),
                None => find
                    .query_row(params![issuer, serial], |row| Ok(rows::numbered(row)))
                    .optional()?
                    .transpose()?,
            };
            let Some((nr, mut record)) = found else {
                break;
            };
            if !check.exists(params![nr, serial, run])?
                || seal.execute(params![nr, one.id.bytes(), one.der, now.unix()])? != 1
            {
                break;
            }
            record.id = Some(one.id.clone());
            record.state = CertificateState::Issued;
            record.updated = now;
            sealed.push((nr, record));
        }
        Ok(sealed)
    }

    fn hold(&mut self, what: Hold) -> Result<Option<Box<dyn std::any::Any>>, Fault> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(match what {
            Hold::Authorities => ".lock",
            Hold::Rotations => ".rotations.lock",
        });
        let failed = |error: &std::io::Error| {
            let fault = io_fault(error);
            Fault {
                why: format!("its lock file: {}", fault.why),
                ..fault
            }
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.with_file_name(name))
            .map_err(|e| failed(&e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    fn skip_runs(&mut self, last: i64) -> Result<(), Fault> {
        self.connection
            .execute("INSERT INTO runs (id, started) VALUES (?1, 0)", [last])?;
        Ok(())
    }

    fn begin_run(&mut self, number: i64) -> Result<Box<dyn Run>, Fault> {
        Ok(Box::new(runs::begin(&self.path, number)?))
    }

    fn is_alive(&mut self, run: i64) -> bool {
        runs::is_alive(&self.path, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{CertificateId, hex};
    use crate::core::record::{Event, GENESIS, IdentityPurpose, Intent, SerialKey};
    use crate::core::time::{Span, Validity};
    use crate::ports::ledger::{Filter, Ledger};

    /// Writes what version 1 wrote for each of `devices`: a row and two events.
    fn version_1(path: &Path, devices: &[&str]) {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let now = UtcTime::from_unix(1_800_000_000);
        let mut previous = GENESIS;
        let mut event = |seq: i64, record: &CertificateRecord| {
            let event = Event {
                seq,
                at: now,
                kind: format!("certificate.{}", record.state),
                subject: record.key().event_subject(),
                body: serde_json::json!({ "row": record.digest() }).to_string(),
            };
            previous = event.hash(&previous);
            connection
                .execute(
                    "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        seq,
                        now.unix(),
                        event.kind,
                        event.subject,
                        event.body,
                        previous
                    ],
                )
                .unwrap();
        };
        for (n, device) in (1_i64..).zip(devices) {
            let mut record = CertificateRecord::intended(&intent(device, n), now);
            event(2 * n - 1, &record);
            let der = device.as_bytes().to_vec();
            record.id = Some(CertificateId::of_der(&der));
            record.state = CertificateState::Issued;
            event(2 * n, &record);
            connection
                .execute(
                    "INSERT INTO certificates VALUES (?1, ?2, ?3, ?4, ?5, 'operational', \
                     'issued', 1, ?6, ?7, ?8, 'EC P-256', NULL, NULL, NULL, ?9, ?10, ?10)",
                    params![
                        n,
                        record.id.as_ref().map(CertificateId::as_str),
                        record.issuer.as_str(),
                        record.serial,
                        device,
                        record.subject,
                        record.validity.not_before.unix(),
                        record.validity.not_after.unix(),
                        der,
                        now.unix()
                    ],
                )
                .unwrap();
        }
    }

    fn intent(device: &str, n: i64) -> Intent {
        let now = UtcTime::from_unix(1_800_000_000);
        Intent {
            key: SerialKey {
                issuer: CertificateId::of_der(b"ca"),
                serial: n.to_be_bytes().to_vec(),
            },
            device: device.to_owned(),
            purpose: IdentityPurpose::Operational,
            subject: format!("CN={device}"),
            validity: Validity {
                not_before: now,
                not_after: now.plus(Span::days(1)),
            },
            key_algorithm: "EC P-256".into(),
            folder: None,
            batch: None,
            replaces: None,
            flaw: None,
        }
    }

    #[test]
    fn a_ledger_of_version_1_goes_on_and_still_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        version_1(&path, &["a", "b"]);
        let ledger = open(&path).unwrap();
        let check = ledger.verify().unwrap();
        assert_eq!(
            (check.broken, check.certificates, check.events),
            (None, 2, 4)
        );
        let names: Vec<String> = ledger
            .certificates(&Filter::default())
            .unwrap()
            .into_iter()
            .map(|record| record.device + &hex(&record.der.unwrap()))
            .collect();
        assert_eq!(names, ["b62", "a61"]);
        let id = CertificateId::of_der(b"a");
        let now = UtcTime::from_unix(1_800_000_001);
        ledger
            .revoke(
                &id,
                crate::core::revocation::RevocationReason::Superseded,
                now,
            )
            .unwrap();
        let run = ledger.begin_run(now).unwrap();
        ledger.claim(&*run, &[intent("c", 3)], now).unwrap();
        drop(ledger);
        let check = open(&path).unwrap().verify().unwrap();
        assert_eq!(
            (check.broken, check.certificates, check.events),
            (None, 3, 6)
        );
    }

    #[test]
    fn a_ledger_of_version_2_goes_on_and_still_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let written = include_str!("../../../tests/vectors/ledger-2.sql");
        Connection::open(&path)
            .unwrap()
            .execute_batch(written)
            .unwrap();
        let ledger = open(&path).unwrap();
        let check = ledger.verify().unwrap();
        assert_eq!(
            (check.broken, check.certificates, check.events),
            (None, 6, 9)
        );
        let all = ledger.certificates(&Filter::default()).unwrap();
        let revoked = all.iter().find(|record| record.device == "p2").unwrap();
        assert_eq!(
            revoked.revocation.map(|one| one.reason.as_str()),
            Some("keyCompromise")
        );
        assert_eq!(revoked.run.as_deref(), Some("1"));
        assert_eq!(ledger.next_crl(&revoked.issuer).unwrap().number, 2);
        let mark = ledger.checkpoint("/plant/devices.tar").unwrap();
        assert_eq!(mark.map(|mark| mark.rows), Some(2));
        let run = ledger.begin_run(UtcTime::from_unix(1_800_000_001)).unwrap();
        assert_eq!(run.id(), "4");
    }

    #[test]
    fn lists_are_found_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        open(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        let any = Filter::default;
        for (filter, index) in [
            (any(), "SEARCH e USING INTEGER PRIMARY KEY"),
            (
                Filter {
                    device: Some("a".into()),
                    ..any()
                },
                "USING COVERING INDEX one_live (device=?)",
            ),
            (
                Filter {
                    device: Some("a".into()),
                    live_only: true,
                    ..any()
                },
                "SEARCH e USING INDEX one_live (device=?)",
            ),
            (
                Filter {
                    batch: Some("a".into()),
                    ..any()
                },
                "SEARCH e USING INDEX by_batch (batch=? AND rowid<?)",
            ),
            (
                Filter {
                    expiring_before: Some(UtcTime::from_unix(1)),
                    ..any()
                },
                "SEARCH e USING INDEX by_expiry",
            ),
        ] {
            let (sql, values) = rows::page(&filter, rows::Cursor::first(&filter), 10);
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let steps: Vec<String> = plan
                .query_map(params_from_iter(values), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert!(steps.iter().any(|step| step.contains(index)), "{steps:#?}");
            assert!(
                !steps
                    .iter()
                    .any(|step| step.contains("TEMP B-TREE FOR ORDER"))
                    || filter.device.is_some(),
                "{steps:#?}"
            );
        }
    }
}
