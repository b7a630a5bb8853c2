//! The ledger's databases.

/// SQLite: one file.
pub mod sqlite;

mod crls;
mod rows;
mod runs;
mod verify;
