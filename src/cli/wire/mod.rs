//! Which adapters a command runs on: the only place that names them together.

/// A sandbox on this machine.
#[cfg(feature = "sandbox")]
pub(super) mod sandbox;
/// The control plane that the settings point at.
#[cfg(feature = "operator")]
pub(super) mod target;
