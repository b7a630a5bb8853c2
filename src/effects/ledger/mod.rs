//! The ledger's databases.

/// SQLite: one file.
pub mod sqlite;

mod inner;
mod rows;
mod runs;
mod verify;
