//! Rows to records and back.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, IdentityPurpose, Origin,
    RotationRecord, SerialKey,
};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::{UtcTime, Validity};
use crate::ports::ledger::{Checkpoint, Confirmation, Filter, NextCrl, RevokedRow};

/// The columns of a certificate, in the order that [`certificate`] reads.
pub(super) const COLUMNS: &str = "id, issuer, serial, device, purpose, state, live, subject, \
     not_before, not_after, key_algorithm, folder, batch, replaces, der, created, updated, run, \
     flaw, revoked, reason";

/// Reads one row of [`COLUMNS`].
pub(super) fn certificate(row: &Row<'_>) -> rusqlite::Result<CertificateRecord> {
    let id = |at| parsed(at, row.get::<_, Option<String>>(at)?);
    Ok(CertificateRecord {
        id: id(0)?,
        issuer: required(1, id(1)?)?,
        serial: row.get(2)?,
        device: row.get(3)?,
        purpose: required(4, IdentityPurpose::from_word(&row.get::<_, String>(4)?))?,
        state: required(5, CertificateState::from_word(&row.get::<_, String>(5)?))?,
        live: row.get(6)?,
        subject: row.get(7)?,
        validity: Validity {
            not_before: UtcTime::from_unix(row.get(8)?),
            not_after: UtcTime::from_unix(row.get(9)?),
        },
        key_algorithm: row.get(10)?,
        folder: row.get::<_, Option<String>>(11)?.map(PathBuf::from),
        batch: row.get(12)?,
        replaces: id(13)?,
        der: row.get(14)?,
        created: UtcTime::from_unix(row.get(15)?),
        updated: UtcTime::from_unix(row.get(16)?),
        run: row.get(17)?,
        flaw: row.get(18)?,
        revocation: revocation(row)?,
    })
}

fn revocation(row: &Row<'_>) -> rusqlite::Result<Option<Revocation>> {
    let Some(at) = row.get::<_, Option<i64>>(19)? else {
        return Ok(None);
    };
    let reason = row.get::<_, String>(20)?.parse::<RevocationReason>().ok();
    Ok(Some(Revocation {
        at: UtcTime::from_unix(at),
        reason: required(20, reason)?,
    }))
}

fn parsed<T: std::str::FromStr>(at: usize, text: Option<String>) -> rusqlite::Result<Option<T>> {
    text.map(|text| text.parse().map_err(|_| unreadable(at)))
        .transpose()
}

fn required<T>(at: usize, value: Option<T>) -> rusqlite::Result<T> {
    value.ok_or_else(|| unreadable(at))
}

fn unreadable(at: usize) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(
        at,
        "a value nameplate never wrote".into(),
        rusqlite::types::Type::Text,
    )
}

/// Reads `name, der, parent, folder, origin, created`.
pub(super) fn authority(row: &Row<'_>) -> rusqlite::Result<AuthorityRecord> {
    let der: Vec<u8> = row.get(1)?;
    Ok(AuthorityRecord {
        name: row.get(0)?,
        certificate: Certificate::from_der(&der).map_err(|_| unreadable(1))?,
        parent: parsed(2, row.get(2)?)?,
        folder: PathBuf::from(row.get::<_, String>(3)?),
        origin: required(4, Origin::from_word(&row.get::<_, String>(4)?))?,
        created: UtcTime::from_unix(row.get(5)?),
    })
}

/// Reads a whole rotation.
pub(super) fn rotation(row: &Row<'_>) -> rusqlite::Result<RotationRecord> {
    Ok(RotationRecord {
        device: row.get(0)?,
        old: required(1, parsed(1, row.get(1)?)?)?,
        new: parsed(2, row.get(2)?)?,
        step: row.get(3)?,
        started: UtcTime::from_unix(row.get(4)?),
        updated: UtcTime::from_unix(row.get(5)?),
    })
}

