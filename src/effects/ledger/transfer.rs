//! A whole ledger out of one database, and into an empty other one.

use std::ops::ControlFlow;

use super::rows;
use super::sql::{Database, Fault, Row, first};
use super::work::Work;
use super::{journal, verify};
use crate::core::ledger_file::Entry;
use crate::core::record::{CertificateRecord, Event, LedgerCheck};
use crate::ports::ledger::{Feed, LedgerError};

type Read = fn(&dyn Row) -> Result<Entry, Fault>;
type Each<'a> = &'a mut dyn FnMut(Entry) -> ControlFlow<()>;

/// Everything, inside a snapshot.
pub(super) fn export(database: &mut dyn Database, each: Each<'_>) -> Result<(), Fault> {
    let certificates = format!("{} ORDER BY e.nr", rows::SELECT);
    let parts: [(&str, Read); 6] = [
        (
            "SELECT name, der, parent, folder, origin, created FROM authorities ORDER BY name",
            |row| Ok(Entry::Authority(Box::new(rows::authority(row)?))),
        ),
        (&certificates, |row| {
            Ok(Entry::Certificate(Box::new(rows::certificate(row)?)))
        }),
        (
            "SELECT device, old, new, step, started, updated FROM rotations ORDER BY device",
            |row| Ok(Entry::Rotation(rows::rotation(row)?)),
        ),
        (
            "SELECT output, bytes, rows FROM checkpoints ORDER BY output",
            mark,
        ),
        (
            "SELECT issuer, number, this_update, next_update, der FROM crls \
             ORDER BY issuer, number",
            |row| Ok(Entry::Crl(rows::crl(row)?)),
        ),
        (
            "SELECT seq, at, kind, subject, body, hash FROM events ORDER BY seq",
            event,
        ),
    ];
    for (sql, read) in parts {
        let mut gone_on = ControlFlow::Continue(());
        database.query(sql, &[], &mut |row| {
            gone_on = each(read(row)?);
            Ok(gone_on)
        })?;
        if gone_on.is_break() {
            break;
        }
    }
    Ok(())
}

fn mark(row: &dyn Row) -> Result<Entry, Fault> {
    Ok(Entry::Mark {
        output: rows::text(row, 0)?,
        offset_bytes: rows::unsigned(row, 1)?,
        rows: rows::unsigned(row, 2)?,
    })
}

fn event(row: &dyn Row) -> Result<Entry, Fault> {
    let event = Event {
        seq: rows::int(row, 0)?,
        at: rows::time(row, 1)?,
        kind: rows::text(row, 2)?,
        subject: rows::text(row, 3)?,
        body: rows::text(row, 4)?,
    };
    Ok(Entry::Event(event, rows::blob(row, 5)?))
}

/// Writes what the feed brings and checks the whole; `None` when the feed broke off.
pub(super) fn fill(
    work: &mut Work<'_>,
    feed: &mut dyn FnMut() -> Feed,
) -> Result<Option<LedgerCheck>, LedgerError> {
    let mut last_run = 0;
    loop {
        match feed() {
            Feed::Stop => return Ok(None),
            Feed::End => break,
            Feed::Entry(Entry::Certificate(record)) => {
                last_run = last_run.max(rows::run_number(&record).unwrap_or_default());
                let issuer = work.issuer(&record.issuer)?;
                work.with(|database| certificate(database, issuer, &record))?;
            }
            Feed::Entry(entry) => work.with(|database| other(database, &entry))?,
        }
    }
    work.with(|database| {
        // A new run must not be taken for one that stands in a row.
        if last_run > 0 {
            database.skip_runs(last_run)?;
        }
        verify::verify(database)
    })
    .map(Some)
}

/// Whether nothing was ever written down.
pub(super) fn is_empty(database: &mut dyn Database) -> Result<bool, Fault> {
    for sql in [
        "SELECT seq FROM events LIMIT 1",
        "SELECT nr FROM entries LIMIT 1",
    ] {
        if first(database, (sql, &[]), |row| rows::int(row, 0))?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn certificate(
    database: &mut dyn Database,
    issuer: i64,
    record: &CertificateRecord,
) -> Result<(), Fault> {
    let sql = format!(
        "INSERT INTO entries ({}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         ?14, ?15, ?16, ?17) RETURNING nr",
        rows::INTENT_COLUMNS
    );
    let values = rows::intent_values(issuer, record);
    let nr = first(database, (&sql, &values), |row| rows::int(row, 0))?;
    let nr = nr.ok_or_else(|| Fault::unreadable(0))?;
    rows::update(database, (nr, record))
}

fn other(database: &mut dyn Database, entry: &Entry) -> Result<(), Fault> {
    match entry {
        Entry::Authority(one) => rows::add_authority(database, one),
        Entry::Certificate(_) => Ok(()),
        Entry::Rotation(one) => rows::save_rotation(database, one),
        Entry::Mark {
            output,
            offset_bytes,
            rows,
        } => {
            let mark = crate::ports::ledger::Checkpoint {
                output: output.clone(),
                offset_bytes: *offset_bytes,
                rows: *rows,
            };
            rows::save_checkpoint(database, &mark)
        }
        Entry::Crl(one) => rows::save_crl(database, one),
        Entry::Event(event, hash) => journal::insert(database, event, hash),
    }
}
