//! Certification requests (PKCS #10, RFC 2986): read strictly, their own signature checked. What
//! they ask for is put into words here; whether it is granted is `rule`'s matter.

/// What becomes of what a request asks for.
pub mod rule;

use std::fmt;

use pkcs8::ObjectIdentifier;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::core::cert;
use crate::core::der::{Element, children, first};
use crate::core::draft::extras::key_usage_names;
use crate::core::ids::hex;
use crate::core::key::{KeyAlgorithm, KeyError, PublicKey};
use crate::core::pem;
use crate::core::signature::{self, SignatureFault};
use crate::core::subject::{self, Subject};
use crate::explain::{Explain, Kind};

/// The most bytes of one DER request we read: 64 KiB, as for a certificate.
pub const MAX_DER_BYTES: usize = 65_536;
/// The most attributes, and the most extensions, of one request.
const MAX_ASKS: usize = 64;
/// extensionRequest (RFC 2985 §5.4.2), and the one of old Microsoft enrolment.
const EXTENSION_REQUESTS: [&str; 2] = ["1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"];

/// A request whose signature was made by the key it holds.
#[derive(Clone, Debug)]
pub struct Csr {
    /// The subject, as attributes; may be empty.
    pub subject: Subject,
    /// Why the subject cannot stand in a certificate as it is; `None` when it can.
    pub subject_fault: Option<String>,
    /// The key: P-256, P-384, or RSA of 2048 bits and more.
    pub public_key: PublicKey,
    /// What it asks for beside the subject, in order.
    pub asks: Vec<Ask>,
}

/// One thing that a request asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// subjectAltName.
    AlternativeNames(Vec<String>),
    /// basicConstraints with this cA.
    BasicConstraints(bool),
    /// extendedKeyUsage, as dotted OIDs.
    ExtendedKeyUsage(Vec<String>),
    /// keyUsage, by the names of its bits.
    KeyUsage(Vec<&'static str>),
    /// Another extension, by its OID.
    Extension(String),
    /// An attribute that is no extension, by its OID.
    Attribute(String),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlternativeNames(names) => write!(f, "subjectAltName {}", names.join(", ")),
            Self::BasicConstraints(true) => f.write_str("basicConstraints CA:TRUE"),
            Self::BasicConstraints(false) => f.write_str("basicConstraints CA:FALSE"),
            Self::ExtendedKeyUsage(usages) => {
                let named: Vec<&str> = usages.iter().map(|oid| usage_name(oid)).collect();
                write!(f, "extendedKeyUsage {}", named.join(", "))
            }
            Self::KeyUsage(bits) => write!(f, "keyUsage {}", bits.join(", ")),
            Self::Extension(oid) => write!(f, "extension {}", named(oid)),
            Self::Attribute(oid) => write!(f, "attribute {}", named(oid)),
        }
    }
}

fn usage_name(oid: &str) -> &str {
    match oid {
        cert::CLIENT_AUTH => "clientAuth",
        cert::SERVER_AUTH => "serverAuth",
        other => other,
    }
}

/// The OIDs that requests are most often seen with.
fn named(oid: &str) -> &str {
    match oid {
        "2.5.29.14" => "subjectKeyIdentifier",
        "1.2.840.113549.1.9.7" => "challengePassword",
        "1.2.840.113549.1.9.2" => "unstructuredName",
        "1.3.6.1.5.5.7.1.24" => "tlsFeature (1.3.6.1.5.5.7.1.24)",
        other => other,
    }
}

/// Whose keys are certified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keys {
    /// Those that AWS IoT takes.
    Supported,
    /// Every one whose signature can be verified: Ed25519 too.
    Any,
}

impl Csr {
    /// Reads one request, PEM or DER.
    ///
    /// # Errors
    /// `pem.*`, `csr.*`.
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Self, CsrError> {
        Self::one(bytes, Keys::Supported)
    }

    /// As [`Self::from_pem_or_der`], with a choice of keys.
    ///
    /// # Errors
    /// `pem.*`, `csr.*`.
    pub fn one(bytes: &[u8], keys: Keys) -> Result<Self, CsrError> {
        let mut all = Self::all(bytes, keys)?;
        match (all.len(), all.pop()) {
            (1, Some(one)) => Ok(one),
            (count, _) => Err(CsrError::Many(count)),
        }
    }

