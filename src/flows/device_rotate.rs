//! `device rotate`: a new key and certificate for one device, without a moment in which it has
//! none that works. Each step is done, then written down; the same command goes on from there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::ids::{CertificateId, Place};
use crate::core::lifetime::Lifetime;
use crate::core::pem;
use crate::core::record::{CertificateRecord, CertificateState, IdentityPurpose, RotationRecord};
use crate::core::rotation::{Heritage, HeritageError, Progress, Step};
use crate::core::status::CertificateStatus;
use crate::explain::{Explain, Kind};
use crate::flows::connect::{Connect, ConnectError, Request as ConnectRequest};
use crate::flows::device_issue::{DeviceIssue, IssueError, KeySource, Request as IssueRequest};
use crate::flows::identity::{self, IdentityError, Paths};
use crate::flows::issuer::Issuer;
use crate::ports::cloud::{CertificateRegistration, CloudError, ControlPlane};
use crate::ports::ledger::{Filter, Ledger, LedgerError};
use crate::ports::{Dial, FileError, Swap};

/// What the flow may use.
pub struct DeviceRotate<'a> {
    /// Issues the new identity; also holds clock, files and ledger.
    pub issue: DeviceIssue<'a>,
    /// The target.
    pub plane: &'a dyn ControlPlane,
    /// Proves the new identity.
    pub dial: &'a dyn Dial,
    /// Swaps the folders.
    pub swap: &'a dyn Swap,
}

/// What is asked.
pub struct Request<'a> {
    /// The device.
    pub device: String,
    /// Who signs the new certificate.
    pub issuer: Issuer<'a>,
    /// Its window: as long as the old one's unless the user says otherwise.
    pub lifetime: Lifetime,
    /// Where the new identity is proved.
    pub endpoint: Endpoint,
    /// Whom to trust to vouch for the endpoint.
    pub server_roots: Vec<Certificate>,
    /// How long the proof may take.
    pub timeout: Duration,
}

/// A finished rotation.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The certificate that went.
    pub old: CertificateId,
    /// The one that came.
    pub new: Certificate,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// The steps of this run, in order.
    pub steps: Vec<Step>,
    /// The device's folder, now with the new identity.
    pub folder: PathBuf,
    /// Where the old identity's files are kept.
    pub old_folder: PathBuf,
}

/// The three places of a rotation's files.
struct Folders {
    here: PathBuf,
    next: PathBuf,
    old: PathBuf,
}

