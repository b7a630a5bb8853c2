//! What the ledger remembers: authorities, certificates, rotations, and the chain of events that
//! proves none of it was changed behind its back.

use std::path::PathBuf;

use ring::digest::{Digest, SHA256, digest};

use crate::core::cert::Certificate;
use crate::core::flaw::CaFlaw;
use crate::core::ids::{CertificateId, hex};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::{UtcTime, Validity};

/// What an identity is for. A device has one live identity for each.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityPurpose {
    /// What the device works with.
    Operational,
    /// What it claims its operational identity with (fleet provisioning).
    Claim,
}

/// How far a certificate has come.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateState {
    /// Written down before signing; the certificate may or may not exist.
    Intended,
    /// Signed, saved and confirmed.
    Issued,
    /// Intended, never used: the run ended before it was saved.
    Abandoned,
    /// Replaced by its successor, which is proved.
    Superseded,
    /// Switched off at the target.
    Deactivated,
    /// Withdrawn by its issuer.
    Revoked,
    /// Expired, and removed from this machine and from the target.
    Swept,
}

macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $name {
            /// The word in the ledger and in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Reads the word back; `None` for another.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words!(IdentityPurpose {
    Operational = "operational",
    Claim = "claim",
});
words!(CertificateState {
    Intended = "intended",
    Issued = "issued",
    Abandoned = "abandoned",
    Superseded = "superseded",
    Deactivated = "deactivated",
    Revoked = "revoked",
    Swept = "swept",
});

/// A certificate by its issuer and serial number: known before it is signed.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct SerialKey {
    /// The issuing CA's certificate id.
    pub issuer: CertificateId,
    /// 16 bytes, as in [`crate::core::draft::Draft::serial`].
    pub serial: Vec<u8>,
}

impl SerialKey {
    /// The name events call it by: `certificate:ISSUER:SERIAL`.
    pub fn event_subject(&self) -> String {
        format!("certificate:{}:{}", self.issuer, hex(&self.serial))
    }
}

/// What is written down before a certificate is signed.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Issuer and serial number.
    pub key: SerialKey,
    /// The device's name.
    pub device: String,
    /// What for.
    pub purpose: IdentityPurpose,
    /// The subject as text, in encoded order, as `Subject`'s `FromStr` reads it.
    pub subject: String,
    /// From when to when.
    pub validity: Validity,
    /// `EC P-256`, `RSA 2048`, …
    pub key_algorithm: String,
    /// Where the identity's files are or will be.
    pub folder: Option<PathBuf>,
    /// The batch it belongs to.
    pub batch: Option<String>,
    /// The certificate that this one is to replace: it stays the live one until
    /// this one is proved and promoted.
    pub replaces: Option<CertificateId>,
    /// What is made wrong on purpose, for tests.
    pub flaw: Option<String>,
}

/// One certificate in the ledger.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CertificateRecord {
    /// The id; `None` until it is signed.
    pub id: Option<CertificateId>,
    /// The issuing CA's certificate id.
    pub issuer: CertificateId,
    /// Lower hex.
    #[serde(serialize_with = "serialize_hex")]
    pub serial: Vec<u8>,
    /// The device's name.
    pub device: String,
    /// What for.
    pub purpose: IdentityPurpose,
    /// How far it has come.
    pub state: CertificateState,
    /// Whether it is the device's one live identity for this purpose.
    pub live: bool,
    /// The subject as text.
    pub subject: String,
    /// From when to when.
    pub validity: Validity,
    /// `EC P-256`, …
    pub key_algorithm: String,
    /// Where the identity's files are.
    pub folder: Option<PathBuf>,
    /// The batch it belongs to.
    pub batch: Option<String>,
    /// What it replaces.
    pub replaces: Option<CertificateId>,
    /// The certificate; `None` until it is signed.
    #[serde(skip)]
    pub der: Option<Vec<u8>>,
    /// When it was written down.
    pub created: UtcTime,
    /// When its state last changed.
    pub updated: UtcTime,
    /// The run that intended it; `None` for what was intended before runs were counted.
    #[serde(skip)]
    pub run: Option<String>,
    /// What was made wrong on purpose, for tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
    /// When and why it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation: Option<Revocation>,
}

fn serialize_hex<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

