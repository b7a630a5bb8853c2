//! How far a device has come on its way to a new identity. One file holds all of it, key and token
//! too, and is put in place of its predecessor in one step: after a power loss the next run finds
//! either what was before a step or what was after it.
//!
//! ```text
//! Begun → Asked → Certified → Registering → Registered → Proved
//!   ↑______________________________|  the token ran out before it was used
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::key::{KeyFile, PrivateKey};
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// The version of the file's form.
const VERSION: u32 = 1;
/// The most bytes of the file.
pub const MAX_BYTES: u64 = 256 * 1024;

/// A text that is shown to nobody, and wiped from memory after use.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned().into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

/// How far it is. Each is written down before what comes after it is done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// There is a key, or the service will make one; nothing is asked.
    Begun,
    /// A certificate was asked for, and no answer is known.
    Asked,
    /// There is a certificate, and nothing was done with it.
    Certified,
    /// The template was asked for, and no answer is known.
    Registering,
    /// The certificate is what it should be at the target.
    Registered,
    /// The new identity has connected.
    Proved,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A fleet provisioning template, by its name.
    Template(String),
    /// A file that somebody brings.
    File,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(name) => write!(f, "the template `{name}`"),
            Self::File => f.write_str("a request by file"),
        }
    }
}

/// The file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    version: u32,
    /// Since when.
    pub started: UtcTime,
    /// Where the certificate comes from.
    pub way: Way,
    /// How far it is.
    pub stage: Stage,
    /// The MQTT client id while asking.
    pub client_id: String,
    /// The key, PKCS#8 PEM; none until the service has made one.
    pub key_pem: Option<Secret>,
    /// The request, PEM; none when the service makes the key.
    pub csr_pem: Option<String>,
    /// The certificate, PEM.
    pub certificate_pem: Option<String>,
    /// Its issuers, PEM, as far as they were told.
    pub issuers_pem: Option<String>,
    /// The CA bundle, PEM, if one was brought.
    pub ca_pem: Option<String>,
    /// What the template is asked for with.
    pub token: Option<Secret>,
    /// Since when the token is there.
    pub token_at: Option<UtcTime>,
    /// How often a certificate was asked for and the answer was lost.
    pub unanswered: u32,
    /// Certificates that were given up before they were registered.
    pub given_up: Vec<CertificateId>,
    /// The thing, as RegisterThing told it.
    pub thing_name: Option<String>,
    /// The template's `DeviceConfiguration`; none when its answer was lost.
    pub device_configuration: Option<Map<String, Value>>,
    /// The client id under which the new identity has connected.
    pub proved_as: Option<String>,
}

impl Journal {
    /// The beginning.
    pub fn begin(way: Way, client_id: String, started: UtcTime) -> Self {
        Self {
            version: VERSION,
            started,
            way,
            stage: Stage::Begun,
            client_id,
            key_pem: None,
            csr_pem: None,
            certificate_pem: None,
            issuers_pem: None,
            ca_pem: None,
            token: None,
            token_at: None,
            unanswered: 0,
            given_up: Vec::new(),
            thing_name: None,
            device_configuration: None,
            proved_as: None,
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `enrolment.journal`.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        let journal: Self = serde_json::from_slice(bytes)
            .map_err(|error| EnrolmentError::Journal(error.to_string()))?;
        if journal.version != VERSION {
            let why = format!("it is of version {}", journal.version);
            return Err(EnrolmentError::Journal(why));
        }
        Ok(journal)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Enough at once, so that no copy of the key is left behind where a buffer grew.
        let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
        // Texts and numbers only, into memory: there is nothing that can fail.
        let _ = serde_json::to_writer_pretty(&mut *bytes, self);
        bytes
    }

    /// The certificate, if there is one.
    ///
    /// # Errors
    /// `enrolment.journal`.
    pub fn certificate(&self) -> Result<Option<Certificate>, EnrolmentError> {
        let Some(pem) = &self.certificate_pem else {
            return Ok(None);
        };
        let mut all = Certificate::all_from_pem(pem.as_bytes())
            .map_err(|error| EnrolmentError::Journal(error.to_string()))?;
        Ok(Some(all.swap_remove(0)))
    }

    /// The key, if there is one.
    ///
    /// # Errors
    /// `enrolment.journal`.
    pub fn key(&self) -> Result<Option<PrivateKey>, EnrolmentError> {
        let Some(pem) = &self.key_pem else {
            return Ok(None);
        };
        match KeyFile::parse(pem.expose().as_bytes()) {
            Ok(KeyFile::Clear(key)) => Ok(Some(key)),
            _ => Err(EnrolmentError::Journal("its key cannot be read".into())),
        }
    }

    /// Turns to another template, which is possible until one was asked: a certificate's token is
    /// good for any.
    ///
    /// # Errors
    /// `enrol.other-way`, with the way that was begun.
    pub fn turn_to(&mut self, way: &Way) -> Result<(), OtherWay> {
        let unasked = matches!(self.stage, Stage::Begun | Stage::Asked | Stage::Certified);
        match (&self.way, way) {
            (begun, way) if begun == way => Ok(()),
            (Way::Template(_), Way::Template(_)) if unasked => {
                self.way = way.clone();
                Ok(())
            }
            (begun, _) => Err(OtherWay(begun.clone())),
        }
    }

    /// A certificate was issued.
    pub fn certified(&mut self, certificate: &Certificate, token: &str, now: UtcTime) {
        self.certificate_pem = Some(certificate.to_pem());
        self.token = Some(token.into());
        self.token_at = Some(now);
        self.stage = Stage::Certified;
    }

    /// The certificate cannot be registered any more, and never was: from the beginning, with the
    /// same key where it is ours.
    pub fn give_up_certificate(&mut self) {
        if let Ok(Some(certificate)) = self.certificate() {
            self.given_up.push(certificate.id().clone());
        }
        if self.csr_pem.is_none() {
            self.key_pem = None;
        }
        self.certificate_pem = None;
        self.token = None;
        self.token_at = None;
        self.stage = Stage::Begun;
    }
}

/// A journal that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// Damaged, or of another version.
    #[error("the journal of an earlier run cannot be used: {0}")]
    Journal(String),
}

