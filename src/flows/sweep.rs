//! `sweep`: takes away what has expired. The ledger first, then the target, then the files, then
//! the ledger's last word: wherever it stops, the next run goes on.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::core::bundle;
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, ThingName};
use crate::core::pem;
use crate::core::record::{CertificateRecord, CertificateState};
use crate::core::status::CertificateStatus;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Kind};
use crate::ports::cloud::{CertificateView, CloudError, CloudResult, ControlPlane};
use crate::ports::ledger::{Filter, Ledger, LedgerError};
use crate::ports::{Clock, FileError, Files, Tidy};

/// The files of an identity folder in the order in which they go: the certificate last, because
/// it proves whose the others are.
const FILES: [&str; 5] = [
    bundle::KEY,
    bundle::KEY_URI,
    bundle::CHAIN,
    bundle::CA_BUNDLE,
    bundle::CERTIFICATE,
];

/// What the flow may use.
pub struct Sweep<'a> {
    /// When.
    pub clock: &'a dyn Clock,
    /// Reads certificates.
    pub files: &'a dyn Files,
    /// Removes files.
    pub tidy: &'a dyn Tidy,
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// The target; `None` leaves it alone, and the certificate to a later sweep.
    pub plane: Option<&'a dyn ControlPlane>,
}

/// Which certificates go, and what with them.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Expired for at least this long.
    pub expired_for: Span,
    /// Of this batch.
    pub batch: Option<String>,
    /// Only those whose whole lifetime is at most this.
    pub lifetime: Option<Span>,
    /// Also the device's thing, when no certificate is attached to it any more.
    pub things: bool,
    /// Change nothing.
    pub dry_run: bool,
}

/// What became of one part.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// It is gone; in a dry run, it would be.
    Removed,
    /// It was not there.
    Absent,
    /// It stays: another's, or something else is in it.
    Kept,
    /// Not looked at.
    Skipped,
}

/// One certificate that was swept.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Swept {
    /// Its device.
    pub device: String,
    /// Its id.
    pub id: CertificateId,
    /// When it expired.
    pub not_after: UtcTime,
    /// The certificate at the target.
    pub target: Removal,
    /// The device's thing at the target.
    pub thing: Removal,
    /// The identity's folder; kept when other files are in it.
    pub local: Removal,
    /// Where that is.
    pub folder: Option<PathBuf>,
}

impl Swept {
    fn nothing_left(&self) -> bool {
        let here = [self.target, self.thing, self.local];
        !here.contains(&Removal::Removed)
    }
}

