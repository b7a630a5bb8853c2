//! What the server's side knows of a client that was turned away, where it can be asked.

use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;

/// Why provisioning failed for good: trying again cannot help before something is changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// What was wrong.
    pub details: String,
    /// What mends it.
    pub remedy: String,
}

/// A refusal as the server's side has it in its records.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize, thiserror::Error)]
#[error("the sandbox says: {details} [{rule}]")]
pub struct Said {
    /// What was refused and why.
    pub details: String,
    /// The rule that decided, such as `policy.implicit-deny`.
    pub rule: String,
    /// What mends it.
    pub remedy: String,
}

/// Sees what the server decided. AWS IoT tells no device; the sandbox on this machine does.
pub trait Witness {
    /// The failure of this certificate's provisioning, if there was one since the last question.
    fn provisioning_failed(&mut self, certificate: &CertificateId) -> Option<Failed>;

    /// The newest refusal of this certificate since the witness was called, if there was one.
    fn refused(&mut self, certificate: &Certificate) -> Option<Said>;
}
