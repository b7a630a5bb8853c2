//! What a file of certificates really holds: each thing named for what it is, with its line.
//!
//! Takes PEM with any number of blocks, DER, and JSON (or JSON lines) with PEM inside, as the AWS
//! CLI and `--format json` print it. A block that is broken is told of and hides no other.

use pkcs8::der::Decode;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::core::cert::{CertError, Certificate};
use crate::core::pem::{self, PemError};
use crate::core::subject::Subject;
use crate::explain::{Explain, Kind};

/// One thing that was found.
#[derive(Clone, Debug)]
pub struct Item {
    /// The line it begins on, from 1; `None` in DER and JSON.
    pub line: Option<usize>,
    /// What it is.
    pub thing: Thing,
}

/// What it is.
#[derive(Clone, Debug)]
pub enum Thing {
    /// A certificate. `trailing` bytes follow its end where none may.
    Certificate {
        /// Parsed.
        certificate: Box<Certificate>,
        /// How many bytes are left over behind it.
        trailing: usize,
    },
    /// Should be a certificate, and cannot be read.
    Unreadable(String),
    /// Anything else, in words: `a private key`.
    Other {
        /// What it is.
        what: &'static str,
        /// Whose, or what about it.
        about: String,
    },
}

impl Item {
    /// The certificate, if it is one.
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.thing {
            Thing::Certificate { certificate, .. } => Some(certificate),
            _ => None,
        }
    }
}

/// Sorts out what `bytes` are.
///
/// # Errors
/// `pem.none` when they are neither PEM, nor DER, nor JSON with PEM in it; `pem.size`.
pub fn sort(bytes: &[u8]) -> Result<Vec<Item>, IntakeError> {
    if bytes.len() > pem::MAX_BYTES {
        let (size, max) = (bytes.len(), pem::MAX_BYTES);
        return Err(PemError::Size { size, max }.into());
    }
    if bytes.first() == Some(&0x30) {
        return Ok(vec![Item {
            line: None,
            thing: of_der(bytes),
        }]);
    }
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) {
        return from_json(bytes);
    }
    from_pem(bytes)
}

fn from_pem(text: &[u8]) -> Result<Vec<Item>, IntakeError> {
    let blocks = split(text);
    if blocks.is_empty() {
        return Err(PemError::None.into());
    }
    let one = |(line, block): (usize, &[u8])| Item {
        line: Some(line),
        thing: match pem::parse(block) {
            Ok(mut parsed) => {
                let block = parsed.swap_remove(0);
                of_block(&block.label, &block.der)
            }
            Err(error) => Thing::Unreadable(error.to_string()),
        },
    };
    Ok(blocks.into_iter().map(one).collect())
}

/// The text from each BEGIN line to the next, with the line that it begins on.
fn split(text: &[u8]) -> Vec<(usize, &[u8])> {
    let mut starts = Vec::new();
    let mut at = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.starts_with(b"-----BEGIN ") {
            starts.push((number + 1, at));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, start)| *start);
    let ends: Vec<usize> = ends.chain([text.len()]).collect();
    starts
        .into_iter()
        .zip(ends)
        .map(|((line, start), end)| (line, &text[start..end]))
        .collect()
}

/// Every string with PEM in it, wherever it stands.
fn from_json(bytes: &[u8]) -> Result<Vec<Item>, IntakeError> {
    let mut items = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter() {
        let value: serde_json::Value =
            value.map_err(|error: serde_json::Error| IntakeError::Json(error.to_string()))?;
        collect(&value, &mut items);
    }
    if items.is_empty() {
        return Err(IntakeError::NoPemInJson);
    }
    Ok(items)
}

fn collect(value: &serde_json::Value, items: &mut Vec<Item>) {
    match value {
        serde_json::Value::String(text) if text.contains("-----BEGIN ") => {
            let found = from_pem(text.as_bytes()).unwrap_or_default();
            items.extend(found.into_iter().map(|item| Item { line: None, ..item }));
        }
        serde_json::Value::Array(all) => all.iter().for_each(|value| collect(value, items)),
        serde_json::Value::Object(all) => all.values().for_each(|value| collect(value, items)),
        _ => {}
    }
}

