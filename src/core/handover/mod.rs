//! The shapes in which an identity is handed over: files of a folder, or a part of a stream.

mod files;
mod stream;

use crate::core::bundle::File;
use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::key::PrivateKey;
use crate::core::time::Validity;
use crate::explain::{Explain, Kind};

/// How identities are handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// A folder of PEM files for each device.
    Dir,
    /// One tar archive with those folders.
    Tar,
    /// The same, compressed: one zstd frame for each block of devices.
    TarZst,
    /// One JSON object a line.
    Ndjson,
    /// A folder for each device with input for ESP-IDF's `nvs_partition_gen.py`.
    EspNvsCsv,
    /// A folder for each device with one PKCS#12 file.
    P12,
    /// A folder for each device with DER files.
    Der,
    /// A folder for each device with one C header.
    CHeader,
}

impl Shape {
    /// Whether all devices go into one file.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tar | Self::TarZst | Self::Ndjson)
    }

    /// Whether a folder of this shape can be read back and shown to be whole.
    pub fn is_folder_of_pem(self) -> bool {
        self == Self::Dir
    }
}

/// What all devices of one CA have in common.
#[derive(Clone, Debug)]
pub struct Authority {
    below_root: String,
    all: String,
    chain: Vec<Vec<u8>>,
}

/// One device's own part.
#[derive(Clone, Copy)]
pub struct Leaf<'a> {
    /// The device's name.
    pub name: &'a str,
    /// The certificate's id.
    pub id: &'a CertificateId,
    /// The serial number, big-endian.
    pub serial: &'a [u8],
    /// From when to when it is valid.
    pub validity: Validity,
    /// The private key.
    pub key: &'a PrivateKey,
    /// The certificate's DER.
    pub der: &'a [u8],
}

impl Authority {
    /// From the CA that signed and those above it, up to the root when it is known.
    pub fn new(chain: &[Certificate]) -> Self {
        let below_root = chain.iter().filter(|ca| !ca.is_self_issued());
        Self {
            below_root: below_root.map(Certificate::to_pem).collect(),
            all: chain.iter().map(Certificate::to_pem).collect(),
            chain: chain.iter().map(|ca| ca.der().to_vec()).collect(),
        }
    }

    /// The files of one device's folder; a stream's are those of [`Shape::Dir`]. `password`
    /// protects a PKCS#12 file.
    ///
    /// # Errors
    /// `output.p12`.
    pub fn files(
        &self,
        shape: Shape,
        leaf: &Leaf<'_>,
        password: Option<&str>,
    ) -> Result<Vec<File>, HandoverError> {
        match shape {
            Shape::EspNvsCsv => Ok(vec![files::esp_nvs_csv(self, leaf)]),
            Shape::P12 => {
                files::p12(self, leaf, password.unwrap_or_default()).map(|file| vec![file])
            }
            Shape::Der => Ok(files::der(self, leaf)),
            Shape::CHeader => Ok(vec![files::c_header(self, leaf)]),
            Shape::Dir | Shape::Tar | Shape::TarZst | Shape::Ndjson => Ok(files::pem(self, leaf)),
        }
    }

    /// Puts one device at the end of a block of a stream.
    pub fn append(&self, shape: Shape, leaf: &Leaf<'_>, block: &mut Vec<u8>) {
        if shape == Shape::Ndjson {
            stream::ndjson(self, leaf, block);
        } else {
            stream::tar(self, leaf, block);
        }
    }
}

/// Room for one device in a block, so that keys are not left behind where a buffer grew.
pub const STREAM_BYTES: usize = 8 << 10;

/// A block as it goes into the stream.
///
/// # Errors
/// `output.zstd`.
pub fn framed(
    shape: Shape,
    block: zeroize::Zeroizing<Vec<u8>>,
) -> Result<zeroize::Zeroizing<Vec<u8>>, HandoverError> {
    if shape != Shape::TarZst {
        return Ok(block);
    }
    let frame = zstd::bulk::compress(&block, 1).map_err(|e| HandoverError::Zstd(e.to_string()))?;
    Ok(frame.into())
}

/// What ends a stream: after it, nothing but the next block in its place may follow.
///
/// # Errors
/// `output.zstd`.
pub fn ending(shape: Shape) -> Result<zeroize::Zeroizing<Vec<u8>>, HandoverError> {
    let zeros = match shape {
        Shape::Tar | Shape::TarZst => vec![0; 1_024],
        _ => return Ok(Vec::new().into()),
    };
    framed(shape, zeros.into())
}

/// An identity that does not take this shape.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// PKCS#12.
    #[error("the PKCS#12 file of `{name}` was not made: {why}")]
    P12 {
        /// The device.
        name: String,
        /// What the encoder says.
        why: String,
    },
    /// zstd.
    #[error("a block was not compressed: {0}")]
    Zstd(String),
}

impl Explain for HandoverError {
    fn kind(&self) -> Kind {
        match self {
            Self::P12 { .. } => Kind::Input,
            Self::Zstd(_) => Kind::Bug,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::P12 { .. } => "output.p12",
            Self::Zstd(_) => "output.zstd",
        }
    }
}
