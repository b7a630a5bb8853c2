//! The control plane through the AWS SDK: for AWS itself and, with an address and credentials of its
//! own, for the sandbox. Async lives and ends here.

/// From the SDK's types to ours.
mod convert;
/// From the SDK's errors to ours.
mod error;
/// Keys in AWS KMS.
#[cfg(feature = "kms")]
pub mod kms;
/// The port, operation by operation.
mod plane;

use std::cell::OnceCell;
use std::future::Future;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_iot::Client;
use aws_sdk_iot::config::http::HttpResponse;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::core::ids::{AccountId, Place, Region};
use crate::explain::{Explain, Kind};
use crate::ports::cloud::{CloudError, CloudErrorKind, CloudResult};

/// Attempts of one call at AWS, with the SDK's jittered back-off between them: throttling is common
/// when a fleet is worked through (10 calls a second for most operations).
const ATTEMPTS: u32 = 7;
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// The same for the sandbox, which is here or is not.
const SANDBOX_ATTEMPTS: u32 = 3;
const SANDBOX_BACKOFF: Duration = Duration::from_millis(100);
/// One attempt may take this long.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// A TCP and TLS connection may take this long to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One control plane, and what it is called in reports.
pub struct AwsControlPlane {
    runtime: Runtime,
    client: Client,
    sts: Option<aws_sdk_sts::Client>,
    region: Region,
    account: OnceCell<AccountId>,
    target: String,
}

/// How to reach AWS. What is `None` is looked for as the SDK always does.
#[derive(Clone, Debug, Default)]
pub struct AwsAccess {
    /// The Region.
    pub region: Option<String>,
    /// The profile in `~/.aws`.
    pub profile: Option<String>,
    /// The control plane's URL.
    pub endpoint_url: Option<String>,
}

/// Who signs the requests to a sandbox.
pub enum SandboxSigner {
    /// Anybody: it takes every signature.
    Anybody,
    /// Credentials that it knows.
    Known {
        /// The access key.
        key: String,
        /// The secret.
        secret: Zeroizing<String>,
        /// The session token.
        token: Option<String>,
    },
    /// Whom `AWS_ACCESS_KEY_ID` and its like name, else the profile, if there is one; else anybody.
    Named(Option<String>),
}

impl SandboxSigner {
    fn provider(self) -> SharedCredentialsProvider {
        let anybody = Credentials::new("nameplate", "nameplate", None, None, "sandbox");
        match self {
            Self::Anybody => SharedCredentialsProvider::new(anybody),
            Self::Known { key, secret, token } => {
                let known = Credentials::new(key, secret.as_str(), token, None, "sandbox");
                SharedCredentialsProvider::new(known)
            }
            Self::Named(profile) => {
                let environment = EnvironmentVariableCredentialsProvider::new();
                let mut chain = CredentialsProviderChain::first_try("Environment", environment);
                if let Some(profile) = profile {
                    let config = ProviderConfig::without_region().with_http_client(http_client());
                    let named = ProfileFileCredentialsProvider::builder().configure(&config);
                    chain = chain.or_else("Profile", named.profile_name(profile).build());
                }
                SharedCredentialsProvider::new(chain.or_else("Anybody", anybody))
            }
        }
    }
}