/// Adds an intended certificate unless a unique index keeps it out; whether it was added.
pub(super) fn insert_free(
    connection: &Connection,
    record: &CertificateRecord,
) -> rusqlite::Result<bool> {
    let folder = record.folder.as_ref().map(|path| path.to_string_lossy());
    let added = connection.prepare_cached(INSERT)?.execute(params![
        record.issuer.as_str(),
        record.serial,
        record.device,
        record.purpose.as_str(),
        record.state.as_str(),
        record.live,
        record.subject,
        record.validity.not_before.unix(),
        record.validity.not_after.unix(),
        record.key_algorithm,
        folder,
        record.batch,
        record.replaces.as_ref().map(CertificateId::as_str),
        record.created.unix(),
        record.updated.unix(),
        record.run,
        record.flaw,
    ])?;
    Ok(added == 1)
}

const INSERT: &str = "INSERT INTO certificates (issuer, serial, device, purpose, state, live, \
     subject, not_before, not_after, key_algorithm, folder, batch, replaces, created, updated, run, \
     flaw) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) \
     ON CONFLICT DO NOTHING";

/// The row whose device and purpose `record` cannot have beside it.
pub(super) fn holder(
    connection: &Connection,
    record: &CertificateRecord,
) -> rusqlite::Result<Option<CertificateRecord>> {
    let wanted = if record.live {
        "live = 1"
    } else {
        "live = 0 AND state IN ('intended', 'issued')"
    };
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM certificates WHERE device = ?1 AND purpose = ?2 AND {wanted}"
        ))?
        .query_row(params![record.device, record.purpose.as_str()], certificate)
        .optional()
}

/// Turns a run's intent into an issued certificate; `None` when there is no such intent.
pub(super) fn issue(
    connection: &Connection,
    (run, confirmation): (&str, &Confirmation),
    now: UtcTime,
) -> rusqlite::Result<Option<CertificateRecord>> {
    connection
        .prepare_cached(&format!(
            "UPDATE certificates SET id = ?1, state = 'issued', der = ?2, updated = ?3 \
             WHERE issuer = ?4 AND serial = ?5 AND state = 'intended' AND run = ?6 \
             RETURNING {COLUMNS}"
        ))?
        .query_row(
            params![
                CertificateId::of_der(&confirmation.der).as_str(),
                confirmation.der,
                now.unix(),
                confirmation.key.issuer.as_str(),
                confirmation.key.serial,
                run
            ],
            certificate,
        )
        .optional()
}

/// How far an output is vouched for.
pub(super) fn checkpoint(
    connection: &Connection,
    output: &str,
) -> rusqlite::Result<Option<Checkpoint>> {
    connection
        .query_row(
            "SELECT offset, rows FROM checkpoints WHERE output = ?1",
            [output],
            |row| {
                let number = |at| required(at, u64::try_from(row.get::<_, i64>(at)?).ok());
                Ok(Checkpoint {
                    output: output.to_owned(),
                    offset_bytes: number(0)?,
                    rows: number(1)?,
                })
            },
        )
        .optional()
}

/// Writes down how far an output is vouched for.
pub(super) fn save_checkpoint(connection: &Connection, mark: &Checkpoint) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO checkpoints (output, offset, rows) VALUES (?1, ?2, ?3) \
             ON CONFLICT (output) DO UPDATE SET offset = excluded.offset, \
             rows = excluded.rows",
        )?
        .execute(params![
            mark.output,
            i64::try_from(mark.offset_bytes).unwrap_or(i64::MAX),
            i64::try_from(mark.rows).unwrap_or(i64::MAX)
        ])
        .map(|_| ())
}

/// The statement that [`filter`]'s parameters belong to.
pub(super) fn filtered() -> String {
    format!(
        "SELECT {COLUMNS} FROM certificates WHERE (?1 IS NULL OR device = ?1) \
         AND (?2 IS NULL OR state = ?2) AND (?3 = 0 OR live = 1) \
         AND (?4 IS NULL OR issuer = ?4) AND (?5 IS NULL OR batch = ?5) \
         AND (?6 IS NULL OR not_after < ?6) ORDER BY row DESC LIMIT ?7"
    )
}

