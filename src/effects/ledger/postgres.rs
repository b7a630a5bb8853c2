//! The ledger on a PostgreSQL server. Writers take turns at an advisory lock, so that the journal is
//! one chain; runs and holds are advisory locks of the session, which the server takes back when
//! the connection ends.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, Statement};
use ring::digest::{SHA256, digest};

use super::book::SqlLedger;
use super::connect::connect;
use super::rows;
use super::sql::{Database, Fault, Hold, Mode, Row, Value, Visit, first};
use crate::core::ledger_place::ServerAccess;
use crate::core::record::CertificateRecord;
use crate::core::time::UtcTime;
use crate::ports::ledger::{Confirmation, LedgerError, Run};

/// The schema version this program writes.
const VERSION: i64 = 5;
/// The first version there was on PostgreSQL.
const FIRST: i64 = 3;
const SCHEMA: &str = include_str!("schema_postgres.sql");
/// What leads from each version to the next.
const MIGRATIONS: [&str; 2] = [
    include_str!("schema_postgres_4.sql"),
    include_str!("schema_postgres_5.sql"),
];
/// How long to wait for another process's transaction; what a commit that was answered means.
const SESSION: &str = "SET lock_timeout = '30s'; SET client_min_messages = warning; \
     SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off';";
/// Prepared statements that are kept.
const STATEMENTS: usize = 128;

/// Connects to the ledger, making its tables when they are not there.
///
/// # Errors
/// `ledger.database`, `ledger.schema`.
pub fn open(access: &ServerAccess) -> Result<SqlLedger, LedgerError> {
    let place = PathBuf::from(access.url.to_string());
    let failed = |fault: Fault| fault.at(&place);
    let mut client = connect(access).map_err(failed)?;
    client
        .batch_execute(SESSION)
        .map_err(|e| failed(e.into()))?;
    let mut database = Postgres {
        space: String::new(),
        shared: Arc::new(Mutex::new(Shared {
            client,
            statements: HashMap::new(),
            held: HashSet::new(),
        })),
    };
    database.space = database.find_space().map_err(failed)?;
    database.migrate(&place)?;
    Ok(SqlLedger::over(&place, Box::new(database)))
}

/// An open connection.
struct Postgres {
    shared: Arc<Mutex<Shared>>,
    /// The schema that holds the tables: locks of two ledgers in one database are told apart by it.
    space: String,
}

/// What locks give back through.
struct Shared {
    client: Client,
    statements: HashMap<String, Statement>,
    /// Locks that this session has; PostgreSQL would give them to it a second time.
    held: HashSet<i64>,
}

