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
/// Names that AWS IoT gives rules to, parsed once.
pub mod ids;
/// Public and private keys as bytes: formats, algorithms, encryption at rest.
pub mod key;
/// PEM in, PEM out.
pub mod pem;
/// Distinguished names.
pub mod subject;
/// Instants, windows and durations.
pub mod time;