impl CertificateRecord {
    /// From an intent, at the time it is written down.
    pub fn intended(intent: &Intent, now: UtcTime) -> Self {
        let intent = intent.clone();
        Self {
            id: None,
            issuer: intent.key.issuer,
            serial: intent.key.serial,
            device: intent.device,
            purpose: intent.purpose,
            state: CertificateState::Intended,
            live: intent.replaces.is_none(),
            subject: intent.subject,
            validity: intent.validity,
            key_algorithm: intent.key_algorithm,
            folder: intent.folder,
            batch: intent.batch,
            replaces: intent.replaces,
            der: None,
            created: now,
            updated: now,
            run: None,
            flaw: intent.flaw,
            revocation: None,
        }
    }

    /// Issuer and serial number.
    pub fn key(&self) -> SerialKey {
        SerialKey {
            issuer: self.issuer.clone(),
            serial: self.serial.clone(),
        }
    }

    /// Its revocation, if it is revoked. What was revoked before reasons were kept has none, and
    /// the time of its last change.
    pub fn standing_revocation(&self) -> Option<Revocation> {
        let unnamed = || Revocation {
            at: self.updated,
            reason: RevocationReason::Unspecified,
        };
        let revoked = self.state == CertificateState::Revoked;
        self.revocation.or_else(|| revoked.then(unnamed))
    }

    /// SHA-256 over every field, lower hex: what the last event about this row says it holds.
    pub fn digest(&self) -> String {
        fn optional(text: Option<&str>) -> &[u8] {
            text.unwrap_or("\u{0}").as_bytes()
        }
        let folder = self.folder.as_ref().map(|path| path.to_string_lossy());
        let mut fields = Fields::default();
        for field in [
            optional(self.id.as_ref().map(CertificateId::as_str)),
            self.issuer.as_str().as_bytes(),
            &self.serial,
            self.device.as_bytes(),
            self.purpose.as_str().as_bytes(),
            self.state.as_str().as_bytes(),
            &[u8::from(self.live)],
            self.subject.as_bytes(),
            &self.validity.not_before.unix().to_be_bytes(),
            &self.validity.not_after.unix().to_be_bytes(),
            self.key_algorithm.as_bytes(),
            optional(folder.as_deref()),
            optional(self.batch.as_deref()),
            optional(self.replaces.as_ref().map(CertificateId::as_str)),
            &self.created.unix().to_be_bytes(),
            &self.updated.unix().to_be_bytes(),
        ] {
            fields.add(field);
        }
        // What version 2 brought counts only where it is set: digests written before stay true.
        let revocation = self
            .revocation
            .map(|one| format!("{} {}", one.at.unix(), one.reason));
        for (name, value) in [
            ("run", &self.run),
            ("flaw", &self.flaw),
            ("revocation", &revocation),
        ] {
            if let Some(value) = value {
                fields.add(name.as_bytes());
                fields.add(value.as_bytes());
            }
        }
        hex(fields.digest().as_ref())
    }
}

/// One CA in the ledger.
#[derive(Clone, Debug)]
pub struct AuthorityRecord {
    /// Its name in the project; unique.
    pub name: String,
    /// Its certificate.
    pub certificate: Certificate,
    /// The certificate id of the CA above; `None` for a root, or when that one is not known here.
    pub parent: Option<CertificateId>,
    /// Where its files are.
    pub folder: PathBuf,
    /// `created` or `imported`.
    pub origin: Origin,
    /// When it was written down.
    pub created: UtcTime,
}

/// Where a CA came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Made here.
    Created,
    /// Made here, wrong on purpose.
    Flawed(CaFlaw),
    /// Brought from elsewhere.
    Imported,
}

impl Origin {
    /// The word in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Flawed(flaw) => flaw.origin(),
            Self::Imported => "imported",
        }
    }

    /// Reads the word back; `None` for another.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "created" => Some(Self::Created),
            "imported" => Some(Self::Imported),
            other => CaFlaw::from_origin(other).map(Self::Flawed),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl AuthorityRecord {
    /// The name events call it by.
    pub fn event_subject(&self) -> String {
        format!("authority:{}", self.name)
    }

    /// SHA-256 over every field, lower hex.
    pub fn digest(&self) -> String {
        fields_digest(&[
            self.name.as_bytes(),
            self.certificate.der(),
            self.parent.as_ref().map_or("", |id| id.as_str()).as_bytes(),
            self.folder.to_string_lossy().as_bytes(),
            self.origin.as_str().as_bytes(),
            &self.created.unix().to_be_bytes(),
        ])
    }
}

/// One CRL in the ledger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrlRecord {
    /// The CA's certificate id.
    pub issuer: CertificateId,
    /// Its CRL number: 1, 2, 3, … for each CA.
    pub number: u64,
    /// When it was made.
    pub this_update: UtcTime,
    /// When the next one comes at the latest.
    pub next_update: UtcTime,
    /// The CRL.
    pub der: Vec<u8>,
}

