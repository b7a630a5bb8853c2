//! One file per verb that must order two or more effects: a straight top-to-bottom function.

/// The first connect that knows JITP.
pub mod connect;
/// A device's identity, read from its files.
pub mod identity;
/// Gathers what the checks before the first connect need.
pub mod preflight;
