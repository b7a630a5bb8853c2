//! The ledger's databases.

/// SQLite: one file.
pub mod sqlite;

mod rows;
mod runs;
mod verify;
