//! A certificate before it is signed: draft → (sign elsewhere) → seal.
//!
//! rcgen encodes the extensions, the validity and the algorithm; the names and the public key are
//! put in as the bytes they are, because rcgen keeps a name as a map (two `OU` or `DC` collapse
//! into one) and guesses a key's algorithm. A chain breaks when the issuer's bytes differ from the
//! CA's subject by one bit (RFC 5280 §7.1), so they are copied, and checked again after sealing.

/// What is said beyond the purpose.
pub mod extras;
/// Many certificates that differ only in serial number, subject and key.
pub mod stamp;

use std::net::IpAddr;
use std::sync::Mutex;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};

pub use self::extras::Extras;
use crate::core::cert::{CLIENT_AUTH, CertError, Certificate, SERVER_AUTH};
use crate::core::der::{put_head, tlv};
use crate::core::key::{KeyAlgorithm, PublicKey};
use crate::core::name::{self, NameFault};
use crate::core::subject::Subject;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Kind};

/// Everything a certificate is to say.
#[derive(Clone, Debug)]
pub struct DraftSpec<'a> {
    /// The subject, in order.
    pub subject: Subject,
    /// 16 fresh random bytes. The top bit is cleared, and zero becomes one (RFC 5280 §4.1.2.2).
    pub serial: [u8; 16],
    /// Whole seconds, both ends inclusive.
    pub validity: Validity,
    /// The subject's public key.
    pub public_key: &'a PublicKey,
    /// What it is for; decides the extensions.
    pub purpose: Purpose,
    /// subjectAltName entries: `DNS:…`, `IP:…`, `URI:…`, `email:…`, or bare (an address or a host).
    pub alternative_names: Vec<String>,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// A self-signed CA.
    Root {
        /// How many CAs may follow below; `None` is any number.
        path_len: Option<u8>,
    },
    /// A CA below another.
    Intermediate {
        /// How many CAs may follow below; `None` is any number.
        path_len: Option<u8>,
    },
    /// A device: TLS client.
    Device,
    /// An endpoint: TLS server.
    Server,
    /// A peer: TLS client and server.
    ClientAndServer,
    /// Proves to AWS IoT that the CA's key is at hand; its common name is a registration code.
    Verification,
}

impl Purpose {
    /// The purpose whose extendedKeyUsage is these OIDs, in any order; `None` when there is none.
    pub fn of_usages(usages: &[String]) -> Option<Self> {
        let has = |usage: &str| usages.iter().any(|one| one == usage);
        match (has(CLIENT_AUTH), has(SERVER_AUTH), usages.len()) {
            (true, false, 1) => Some(Self::Device),
            (false, true, 1) => Some(Self::Server),
            (true, true, 2) => Some(Self::ClientAndServer),
            _ => None,
        }
    }
}

/// What a draft needs to know of its issuer.
#[derive(Clone, Debug)]
pub struct IssuerView {
    name: Vec<u8>,
    public: PublicKey,
    key_id: Vec<u8>,
}

impl IssuerView {
    /// From a CA's certificate: its subject's bytes and its subjectKeyIdentifier as they stand.
    ///
    /// # Errors
    /// `draft.issuer` when the certificate is not a CA's, or its key may not sign certificates.
    pub fn from_ca(ca: &Certificate) -> Result<Self, DraftError> {
        if ca.is_ca != Some(true) {
            return Err(DraftError::NotCa(ca.subject.to_string()));
        }
        if ca.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
            return Err(DraftError::MayNotSign(ca.subject.to_string()));
        }
        let own_id = || ca.public_key.key_id().to_vec();
        Ok(Self {
            name: ca.subject_der.clone(),
            public: ca.public_key.clone(),
            key_id: ca.subject_key_id.clone().unwrap_or_else(own_id),
        })
    }

    /// For a CA that is wrong on purpose: whatever it says of itself, and with its key's own
    /// identifier.
    pub fn from_flawed_ca(ca: &Certificate) -> Self {
        Self {
            name: ca.subject_der.clone(),
            public: ca.public_key.clone(),
            key_id: ca.public_key.key_id().to_vec(),
        }
    }

    /// For a certificate that signs itself.
    ///
    /// # Errors
    /// `draft.subject` when the name cannot be encoded.
    pub fn self_signed(subject: &Subject, public: &PublicKey) -> Result<Self, DraftError> {
        Ok(Self {
            name: named(subject)?,
            public: public.clone(),
            key_id: public.key_id().to_vec(),
        })
    }
}

/// The exact bytes a CA must sign, and what the sealed certificate must then say.
#[derive(Debug)]
pub struct Draft {
    tbs: Vec<u8>,
    serial: [u8; 16],
    issuer: IssuerView,
}

