//! A device's identity, read from its files.

use std::path::{Path, PathBuf};

use crate::core::bundle;
use crate::core::cert::{CertError, Certificate};
use crate::core::key::{KeyError, KeyFile, PrivateKey};
use crate::core::pem;
use crate::explain::{Explain, Kind};
use crate::flows::enrol::Provisioning;
use crate::ports::{FileError, Files, Identity};

/// Where the parts of an identity are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paths {
    /// The private key.
    pub key: PathBuf,
    /// The leaf certificate.
    pub certificate: PathBuf,
    /// Leaf, then its issuers; or only the issuers.
    pub chain: Option<PathBuf>,
    /// The CA bundle that verifies the leaf.
    pub ca: Option<PathBuf>,
}

impl Paths {
    /// The files of an identity folder, as [`bundle`] names them.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            key: folder.join(bundle::KEY),
            certificate: folder.join(bundle::CERTIFICATE),
            chain: Some(folder.join(bundle::CHAIN)),
            ca: Some(folder.join(bundle::CA_BUNDLE)),
        }
    }
}

/// The certificates of a PEM file.
///
/// # Errors
/// `file.*`, `pem.*`, `cert.*`, each with the path.
pub fn certificates(files: &dyn Files, path: &Path) -> Result<Vec<Certificate>, IdentityError> {
    let text = files.read(path, pem::MAX_BYTES as u64)?;
    Certificate::all_from_pem(&text).map_err(|source| IdentityError::Certificate {
        path: path.to_owned(),
        source,
    })
}

/// The private key of a file, in the clear.
///
/// # Errors
/// `file.*`, `key.*`, `identity.key-encrypted`.
pub fn key(files: &dyn Files, path: &Path) -> Result<PrivateKey, IdentityError> {
    let text = files.read(path, pem::MAX_BYTES as u64)?;
    match KeyFile::parse(&text) {
        Ok(KeyFile::Clear(key)) => Ok(key),
        Ok(KeyFile::Encrypted(_)) => Err(IdentityError::Encrypted(path.to_owned())),
        Err(source) => Err(IdentityError::Key {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The key in the clear, and the chain as it is presented in TLS: leaf first, then its issuers.
///
/// # Errors
/// `file.*`, `cert.*`, `key.*`, `identity.key-encrypted`.
pub fn load(files: &dyn Files, paths: &Paths) -> Result<Identity, IdentityError> {
    let key = key(files, &paths.key)?;
    let certificate = certificates(files, &paths.certificate)?;
    let chain = paths.chain.as_deref().filter(|path| files.exists(path));
    let chain = chain.map(|path| certificates(files, path)).transpose()?;
    Ok(Identity {
        chain: presented(certificate, chain),
        key,
    })
}

/// As TLS presents them: the leaf, then its issuers, from a chain that begins with either.
pub fn presented(
    certificate: Vec<Certificate>,
    chain: Option<Vec<Certificate>>,
) -> Vec<Certificate> {
    let mut presented = certificate;
    if let Some(issuers) = chain {
        presented.truncate(1);
        let leaf_first =
            issuers.first().map(Certificate::id) == presented.first().map(Certificate::id);
        presented.extend(issuers.into_iter().skip(usize::from(leaf_first)));
    }
    presented
}

/// The client id under which a provisioned identity has connected, or its thing's name, where
/// `provision` left it beside the certificate.
pub fn client_id_of(files: &dyn Files, paths: &Paths) -> Option<String> {
    let folder = paths.certificate.parent()?;
    let kept = Provisioning::read(files, folder);
    kept.client_id.or(kept.thing_name)
}

/// An identity that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not certificates.
    #[error("`{path}` does not hold a usable certificate")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertError,
    },
    /// A device cannot type a passphrase.
    #[error("`{0}` is encrypted, and a device has nobody to type its passphrase")]
    Encrypted(PathBuf),
    /// Not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a key.
    #[error("`{path}` does not hold a usable private key")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
}

impl Explain for IdentityError {
    fn kind(&self) -> Kind {
        match self {
            Self::File(error) => error.kind(),
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Certificate { source, .. } => source.code(),
            Self::Encrypted(_) => "identity.key-encrypted",
            Self::File(error) => error.code(),
            Self::Key { source, .. } => source.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Encrypted(path) => Some(format!(
                "decrypt it once, onto the device: openssl pkey -in {} -out device.key.pem",
                path.display()
            )),
            Self::File(error) => error.hint(),
            _ => None,
        }
    }
}
