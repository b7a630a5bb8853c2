//! Revoked certificates and the CRLs that name them.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows;
use crate::core::ids::CertificateId;
use crate::core::record::CertificateRecord;
use crate::core::time::UtcTime;
use crate::ports::ledger::CrlRecord;

/// Every revoked certificate of one CA, oldest first.
pub(super) fn revoked(
    connection: &Connection,
    issuer: &CertificateId,
) -> rusqlite::Result<Vec<CertificateRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {} FROM certificates WHERE issuer = ?1 AND id IS NOT NULL \
             AND (state = 'revoked' OR revoked IS NOT NULL) ORDER BY row",
            rows::COLUMNS
        ))?
        .query_map([issuer.as_str()], rows::certificate)?
        .collect()
}

/// The CRL with the greatest number.
pub(super) fn last(
    connection: &Connection,
    issuer: &CertificateId,
) -> rusqlite::Result<Option<CrlRecord>> {
    connection
        .prepare_cached(
            "SELECT number, this_update, next_update, der FROM crls WHERE issuer = ?1 \
             ORDER BY number DESC LIMIT 1",
        )?
        .query_row([issuer.as_str()], |row| {
            let number: i64 = row.get(0)?;
            Ok(CrlRecord {
                number: u64::try_from(number).unwrap_or_default(),
                this_update: UtcTime::from_unix(row.get(1)?),
                next_update: UtcTime::from_unix(row.get(2)?),
                der: row.get(3)?,
            })
        })
        .optional()
}

/// Adds a CRL unless one with this number or a greater one is there; whether it was added.
pub(super) fn insert(
    connection: &Connection,
    issuer: &CertificateId,
    crl: &CrlRecord,
) -> rusqlite::Result<bool> {
    let Ok(number) = i64::try_from(crl.number) else {
        return Ok(false);
    };
    let added = connection
        .prepare_cached(
            "INSERT INTO crls (issuer, number, this_update, next_update, der) \
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS \
             (SELECT 1 FROM crls WHERE issuer = ?1 AND number >= ?2)",
        )?
        .execute(params![
            issuer.as_str(),
            number,
            crl.this_update.unix(),
            crl.next_update.unix(),
            crl.der
        ])?;
    Ok(added == 1)
}
