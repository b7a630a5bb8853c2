//! Where a certificate is found by its id. Ids are random, so that an index kept row by row makes a
//! batch write more pages than all its rows fill: ids are indexed many at a time, in order. Those of
//! rows after the last one indexed are searched one by one.

use super::rows::int;
use super::sql::{Database, Fault, first};
use crate::core::ids::CertificateId;

/// Bytes of an id that are indexed.
const HEAD: usize = 8;
/// How many rows may be searched one by one; more are indexed first.
const MOST_SEARCHED: i64 = 2_000;

/// The number of the row with this id. One statement, so that no other process indexes it in between.
pub(super) fn find(database: &mut dyn Database, id: &CertificateId) -> Result<Option<i64>, Fault> {
    let sql = "SELECT s.nr FROM ids i JOIN seals s ON s.nr = i.nr WHERE i.head = ?1 AND s.id = ?2 \
               UNION ALL \
               SELECT nr FROM seals WHERE nr > (SELECT nr FROM indexed) AND id = ?2 LIMIT 1";
    let bytes = id.bytes();
    let values = [bytes[..HEAD].into(), bytes.into()];
    first(database, (sql, &values), |row| int(row, 0))
}

/// Whether so many rows are not indexed that they should be before one is looked for.
pub(super) fn is_behind(database: &mut dyn Database) -> Result<bool, Fault> {
    let sql = "SELECT coalesce((SELECT max(nr) FROM entries), 0) - nr FROM indexed";
    let behind = first(database, (sql, &[]), |row| int(row, 0))?;
    Ok(behind.unwrap_or_default() > MOST_SEARCHED)
}

/// Indexes all there are. Needs a transaction that writes.
pub(super) fn catch_up(database: &mut dyn Database) -> Result<(), Fault> {
    let indexed = last(database)?;
    let sql = "SELECT coalesce(max(nr), 0) FROM entries";
    let end = first(database, (sql, &[]), |row| int(row, 0))?.unwrap_or_default();
    database.execute(
        "INSERT INTO ids (head, nr) SELECT substr(id, 1, 8), nr FROM seals \
         WHERE nr > ?1 AND nr <= ?2 ORDER BY 1, 2",
        &[indexed.into(), end.into()],
    )?;
    database.execute("UPDATE indexed SET nr = ?1", &[end.into()])?;
    Ok(())
}

/// The last row that the index takes account of.
pub(super) fn last(database: &mut dyn Database) -> Result<i64, Fault> {
    let sql = "SELECT nr FROM indexed";
    Ok(first(database, (sql, &[]), |row| int(row, 0))?.unwrap_or_default())
}

/// Indexes a row that was sealed after the index had passed it; `last` is where the index ends.
pub(super) fn add_late(
    database: &mut dyn Database,
    (nr, id): (i64, &CertificateId),
    last: i64,
) -> Result<(), Fault> {
    if nr <= last {
        let sql = "INSERT INTO ids (head, nr) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        database.execute(sql, &[id.bytes()[..HEAD].into(), nr.into()])?;
    }
    Ok(())
}