impl Shared {
    fn prepared(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(known) = self.statements.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(&sql.replace('?', "$"))?;
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Postgres {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    fn find_space(&mut self) -> Result<String, Fault> {
        let sql = "SELECT current_schema()::text";
        first(self, (sql, &[]), |row| row.text(0))?
            .flatten()
            .ok_or_else(|| Fault {
                why: "no schema of the search path is there".into(),
                retry: false,
            })
    }

    /// The advisory lock of `what` in this ledger.
    fn key(&self, what: &str) -> i64 {
        let name = format!("nameplate {} {what}", self.space);
        let hash = digest(&SHA256, name.as_bytes());
        let mut key = [0; 8];
        key.copy_from_slice(&hash.as_ref()[..8]);
        i64::from_be_bytes(key)
    }

    fn migrate(&mut self, place: &Path) -> Result<(), LedgerError> {
        let failed = |fault: Fault| fault.at(place);
        self.begin(Mode::Write).map_err(failed)?;
        let found = self.version().map_err(failed)?;
        if let Some(found) = found
            && !(FIRST..=VERSION).contains(&found)
        {
            self.rollback();
            return Err(LedgerError::Schema {
                path: place.to_owned(),
                found,
                known: VERSION,
            });
        }
        self.steps(found)
            .inspect_err(|_| self.rollback())
            .map_err(failed)?;
        self.commit().map_err(failed)
    }

    /// From the version `found` to this program's.
    fn steps(&self, found: Option<i64>) -> Result<(), Fault> {
        if found == Some(VERSION) {
            return Ok(());
        }
        let mut shared = self.shared();
        if found.is_none() {
            shared.client.batch_execute(SCHEMA)?;
            shared.client.batch_execute(
                "CREATE TABLE nameplate_schema (version BIGINT NOT NULL); \
                 INSERT INTO nameplate_schema VALUES (0)",
            )?;
        }
        let known = usize::try_from(found.unwrap_or(FIRST) - FIRST).unwrap_or_default();
        for step in MIGRATIONS.iter().skip(known) {
            shared.client.batch_execute(step)?;
        }
        shared
            .client
            .batch_execute(&format!("UPDATE nameplate_schema SET version = {VERSION}"))?;
        Ok(())
    }

    fn version(&mut self) -> Result<Option<i64>, Fault> {
        let sql = "SELECT 1::bigint FROM pg_catalog.pg_tables \
                   WHERE schemaname = ?1 AND tablename = 'nameplate_schema'";
        let space = self.space.clone();
        if first(self, (sql, &[(&space).into()]), |_| Ok(()))?.is_none() {
            return Ok(None);
        }
        let sql = "SELECT version FROM nameplate_schema";
        first(self, (sql, &[]), |row| rows::int(row, 0))
    }

    /// Takes a lock of this session, unless another has it.
    fn try_lock(&self, key: i64) -> Result<Option<Locked>, Fault> {
        let mut shared = self.shared();
        if shared.held.contains(&key) {
            return Ok(None);
        }
        let statement = shared.prepared("SELECT pg_try_advisory_lock(?1)")?;
        let row = shared.client.query_one(&statement, &[&key])?;
        if !row.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        shared.held.insert(key);
        Ok(Some(Locked {
            key,
            shared: Arc::clone(&self.shared),
        }))
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lock of the session, until it is dropped.
struct Locked {
    key: i64,
    shared: Arc<Mutex<Shared>>,
}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.held.remove(&self.key);
        // A connection that is gone has given it back.
        let _ = shared
            .client
            .query_one("SELECT pg_advisory_unlock($1)", &[&self.key]);
    }
}

/// A living run.
struct LockedRun {
    id: String,
    _lock: Locked,
}

impl Run for LockedRun {
    fn id(&self) -> &str {
        &self.id
    }
}

impl From<postgres::Error> for Fault {
    fn from(error: postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            return unanswered(&error);
        };
        let code = database.code().code();
        let passing = ["08", "40", "53", "57", "58"];
        Self {
            why: database.message().to_owned(),
            retry: passing.contains(&&code[..2]) || code == "55P03",
        }
    }
}

/// Of an error that no statement of the server's is: the way to it, or what was to be sent.
fn unanswered(error: &postgres::Error) -> Fault {
    let mut why = error.to_string();
    let mut retry = error.is_closed() || why.contains("timeout");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if !why.contains(&inner.to_string()) {
            why = format!("{why}: {inner}");
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            let ours = [ErrorKind::InvalidData, ErrorKind::InvalidInput];
            retry |= !ours.contains(&io.kind());
        }
        cause = inner.source();
    }
    if why.contains("password missing") {
        why = "the server asks for a password: name a file that holds it with \
               `ledger_password_file`, or set PGPASSWORD"
            .into();
    }
    Fault { why, retry }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Self::Int(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Blob(bytes) => bytes.as_ref().to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl Row for postgres::Row {
    fn int(&self, at: usize) -> Result<Option<i64>, Fault> {
        self.try_get(at).map_err(|_| Fault::unreadable(at))
    }
    fn text(&self, at: usize) -> Result<Option<String>, Fault> {
        self.try_get(at).map_err(|_| Fault::unreadable(at))
    }
    fn blob(&self, at: usize) -> Result<Option<Vec<u8>>, Fault> {
        self.try_get(at).map_err(|_| Fault::unreadable(at))
    }
}

/// One column of many rows, as an array.
enum Column<'a> {
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<&'a str>>),
    Blobs(Vec<Option<&'a [u8]>>),
}

impl Column<'_> {
    fn array(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Ints(all) => all,
            Self::Texts(all) => all,
            Self::Blobs(all) => all,
        }
    }
}

