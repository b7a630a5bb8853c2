//! What was found on the device: plain data, so that it can be kept and judged elsewhere.

use serde::{Deserialize, Serialize};

use crate::core::cert::Certificate;
use crate::core::clock::ClockFacts;
use crate::core::endpoint::Endpoint;

/// Everything a verdict is made of. No secret is in it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Facts {
    /// Version of this form.
    pub facts_version: u32,
    /// A window that ends within so many seconds is warned of.
    pub margin_s: i64,
    /// Whether the network was left out on purpose.
    #[serde(default)]
    pub offline: bool,
    /// What is known of the time.
    pub clock: ClockFacts,
    /// The identity, if one was looked at.
    pub identity: Option<IdentityFacts>,
    /// The server, if one was looked at.
    pub server: Option<ServerFacts>,
}

impl Facts {
    /// The form described here.
    pub const VERSION: u32 = 1;
}

/// The files of an identity.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IdentityFacts {
    /// The private key, without the key.
    pub key: KeyFacts,
    /// The leaf.
    pub certificate: CertificateFile,
    /// Leaf and issuers, or issuers alone.
    pub chain: Option<CertificateFile>,
    /// The CA bundle.
    pub ca: Option<CertificateFile>,
}

/// What may be told of a private key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeyFacts {
    /// The file.
    pub path: String,
    /// Its permission bits, in octal, such as `0600`.
    pub mode: Option<String>,
    /// Its algorithm.
    pub algorithm: Option<String>,
    /// SHA-256 of the public half's `SubjectPublicKeyInfo`, in hexadecimal.
    pub public_key_sha256: Option<String>,
    /// Why it could not be used.
    pub error: Option<String>,
}

/// A file of certificates.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CertificateFile {
    /// The file.
    pub path: String,
    /// What it holds, in order.
    pub certificates: Vec<Shown>,
    /// Why it could not be read.
    pub error: Option<String>,
}

impl CertificateFile {
    /// The certificates themselves.
    pub fn all(&self) -> Vec<Certificate> {
        self.certificates
            .iter()
            .map(|shown| shown.0.clone())
            .collect()
    }
}

/// A look at a TLS server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServerFacts {
    /// Where.
    pub endpoint: Endpoint,
    /// The trusted CAs; Amazon's, which are built in, when `None`.
    pub server_ca: Option<CertificateFile>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of looking.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It showed this.
    Seen {
        /// The address that answered.
        address: String,
        /// The TLS version agreed on.
        tls_version: Option<String>,
        /// Its chain, leaf first.
        chain: Vec<Shown>,
    },
    /// It showed nothing.
    Failed {
        /// Stable dotted name, such as `dial.refused`.
        code: String,
        /// One line.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// A certificate in the facts: PEM, with a summary for people.
#[derive(Clone, Debug)]
pub struct Shown(pub Certificate);

#[derive(Deserialize, Serialize)]
struct Form {
    #[serde(default)]
    id: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    not_before: String,
    #[serde(default)]
    not_after: String,
    #[serde(default)]
    algorithm: String,
    #[serde(default)]
    version: u32,
    pem: String,
}

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let certificate = &self.0;
        Form {
            id: certificate.id().to_string(),
            subject: certificate.subject.to_string(),
            issuer: certificate.issuer.to_string(),
            serial: certificate.serial_hex(),
            not_before: certificate.validity.not_before.to_string(),
            not_after: certificate.validity.not_after.to_string(),
            algorithm: certificate.key_algorithm().to_string(),
            version: certificate.version,
            pem: certificate.to_pem(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shown {
    /// Only the PEM counts; the summary is made from it again.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        let mut all =
            Certificate::all_from_pem(form.pem.as_bytes()).map_err(serde::de::Error::custom)?;
        Ok(Self(all.swap_remove(0)))
    }
}
