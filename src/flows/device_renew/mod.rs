//! `device renew`, on the device: a new key and certificate, proved by connecting before the old are
//! given up. Each step is looked for before it is done, so that a run that is cut off anywhere is
//! gone on with by the next, and the identity's folder always holds one that works.
//!
//! ```text
//! NAME               the identity in use
//! NAME.renewal/      journal.json, identity/ (the new one), previous/ (the old one after the swap)
//! NAME.old           the identity before
//! ```

mod error;
mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::enrolment::{Stage, Way};
use crate::core::ids::CertificateId;
use crate::core::pem;
use crate::core::renewal::{Margin, Renewal};
use crate::core::time::UtcTime;
use crate::flows::enrol::{
    self, Enrol, Kept, KeyWish, Line, Proof, Provisioning, Tell, Terms, leaf_in,
};
use crate::flows::identity::{self, Paths};
use crate::ports::Swap;
use crate::ports::hook::{HookError, Hooks, Recipient, Signal};
use crate::ports::witness::Witness;

pub use error::RenewError;
use place::Place;

/// How long a command may take.
const HOOK_TIMEOUT: Duration = Duration::from_mins(1);

/// What the flow may use.
pub struct DeviceRenew<'a> {
    /// Gets the new identity.
    pub enrol: Enrol<'a>,
    /// Swaps the folders.
    pub swap: &'a dyn Swap,
    /// Tells those who use the identity.
    pub hooks: &'a dyn Hooks,
}

/// Where the new certificate comes from.
pub enum Source {
    /// A fleet provisioning template, asked for with the present identity's own connection.
    Template(Box<Terms>),
    /// The request goes to somebody by file; nothing more is done now.
    CsrOut,
    /// What somebody brought.
    CertIn(Brought),
}

/// A certificate that somebody brought.
pub struct Brought {
    /// Leaf first, then its issuers as far as they were brought.
    pub chain: Vec<Certificate>,
    /// The CA bundle, PEM.
    pub ca_pem: Option<String>,
}

/// What is asked.
pub struct Request {
    /// The identity's folder.
    pub folder: PathBuf,
    /// Where the new certificate comes from.
    pub source: Source,
    /// Whose key it is for.
    pub key: KeyWish,
    /// Where the new identity is proved.
    pub line: Option<Line>,
    /// The client id to ask and to be proved with.
    pub client_id: Option<String>,
    /// From when on it is renewed; `None` is always.
    pub within: Option<Margin>,
    /// Run after the swap.
    pub exec: Vec<String>,
    /// Told after the swap.
    pub signal: Vec<(Recipient, Signal)>,
    /// Forget what an earlier run has reached.
    pub start_over: bool,
}

/// What was done.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Renewed {
    /// It is not due.
    NotDue {
        /// The certificate in use.
        certificate_id: CertificateId,
        /// From when on it is.
        due_from: Option<UtcTime>,
    },
    /// A request waits for its certificate.
    Waiting {
        /// The request, PEM.
        csr_pem: String,
        /// Since when.
        since: UtcTime,
    },
    /// The new identity is in use.
    Renewed(Box<Done>),
}

/// A finished renewal.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Done {
    /// The identity's folder.
    pub folder: PathBuf,
    /// The certificate that went; none when an earlier run had taken it away.
    pub old_certificate_id: Option<CertificateId>,
    /// The one that came.
    pub certificate_id: CertificateId,
    /// Until when.
    pub not_after: UtcTime,
    /// Where the old identity is kept.
    pub old_folder: PathBuf,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// As in `provision`.
    pub unanswered: u32,
    /// As in `provision`.
    pub given_up: Vec<CertificateId>,
}

