//! `device issue`: draft → lint → claim the key file → intent → sign → seal → save → confirm. Each
//! step leaves something that the next run finishes or redoes; nothing that exists is overwritten.

use std::path::{Path, PathBuf};

use crate::core::bundle::{self, Secrecy};
use crate::core::cert::Certificate;
use crate::core::draft::{self, Draft, DraftError, DraftSpec, Extras, Purpose, positive};
use crate::core::fit::{self, FitError};
use crate::core::flaw::Flaw;
use crate::core::ids::CertificateId;
use crate::core::key::{KeyAlgorithm, KeyError, KeyFile, PrivateKey, PublicKey};
use crate::core::key_uri::KeyUri;
use crate::core::lifetime::{Lifetime, LifetimeError};
use crate::core::pem;
use crate::core::record::{CertificateRecord, IdentityPurpose, Intent, SerialKey};
use crate::core::subject::Subject;
use crate::core::template::Template;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Kind};
use crate::flows::ca_create::SignerOf;
use crate::flows::device_flaw;
use crate::flows::issuer::{Issuer, IssuerError, key_file};
use crate::ports::ledger::{Claim, Confirmation, Ledger, LedgerError, Run};
use crate::ports::{Clock, Entropy, FileError, Files, Keygen, SignError};

/// What the flow may use.
pub struct DeviceIssue<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// Serial numbers.
    pub entropy: &'a dyn Entropy,
    /// The disk.
    pub files: &'a dyn Files,
    /// Makes the key.
    pub keygen: &'a dyn Keygen,
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// Turns a private key into a signer, for a CA that exists for one flaw.
    pub signer_of: SignerOf<'a>,
}

/// What is asked.
pub struct Request<'a> {
    /// The device's name in the ledger.
    pub device: String,
    /// The certificate's subject.
    pub subject: Subject,
    /// Its window.
    pub lifetime: Lifetime,
    /// Decides key usage and extended key usage.
    pub purpose: Purpose,
    /// subjectAltName entries.
    pub alternative_names: Vec<String>,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
    /// Whose key it is.
    pub key: KeySource,
    /// Where the identity goes.
    pub folder: PathBuf,
    /// Who signs.
    pub issuer: Issuer<'a>,
    /// What the draft must pass.
    pub template: Option<&'a Template>,
    /// The certificate that this one is to replace: a rotation's successor.
    pub replaces: Option<CertificateId>,
    /// What is to be wrong on purpose.
    pub flaw: Option<Flaw>,
}

/// What the certificate will say, the flaws that lie in plain fields among it.
struct Said {
    subject: Subject,
    alternative_names: Vec<String>,
    validity: Validity,
}

/// Where the device's key comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Made here: P-256 or P-384.
    New(KeyAlgorithm),
    /// Made elsewhere, and copied into the identity's folder.
    Given(PrivateKey, PublicKey),
    /// It stays elsewhere; the folder gets no key, but says where it is when that is known.
    Elsewhere(PublicKey, Option<KeyUri>),
}

impl KeySource {
    /// Where a key that stays elsewhere is, when that is known.
    pub fn uri(&self) -> Option<&KeyUri> {
        match self {
            Self::Elsewhere(_, uri) => uri.as_ref(),
            Self::New(_) | Self::Given(..) => None,
        }
    }

    /// The public key, when it is known before the key is made.
    fn public(&self) -> Option<&PublicKey> {
        match self {
            Self::New(_) => None,
            Self::Given(_, public) | Self::Elsewhere(public, _) => Some(public),
        }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// Whether an earlier, broken run was finished.
    pub finished: bool,
}

impl DeviceIssue<'_> {
    /// Issues one identity.
    ///
    /// # Errors
    /// `ledger.live` when the device has one; what the parts say.
    pub fn run(&self, request: &Request<'_>) -> Result<Issued, IssueError> {
        let now = self.clock.now();
        let window = request.issuer.window(now)?;
        if let Some(template) = request.template {
            fit::fits(template, &request.subject)?;
        }
        for name in &request.alternative_names {
            draft::check_alternative_name(name)?;
        }
        let said = said(request, (now, window))?;
        let run = self.ledger.begin_run(now)?;
        let kept = self.kept_key(request)?;
        let algorithm = match (&kept, &request.key) {
            (Some(public), _) => public.algorithm(),
            (None, KeySource::New(algorithm)) => *algorithm,
            (None, KeySource::Given(_, public) | KeySource::Elsewhere(public, _)) => {
                public.algorithm()
            }
        };
        request.extras.check(algorithm)?;
        let intent = self.intent(request, algorithm, &said)?;
        if let Some(certificate) = self.claim(request, &*run, &intent)? {
            return Ok(Issued {
                certificate,
                finished: true,
            });
        }
        let certificate = self.sealed(request, said, (kept, &intent))?;
        self.save(request, &certificate)?;
        self.confirm(intent.key, &certificate)?;
        Ok(Issued {
            certificate,
            finished: false,
        })
    }

