//! Keys in AWS KMS.
//!
//! The whole message goes to KMS (`MessageType` RAW), which hashes it itself. KMS takes 4096 bytes
//! that way; longer ones, such as a CRL's, are hashed here and sent as DIGEST. Real KMS answers both
//! alike; moto, a stand-in, hashes a DIGEST once more, so its signature would not verify.

use std::future::Future;

use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec};
use ring::digest::{SHA256, SHA384, digest};
use tokio::runtime::Runtime;

use super::{AwsAccess, AwsError, SdkConfig, error, shared};
use crate::core::key::{KeyAlgorithm, KeyError, PublicKey};
use crate::core::key_uri::KmsUri;
use crate::explain::{Explain, Kind};
use crate::ports::cloud::{CloudError, CloudErrorKind};
use crate::ports::{SignError, Signer};

/// The most bytes of one message (`Sign` API page, `Message`).
const MAX_RAW: usize = 4096;

/// Signs with a key in KMS, from any number of threads at once.
pub struct KmsSigner {
    kms: Kms,
    key: String,
    public: PublicKey,
}

struct Kms {
    runtime: Runtime,
    client: Client,
    target: String,
}

impl Kms {
    fn reach(uri: &KmsUri, access: &AwsAccess) -> Result<Self, KmsError> {
        // Two threads drive the calls, so that signers on many threads do not wait for one of them.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(AwsError::Runtime)?;
        let mut access = access.clone();
        if uri.region.is_some() {
            access.region.clone_from(&uri.region);
        }
        let config: SdkConfig = runtime.block_on(shared(&access));
        let region = config.region().ok_or(AwsError::Region)?.to_string();
        Ok(Self {
            client: Client::new(&config),
            target: format!("KMS in {region}"),
            runtime,
        })
    }

    fn call<T, E>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, CloudError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = self.runtime.block_on(work);
        answer.map_err(|error| error::explain(&error, operation, &self.target))
    }
}

impl KmsSigner {
    /// Asks KMS for the public half of the key that the URI names.
    ///
    /// # Errors
    /// `kms.key`, `cloud.*`, `aws.*`.
    pub fn open(uri: &KmsUri, access: &AwsAccess) -> Result<Self, KmsError> {
        Self::over(Kms::reach(uri, access)?, uri.key.clone())
    }