impl CrlRecord {
    /// The name events call it by.
    pub fn event_subject(&self) -> String {
        format!("crl:{}:{}", self.issuer, self.number)
    }

    /// SHA-256 over every field, lower hex.
    pub fn digest(&self) -> String {
        fields_digest(&[
            self.issuer.as_str().as_bytes(),
            &self.number.to_be_bytes(),
            &self.this_update.unix().to_be_bytes(),
            &self.next_update.unix().to_be_bytes(),
            &self.der,
        ])
    }
}

/// A rotation under way: its step is the program counter.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct RotationRecord {
    /// The device's name.
    pub device: String,
    /// The certificate that is to go.
    pub old: CertificateId,
    /// The one that is to come; `None` until it is signed.
    pub new: Option<CertificateId>,
    /// Where it stands; the flow that rotates names the steps.
    pub step: String,
    /// When it began.
    pub started: UtcTime,
    /// When it last moved.
    pub updated: UtcTime,
}

/// One line of the append-only journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// 1, 2, 3, … without a gap.
    pub seq: i64,
    /// When.
    pub at: UtcTime,
    /// `certificate.intended`, `certificate.issued`, `authority.created`, …
    pub kind: String,
    /// What it is about: `certificate:…`, `authority:…`, `rotation:…`, or many rows at once that
    /// one run wrote: `run:…`, with issuer, serial numbers and digests in the body.
    pub subject: String,
    /// What happened, as JSON.
    pub body: String,
}

/// The hash before the first event.
pub const GENESIS: [u8; 32] = [0; 32];

impl Event {
    /// The hash of this event on top of `previous`: SHA-256 over the previous hash and every
    /// field, each with its length before it, so that no two events share an encoding.
    pub fn hash(&self, previous: &[u8; 32]) -> [u8; 32] {
        let mut hash = [0; 32];
        let digest = length_prefixed(&[
            previous,
            &self.seq.to_be_bytes(),
            &self.at.unix().to_be_bytes(),
            self.kind.as_bytes(),
            self.subject.as_bytes(),
            self.body.as_bytes(),
        ]);
        hash.copy_from_slice(digest.as_ref());
        hash
    }
}

fn fields_digest(fields: &[&[u8]]) -> String {
    hex(length_prefixed(fields).as_ref())
}

fn length_prefixed(all: &[&[u8]]) -> Digest {
    let mut fields = Fields::default();
    for field in all {
        fields.add(field);
    }
    fields.digest()
}

/// Fields that are hashed at once: each call to the hash has a price.
struct Fields(Vec<u8>);

impl Default for Fields {
    fn default() -> Self {
        Self(Vec::with_capacity(640))
    }
}

impl Fields {
    fn add(&mut self, field: &[u8]) {
        self.0.extend((field.len() as u64).to_be_bytes());
        self.0.extend(field);
    }

    fn digest(&self) -> Digest {
        digest(&SHA256, &self.0)
    }
}

/// What `ledger verify` found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LedgerCheck {
    /// Events recomputed.
    pub events: u64,
    /// Certificate rows compared with their last event.
    pub certificates: u64,
    /// Authority rows compared.
    pub authorities: u64,
    /// The hash of the last event, lower hex: write it down elsewhere to notice a cut-off tail.
    pub head: String,
    /// The first thing that does not fit; `None` when all is well.
    pub broken: Option<LedgerFlaw>,
}

/// Where the ledger was changed behind its back.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct LedgerFlaw {
    /// The event, if it is one.
    pub event: Option<i64>,
    /// What it is about.
    pub subject: String,
    /// What does not fit.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bound_to_their_past_and_fields() {
        let event = Event {
            seq: 1,
            at: UtcTime::from_unix(0),
            kind: "a".into(),
            subject: "bc".into(),
            body: "{}".into(),
        };
        let first = event.hash(&GENESIS);
        assert_ne!(first, event.hash(&first));
        let moved = Event {
            kind: "ab".into(),
            subject: "c".into(),
            ..event.clone()
        };
        assert_ne!(first, moved.hash(&GENESIS));
    }

    #[test]
    fn words_are_read_back() {
        for state in [CertificateState::Intended, CertificateState::Superseded] {
            assert_eq!(CertificateState::from_word(state.as_str()), Some(state));
        }
        assert_eq!(IdentityPurpose::from_word("x"), None);
    }
}
