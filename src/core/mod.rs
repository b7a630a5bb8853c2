//! Pure: values in, values out. No files, network, environment, clock, randomness or printing.

/// Which files one identity consists of, their names and secrecy.
pub mod bundle;
/// A certificate, parsed once at the door.
pub mod cert;
/// A leaf with its issuers: when it is valid, and whether it verifies.
pub mod chain;
/// Names that AWS IoT gives rules to, parsed once.
pub mod ids;
/// Public and private keys as bytes: formats, algorithms, encryption at rest.
pub mod key;
/// PEM in, PEM out.
pub mod pem;
/// The AWS IoT policy language.
#[cfg(feature = "sandbox")]
pub mod policy;
/// Distinguished names.
pub mod subject;
/// Instants, windows and durations.
pub mod time;
