//! `device revoke`: the ledger first, so that a failure in between leaves a certificate that is
//! known to be on its way out, never one that is revoked at the target and live here.

use crate::core::ids::CertificateId;
use crate::core::record::CertificateState;
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::status::CertificateStatus;
use crate::explain::{Explain, Kind};
use crate::ports::Clock;
use crate::ports::cloud::{CloudError, CloudResult, ControlPlane};
use crate::ports::ledger::{Filter, Ledger, LedgerError};

/// What the flow may use.
pub struct DeviceRevoke<'a> {
    /// When.
    pub clock: &'a dyn Clock,
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// The target; `None` to revoke here alone.
    pub plane: Option<&'a dyn ControlPlane>,
}

/// One certificate that is revoked now.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RevokedCertificate {
    /// The certificate.
    pub id: CertificateId,
    /// Whether the ledger called it revoked before.
    pub was_revoked_here: bool,
    /// When and why; what was revoked before keeps what was said then.
    #[serde(flatten)]
    pub revocation: Revocation,
    /// Whether the target knows it; if it does, it is REVOKED there now. `None` when the target was
    /// left alone.
    pub at_target: Option<bool>,
}

impl DeviceRevoke<'_> {
    /// Revokes every certificate that the device ever had, and ends a rotation that was under way.
    /// Doing it again changes nothing.
    ///
    /// # Errors
    /// `revoke.none` when the device has no certificate, `ledger.*`, `cloud.*`.
    pub fn run(
        &self,
        device: &str,
        reason: RevocationReason,
    ) -> Result<Vec<RevokedCertificate>, RevokeError> {
        // A rotation under way would attach and activate what is being revoked.
        let _held = self.ledger.hold_rotations()?;
        let filter = Filter {
            device: Some(device.to_owned()),
            ..Filter::default()
        };
        let records = self.ledger.certificates(&filter)?;
        let now = self.clock.now();
        let mut signed = Vec::new();
        // All of them here, before the target can fail at one.
        for record in records {
            let Some(id) = record.id else {
                continue;
            };
            signed.push(RevokedCertificate {
                revocation: self.ledger.revoke(&id, reason, now)?,
                was_revoked_here: record.state == CertificateState::Revoked,
                id,
                at_target: None,
            });
        }
        if signed.is_empty() {
            return Err(RevokeError::None(device.to_owned()));
        }
        self.ledger.end_rotation(device, "revoked", now)?;
        if let Some(plane) = self.plane {
            for one in &mut signed {
                let known = at_target(plane, &one.id).map_err(RevokeError::Target)?;
                one.at_target = Some(known);
            }
        }
        Ok(signed)
    }
}

/// Revokes it at the target, if that knows it.
fn at_target(plane: &dyn ControlPlane, id: &CertificateId) -> CloudResult<bool> {
    let Some(view) = plane.describe_certificate(id)? else {
        return Ok(false);
    };
    if view.status != CertificateStatus::Revoked {
        plane.update_certificate(id, CertificateStatus::Revoked)?;
    }
    Ok(true)
}

/// Why a device was not revoked, and how far it got.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The record failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Nothing to revoke.
    #[error("device `{0}` has no certificate in the ledger")]
    None(String),
    /// Here, not there.
    #[error("the ledger calls it revoked, but the target does not yet; run the same command again")]
    Target(#[source] CloudError),
}

impl Explain for RevokeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Ledger(e) => e.kind(),
            Self::None(_) => Kind::Input,
            Self::Target(e) => e.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Ledger(e) => e.code(),
            Self::None(_) => "revoke.none",
            Self::Target(e) => e.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Ledger(e) => e.hint(),
            Self::None(_) => Some("`nameplate device list` shows what is there".into()),
            Self::Target(e) => e.hint(),
        }
    }
}
