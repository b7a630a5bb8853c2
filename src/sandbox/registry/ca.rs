//! CA certificates: registration code, registration, update, deletion.

use super::entities::{CaEntry, Dates, RegistrationConfig};
use super::state::State;
use super::{ApiError, CertificateMode, ErrorName, META, Registry, random_hex};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, TemplateName};
use crate::core::template::{Template, TemplateKind};
use crate::core::time::UtcTime;

/// The most CAs with one subject in an account and Region.
const CAS_PER_SUBJECT: usize = 10;

/// `RegisterCACertificate`.
#[derive(Clone, Debug)]
pub struct CaRegistration {
    /// `caCertificate`.
    pub certificate: Certificate,
    /// `verificationCertificate`.
    pub verification: Option<Certificate>,
    /// `certificateMode`.
    pub mode: CertificateMode,
    /// `setAsActive`.
    pub active: bool,
    /// `allowAutoRegistration`.
    pub auto_registration: bool,
    /// `registrationConfig`.
    pub config: Option<RegistrationConfig>,
}

/// `UpdateCACertificate`: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct CaChange {
    /// `newStatus` is ACTIVE.
    pub active: Option<bool>,
    /// `newAutoRegistrationStatus` is ENABLE.
    pub auto_registration: Option<bool>,
    /// `registrationConfig`.
    pub config: Option<RegistrationConfig>,
    /// `removeAutoRegistration`: drops the registration config.
    pub remove_config: bool,
}

impl Registry {
    /// `GetRegistrationCode`: made on first use, the same until it is deleted.
    ///
    /// # Errors
    /// `InternalFailureException` only.
    pub fn registration_code(&mut self) -> Result<String, ApiError> {
        self.mutate(|state, _| {
            let known = state
                .meta
                .get(META)
                .and_then(|m| m.registration_code.clone());
            if let Some(code) = known {
                return Ok(code);
            }
            let code = random_hex::<32>()?;
            if let Some(meta) = state.meta.change(META) {
                meta.registration_code = Some(code.clone());
            }
            Ok(code)
        })
    }

    /// `DeleteRegistrationCode`.
    ///
    /// # Errors
    /// `ResourceNotFoundException` when there is none.
    pub fn delete_registration_code(&mut self) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let meta = state.meta.change(META);
            meta.and_then(|meta| meta.registration_code.take())
                .map(|_| ())
                .ok_or_else(|| ApiError::not_found("registration code", "of this account"))
        })
    }

    /// Registers a CA.
    ///
    /// # Errors
    /// As `RegisterCACertificate`.
    pub fn register_ca(
        &mut self,
        request: CaRegistration,
        now: UtcTime,
    ) -> Result<CertificateId, ApiError> {
        self.mutate(|state, place| {
            let ca = &request.certificate;
            let id = ca.id().clone();
            if state.cas.get(id.as_str()).is_some() {
                let arn = place.arn("cacert", &id);
                return Err(ApiError::exists("the CA certificate", id.as_str(), arn));
            }
            check_ca(ca, now)?;
            check_proof(state, &request, now)?;
            check_config(state, request.config.as_ref())?;
            let same = |entry: &&CaEntry| entry.certificate.subject_der == ca.subject_der;
            if state.cas.all().filter(same).count() >= CAS_PER_SUBJECT {
                let message = "10 CA certificates with this subject are registered already";
                return Err(ApiError::new(ErrorName::LimitExceeded, message));
            }
            let entry = CaEntry {
                id: id.clone(),
                certificate: request.certificate,
                active: request.active,
                auto_registration: request.auto_registration,
                mode: request.mode,
                config: request.config,
                dates: Dates::new(now),
                version: 1,
            };
            state.cas.put(id.as_str(), entry);
            Ok(id)
        })
    }

    /// A registered CA.
    pub fn ca(&self, id: &CertificateId) -> Option<&CaEntry> {
        self.state.cas.get(id.as_str())
    }

    /// Every registered CA, by id.
    pub fn cas(&self) -> impl Iterator<Item = &CaEntry> {
        self.state.cas.all()
    }

    /// The CAs whose subject has this DER; any of them may have issued a certificate whose issuer
    /// is the same.
    pub fn cas_with_subject(&self, subject_der: &[u8]) -> Vec<CaEntry> {
        self.state
            .cas
            .all()
            .filter(|entry| entry.certificate.subject_der == subject_der)
            .cloned()
            .collect()
    }

    /// Changes a CA.
    ///
    /// # Errors
    /// As `UpdateCACertificate`.
    pub fn update_ca(
        &mut self,
        id: &CertificateId,
        change: CaChange,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            if change.remove_config && change.config.is_some() {
                let message = "registrationConfig and removeAutoRegistration exclude each other";
                return Err(ApiError::invalid(message));
            }
            check_config(state, change.config.as_ref())?;
            let entry = state.cas.change(id.as_str()).ok_or_else(|| no_ca(id))?;
            entry.active = change.active.unwrap_or(entry.active);
            entry.auto_registration = change.auto_registration.unwrap_or(entry.auto_registration);
            if change.remove_config {
                entry.config = None;
            }
            if change.config.is_some() {
                entry.config = change.config;
            }
            entry.version += 1;
            entry.dates.modified = now;
            Ok(())
        })
    }

    /// Forgets a CA; its certificates stay registered.
    ///
    /// # Errors
    /// `CertificateStateException` while it is ACTIVE.
    pub fn delete_ca(&mut self, id: &CertificateId) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let entry = state.cas.get(id.as_str()).ok_or_else(|| no_ca(id))?;
            if entry.active {
                let message =
                    format!("CA certificate must be deactivated before deletion. Id: {id}");
                return Err(ApiError::new(ErrorName::CertificateState, message));
            }
            state.tags.remove(&place.arn("cacert", id));
            state.cas.remove(id.as_str());
            Ok(())
        })
    }

    /// The template that provisions the unknown certificates of a CA: its name (`inline` when it
    /// has none) and the template. `None` when there is none, or it is disabled.
    pub fn jitp_template(&self, ca: &CertificateId) -> Option<(TemplateName, Template)> {
        let (name, body) = match self.ca(ca)?.config.as_ref()? {
            RegistrationConfig::Inline { body, .. } => ("inline".parse().ok()?, body),
            RegistrationConfig::Named(name) => {
                let entry = self.state.templates.get(name.as_str())?;
                if !entry.enabled {
                    return None;
                }
                (name.clone(), &entry.default_version()?.body)
            }
        };
        Some((name, Template::parse(body).ok()?))
    }
}

