//! The folders of a renewal, and how they change places.

use std::path::{Path, PathBuf};

use super::{DeviceRenew, Done, Kept, RenewError, beside, certificate_of, leaf_of};
use crate::core::ids::CertificateId;

/// Where everything is.
pub(super) struct Place<'a> {
    renew: &'a DeviceRenew<'a>,
    /// The identity in use.
    pub(super) here: PathBuf,
    /// The work.
    pub(super) work: PathBuf,
    /// The new identity, before the swap.
    pub(super) next: PathBuf,
    /// The old one, after it.
    pub(super) previous: PathBuf,
    /// The old one, once all is done.
    pub(super) old: PathBuf,
}

impl<'a> Place<'a> {
    pub(super) fn of(renew: &'a DeviceRenew<'a>, here: &Path) -> Self {
        let work = beside(here, ".renewal");
        Self {
            renew,
            here: here.to_owned(),
            next: work.join("identity"),
            previous: work.join("previous"),
            old: beside(here, ".old"),
            work,
        }
    }

    pub(super) fn leaf(&self, folder: &Path) -> Option<CertificateId> {
        leaf_of(self.renew, folder)
    }

    fn exists(&self, folder: &Path) -> bool {
        self.renew.enrol.files.exists(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), RenewError> {
        Ok(self.renew.swap.rename(from, to)?)
    }

    /// Where folders cannot be exchanged in one step, a run that was cut off between two renames
    /// left no folder in its place: the new one if it was proved, which it was, else the old.
    pub(super) fn mend(&self) -> Result<(), RenewError> {
        if self.exists(&self.here) || !self.exists(&self.previous) {
            return Ok(());
        }
        if self.leaf(&self.next).is_some() {
            self.rename(&self.next, &self.here)
        } else {
            self.rename(&self.previous, &self.here)
        }
    }

    /// Whether the journal's certificate is the one in use.
    pub(super) fn is_swapped(&self) -> Result<bool, RenewError> {
        let Ok(Some(kept)) = Kept::load(self.renew.enrol.files, &self.work) else {
            return Ok(false);
        };
        let new = certificate_of(&kept)?;
        Ok(new.is_some() && self.leaf(&self.here) == new)
    }

    /// New for old: in one step where the file system can, else in two.
    pub(super) fn exchange(&self) -> Result<(), RenewError> {
        self.renew.enrol.work.remove(&self.previous)?;
        if self.renew.swap.exchange(&self.here, &self.next)? {
            return self.rename(&self.next, &self.previous);
        }
        self.rename(&self.here, &self.previous)?;
        self.rename(&self.next, &self.here)
    }

    /// A run that was cut off right after the exchange left the old one under the new one's name.
    pub(super) fn settle(&self) -> Result<(), RenewError> {
        if !self.exists(&self.previous) && self.exists(&self.next) {
            self.rename(&self.next, &self.previous)?;
        }
        Ok(())
    }

    /// Whether the old identity still waits for those who used it to be told.
    pub(super) fn is_previous_here(&self) -> bool {
        self.exists(&self.previous)
    }

    /// Old for new again.
    pub(super) fn take_back(&self) -> Result<(), RenewError> {
        if self.renew.swap.exchange(&self.here, &self.previous)? {
            return self.rename(&self.previous, &self.next);
        }
        self.rename(&self.here, &self.next)?;
        self.rename(&self.previous, &self.here)
    }

    /// All is done: the old identity is kept, the one before it goes, and the work.
    pub(super) fn keep_old(&self, kept: &Kept<'_>) -> Result<Done, RenewError> {
        let work = self.renew.enrol.work;
        if self.exists(&self.previous) {
            work.remove(&self.old)?;
            self.rename(&self.previous, &self.old)?;
        }
        let journal = &kept.journal;
        let leaf = journal.certificate()?.ok_or(RenewError::NothingBrought)?;
        work.remove(&self.work)?;
        Ok(Done {
            folder: self.here.clone(),
            old_certificate_id: self.leaf(&self.old),
            certificate_id: leaf.id().clone(),
            not_after: leaf.validity.not_after,
            old_folder: self.old.clone(),
            resumed: false,
            unanswered: journal.unanswered,
            given_up: journal.given_up.clone(),
        })
    }
}
