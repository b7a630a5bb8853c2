//! Recomputes the journal and compares every row with the last event about it.
//!
//! What events say and what rows hold is sorted on the disk by subject, then read side by side, so
//! that memory stays flat for any number of rows.

use std::ops::ControlFlow;

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, params};

use super::rows;
use super::sql::{Database, Fault, Row, first};
use crate::core::ids::{CertificateId, hex};
use crate::core::record::{Event, GENESIS, LedgerCheck, LedgerFlaw};

/// Bytes of a subject's hash and of a digest that are compared: nobody finds two with the same.
const COMPARED: usize = 16;

/// The whole check, inside a snapshot.
pub(super) fn verify(database: &mut dyn Database) -> Result<LedgerCheck, Fault> {
    let mut book = Book::new()?;
    let mut check = LedgerCheck {
        events: 0,
        certificates: 0,
        authorities: 0,
        head: String::new(),
        broken: None,
    };
    journal(database, &mut book, &mut check)?;
    if check.broken.is_none() {
        certificates(database, &mut book, &mut check)?;
    }
    if check.broken.is_none() {
        others(database, &mut book, &mut check)?;
        check.broken = book.compare(database)?;
    }
    Ok(check)
}

fn flaw(event: Option<i64>, subject: &str, problem: &str) -> LedgerFlaw {
    LedgerFlaw {
        event,
        subject: subject.to_owned(),
        problem: problem.to_owned(),
    }
}

fn event_of(row: &dyn Row) -> Result<Event, Fault> {
    Ok(Event {
        seq: rows::int(row, 0)?,
        at: rows::time(row, 1)?,
        kind: rows::text(row, 2)?,
        subject: rows::text(row, 3)?,
        body: rows::text(row, 4)?,
    })
}

fn journal(
    database: &mut dyn Database,
    book: &mut Book,
    check: &mut LedgerCheck,
) -> Result<(), Fault> {
    let sql = "SELECT seq, at, kind, subject, body, hash FROM events ORDER BY seq";
    let mut previous = GENESIS;
    database.query(sql, &[], &mut |row| {
        let event = event_of(row)?;
        let hash = event.hash(&previous);
        let problem = if u64::try_from(event.seq).ok() != Some(check.events + 1) {
            "an event before this one is missing"
        } else if rows::blob(row, 5)? != hash {
            "its hash does not fit its content and its past"
        } else {
            previous = hash;
            check.events += 1;
            for (subject, said) in said(&event) {
                book.note(&subject, event.seq, &said)?;
            }
            return Ok(ControlFlow::Continue(()));
        };
        check.broken = Some(flaw(Some(event.seq), &event.subject, problem));
        Ok(ControlFlow::Break(()))
    })?;
    check.head = hex(&previous);
    Ok(())
}

/// Of which rows the event speaks, and what it says they hold.
fn said(event: &Event) -> Vec<(String, String)> {
    let body: serde_json::Value = serde_json::from_str(&event.body).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(rows) = body["rows"].as_object() {
        let issuer = text(&body["issuer"]);
        let subject = |serial| format!("certificate:{issuer}:{serial}");
        return rows
            .iter()
            .map(|(serial, said)| (subject(serial), text(said)))
            .collect();
    }
    let about_a_row = ["certificate:", "authority:", "crl:"]
        .iter()
        .any(|kind| event.subject.starts_with(kind));
    let said = about_a_row.then(|| (event.subject.clone(), text(&body["row"])));
    said.into_iter().collect()
}

fn certificates(
    database: &mut dyn Database,
    book: &mut Book,
    check: &mut LedgerCheck,
) -> Result<(), Fault> {
    let sql = format!("{} ORDER BY e.nr", rows::SELECT);
    database.query(&sql, &[], &mut |row| {
        let (nr, record) = rows::numbered(row)?;
        let subject = record.key().event_subject();
        if record.der.as_deref().map(CertificateId::of_der) != record.id {
            let problem = "the certificate is not the one of its id";
            check.broken = Some(flaw(None, &subject, problem));
            return Ok(ControlFlow::Break(()));
        }
        book.row(&subject, nr, &record.digest())?;
        check.certificates += 1;
        Ok(ControlFlow::Continue(()))
    })
}

/// CAs and CRLs: few, so that their names are kept.
fn others(
    database: &mut dyn Database,
    book: &mut Book,
    check: &mut LedgerCheck,
) -> Result<(), Fault> {
    for authority in rows::authorities(database)? {
        book.other(authority.event_subject(), &authority.digest())?;
        check.authorities += 1;
    }
    for crl in rows::crls(database)? {
        book.other(crl.event_subject(), &crl.digest())?;
    }
    Ok(())
}