impl DeviceRotate<'_> {
    /// Rotates, or goes on with a rotation that an earlier run began. `tell` hears of each step
    /// that is done.
    ///
    /// # Errors
    /// `rotate.*`, and what the parts say. The old identity works until the new one is proved.
    pub fn run(
        &self,
        request: &Request<'_>,
        tell: &mut dyn FnMut(Step),
    ) -> Result<Rotated, RotateError> {
        // Two that rotate one device would exchange its folders twice.
        let _held = self.ledger().hold_rotations()?;
        let earlier = self.ledger().rotation(&request.device)?;
        let resumed = earlier.is_some();
        let mut record = match earlier {
            Some(record) => record,
            None => self.begin(&request.device)?,
        };
        let old = self.recorded(&record.old)?;
        let mut steps = Vec::new();
        loop {
            let progress = Progress::from_word(&record.step)
                .ok_or_else(|| RotateError::UnknownStep(record.step.clone()))?;
            let step = progress.next();
            self.perform(step, request, &mut record, &old)?;
            steps.push(step);
            tell(step);
            let Some(reached) = step.leads_to() else {
                break;
            };
            reached.word().clone_into(&mut record.step);
            record.updated = self.issue.clock.now();
            self.ledger().save_rotation(&record)?;
        }
        let now = self.issue.clock.now();
        self.ledger().end_rotation(&request.device, "done", now)?;
        let new = self.certificate(record.new.as_ref())?;
        let folders = self.folders(&old, &record.old)?;
        Ok(Rotated {
            old: record.old,
            new,
            resumed,
            steps,
            folder: folders.here,
            old_folder: folders.old,
        })
    }

    fn ledger(&self) -> &dyn Ledger {
        self.issue.ledger
    }

    fn begin(&self, device: &str) -> Result<RotationRecord, RotateError> {
        let live = self
            .ledger()
            .live(&[device], IdentityPurpose::Operational)?
            .pop();
        let live = live
            .filter(|record| record.state == CertificateState::Issued)
            .ok_or_else(|| RotateError::NoIdentity(device.to_owned()))?;
        if let Some(flaw) = &live.flaw {
            return Err(RotateError::Flawed(device.to_owned(), flaw.clone()));
        }
        let keyless = |folder: &PathBuf| !self.issue.files.exists(&folder.join(bundle::KEY));
        if live.folder.as_ref().is_some_and(keyless) {
            return Err(RotateError::NoKey(device.to_owned()));
        }
        let old = live
            .id
            .ok_or_else(|| RotateError::NoIdentity(device.to_owned()))?;
        // Asked now, before anything is written down.
        Heritage::of(&self.certificate(Some(&old))?)?;
        let at_target = self.plane.describe_certificate(&old)?;
        match at_target.map(|view| view.status) {
            Some(CertificateStatus::Active) => {}
            status => {
                return Err(RotateError::NotActive {
                    device: device.to_owned(),
                    status,
                });
            }
        }
        let now = self.issue.clock.now();
        let record = RotationRecord {
            device: device.to_owned(),
            old,
            new: None,
            step: Progress::Begun.word().to_owned(),
            started: now,
            updated: now,
        };
        self.ledger().save_rotation(&record)?;
        Ok(record)
    }

    fn perform(
        &self,
        step: Step,
        request: &Request<'_>,
        record: &mut RotationRecord,
        old: &CertificateRecord,
    ) -> Result<(), RotateError> {
        match step {
            Step::Issue => {
                record.new = Some(self.issue_new(request, &record.old, old)?);
                Ok(())
            }
            Step::Register => self.register(request, record),
            Step::Attach => self.attach(&record.old, &self.certificate(record.new.as_ref())?),
            Step::Prove => self.prove(request, &record.old, old),
            Step::Swap => self.swap(record, old),
            Step::Deactivate => self.deactivate(&record.old),
        }
    }

    /// The successor that an earlier run issued, or a new one.
    fn issue_new(
        &self,
        request: &Request<'_>,
        old_id: &CertificateId,
        old: &CertificateRecord,
    ) -> Result<CertificateId, RotateError> {
        let successor = self.successor(&request.device, old_id)?;
        if let Some(id) = successor.and_then(|record| record.id) {
            return Ok(id);
        }
        let heritage = Heritage::of(&self.certificate(Some(old_id))?)?;
        let issued = self.issue.run(&IssueRequest {
            device: request.device.clone(),
            subject: heritage.subject,
            lifetime: request.lifetime.clone(),
            key: KeySource::New(heritage.algorithm),
            folder: self.folders(old, old_id)?.next,
            issuer: request.issuer,
            template: None,
            purpose: heritage.purpose,
            alternative_names: heritage.alternative_names,
            extras: heritage.extras,
            replaces: Some(old_id.clone()),
            flaw: None,
        })?;
        Ok(issued.certificate.id().clone())
    }

    fn register(&self, request: &Request<'_>, record: &RotationRecord) -> Result<(), RotateError> {
        let new = self.certificate(record.new.as_ref())?;
        match self.plane.describe_certificate(new.id())? {
            Some(view) if view.status == CertificateStatus::Active => Ok(()),
            // Somebody withdrew it on purpose.
            Some(view) if view.status == CertificateStatus::Revoked => {
                Err(RotateError::NotActive {
                    device: record.device.clone(),
                    status: Some(view.status),
                })
            }
            Some(_) => Ok(self
                .plane
                .update_certificate(new.id(), CertificateStatus::Active)?),
            None => {
                let ca = request.issuer.certificate().map_err(IssueError::Issuer)?;
                // An earlier run may have named another CA.
                let issued_it = self.recorded(new.id())?.issuer == *ca.id();
                self.plane.register_certificate(&CertificateRegistration {
                    certificate_pem: new.to_pem(),
                    ca_pem: issued_it.then(|| ca.to_pem()),
                    status: CertificateStatus::Active,
                })?;
                Ok(())
            }
        }
    }

    /// Attaching twice is the same as once, so nothing needs to be looked up first.
    fn attach(&self, old: &CertificateId, new: &Certificate) -> Result<(), RotateError> {
        let place = self.plane.place()?;
        let (old_arn, new_arn) = (arn(&place, old), arn(&place, new.id()));
        for policy in self.plane.attached_policies(&old_arn)? {
            self.plane.attach_policy(&policy, &new_arn)?;
        }
        for thing in self.plane.things_of(&old_arn)? {
            self.plane.attach_thing(&thing, &new_arn)?;
        }
        Ok(())
    }

    fn prove(
        &self,
        request: &Request<'_>,
        old_id: &CertificateId,
        old: &CertificateRecord,
    ) -> Result<(), RotateError> {
        let folder = self.folders(old, old_id)?.next;
        let identity = identity::load(self.issue.files, &Paths::in_folder(&folder))?;
        let place = self.plane.place()?;
        let thing = self
            .plane
            .things_of(&arn(&place, old_id))?
            .into_iter()
            .next();
        let client_id =
            thing.map_or_else(|| request.device.clone(), |thing| thing.name.to_string());
        let connect = Connect {
            clock: self.issue.clock,
            entropy: self.issue.entropy,
            dial: self.dial,
        };
        let mut asked = ConnectRequest::new(
            request.endpoint.clone(),
            identity,
            request.server_roots.clone(),
            client_id,
        );
        asked.timeout = request.timeout;
        connect
            .run(asked)
            .map_err(|error| RotateError::Prove(Box::new(error)))?;
        Ok(())
    }

    /// Looks at what stands where and does what is missing, so that it can be cut off anywhere.
    fn swap(&self, record: &RotationRecord, old: &CertificateRecord) -> Result<(), RotateError> {
        let new = record.new.clone().ok_or(RotateError::NoSuccessor)?;
        let folders = self.folders(old, &record.old)?;
        let is = |folder: &Path, id: &CertificateId| self.leaf_in(folder).as_ref() == Some(id);
        if is(&folders.here, &record.old) && is(&folders.next, &new) {
            let exchanged = self.swap.exchange(&folders.here, &folders.next)?;
            if !exchanged {
                self.swap.rename(&folders.here, &folders.old)?;
            }
        }
        if !self.issue.files.exists(&folders.here) && is(&folders.next, &new) {
            self.swap.rename(&folders.next, &folders.here)?;
        }
        if is(&folders.here, &new) && is(&folders.next, &record.old) {
            self.swap.rename(&folders.next, &folders.old)?;
        }
        if !is(&folders.here, &new) {
            return Err(RotateError::Folder(folders.here));
        }
        let now = self.issue.clock.now();
        self.ledger().promote(&record.old, &new, now)?;
        self.ledger().set_folder(&new, &folders.here, now)?;
        self.ledger().set_folder(&record.old, &folders.old, now)?;
        Ok(())
    }

    fn deactivate(&self, old: &CertificateId) -> Result<(), RotateError> {
        // What was revoked or deleted there meanwhile stays so.
        let at_target = self.plane.describe_certificate(old)?;
        if at_target.is_some_and(|view| view.status == CertificateStatus::Active) {
            self.plane
                .update_certificate(old, CertificateStatus::Inactive)?;
        }
        let detail = "replaced by its successor, which has connected";
        let now = self.issue.clock.now();
        Ok(self
            .ledger()
            .set_state(old, CertificateState::Deactivated, detail, now)?)
    }

    /// `NAME`, `NAME.next` and `NAME.old`; the last with the old id added when an earlier
    /// rotation's files stand there.
    fn folders(&self, old: &CertificateRecord, id: &CertificateId) -> Result<Folders, RotateError> {
        let recorded = old
            .folder
            .clone()
            .ok_or_else(|| RotateError::NoFolder(old.device.clone()))?;
        let beside = |here: &Path, suffix: &str| {
            let mut name = here.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            here.with_file_name(name)
        };
        // After the swap the successor's folder is the device's, and the old one's another.
        let successor = self.successor(&old.device, id)?.and_then(|new| new.folder);
        let here = successor
            .filter(|folder| *folder != beside(&recorded, ".next"))
            .unwrap_or(recorded);
        let beside = |suffix: &str| beside(&here, suffix);
        let plain = beside(".old");
        let taken = self.issue.files.exists(&plain) && self.leaf_in(&plain).as_ref() != Some(id);
        let kept = if taken {
            beside(&format!(".old-{}", id.short()))
        } else {
            plain
        };
        Ok(Folders {
            next: beside(".next"),
            old: kept,
            here,
        })
    }

    /// What was issued to replace `old`.
    fn successor(
        &self,
        device: &str,
        old: &CertificateId,
    ) -> Result<Option<CertificateRecord>, LedgerError> {
        let filter = Filter {
            device: Some(device.to_owned()),
            state: Some(CertificateState::Issued),
            ..Filter::default()
        };
        let issued = self.ledger().certificates(&filter)?;
        Ok(issued
            .into_iter()
            .find(|record| record.replaces.as_ref() == Some(old)))
    }

    fn leaf_in(&self, folder: &Path) -> Option<CertificateId> {
        let path = folder.join(bundle::CERTIFICATE);
        let text = self.issue.files.read(&path, pem::MAX_BYTES as u64).ok()?;
        let all = Certificate::all_from_pem(&text).ok()?;
        all.first().map(|leaf| leaf.id().clone())
    }

    fn recorded(&self, id: &CertificateId) -> Result<CertificateRecord, RotateError> {
        let record = self.ledger().certificate(id)?;
        record.ok_or_else(|| LedgerError::Unknown(id.to_string()).into())
    }

    fn certificate(&self, id: Option<&CertificateId>) -> Result<Certificate, RotateError> {
        let id = id.ok_or(RotateError::NoSuccessor)?;
        let der = self.recorded(id)?.der.ok_or(RotateError::NoSuccessor)?;
        Certificate::from_der(&der).map_err(|_| RotateError::NoSuccessor)
    }
}

