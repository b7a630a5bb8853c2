//! `provision`: from a claim to an identity of the device's own.

use std::path::{Path, PathBuf};

use crate::core::enrolment::{OtherWay, Stage, Way};
use crate::core::ids::CertificateId;
use crate::explain::{Explain, Kind};
use crate::flows::enrol::{
    self, Enrol, EnrolError, Kept, KeyWish, Proof, Provisioning, Tell, Terms, leaf_in,
};
use crate::ports::witness::Witness;
use crate::ports::{FileError, Swap, Tidy};

/// What the flow may use.
pub struct Provision<'a> {
    /// Gets the identity.
    pub enrol: Enrol<'a>,
    /// Puts it in place.
    pub swap: &'a dyn Swap,
    /// Takes an empty folder out of its way.
    pub tidy: &'a dyn Tidy,
}

/// What is asked.
pub struct Request {
    /// The identity's folder, which must not hold one of another's making.
    pub folder: PathBuf,
    /// Whose key it is for.
    pub key: KeyWish,
    /// The template, and who asks.
    pub terms: Terms,
    /// The client id while asking.
    pub claim_client_id: Option<String>,
    /// Files of the claim that are destroyed after success.
    pub forget: Vec<PathBuf>,
    /// Forget what an earlier run has reached.
    pub start_over: bool,
}

/// An identity in its place.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Provisioned {
    /// Its folder.
    pub folder: PathBuf,
    /// Its certificate.
    pub certificate_id: CertificateId,
    /// What the service said.
    #[serde(flatten)]
    pub told: Provisioning,
    /// Whether it was there before this run.
    pub already: bool,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// How many certificates were perhaps issued without their answer being seen. They were never
    /// registered; AWS IoT deletes them when their token is an hour old.
    pub unanswered: u32,
    /// Certificates that were issued and given up; as above.
    pub given_up: Vec<CertificateId>,
    /// Whether the claim's files were destroyed.
    pub claim_forgotten: bool,
}

/// Where the work is kept: beside the identity's folder, so that it can be moved in one step.
fn work_beside(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".provision");
    folder.with_file_name(name)
}

impl Provision<'_> {
    /// Gets an identity, or goes on with getting it.
    ///
    /// # Errors
    /// `provision.*`, and what [`Enrol::obtain`] and [`Enrol::prove`] say.
    pub fn run(
        &self,
        request: &Request,
        tell: &mut Tell<'_>,
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<Provisioned, ProvisionError> {
        let files = self.enrol.files;
        let work = work_beside(&request.folder);
        let there = leaf_in(files, &request.folder);
        if there.is_some() && !files.exists(&work) {
            return self.finish(request, None, true);
        }
        let held = self.enrol.work.hold(&work)?;
        let earlier = if request.start_over && there.is_none() {
            None
        } else {
            Kept::load(files, &work)?
        };
        if there.is_some() {
            // Cut off after the last step; or it is of another's making, and stays as it is.
            return self.finish(request, earlier.as_ref(), earlier.is_none());
        }
        self.check_place(&request.folder)?;
        let resumed = earlier.is_some();
        let mut kept = match earlier {
            Some(kept) => kept,
            None => self.begin(request, &work)?,
        };
        let way = Way::Template(request.terms.template.to_string());
        kept.journal.turn_to(&way)?;
        self.enrol
            .obtain(&request.terms, &mut kept, tell, witness)?;
        if kept.journal.stage == Stage::Registered {
            tell("connecting with the new identity");
        }
        self.enrol.prove(&proof(request, &kept), &mut kept)?;
        let staged = work.join("identity");
        enrol::build(&self.enrol, &kept, &told(request, &kept), &staged)?;
        self.tidy.remove_if_empty(&request.folder)?;
        self.swap.rename(&staged, &request.folder)?;
        let mut done = self.finish(request, Some(&kept), false)?;
        done.resumed = resumed;
        drop(held);
        Ok(done)
    }

    /// What stands in the way is told before anything is asked.
    fn check_place(&self, folder: &Path) -> Result<(), ProvisionError> {
        if self.enrol.files.exists(folder) && !self.tidy.remove_if_empty(folder)? {
            return Err(FileError::Exists(folder.to_owned()).into());
        }
        Ok(())
    }

    fn begin(&self, request: &Request, work: &Path) -> Result<Kept<'_>, ProvisionError> {
        let way = Way::Template(request.terms.template.to_string());
        let name = request.claim_client_id.clone();
        let journal = self.enrol.begin(way, name, &request.key)?;
        Ok(Kept::begin(self.enrol.files, work, journal)?)
    }

    /// The identity is in its place: the claim goes if that is wanted, and the work.
    fn finish(
        &self,
        request: &Request,
        kept: Option<&Kept<'_>>,
        already: bool,
    ) -> Result<Provisioned, ProvisionError> {
        let folder = &request.folder;
        let files = self.enrol.files;
        for file in &request.forget {
            self.enrol.work.wipe(file)?;
        }
        let certificate_id = leaf_in(files, folder)
            .ok_or_else(|| FileError::Missing(folder.join(crate::core::bundle::CERTIFICATE)))?;
        self.enrol.work.remove(&work_beside(folder))?;
        let journal = kept.map(|kept| &kept.journal);
        Ok(Provisioned {
            folder: folder.clone(),
            certificate_id,
            told: Provisioning::read(files, folder),
            already,
            resumed: kept.is_some(),
            unanswered: journal.map_or(0, |journal| journal.unanswered),
            given_up: journal.map_or_else(Vec::new, |journal| journal.given_up.clone()),
            claim_forgotten: !request.forget.is_empty(),
        })
    }
}

fn proof<'r>(request: &'r Request, kept: &Kept<'_>) -> Proof<'r> {
    let terms = &request.terms;
    Proof {
        line: &terms.line,
        names: enrol::names(&kept.journal, terms.client_id.as_deref(), &terms.parameters),
    }
}

fn told(request: &Request, kept: &Kept<'_>) -> Provisioning {
    let journal = &kept.journal;
    Provisioning {
        thing_name: journal.thing_name.clone(),
        client_id: journal.proved_as.clone(),
        template: Some(request.terms.template.to_string()),
        parameters: request.terms.parameters.clone(),
        device_configuration: journal.device_configuration.clone(),
        provisioned: Some(journal.started),
    }
}

/// Why the device has no identity yet.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The steps.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Begun otherwise.
    #[error(transparent)]
    OtherWay(#[from] OtherWay),
}

impl Explain for ProvisionError {
    fn kind(&self) -> Kind {
        match self {
            Self::Enrol(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::OtherWay(error) => error.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Enrol(error) => error.code(),
            Self::File(error) => error.code(),
            Self::OtherWay(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Enrol(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::OtherWay(error) => error.hint(),
        }
    }
}
