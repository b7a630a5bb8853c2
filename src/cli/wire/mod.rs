//! Which adapters a command runs on: the only place that names them together.

/// The control plane that the settings point at.
#[cfg(feature = "operator")]
pub(super) mod target;
