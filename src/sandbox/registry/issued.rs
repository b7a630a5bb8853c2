//! Certificates that AWS IoT issues itself: their issuer, their shape, and the three ways to one.
//!
//! Shape: developer guide "Create AWS IoT client certificates"; the issuer's name is one
//! organizational unit that reads like several attributes.

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::entities::{ClaimTerms, Issuer};
use super::state::State;
use super::{ApiError, CertificateMode, CertificateStatus, ErrorName, Registry, certificate};
use crate::core::cert::Certificate;
use crate::core::csr::Csr;
use crate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::ids::TemplateName;
use crate::core::key::{KeyFile, PrivateKey, PublicKey};
use crate::core::subject::{Attribute, Subject};
use crate::core::time::{Span, UtcTime, Validity};
use crate::sandbox::tls::Key;

/// The key of the one [`Issuer`] entity.
const ISSUER: &str = "aws";
/// The organizational unit that names the issuer.
const ISSUER_UNIT: &str = "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US";
/// The common name of a certificate whose key AWS IoT has made.
const COMMON_NAME: &str = "AWS IoT Certificate";
/// 2049-12-31T23:59:59Z, the end of every certificate that AWS IoT issues.
const NOT_AFTER: i64 = 2_524_607_999;
/// How far its beginning lies in the past, because devices' clocks lag.
const BACKDATE: Span = Span::seconds(120);
/// How long a trusted user's claim lasts.
const CLAIM_LIFE: Span = Span::seconds(300);
/// The most characters of a request in the API model.
const MAX_CSR: usize = 4096;

/// What a certificate is asked for with.
#[derive(Clone, Debug)]
pub struct Request {
    subject: Subject,
    public: PublicKey,
}

impl Request {
    /// For a key that AWS IoT has made.
    pub fn for_key(public: PublicKey) -> Self {
        Self {
            subject: Subject::common_name(COMMON_NAME),
            public,
        }
    }

    /// `certificateSigningRequest`: PEM. Its subject is kept; an empty one becomes AWS IoT's own.
    ///
    /// # Errors
    /// `InvalidRequestException`.
    pub fn parse(pem: &str) -> Result<Self, ApiError> {
        let invalid = |why: String| ApiError::invalid(format!("Invalid CSR: {why}"));
        if pem.chars().count() > MAX_CSR {
            return Err(invalid(format!("it is longer than {MAX_CSR} characters")));
        }
        if !pem.contains("-----BEGIN") {
            return Err(invalid("it is not PEM".into()));
        }
        let csr = Csr::from_pem_or_der(pem.as_bytes()).map_err(|e| invalid(e.to_string()))?;
        if let Some(fault) = csr.subject_fault {
            return Err(invalid(fault));
        }
        let given = !csr.subject.attributes().is_empty();
        Ok(Self {
            subject: if given {
                csr.subject
            } else {
                Subject::common_name(COMMON_NAME)
            },
            public: csr.public_key,
        })
    }
}

impl Registry {
    /// `CreateCertificateFromCsr`, and `CreateKeysAndCertificate` once there are keys.
    ///
    /// # Errors
    /// `InternalFailureException` only.
    pub fn issue(
        &mut self,
        request: &Request,
        status: CertificateStatus,
        now: UtcTime,
    ) -> Result<Certificate, ApiError> {
        self.mutate(|state, _| {
            let made = issue(state, request, now)?;
            let mut entry = certificate::entry(&made, None, CertificateMode::Default, now);
            entry.status = status;
            state.certificates.put(made.id().as_str(), entry);
            Ok(made)
        })
    }

    /// `CreateProvisioningClaim`: an ACTIVE certificate that lasts five minutes, may ask for this
    /// template only, and is in no list. Answers it with its expiration.
    ///
    /// # Errors
    /// `ResourceNotFoundException` without such a template, `InvalidRequestException` for one of
    /// type JITP.
    pub fn create_claim(
        &mut self,
        template: &TemplateName,
        request: &Request,
        now: UtcTime,
    ) -> Result<(Certificate, UtcTime), ApiError> {
        self.mutate(|state, _| {
            super::template::check_fleet(state, template)?;
            super::ownership::sweep(state, now);
            let expires = now.plus(CLAIM_LIFE);
            let made = issue_until(state, request, now, expires)?;
            let mut entry = certificate::entry(&made, None, CertificateMode::Default, now);
            entry.status = CertificateStatus::Active;
            entry.claim = Some(ClaimTerms {
                template: template.clone(),
                expires,
            });
            state.certificates.put(made.id().as_str(), entry);
            super::ownership::limit_claim(state, made.id(), expires);
            Ok((made, expires))
        })
    }