/// What was said and what is there, on the disk.
struct Book {
    connection: Connection,
    others: Vec<String>,
}

/// What the last event said of a subject, and what its row holds.
#[derive(Default)]
struct Page {
    key: Vec<u8>,
    event: Option<(i64, Option<Vec<u8>>)>,
    row: Option<(i64, Option<Vec<u8>>)>,
}

impl Book {
    fn new() -> Result<Self, Fault> {
        // A nameless database is a temporary file that goes with its connection.
        let connection = Connection::open("")?;
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA cache_size = -8192; BEGIN; \
             CREATE TABLE lines (key BLOB, seq INTEGER, nr INTEGER, digest BLOB);",
        )?;
        Ok(Self {
            connection,
            others: Vec::new(),
        })
    }

    fn line(&self, subject: &str, (seq, nr): (i64, Option<i64>), said: &str) -> Result<(), Fault> {
        // A digest is hexadecimal; whatever else stands there agrees with no row.
        let said: Option<CertificateId> = said.parse().ok();
        let said = said.map(|said| said.bytes()[..COMPARED].to_vec());
        self.connection
            .prepare_cached("INSERT INTO lines (key, seq, nr, digest) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key(subject), seq, nr, said])?;
        Ok(())
    }

    fn note(&self, subject: &str, seq: i64, said: &str) -> Result<(), Fault> {
        self.line(subject, (seq, None), said)
    }

    fn row(&self, subject: &str, nr: i64, digest: &str) -> Result<(), Fault> {
        self.line(subject, (i64::MAX, Some(nr)), digest)
    }

    fn other(&mut self, subject: String, digest: &str) -> Result<(), Fault> {
        self.others.push(subject);
        let nr = i64::try_from(self.others.len()).unwrap_or(i64::MAX);
        self.row(&self.others[self.others.len() - 1], -nr, digest)
    }

    /// The first subject whose last event and row do not agree.
    fn compare(&self, database: &mut dyn Database) -> Result<Option<LedgerFlaw>, Fault> {
        let mut all = self
            .connection
            .prepare("SELECT key, seq, nr, digest FROM lines ORDER BY key, seq")?;
        let mut lines = all.query([])?;
        let mut page = Page::default();
        while let Some(line) = lines.next()? {
            let key: Vec<u8> = line.get(0)?;
            if key != page.key {
                if let Some(problem) = page.problem() {
                    return self.tell(database, &page, problem).map(Some);
                }
                page = Page {
                    key,
                    ..Page::default()
                };
            }
            let digest = line.get(3)?;
            match line.get::<_, Option<i64>>(2)? {
                None => page.event = Some((line.get(1)?, digest)),
                Some(nr) => page.row = Some((nr, digest)),
            }
        }
        match page.problem() {
            Some(problem) => self.tell(database, &page, problem).map(Some),
            None => Ok(None),
        }
    }

    /// Names what does not fit.
    fn tell(
        &self,
        database: &mut dyn Database,
        page: &Page,
        problem: &str,
    ) -> Result<LedgerFlaw, Fault> {
        let seq = page.event.as_ref().map(|(seq, _)| *seq);
        let subject = match (&page.row, seq) {
            (Some((nr, _)), _) if *nr < 0 => {
                let at = usize::try_from(-nr - 1).unwrap_or_default();
                self.others.get(at).cloned()
            }
            (Some((nr, _)), _) => {
                let sql = format!("{} WHERE e.nr = ?1", rows::SELECT);
                first(database, (&sql, &[(*nr).into()]), rows::certificate)?
                    .map(|record| record.key().event_subject())
            }
            (None, Some(seq)) => {
                let sql = "SELECT seq, at, kind, subject, body FROM events WHERE seq = ?1";
                let event = first(database, (sql, &[seq.into()]), event_of)?;
                let mut all = event.iter().flat_map(said);
                all.find_map(|(subject, _)| (key(&subject) == page.key).then_some(subject))
            }
            (None, None) => None,
        };
        Ok(flaw(seq, &subject.unwrap_or_default(), problem))
    }
}

impl Page {
    fn problem(&self) -> Option<&'static str> {
        match (&self.event, &self.row) {
            (None, None) => None,
            (None, Some(_)) => Some("a row that no event speaks of"),
            (Some(_), None) => Some("the row this event wrote is gone"),
            (Some((_, said)), Some((_, held))) => {
                (said != held).then_some("the row differs from what this event wrote")
            }
        }
    }
}

fn key(subject: &str) -> Vec<u8> {
    digest(&SHA256, subject.as_bytes()).as_ref()[..COMPARED].to_vec()
}