impl Explain for EnrolmentError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "enrolment.journal"
    }
    fn hint(&self) -> Option<String> {
        Some("run again with --start-over: a new key is made, and nothing of it is kept".into())
    }
}

/// An earlier run went another way, too far to turn.
#[derive(Debug, thiserror::Error)]
#[error("an earlier run began with {0}")]
pub struct OtherWay(Way);

impl Explain for OtherWay {
    fn kind(&self) -> Kind {
        Kind::Refused
    }
    fn code(&self) -> &'static str {
        "enrol.other-way"
    }
    fn hint(&self) -> Option<String> {
        Some("finish that one, or forget it with --start-over".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_template_is_taken_until_one_was_asked() {
        let other = Way::Template("other".into());
        for (stage, turns) in [
            (Stage::Begun, true),
            (Stage::Asked, true),
            (Stage::Certified, true),
            (Stage::Registering, false),
            (Stage::Registered, false),
            (Stage::Proved, false),
        ] {
            let mut journal = journal();
            journal.stage = stage;
            assert_eq!(journal.turn_to(&other).is_ok(), turns, "{stage:?}");
            assert!(journal.turn_to(&Way::File).is_err());
        }
        let mut journal = journal();
        journal.way = Way::File;
        assert!(journal.turn_to(&Way::File).is_ok());
        assert_eq!(
            journal.turn_to(&other).unwrap_err().code(),
            "enrol.other-way"
        );
    }

    fn journal() -> Journal {
        let way = Way::Template("pump".into());
        Journal::begin(way, "claim-1".into(), "2026-11-28".parse().unwrap())
    }

    #[test]
    fn it_is_read_back_and_shows_no_secret() {
        let mut journal = journal();
        journal.key_pem = Some("PRIVATE".into());
        journal.token = Some("TOKEN".into());
        let read = Journal::parse(&journal.to_bytes()).unwrap();
        assert_eq!(read.key_pem.as_ref().unwrap().expose(), "PRIVATE");
        assert_eq!(read.stage, Stage::Begun);
        let shown = format!("{read:?}");
        assert!(!shown.contains("PRIVATE") && !shown.contains("TOKEN"));
    }

    #[test]
    fn what_is_damaged_or_newer_is_refused() {
        let good = journal().to_bytes();
        let text = std::str::from_utf8(&good).unwrap();
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        let unknown = text.replace("\"stage\"", "\"stages\"");
        for bad in ["", "{}", &newer, &unknown, &text[..text.len() / 2]] {
            let error = Journal::parse(bad.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "enrolment.journal", "{bad}");
        }
    }

    #[test]
    fn a_key_of_ours_is_kept_and_the_services_goes_with_its_certificate() {
        for csr in [None, Some("CSR".to_owned())] {
            let ours = csr.is_some();
            let mut journal = journal();
            journal.csr_pem = csr;
            journal.key_pem = Some("KEY".into());
            journal.stage = Stage::Certified;
            journal.give_up_certificate();
            assert_eq!(journal.key_pem.is_some(), ours);
            assert_eq!(journal.stage, Stage::Begun);
        }
    }
}
