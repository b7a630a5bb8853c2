//! Certificate revocation lists (RFC 5280 §5): read, and drafted.

mod draft;
pub mod point;

use std::collections::HashMap;

use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

pub use draft::{CrlDraft, CrlSpec, Revoked};
pub use point::Scope;

use crate::core::dn::Dn;
use crate::core::key::{KeyAlgorithm, PublicKey};
use crate::core::revocation::RevocationReason;
use crate::core::subject::Subject;
use crate::core::time::UtcTime;
use crate::core::{der, pem, signature};
use crate::explain::{Explain, Kind};

/// The most bytes of one CRL we read: 64 MiB, some 1.5 million entries.
pub const MAX_BYTES: usize = 64 << 20;

/// A parsed CRL; owns its DER.
#[derive(Clone, Debug)]
pub struct Crl {
    der: Vec<u8>,
    /// The issuer.
    pub issuer: Subject,
    /// The issuer's DER.
    pub issuer_der: Vec<u8>,
    /// The CRL number, big-endian, without leading zeros.
    pub number: Option<Vec<u8>>,
    /// When it was made.
    pub this_update: UtcTime,
    /// When the next one comes at the latest.
    pub next_update: Option<UtcTime>,
    /// authorityKeyIdentifier's keyIdentifier.
    pub authority_key_id: Option<Vec<u8>>,
    /// What makes it unusable for deciding about a certificate: a critical extension that is not
    /// processed here (that of delta CRLs among them), or a fault in its form.
    pub unusable: Option<String>,
    /// Which certificates it speaks of, by issuingDistributionPoint.
    pub scope: Scope,
    entries: HashMap<Vec<u8>, Entry>,
}

/// One revoked certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When it was revoked.
    pub at: UtcTime,
    /// Why; `None` for a code that RFC 5280 does not know.
    pub reason: Option<RevocationReason>,
}

impl Crl {
    /// Parses one DER CRL; bytes left over are refused.
    ///
    /// # Errors
    /// `crl.der`, `crl.size`.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CrlError> {
        if bytes.len() > MAX_BYTES {
            return Err(CrlError::Size(bytes.len()));
        }
        let (rest, list) = CertificateRevocationList::from_der(bytes)
            .map_err(|error| CrlError::Der(error.to_string()))?;
        if !rest.is_empty() {
            let why = format!("{} bytes are left over", rest.len());
            return Err(CrlError::Der(why));
        }
        let at = |t: x509_parser::time::ASN1Time| UtcTime::from_unix(t.timestamp());
        let mut crl = Self {
            der: bytes.to_vec(),
            issuer: Subject::from_x509(list.issuer()),
            issuer_der: list.issuer().as_raw().to_vec(),
            number: None,
            this_update: at(list.last_update()),
            next_update: list.next_update().map(at),
            authority_key_id: None,
            unusable: None,
            scope: Scope::default(),
            entries: HashMap::new(),
        };
        crl.take_extensions(&list);
        for revoked in list.iter_revoked_certificates() {
            crl.take_entry(revoked);
        }
        Ok(crl)
    }

    /// Reads every `X509 CRL` block of a PEM text, or one DER CRL.
    ///
    /// # Errors
    /// `pem.*`, `crl.*`, `crl.none` when there is no CRL.
    pub fn all_from_pem(text: &[u8]) -> Result<Vec<Self>, CrlError> {
        if text.first() == Some(&0x30) {
            return Ok(vec![Self::from_der(text)?]);
        }
        let all: Vec<Self> = pem::parse_within(text, MAX_BYTES)?
            .iter()
            .filter(|block| matches!(&block.label[..], "X509 CRL" | "CRL"))
            .map(|block| Self::from_der(&block.der))
            .collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err(CrlError::None);
        }
        Ok(all)
    }

    fn take_extensions(&mut self, list: &CertificateRevocationList<'_>) {
        let mut seen = Vec::new();
        for extension in list.extensions() {
            if seen.contains(&&extension.oid) {
                self.fault(format!("extension {} stands twice", extension.oid));
            }
            seen.push(&extension.oid);
            if extension.oid.to_id_string() == "2.5.29.28" {
                self.take_scope(extension.value);
                continue;
            }
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::CRLNumber(number) if !extension.critical => {
                    self.number = Some(number.to_bytes_be());
                }
                _ if extension.critical => {
                    self.fault(format!(
                        "its critical extension {} is not processed here",
                        extension.oid
                    ));
                }
                _ => {}
            }
        }
    }

    fn take_scope(&mut self, value: &[u8]) {
        let issuer = Dn::parse(&self.issuer_der).unwrap_or_default();
        match Scope::parse(value, &issuer) {
            Some(scope) if scope.is_indirect => self.fault("it is an indirect CRL".to_owned()),
            Some(scope) => self.scope = scope,
            None => self.fault("its issuingDistributionPoint cannot be read".to_owned()),
        }
    }

    fn take_entry(&mut self, revoked: &RevokedCertificate<'_>) {
        for extension in revoked.extensions() {
            let known = matches!(extension.parsed_extension(), ParsedExtension::ReasonCode(_));
            if extension.critical && !known {
                self.fault(format!(
                    "an entry's critical extension {} is not processed here",
                    extension.oid
                ));
            }
        }
        let code = revoked.reason_code().map_or(0, |(_, code)| code.0);
        let entry = Entry {
            at: UtcTime::from_unix(revoked.revocation_date.timestamp()),
            reason: RevocationReason::from_code(code),
        };
        self.entries.insert(serial_key(revoked.raw_serial()), entry);
    }

    fn fault(&mut self, why: String) {
        self.unusable.get_or_insert(why);
    }

    /// The entry of this serial number (big-endian, without leading zeros; or [`serial_key`]).
    pub fn entry(&self, serial: &[u8]) -> Option<&Entry> {
        self.entries.get(serial)
    }

    /// How many certificates are on it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The CRL as one PEM block.
    pub fn to_pem(&self) -> String {
        pem::encode("X509 CRL", &self.der)
    }

    /// Whether `key` made this CRL's signature.
    pub fn verifies_with(&self, key: &PublicKey) -> bool {
        der::first(&self.der)
            .is_some_and(|(list, _)| signature::verify(list.content, key.spki()).is_ok())
    }
}

