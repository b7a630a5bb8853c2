//! Whether a TLS server is the one it should be: its name and its chain (RFC 6125, RFC 5280 §6).

use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use crate::core::cert::Certificate;
use crate::core::chain::{Chain, ChainError, Usage};
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// Amazon's root certificates, as AWS IoT's "Server authentication" page lists them: Amazon Root CA 1
/// to 4, and Starfield Services Root CA - G2, to which chains may cross-sign. From
/// <https://www.amazontrust.com/repository/>; all public CAs would be a tenth of the device image.
const AMAZON_ROOTS: [&[u8]; 5] = [
    include_bytes!("roots/amazon-root-ca-1.der"),
    include_bytes!("roots/amazon-root-ca-2.der"),
    include_bytes!("roots/amazon-root-ca-3.der"),
    include_bytes!("roots/amazon-root-ca-4.der"),
    include_bytes!("roots/starfield-services-g2.der"),
];

/// The roots that AWS IoT's own endpoints chain to.
pub fn amazon_roots() -> Vec<Certificate> {
    AMAZON_ROOTS
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

/// Checks name first, then the path to one of `roots` at `at`.
///
/// # Errors
/// `server.name`, `chain.*`.
pub fn verify(
    chain: &Chain,
    host: &str,
    roots: &[Certificate],
    at: UtcTime,
) -> Result<(), ServerFault> {
    if !covers_name(&chain.leaf, host) {
        return Err(ServerFault::Name {
            host: host.to_owned(),
            names: chain.leaf.alternative_names.clone(),
        });
    }
    chain
        .verify(roots, at, Usage::Server)
        .map_err(ServerFault::Chain)
}

/// Whether the certificate names this host in its subjectAltName; the common name does not count
/// (RFC 6125 §6.4.4, RFC 9525 §2).
pub fn covers_name(leaf: &Certificate, host: &str) -> bool {
    let der = CertificateDer::from(leaf.der());
    let Ok(name) = ServerName::try_from(host) else {
        return false;
    };
    EndEntityCert::try_from(&der)
        .is_ok_and(|cert| cert.verify_is_valid_for_subject_name(&name).is_ok())
}

/// Why a server is not the one it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServerFault {
    /// Its chain does not verify.
    #[error("the server's certificate is not good: {0}")]
    Chain(ChainError),
    /// Its certificate is for others.
    #[error(
        "the server's certificate is not for `{host}` but for {}",
        if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
    )]
    Name {
        /// The name asked for.
        host: String,
        /// The names it has.
        names: Vec<String>,
    },
    /// It showed something that is not a certificate.
    #[error("the server's certificate cannot be read: {0}")]
    Unreadable(String),
}

impl Explain for ServerFault {
    fn kind(&self) -> Kind {
        Kind::Negative
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Chain(ChainError::Expired(_)) => "server.expired",
            Self::Chain(ChainError::NotYetValid(_)) => "server.not-yet-valid",
            Self::Chain(ChainError::UnknownIssuer) => "server.unknown-ca",
            Self::Chain(_) => "server.chain",
            Self::Name { .. } => "server.name",
            Self::Unreadable(_) => "server.unreadable",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Chain(ChainError::Expired(_) | ChainError::NotYetValid(_)) => {
                Some("check this device's clock first: `nameplate preflight`".into())
            }
            Self::Chain(ChainError::UnknownIssuer) => Some(
                "name the CA that issued the server's certificate with --server-ca; without it \
                 only Amazon's roots are trusted"
                    .into(),
            ),
            Self::Name { .. } => Some(
                "use the endpoint's own name: `aws iot describe-endpoint --endpoint-type \
                 iot:Data-ATS`"
                    .into(),
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Their SHA-256, as AWS IoT's page has them.
    const IDS: [&str; 5] = [
        "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
        "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
        "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
        "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
        "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
    ];

    #[test]
    fn all_five_roots_are_built_in() {
        let roots = amazon_roots();
        let ids: Vec<String> = roots.iter().map(|root| root.id().to_string()).collect();
        assert_eq!(ids, IDS);
        assert!(roots.iter().all(|root| root.is_ca == Some(true)));
    }
}