impl DeviceRenew<'_> {
    /// Renews if it is due, or goes on with a renewal that an earlier run began.
    ///
    /// # Errors
    /// `renew.*`, `hook.*`, and what [`Enrol::obtain`] and [`Enrol::prove`] say. The old identity is
    /// in its place after every one of them.
    pub fn run(
        &self,
        request: &Request,
        tell: &mut Tell<'_>,
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<Renewed, RenewError> {
        let place = Place::of(self, &request.folder);
        let begun = self.enrol.files.exists(&place.work);
        if !begun && let Some(early) = self.not_due(request)? {
            return Ok(early);
        }
        let held = self.enrol.work.hold(&place.work)?;
        place.mend()?;
        let earlier = if request.start_over && !place.is_swapped()? {
            None
        } else {
            Kept::load(self.enrol.files, &place.work)?
        };
        if earlier.is_none()
            && let Some(early) = self.not_due(request)?
        {
            self.enrol.work.remove(&place.work)?;
            return Ok(early);
        }
        let resumed = earlier.is_some();
        let mut kept = match earlier {
            Some(kept) => kept,
            None => self.begin(request, &place)?,
        };
        let new = certificate_of(&kept)?;
        if new.is_none() || place.leaf(&place.here) != new {
            if let Some(waiting) = self.obtain(request, &mut kept, tell, witness)? {
                return Ok(waiting);
            }
            self.prove(request, &mut kept, tell)?;
            self.take_over(request, &kept, &place)?;
        }
        place.settle()?;
        self.tell_users(request, &kept, &place)?;
        let mut done = place.keep_old(&kept)?;
        done.resumed = resumed;
        drop(held);
        Ok(Renewed::Renewed(Box::new(done)))
    }

    /// Puts an identity back in its place, if a run that was cut off left none there. [`Self::run`]
    /// does so itself; others who want to read the identity first ask for it.
    ///
    /// # Errors
    /// `file.*`.
    pub fn mend(&self, folder: &Path) -> Result<(), RenewError> {
        let place = Place::of(self, folder);
        let files = self.enrol.files;
        if files.exists(&place.here) || !files.exists(&place.work) {
            return Ok(());
        }
        let _held = self.enrol.work.hold(&place.work)?;
        place.mend()
    }

    /// The answer when it is too early.
    fn not_due(&self, request: &Request) -> Result<Option<Renewed>, RenewError> {
        let Some(within) = request.within else {
            return Ok(None);
        };
        let path = request.folder.join(bundle::CERTIFICATE);
        let all = identity::certificates(self.enrol.files, &path)?;
        let leaf = &all[0];
        let renewal = Renewal::of(&leaf.validity, within, self.enrol.clock.now());
        Ok((!renewal.needed()).then(|| Renewed::NotDue {
            certificate_id: leaf.id().clone(),
            due_from: renewal.opens,
        }))
    }

    fn begin(&self, request: &Request, place: &Place<'_>) -> Result<Kept<'_>, RenewError> {
        let way = way_of(&request.source);
        if matches!(request.source, Source::CertIn(_)) {
            return Err(RenewError::NothingAsked);
        }
        // Asked now, before anything is begun: without it there is nothing to renew.
        let present = identity::load(self.enrol.files, &Paths::in_folder(&place.here))?;
        let name = request.client_id.clone().or_else(|| self.own_name(place));
        let common_name = present.chain[0].subject.first("CN").map(str::to_owned);
        let name = name.or(common_name).ok_or(RenewError::NoName)?;
        let journal = self.enrol.begin(way, Some(name), &request.key)?;
        Ok(Kept::begin(self.enrol.files, &place.work, journal)?)
    }

    fn own_name(&self, place: &Place<'_>) -> Option<String> {
        identity::client_id_of(self.enrol.files, &Paths::in_folder(&place.here))
    }

    /// Gets the certificate; something to say when it has to come by file.
    fn obtain(
        &self,
        request: &Request,
        kept: &mut Kept<'_>,
        tell: &mut Tell<'_>,
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<Option<Renewed>, RenewError> {
        kept.journal.turn_to(&way_of(&request.source))?;
        match &request.source {
            Source::Template(terms) => self.enrol.obtain(terms, kept, tell, witness)?,
            Source::CertIn(brought) => self.take_in(brought, kept)?,
            Source::CsrOut => {
                return Ok(Some(Renewed::Waiting {
                    csr_pem: kept.journal.csr_pem.clone().unwrap_or_default(),
                    since: kept.journal.started,
                }));
            }
        }
        Ok(None)
    }

    /// A certificate that was brought: it must be for our key, and good now.
    fn take_in(&self, brought: &Brought, kept: &mut Kept<'_>) -> Result<(), RenewError> {
        let [leaf, issuers @ ..] = &brought.chain[..] else {
            return Err(RenewError::NothingBrought);
        };
        let key = kept.journal.key()?.ok_or(RenewError::NothingAsked)?;
        if self.enrol.keys.public_of(&key)? != leaf.public_key {
            return Err(enrol::EnrolError::OtherKey.into());
        }
        let now = self.enrol.clock.now();
        if !leaf.validity.contains(now) {
            return Err(RenewError::Window(leaf.validity.describe(now)));
        }
        let pem_of = |all: &[Certificate]| all.iter().map(Certificate::to_pem).collect::<String>();
        kept.journal.certificate_pem = Some(leaf.to_pem());
        kept.journal.issuers_pem = (!issuers.is_empty()).then(|| pem_of(issuers));
        kept.journal.ca_pem.clone_from(&brought.ca_pem);
        kept.journal.stage = Stage::Registered;
        Ok(kept.save()?)
    }

    fn prove(
        &self,
        request: &Request,
        kept: &mut Kept<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), RenewError> {
        if kept.journal.stage == Stage::Proved {
            return Ok(());
        }
        let line = request.line.as_ref().ok_or(RenewError::NoEndpoint)?;
        tell("connecting with the new identity");
        let name = request.client_id.clone();
        let name = name.unwrap_or_else(|| kept.journal.client_id.clone());
        let names = vec![name];
        Ok(self.enrol.prove(&Proof { line, names }, kept)?)
    }

    /// Builds the new folder, and exchanges it for the old one.
    fn take_over(
        &self,
        request: &Request,
        kept: &Kept<'_>,
        place: &Place<'_>,
    ) -> Result<(), RenewError> {
        let earlier = Provisioning::read(self.enrol.files, &place.here);
        let journal = &kept.journal;
        let mut told = Provisioning {
            client_id: journal.proved_as.clone(),
            thing_name: journal.thing_name.clone().or(earlier.thing_name),
            provisioned: Some(journal.started),
            ..earlier
        };
        if let Source::Template(terms) = &request.source {
            told.template = Some(terms.template.to_string());
            told.parameters.clone_from(&terms.parameters);
        }
        if journal.device_configuration.is_some() {
            told.device_configuration
                .clone_from(&journal.device_configuration);
        }
        enrol::build(&self.enrol, kept, &told, &place.next)?;
        place.exchange()
    }

    /// Runs the hooks; when one fails, the old identity comes back to its place.
    fn tell_users(
        &self,
        request: &Request,
        kept: &Kept<'_>,
        place: &Place<'_>,
    ) -> Result<(), RenewError> {
        // The old one is kept elsewhere by now: they were told by an earlier run.
        if !place.is_previous_here() {
            return Ok(());
        }
        let id = certificate_of(kept)?.map_or_else(String::new, |id| id.to_string());
        let old = place.leaf(&place.previous);
        let environment = [
            ("NAMEPLATE_IDENTITY", place.here.display().to_string()),
            ("NAMEPLATE_CERTIFICATE_ID", id),
            (
                "NAMEPLATE_OLD_CERTIFICATE_ID",
                old.map_or_else(String::new, |id| id.to_string()),
            ),
        ];
        let Err(source) = self.tell_all(request, &environment) else {
            return Ok(());
        };
        place.take_back()?;
        // Those who took the new one have to be told again; nothing more can be done if they do not
        // listen.
        let _ = self.tell_all(request, &environment);
        Err(RenewError::Hook(source))
    }

    fn tell_all(&self, request: &Request, environment: &[(&str, String)]) -> Result<(), HookError> {
        for command in &request.exec {
            self.hooks.exec(command, environment, HOOK_TIMEOUT)?;
        }
        request
            .signal
            .iter()
            .try_for_each(|(to, signal)| self.hooks.signal(to, *signal))
    }

    /// Brings the identity before back into use.
    ///
    /// # Errors
    /// `renew.no-old`, `renew.begun`, `file.*`, `hook.*`.
    pub fn roll_back(&self, request: &Request) -> Result<Done, RenewError> {
        let place = Place::of(self, &request.folder);
        let (Some(old), Some(now)) = (place.leaf(&place.old), place.leaf(&place.here)) else {
            return Err(RenewError::NoOld(place.old));
        };
        if self.enrol.files.exists(&place.work) {
            return Err(RenewError::Begun(place.work));
        }
        if !self.swap.exchange(&place.here, &place.old)? {
            return Err(RenewError::NoExchange(place.here));
        }
        let environment = [
            ("NAMEPLATE_IDENTITY", place.here.display().to_string()),
            ("NAMEPLATE_CERTIFICATE_ID", old.to_string()),
            ("NAMEPLATE_OLD_CERTIFICATE_ID", now.to_string()),
        ];
        self.tell_all(request, &environment)
            .map_err(RenewError::NotTold)?;
        let path = place.here.join(bundle::CERTIFICATE);
        let leaf = identity::certificates(self.enrol.files, &path)?.swap_remove(0);
        Ok(Done {
            folder: place.here.clone(),
            old_certificate_id: Some(now),
            certificate_id: old,
            not_after: leaf.validity.not_after,
            old_folder: place.old,
            resumed: false,
            unanswered: 0,
            given_up: Vec::new(),
        })
    }
}

fn way_of(source: &Source) -> Way {
    match source {
        Source::Template(terms) => Way::Template(terms.template.to_string()),
        Source::CsrOut | Source::CertIn(_) => Way::File,
    }
}

fn certificate_of(kept: &Kept<'_>) -> Result<Option<CertificateId>, RenewError> {
    Ok(kept.journal.certificate()?.map(|leaf| leaf.id().clone()))
}

/// A certificate file that somebody brought, or a folder as `device sign` writes it.
///
/// # Errors
/// `file.*`, `cert.*`.
pub fn brought(renew: &DeviceRenew<'_>, path: &Path) -> Result<Brought, RenewError> {
    let files = renew.enrol.files;
    let leaf = path.join(bundle::CERTIFICATE);
    if !files.exists(&leaf) {
        let chain = identity::certificates(files, path)?;
        return Ok(Brought {
            chain,
            ca_pem: None,
        });
    }
    let chain_file = path.join(bundle::CHAIN);
    let from = if files.exists(&chain_file) {
        chain_file
    } else {
        leaf
    };
    let chain = identity::certificates(files, &from)?;
    let ca_file = path.join(bundle::CA_BUNDLE);
    let ca_pem = if files.exists(&ca_file) {
        let bytes = files.read(&ca_file, pem::MAX_BYTES as u64)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    } else {
        None
    };
    Ok(Brought { chain, ca_pem })
}

fn beside(here: &Path, suffix: &str) -> PathBuf {
    let mut name = here.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    here.with_file_name(name)
}

fn leaf_of(renew: &DeviceRenew<'_>, folder: &Path) -> Option<CertificateId> {
    leaf_in(renew.enrol.files, folder)
}