fn of_block(label: &str, der: &[u8]) -> Thing {
    let other = |what, about: &str| Thing::Other {
        what,
        about: about.to_owned(),
    };
    match label {
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => of_certificate(der),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => request(der)
            .unwrap_or_else(|| other("a certificate signing request", "it cannot be read")),
        "X509 CRL" => revocations(der)
            .unwrap_or_else(|| other("a certificate revocation list", "it cannot be read")),
        "ENCRYPTED PRIVATE KEY" => other("a private key", "encrypted"),
        label if label.ends_with("PRIVATE KEY") => other("a private key", "in the clear"),
        label if label.ends_with("PUBLIC KEY") => other("a public key", label),
        label => other("a PEM block of another kind", label),
    }
}

fn of_der(der: &[u8]) -> Thing {
    let key = || {
        let clear = pkcs8::PrivateKeyInfoRef::from_der(der).is_ok();
        let sealed = pkcs8::EncryptedPrivateKeyInfoRef::from_der(der).is_ok();
        (clear || sealed).then(|| Thing::Other {
            what: "a private key",
            about: if clear { "in the clear" } else { "encrypted" }.to_owned(),
        })
    };
    match of_certificate(der) {
        Thing::Unreadable(why) => request(der)
            .or_else(|| revocations(der))
            .or_else(key)
            .unwrap_or(Thing::Unreadable(why)),
        certificate => certificate,
    }
}

fn of_certificate(der: &[u8]) -> Thing {
    let end = whole(der).unwrap_or(der.len());
    match Certificate::from_der(&der[..end]) {
        Ok(certificate) => Thing::Certificate {
            certificate: Box::new(certificate),
            trailing: der.len() - end,
        },
        Err(CertError::Der(why)) => Thing::Unreadable(why),
        Err(error) => Thing::Unreadable(error.to_string()),
    }
}

/// Where the first DER element ends; `None` when it does not, or all of it is one.
fn whole(der: &[u8]) -> Option<usize> {
    let first = *der.get(1)?;
    let (header, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let bytes = der.get(2..2 + count)?;
            let length = bytes.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
            (2 + count, length)
        }
        _ => return None,
    };
    let end = header.checked_add(length)?;
    (end < der.len()).then_some(end)
}

fn request(der: &[u8]) -> Option<Thing> {
    let (_, csr) = X509CertificationRequest::from_der(der).ok()?;
    let subject = Subject::from_x509(&csr.certification_request_info.subject);
    let signed = match csr.verify_signature() {
        Ok(()) => "its signature is good",
        Err(_) => "its signature cannot be verified",
    };
    Some(Thing::Other {
        what: "a certificate signing request",
        about: format!("for `{subject}`; {signed}"),
    })
}

fn revocations(der: &[u8]) -> Option<Thing> {
    let (_, crl) = CertificateRevocationList::from_der(der).ok()?;
    let issuer = Subject::from_x509(crl.issuer());
    let count = crl.iter_revoked_certificates().count();
    Some(Thing::Other {
        what: "a certificate revocation list",
        about: format!("of `{issuer}`, {count} revoked"),
    })
}

/// Bytes in which nothing can be found.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Not JSON after all.
    #[error("this begins like JSON and is not: {0}")]
    Json(String),
    /// JSON without certificates.
    #[error("there is no PEM in this JSON")]
    NoPemInJson,
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
}

impl Explain for IntakeError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Json(_) => "json.syntax",
            Self::NoPemInJson => "pem.none",
            Self::Pem(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        matches!(self, Self::NoPemInJson).then(|| {
            "the certificate is wanted as text, as in `aws iot describe-certificate`".into()
        })
    }
}