    /// The certificate that AWS IoT's own are verified with; `None` before the first.
    pub fn issuer(&self) -> Option<&Certificate> {
        let issuer = self.state.issuers.get(ISSUER)?;
        Some(&issuer.certificate)
    }
}

/// Makes a certificate as AWS IoT does, inside a mutation; registers nothing.
pub(super) fn issue(
    state: &mut State,
    request: &Request,
    now: UtcTime,
) -> Result<Certificate, ApiError> {
    issue_until(state, request, now, UtcTime::from_unix(NOT_AFTER))
}

fn issue_until(
    state: &mut State,
    request: &Request,
    now: UtcTime,
    not_after: UtcTime,
) -> Result<Certificate, ApiError> {
    let (ca, key) = issuer_of(state)?;
    let spec = DraftSpec {
        subject: request.subject.clone(),
        serial: random()?,
        validity: Validity {
            not_before: now.minus(BACKDATE),
            not_after,
        },
        public_key: &request.public,
        // Its extensions are those of AWS IoT's certificates: no CA, digitalSignature, no usages.
        purpose: Purpose::Verification,
        alternative_names: Vec::new(),
        extras: Extras::default(),
    };
    let draft = Draft::new(&spec, &IssuerView::from_ca(&ca).map_err(failed)?).map_err(failed)?;
    let signature = key.sign(draft.tbs()).map_err(failed)?;
    draft.seal(&signature).map_err(failed)
}

/// The issuer, made on first use.
fn issuer_of(state: &mut State) -> Result<(Certificate, Key), ApiError> {
    if let Some(issuer) = state.issuers.get(ISSUER) {
        let KeyFile::Clear(key) = KeyFile::parse(issuer.key.as_bytes()).map_err(failed)? else {
            return Err(failed("the issuer's key is encrypted"));
        };
        let key = Key::read(Zeroizing::new(key.pkcs8().to_vec())).map_err(failed)?;
        return Ok((issuer.certificate.clone(), key));
    }
    let key = Key::generate().map_err(failed)?;
    let certificate = self_signed(&key)?;
    let pem = PrivateKey::from_pkcs8(key.pkcs8.clone()).to_pem();
    let issuer = Issuer {
        certificate: certificate.clone(),
        key: pem.to_string(),
    };
    state.issuers.put(ISSUER, issuer);
    Ok((certificate, key))
}

/// Valid at any time, because the sandbox's clock may be set to any.
fn self_signed(key: &Key) -> Result<Certificate, ApiError> {
    let subject = Subject::new(vec![Attribute {
        oid: "2.5.4.11".into(),
        value: ISSUER_UNIT.into(),
    }]);
    let issuer = IssuerView::self_signed(&subject, &key.public).map_err(failed)?;
    let spec = DraftSpec {
        subject,
        serial: random()?,
        validity: Validity {
            not_before: UtcTime::MIN,
            not_after: UtcTime::NO_EXPIRY,
        },
        public_key: &key.public,
        purpose: Purpose::Root { path_len: Some(0) },
        alternative_names: Vec::new(),
        extras: Extras::default(),
    };
    let draft = Draft::new(&spec, &issuer).map_err(failed)?;
    let signature = key.sign(draft.tbs()).map_err(failed)?;
    draft.seal(&signature).map_err(failed)
}

fn random() -> Result<[u8; 16], ApiError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| failed("no random numbers"))?;
    Ok(bytes)
}

fn failed(why: impl std::fmt::Display) -> ApiError {
    let message = format!("the certificate could not be made: {why}");
    ApiError::new(ErrorName::InternalFailure, message)
}
