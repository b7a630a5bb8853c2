//! The durable record of everything issued. Whatever returns without an error is on the disk.

use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::core::ids::CertificateId;
use crate::core::ledger_file::Entry;
use crate::core::record::{
    AuthorityRecord, CertificateRecord, CertificateState, CrlRecord, IdentityPurpose, Intent,
    LedgerCheck, RotationRecord, SerialKey,
};
use crate::core::revocation::{Revocation, RevocationReason};
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// A certificate that was signed and saved.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// Issuer and serial number of the intent.
    pub key: SerialKey,
    /// The certificate's id.
    pub id: CertificateId,
    /// The certificate.
    pub der: Vec<u8>,
}

/// What a run has made, and how far its output is vouched for with it.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The certificates.
    pub confirmations: &'a [Confirmation],
    /// The output's mark after them, if it has one.
    pub checkpoint: Option<&'a Checkpoint>,
}

/// Which certificates to list. Everything that is `None` or `false` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this device.
    pub device: Option<String>,
    /// Of this state.
    pub state: Option<CertificateState>,
    /// Only live identities.
    pub live_only: bool,
    /// Issued by the CA with this certificate id.
    pub issuer: Option<CertificateId>,
    /// Of this batch.
    pub batch: Option<String>,
    /// Whose last valid second is before this one.
    pub expiring_before: Option<UtcTime>,
    /// With this deliberate flaw.
    pub flaw: Option<String>,
    /// At most this many.
    pub limit: Option<u32>,
}

/// A run that issues. It is alive until it is dropped or its process dies; what it intended and
/// did not confirm is then a leftover that the next run settles.
pub trait Run: Send + Sync {
    /// Its name in the ledger; no two runs share one.
    fn id(&self) -> &str;
}

/// What became of a wish to issue.
#[derive(Clone, Debug)]
pub enum Claim {
    /// It is written down; nobody else will issue for this device.
    Claimed,
    /// The device has its identity.
    Live(Box<CertificateRecord>),
    /// A run that is alive is at work on the device.
    Busy,
    /// A run that died left this intent: confirm it or abandon it, then claim again.
    Leftover(Box<CertificateRecord>),
}

/// How much of a batch's output is whole and in the ledger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The output's path.
    pub output: String,
    /// What stands before this offset is vouched for.
    pub offset_bytes: u64,
    /// The devices in it.
    pub rows: u64,
}

/// What a CA's next CRL is to say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NextCrl {
    /// One more than the last one's number; 1 for the first.
    pub number: u64,
    /// Every certificate of this CA that is revoked, expired ones too.
    pub revoked: Vec<RevokedRow>,
}

/// One revoked certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevokedRow {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// When and why. What was revoked before reasons were kept has none, and the time of its last
    /// change.
    pub revocation: Revocation,
    /// The last second of its validity.
    pub not_after: UtcTime,
}

/// What comes next into an empty ledger.
#[derive(Debug)]
pub enum Feed {
    /// One thing.
    Entry(Entry),
    /// Nothing more; all was well.
    End,
    /// Nothing more; take everything back.
    Stop,
}

/// Writes down what is issued before and after it happens. Batches are one transaction each.
pub trait Ledger {
    /// Keeps every other process out that makes or imports a CA, until the answer is dropped (or
    /// this process dies). Issuing for devices goes on beside it.
    ///
    /// # Errors
    /// `ledger.held` when another process holds it.
    fn hold(&self) -> Result<Box<dyn std::any::Any>, LedgerError>;

    /// Keeps every other process out that rotates or revokes, until the answer is dropped (or this
    /// process dies). Issuing goes on beside it.
    ///
    /// # Errors
    /// `ledger.held` when another process holds it.
    fn hold_rotations(&self) -> Result<Box<dyn std::any::Any>, LedgerError>;

    /// Begins a run that issues; any number may run at once.
    ///
    /// # Errors
    /// `ledger.database`.
    fn begin_run(&self, now: UtcTime) -> Result<Box<dyn Run>, LedgerError>;

