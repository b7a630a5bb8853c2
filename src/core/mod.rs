//! Pure: values in, values out. No files, network, environment, clock, randomness or printing.

/// Which files one identity consists of, their names and secrecy.
pub mod bundle;
/// A certificate, parsed once at the door.
pub mod cert;
/// A leaf with its issuers: when it is valid, and whether it verifies.
pub mod chain;
/// A certificate before it is signed: draft, sign elsewhere, seal.
#[cfg(feature = "sandbox")]
pub mod draft;
/// One result of a linter, audit or advisor.
pub mod finding;
/// Names that AWS IoT gives rules to, parsed once.
pub mod ids;
/// May a certificate connect, must it be provisioned first, or is it refused?
#[cfg(feature = "sandbox")]
pub mod jitp;
/// JSON read strictly.
pub mod json;
/// Public and private keys as bytes: formats, algorithms, encryption at rest.
pub mod key;
/// PEM in, PEM out.
pub mod pem;
/// The AWS IoT policy language.
#[cfg(feature = "sandbox")]
pub mod policy;
/// The status of a registered certificate.
pub mod status;
/// Distinguished names.
pub mod subject;
/// AWS IoT provisioning templates.
#[cfg(feature = "sandbox")]
pub mod template;
/// Instants, windows and durations.
pub mod time;
