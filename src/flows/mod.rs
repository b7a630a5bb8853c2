//! One file per verb that must order two or more effects: a straight top-to-bottom function.

/// Registering a CA at the target.
#[cfg(feature = "operator")]
pub mod ca_register;
/// The first connect that knows JITP.
pub mod connect;
/// A device's identity, read from its files.
pub mod identity;
/// Registering a template and its policy at the target.
#[cfg(feature = "operator")]
pub mod template_register;