    /// Writes down what is about to be signed, as far as nothing stands in the way; one answer for
    /// each intent, in order. Which process is first is decided here and nowhere else.
    ///
    /// # Errors
    /// `ledger.serial` when a serial number was used by this CA before; nothing is written then.
    fn claim(
        &self,
        run: &dyn Run,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError>;

    /// Turns what `run` claimed into issued certificates, and remembers how far the output is
    /// vouched for, in one transaction.
    ///
    /// # Errors
    /// `ledger.no-intent` when one was not claimed by this run. Nothing is written then.
    fn confirm_block(
        &self,
        run: &dyn Run,
        confirmations: &[Confirmation],
        checkpoint: Option<&Checkpoint>,
        now: UtcTime,
    ) -> Result<(), LedgerError>;

    /// Confirms one block and claims the next; a ledger that can do both in one transaction saves
    /// one sync. What is confirmed stays so only when the claims could be decided.
    ///
    /// # Errors
    /// Those of [`Ledger::confirm_block`] and [`Ledger::claim`].
    fn confirm_and_claim(
        &self,
        run: &dyn Run,
        block: &Block<'_>,
        intents: &[Intent],
        now: UtcTime,
    ) -> Result<Vec<Claim>, LedgerError> {
        self.confirm_block(run, block.confirmations, block.checkpoint, now)?;
        self.claim(run, intents, now)
    }

    /// How far this output of a batch is vouched for; `None` when nothing was said of it.
    ///
    /// # Errors
    /// `ledger.database`.
    fn checkpoint(&self, output: &str) -> Result<Option<Checkpoint>, LedgerError>;

    /// Adds a CA; the same CA again changes nothing.
    ///
    /// # Errors
    /// `ledger.name-taken` when another CA has this name.
    fn add_authority(&self, authority: &AuthorityRecord) -> Result<(), LedgerError>;

    /// Every CA, by name.
    fn authorities(&self) -> Result<Vec<AuthorityRecord>, LedgerError>;

    /// Turns intents into issued certificates.
    ///
    /// # Errors
    /// `ledger.no-intent` when one was not intended. Nothing is written then.
    fn confirm(&self, confirmations: &[Confirmation], now: UtcTime) -> Result<(), LedgerError>;

    /// Gives up intents that came to nothing; the devices have no live identity afterwards.
    fn abandon(&self, keys: &[SerialKey], now: UtcTime) -> Result<(), LedgerError>;

    /// The live identity of each of these devices that has one.
    fn live(
        &self,
        devices: &[&str],
        purpose: IdentityPurpose,
    ) -> Result<Vec<CertificateRecord>, LedgerError>;

    /// A certificate by its id.
    fn certificate(&self, id: &CertificateId) -> Result<Option<CertificateRecord>, LedgerError>;

    /// Certificates, newest first; with [`Filter::expiring_before`], the soonest to expire first.
    fn certificates(&self, filter: &Filter) -> Result<Vec<CertificateRecord>, LedgerError>;

    /// The same one after another, until `each` breaks off, which may use the ledger. Memory stays
    /// flat. What changes meanwhile is seen as it was or as it is.
    ///
    /// # Errors
    /// `ledger.database`.
    fn for_each_certificate(
        &self,
        filter: &Filter,
        each: &mut dyn FnMut(CertificateRecord) -> ControlFlow<()>,
    ) -> Result<(), LedgerError>;

    /// Moves an issued certificate to `state`; `detail` says why, for the journal. States other
    /// than issued are not live.
    ///
    /// # Errors
    /// `ledger.unknown` when there is no such certificate.
    fn set_state(
        &self,
        id: &CertificateId,
        state: CertificateState,
        detail: &str,
        now: UtcTime,
    ) -> Result<(), LedgerError>;

    /// Calls a certificate revoked, which is final: doing it again changes nothing, and the answer
    /// is the revocation that stands.
    ///
    /// # Errors
    /// `ledger.unknown` when there is no such certificate.
    fn revoke(
        &self,
        id: &CertificateId,
        reason: RevocationReason,
        now: UtcTime,
    ) -> Result<Revocation, LedgerError>;

    /// What the next CRL of this CA is to say, as of one moment.
    ///
    /// # Errors
    /// `ledger.database`.
    fn next_crl(&self, issuer: &CertificateId) -> Result<NextCrl, LedgerError>;

    /// The CRL with the highest number of this CA.
    ///
    /// # Errors
    /// `ledger.database`.
    fn last_crl(&self, issuer: &CertificateId) -> Result<Option<CrlRecord>, LedgerError>;

    /// Keeps a CRL. Which of two processes had its number first is decided here.
    ///
    /// # Errors
    /// `ledger.crl-number` when the number is not the next one; nothing is written then.
    fn save_crl(&self, crl: &CrlRecord) -> Result<(), LedgerError>;

    /// Makes `new` the live identity of its device and `old` superseded, at once. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// `ledger.unknown`, `ledger.no-intent` when `new` is not an issued successor of `old`.
    fn promote(
        &self,
        old: &CertificateId,
        new: &CertificateId,
        now: UtcTime,
    ) -> Result<(), LedgerError>;

    /// Where a finished identity's files are now.
    ///
    /// # Errors
    /// `ledger.unknown`.
    fn set_folder(
        &self,
        id: &CertificateId,
        folder: &std::path::Path,
        now: UtcTime,
    ) -> Result<(), LedgerError>;

    /// The rotation under way for this device.
    fn rotation(&self, device: &str) -> Result<Option<RotationRecord>, LedgerError>;

    /// Saves a rotation's step, and writes it to the journal.
    fn save_rotation(&self, rotation: &RotationRecord) -> Result<(), LedgerError>;

    /// Ends a rotation: it is done, or given up.
    fn end_rotation(&self, device: &str, outcome: &str, now: UtcTime) -> Result<(), LedgerError>;

    /// Recomputes the journal's hashes and compares every row with its last event.
    fn verify(&self) -> Result<LedgerCheck, LedgerError>;

    /// Everything in it as of one moment, until `each` breaks off: CAs, certificates, rotations,
    /// marks, CRLs, events, each kind in its own order. Memory stays flat.
    ///
    /// # Errors
    /// `ledger.database`.
    fn export(&self, each: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), LedgerError>;

    /// Fills an empty ledger with everything that `feed` brings, in the order of
    /// [`Ledger::export`], and checks the whole; in one transaction. `None` when the feed broke
    /// off; then, and when the check finds a flaw, nothing is written.
    ///
    /// # Errors
    /// `ledger.not-empty`, `ledger.database`.
    fn import(&self, feed: &mut dyn FnMut() -> Feed) -> Result<Option<LedgerCheck>, LedgerError>;
}

/// The ledger did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database is busy, full, or cannot be read.
    #[error("the ledger `{path}` cannot be used: {why}")]
    Database {
        /// Its file.
        path: PathBuf,
        /// What the database says.
        why: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// Another process made a CRL meanwhile.
    #[error("the CRL number {0} is not this CA's next one: another process made a CRL meanwhile")]
    CrlNumber(u64),
    /// Another process issues for this device.
    #[error("another nameplate process is issuing for device `{0}`")]
    Busy(String),
    /// Another process makes or imports a CA.
    #[error("another nameplate process is at work on the CAs of the ledger `{0}`")]
    Held(PathBuf),
    /// Another process rotates or revokes.
    #[error("another nameplate process is rotating or revoking with the ledger `{0}`")]
    HeldRotations(PathBuf),
    /// One live identity for each device and purpose.
    #[error("device `{device}` already has a live {purpose} identity")]
    Live {
        /// The device.
        device: String,
        /// What for.
        purpose: IdentityPurpose,
    },
    /// A CA's name is in use.
    #[error("there is another CA named `{0}` in the ledger")]
    NameTaken(String),
    /// Not intended before.
    #[error("the ledger has no open intent for `{0}`")]
    NoIntent(String),
    /// Only an empty one can be filled.
    #[error("the ledger `{0}` is not empty")]
    NotEmpty(PathBuf),
    /// Made by a newer nameplate.
    #[error("the ledger `{path}` has schema version {found}; this nameplate knows {known}")]
    Schema {
        /// Its file.
        path: PathBuf,
        /// What it says.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// Used before by the same CA.
    #[error("serial number {0} was used by this CA before")]
    Serial(String),
    /// Not in the ledger.
    #[error("certificate `{0}` is not in the ledger")]
    Unknown(String),
}

impl Explain for LedgerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Database { retry: true, .. }
            | Self::Busy(_)
            | Self::CrlNumber(_)
            | Self::Held(_)
            | Self::HeldRotations(_) => Kind::Unavailable,
            Self::Database { .. } | Self::Schema { .. } | Self::Unknown(_) => Kind::Input,
            Self::Live { .. } | Self::NameTaken(_) | Self::NotEmpty(_) => Kind::Refused,
            Self::NoIntent(_) | Self::Serial(_) => Kind::Bug,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Database { .. } => "ledger.database",
            Self::Busy(_) | Self::Held(_) | Self::HeldRotations(_) => "ledger.held",
            Self::CrlNumber(_) => "ledger.crl-number",
            Self::Live { .. } => "ledger.live",
            Self::NameTaken(_) => "ledger.name-taken",
            Self::NoIntent(_) => "ledger.no-intent",
            Self::NotEmpty(_) => "ledger.not-empty",
            Self::Schema { .. } => "ledger.schema",
            Self::Serial(_) => "ledger.serial",
            Self::Unknown(_) => "ledger.unknown",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Database { retry: true, .. } => {
                Some("run the same command again; make room first if the disk is full".into())
            }
            Self::Busy(_) | Self::Held(_) | Self::HeldRotations(_) => {
                Some("wait until it is done, then run this again".into())
            }
            Self::CrlNumber(_) => Some("run this again: it takes the next number".into()),
            Self::Live { device, .. } => Some(format!(
                "see it with `nameplate device show {device}`; \
                 replace it with `nameplate device rotate {device}`"
            )),
            Self::NotEmpty(_) => Some(
                "name a ledger that is not there yet, or an empty database, with --ledger".into(),
            ),
            Self::Schema { .. } => Some("use the newer nameplate that wrote it".into()),
            Self::Unknown(_) => Some("`nameplate device list` shows what is there".into()),
            _ => None,
        }
    }
}