impl Sweep<'_> {
    /// Sweeps every certificate in `scope`, but for devices with a rotation under way. Doing it again changes nothing.
    ///
    /// # Errors
    /// `ledger.*`, `cloud.*`, `file.*`, with how many were done before.
    pub fn run(&self, scope: &Scope) -> Result<Vec<Swept>, SweepError> {
        // A rotation under way works with what may be swept here.
        let _held = self.ledger.hold_rotations()?;
        let now = self.clock.now();
        let mut done = Vec::new();
        for record in self.expired(scope, now)? {
            let Some(id) = record.id.clone() else {
                continue;
            };
            if self.ledger.rotation(&record.device)?.is_some() {
                continue;
            }
            let swept = self
                .one(&record, id, scope)
                .map_err(|why| SweepError::Stopped(done.len(), Box::new(why)))?;
            // A revoked one stays in its state, and is met again by every sweep.
            if record.state != CertificateState::Revoked || !swept.nothing_left() {
                done.push(swept);
            }
        }
        Ok(done)
    }

    fn expired(&self, scope: &Scope, now: UtcTime) -> Result<Vec<CertificateRecord>, LedgerError> {
        let limit = now.minus(scope.expired_for);
        let filter = Filter {
            expiring_before: Some(limit),
            batch: scope.batch.clone(),
            ..Filter::default()
        };
        let mut all = Vec::new();
        self.ledger.for_each_certificate(&filter, &mut |record| {
            let window = record.validity;
            let lived = window.not_after.since(window.not_before);
            let over = matches!(
                record.state,
                CertificateState::Issued
                    | CertificateState::Superseded
                    | CertificateState::Deactivated
                    | CertificateState::Revoked
            );
            if over && scope.lifetime.is_none_or(|most| lived <= most) {
                // Its place and its id are enough; certificates of a whole fleet are not kept.
                all.push(CertificateRecord {
                    der: None,
                    ..record
                });
            }
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    fn one(
        &self,
        record: &CertificateRecord,
        id: CertificateId,
        scope: &Scope,
    ) -> Result<Swept, Stop> {
        let now = self.clock.now();
        let passing = !scope.dry_run && record.state != CertificateState::Revoked;
        if passing {
            let state = CertificateState::Deactivated;
            self.ledger.set_state(&id, state, "sweep: expired", now)?;
        }
        let (target, thing) = self.at_target(&id, &record.device, scope)?;
        let local = match &record.folder {
            Some(folder) => self.at_home(folder, &id, scope.dry_run)?,
            None => Removal::Absent,
        };
        if passing && self.plane.is_some() {
            let state = CertificateState::Swept;
            self.ledger.set_state(&id, state, "sweep: removed", now)?;
        }
        Ok(Swept {
            device: record.device.clone(),
            id,
            not_after: record.validity.not_after,
            target,
            thing,
            local,
            folder: record.folder.clone(),
        })
    }

    /// The certificate, and with `--things` the device's thing.
    fn at_target(
        &self,
        id: &CertificateId,
        device: &str,
        scope: &Scope,
    ) -> CloudResult<(Removal, Removal)> {
        let Some(plane) = self.plane else {
            return Ok((Removal::Skipped, Removal::Skipped));
        };
        let view = plane.describe_certificate(id)?;
        let certificate = match &view {
            Some(view) if !scope.dry_run => detach(plane, view).map(|()| Removal::Removed)?,
            Some(_) => Removal::Removed,
            None => Removal::Absent,
        };
        let thing = if scope.things {
            let own = view.as_ref().map(|view| view.arn.as_str());
            drop_thing(plane, device, own.filter(|_| scope.dry_run), scope.dry_run)?
        } else {
            Removal::Skipped
        };
        // The certificate goes last: as long as it is there, the next run comes back to the rest.
        if !scope.dry_run && view.is_some() {
            plane.delete_certificate(id)?;
        }
        Ok((certificate, thing))
    }

    /// The files that nameplate wrote, if the certificate among them is this one.
    fn at_home(&self, folder: &Path, id: &CertificateId, dry_run: bool) -> Result<Removal, Stop> {
        let path = folder.join(bundle::CERTIFICATE);
        if !self.files.exists(&path) {
            return Ok(Removal::Absent);
        }
        let text = self.files.read(&path, pem::MAX_BYTES as u64)?;
        let certificates = Certificate::all_from_pem(&text).unwrap_or_default();
        if certificates.first().map(Certificate::id) != Some(id) {
            return Ok(Removal::Kept);
        }
        if dry_run {
            return Ok(Removal::Removed);
        }
        for name in FILES {
            self.tidy.remove_file(&folder.join(name))?;
        }
        let gone = self.tidy.remove_if_empty(folder)?;
        Ok(if gone {
            Removal::Removed
        } else {
            Removal::Kept
        })
    }
}

/// Switches it off and takes its policies and things from it, as `DeleteCertificate` demands.
fn detach(plane: &dyn ControlPlane, view: &CertificateView) -> CloudResult<()> {
    let off = [CertificateStatus::Inactive, CertificateStatus::Revoked];
    if !off.contains(&view.status) {
        plane.update_certificate(&view.id, CertificateStatus::Inactive)?;
    }
    for thing in plane.things_of(&view.arn)? {
        plane.detach_thing(&thing.name, &view.arn)?;
    }
    for policy in plane.attached_policies(&view.arn)? {
        plane.detach_policy(&policy, &view.arn)?;
    }
    Ok(())
}

/// Deletes the thing of the device's name, unless a certificate other than `own` is attached.
fn drop_thing(
    plane: &dyn ControlPlane,
    device: &str,
    own: Option<&str>,
    dry_run: bool,
) -> CloudResult<Removal> {
    let Ok(name) = device.parse::<ThingName>() else {
        return Ok(Removal::Absent);
    };
    if plane.describe_thing(&name)?.is_none() {
        return Ok(Removal::Absent);
    }
    let attached = plane.principals_of(&name)?;
    if attached.iter().any(|arn| Some(arn.as_str()) != own) {
        return Ok(Removal::Kept);
    }
    if !dry_run {
        plane.delete_thing(&name)?;
    }
    Ok(Removal::Removed)
}

/// What stopped a sweep.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The target failed.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A file could not be read or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why not everything was swept.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The record failed before anything was touched.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It stopped in the middle.
    #[error("the sweep stopped after {0} certificates; run the same command again to go on")]
    Stopped(usize, #[source] Box<Stop>),
}

impl SweepError {
    fn inner(&self) -> &dyn Explain {
        match self {
            Self::Ledger(error) => error,
            Self::Stopped(_, why) => match &**why {
                Stop::Cloud(error) => error,
                Stop::File(error) => error,
                Stop::Ledger(error) => error,
            },
        }
    }
}

impl Explain for SweepError {
    fn kind(&self) -> Kind {
        self.inner().kind()
    }
    fn code(&self) -> &'static str {
        self.inner().code()
    }
    fn hint(&self) -> Option<String> {
        self.inner().hint()
    }
}