    /// Makes a key in KMS and opens it. An alias in the URI is given to it. The URI that comes back
    /// names the key by its ARN, because an alias can be moved to another key.
    ///
    /// # Errors
    /// `kms.key`, `cloud.*`, `aws.*`.
    pub fn generate(
        uri: &KmsUri,
        algorithm: KeyAlgorithm,
        access: &AwsAccess,
    ) -> Result<(Self, KmsUri), KmsError> {
        let spec = match algorithm {
            KeyAlgorithm::EcP256 => KeySpec::EccNistP256,
            KeyAlgorithm::EcP384 => KeySpec::EccNistP384,
            other => return Err(KmsError::Key(format!("{other} keys are not made here"))),
        };
        let alias = uri.alias().ok_or(KmsError::NoAlias)?;
        let kms = Kms::reach(uri, access)?;
        match kms.call(
            "DescribeKey",
            kms.client.describe_key().key_id(alias).send(),
        ) {
            Ok(_) => return Err(KmsError::Exists(alias.to_owned())),
            Err(error) if error.kind == CloudErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let made = kms
            .client
            .create_key()
            .key_spec(spec)
            .key_usage(KeyUsageType::SignVerify)
            .description("CA key made by nameplate");
        let made = kms.call("CreateKey", made.send())?;
        let arn = made
            .key_metadata()
            .and_then(|metadata| metadata.arn())
            .ok_or_else(|| KmsError::Key("KMS did not say its ARN".into()))?
            .to_owned();
        let named = kms.client.create_alias().alias_name(alias);
        kms.call("CreateAlias", named.target_key_id(&arn).send())?;
        let uri = KmsUri {
            key: arn.clone(),
            region: arn.split(':').nth(3).map(str::to_owned),
        };
        Self::over(kms, arn).map(|signer| (signer, uri))
    }

    fn over(kms: Kms, key: String) -> Result<Self, KmsError> {
        let asked = kms.client.get_public_key().key_id(&key);
        let answer = kms.call("GetPublicKey", asked.send())?;
        if answer.key_usage() != Some(&KeyUsageType::SignVerify) {
            return Err(KmsError::Key("its usage is not SIGN_VERIFY".into()));
        }
        let spki = answer
            .public_key()
            .ok_or_else(|| KmsError::Key("KMS did not send its public half".into()))?;
        let public = PublicKey::from_spki(spki.as_ref())?;
        match public.algorithm() {
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 | KeyAlgorithm::Rsa(_) => {
                Ok(Self { kms, key, public })
            }
            other => Err(KmsError::Key(format!("{other} keys do not sign here"))),
        }
    }
}

impl Signer for KmsSigner {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let (algorithm, hash) = match self.public.algorithm() {
            KeyAlgorithm::EcP384 => (SigningAlgorithmSpec::EcdsaSha384, &SHA384),
            KeyAlgorithm::Rsa(_) => (SigningAlgorithmSpec::RsassaPkcs1V15Sha256, &SHA256),
            _ => (SigningAlgorithmSpec::EcdsaSha256, &SHA256),
        };
        let (kind, sent) = if message.len() <= MAX_RAW {
            (MessageType::Raw, message.to_vec())
        } else {
            (MessageType::Digest, digest(hash, message).as_ref().to_vec())
        };
        let call = self
            .kms
            .client
            .sign()
            .key_id(&self.key)
            .message(Blob::new(sent))
            .message_type(kind)
            .signing_algorithm(algorithm);
        let answer = self
            .kms
            .call("Sign", call.send())
            .map_err(|error| match error.kind() {
                Kind::Unavailable => SignError::Unavailable(error.to_string()),
                _ => SignError::Failed(error.to_string()),
            })?;
        answer
            .signature()
            .map(|signature| signature.as_ref().to_vec())
            .ok_or_else(|| SignError::Unavailable("KMS sent no signature".into()))
    }
}

/// No key from KMS.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// The SDK could not be set up.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// KMS said no.
    #[error(transparent)]
    Call(Box<CloudError>),
    /// A key of that name is there.
    #[error("there is a key `{0}` in KMS already")]
    Exists(String),
    /// Not a key that signs certificates.
    #[error("the key in KMS cannot be used: {0}")]
    Key(String),
    /// A new key without a name.
    #[error("a new key in KMS is named by an alias")]
    NoAlias,
    /// The public key cannot be used.
    #[error("the public key from KMS cannot be used")]
    Public(#[from] KeyError),
}

impl From<CloudError> for KmsError {
    fn from(error: CloudError) -> Self {
        Self::Call(Box::new(error))
    }
}

impl Explain for KmsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Aws(error) => error.kind(),
            Self::Call(error) => error.kind(),
            Self::Exists(_) => Kind::Refused,
            Self::Key(_) | Self::NoAlias | Self::Public(_) => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Aws(error) => error.code(),
            Self::Call(error) => error.code(),
            Self::Exists(_) => "kms.exists",
            Self::Key(_) | Self::NoAlias | Self::Public(_) => "kms.key",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Aws(error) => error.hint(),
            Self::Call(error) if error.kind == CloudErrorKind::Denied => Some(format!(
                "check the credentials (--profile), and that they allow kms:{} on this key",
                error.operation
            )),
            Self::Call(error) => error.hint(),
            Self::Exists(_) => Some(
                "use it: the same command without --generate-key; or name another alias".into(),
            ),
            Self::Key(_) => Some(
                "make one: aws kms create-key --key-spec ECC_NIST_P256 --key-usage SIGN_VERIFY"
                    .into(),
            ),
            Self::NoAlias => Some("write --key awskms:alias/NAME".into()),
            Self::Public(_) => None,
        }
    }
}
