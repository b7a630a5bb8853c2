//! `device export`: an identity that was issued into a folder, in another shape.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::core::bundle::{self, Secrecy};
use crate::core::cert::{CertError, Certificate};
use crate::core::handover::{Authority, HandoverError, Leaf, Shape, ending, framed};
use crate::core::ids::CertificateId;
use crate::core::key::{KeyError, KeyFile, PrivateKey};
use crate::core::pem;
use crate::core::record::{CertificateRecord, IdentityPurpose};
use crate::explain::{Explain, Kind};
use crate::ports::folders::Folders;
use crate::ports::ledger::{Ledger, LedgerError};
use crate::ports::streams::Streams;
use crate::ports::{FileError, Files};

/// What the flow may use.
pub struct DeviceExport<'a> {
    /// The disk.
    pub files: &'a dyn Files,
    /// Whole folders.
    pub folders: &'a dyn Folders,
    /// Stdout.
    pub streams: &'a dyn Streams,
    /// The record.
    pub ledger: &'a dyn Ledger,
}

/// What is asked.
pub struct Request<'a> {
    /// The device.
    pub device: &'a str,
    /// The shape.
    pub shape: Shape,
    /// A folder that is not there yet, or a file; `-` is stdout, for a stream.
    pub out: &'a Path,
    /// Protects a PKCS#12 file.
    pub password: Option<&'a str>,
}

impl DeviceExport<'_> {
    /// Writes it; the certificate's id.
    ///
    /// # Errors
    /// `export.none`, `export.encrypted`, `file.*`, `ledger.*`, `output.*`.
    pub fn run(&self, request: &Request<'_>) -> Result<CertificateId, ExportError> {
        let record = self.record(request.device)?;
        let folder = record
            .folder
            .clone()
            .ok_or_else(|| ExportError::NoFolder(request.device.to_owned()))?;
        let read = |name| -> Result<Zeroizing<Vec<u8>>, ExportError> {
            Ok(self.files.read(&folder.join(name), pem::MAX_BYTES as u64)?)
        };
        let certificate = Certificate::all_from_pem(&read(bundle::CERTIFICATE)?)?.swap_remove(0);
        let chain = Certificate::all_from_pem(&read(bundle::CA_BUNDLE)?)?;
        if !self.files.exists(&folder.join(bundle::KEY)) {
            return Err(ExportError::NoKey(request.device.to_owned()));
        }
        let key = key_of(&folder, &read(bundle::KEY)?)?;
        let leaf = Leaf {
            name: request.device,
            id: certificate.id(),
            serial: &certificate.serial,
            validity: certificate.validity,
            key: &key,
            der: certificate.der(),
        };
        self.write(request, &Authority::new(&chain), &leaf)?;
        Ok(certificate.id().clone())
    }

    fn record(&self, device: &str) -> Result<CertificateRecord, ExportError> {
        let live = self.ledger.live(&[device], IdentityPurpose::Operational)?;
        live.into_iter()
            .find(|record| record.id.is_some())
            .ok_or_else(|| ExportError::None(device.to_owned()))
    }

    fn write(
        &self,
        request: &Request<'_>,
        authority: &Authority,
        leaf: &Leaf<'_>,
    ) -> Result<(), ExportError> {
        let shape = request.shape;
        if !shape.is_stream() {
            let files = authority.files(shape, leaf, request.password)?;
            self.folders.write(request.out, &files)?;
            return Ok(self.folders.sync(request.out)?);
        }
        let mut block = Zeroizing::new(Vec::new());
        authority.append(shape, leaf, &mut block);
        let mut bytes = framed(shape, block)?;
        bytes.extend_from_slice(&ending(shape)?);
        if request.out == Path::new("-") {
            let stdout = self.streams.stream(request.out, Secrecy::Private)?;
            stdout.append(&bytes)?;
            return Ok(stdout.sync()?);
        }
        Ok(self
            .files
            .write_new(request.out, &bytes, Secrecy::Private)?)
    }
}

fn key_of(folder: &Path, text: &[u8]) -> Result<PrivateKey, ExportError> {
    match KeyFile::parse(text)? {
        KeyFile::Clear(key) => Ok(key),
        KeyFile::Encrypted(_) => Err(ExportError::Encrypted(folder.join(bundle::KEY))),
    }
}

/// Why nothing was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// The key cannot be read.
    #[error("the key `{0}` is encrypted, so it cannot be put into another shape")]
    Encrypted(PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The shape.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Issued into a stream.
    #[error("the identity of `{0}` was issued into a stream, not into a folder")]
    NoFolder(String),
    /// Made on the device, or moved away.
    #[error("the key of device `{0}` is not in its folder, so it cannot be handed over")]
    NoKey(String),
    /// No such identity.
    #[error("device `{0}` has no live identity in the ledger")]
    None(String),
}

impl Explain for ExportError {
    fn kind(&self) -> Kind {
        match self {
            Self::Certificate(e) => e.kind(),
            Self::File(e) => e.kind(),
            Self::Handover(e) => e.kind(),
            Self::Key(e) => e.kind(),
            Self::Ledger(e) => e.kind(),
            Self::Encrypted(_) | Self::NoFolder(_) | Self::NoKey(_) | Self::None(_) => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Certificate(e) => e.code(),
            Self::Encrypted(_) => "export.encrypted",
            Self::File(e) => e.code(),
            Self::Handover(e) => e.code(),
            Self::Key(e) => e.code(),
            Self::Ledger(e) => e.code(),
            Self::NoFolder(_) | Self::None(_) => "export.none",
            Self::NoKey(_) => "export.no-key",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Encrypted(path) => Some(format!(
                "decrypt it first: openssl pkcs8 -in {} -out KEY.pem",
                path.display()
            )),
            Self::File(FileError::Missing(_)) => {
                Some("the folder was moved; its place is in `nameplate device show NAME`".into())
            }
            Self::File(e) => e.hint(),
            Self::Ledger(e) => e.hint(),
            Self::NoKey(_) => Some(
                "a key that was made on the device stays there; else put the folder back".into(),
            ),
            Self::NoFolder(_) => Some("take it out of the batch's own output".into()),
            Self::None(_) => Some("`nameplate device list` shows what is there".into()),
            _ => None,
        }
    }
}
