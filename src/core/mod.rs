//! Pure: values in, values out. No files, network, environment, clock, randomness or printing.

/// How long to wait before trying again.
pub mod backoff;
/// Which files one identity consists of, their names and secrecy.
pub mod bundle;
/// A certificate, parsed once at the door.
pub mod cert;
/// A leaf with its issuers: when it is valid, and whether it verifies.
pub mod chain;
/// A host and a port, as a person writes them.
pub mod endpoint;
/// Names that AWS IoT gives rules to, parsed once.
pub mod ids;
/// Public and private keys as bytes: formats, algorithms, encryption at rest.
pub mod key;
/// An MQTT 3.1.1 client's side of the conversation.
pub mod mqtt;
/// PEM in, PEM out.
pub mod pem;
/// Whether a TLS server is the one it should be.
pub mod server;
/// Distinguished names.
pub mod subject;
/// Instants, windows and durations.
pub mod time;
