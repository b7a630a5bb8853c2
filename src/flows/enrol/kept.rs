//! The journal in its place.

use std::path::{Path, PathBuf};

use super::EnrolError;
use crate::core::bundle::Secrecy;
use crate::core::cert::Certificate;
use crate::core::enrolment::{self, Journal};
use crate::core::pem;
use crate::ports::{FileError, Files, Identity};

/// The journal's name in its work folder.
const JOURNAL: &str = "journal.json";

/// A journal, and where it is kept.
pub struct Kept<'a> {
    files: &'a dyn Files,
    path: PathBuf,
    /// What it says.
    pub journal: Journal,
}

impl<'a> Kept<'a> {
    /// The journal of an earlier run, if there is one.
    ///
    /// # Errors
    /// `enrolment.journal`, `file.*`.
    pub fn load(files: &'a dyn Files, folder: &Path) -> Result<Option<Self>, EnrolError> {
        let path = folder.join(JOURNAL);
        match files.read(&path, enrolment::MAX_BYTES) {
            Ok(bytes) => Ok(Some(Self {
                files,
                path,
                journal: Journal::parse(&bytes)?,
            })),
            Err(FileError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new journal, written down.
    ///
    /// # Errors
    /// `file.*`.
    pub fn begin(
        files: &'a dyn Files,
        folder: &Path,
        journal: Journal,
    ) -> Result<Self, EnrolError> {
        let path = folder.join(JOURNAL);
        let kept = Self {
            files,
            path,
            journal,
        };
        kept.save()?;
        Ok(kept)
    }

    /// Puts it in place of what was there, in one step that outlives a power loss.
    ///
    /// # Errors
    /// `file.*`.
    pub fn save(&self) -> Result<(), EnrolError> {
        let bytes = self.journal.to_bytes();
        Ok(self.files.replace(&self.path, &bytes, Secrecy::Private)?)
    }

    /// The new identity as it is presented in TLS.
    ///
    /// # Errors
    /// `enrolment.journal`.
    pub fn identity(&self) -> Result<Identity, EnrolError> {
        let key = self.journal.key()?.ok_or(EnrolError::NoKey)?;
        let leaf = self.journal.certificate()?.ok_or(EnrolError::NoKey)?;
        let mut chain = vec![leaf];
        if let Some(issuers) = &self.journal.issuers_pem
            && issuers.len() <= pem::MAX_BYTES
        {
            let issuers = Certificate::all_from_pem(issuers.as_bytes());
            chain.extend(issuers.unwrap_or_default());
        }
        Ok(Identity { chain, key })
    }
}
