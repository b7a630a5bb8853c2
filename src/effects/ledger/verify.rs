//! Recomputes the journal and compares every row with the last event about it.

use rusqlite::{Connection, params};

use super::rows;
use crate::core::ids::{CertificateId, hex};
use crate::core::record::{Event, GENESIS, LedgerCheck, LedgerFlaw};
use crate::core::time::UtcTime;

/// The whole check, reading one snapshot.
pub(super) fn verify(connection: &Connection) -> rusqlite::Result<LedgerCheck> {
    let snapshot = connection.unchecked_transaction()?;
    // On disk when it is large: memory stays flat.
    snapshot.execute_batch(
        "DROP TABLE IF EXISTS temp.spoken;
         CREATE TEMP TABLE spoken (subject TEXT PRIMARY KEY, seq INTEGER NOT NULL, row TEXT NOT NULL)
         WITHOUT ROWID;",
    )?;
    let (events, head, mut broken) = journal(&snapshot)?;
    let mut check = LedgerCheck {
        events,
        certificates: 0,
        authorities: 0,
        head: hex(&head),
        broken: None,
    };
    if broken.is_none() {
        (check.certificates, broken) = certificates(&snapshot)?;
    }
    if broken.is_none() {
        (check.authorities, broken) = authorities(&snapshot)?;
    }
    if broken.is_none() {
        broken = missing_rows(&snapshot)?;
    }
    check.broken = broken;
    Ok(check)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every caller has an option to fill"
)]
fn flaw(event: Option<i64>, subject: impl Into<String>, problem: &str) -> Option<LedgerFlaw> {
    Some(LedgerFlaw {
        event,
        subject: subject.into(),
        problem: problem.into(),
    })
}

type Journal = (u64, [u8; 32], Option<LedgerFlaw>);

fn journal(connection: &Connection) -> rusqlite::Result<Journal> {
    let mut statement =
        connection.prepare("SELECT seq, at, kind, subject, body, hash FROM events ORDER BY seq")?;
    let mut all = statement.query([])?;
    let (mut count, mut previous) = (0_u64, GENESIS);
    while let Some(row) = all.next()? {
        let event = Event {
            seq: row.get(0)?,
            at: UtcTime::from_unix(row.get(1)?),
            kind: row.get(2)?,
            subject: row.get(3)?,
            body: row.get(4)?,
        };
        let stored: Vec<u8> = row.get(5)?;
        let broken = if u64::try_from(event.seq).ok() != Some(count + 1) {
            flaw(
                Some(event.seq),
                &event.subject,
                "an event before this one is missing",
            )
        } else if stored != event.hash(&previous) {
            flaw(
                Some(event.seq),
                &event.subject,
                "its hash does not fit its content and its past",
            )
        } else {
            None
        };
        if broken.is_some() {
            return Ok((count, previous, broken));
        }
        previous = event.hash(&previous);
        speak(connection, &event)?;
        count += 1;
    }
    Ok((count, previous, None))
}

/// Remembers of which rows the event speaks, and what it says they hold.
fn speak(connection: &Connection, event: &Event) -> rusqlite::Result<()> {
    let mut keep = connection.prepare_cached(
        "INSERT INTO temp.spoken (subject, seq, row) VALUES (?1, ?2, ?3) \
         ON CONFLICT (subject) DO UPDATE SET seq = excluded.seq, row = excluded.row",
    )?;
    let body: serde_json::Value = serde_json::from_str(&event.body).unwrap_or_default();
    if let Some(rows) = body["rows"].as_object() {
        let issuer = body["issuer"].as_str().unwrap_or_default();
        for (serial, digest) in rows {
            let subject = format!("certificate:{issuer}:{serial}");
            keep.execute(params![subject, event.seq, digest.as_str()])?;
        }
    } else if event.subject.starts_with("certificate:") || event.subject.starts_with("authority:") {
        let digest = body["row"].as_str().unwrap_or_default();
        keep.execute(params![event.subject, event.seq, digest])?;
    }
    Ok(())
}

/// The last event about `subject` and the digest of the row it speaks of.
fn last_event(connection: &Connection, subject: &str) -> rusqlite::Result<(Option<i64>, String)> {
    connection
        .prepare_cached("SELECT seq, row FROM temp.spoken WHERE subject = ?1")?
        .query_row([subject], |row| Ok((Some(row.get(0)?), row.get(1)?)))
        .or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok((None, String::new())),
            error => Err(error),
        })
}

type Counted = (u64, Option<LedgerFlaw>);

fn certificates(connection: &Connection) -> rusqlite::Result<Counted> {
    let sql = format!("SELECT {} FROM certificates ORDER BY row", rows::COLUMNS);
    let mut statement = connection.prepare(&sql)?;
    let mut all = statement.query([])?;
    let mut count = 0;
    while let Some(row) = all.next()? {
        let record = rows::certificate(row)?;
        let subject = record.key().event_subject();
        let (seq, digest) = last_event(connection, &subject)?;
        if seq.is_none() {
            return Ok((count, flaw(None, subject, "a row that no event speaks of")));
        }
        if digest != record.digest() {
            return Ok((
                count,
                flaw(seq, subject, "the row differs from what this event wrote"),
            ));
        }
        if record.der.as_deref().map(CertificateId::of_der) != record.id {
            return Ok((
                count,
                flaw(seq, subject, "the certificate is not the one of its id"),
            ));
        }
        count += 1;
    }
    Ok((count, None))
}

fn authorities(connection: &Connection) -> rusqlite::Result<Counted> {
    let mut statement = connection.prepare(
        "SELECT name, der, parent, folder, origin, created FROM authorities ORDER BY name",
    )?;
    let mut all = statement.query([])?;
    let mut count = 0;
    while let Some(row) = all.next()? {
        let record = rows::authority(row)?;
        let subject = record.event_subject();
        let (seq, digest) = last_event(connection, &subject)?;
        if digest != record.digest() {
            return Ok((
                count,
                flaw(seq, subject, "the row differs from what its event wrote"),
            ));
        }
        count += 1;
    }
    Ok((count, None))
}

/// Events about rows that are gone.
fn missing_rows(connection: &Connection) -> rusqlite::Result<Option<LedgerFlaw>> {
    let gone: rusqlite::Result<String> = connection.query_row(
        "SELECT subject FROM temp.spoken EXCEPT \
         SELECT 'certificate:' || issuer || ':' || lower(hex(serial)) FROM certificates EXCEPT \
         SELECT 'authority:' || name FROM authorities LIMIT 1",
        [],
        |row| row.get(0),
    );
    match gone {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(error) => Err(error),
        Ok(subject) => {
            let (seq, _) = last_event(connection, &subject)?;
            Ok(flaw(seq, subject, "the row this event wrote is gone"))
        }
    }
}
