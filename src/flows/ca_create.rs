//! `ca create`: claim the key file → draft → sign → seal → save → ledger. A run that was killed
//! leaves a key, and the next one goes on with it.

use std::path::{Path, PathBuf};

use crate::core::bundle::Secrecy;
use crate::core::cert::{CertError, Certificate};
use crate::core::draft::{Draft, DraftError, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::flaw::{self, CaFlaw};
use crate::core::key::{KeyAlgorithm, KeyError, KeyFile, PrivateKey};
use crate::core::key_uri::{KeyUri, KeyUriError};
use crate::core::lifetime::{Lifetime, LifetimeError};
use crate::core::pem;
use crate::core::record::{AuthorityRecord, Origin};
use crate::core::subject::Subject;
use crate::explain::{Explain, Kind};
use crate::flows::issuer::{Issuer, IssuerError};
use crate::ports::ledger::{Ledger, LedgerError};
use crate::ports::{Clock, Entropy, FileError, Files, Keygen, SignError, Signer};

/// The CA's private key.
pub const KEY: &str = "key.pem";
/// Where the CA's private key is, when it is not in this folder: one line, a key URI.
pub const KEY_URI: &str = "ca.key.uri";
/// The CA's certificate.
pub const CERTIFICATE: &str = "cert.pem";
/// The CA's certificate and those above it, up to the root.
pub const CHAIN: &str = "chain.pem";

/// In the folder of a CA that is wrong on purpose: one line, the flaw.
pub const FLAW: &str = "FLAWED";

/// The most bytes of a `ca.key.uri`.
const MAX_KEY_URI: u64 = 4096;

/// Turns a private key into a signer.
pub type SignerOf<'a> = &'a dyn Fn(&PrivateKey) -> Result<Box<dyn Signer>, KeyError>;

/// A CA key in a token or a key service.
#[derive(Clone, Copy)]
pub struct Elsewhere<'a> {
    /// Where.
    pub uri: &'a KeyUri,
    /// Opened.
    pub signer: &'a dyn Signer,
}

/// What the flow may use.
pub struct CaCreate<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// Serial numbers, salts.
    pub entropy: &'a dyn Entropy,
    /// The disk.
    pub files: &'a dyn Files,
    /// Makes the key.
    pub keygen: &'a dyn Keygen,
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// Turns a private key into a signer, for a root that signs itself.
    pub signer_of: SignerOf<'a>,
}

/// What is asked.
pub struct Request<'a> {
    /// The CA's name.
    pub name: &'a str,
    /// Its folder.
    pub folder: PathBuf,
    /// Its subject.
    pub subject: Subject,
    /// Its window.
    pub lifetime: Lifetime,
    /// Its path length.
    pub path_len: Option<u8>,
    /// P-256 or P-384, for a key made here.
    pub algorithm: KeyAlgorithm,
    /// The key, when it is not made here.
    pub elsewhere: Option<Elsewhere<'a>>,
    /// Encrypts the key at rest; `None` leaves it in the clear.
    pub passphrase: Option<&'a [u8]>,
    /// The CA above; `None` makes a root.
    pub parent: Option<Issuer<'a>>,
    /// What is to be wrong on purpose.
    pub flaw: Option<CaFlaw>,
}

/// What was made.
pub struct Created {
    /// The CA's record.
    pub authority: AuthorityRecord,
    /// Whether an earlier, broken run was finished.
    pub finished: bool,
}

