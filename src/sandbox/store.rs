//! Where the registry keeps its entities: JSON under (kind, key), in SQLite or nowhere.
//!
//! Every mutation of the registry is one transaction. The database is in WAL mode with
//! `synchronous=NORMAL`: a killed process loses nothing that was answered; a power cut may lose
//! the last answers, but never leaves half of one (SQLite "Write-Ahead Logging").

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::core::ids::Place;
use crate::explain::{Explain, Kind};

/// `PRAGMA application_id` of our files: the letters `npsb`.
const APPLICATION_ID: i32 = 0x6e70_7362;
/// How long the write-ahead log grows before it is folded in, in pages of 4 KiB. Each time the disk is
/// waited for, while nobody else can write: SQLite's own 1000 would be every few hundred devices.
const CHECKPOINT: i32 = 4000;
/// `PRAGMA user_version`: the schema's version.
const SCHEMA: i32 = 1;

/// Why the entities cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An entity that is not the JSON it should be.
    #[error("{kind} `{key}` in the sandbox's state cannot be read: {reason}")]
    Entity {
        /// The kind of entity.
        kind: &'static str,
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A file of another program, or of a later version of this one.
    #[error("`{}` is not a sandbox state that this version reads", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// SQLite.
    #[error("the sandbox's state cannot be read or written: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Explain for StoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::Entity { .. } | Self::Foreign { .. } => Kind::Input,
            Self::Sqlite(_) => Kind::Unavailable,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Entity { .. } => "sandbox.state-entity",
            Self::Foreign { .. } => "sandbox.state-foreign",
            Self::Sqlite(_) => "sandbox.state",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Entity { .. } | Self::Foreign { .. } => {
                Some("nameplate sandbox reset --yes starts anew".into())
            }
            Self::Sqlite(_) => None,
        }
    }
}

/// One entity to write, or to delete when there is no JSON.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) kind: &'static str,
    pub(super) key: String,
    pub(super) json: Option<String>,
}

/// A place to keep entities.
#[derive(Debug)]
pub struct Store {
    connection: Option<Connection>,
    /// What stands before every kind: nothing, or the place whose entities these are.
    prefix: String,
}

impl Store {
    /// Keeps nothing: the registry lives as long as its process.
    pub fn memory() -> Self {
        Self {
            connection: None,
            prefix: String::new(),
        }
    }

    /// The same kinds of entities once more, for another place.
    #[must_use]
    pub fn of_place(mut self, place: &Place) -> Self {
        self.prefix = format!("{}/{}/", place.account, place.region);
        self
    }

    /// Keeps everything in the SQLite file at `path`, which is created when it is not there.
    ///
    /// # Errors
    /// `sandbox.state`, `sandbox.state-foreign`.
    pub fn durable(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
        let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
        let (application, schema): (i32, i32) =
            (number("application_id")?, number("user_version")?);
        match (application, schema) {
            (APPLICATION_ID, SCHEMA) => {}
            (0, 0) => {
                connection.execute_batch(
                    "CREATE TABLE entity (kind TEXT NOT NULL, key TEXT NOT NULL, \
                     json TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
                )?;
                connection.pragma_update(None, "user_version", SCHEMA)?;
                connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            }
            _ => {
                return Err(StoreError::Foreign {
                    path: path.to_owned(),
                });
            }
        }
        Ok(Self {
            connection: Some(connection),
            prefix: String::new(),
        })
    }

    /// The places other than the first that a file has entities of.
    ///
    /// # Errors
    /// `sandbox.state`, `sandbox.state-foreign`.
    pub(super) fn places(path: &Path) -> Result<Vec<Place>, StoreError> {
        let store = Self::durable(path)?;
        let Some(connection) = &store.connection else {
            return Ok(Vec::new());
        };
        // From kind to kind, so that entities are not walked.
        let mut query = connection.prepare(
            "WITH RECURSIVE one(kind) AS (SELECT min(kind) FROM entity UNION ALL \
             SELECT (SELECT min(kind) FROM entity WHERE kind > one.kind) FROM one \
             WHERE one.kind IS NOT NULL) SELECT kind FROM one WHERE kind IS NOT NULL",
        )?;
        let kinds = query.query_map([], |row| row.get(0))?;
        let mut places = Vec::new();
        for kind in kinds {
            let kind: String = kind?;
            let mut parts = kind.split('/');
            let (Some(account), Some(region), Some(_)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if let (Ok(account), Ok(region)) = (account.parse(), region.parse()) {
                places.push(Place { account, region });
            }
        }
        places.dedup();
        Ok(places)
    }

    /// Copies a database that may be in use, in one consistent state, into an empty file.
    ///
    /// # Errors
    /// `sandbox.state`.
    pub(super) fn copy(path: &Path, into: &Path) -> Result<(), StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute("VACUUM INTO ?1", [into.to_string_lossy()])?;
        Ok(())
    }

    /// Every entity of one kind, as key and JSON.
    pub(super) fn load(&self, kind: &str) -> Result<Vec<(String, String)>, StoreError> {
        let Some(connection) = &self.connection else {
            return Ok(Vec::new());
        };
        let mut query = connection.prepare("SELECT key, json FROM entity WHERE kind = ?1")?;
        let rows = query.query_map([format!("{}{kind}", self.prefix)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All of `writes`, or none.
    pub(super) fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let transaction = connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO entity (kind, key, json) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (kind, key) DO UPDATE SET json = excluded.json",
            )?;
            let mut delete =
                transaction.prepare_cached("DELETE FROM entity WHERE kind = ?1 AND key = ?2")?;
            for write in writes {
                let kind = format!("{}{}", self.prefix, write.kind);
                match &write.json {
                    Some(json) => put.execute((kind, &write.key, json))?,
                    None => delete.execute((kind, &write.key))?,
                };
            }
        }
        Ok(transaction.commit()?)
    }
}