    /// Reads every request of a PEM text, in order, or one DER request; other blocks are skipped.
    ///
    /// # Errors
    /// `pem.*`, `csr.*`; `csr.none` when there is no request.
    pub fn all(bytes: &[u8], keys: Keys) -> Result<Vec<Self>, CsrError> {
        if bytes.first() == Some(&0x30) {
            return Ok(vec![Self::read(bytes, keys)?]);
        }
        let blocks = pem::parse(bytes)?;
        let is_request =
            |label: &str| matches!(label, "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST");
        let all: Vec<Self> = blocks
            .iter()
            .filter(|block| is_request(&block.label))
            .map(|block| Self::read(&block.der, keys))
            .collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err(CsrError::None(blocks[0].label.clone()));
        }
        Ok(all)
    }

    /// Reads one DER request; bytes left over are refused.
    ///
    /// # Errors
    /// `csr.der`, `csr.key`, `csr.signature`, `csr.size`.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        Self::read(der, Keys::Supported)
    }

    fn read(der: &[u8], keys: Keys) -> Result<Self, CsrError> {
        if der.len() > MAX_DER_BYTES {
            return Err(CsrError::Size(der.len()));
        }
        let outer = sequence(der, "the request")?;
        let info = children(outer)
            .and_then(|parts| parts.first().copied())
            .filter(|info| info.tag == 0x30)
            .ok_or_else(|| wrong("it holds no CertificationRequestInfo"))?;
        let parts = children(info.content).ok_or_else(|| wrong("it is cut short"))?;
        let (name, key, attributes) = match parts[..] {
            [version, name, key] if is_version_1(version) => (name, key, None),
            [version, name, key, rest] if is_version_1(version) && rest.tag == 0xa0 => {
                (name, key, Some(rest))
            }
            _ => return Err(wrong("its parts are not those of PKCS #10 version 1")),
        };
        let public_key = PublicKey::from_spki(key.whole).map_err(CsrError::Spki)?;
        match public_key.algorithm() {
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => {}
            KeyAlgorithm::Rsa(bits) if bits >= 2048 => {}
            // Whether its holder has it is still proved: by the request's signature.
            _ if keys == Keys::Any => {}
            other => return Err(CsrError::Key(other)),
        }
        signature::verify_request(outer, key.whole).map_err(CsrError::Signature)?;
        let (subject, subject_fault) = subject_of(name)?;
        let asks = attributes.map_or(Ok(Vec::new()), |set| asks_of(set.content))?;
        Ok(Self {
            subject,
            subject_fault,
            public_key,
            asks,
        })
    }
}

fn wrong(what: &str) -> CsrError {
    CsrError::Der(what.to_owned())
}

/// The content of the one SEQUENCE that `der` is.
fn sequence<'a>(der: &'a [u8], what: &str) -> Result<&'a [u8], CsrError> {
    match first(der) {
        Some((element, [])) if element.tag == 0x30 => Ok(element.content),
        Some((_, [])) => Err(wrong(&format!("{what} is no SEQUENCE"))),
        Some((_, rest)) => Err(wrong(&format!(
            "{} bytes are left over after {what}",
            rest.len()
        ))),
        None => Err(wrong(&format!("{what} is cut short"))),
    }
}

fn is_version_1(element: Element<'_>) -> bool {
    element.tag == 0x02 && element.content == [0]
}

/// The subject, and why it cannot be kept.
fn subject_of(name: Element<'_>) -> Result<(Subject, Option<String>), CsrError> {
    let (rest, parsed) =
        X509Name::from_der(name.whole).map_err(|e| wrong(&format!("its subject: {e}")))?;
    if !rest.is_empty() {
        return Err(wrong("bytes are left over after its subject"));
    }
    let subject = Subject::from_x509(&parsed);
    if parsed.iter_rdn().any(|rdn| rdn.iter().count() != 1) {
        let fault = "it has several attributes in one relative name";
        return Ok((subject, Some(fault.to_owned())));
    }
    let text = |(n, attribute): (usize, &subject::Attribute)| {
        let is_text = parsed
            .iter_attributes()
            .nth(n)
            .is_some_and(|a| a.as_str().is_ok());
        let oid = &attribute.oid;
        if !is_text {
            return Some(format!("its {oid} is of a string type that is not read"));
        }
        let checked = subject::check_value(oid, oid, &attribute.value);
        checked.err().map(|error| error.to_string())
    };
    let fault = subject.attributes().iter().enumerate().find_map(text);
    Ok((subject, fault))
}