fn no_ca(id: &CertificateId) -> ApiError {
    ApiError::not_found("CA certificate", id)
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorName::CertificateValidation, message)
}

fn check_ca(ca: &Certificate, now: UtcTime) -> Result<(), ApiError> {
    if ca.is_ca != Some(true) {
        return Err(refused(
            "CA certificate does not have the basicConstraints extension as true",
        ));
    }
    if let Some(reason) = ca.unsupported_algorithm() {
        return Err(refused(reason));
    }
    check_dates("CA certificate", ca, now)
}

fn check_dates(what: &str, certificate: &Certificate, now: UtcTime) -> Result<(), ApiError> {
    let validity = certificate.validity;
    if now > validity.not_after {
        return Err(refused(format!(
            "{what} has expired: notAfter is {}, the time is {now}",
            validity.not_after
        )));
    }
    if now < validity.not_before {
        return Err(refused(format!(
            "{what} is not valid yet: notBefore is {}, the time is {now}",
            validity.not_before
        )));
    }
    Ok(())
}

/// The proof that the caller holds the CA's key: a certificate signed with it whose CN is the
/// registration code.
fn check_proof(state: &State, request: &CaRegistration, now: UtcTime) -> Result<(), ApiError> {
    let proof = match (request.mode, &request.verification) {
        (CertificateMode::SniOnly, None) => return Ok(()),
        (CertificateMode::SniOnly, Some(_)) => {
            return Err(ApiError::invalid(
                "verificationCertificate must be empty in SNI_ONLY mode",
            ));
        }
        (CertificateMode::Default, None) => {
            return Err(ApiError::invalid(
                "verificationCertificate is needed in DEFAULT mode",
            ));
        }
        (CertificateMode::Default, Some(proof)) => proof,
    };
    if proof.issuer_der != request.certificate.subject_der {
        return Err(refused(
            "the verification certificate's issuer is not the CA's subject",
        ));
    }
    if !proof.verifies_with(&request.certificate.public_key) {
        return Err(refused(
            "the verification certificate is not signed with the CA's key",
        ));
    }
    let code = state
        .meta
        .get(META)
        .and_then(|m| m.registration_code.as_deref());
    if code.is_none() || proof.subject.first("CN") != code {
        return Err(ApiError::new(
            ErrorName::RegistrationCodeValidation,
            "the verification certificate's CN is not the registration code",
        ));
    }
    check_dates("verification certificate", proof, now)
}

fn check_config(state: &State, config: Option<&RegistrationConfig>) -> Result<(), ApiError> {
    match config {
        None => Ok(()),
        Some(RegistrationConfig::Named(name)) => {
            let template = state.templates.get(name.as_str());
            let template = template.ok_or_else(|| ApiError::not_found("template", name))?;
            if template.kind == TemplateKind::Jitp {
                Ok(())
            } else {
                Err(ApiError::invalid(format!(
                    "template {name} is of type {}, not JITP",
                    template.kind
                )))
            }
        }
        Some(RegistrationConfig::Inline { body, role }) => {
            super::template::check_body(body, TemplateKind::Jitp)?;
            super::template::check_role(role)
        }
    }
}