/// What narrows, in the order of [`filtered`].
pub(super) fn filter(filter: &Filter) -> Vec<Box<dyn rusqlite::ToSql>> {
    let issuer = filter.issuer.as_ref().map(|id| id.as_str().to_owned());
    vec![
        Box::new(filter.device.clone()),
        Box::new(filter.state.map(CertificateState::as_str)),
        Box::new(filter.live_only),
        Box::new(issuer),
        Box::new(filter.batch.clone()),
        Box::new(filter.expiring_before.map(UtcTime::unix)),
        Box::new(filter.limit.map_or(-1, i64::from)),
    ]
}

/// Writes back what may change: id, state, live, folder, DER, updated.
pub(super) fn update(connection: &Connection, record: &CertificateRecord) -> rusqlite::Result<()> {
    let folder = record.folder.as_ref().map(|path| path.to_string_lossy());
    connection
        .prepare_cached(
            "UPDATE certificates SET id = ?1, state = ?2, live = ?3, folder = ?4, der = ?5, \
             updated = ?6, revoked = ?7, reason = ?8 WHERE issuer = ?9 AND serial = ?10",
        )?
        .execute(params![
            record.id.as_ref().map(CertificateId::as_str),
            record.state.as_str(),
            record.live,
            folder,
            record.der,
            record.updated.unix(),
            record.revocation.map(|revocation| revocation.at.unix()),
            record
                .revocation
                .map(|revocation| revocation.reason.as_str()),
            record.issuer.as_str(),
            record.serial,
        ])
        .map(|_| ())
}

/// One certificate by issuer and serial number.
pub(super) fn by_key(
    connection: &Connection,
    key: &SerialKey,
) -> rusqlite::Result<Option<CertificateRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM certificates WHERE issuer = ?1 AND serial = ?2"
        ))?
        .query_row(params![key.issuer.as_str(), key.serial], certificate)
        .optional()
}

/// Number and entries of a CA's next CRL.
pub(super) fn next_crl(
    connection: &Connection,
    issuer: &CertificateId,
) -> rusqlite::Result<NextCrl> {
    let snapshot = connection.unchecked_transaction()?;
    let last = last_crl(&snapshot, issuer)?;
    let mut all = snapshot.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM certificates WHERE issuer = ?1 \
         AND state IN ('revoked', 'swept') ORDER BY row"
    ))?;
    let mut found = all.query([issuer.as_str()])?;
    let mut revoked = Vec::new();
    while let Some(row) = found.next()? {
        let record = certificate(row)?;
        revoked.extend(record.standing_revocation().map(|revocation| RevokedRow {
            revocation,
            not_after: record.validity.not_after,
            serial: record.serial,
        }));
    }
    Ok(NextCrl {
        number: last.map_or(0, |last| last.number) + 1,
        revoked,
    })
}

/// The CRL of a CA with the highest number.
pub(super) fn last_crl(
    connection: &Connection,
    issuer: &CertificateId,
) -> rusqlite::Result<Option<CrlRecord>> {
    connection
        .query_row(
            "SELECT number, this_update, next_update, der FROM crls WHERE issuer = ?1 \
             ORDER BY number DESC LIMIT 1",
            [issuer.as_str()],
            |row| {
                Ok(CrlRecord {
                    issuer: issuer.clone(),
                    number: required(0, u64::try_from(row.get::<_, i64>(0)?).ok())?,
                    this_update: UtcTime::from_unix(row.get(1)?),
                    next_update: UtcTime::from_unix(row.get(2)?),
                    der: row.get(3)?,
                })
            },
        )
        .optional()
}

/// Adds a CRL.
pub(super) fn save_crl(connection: &Connection, crl: &CrlRecord) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO crls (issuer, number, this_update, next_update, der) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                crl.issuer.as_str(),
                i64::try_from(crl.number).unwrap_or(i64::MAX),
                crl.this_update.unix(),
                crl.next_update.unix(),
                crl.der,
            ],
        )
        .map(|_| ())
}