impl Draft {
    /// Encodes the to-be-signed part.
    ///
    /// # Errors
    /// `draft.*`.
    pub fn new(spec: &DraftSpec<'_>, issuer: &IssuerView) -> Result<Self, DraftError> {
        let Validity {
            not_before,
            not_after,
        } = spec.validity;
        if not_after < not_before {
            return Err(DraftError::Validity(spec.validity));
        }
        let serial = positive(spec.serial);
        let recorder = Recorder::new(&issuer.public)?;
        let mut issuer_parameters = CertificateParams::default();
        issuer_parameters.key_identifier_method = KeyIdMethod::PreSpecified(issuer.key_id.clone());
        parameters(spec, serial)?
            .signed_by(
                &recorder,
                &Issuer::from_params(&issuer_parameters, &recorder),
            )
            .map_err(DraftError::Encode)?;
        let encoded = recorder.into_tbs();
        let subject = named(&spec.subject)?;
        let tbs = splice(&encoded, &issuer.name, &subject, spec.public_key.spki())
            .ok_or(DraftError::Splice)?;
        Ok(Self {
            tbs,
            serial,
            issuer: issuer.clone(),
        })
    }

    /// The bytes to sign.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// The serial number as it stands in the draft: positive, at most 128 bits.
    pub fn serial(&self) -> &[u8; 16] {
        &self.serial
    }

    /// Puts the signature on, with the algorithm that stands in the draft itself, and reads the
    /// result back: the signature must be the issuer's, and issuer name and key id the CA's own.
    ///
    /// # Errors
    /// `draft.seal` when the signature is not the issuer's.
    pub fn seal(self, signature: &[u8]) -> Result<Certificate, DraftError> {
        let issuer = self.issuer.public.clone();
        let certificate = self.seal_trusting(signature)?;
        if certificate.verifies_with(&issuer) {
            Ok(certificate)
        } else {
            Err(DraftError::Signature)
        }
    }

    /// As [`Draft::seal`], without computing whether the signature fits: for bulk issuing with a
    /// key in this process, where that check costs more than the signature. The caller verifies
    /// samples.
    ///
    /// # Errors
    /// `draft.seal`, `draft.encode`.
    pub fn seal_trusting(self, signature: &[u8]) -> Result<Certificate, DraftError> {
        let algorithm = children(&self.tbs)
            .and_then(|parts| parts.get(2).copied())
            .ok_or(DraftError::Splice)?;
        let bits = tlv(0x03, &[&[&[0], signature].concat()]);
        let der = tlv(0x30, &[&self.tbs, algorithm, &bits]);
        let certificate = Certificate::from_der(&der).map_err(DraftError::Sealed)?;
        if certificate.issuer_der != self.issuer.name {
            return Err(DraftError::IssuerName);
        }
        if certificate.authority_key_id.as_ref() != Some(&self.issuer.key_id) {
            return Err(DraftError::IssuerKeyId);
        }
        Ok(certificate)
    }
}

/// 16 random bytes with the seconds of Unix time in front, 32 bits of them: 96 random bits are left,
/// where 64 are asked for (CA/Browser Forum Baseline Requirements §7.1). What is issued one after
/// another then stands side by side in an index, which is what lets a ledger of millions keep up.
pub fn dated(mut serial: [u8; 16], now: UtcTime) -> [u8; 16] {
    serial[..4].copy_from_slice(&now.unix().to_be_bytes()[4..]);
    serial
}

/// A serial number as RFC 5280 §4.1.2.2 wants it: positive, not zero.
pub fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    serial[0] &= 0x7f;
    if serial == [0; 16] {
        serial[15] = 1;
    }
    serial
}

fn parameters(spec: &DraftSpec<'_>, serial: [u8; 16]) -> Result<CertificateParams, DraftError> {
    let mut p = CertificateParams::default();
    p.distinguished_name = DistinguishedName::new();
    if !spec.subject.attributes().is_empty() {
        // Replaced below by the real name; an empty one would make subjectAltName critical.
        p.distinguished_name.push(DnType::CommonName, "subject");
    }
    p.serial_number = Some(SerialNumber::from_slice(&serial));
    p.not_before = spec.validity.not_before.to_offset();
    p.not_after = spec.validity.not_after.to_offset();
    p.key_identifier_method = KeyIdMethod::PreSpecified(spec.public_key.key_id().to_vec());
    p.use_authority_key_identifier_extension = true;
    p.subject_alt_names = spec
        .alternative_names
        .iter()
        .map(|name| alternative_name(name))
        .collect::<Result<_, _>>()?;
    (p.is_ca, p.key_usages) = match spec.purpose {
        Purpose::Root { path_len } | Purpose::Intermediate { path_len } => {
            let constraint = path_len.map_or(
                BasicConstraints::Unconstrained,
                BasicConstraints::Constrained,
            );
            let usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            (IsCa::Ca(constraint), usages)
        }
        _ => (IsCa::ExplicitNoCa, vec![KeyUsagePurpose::DigitalSignature]),
    };
    p.extended_key_usages = match spec.purpose {
        Purpose::Device => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Purpose::ClientAndServer => vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ],
        _ => Vec::new(),
    };
    spec.extras.check(spec.public_key.algorithm())?;
    spec.extras.apply(&mut p)?;
    Ok(p)
}

