//! Keys that are not in a file: which adapter opens which URI.

#![cfg_attr(
    not(all(feature = "kms", feature = "pkcs11")),
    allow(
        clippy::unused_self,
        dead_code,
        unreachable_code,
        unused_imports,
        unused_variables,
        reason = "a build without an adapter refuses its keys and needs less of this"
    )
)]

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::core::key::KeyAlgorithm;
use crate::core::key_uri::KeyUri;
use crate::effects::aws::AwsAccess;
#[cfg(feature = "kms")]
use crate::effects::aws::kms::KmsSigner;
use crate::effects::entropy::OsEntropy;
#[cfg(feature = "pkcs11")]
use crate::effects::pkcs11::{Pkcs11Signer, TokenAccess};
use crate::explain::{Failure, Kind};
use crate::flows::ca_create::Elsewhere;
use crate::ports::{Entropy, PassphraseError, Signer};

/// Gets the PIN of the token with this label.
pub(in crate::cli) type AskPin<'a> =
    &'a dyn Fn(&str) -> Result<Option<Zeroizing<Vec<u8>>>, PassphraseError>;

/// What opening such a key may need.
pub(in crate::cli) struct KeyAccess<'a> {
    /// The PKCS#11 module, when the URI names none.
    pub(in crate::cli) module: Option<PathBuf>,
    /// Gets the PIN of the token with this label.
    pub(in crate::cli) pin: AskPin<'a>,
    /// The AWS Region, when the URI names none.
    pub(in crate::cli) region: Option<String>,
    /// The AWS profile.
    pub(in crate::cli) profile: Option<String>,
}

/// A key, and the URI under which it will be found again.
pub(in crate::cli) struct OpenedKey {
    pub(in crate::cli) uri: KeyUri,
    pub(in crate::cli) signer: Box<dyn Signer>,
}

impl OpenedKey {
    /// As flows take it.
    pub(in crate::cli) fn elsewhere(&self) -> Elsewhere<'_> {
        Elsewhere {
            uri: &self.uri,
            signer: &*self.signer,
        }
    }
}

impl KeyAccess<'_> {
    /// Opens a key that is there.
    pub(in crate::cli) fn open(&self, uri: &KeyUri) -> Result<OpenedKey, Failure> {
        match uri {
            #[cfg(feature = "pkcs11")]
            KeyUri::Pkcs11(token) => Ok(OpenedKey {
                uri: uri.clone(),
                signer: Box::new(Pkcs11Signer::open(token, &self.token())?),
            }),
            #[cfg(not(feature = "pkcs11"))]
            KeyUri::Pkcs11(_) => Err(not_built("pkcs11")),
            #[cfg(feature = "kms")]
            KeyUri::AwsKms(kms) => Ok(OpenedKey {
                uri: uri.clone(),
                signer: Box::new(KmsSigner::open(kms, &self.aws())?),
            }),
            #[cfg(not(feature = "kms"))]
            KeyUri::AwsKms(_) => Err(not_built("kms")),
            KeyUri::File(_) => Err(is_file(uri)),
        }
    }

    /// Makes a key.
    pub(in crate::cli) fn generate(
        &self,
        uri: &KeyUri,
        algorithm: KeyAlgorithm,
    ) -> Result<OpenedKey, Failure> {
        match uri {
            #[cfg(feature = "pkcs11")]
            KeyUri::Pkcs11(uri) => {
                let mut id = [0; 8];
                OsEntropy::default().fill(&mut id);
                let (signer, uri) = Pkcs11Signer::generate(uri, algorithm, &id, &self.token())?;
                Ok(OpenedKey {
                    uri: KeyUri::Pkcs11(uri),
                    signer: Box::new(signer),
                })
            }
            #[cfg(not(feature = "pkcs11"))]
            KeyUri::Pkcs11(_) => Err(not_built("pkcs11")),
            #[cfg(feature = "kms")]
            KeyUri::AwsKms(uri) => {
                let (signer, uri) = KmsSigner::generate(uri, algorithm, &self.aws())?;
                Ok(OpenedKey {
                    uri: KeyUri::AwsKms(uri),
                    signer: Box::new(signer),
                })
            }
            #[cfg(not(feature = "kms"))]
            KeyUri::AwsKms(_) => Err(not_built("kms")),
            KeyUri::File(_) => Err(is_file(uri)),
        }
    }

    #[cfg(feature = "pkcs11")]
    fn token(&self) -> TokenAccess<'_> {
        TokenAccess {
            module: self.module.as_deref(),
            pin: self.pin,
        }
    }

    fn aws(&self) -> AwsAccess {
        AwsAccess {
            region: self.region.clone(),
            profile: self.profile.clone(),
            endpoint_url: None,
        }
    }
}

#[cfg_attr(
    all(feature = "kms", feature = "pkcs11"),
    allow(dead_code, reason = "every adapter is in this build")
)]
fn not_built(feature: &str) -> Failure {
    let message = format!("this nameplate was built without `{feature}`");
    Failure::new(Kind::Input, "key-uri.not-built", message)
        .hint(format!("build it with `cargo build --release --features {feature}`; `nameplate version --verbose` lists what is in it"))
}

fn is_file(uri: &KeyUri) -> Failure {
    let message = format!("`{uri}` is a file, not a key in a token or in KMS");
    Failure::new(Kind::Input, "key-uri.invalid", message)
        .hint("write a pkcs11: or awskms: URI; take a key file in with `nameplate ca import`")
}
