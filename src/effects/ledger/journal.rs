//! The append-only journal: each event is bound to its past, and says what the rows it wrote hold.

use std::borrow::Borrow;

use serde_json::json;

use super::rows;
use super::sql::{Database, Fault, first};
use crate::core::ids::hex;
use crate::core::record::{CertificateRecord, Event, GENESIS};
use crate::core::time::UtcTime;

/// The journal's end, inside one writing transaction.
pub(super) struct Journal {
    seq: i64,
    hash: [u8; 32],
}

impl Journal {
    /// As it is now.
    pub(super) fn read(database: &mut dyn Database) -> Result<Self, Fault> {
        let sql = "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1";
        let last = first(database, (sql, &[]), |row| {
            let hash = rows::blob(row, 1)?;
            let hash = hash.try_into().map_err(|_| Fault::unreadable(1))?;
            Ok(Self {
                seq: rows::int(row, 0)?,
                hash,
            })
        })?;
        Ok(last.unwrap_or(Self {
            seq: 0,
            hash: GENESIS,
        }))
    }

    /// Appends one event.
    pub(super) fn append(
        &mut self,
        database: &mut dyn Database,
        now: UtcTime,
        (kind, subject, body): (&str, String, String),
    ) -> Result<(), Fault> {
        let event = Event {
            seq: self.seq + 1,
            at: now,
            kind: kind.to_owned(),
            subject,
            body,
        };
        let hash = event.hash(&self.hash);
        insert(database, &event, &hash)?;
        (self.seq, self.hash) = (event.seq, hash);
        Ok(())
    }

    /// One event about one certificate.
    pub(super) fn certificate(
        &mut self,
        database: &mut dyn Database,
        record: &CertificateRecord,
        detail: &str,
    ) -> Result<(), Fault> {
        let mut body = json!({ "device": record.device, "row": record.digest() });
        if let Some(id) = &record.id {
            body["id"] = id.as_str().into();
        }
        if !detail.is_empty() {
            body["detail"] = detail.into();
        }
        let kind = format!("certificate.{}", record.state);
        let subject = record.key().event_subject();
        self.append(database, record.updated, (&kind, subject, body.to_string()))
    }

    /// One event for many certificates: each by its serial number, with what it now holds.
    pub(super) fn block(
        &mut self,
        database: &mut dyn Database,
        (run, kind): (&str, &str),
        records: &[impl Borrow<CertificateRecord>],
    ) -> Result<(), Fault> {
        for records in records.chunk_by(|a, b| a.borrow().issuer == b.borrow().issuer) {
            let body = block_body(records);
            let subject = format!("run:{run}");
            self.append(database, records[0].borrow().updated, (kind, subject, body))?;
        }
        Ok(())
    }
}

/// `{"issuer":ID,"rows":{SERIAL:DIGEST,…}}`, written straight: a block has thousands of rows, and
/// all of it is hexadecimal.
fn block_body(records: &[impl Borrow<CertificateRecord>]) -> String {
    let mut body = String::with_capacity(100 + records.len() * 102);
    body.push_str("{\"issuer\":\"");
    body.push_str(records[0].borrow().issuer.as_str());
    body.push_str("\",\"rows\":{");
    for (n, record) in records.iter().map(Borrow::borrow).enumerate() {
        body.push_str(if n == 0 { "\"" } else { ",\"" });
        body.push_str(&hex(&record.serial));
        body.push_str("\":\"");
        body.push_str(&record.digest());
        body.push('"');
    }
    body.push_str("}}");
    body
}

/// Writes an event as it is.
pub(super) fn insert(database: &mut dyn Database, event: &Event, hash: &[u8]) -> Result<(), Fault> {
    database.execute(
        "INSERT INTO events (seq, at, kind, subject, body, hash) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            event.seq.into(),
            event.at.into(),
            (&event.kind).into(),
            (&event.subject).into(),
            (&event.body).into(),
            hash.into(),
        ],
    )?;
    Ok(())
}
