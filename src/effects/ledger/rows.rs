//! Rows to records and back.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::ids;
use super::sql::{Database, Fault, Row, Value, every, first};
use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, IdentityPurpose, Origin,
    RotationRecord, SerialKey,
};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::{UtcTime, Validity};
use crate::ports::ledger::{Checkpoint, Filter, NextCrl, RevokedRow};

/// A certificate's columns, in the order that [`certificate`] reads, and where they are. Outer
/// joins, so that a database begins with `entries` and meets them in order. An intent with a seal
/// that says when is issued since then.
pub(super) const SELECT: &str = "SELECT s.id, i.id, e.serial, e.device, e.purpose, e.state, \
     e.live, e.subject, e.not_before, e.not_after, e.key_algorithm, e.folder, e.batch, \
     e.replaces, s.der, e.created, e.updated, e.run, e.flaw, e.revoked, e.reason, e.nr, \
     s.sealed \
     FROM entries e LEFT JOIN issuers i ON i.ref = e.issuer LEFT JOIN seals s ON s.nr = e.nr";

/// The columns of `entries` that an intent fills, in the order of [`intent_values`].
pub(super) const INTENT_COLUMNS: &str = "issuer, serial, device, purpose, state, live, subject, \
     not_before, not_after, key_algorithm, folder, batch, replaces, created, updated, run, flaw";

/// Which column of [`SELECT`] is the row's number.
const NUMBER: usize = 21;

/// Which column of [`SELECT`] is the time of an intent's seal.
const SEALED: usize = 22;

/// Reads one row of [`SELECT`].
pub(super) fn certificate(row: &dyn Row) -> Result<CertificateRecord, Fault> {
    let mut record = written(row)?;
    if record.state == CertificateState::Intended
        && let Some(sealed) = row.int(SEALED)?
    {
        record.state = CertificateState::Issued;
        record.updated = UtcTime::from_unix(sealed);
    }
    Ok(record)
}

fn written(row: &dyn Row) -> Result<CertificateRecord, Fault> {
    Ok(CertificateRecord {
        id: id_bytes(row, 0)?,
        issuer: required(1, id_bytes(row, 1)?)?,
        serial: required(2, row.blob(2)?)?,
        device: text(row, 3)?,
        purpose: required(4, IdentityPurpose::from_word(&text(row, 4)?))?,
        state: required(5, CertificateState::from_word(&text(row, 5)?))?,
        live: int(row, 6)? != 0,
        subject: text(row, 7)?,
        validity: Validity {
            not_before: time(row, 8)?,
            not_after: time(row, 9)?,
        },
        key_algorithm: text(row, 10)?,
        folder: row.text(11)?.map(PathBuf::from),
        batch: row.text(12)?,
        replaces: id_bytes(row, 13)?,
        der: row.blob(14)?,
        created: time(row, 15)?,
        updated: time(row, 16)?,
        run: row.int(17)?.map(|run| run.to_string()),
        flaw: row.text(18)?,
        revocation: revocation(row)?,
    })
}

/// Reads one row of [`SELECT`] with its number.
pub(super) fn numbered(row: &dyn Row) -> Result<(i64, CertificateRecord), Fault> {
    Ok((int(row, NUMBER)?, certificate(row)?))
}

fn revocation(row: &dyn Row) -> Result<Option<Revocation>, Fault> {
    let Some(at) = row.int(19)? else {
        return Ok(None);
    };
    let reason = text(row, 20)?.parse::<RevocationReason>().ok();
    Ok(Some(Revocation {
        at: UtcTime::from_unix(at),
        reason: required(20, reason)?,
    }))
}

fn required<T>(at: usize, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::unreadable(at))
}

pub(super) fn text(row: &dyn Row, at: usize) -> Result<String, Fault> {
    required(at, row.text(at)?)
}

pub(super) fn int(row: &dyn Row, at: usize) -> Result<i64, Fault> {
    required(at, row.int(at)?)
}

pub(super) fn unsigned(row: &dyn Row, at: usize) -> Result<u64, Fault> {
    required(at, u64::try_from(int(row, at)?).ok())
}

pub(super) fn time(row: &dyn Row, at: usize) -> Result<UtcTime, Fault> {
    Ok(UtcTime::from_unix(int(row, at)?))
}

pub(super) fn blob(row: &dyn Row, at: usize) -> Result<Vec<u8>, Fault> {
    required(at, row.blob(at)?)
}

fn id_bytes(row: &dyn Row, at: usize) -> Result<Option<CertificateId>, Fault> {
    let read = |bytes: Vec<u8>| required(at, CertificateId::from_bytes(&bytes));
    row.blob(at)?.map(read).transpose()
}