/// The types of [`rows::INTENT_COLUMNS`]: `i` number, `t` text, `b` bytes.
const INTENT_TYPES: [char; 17] = [
    'i', 'b', 't', 't', 't', 'i', 't', 'i', 'i', 't', 't', 't', 'b', 'i', 'i', 'i', 't',
];

fn columns<'a, const N: usize>(rows: &'a [[Value<'a>; N]], types: [char; N]) -> Vec<Column<'a>> {
    let column = |at: usize| {
        let values = rows.iter().map(move |row| &row[at]);
        match types[at] {
            'i' => Column::Ints(
                values
                    .map(|value| match value {
                        Value::Int(number) => Some(*number),
                        _ => None,
                    })
                    .collect(),
            ),
            'b' => Column::Blobs(
                values
                    .map(|value| match value {
                        Value::Blob(bytes) => Some(bytes.as_ref()),
                        _ => None,
                    })
                    .collect(),
            ),
            _ => Column::Texts(
                values
                    .map(|value| match value {
                        Value::Text(text) => Some(text.as_ref()),
                        _ => None,
                    })
                    .collect(),
            ),
        }
    };
    (0..N).map(column).collect()
}

/// `?1::bigint[], ?2::bytea[], …`
fn arrays(types: &[char]) -> String {
    let one = |(n, kind): (usize, &char)| {
        let kind = match kind {
            'i' => "bigint",
            'b' => "bytea",
            _ => "text",
        };
        format!("?{n}::{kind}[]")
    };
    (1..).zip(types).map(one).collect::<Vec<_>>().join(", ")
}

const SEAL: &str = "WITH \
     given AS (SELECT * FROM UNNEST(?1::bigint[], ?2::bytea[], ?3::bytea[], ?4::bytea[]) \
               AS g (issuer, serial, id, der)), \
     kept AS (INSERT INTO seals (nr, id, der, sealed) \
              SELECT e.nr, g.id, g.der, ?5 FROM given g \
              JOIN entries e ON e.issuer = g.issuer AND e.serial = g.serial \
              WHERE e.state = 'intended' AND e.run = ?6 \
              ON CONFLICT (nr) DO NOTHING RETURNING nr, id, sealed) \
     SELECT k.id, i.id, e.serial, e.device, e.purpose, e.state, e.live, e.subject, \
     e.not_before, e.not_after, e.key_algorithm, e.folder, e.batch, e.replaces, NULL::bytea, \
     e.created, e.updated, e.run, e.flaw, e.revoked, e.reason, e.nr, k.sealed \
     FROM kept k JOIN entries e ON e.nr = k.nr JOIN issuers i ON i.ref = e.issuer ORDER BY e.nr";

impl Database for Postgres {
    fn begin(&mut self, mode: Mode) -> Result<(), Fault> {
        let key = self.key("writers");
        let mut shared = self.shared();
        match mode {
            Mode::Write => {
                shared.client.batch_execute("BEGIN")?;
                let statement = shared.prepared("SELECT pg_advisory_xact_lock(?1)")?;
                let taken = shared.client.query_one(&statement, &[&key]);
                if let Err(error) = taken {
                    let _ = shared.client.batch_execute("ROLLBACK");
                    return Err(error.into());
                }
            }
            Mode::Snapshot => shared
                .client
                .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?,
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Fault> {
        Ok(self.shared().client.batch_execute("COMMIT")?)
    }

    fn rollback(&mut self) {
        // Should this fail, the connection is gone, and the transaction with it.
        let _ = self.shared().client.batch_execute("ROLLBACK");
    }

    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let mut shared = self.shared();
        let statement = shared.prepared(sql)?;
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|one| one as _).collect();
        Ok(shared.client.execute(&statement, &values)?)
    }

    fn query(&mut self, sql: &str, values: &[Value<'_>], visit: Visit<'_>) -> Result<(), Fault> {
        let mut shared = self.shared();
        let statement = shared.prepared(sql)?;
        let values = values.iter().map(|one| one as &(dyn ToSql + Sync));
        let mut found = shared.client.query_raw(&statement, values)?;
        while let Some(row) = found.next()? {
            if visit(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn insert_free(&mut self, all: &[(i64, Arc<CertificateRecord>)]) -> Result<Vec<bool>, Fault> {
        let values: Vec<_> = all
            .iter()
            .map(|(issuer, record)| rows::intent_values(*issuer, record))
            .collect();
        let columns = columns(&values, INTENT_TYPES);
        let arrays: Vec<_> = columns.iter().map(Column::array).collect();
        let mut shared = self.shared();
        let statement = shared.prepared(&format!(
            "INSERT INTO entries ({}) SELECT * FROM UNNEST({}) ON CONFLICT DO NOTHING \
             RETURNING issuer, serial",
            rows::INTENT_COLUMNS,
            self::arrays(&INTENT_TYPES)
        ))?;
        let mut added = HashSet::with_capacity(all.len());
        for row in shared.client.query(&statement, &arrays)? {
            added.insert((row.try_get::<_, i64>(0)?, row.try_get::<_, Vec<u8>>(1)?));
        }
        // Taken out when met: a serial number that stands twice in one block was added once.
        let was_added = |(issuer, record): &(i64, Arc<CertificateRecord>)| {
            added.remove(&(*issuer, record.serial.clone()))
        };
        Ok(all.iter().map(was_added).collect())
    }

    fn seal(
        &mut self,
        run: i64,
        all: &[(i64, &Confirmation)],
        now: UtcTime,
    ) -> Result<Vec<(i64, CertificateRecord)>, Fault> {
        let ids: Vec<_> = all.iter().map(|(_, one)| one.id.bytes()).collect();
        let issuers: Vec<i64> = all.iter().map(|(issuer, _)| *issuer).collect();
        let serials: Vec<&[u8]> = all.iter().map(|(_, one)| &one.key.serial[..]).collect();
        let ders: Vec<&[u8]> = all.iter().map(|(_, one)| &one.der[..]).collect();
        let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
        let mut shared = self.shared();
        let statement = shared.prepared(SEAL)?;
        let sealed = shared.client.query(
            &statement,
            &[&issuers, &serials, &ids, &ders, &now.unix(), &run],
        )?;
        sealed.iter().map(|row| rows::numbered(row)).collect()
    }

    fn hold(&mut self, what: Hold) -> Result<Option<Box<dyn std::any::Any>>, Fault> {
        let key = self.key(match what {
            Hold::Authorities => "authorities",
            Hold::Rotations => "rotations",
        });
        Ok(self.try_lock(key)?.map(|locked| Box::new(locked) as _))
    }

    fn skip_runs(&mut self, last: i64) -> Result<(), Fault> {
        let sql = "SELECT setval(pg_get_serial_sequence('runs', 'id'), ?1)";
        first(self, (sql, &[last.into()]), |_| Ok(()))?;
        Ok(())
    }

    fn begin_run(&mut self, number: i64) -> Result<Box<dyn Run>, Fault> {
        let key = self.key(&format!("run {number}"));
        let lock = self.try_lock(key)?.ok_or_else(|| Fault {
            why: format!("run {number} is another's"),
            retry: true,
        })?;
        Ok(Box::new(LockedRun {
            id: number.to_string(),
            _lock: lock,
        }))
    }

    fn is_alive(&mut self, run: i64) -> bool {
        let key = self.key(&format!("run {run}"));
        // As pg_locks shows the two halves of a key.
        let [high, low] = [key >> 32 & 0xffff_ffff, key & 0xffff_ffff];
        let sql = "SELECT 1::bigint FROM pg_catalog.pg_locks WHERE locktype = 'advisory' \
                   AND granted AND objsubid = 1 AND classid::bigint = ?1 AND objid::bigint = ?2 \
                   AND database = (SELECT oid FROM pg_catalog.pg_database \
                                   WHERE datname = current_database())";
        let found = first(self, (sql, &[high.into(), low.into()]), |_| Ok(()));
        !matches!(found, Ok(None))
    }
}