    /// Writes the intent down. What a killed run left is settled first: a saved certificate is
    /// confirmed, and returned if it is what this run is to make; an intent without one given up.
    fn claim(
        &self,
        request: &Request<'_>,
        run: &dyn Run,
        intent: &Intent,
    ) -> Result<Option<Certificate>, IssueError> {
        loop {
            let claims = self
                .ledger
                .claim(run, std::slice::from_ref(intent), self.clock.now())?;
            match claims.into_iter().next() {
                Some(Claim::Claimed) => return Ok(None),
                Some(Claim::Live(record)) => {
                    return Err(IssueError::Ledger(LedgerError::Live {
                        device: record.device,
                        purpose: record.purpose,
                    }));
                }
                Some(Claim::Leftover(record)) => {
                    let folder = record.folder.clone().unwrap_or_default();
                    let leaf = self.saved(request, &folder);
                    if let Some(leaf) = leaf.filter(|leaf| belongs(&record, leaf)) {
                        self.confirm(record.key(), &leaf)?;
                        let asked = request.key.public();
                        let ours = asked.is_none_or(|key| key.bits() == leaf.public_key.bits());
                        if ours && record.flaw == intent.flaw {
                            return Ok(Some(leaf));
                        }
                    } else {
                        self.ledger.abandon(&[record.key()], self.clock.now())?;
                    }
                }
                Some(Claim::Busy) | None => {
                    return Err(IssueError::Ledger(LedgerError::Busy(
                        request.device.clone(),
                    )));
                }
            }
        }
    }

    /// Claims the key's file, drafts, signs and seals.
    fn sealed(
        &self,
        request: &Request<'_>,
        said: Said,
        (kept, intent): (Option<PublicKey>, &Intent),
    ) -> Result<Certificate, IssueError> {
        let undo = || {
            // Nothing was signed, so the device is free again. Should this fail, the next run
            // finds the leftover of a dead one.
            let key = std::slice::from_ref(&intent.key);
            let _ = self.ledger.abandon(key, self.clock.now());
        };
        let public = self.claim_key(request, kept).inspect_err(|_| undo())?;
        let mut serial = [0; 16];
        serial.copy_from_slice(&intent.key.serial);
        let spec = DraftSpec {
            subject: said.subject,
            serial,
            validity: said.validity,
            public_key: &public,
            purpose: request.purpose,
            alternative_names: said.alternative_names,
            extras: request.extras.clone(),
        };
        if let Some(flaw) = request.flaw {
            return device_flaw::sign(self, flaw, (&spec, &request.issuer));
        }
        let view = request.issuer.view();
        let draft = view
            .map_err(IssueError::from)
            .and_then(|view| Ok(Draft::new(&spec, &view)?))
            .inspect_err(|_| undo())?;
        let signature = request.issuer.signer.sign(draft.tbs())?;
        Ok(draft.seal(&signature)?)
    }

    fn intent(
        &self,
        request: &Request<'_>,
        algorithm: KeyAlgorithm,
        said: &Said,
    ) -> Result<Intent, IssueError> {
        let mut serial = [0; 16];
        self.entropy.fill(&mut serial);
        Ok(Intent {
            key: SerialKey {
                issuer: request.issuer.certificate()?.id().clone(),
                serial: positive(serial).to_vec(),
            },
            device: request.device.clone(),
            purpose: IdentityPurpose::Operational,
            subject: said.subject.to_string(),
            validity: said.validity,
            key_algorithm: algorithm.to_string(),
            folder: Some(request.folder.clone()),
            batch: None,
            replaces: request.replaces.clone(),
            flaw: request.flaw.map(|flaw| flaw.word().to_owned()),
        })
    }