fn id_text(row: &dyn Row, at: usize) -> Result<Option<CertificateId>, Fault> {
    let read = |text: String| required(at, text.parse().ok());
    row.text(at)?.map(read).transpose()
}

/// A count as databases keep it.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What an intent's row holds, in the order of [`INTENT_COLUMNS`].
pub(super) fn intent_values(issuer: i64, record: &CertificateRecord) -> [Value<'_>; 17] {
    let folder = record.folder.as_ref().map(|path| path.to_string_lossy());
    [
        issuer.into(),
        record.serial.as_slice().into(),
        (&record.device).into(),
        record.purpose.as_str().into(),
        record.state.as_str().into(),
        record.live.into(),
        (&record.subject).into(),
        record.validity.not_before.into(),
        record.validity.not_after.into(),
        (&record.key_algorithm).into(),
        folder.into(),
        record.batch.as_deref().into(),
        record.replaces.as_ref().map(CertificateId::bytes).into(),
        record.created.into(),
        record.updated.into(),
        run_number(record).into(),
        record.flaw.as_deref().into(),
    ]
}

/// The run's number.
pub(super) fn run_number(record: &CertificateRecord) -> Option<i64> {
    record.run.as_ref().and_then(|run| run.parse().ok())
}

/// The row whose device and purpose `record` cannot have beside it.
pub(super) fn holder(
    database: &mut dyn Database,
    record: &CertificateRecord,
) -> Result<Option<CertificateRecord>, Fault> {
    let wanted = if record.live {
        "e.live = 1"
    } else {
        "e.live = 0 AND e.state IN ('intended', 'issued')"
    };
    let sql = format!("{SELECT} WHERE e.device = ?1 AND e.purpose = ?2 AND {wanted}");
    let values = [(&record.device).into(), record.purpose.as_str().into()];
    first(database, (&sql, &values), certificate)
}

/// One certificate by issuer and serial number, and its row's number.
pub(super) fn by_key(
    database: &mut dyn Database,
    key: &SerialKey,
) -> Result<Option<(i64, CertificateRecord)>, Fault> {
    let sql = format!(
        "{SELECT} WHERE e.issuer = (SELECT ref FROM issuers WHERE id = ?1) AND e.serial = ?2"
    );
    let values = [key.issuer.bytes().into(), key.serial.as_slice().into()];
    first(database, (&sql, &values), numbered)
}

/// One certificate by its id, and its row's number.
pub(super) fn by_id(
    database: &mut dyn Database,
    id: &CertificateId,
) -> Result<Option<(i64, CertificateRecord)>, Fault> {
    let Some(nr) = ids::find(database, id)? else {
        return Ok(None);
    };
    let sql = format!("{SELECT} WHERE e.nr = ?1");
    first(database, (&sql, &[nr.into()]), numbered)
}

/// Writes back what may change: state, live, folder, updated, revocation; id and DER once there.
pub(super) fn update(
    database: &mut dyn Database,
    (nr, record): (i64, &CertificateRecord),
) -> Result<(), Fault> {
    let folder = record.folder.as_ref().map(|path| path.to_string_lossy());
    database.execute(
        "UPDATE entries SET state = ?1, live = ?2, folder = ?3, updated = ?4, revoked = ?5, \
         reason = ?6 WHERE nr = ?7",
        &[
            record.state.as_str().into(),
            record.live.into(),
            folder.into(),
            record.updated.into(),
            record.revocation.map(|one| one.at).into(),
            record.revocation.map(|one| one.reason.as_str()).into(),
            nr.into(),
        ],
    )?;
    let (Some(id), Some(der)) = (&record.id, &record.der) else {
        return Ok(());
    };
    let added = database.execute(
        "INSERT INTO seals (nr, id, der, sealed) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (nr) DO NOTHING",
        &[
            nr.into(),
            id.bytes().into(),
            der.as_slice().into(),
            record.updated.into(),
        ],
    )?;
    if added == 1 {
        let last = ids::last(database)?;
        ids::add_late(database, (nr, id), last)?;
    }
    Ok(())
}

/// Reads `name, der, parent, folder, origin, created`.
pub(super) fn authority(row: &dyn Row) -> Result<AuthorityRecord, Fault> {
    let der = blob(row, 1)?;
    Ok(AuthorityRecord {
        name: text(row, 0)?,
        certificate: Certificate::from_der(&der).map_err(|_| Fault::unreadable(1))?,
        parent: id_text(row, 2)?,
        folder: PathBuf::from(text(row, 3)?),
        origin: required(4, Origin::from_word(&text(row, 4)?))?,
        created: time(row, 5)?,
    })
}