/// What the attributes ask for.
fn asks_of(attributes: &[u8]) -> Result<Vec<Ask>, CsrError> {
    let attributes = children(attributes).ok_or_else(|| wrong("its attributes are cut short"))?;
    if attributes.len() > MAX_ASKS {
        return Err(wrong("it has more than 64 attributes"));
    }
    let mut asks = Vec::new();
    for attribute in attributes {
        let parts = children(attribute.content).unwrap_or_default();
        let [kind, values] = parts[..] else {
            return Err(wrong("one of its attributes is not a type and its values"));
        };
        let oid = oid_of(kind.content);
        if !EXTENSION_REQUESTS.contains(&&oid[..]) {
            asks.push(Ask::Attribute(oid));
            continue;
        }
        let extensions = sequence(values.content, "the list of extensions")?;
        let extensions = children(extensions).ok_or_else(|| wrong("its extensions are cut"))?;
        if extensions.len() > MAX_ASKS {
            return Err(wrong("it asks for more than 64 extensions"));
        }
        for extension in extensions {
            asks.push(ask_of(extension)?);
        }
    }
    let kind = std::mem::discriminant::<Ask>;
    let twice = |(n, ask): (usize, &Ask)| {
        asks[..n].iter().any(|earlier| match ask {
            Ask::Extension(_) | Ask::Attribute(_) => earlier == ask,
            _ => kind(earlier) == kind(ask),
        })
    };
    match asks.iter().enumerate().find(|one| twice(*one)) {
        Some((_, ask)) => Err(wrong(&format!("it asks twice for {ask}"))),
        None => Ok(asks),
    }
}

fn ask_of(extension: Element<'_>) -> Result<Ask, CsrError> {
    let (_, parsed) = X509Extension::from_der(extension.whole)
        .map_err(|e| wrong(&format!("one of its extensions: {e}")))?;
    Ok(match parsed.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            let names = names.general_names.iter().map(cert::alternative_name);
            Ask::AlternativeNames(names.collect())
        }
        ParsedExtension::BasicConstraints(constraints) => Ask::BasicConstraints(constraints.ca),
        ParsedExtension::ExtendedKeyUsage(usage) => Ask::ExtendedKeyUsage(cert::usages(usage)),
        ParsedExtension::KeyUsage(usage) => Ask::KeyUsage(key_usage_names(*usage)),
        ParsedExtension::ParseError { error } => {
            let oid = parsed.oid.to_id_string();
            return Err(wrong(&format!("its extension {oid}: {error}")));
        }
        _ => Ask::Extension(parsed.oid.to_id_string()),
    })
}

fn oid_of(content: &[u8]) -> String {
    ObjectIdentifier::from_bytes(content).map_or_else(|_| hex(content), |oid| oid.to_string())
}

/// Bytes that are not the request they should be, or ask for what is not given.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Not a request's DER.
    #[error("this is not a certificate request: {0}")]
    Der(String),
    /// A kind of key that no certificate is given for.
    #[error("the request's key is {0}; P-256, P-384 and RSA of 2048 bits or more are taken")]
    Key(KeyAlgorithm),
    /// More than one where one is wanted.
    #[error("there are {0} requests here, and one is wanted")]
    Many(usize),
    /// PEM without a request in it.
    #[error("there is no CERTIFICATE REQUEST block here, only `{0}`")]
    None(String),
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// The signature does not hold.
    #[error("the request's own signature {}", fault(*.0))]
    Signature(SignatureFault),
    /// More than [`MAX_DER_BYTES`].
    #[error("a request of {0} bytes is too large (at most 65536)")]
    Size(usize),
    /// The public key cannot be read.
    #[error("the request's public key cannot be read")]
    Spki(#[source] KeyError),
    /// It asks for what the certificate would not say.
    #[error("the request asks for what its certificate would not say: {}", .0.join("; "))]
    Unmet(Vec<String>),
}

fn fault(fault: SignatureFault) -> &'static str {
    match fault {
        SignatureFault::Algorithm => {
            "is of a kind that is not taken: use SHA-256 or SHA-384, and for RSA also SHA-512"
        }
        SignatureFault::Form | SignatureFault::AlgorithmsDiffer => "is not in its place",
        SignatureFault::Wrong => {
            "was not made by the key in it: the request was changed, or damaged on its way"
        }
    }
}

impl Explain for CsrError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unmet(_) => Kind::Refused,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Der(_) => "csr.der",
            Self::Key(_) => "csr.key",
            Self::Many(_) => "csr.many",
            Self::None(_) => "csr.none",
            Self::Pem(error) => error.code(),
            Self::Signature(_) => "csr.signature",
            Self::Size(_) => "csr.size",
            Self::Spki(error) => error.code(),
            Self::Unmet(_) => "csr.unmet",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Key(_) => Some(
                "make another key on the device: openssl ecparam -name prime256v1 -genkey; or, for \
                 another server than AWS IoT, --allow-unsupported"
                    .into(),
            ),
            Self::Many(_) => Some("sign them all with `nameplate device sign FILE`".into()),
            Self::Signature(_) => Some("make the request again on the device".into()),
            Self::Unmet(_) => Some(
                "grant it with --subject-from csr and --extensions-from csr, or leave it out with \
                 --subject-from profile and --extensions-from profile"
                    .into(),
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
