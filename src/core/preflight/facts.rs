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
    /// Whether algorithms that AWS IoT refuses are only warned of.
    #[serde(default)]
    pub allow_unsupported: bool,
    /// The thing name that the certificate must carry, if one was given.
    #[serde(default)]
    pub thing: Option<String>,
    /// How long the device is to lie on a shelf, if that was asked.
    #[serde(default)]
    pub shelf: Option<ShelfFacts>,
    /// What is known of the time.
    pub clock: ClockFacts,
    /// The identity, if one was looked at.
    pub identity: Option<IdentityFacts>,
    /// The servers that were looked at, in the order in which the device would use them.
    #[serde(default, alias = "server", deserialize_with = "one_or_many")]
    pub servers: Vec<ServerFacts>,
}

impl Facts {
    /// The form described here. Version 1 had one `server` and less of everything; it is still read.
    pub const VERSION: u32 = 2;
}

/// Version 1 had one server, or null.
fn one_or_many<'de, D>(deserializer: D) -> Result<Vec<ServerFacts>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Many(Vec<ServerFacts>),
        One(Box<ServerFacts>),
        None,
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::Many(many) => many,
        Form::One(one) => vec![*one],
        Form::None => Vec::new(),
    })
}

/// A time without power.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ShelfFacts {
    /// How long, in seconds.
    pub storage_s: i64,
    /// How far the real-time clock may drift, in millionths: 50 is 4.3 s a day.
    pub drift_ppm: u32,
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
    /// Who owns it, and what folder it is in; `None` for a key in a token.
    #[serde(default)]
    pub access: Option<FileFacts>,
    /// The folder that holds it: who may put another key in its place.
    #[serde(default)]
    pub folder: Option<FileFacts>,
    /// Whether a signature made with it verified; `None` when none was made.
    #[serde(default)]
    pub signs: Option<bool>,
    /// Its algorithm.
    pub algorithm: Option<String>,
    /// SHA-256 of the public half's `SubjectPublicKeyInfo`, in hexadecimal.
    pub public_key_sha256: Option<String>,
    /// Why it could not be used.
    pub error: Option<String>,
}

/// Who may do what with a file or a folder.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct FileFacts {
    /// The file.
    pub path: String,
    /// Its permission bits, in octal.
    pub mode: String,
    /// Its owner's user id.
    pub uid: u32,
    /// Its group's id.
    pub gid: u32,
    /// Whether the name is a symbolic link; mode and owner are those of what it leads to.
    pub link: bool,
    /// The user and group that looked.
    pub seen_by: (u32, u32),
}

/// A file of certificates.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CertificateFile {
    /// The file, or the URI of a token's object.
    pub path: String,
    /// Who may change it; `None` for what is in a token.
    #[serde(default)]
    pub access: Option<FileFacts>,
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
    /// The proxy that was gone through, without its login.
    #[serde(default)]
    pub proxy: Option<Endpoint>,
    /// What the name leads to; empty behind a proxy, which looks it up itself.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The protocol offered by ALPN.
    #[serde(default)]
    pub alpn: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// What came of connecting, if that was asked for.
    #[serde(default)]
    pub mqtt: Option<MqttFacts>,
}

/// One MQTT CONNECT with the device's identity.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MqttFacts {
    /// As whom.
    pub client_id: String,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// Why there was no CONNACK with code 0; `None` when there was.
    pub failed: Option<Ended>,
}

/// Why something did not come about.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Ended {
    /// Stable dotted name, such as `dial.refused`.
    pub code: String,
    /// One line.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
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
        /// The cipher suite agreed on.
        #[serde(default)]
        cipher_suite: Option<String>,
        /// The protocol it took of those offered by ALPN.
        #[serde(default)]
        alpn: Option<String>,
        /// Whether it proved that it holds its certificate's key.
        #[serde(default)]
        possession: Option<bool>,
        /// What client certificate it asked for, if it did.
        #[serde(default)]
        client_auth: Option<ClientAuthFacts>,
        /// Why the handshake ended early; `None` when it was done, or we refused the chain.
        #[serde(default)]
        ended: Option<Ended>,
    },
    /// It showed nothing.
    Failed(Ended),
}

/// What client certificate a server asks for.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct ClientAuthFacts {
    /// The signature schemes it takes, by their names in RFC 8446 §4.2.3.
    pub schemes: Vec<String>,
    /// The subjects of the CAs it names, DER in hexadecimal; none is any.
    pub authorities: Vec<String>,
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
