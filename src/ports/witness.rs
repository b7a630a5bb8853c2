//! What the server's side knows of a client that was turned away, where it can be asked.

use crate::core::ids::CertificateId;

/// Why provisioning failed for good: trying again cannot help before something is changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// What was wrong.
    pub details: String,
    /// What mends it.
    pub remedy: String,
}

/// Sees what the server decided. AWS IoT tells no device; the sandbox on this machine does.
pub trait Witness {
    /// The failure of this certificate's provisioning, if there was one since the last question.
    fn provisioning_failed(&mut self, certificate: &CertificateId) -> Option<Failed>;
}
