//! What the ledger asks of a database. SQL is written once, with `?1`, `?2`, … as SQLite reads them;
//! an adapter whose database writes them otherwise rewrites it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::core::record::CertificateRecord;
use crate::core::time::UtcTime;
use crate::ports::ledger::{Confirmation, LedgerError, Run};

/// A value to bind.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Nothing.
    Null,
    /// A number, a truth value, a time in Unix seconds.
    Int(i64),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Blob(Cow<'a, [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<UtcTime> for Value<'_> {
    fn from(time: UtcTime) -> Self {
        Self::Int(time.unix())
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Self::Int(i64::from(truth))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<Cow<'a, str>> for Value<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Blob(bytes.into())
    }
}

impl From<[u8; 32]> for Value<'_> {
    fn from(bytes: [u8; 32]) -> Self {
        Self::Blob(bytes.to_vec().into())
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Why a database did not do as asked.
#[derive(Debug)]
pub(super) struct Fault {
    /// What it says.
    pub(super) why: String,
    /// Whether trying again may help.
    pub(super) retry: bool,
}

impl Fault {
    /// A value in the database that nameplate never wrote.
    pub(super) fn unreadable(column: usize) -> Self {
        Self {
            why: format!("column {column} holds a value that nameplate never wrote"),
            retry: false,
        }
    }

    /// The error of the ledger at `place`.
    pub(super) fn at(self, place: &Path) -> LedgerError {
        LedgerError::Database {
            path: place.to_owned(),
            why: self.why,
            retry: self.retry,
        }
    }
}

/// Whether trying again may help: the disk is full, or failed (EIO).
pub(super) fn is_passing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull || error.raw_os_error() == Some(5)
}

/// One row of an answer, by column.
pub(super) trait Row {
    fn int(&self, at: usize) -> Result<Option<i64>, Fault>;
    fn text(&self, at: usize) -> Result<Option<String>, Fault>;
    fn blob(&self, at: usize) -> Result<Option<Vec<u8>>, Fault>;
}

/// What is done with each row.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&dyn Row) -> Result<ControlFlow<()>, Fault>;

/// A transaction's kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// Waits for every other writer, then sees all they wrote.
    Write,
    /// One moment's state, beside writers.
    Snapshot,
}

/// What one process at a time may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hold {
    /// Make or import CAs.
    Authorities,
    /// Rotate or revoke.
    Rotations,
}

/// A database, used by one thread at a time.
pub(super) trait Database: Send {
    /// Begins a transaction.
    fn begin(&mut self, mode: Mode) -> Result<(), Fault>;
    /// Makes it durable.
    fn commit(&mut self) -> Result<(), Fault>;
    /// Undoes it.
    fn rollback(&mut self);
    /// Runs a statement; how many rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault>;
    /// Runs a query, row by row; the visitor may break off.
    fn query(&mut self, sql: &str, values: &[Value<'_>], visit: Visit<'_>) -> Result<(), Fault>;
    /// Adds intents, each unless a unique index keeps it out; whether it was added. The number
    /// before a record is its issuer's.
    fn insert_free(&mut self, all: &[(i64, Arc<CertificateRecord>)]) -> Result<Vec<bool>, Fault>;
    /// Turns a run's intents into issued certificates; each with its row's number. Those it does not
    /// find are left out of the answer, which is in no particular order.
    fn seal(
        &mut self,
        run: i64,
        all: &[(i64, &Confirmation)],
        now: UtcTime,
    ) -> Result<Vec<(i64, CertificateRecord)>, Fault>;
    /// Takes a hold until the answer is dropped; `None` when another has it.
    fn hold(&mut self, what: Hold) -> Result<Option<Box<dyn std::any::Any>>, Fault>;
    /// Numbers new runs from beyond this one on.
    fn skip_runs(&mut self, last: i64) -> Result<(), Fault>;
    /// Makes a new run's number its own.
    fn begin_run(&mut self, number: i64) -> Result<Box<dyn Run>, Fault>;
    /// Whether the run's process is still there. When in doubt it is: its rows are waited for.
    fn is_alive(&mut self, run: i64) -> bool;
}

/// The first row's value of a query.
pub(super) fn first<T>(
    database: &mut dyn Database,
    (sql, values): (&str, &[Value<'_>]),
    mut read: impl FnMut(&dyn Row) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let mut found = None;
    database.query(sql, values, &mut |row| {
        found = Some(read(row)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Every row of a query.
pub(super) fn every<T>(
    database: &mut dyn Database,
    (sql, values): (&str, &[Value<'_>]),
    mut read: impl FnMut(&dyn Row) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut found = Vec::new();
    database.query(sql, values, &mut |row| {
        found.push(read(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
