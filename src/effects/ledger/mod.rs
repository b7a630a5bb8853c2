//! The ledger's databases.

/// SQLite: one file.
pub mod sqlite;

mod crls;
mod inner;
mod rows;
mod runs;
mod verify;