impl CaCreate<'_> {
    /// Makes one CA.
    ///
    /// # Errors
    /// `ca.exists`, and what the parts say.
    pub fn run(&self, request: &Request<'_>) -> Result<Created, CaCreateError> {
        let _held = self.ledger.hold()?;
        let now = self.clock.now();
        let taken = self.ledger.authorities()?;
        if taken.iter().any(|ca| ca.name == request.name) {
            return Err(CaCreateError::Exists(request.name.to_owned()));
        }
        let certificate_path = request.folder.join(CERTIFICATE);
        let finished = [KEY, KEY_URI]
            .iter()
            .any(|name| self.files.exists(&request.folder.join(name)));
        if self.files.exists(&certificate_path) {
            let certificate = self.saved_earlier(request, &certificate_path)?;
            let authority = self.write_down(request, certificate)?;
            return Ok(Created {
                authority,
                finished,
            });
        }
        // Everything that can be refused is refused before the key is made.
        may_stand_below(request)?;
        let ca_window = request
            .parent
            .as_ref()
            .map(|ca| ca.window(now))
            .transpose()?;
        let asked = request.lifetime.resolve(now, ca_window.as_ref())?;
        let wrong = |flaw: CaFlaw| flaw.window(asked, (now, ca_window));
        let validity = request.flaw.map_or(asked, wrong);
        let key = self.claim_key(request)?;
        self.mark(request)?;
        let (certificate, chain) = self.sign(request, key.signer(), validity)?;
        self.save(request, &certificate, &chain)?;
        let authority = self.write_down(request, certificate)?;
        Ok(Created {
            authority,
            finished,
        })
    }

    /// The leaf of the chain last, so that a folder that holds it holds everything.
    fn save(
        &self,
        request: &Request<'_>,
        certificate: &Certificate,
        chain: &[Certificate],
    ) -> Result<(), CaCreateError> {
        let text: String = chain.iter().map(Certificate::to_pem).collect();
        self.files
            .replace(
                &request.folder.join(CHAIN),
                text.as_bytes(),
                Secrecy::Public,
            )
            .map_err(CaCreateError::Save)?;
        self.files
            .write_new(
                &request.folder.join(CERTIFICATE),
                certificate.to_pem().as_bytes(),
                Secrecy::Public,
            )
            .map_err(CaCreateError::Save)?;
        Ok(())
    }

    /// The certificate that a run killed just before its last step left, if it is what this run
    /// would make: our key, our subject, our parent.
    fn saved_earlier(
        &self,
        request: &Request<'_>,
        path: &Path,
    ) -> Result<Certificate, CaCreateError> {
        let text = self
            .files
            .read(path, pem::MAX_BYTES as u64)
            .map_err(CaCreateError::Read)?;
        let certificate = Certificate::all_from_pem(&text)
            .map_err(|source| CaCreateError::CertFile {
                path: path.to_owned(),
                source,
            })?
            .swap_remove(0);
        let foreign = || CaCreateError::Foreign(path.to_owned());
        let key = self.held_key(request)?.ok_or_else(foreign)?;
        let issued_by_parent = match &request.parent {
            Some(parent) => certificate.is_signed_by(parent.certificate()?),
            None => certificate.is_self_issued(),
        };
        let same = key.signer().public().bits() == certificate.public_key.bits()
            && certificate.subject == request.subject
            && self.marked(request)? == request.flaw.map(CaFlaw::word).map(str::to_owned);
        (same && (issued_by_parent || request.flaw.is_some()))
            .then_some(certificate)
            .ok_or_else(foreign)
    }

    /// Says in the folder what is wrong with the CA, before it is made: the next run must not take
    /// it for a good one.
    fn mark(&self, request: &Request<'_>) -> Result<(), CaCreateError> {
        let path = request.folder.join(FLAW);
        match (request.flaw, self.files.exists(&path)) {
            (None, false) => Ok(()),
            (None, true) => Err(CaCreateError::Foreign(path)),
            (Some(flaw), _) => self
                .files
                .replace(
                    &path,
                    format!("{}\n", flaw.word()).as_bytes(),
                    Secrecy::Public,
                )
                .map_err(CaCreateError::Claim),
        }
    }

    /// What the folder says is wrong with the CA.
    fn marked(&self, request: &Request<'_>) -> Result<Option<String>, CaCreateError> {
        let path = request.folder.join(FLAW);
        if !self.files.exists(&path) {
            return Ok(None);
        }
        let text = self.files.read(&path, MAX_KEY_URI);
        let text = text.map_err(CaCreateError::Read)?;
        Ok(Some(String::from_utf8_lossy(&text).trim().to_owned()))
    }

    fn write_down(
        &self,
        request: &Request<'_>,
        certificate: Certificate,
    ) -> Result<AuthorityRecord, CaCreateError> {
        let parent = request.parent.as_ref().and_then(|ca| ca.chain.first());
        let authority = AuthorityRecord {
            name: request.name.to_owned(),
            parent: parent.map(|ca| ca.id().clone()),
            certificate,
            folder: request.folder.clone(),
            origin: request.flaw.map_or(Origin::Created, Origin::Flawed),
            created: self.clock.now(),
        };
        self.ledger.add_authority(&authority)?;
        Ok(authority)
    }

    /// The key that is in the folder, or that the folder says where it is.
    fn held_key<'r>(&self, request: &Request<'r>) -> Result<Option<Held<'r>>, CaCreateError> {
        let path = request.folder.join(KEY);
        let uri_path = request.folder.join(KEY_URI);
        match request.elsewhere {
            None if self.files.exists(&uri_path) => Err(CaCreateError::Foreign(uri_path)),
            None if !self.files.exists(&path) => Ok(None),
            None => {
                let key = read_key(self.files, &path, request.passphrase)?;
                let signer = (self.signer_of)(&key).map_err(CaCreateError::Key)?;
                Ok(Some(Held::Here(signer)))
            }
            Some(_) if self.files.exists(&path) => Err(CaCreateError::Foreign(path)),
            Some(_) if !self.files.exists(&uri_path) => Ok(None),
            Some(elsewhere) if read_key_uri(self.files, &uri_path)? == *elsewhere.uri => {
                Ok(Some(Held::Elsewhere(elsewhere.signer)))
            }
            Some(_) => Err(CaCreateError::Foreign(uri_path)),
        }
    }

    fn claim_key<'r>(&self, request: &Request<'r>) -> Result<Held<'r>, CaCreateError> {
        if let Some(held) = self.held_key(request)? {
            return Ok(held);
        }
        self.files
            .create_dir(&request.folder)
            .map_err(CaCreateError::Claim)?;
        if let Some(elsewhere) = request.elsewhere {
            save_key_uri(self.files, &request.folder, elsewhere.uri)?;
            return Ok(Held::Elsewhere(elsewhere.signer));
        }
        let (key, _) = self
            .keygen
            .generate(request.algorithm)
            .map_err(CaCreateError::Key)?;
        let path = request.folder.join(KEY);
        save_key(self.files, self.entropy, (&path, &key), request.passphrase)?;
        let signer = (self.signer_of)(&key).map_err(CaCreateError::Key)?;
        Ok(Held::Here(signer))
    }

    fn sign(
        &self,
        request: &Request<'_>,
        key: &dyn Signer,
        validity: crate::core::time::Validity,
    ) -> Result<(Certificate, Vec<Certificate>), CaCreateError> {
        let mut serial = [0; 16];
        self.entropy.fill(&mut serial);
        let path_len = request.path_len;
        let public = key.public();
        let (purpose, view) = match &request.parent {
            None => (
                Purpose::Root { path_len },
                IssuerView::self_signed(&request.subject, public)?,
            ),
            Some(parent) => (Purpose::Intermediate { path_len }, parent.view()?),
        };
        let draft = Draft::new(
            &DraftSpec {
                subject: request.subject.clone(),
                serial,
                validity,
                public_key: public,
                purpose,
                alternative_names: Vec::new(),
                extras: Extras::default(),
            },
            &view,
        )?;
        let signer = request.parent.as_ref().map_or(key, |parent| parent.signer);
        let certificate = match request.flaw {
            None => {
                let signature = signer.sign(draft.tbs())?;
                draft.seal(&signature)?
            }
            Some(flaw) => {
                let tbs = flaw.spoil(draft.tbs())?;
                let signature = flaw.spoil_signature(signer.sign(&tbs)?);
                flaw::assemble(&tbs, &signature)?
            }
        };
        let above = request.parent.map_or(&[][..], |parent| parent.chain);
        let chain = std::iter::once(certificate.clone())
            .chain(above.iter().cloned())
            .collect();
        Ok((certificate, chain))
    }
}

