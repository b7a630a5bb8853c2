//! Device certificates: registration, status, attachment to things, deletion.

use std::sync::Arc;

use super::entities::{CaEntry, CertificateEntry, Dates};
use super::state::State;
use super::{ApiError, CertificateMode, CertificateStatus, ErrorName, Registry};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place, ThingName};
use crate::core::time::UtcTime;

/// `RegisterCertificate`, or `RegisterCertificateWithoutCA`.
#[derive(Clone, Debug)]
pub struct CertificateRegistration {
    /// `certificatePem`.
    pub certificate: Certificate,
    /// `caCertificatePem`.
    pub ca: Option<Certificate>,
    /// `status`: ACTIVE, INACTIVE or REVOKED.
    pub status: CertificateStatus,
    /// `RegisterCertificateWithoutCA`.
    pub without_ca: bool,
}

/// `AttachThingPrincipal`.
#[derive(Clone, Debug)]
pub struct AttachTo {
    /// The thing.
    pub thing: ThingName,
    /// The certificate.
    pub certificate: CertificateId,
    /// `thingPrincipalType` is `EXCLUSIVE_THING`.
    pub exclusive: bool,
}

impl Registry {
    /// Registers a device certificate.
    ///
    /// # Errors
    /// As `RegisterCertificate` and `RegisterCertificateWithoutCA`.
    pub fn register_certificate(
        &mut self,
        request: &CertificateRegistration,
        now: UtcTime,
    ) -> Result<CertificateId, ApiError> {
        self.mutate(|state, place| {
            check_settable(request.status)?;
            register(state, place, request, now)
        })
    }

    /// Registers the certificate of a first connection as `PENDING_ACTIVATION`, under the CA that
    /// issued it; one that is registered already stays as it is.
    ///
    /// # Errors
    /// `ResourceNotFoundException` when the CA is not registered, `CertificateStateException` when
    /// it is not ACTIVE or does not register automatically, `CertificateValidationException`.
    pub fn register_pending(
        &mut self,
        certificate: &Certificate,
        ca: &CertificateId,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            if state.certificates.get(certificate.id().as_str()).is_some() {
                return Ok(());
            }
            let issuer = state.cas.get(ca.as_str());
            let issuer = issuer.ok_or_else(|| ApiError::not_found("CA certificate", ca))?;
            if !issuer.active || !issuer.auto_registration {
                let message = format!("CA certificate {ca} does not register certificates");
                return Err(ApiError::new(ErrorName::CertificateState, message));
            }
            let mode = issuer.mode;
            check_new(state, place, certificate, now)?;
            let mut entry = entry(certificate, Some(ca.clone()), mode, now);
            entry.status = CertificateStatus::PendingActivation;
            state.certificates.put(certificate.id().as_str(), entry);
            Ok(())
        })
    }

    /// A registered certificate.
    pub fn certificate(&self, id: &CertificateId) -> Option<CertificateEntry> {
        self.state.certificates.get(id.as_str()).cloned()
    }

    /// Every registered certificate, by id; claims of trusted users are none.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateEntry> {
        let all = self.state.certificates.all();
        all.filter(|entry| entry.claim.is_none())
    }

    /// `UpdateCertificate`.
    ///
    /// # Errors
    /// `CertificateStateException` for a revoked one, `InvalidRequestException` for a status that
    /// cannot be set.
    pub fn update_certificate(
        &mut self,
        id: &CertificateId,
        status: CertificateStatus,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let entry = state.certificates.get(id.as_str());
            let entry = entry.ok_or_else(|| no_certificate(id))?;
            check_settable(status)?;
            if entry.status == status {
                return Ok(());
            }
            if entry.status == CertificateStatus::Revoked {
                let message = format!("certificate {id} is REVOKED for good");
                return Err(ApiError::new(ErrorName::CertificateState, message));
            }
            set_status(state, id, status, now);
            Ok(())
        })
    }

    /// `DeleteCertificate`. `force` deletes despite attached policies, never despite things.
    ///
    /// # Errors
    /// `CertificateStateException` while ACTIVE, `DeleteConflictException` while attached.
    pub fn delete_certificate(&mut self, id: &CertificateId, force: bool) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let entry = state.certificates.get(id.as_str());
            let entry = entry.ok_or_else(|| no_certificate(id))?;
            let arn = place.arn("cert", id);
            let conflict = |message| Err(ApiError::new(ErrorName::DeleteConflict, message));
            if entry.status == CertificateStatus::Active {
                let message = format!(
                    "Certificate must be deactivated (not ACTIVE) before deletion. Id: {id}"
                );
                return Err(ApiError::new(ErrorName::CertificateState, message));
            }
            if !entry.things.is_empty() {
                return conflict(format!(
                    "Things must be detached before deletion (arn: {arn})"
                ));
            }
            if !entry.policies.is_empty() && !force {
                return conflict(format!(
                    "Certificate policies must be detached before deletion (arn: {arn})"
                ));
            }
            state.certificates.remove(id.as_str());
            Ok(())
        })
    }

    /// `AttachThingPrincipal`; the same again changes nothing.
    ///
    /// # Errors
    /// `ResourceNotFoundException`; `InvalidRequestException` when exclusivity forbids it.
    pub fn attach_thing(&mut self, request: &AttachTo) -> Result<(), ApiError> {
        self.mutate(|state, _| attach(state, request))
    }

    /// `DetachThingPrincipal`; takes effect at once, where AWS IoT takes seconds.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn detach_thing(&mut self, thing: &ThingName, id: &CertificateId) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let entry = state.certificates.change(id.as_str());
            let entry = entry.ok_or_else(|| no_certificate(id))?;
            entry.things.remove(thing);
            let found = state.things.change(thing.as_str());
            let found = found.ok_or_else(|| ApiError::not_found("thing", thing))?;
            found.principals.remove(id);
            Ok(())
        })
    }
}