/// The number of an `INTEGER` (its content) by which entries are found: without leading zeros. A
/// negative one, which RFC 5280 §4.1.2.2 wants handled, keeps apart from the positive one of the
/// same bytes by a zero byte, with which no other begins.
pub fn serial_key(integer: &[u8]) -> Vec<u8> {
    if integer.first().is_some_and(|byte| byte & 0x80 != 0) {
        return [&[0], integer].concat();
    }
    let lead = integer.iter().take_while(|byte| **byte == 0).count();
    integer[lead..].to_vec()
}

/// A CRL that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// Not a CRL's DER.
    #[error("this is not an X.509 CRL: {0}")]
    Der(String),
    /// Twice on the list.
    #[error("serial number {0} would stand on the CRL twice")]
    Duplicate(String),
    /// May not sign CRLs.
    #[error("`{0}` may not sign CRLs: it is no CA, or its key usage lacks cRLSign")]
    Issuer(String),
    /// Of a kind whose signatures we cannot name.
    #[error("a CA with an {0} key cannot sign a CRL here; P-256, P-384 and RSA keys can")]
    IssuerKey(KeyAlgorithm),
    /// PEM without a CRL in it.
    #[error("there is no X509 CRL block here")]
    None,
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// Not the CA's signature.
    #[error("the signature on the CRL was not made by the CA's key")]
    Seal,
    /// More than [`MAX_BYTES`].
    #[error("a CRL of {0} bytes is too large (at most 64 MiB)")]
    Size(usize),
    /// Over before it begins.
    #[error("the CRL's next update {1} is not after this update {0}")]
    Window(UtcTime, UtcTime),
}

impl Explain for CrlError {
    fn kind(&self) -> Kind {
        match self {
            Self::Duplicate(_) => Kind::Bug,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Der(_) => "crl.der",
            Self::Duplicate(_) => "crl.duplicate",
            Self::Issuer(_) | Self::IssuerKey(_) => "crl.issuer",
            Self::None => "crl.none",
            Self::Pem(error) => error.code(),
            Self::Seal => "crl.seal",
            Self::Size(_) => "crl.size",
            Self::Window(..) => "crl.window",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Seal => Some("check that the CA's key belongs to its cert.pem".into()),
            Self::Window(..) => Some("give a longer --next-update, such as 7d".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