impl AwsControlPlane {
    /// A stand-in for AWS IoT Core at `url`: plain HTTP or HTTPS.
    ///
    /// # Errors
    /// `aws.runtime`.
    pub fn sandbox(
        place: &Place,
        url: &str,
        target: &str,
        signer: SandboxSigner,
    ) -> Result<Self, AwsError> {
        let config = aws_sdk_iot::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client())
            .credentials_provider(signer.provider())
            .region(aws_sdk_iot::config::Region::new(place.region.to_string()))
            .endpoint_url(url)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(SANDBOX_ATTEMPTS)
                    .with_initial_backoff(SANDBOX_BACKOFF),
            )
            .timeout_config(timeouts())
            .build();
        Ok(Self {
            runtime: runtime()?,
            client: Client::from_conf(config),
            sts: None,
            region: place.region.clone(),
            account: OnceCell::from(place.account.clone()),
            target: target.to_owned(),
        })
    }

    /// AWS, with credentials as the SDK finds them. Nothing is sent yet.
    ///
    /// # Errors
    /// `aws.runtime`, `aws.region` when nobody names a Region.
    pub fn aws(access: &AwsAccess) -> Result<Self, AwsError> {
        let runtime = runtime()?;
        let shared = runtime.block_on(shared(access));
        let region: Region = shared
            .region()
            .and_then(|region| region.as_ref().parse().ok())
            .ok_or(AwsError::Region)?;
        let mut iot = aws_sdk_iot::config::Builder::from(&shared);
        if let Some(url) = &access.endpoint_url {
            iot = iot.endpoint_url(url);
        }
        Ok(Self {
            runtime,
            client: Client::from_conf(iot.build()),
            sts: Some(aws_sdk_sts::Client::new(&shared)),
            target: format!("AWS in {region}"),
            region,
            account: OnceCell::new(),
        })
    }

    fn call<T, E>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> CloudResult<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.runtime
            .block_on(work)
            .map_err(|error| error::explain(&error, operation, &self.target))
    }

    /// A call whose object may not be there.
    fn find<T, E>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> CloudResult<Option<T>>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match self.call(operation, work) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind == CloudErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Calls that are under way all at once, each for an object that may not be there; the answers
    /// are in order.
    fn find_all<T, E>(
        &self,
        operation: &'static str,
        works: Vec<impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send + 'static>,
    ) -> CloudResult<Vec<Option<T>>>
    where
        T: Send + 'static,
        E: ProvideErrorMetadata + std::error::Error + Send + 'static,
    {
        let outcomes = self.runtime.block_on(async {
            let tasks: Vec<_> = works.into_iter().map(tokio::spawn).collect();
            let mut outcomes = Vec::with_capacity(tasks.len());
            for task in tasks {
                match task.await {
                    Ok(outcome) => outcomes.push(outcome),
                    Err(died) => std::panic::resume_unwind(died.into_panic()),
                }
            }
            outcomes
        });
        let each = outcomes.into_iter();
        each.map(|outcome| self.find(operation, std::future::ready(outcome)))
            .collect()
    }

    /// An answer that lacks what the API promises, or holds it in another form.
    fn strange(&self, operation: &'static str, what: impl std::fmt::Display) -> CloudError {
        CloudError {
            kind: CloudErrorKind::Unavailable,
            operation,
            target: self.target.clone(),
            name: "UnreadableAnswer".into(),
            message: format!("the answer has no usable {what}"),
            request_id: None,
        }
    }

    /// The account of the credentials, asked for once.
    fn account(&self) -> CloudResult<AccountId> {
        if let Some(known) = self.account.get() {
            return Ok(known.clone());
        }
        let operation = "GetCallerIdentity";
        let sts = self
            .sts
            .as_ref()
            .ok_or_else(|| self.strange(operation, "account"))?;
        let answer = self.call(operation, sts.get_caller_identity().send())?;
        let account: AccountId = answer
            .account()
            .and_then(|account| account.parse().ok())
            .ok_or_else(|| self.strange(operation, "account"))?;
        Ok(self.account.get_or_init(|| account).clone())
    }
}

/// The SDK's usual configuration, with what the user said put before it.
async fn shared(access: &AwsAccess) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_max_backoff(MAX_BACKOFF),
        )
        .timeout_config(timeouts());
    if let Some(region) = &access.region {
        loader = loader.region(aws_config::Region::new(region.clone()));
    }
    if let Some(profile) = &access.profile {
        loader = loader.profile_name(profile);
    }
    loader.load().await
}

fn runtime() -> Result<Runtime, AwsError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AwsError::Runtime)
}

fn http_client() -> aws_sdk_iot::config::SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .build()
}

/// A control plane that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// No Region.
    #[error("no AWS Region is set")]
    Region,
    /// No runtime for the SDK.
    #[error("the AWS SDK's runtime could not be started")]
    Runtime(#[source] std::io::Error),
}

impl Explain for AwsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Region => Kind::Usage,
            Self::Runtime(_) => Kind::Unavailable,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Region => "aws.region",
            Self::Runtime(_) => "aws.runtime",
        }
    }
    fn hint(&self) -> Option<String> {
        matches!(self, Self::Region).then(|| {
            "name it with --region, AWS_REGION, `region` in nameplate.toml or the profile".into()
        })
    }
}