    /// What a killed run saved whole: with its key, or for the key that stays elsewhere.
    fn saved(&self, request: &Request<'_>, folder: &Path) -> Option<Certificate> {
        match &request.key {
            KeySource::Elsewhere(public, _) => certificates(self.files, folder)
                .filter(|leaf| leaf.public_key.bits() == public.bits()),
            KeySource::New(_) | KeySource::Given(..) => saved(self.files, self.keygen, folder),
        }
    }

    /// The key in the folder, when an earlier run left one; it must be the one that is given.
    fn kept_key(&self, request: &Request<'_>) -> Result<Option<PublicKey>, IssueError> {
        let path = request.folder.join(bundle::KEY);
        if !self.files.exists(&path) {
            return Ok(None);
        }
        let foreign = || IssueError::Claim(FileError::Exists(path.clone()));
        let kept = self.read_key(&path, &request.key)?;
        match &request.key {
            KeySource::Elsewhere(..) => Err(foreign()),
            KeySource::Given(_, public) if public.bits() != kept.bits() => Err(foreign()),
            KeySource::New(_) | KeySource::Given(..) => Ok(Some(kept)),
        }
    }

    /// The key in the folder when an earlier run left one without a certificate; else it is put
    /// there, made or given, unless it stays elsewhere.
    fn claim_key(
        &self,
        request: &Request<'_>,
        kept: Option<PublicKey>,
    ) -> Result<PublicKey, IssueError> {
        let certificate = request.folder.join(bundle::CERTIFICATE);
        if self.files.exists(&certificate) {
            return Err(IssueError::Claim(FileError::Exists(certificate)));
        }
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let (key, public) = match &request.key {
            KeySource::New(algorithm) => {
                let made = self.keygen.generate(*algorithm);
                let (key, public) = made.map_err(IssueError::Key)?;
                (Some(key), public)
            }
            KeySource::Given(key, public) => (Some(key.clone()), public.clone()),
            KeySource::Elsewhere(public, _) => (None, public.clone()),
        };
        let files = self.files;
        files
            .create_dir(&request.folder)
            .map_err(IssueError::Claim)?;
        if let Some(key) = key {
            let path = request.folder.join(bundle::KEY);
            files
                .write_new(&path, &key_file(&key).bytes, Secrecy::Private)
                .map_err(IssueError::Claim)?;
        }
        if let KeySource::Elsewhere(_, Some(uri)) = &request.key {
            let path = request.folder.join(bundle::KEY_URI);
            files
                .replace(&path, format!("{uri}\n").as_bytes(), Secrecy::Public)
                .map_err(IssueError::Claim)?;
        }
        Ok(public)
    }

    fn read_key(&self, path: &Path, given: &KeySource) -> Result<PublicKey, IssueError> {
        let text = self
            .files
            .read(path, pem::MAX_BYTES as u64)
            .map_err(IssueError::Read)?;
        let KeyFile::Clear(key) = KeyFile::parse(&text).map_err(IssueError::Key)? else {
            return Err(IssueError::Claim(FileError::Exists(path.to_owned())));
        };
        match given {
            // A flaw's key may be one that nothing here computes with.
            KeySource::Given(same, public) if same.pkcs8() == key.pkcs8() => Ok(public.clone()),
            _ => self.keygen.public_of(&key).map_err(IssueError::Key),
        }
    }

    fn save(&self, request: &Request<'_>, leaf: &Certificate) -> Result<(), IssueError> {
        for file in request.issuer.text().public_files(leaf) {
            let path = request.folder.join(file.name);
            // The leaf comes last and replaces nothing; the other two are only copies.
            let written = if file.name == bundle::CERTIFICATE {
                self.files.write_new(&path, &file.bytes, file.secrecy)
            } else {
                self.files.replace(&path, &file.bytes, file.secrecy)
            };
            written.map_err(IssueError::Save)?;
        }
        Ok(())
    }

    fn confirm(&self, key: SerialKey, leaf: &Certificate) -> Result<(), IssueError> {
        let confirmation = Confirmation {
            key,
            id: leaf.id().clone(),
            der: leaf.der().to_vec(),
        };
        self.ledger
            .confirm(&[confirmation], self.clock.now())
            .map_err(IssueError::Confirm)
    }
}