/// Registers a certificate with any status, inside a mutation.
pub(super) fn register(
    state: &mut State,
    place: &Place,
    request: &CertificateRegistration,
    now: UtcTime,
) -> Result<CertificateId, ApiError> {
    check_new(state, place, &request.certificate, now)?;
    let ca = if request.without_ca {
        None
    } else {
        Some(issuer(state, request)?)
    };
    let mode = ca.map_or(CertificateMode::SniOnly, |ca| ca.mode);
    if let Some(ca) = ca
        && !ca.active
    {
        let message = format!("CA certificate {} is not ACTIVE", ca.id);
        return Err(ApiError::new(ErrorName::CertificateState, message));
    }
    let ca = ca.map(|ca| ca.id.clone());
    let mut entry = entry(&request.certificate, ca, mode, now);
    entry.status = request.status;
    let id = entry.id.clone();
    state.certificates.put(id.as_str(), entry);
    Ok(id)
}

/// Attaches a certificate to a thing, inside a mutation.
pub(super) fn attach(state: &mut State, request: &AttachTo) -> Result<(), ApiError> {
    let AttachTo {
        thing,
        certificate: id,
        exclusive,
    } = request;
    let entry = state.certificates.get(id.as_str());
    let entry = entry.ok_or_else(|| no_certificate(id))?;
    if state.things.get(thing.as_str()).is_none() {
        return Err(ApiError::not_found("thing", thing));
    }
    if let Some(now) = entry.things.get(thing) {
        return if now == exclusive {
            Ok(())
        } else {
            let message =
                format!("certificate {id} is attached to thing {thing} in another way; detach it");
            Err(ApiError::invalid(message))
        };
    }
    let elsewhere = entry.things.iter().next();
    if let Some((other, is_exclusive)) = elsewhere
        && (*is_exclusive || *exclusive)
    {
        let message = format!(
            "certificate {id} is attached to thing {other}, and an exclusive attachment allows no \
             second"
        );
        return Err(ApiError::invalid(message));
    }
    if let Some(entry) = state.certificates.change(id.as_str()) {
        entry.things.insert(thing.clone(), *exclusive);
    }
    if let Some(found) = state.things.change(thing.as_str()) {
        found.principals.insert(id.clone(), *exclusive);
    }
    Ok(())
}

/// Sets a status without asking, inside a mutation.
pub(super) fn set_status(
    state: &mut State,
    id: &CertificateId,
    status: CertificateStatus,
    now: UtcTime,
) {
    if let Some(entry) = state.certificates.change(id.as_str()) {
        entry.status = status;
        entry.version += 1;
        entry.dates.modified = now;
    }
}

/// The id in a certificate's ARN of this place.
pub(super) fn certificate_of_arn(arn: &str, place: &Place) -> Option<CertificateId> {
    arn.strip_prefix(&place.arn("cert", ""))?.parse().ok()
}

pub(super) fn no_certificate(id: &CertificateId) -> ApiError {
    ApiError::not_found("certificate", id)
}

pub(super) fn entry(
    certificate: &Certificate,
    ca: Option<CertificateId>,
    mode: CertificateMode,
    now: UtcTime,
) -> CertificateEntry {
    CertificateEntry {
        id: certificate.id().clone(),
        pem: Arc::from(certificate.to_pem()),
        status: CertificateStatus::Inactive,
        ca,
        mode,
        validity: certificate.validity,
        dates: Dates::new(now),
        version: 1,
        policies: Vec::new(),
        things: std::collections::BTreeMap::new(),
        claim: None,
    }
}

fn check_settable(status: CertificateStatus) -> Result<(), ApiError> {
    use CertificateStatus::{Active, Inactive, Revoked};
    if matches!(status, Active | Inactive | Revoked) {
        return Ok(());
    }
    Err(ApiError::invalid(format!("status {status} cannot be set")))
}

fn check_new(
    state: &State,
    place: &Place,
    certificate: &Certificate,
    now: UtcTime,
) -> Result<(), ApiError> {
    let id = certificate.id();
    if state.certificates.get(id.as_str()).is_some() {
        let arn = place.arn("cert", id);
        return Err(ApiError::exists("the certificate", id.as_str(), arn));
    }
    let refused = |message| Err(ApiError::new(ErrorName::CertificateValidation, message));
    if let Some(reason) = certificate.unsupported_algorithm() {
        return refused(reason);
    }
    if now > certificate.validity.not_after {
        return refused(format!(
            "the certificate has expired: notAfter is {}, the time is {now}",
            certificate.validity.not_after
        ));
    }
    Ok(())
}

/// The registered CA that signed the certificate.
fn issuer<'a>(
    state: &'a State,
    request: &CertificateRegistration,
) -> Result<&'a CaEntry, ApiError> {
    let leaf = &request.certificate;
    let refused = |message: &str| ApiError::new(ErrorName::CertificateValidation, message);
    if let Some(ca) = &request.ca {
        let entry = state.cas.get(ca.id().as_str());
        let entry = entry.ok_or_else(|| refused("the CA certificate given is not registered"))?;
        return leaf
            .is_signed_by(&entry.certificate)
            .then_some(entry)
            .ok_or_else(|| refused("the CA certificate given did not sign the certificate"));
    }
    let mut found = state
        .cas
        .all()
        .filter(|entry| leaf.is_signed_by(&entry.certificate));
    let first = found
        .next()
        .ok_or_else(|| refused("no registered CA certificate signed the certificate"))?;
    if found.next().is_some() {
        let message = "more than one registered CA has this subject and key; give caCertificatePem";
        return Err(ApiError::new(ErrorName::CertificateConflict, message));
    }
    Ok(first)
}