fn arn(place: &Place, id: &CertificateId) -> String {
    place.arn("cert", id)
}

/// Why a rotation stopped. The record keeps how far it came.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The target did not do as asked.
    #[error("the rotation stopped; the old certificate still works")]
    Cloud(#[from] CloudError),
    /// Made wrong on purpose.
    #[error(
        "the certificate of device `{0}` is wrong on purpose ({1}) and stays out of any target"
    )]
    Flawed(String, String),
    /// A folder could not be moved.
    #[error("the rotation stopped while the folders were swapped; nothing is lost")]
    File(#[from] FileError),
    /// Neither the old nor the new identity stands there.
    #[error("`{}` holds neither the old nor the new certificate", .0.display())]
    Folder(PathBuf),
    /// The new certificate cannot be what the old one is.
    #[error("nothing was done; the old certificate still works")]
    Heritage(#[from] HeritageError),
    /// The new identity's files do not read.
    #[error("the new identity cannot be read back")]
    Identity(#[from] IdentityError),
    /// No new identity.
    #[error("the new identity was not made; the old certificate still works")]
    Issue(#[from] IssueError),
    /// The record failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger does not know where the files are.
    #[error("the ledger does not know the folder of device `{0}`")]
    NoFolder(String),
    /// Nothing to rotate.
    #[error("device `{0}` has no live identity in the ledger")]
    NoIdentity(String),
    /// The key was made on the device, or moved away.
    #[error("the key of device `{0}` is not in its folder, so no other can take its place here")]
    NoKey(String),
    /// The rotation's record lacks the new certificate.
    #[error("the rotation's record lacks its new certificate")]
    NoSuccessor,
    /// The old certificate is not in use at the target.
    #[error("the certificate of device `{device}` is {} at the target", status_text(.status.as_ref()))]
    NotActive {
        /// The device.
        device: String,
        /// What the target says; `None` when it does not know the certificate.
        status: Option<CertificateStatus>,
    },
    /// The new identity was not accepted.
    #[error(
        "the new identity was not accepted; the old certificate still works and stays in place"
    )]
    Prove(#[source] Box<ConnectError>),
    /// Written by another version.
    #[error("the ledger holds a rotation at step `{0}`, which this nameplate does not know")]
    UnknownStep(String),
}

fn status_text(status: Option<&CertificateStatus>) -> String {
    status.map_or_else(|| "not registered".to_owned(), |status| format!("{status}"))
}

impl RotateError {
    fn inner(&self) -> Option<&dyn Explain> {
        match self {
            Self::Cloud(e) => Some(e),
            Self::File(e) => Some(e),
            Self::Heritage(e) => Some(e),
            Self::Identity(e) => Some(e),
            Self::Issue(e) => Some(e),
            Self::Ledger(e) => Some(e),
            Self::Prove(e) => Some(e.as_ref()),
            _ => None,
        }
    }
}

impl Explain for RotateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Flawed(..) => Kind::Refused,
            other => other.inner().map_or(Kind::Input, Explain::kind),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Flawed(..) => "rotate.flawed",
            Self::Folder(_) => "rotate.folder",
            Self::NoFolder(_) => "rotate.no-folder",
            Self::NoIdentity(_) => "rotate.no-identity",
            Self::NoKey(_) => "rotate.no-key",
            Self::NoSuccessor => "rotate.no-successor",
            Self::NotActive { .. } => "rotate.not-active",
            Self::UnknownStep(_) => "rotate.step",
            other => other.inner().map_or("rotate.failed", Explain::code),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Flawed(device, _) => Some(format!(
                "revoke it with `nameplate device revoke {device} --local --yes`, then issue a good one"
            )),
            Self::NoIdentity(device) => {
                Some(format!("issue one with `nameplate device issue {device}`"))
            }
            Self::NotActive {
                device,
                status: None,
            } => Some(format!(
                "let it connect once (`nameplate connect --identity devices/{device}`), so that \
                 it is provisioned; then rotate"
            )),
            Self::NotActive { .. } => Some("only an ACTIVE certificate is rotated".into()),
            Self::NoKey(_) => Some(
                "put the folder back; or, when the key is made on the device, revoke this \
                 identity and sign the device's next request with `nameplate device sign`"
                    .into(),
            ),
            Self::UnknownStep(_) => Some("use the nameplate that began it".into()),
            Self::Prove(e) => {
                let again = "mend the cause, then run the same command: it goes on from here";
                Some(
                    e.hint()
                        .map_or(again.into(), |hint| format!("{hint}; {again}")),
                )
            }
            other => other.inner().and_then(Explain::hint),
        }
    }
}