/// Subject, names and window as they are asked for, or as the flaw has them. What is over already is
/// refused, unless that is the flaw.
fn said(request: &Request<'_>, (now, ca): (UtcTime, Validity)) -> Result<Said, IssueError> {
    let validity = request.lifetime.resolve(now, Some(&ca))?;
    if validity.not_after < now && request.flaw != Some(Flaw::Expired) {
        return Err(LifetimeError::Over(validity.not_after).into());
    }
    let names = (request.subject.clone(), request.alternative_names.clone());
    let ((subject, alternative_names), validity) = match request.flaw {
        None => (names, validity),
        Some(flaw) => (
            flaw.names(names.0, names.1),
            flaw.window(validity, (now, ca)),
        ),
    };
    Ok(Said {
        subject,
        alternative_names,
        validity,
    })
}

/// The leaf in a folder whose key is there and belongs to it.
pub fn saved(files: &dyn Files, keygen: &dyn Keygen, folder: &Path) -> Option<Certificate> {
    let leaf = certificates(files, folder)?;
    let text = files
        .read(&folder.join(bundle::KEY), pem::MAX_BYTES as u64)
        .ok()?;
    let KeyFile::Clear(key) = KeyFile::parse(&text).ok()? else {
        return None;
    };
    let public = keygen.public_of(&key).ok()?;
    (public.bits() == leaf.public_key.bits()).then_some(leaf)
}

/// The leaf in a folder that also holds its chain and its CAs.
fn certificates(files: &dyn Files, folder: &Path) -> Option<Certificate> {
    let path = folder.join(bundle::CERTIFICATE);
    let text = files.read(&path, pem::MAX_BYTES as u64).ok()?;
    let complete = [bundle::CHAIN, bundle::CA_BUNDLE]
        .iter()
        .all(|name| files.exists(&folder.join(name)));
    let leaf = Certificate::all_from_pem(&text).ok()?.into_iter().next()?;
    complete.then_some(leaf)
}

/// Whether `leaf` is the certificate that `record` intended.
pub fn belongs(record: &CertificateRecord, leaf: &Certificate) -> bool {
    let significant =
        |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().skip_while(|b| *b == 0).collect() };
    significant(&record.serial) == significant(&leaf.serial)
        && record.validity == leaf.validity
        && record.subject == leaf.subject.to_string()
}

/// Why there is no new identity, and how far it got.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No place for the key.
    #[error("nothing was signed: the identity has no place to go")]
    Claim(#[source] FileError),
    /// Saved, not confirmed.
    #[error("the certificate was signed and saved but not confirmed; run the same command again")]
    Confirm(#[source] LedgerError),
    /// Not drafted or sealed.
    #[error("the certificate was not made")]
    Draft(#[from] DraftError),
    /// The template would refuse it.
    #[error("nothing was signed: the device would be refused at its first connect")]
    Fit(#[from] FitError),
    /// The CA cannot issue.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The key cannot be used.
    #[error("the device's key cannot be used")]
    Key(#[source] KeyError),
    /// The record failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The window is wrong.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// A file cannot be read.
    #[error(transparent)]
    Read(FileError),
    /// Signed, not saved.
    #[error("the certificate was signed but not saved; its key is kept, run this again")]
    Save(#[source] FileError),
    /// Not signed.
    #[error("the certificate was not signed")]
    Sign(#[from] SignError),
}

impl IssueError {
    fn inner(&self) -> &dyn Explain {
        match self {
            Self::Claim(e) | Self::Read(e) | Self::Save(e) => e,
            Self::Confirm(e) | Self::Ledger(e) => e,
            Self::Draft(e) => e,
            Self::Fit(e) => e,
            Self::Issuer(e) => e,
            Self::Key(e) => e,
            Self::Lifetime(e) => e,
            Self::Sign(e) => e,
        }
    }
}

impl Explain for IssueError {
    fn kind(&self) -> Kind {
        self.inner().kind()
    }
    fn code(&self) -> &'static str {
        self.inner().code()
    }
    fn hint(&self) -> Option<String> {
        self.inner().hint()
    }
}