/// Every CA, by name.
pub(super) fn authorities(database: &mut dyn Database) -> Result<Vec<AuthorityRecord>, Fault> {
    let sql = "SELECT name, der, parent, folder, origin, created FROM authorities ORDER BY name";
    every(database, (sql, &[]), authority)
}

/// Adds a CA.
pub(super) fn add_authority(
    database: &mut dyn Database,
    authority: &AuthorityRecord,
) -> Result<(), Fault> {
    database.execute(
        "INSERT INTO authorities (name, id, der, parent, folder, origin, created) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            (&authority.name).into(),
            authority.certificate.id().as_str().into(),
            authority.certificate.der().into(),
            authority.parent.as_ref().map(CertificateId::as_str).into(),
            authority.folder.to_string_lossy().into(),
            authority.origin.as_str().into(),
            authority.created.into(),
        ],
    )?;
    Ok(())
}

/// Reads a whole rotation.
pub(super) fn rotation(row: &dyn Row) -> Result<RotationRecord, Fault> {
    Ok(RotationRecord {
        device: text(row, 0)?,
        old: required(1, id_text(row, 1)?)?,
        new: id_text(row, 2)?,
        step: text(row, 3)?,
        started: time(row, 4)?,
        updated: time(row, 5)?,
    })
}

/// Writes a rotation over the one of the same device.
pub(super) fn save_rotation(
    database: &mut dyn Database,
    rotation: &RotationRecord,
) -> Result<(), Fault> {
    database.execute(
        "INSERT INTO rotations (device, old, new, step, started, updated) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (device) DO UPDATE SET \
         old = excluded.old, new = excluded.new, step = excluded.step, \
         started = excluded.started, updated = excluded.updated",
        &[
            (&rotation.device).into(),
            rotation.old.as_str().into(),
            rotation.new.as_ref().map(CertificateId::as_str).into(),
            (&rotation.step).into(),
            rotation.started.into(),
            rotation.updated.into(),
        ],
    )?;
    Ok(())
}

/// How far an output is vouched for.
pub(super) fn checkpoint(
    database: &mut dyn Database,
    output: &str,
) -> Result<Option<Checkpoint>, Fault> {
    let sql = "SELECT bytes, rows FROM checkpoints WHERE output = ?1";
    first(database, (sql, &[output.into()]), |row| {
        Ok(Checkpoint {
            output: output.to_owned(),
            offset_bytes: unsigned(row, 0)?,
            rows: unsigned(row, 1)?,
        })
    })
}

/// Writes down how far an output is vouched for.
pub(super) fn save_checkpoint(database: &mut dyn Database, mark: &Checkpoint) -> Result<(), Fault> {
    database.execute(
        "INSERT INTO checkpoints (output, bytes, rows) VALUES (?1, ?2, ?3) \
         ON CONFLICT (output) DO UPDATE SET bytes = excluded.bytes, rows = excluded.rows",
        &[
            (&mark.output).into(),
            signed(mark.offset_bytes).into(),
            signed(mark.rows).into(),
        ],
    )?;
    Ok(())
}

/// Where a page of a list begins: after what came before it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cursor {
    /// Newest first: below this row's number.
    Below(i64),
    /// Soonest to expire first: after this end of validity and row's number.
    After(i64, i64),
}

impl Cursor {
    /// The order that the filter asks for, from its beginning.
    pub(super) fn first(filter: &Filter) -> Self {
        match filter.expiring_before {
            Some(_) => Self::After(i64::MIN, i64::MIN),
            None => Self::Below(i64::MAX),
        }
    }

    /// After this row.
    pub(super) fn then(self, nr: i64, record: &CertificateRecord) -> Self {
        match self {
            Self::Below(_) => Self::Below(nr),
            Self::After(..) => Self::After(record.validity.not_after.unix(), nr),
        }
    }
}

/// What narrows, and what it is compared with; `??` stands for the value's place.
#[derive(Default)]
struct Wanted<'a> {
    conditions: Vec<&'static str>,
    values: Vec<Value<'a>>,
}

impl<'a> Wanted<'a> {
    fn narrow(&mut self, condition: &'static str, value: impl Into<Value<'a>>) {
        self.conditions.push(condition);
        self.values.push(value.into());
    }

    fn maybe(&mut self, condition: &'static str, value: Option<impl Into<Value<'a>>>) {
        if let Some(value) = value {
            self.narrow(condition, value);
        }
    }

    fn sql(&self) -> String {
        let numbered: Vec<String> = (1..)
            .zip(&self.conditions)
            .map(|(n, condition)| condition.replace("??", &format!("?{n}")))
            .collect();
        numbered.join(" AND ").replace(", AND ", ", ")
    }
}