/// Whether the CA above may have the new one below it; where that is what is to be wrong, that it
/// may not.
fn may_stand_below(request: &Request<'_>) -> Result<(), CaCreateError> {
    let unfit = |why| CaCreateError::Flaw(why);
    let Some(parent) = &request.parent else {
        return match request.flaw {
            Some(flaw) if flaw.needs_parent() => Err(unfit("it needs a CA above: --parent")),
            _ => Ok(()),
        };
    };
    match (parent.may_have_ca_below(), request.flaw) {
        (Ok(()), Some(CaFlaw::PathLength)) => {
            return Err(unfit(
                "the CA above may have one below it, so nothing would be wrong",
            ));
        }
        (Err(_), Some(CaFlaw::PathLength)) | (Ok(()), _) => {}
        (Err(error), _) => return Err(error.into()),
    }
    parent.view()?;
    Ok(())
}

/// A CA's key, ready to sign.
enum Held<'a> {
    Here(Box<dyn Signer>),
    Elsewhere(&'a dyn Signer),
}

impl Held<'_> {
    fn signer(&self) -> &dyn Signer {
        match self {
            Self::Here(signer) => &**signer,
            Self::Elsewhere(signer) => *signer,
        }
    }
}

/// Reads a `ca.key.uri`.
///
/// # Errors
/// `file.*`, `key-uri.*`.
pub fn read_key_uri(files: &dyn Files, path: &Path) -> Result<KeyUri, CaCreateError> {
    let text = files.read(path, MAX_KEY_URI).map_err(CaCreateError::Read)?;
    String::from_utf8_lossy(&text)
        .trim()
        .parse()
        .map_err(|source| CaCreateError::KeyUri {
            path: path.to_owned(),
            source,
        })
}

