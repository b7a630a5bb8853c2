//! Keys that are made, and keys that sign.

use crate::core::key::{KeyAlgorithm, KeyError, PrivateKey, PublicKey};
use crate::explain::{Explain, Kind};

/// Makes key pairs and reads them.
pub trait Keygen {
    /// A fresh key pair: P-256 or P-384.
    ///
    /// # Errors
    /// `key.format` for another algorithm.
    fn generate(&self, algorithm: KeyAlgorithm) -> Result<(PrivateKey, PublicKey), KeyError>;

    /// The public half of a private key, computed from it.
    ///
    /// # Errors
    /// `key.format` when the key cannot be used here.
    fn public_of(&self, key: &PrivateKey) -> Result<PublicKey, KeyError>;

    /// What [`Signer::sign`] of this key gives.
    ///
    /// # Errors
    /// `signer.failed`, also for a key that cannot be used here.
    fn sign_with(&self, key: &PrivateKey, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Signs to-be-signed bytes with one key. Where the key lives is the signer's matter.
pub trait Signer: Sync {
    /// The public half.
    fn public(&self) -> &PublicKey;

    /// The signature, in the form X.509 carries: ECDSA as DER, RSA PKCS#1 v1.5. The hash goes with
    /// the key: P-256 and RSA with SHA-256, P-384 with SHA-384.
    ///
    /// # Errors
    /// `signer.failed`, `signer.unavailable`.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A signature that was not made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key refused.
    #[error("the key would not sign: {0}")]
    Failed(String),
    /// The signer could not be reached.
    #[error("the signer did not answer: {0}")]
    Unavailable(String),
}

impl Explain for SignError {
    fn kind(&self) -> Kind {
        match self {
            Self::Failed(_) => Kind::Input,
            Self::Unavailable(_) => Kind::Unavailable,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Failed(_) => "signer.failed",
            Self::Unavailable(_) => "signer.unavailable",
        }
    }
}