/// The query of one page of at most `most` rows.
pub(super) fn page(filter: &Filter, cursor: Cursor, most: i64) -> (String, Vec<Value<'_>>) {
    let mut wanted = Wanted::default();
    let order = match cursor {
        Cursor::Below(nr) => {
            wanted.narrow("e.nr < ??", nr);
            "e.nr DESC"
        }
        Cursor::After(end, nr) => {
            wanted.narrow("(e.not_after, e.nr) > (??,", end);
            wanted.narrow("??)", nr);
            "e.not_after, e.nr"
        }
    };
    // Each half of a device's rows has its own index.
    match (&filter.device, filter.live_only) {
        (Some(device), false) => wanted.narrow(
            "e.nr IN (SELECT nr FROM entries WHERE device = ?? AND live = 1 \
             UNION ALL SELECT nr FROM entries WHERE device = ?? AND live = 0)",
            device,
        ),
        (Some(device), true) => wanted.narrow("e.live = 1 AND e.device = ??", device),
        (None, true) => wanted.narrow("e.live = ??", 1),
        (None, false) => {}
    }
    match filter.state {
        Some(CertificateState::Intended) => {
            wanted.narrow("e.state = ?? AND s.sealed IS NULL", "intended");
        }
        Some(CertificateState::Issued) => wanted.narrow(
            "(e.state = ?? OR e.state = 'intended' AND s.sealed IS NOT NULL)",
            "issued",
        ),
        state => wanted.maybe("e.state = ??", state.map(CertificateState::as_str)),
    }
    let issuer = filter.issuer.as_ref().map(CertificateId::bytes);
    let condition = "e.issuer = (SELECT ref FROM issuers WHERE id = ??)";
    wanted.maybe(condition, issuer);
    wanted.maybe("e.batch = ??", filter.batch.as_ref());
    wanted.maybe("e.flaw = ??", filter.flaw.as_ref());
    wanted.maybe("e.not_after < ??", filter.expiring_before);
    let conditions = wanted.sql();
    let sql = format!("{SELECT} WHERE {conditions} ORDER BY {order} LIMIT {most}");
    (sql, wanted.values)
}

/// Number and entries of a CA's next CRL, inside a transaction.
pub(super) fn next_crl(
    database: &mut dyn Database,
    issuer: &CertificateId,
) -> Result<NextCrl, Fault> {
    let last = last_crl(database, issuer)?;
    let sql = format!(
        "{SELECT} WHERE e.issuer = (SELECT ref FROM issuers WHERE id = ?1) \
         AND e.state IN ('revoked', 'swept') ORDER BY e.nr"
    );
    let mut revoked = Vec::new();
    database.query(&sql, &[issuer.bytes().into()], &mut |row| {
        let record = certificate(row)?;
        revoked.extend(record.standing_revocation().map(|revocation| RevokedRow {
            revocation,
            not_after: record.validity.not_after,
            serial: record.serial,
        }));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(NextCrl {
        number: last.map_or(0, |last| last.number) + 1,
        revoked,
    })
}

/// The CRL of a CA with the highest number.
pub(super) fn last_crl(
    database: &mut dyn Database,
    issuer: &CertificateId,
) -> Result<Option<CrlRecord>, Fault> {
    let sql = "SELECT issuer, number, this_update, next_update, der FROM crls WHERE issuer = ?1 \
               ORDER BY number DESC LIMIT 1";
    first(database, (sql, &[issuer.as_str().into()]), crl)
}

pub(super) fn crl(row: &dyn Row) -> Result<CrlRecord, Fault> {
    Ok(CrlRecord {
        issuer: required(0, id_text(row, 0)?)?,
        number: unsigned(row, 1)?,
        this_update: time(row, 2)?,
        next_update: time(row, 3)?,
        der: blob(row, 4)?,
    })
}

/// Every CRL.
pub(super) fn crls(database: &mut dyn Database) -> Result<Vec<CrlRecord>, Fault> {
    let sql = "SELECT issuer, number, this_update, next_update, der FROM crls \
               ORDER BY issuer, number";
    every(database, (sql, &[]), crl)
}

/// Adds a CRL.
pub(super) fn save_crl(database: &mut dyn Database, crl: &CrlRecord) -> Result<(), Fault> {
    database.execute(
        "INSERT INTO crls (issuer, number, this_update, next_update, der) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            crl.issuer.as_str().into(),
            signed(crl.number).into(),
            crl.this_update.into(),
            crl.next_update.into(),
            crl.der.as_slice().into(),
        ],
    )?;
    Ok(())
}