/// Whether `text` can stand among [`DraftSpec::alternative_names`].
///
/// # Errors
/// `draft.alternative-name`.
pub fn check_alternative_name(text: &str) -> Result<(), DraftError> {
    alternative_name(text).map(drop)
}

/// The name as a certificate shows it: `DNS:…`, `IP:…`, `URI:…` or `email:…`.
///
/// # Errors
/// `draft.alternative-name`.
pub fn shown_alternative_name(text: &str) -> Result<String, DraftError> {
    Ok(match alternative_name(text)? {
        SanType::IpAddress(address) => format!("IP:{address}"),
        SanType::URI(uri) => format!("URI:{uri}"),
        SanType::Rfc822Name(mail) => format!("email:{mail}"),
        SanType::DnsName(host) => format!("DNS:{host}"),
        _ => text.to_owned(),
    })
}

fn alternative_name(text: &str) -> Result<SanType, DraftError> {
    let wrong = || DraftError::AlternativeName(text.to_owned());
    let (kind, value) = match text.split_once(':') {
        Some((kind @ ("DNS" | "IP" | "URI" | "email"), value)) => (kind, value),
        _ if text.parse::<IpAddr>().is_ok() => ("IP", text),
        _ => ("DNS", text),
    };
    if value.is_empty() || value.chars().any(char::is_whitespace) {
        return Err(wrong());
    }
    let ia5 = || value.try_into().map_err(|_| wrong());
    Ok(match kind {
        "IP" => SanType::IpAddress(value.parse().map_err(|_| wrong())?),
        "URI" if is_uri(value) => SanType::URI(ia5()?),
        "email" if is_mailbox(value) => SanType::Rfc822Name(ia5()?),
        "URI" | "email" => return Err(wrong()),
        _ if value.bytes().all(is_host) => SanType::DnsName(ia5()?),
        _ => return Err(wrong()),
    })
}

/// What host names hold; `*` for a wildcard, `_` because hosts in private networks have it.
fn is_host(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.*".contains(&b)
}

/// A scheme and something after it (RFC 3986 §3.1).
fn is_uri(text: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(part)
            && !rest.is_empty()
    })
}

/// `local-part@domain` (RFC 5280 §4.2.1.6).
fn is_mailbox(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && domain.bytes().all(is_host)
    })
}

/// A stand-in for the CA's key that keeps what it is asked to sign.
struct Recorder<'a> {
    public: &'a PublicKey,
    algorithm: &'static SignatureAlgorithm,
    tbs: Mutex<Vec<u8>>,
}

impl<'a> Recorder<'a> {
    fn new(public: &'a PublicKey) -> Result<Self, DraftError> {
        let algorithm = match public.algorithm() {
            KeyAlgorithm::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
            other => return Err(DraftError::IssuerKey(other)),
        };
        Ok(Self {
            public,
            algorithm,
            tbs: Mutex::default(),
        })
    }