/// Writes down where a CA's key is.
///
/// # Errors
/// `file.*`.
pub fn save_key_uri(files: &dyn Files, folder: &Path, uri: &KeyUri) -> Result<(), CaCreateError> {
    files
        .write_new(
            &folder.join(KEY_URI),
            format!("{uri}\n").as_bytes(),
            Secrecy::Public,
        )
        .map_err(CaCreateError::Claim)
}

/// Reads a private key file, with its passphrase if it is encrypted.
///
/// # Errors
/// `ca.passphrase-missing`, `key.*`, `file.*`.
pub fn read_key(
    files: &dyn Files,
    path: &Path,
    passphrase: Option<&[u8]>,
) -> Result<PrivateKey, CaCreateError> {
    let text = files
        .read(path, pem::MAX_BYTES as u64)
        .map_err(CaCreateError::Read)?;
    let at = |source| CaCreateError::KeyFile {
        path: path.to_owned(),
        source,
    };
    match (KeyFile::parse(&text).map_err(at)?, passphrase) {
        (KeyFile::Clear(key), _) => Ok(key),
        (KeyFile::Encrypted(der), Some(passphrase)) => {
            PrivateKey::decrypt(&der, passphrase).map_err(at)
        }
        (KeyFile::Encrypted(_), None) => Err(CaCreateError::PassphraseMissing(path.to_owned())),
    }
}

/// Writes a private key, encrypted when there is a passphrase.
///
/// # Errors
/// `file.*`, `key.encrypt`.
pub fn save_key(
    files: &dyn Files,
    entropy: &dyn Entropy,
    (path, key): (&Path, &PrivateKey),
    passphrase: Option<&[u8]>,
) -> Result<(), CaCreateError> {
    let text = match passphrase {
        None => key.to_pem(),
        Some(passphrase) => {
            let (mut salt, mut iv) = ([0; 16], [0; 16]);
            entropy.fill(&mut salt);
            entropy.fill(&mut iv);
            let pem = key
                .to_encrypted_pem(passphrase, salt, iv)
                .map_err(CaCreateError::Key)?;
            zeroize::Zeroizing::new(pem)
        }
    };
    files
        .write_new(path, text.as_bytes(), Secrecy::Private)
        .map_err(CaCreateError::Claim)
}

