//! Which adapters a command runs on: the only place that names them together.

/// What issuing acts through.
#[cfg(feature = "operator")]
pub(super) mod factory;
/// Keys in tokens and in KMS.
#[cfg(feature = "operator")]
pub(super) mod keys;
/// A sandbox on this machine.
#[cfg(feature = "sandbox")]
pub(super) mod sandbox;
/// The control plane that the settings point at.
#[cfg(feature = "operator")]
pub(super) mod target;
/// The sandbox's records as a witness of a connect.
#[cfg(feature = "sandbox")]
mod witness;
/// Without a sandbox there is no witness.
#[cfg(not(feature = "sandbox"))]
#[path = "no_witness.rs"]
mod witness;

pub(super) use witness::witness;
