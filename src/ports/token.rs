//! Keys and certificates in PKCS#11 tokens.

use std::sync::Arc;

use super::Signer;
use crate::core::cert::Certificate;
use crate::core::key_uri::Pkcs11Uri;
use crate::explain::Failure;

/// Opens what a token holds.
pub trait Tokens {
    /// The private key that the URI names.
    ///
    /// # Errors
    /// `pkcs11.*`, `key-uri.not-built`.
    fn key(&self, uri: &Pkcs11Uri) -> Result<Arc<dyn Signer + Send + Sync>, Failure>;

    /// Every certificate that the URI names, in the token's order.
    ///
    /// # Errors
    /// `pkcs11.*`, `cert.*`, `key-uri.not-built`.
    fn certificates(&self, uri: &Pkcs11Uri) -> Result<Vec<Certificate>, Failure>;
}