/// Why there is no new CA, and how far it got.
#[derive(Debug, thiserror::Error)]
pub enum CaCreateError {
    /// A certificate that cannot be read.
    #[error("`{path}` cannot be used")]
    CertFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertError,
    },
    /// No place for the key.
    #[error("nothing was signed: the CA's key has no place to go")]
    Claim(#[source] FileError),
    /// Not drafted or sealed.
    #[error("the CA's certificate was not made")]
    Draft(#[from] DraftError),
    /// The same certificate has a name here.
    #[error("this CA is in the project already, as `{0}`")]
    Known(String),
    /// The name is taken.
    #[error("the CA `{0}` already exists")]
    Exists(String),
    /// A certificate is where ours would go, and the ledger does not know it.
    #[error("`{0}` is there already, but the ledger does not know it")]
    Foreign(PathBuf),
    /// This flaw cannot be had so.
    #[error("the flaw cannot be made: {0}")]
    Flaw(&'static str),
    /// The CA above cannot issue.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The key cannot be used.
    #[error("the CA's key cannot be used")]
    Key(#[source] KeyError),
    /// A key file cannot be used.
    #[error("the key in `{path}` cannot be used")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A file that should say where the key is.
    #[error("`{path}` does not say where the CA's key is")]
    KeyUri {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyUriError,
    },
    /// The record failed.
    #[error("the CA was not written down")]
    Ledger(#[from] LedgerError),
    /// The window is wrong.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// Encrypted, and no passphrase.
    #[error("the key in `{0}` is encrypted, and no passphrase was given")]
    PassphraseMissing(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    Read(FileError),
    /// Signed, not saved.
    #[error("the CA's certificate was signed but not saved; its key is kept, run this again")]
    Save(#[source] FileError),
    /// Not signed.
    #[error("the CA's certificate was not signed")]
    Sign(#[from] SignError),
}

impl CaCreateError {
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::CertFile { source, .. } => source,
            Self::Claim(e) | Self::Read(e) | Self::Save(e) => e,
            Self::Draft(e) => e,
            Self::Issuer(e) => e,
            Self::Key(e) => e,
            Self::KeyFile { source, .. } => source,
            Self::KeyUri { source, .. } => source,
            Self::Ledger(e) => e,
            Self::Lifetime(e) => e,
            Self::Sign(e) => e,
            Self::Exists(_)
            | Self::Flaw(_)
            | Self::Foreign(_)
            | Self::Known(_)
            | Self::PassphraseMissing(_) => return None,
        })
    }
}

impl Explain for CaCreateError {
    fn kind(&self) -> Kind {
        match self {
            Self::PassphraseMissing(_) | Self::Flaw(_) => Kind::Input,
            other => other.inner().map_or(Kind::Refused, Explain::kind),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Exists(_) | Self::Known(_) => "ca.exists",
            Self::Flaw(_) => "ca.flaw",
            Self::Foreign(_) => "ca.foreign",
            Self::PassphraseMissing(_) => "ca.passphrase-missing",
            other => other.inner().map_or("ca.create", Explain::code),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(name) => Some(format!(
                "see it with `nameplate ca show {name}`, or choose another name"
            )),
            Self::Known(name) => Some(format!("use it by that name: --ca {name}")),
            Self::Foreign(_) => {
                Some("take it in with `nameplate ca import NAME --cert FILE --key FILE`".into())
            }
            Self::PassphraseMissing(_) => Some(PASSPHRASE_HINT.into()),
            Self::KeyFile {
                source: KeyError::Passphrase,
                ..
            } => Some(
                "give the passphrase this key was encrypted with: --passphrase-file FILE, or \
                 --parent-passphrase-file and --key-passphrase-file for a key with one of its own"
                    .into(),
            ),
            other => other.inner().and_then(Explain::hint),
        }
    }
}

/// Every way to give a passphrase.
pub const PASSPHRASE_HINT: &str = "give --passphrase-file FILE or --passphrase-fd N, set \
     NAMEPLATE_PASSPHRASE_FILE, or set issue.passphrase_file in nameplate.toml";
