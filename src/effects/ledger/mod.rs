//! The ledger's databases.

/// PostgreSQL: a server for several stations.
#[cfg(feature = "postgres")]
pub mod postgres;
/// SQLite: one file.
pub mod sqlite;

/// The ledger's promises, over either.
mod book;
#[cfg(feature = "postgres")]
mod connect;
mod ids;
mod journal;
mod rows;
mod runs;
mod sql;
mod transfer;
mod verify;
mod work;

pub use book::SqlLedger;
