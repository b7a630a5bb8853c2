//! Rows to records and back.

use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, IdentityPurpose, Origin, RotationRecord,
    SerialKey,
};
use crate::core::time::{UtcTime, Validity};

/// The columns of a certificate, in the order that [`certificate`] reads.
pub(super) const COLUMNS: &str = "id, issuer, serial, device, purpose, state, live, subject, \
     not_before, not_after, key_algorithm, folder, batch, replaces, der, created, updated";

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
    })
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

/// Adds an intended certificate.
pub(super) fn insert(connection: &Connection, record: &CertificateRecord) -> rusqlite::Result<()> {
    let folder = record.folder.as_ref().map(|path| path.to_string_lossy());
    connection
        .prepare_cached(
            "INSERT INTO certificates (issuer, serial, device, purpose, state, live, subject, \
             not_before, not_after, key_algorithm, folder, batch, replaces, created, updated) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
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
        ])
        .map(|_| ())
}

/// Writes back what may change: id, state, live, folder, DER, updated.
pub(super) fn update(connection: &Connection, record: &CertificateRecord) -> rusqlite::Result<()> {
    let folder = record.folder.as_ref().map(|path| path.to_string_lossy());
    connection
        .prepare_cached(
            "UPDATE certificates SET id = ?1, state = ?2, live = ?3, folder = ?4, der = ?5, \
             updated = ?6 WHERE issuer = ?7 AND serial = ?8",
        )?
        .execute(params![
            record.id.as_ref().map(CertificateId::as_str),
            record.state.as_str(),
            record.live,
            folder,
            record.der,
            record.updated.unix(),
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
