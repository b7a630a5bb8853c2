//! `ca import`: read → check that key, certificate and chain belong together → save → ledger.

use std::path::PathBuf;

use crate::core::bundle::Secrecy;
use crate::core::cert::Certificate;
use crate::core::key::PrivateKey;
use crate::core::key_uri::KeyUri;
use crate::core::pem;
use crate::core::record::{AuthorityRecord, Origin};
use crate::flows::ca_create::{
    CERTIFICATE, CHAIN, CaCreateError, Elsewhere, KEY, KEY_URI, SignerOf, read_key, read_key_uri,
    save_key, save_key_uri,
};
use crate::flows::issuer::{Issuer, IssuerError};
use crate::ports::ledger::Ledger;
use crate::ports::{Clock, Entropy, Files, Signer};

/// What the flow may use.
pub struct CaImport<'a> {
    /// The time.
    pub clock: &'a dyn Clock,
    /// Salts.
    pub entropy: &'a dyn Entropy,
    /// The disk.
    pub files: &'a dyn Files,
    /// The record.
    pub ledger: &'a dyn Ledger,
    /// Turns a private key into a signer.
    pub signer_of: SignerOf<'a>,
}

/// What is asked.
pub struct Request<'a> {
    /// The CA's name in this project.
    pub name: &'a str,
    /// Its folder here.
    pub folder: PathBuf,
    /// Its certificate, PEM or DER; what follows it in the file is its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: KeySource<'a>,
    /// The CAs above it, PEM.
    pub chain: Option<PathBuf>,
    /// Opens the key that is brought.
    pub key_passphrase: Option<&'a [u8]>,
    /// Encrypts the copy; `None` leaves it in the clear.
    pub passphrase: Option<&'a [u8]>,
}

/// Where the key of a CA from outside is.
#[derive(Clone)]
pub enum KeySource<'a> {
    /// In this file, PEM; it is copied.
    File(PathBuf),
    /// In a token or a key service; it stays there.
    Elsewhere(Elsewhere<'a>),
}

/// The key, opened.
enum Brought<'a> {
    Here(PrivateKey, Box<dyn Signer>),
    Elsewhere(Elsewhere<'a>),
}

impl Brought<'_> {
    fn signer(&self) -> &dyn Signer {
        match self {
            Self::Here(_, signer) => &**signer,
            Self::Elsewhere(elsewhere) => elsewhere.signer,
        }
    }
}

impl CaImport<'_> {
    /// Takes one CA in.
    ///
    /// # Errors
    /// `ca.*`, `key.*`, `cert.*`, `file.*`.
    pub fn run(&self, request: &Request<'_>) -> Result<AuthorityRecord, CaCreateError> {
        let _held = self.ledger.hold()?;
        let known = self.ledger.authorities()?;
        if known.iter().any(|ca| ca.name == request.name) {
            return Err(CaCreateError::Exists(request.name.to_owned()));
        }
        let chain = self.chain(request)?;
        let key = self.open(request)?;
        let issuer = Issuer {
            name: request.name,
            chain: &chain,
            signer: key.signer(),
            flawed: false,
        };
        issuer.view()?;
        let own = issuer.certificate()?;
        if let Some(same) = known.iter().find(|ca| ca.certificate.id() == own.id()) {
            return Err(CaCreateError::Known(same.name.clone()));
        }
        issuer.window(self.clock.now())?;
        self.save(request, &key, &chain)?;
        let authority = AuthorityRecord {
            name: request.name.to_owned(),
            parent: chain.get(1).map(|ca| ca.id().clone()),
            certificate: chain[0].clone(),
            folder: request.folder.clone(),
            origin: Origin::Imported,
            created: self.clock.now(),
        };
        self.ledger.add_authority(&authority)?;
        Ok(authority)
    }

    fn open<'r>(&self, request: &Request<'r>) -> Result<Brought<'r>, CaCreateError> {
        match &request.key {
            KeySource::Elsewhere(elsewhere) => Ok(Brought::Elsewhere(*elsewhere)),
            KeySource::File(path) => {
                let key = read_key(self.files, path, request.key_passphrase)?;
                let signer = (self.signer_of)(&key).map_err(CaCreateError::Key)?;
                Ok(Brought::Here(key, signer))
            }
        }
    }

    fn save(
        &self,
        request: &Request<'_>,
        key: &Brought<'_>,
        chain: &[Certificate],
    ) -> Result<(), CaCreateError> {
        self.files
            .create_dir(&request.folder)
            .map_err(CaCreateError::Claim)?;
        match key {
            Brought::Here(key, _) => self.save_key(request, key, &chain[0])?,
            Brought::Elsewhere(elsewhere) => self.save_uri(request, elsewhere.uri)?,
        }
        let text = |all: &[Certificate]| all.iter().map(Certificate::to_pem).collect::<String>();
        for (name, text) in [(CHAIN, text(chain)), (CERTIFICATE, text(&chain[..1]))] {
            self.files
                .replace(&request.folder.join(name), text.as_bytes(), Secrecy::Public)
                .map_err(CaCreateError::Save)?;
        }
        Ok(())
    }

    fn save_key(
        &self,
        request: &Request<'_>,
        key: &PrivateKey,
        own: &Certificate,
    ) -> Result<(), CaCreateError> {
        let uri_path = request.folder.join(KEY_URI);
        if self.files.exists(&uri_path) {
            return Err(CaCreateError::Foreign(uri_path));
        }
        let path = request.folder.join(KEY);
        if !self.files.exists(&path) {
            return save_key(self.files, self.entropy, (&path, key), request.passphrase);
        }
        // Left by a run that was killed: fine if it is the same key, else another's.
        let left = read_key(self.files, &path, request.passphrase)?;
        let left = (self.signer_of)(&left).map_err(CaCreateError::Key)?;
        if left.public().bits() == own.public_key.bits() {
            Ok(())
        } else {
            Err(CaCreateError::Foreign(path))
        }
    }

    fn save_uri(&self, request: &Request<'_>, uri: &KeyUri) -> Result<(), CaCreateError> {
        let key_path = request.folder.join(KEY);
        if self.files.exists(&key_path) {
            return Err(CaCreateError::Foreign(key_path));
        }
        let path = request.folder.join(KEY_URI);
        if !self.files.exists(&path) {
            return save_key_uri(self.files, &request.folder, uri);
        }
        if read_key_uri(self.files, &path)? == *uri {
            Ok(())
        } else {
            Err(CaCreateError::Foreign(path))
        }
    }

    /// The CA and those above it, in order, each signed by the next.
    fn chain(&self, request: &Request<'_>) -> Result<Vec<Certificate>, CaCreateError> {
        let mut given = Vec::new();
        for path in std::iter::once(&request.certificate).chain(&request.chain) {
            let text = self
                .files
                .read(path, pem::MAX_BYTES as u64)
                .map_err(CaCreateError::Read)?;
            let all =
                Certificate::all_from_pem(&text).map_err(|source| CaCreateError::CertFile {
                    path: path.clone(),
                    source,
                })?;
            given.extend(all);
        }
        let mut chain = vec![given.remove(0)];
        while let Some(next) = chain
            .last()
            .filter(|last| !last.is_self_issued())
            .and_then(|last| given.iter().position(|ca| last.is_signed_by(ca)))
        {
            chain.push(given.remove(next));
        }
        if chain[0].is_self_issued() && !chain[0].is_signed_by(&chain[0]) {
            return Err(CaCreateError::Issuer(IssuerError::KeyMismatch(
                request.name.to_owned(),
            )));
        }
        Ok(chain)
    }
}
