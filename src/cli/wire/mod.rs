//! Which adapters a command runs on: the only place that names them together.

/// What issuing acts through.
#[cfg(feature = "operator")]
pub(super) mod factory;
/// The control plane that the settings point at.
#[cfg(feature = "operator")]
pub(super) mod target;