    fn into_tbs(self) -> Vec<u8> {
        self.tbs
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl PublicKeyData for Recorder<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.bits()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for Recorder<'_> {
    fn sign(&self, tbs: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut kept = self
            .tbs
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        tbs.clone_into(&mut kept);
        Ok(Vec::new())
    }
}

/// The recorded `TBSCertificate` with issuer, subject and subjectPublicKeyInfo replaced.
fn splice(tbs: &[u8], issuer: &[u8], subject: &[u8], spki: &[u8]) -> Option<Vec<u8>> {
    let mut parts = children(tbs)?;
    // version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, extensions
    if parts.len() != 8 {
        return None;
    }
    (parts[3], parts[5], parts[6]) = (issuer, subject, spki);
    Some(tlv(0x30, &parts))
}

/// The elements of a DER SEQUENCE, each with its header.
fn children(sequence: &[u8]) -> Option<Vec<&[u8]>> {
    let (header, length) = measure(sequence)?;
    let mut rest = sequence.get(header..header + length)?;
    let mut parts = Vec::with_capacity(8);
    while !rest.is_empty() {
        let (header, length) = measure(rest)?;
        let (part, after) = rest.split_at_checked(header + length)?;
        parts.push(part);
        rest = after;
    }
    Some(parts)
}

/// Header and content length of one DER element, up to 64 KiB.
fn measure(der: &[u8]) -> Option<(usize, usize)> {
    let byte = |at: usize| der.get(at).map(|b| usize::from(*b));
    match byte(1)? {
        short @ 0..=0x7f => Some((2, short)),
        0x81 => Some((3, byte(2)?)),
        0x82 => Some((4, byte(2)? << 8 | byte(3)?)),
        _ => None,
    }
}

fn named(subject: &Subject) -> Result<Vec<u8>, DraftError> {
    name::encode(subject).map_err(|NameFault { oid, value, why }| DraftError::Subject {
        oid,
        value,
        why,
    })
}

/// A certificate that cannot be drafted or sealed.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Not a name of any kind.
    #[error("`{0}` is not an alternative name; write DNS:host, IP:address, URI:… or email:…")]
    AlternativeName(String),
    /// rcgen refused.
    #[error("the certificate's fields could not be encoded")]
    Encode(#[source] rcgen::Error),
    /// The CA's key is of a kind whose signatures we cannot name.
    #[error("a CA with an {0} key cannot sign here; P-256, P-384 and RSA keys can")]
    IssuerKey(KeyAlgorithm),
    /// AKI differs from the CA's SKI.
    #[error("the sealed certificate's authority key id is not the CA's")]
    IssuerKeyId,
    /// Issuer differs from the CA's subject.
    #[error("the sealed certificate's issuer is not the CA's subject")]
    IssuerName,
    /// keyUsage without keyCertSign.
    #[error("`{0}` may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign(String),
    /// basicConstraints without cA.
    #[error("`{0}` is not a CA: its basic constraints do not say so")]
    NotCa(String),
    /// Not with this kind of key.
    #[error("the key usage {usage} is not for {key} keys")]
    KeyUsage {
        /// The bit.
        usage: &'static str,
        /// The key.
        key: KeyAlgorithm,
    },
    /// Not an object identifier.
    #[error("`{0}` is not an object identifier")]
    Oid(String),
    /// The sealed bytes do not read as a certificate.
    #[error("the sealed certificate cannot be read back")]
    Sealed(#[source] CertError),
    /// The signature is not the issuer's.
    #[error("the signature on the certificate was not made by the CA's key")]
    Signature,
    /// The draft is not laid out as expected.
    #[error("the certificate's fields are not in their places")]
    Splice,
    /// A name that cannot be written down.
    #[error("the subject's `{oid}={value}` cannot be encoded: {why}")]
    Subject {
        /// The attribute type.
        oid: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Ends before it begins.
    #[error("the certificate would end at {} before it begins at {}", .0.not_after, .0.not_before)]
    Validity(Validity),
}

impl Explain for DraftError {
    fn kind(&self) -> Kind {
        match self {
            Self::AlternativeName(_)
            | Self::IssuerKey(_)
            | Self::KeyUsage { .. }
            | Self::MayNotSign(_)
            | Self::NotCa(_)
            | Self::Oid(_)
            | Self::Signature
            | Self::Subject { .. }
            | Self::Validity(_) => Kind::Input,
            Self::Encode(_)
            | Self::IssuerKeyId
            | Self::IssuerName
            | Self::Sealed(_)
            | Self::Splice => Kind::Bug,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::AlternativeName(_) => "draft.alternative-name",
            Self::Encode(_) | Self::Splice => "draft.encode",
            Self::IssuerKey(_) | Self::MayNotSign(_) | Self::NotCa(_) => "draft.issuer",
            Self::IssuerKeyId | Self::IssuerName | Self::Sealed(_) | Self::Signature => {
                "draft.seal"
            }
            Self::KeyUsage { .. } => "draft.key-usage",
            Self::Oid(_) => "draft.oid",
            Self::Subject { .. } => "draft.subject",
            Self::Validity(_) => "draft.validity",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Signature => Some("check that the CA's key.pem belongs to its cert.pem".into()),
            Self::NotCa(_) | Self::MayNotSign(_) => {
                Some("only a CA may issue; make one with `nameplate ca create NAME`".into())
            }
            Self::KeyUsage { .. } => Some(
                "RSA keys encipher, keys on elliptic curves agree: mend key_usage in the profile"
                    .into(),
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
