//! A leaf with its issuers: when all of it is valid, and whether it verifies (RFC 5280 §6.1).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::core::cert::Certificate;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Kind};

/// A leaf and the certificates above it, leaf first.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The end-entity certificate.
    pub leaf: Certificate,
    /// Its issuers, nearest first; may hold the root.
    pub issuers: Vec<Certificate>,
}

/// What the chain is to be used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// A TLS client: a device.
    Client,
    /// A TLS server: an endpoint.
    Server,
}

impl Chain {
    /// From certificates in order, leaf first; `None` when there are none.
    pub fn new(mut certificates: Vec<Certificate>) -> Option<Self> {
        if certificates.is_empty() {
            return None;
        }
        let leaf = certificates.remove(0);
        Some(Self {
            leaf,
            issuers: certificates,
        })
    }

    /// Every certificate, leaf first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.issuers)
    }

    /// When every certificate of the chain is valid at once: latest `notBefore` to earliest
    /// `notAfter`, both inclusive. `None` if that never happens. Says nothing about now.
    pub fn window(&self) -> Option<Validity> {
        self.issuers
            .iter()
            .try_fold(self.leaf.validity, |window, issuer| {
                window.overlap(&issuer.validity)
            })
    }

    /// The first certificate whose `issuer` is not the next one's `subject` and key; 0 is the leaf.
    pub fn break_in_order(&self) -> Option<usize> {
        let all: Vec<&Certificate> = self.certificates().collect();
        all.windows(2)
            .position(|pair| !pair[0].is_signed_by(pair[1]))
    }

    /// Verifies the path from the leaf to one of `roots` at `at`. A root may be any certificate
    /// the caller trusts; roots' own dates are not checked (RFC 5280 §6.1.1 (d)), so check them
    /// with [`Certificate::validity`].
    ///
    /// # Errors
    /// `chain.*`, the most specific reason found.
    pub fn verify(
        &self,
        roots: &[Certificate],
        at: UtcTime,
        usage: Usage,
    ) -> Result<(), ChainError> {
        let root_ders: Vec<CertificateDer<'_>> = roots
            .iter()
            .map(|root| CertificateDer::from(root.der()))
            .collect();
        let anchors: Vec<TrustAnchor<'_>> = root_ders
            .iter()
            .filter_map(|der| webpki::anchor_from_trusted_cert(der).ok())
            .collect();
        let issuers: Vec<CertificateDer<'_>> = self
            .issuers
            .iter()
            .map(|issuer| CertificateDer::from(issuer.der()))
            .collect();
        let leaf_der = CertificateDer::from(self.leaf.der());
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(ChainError::from_webpki)?;
        let seconds = u64::try_from(at.unix()).unwrap_or(0);
        let purpose = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &issuers,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            purpose,
            None,
            None,
        )
        .map(|_| ())
        .map_err(ChainError::from_webpki)
    }
}

/// Why a chain does not verify.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// A CA certificate where a leaf should be.
    #[error("the first certificate is a CA, not an end entity")]
    CaAsEndEntity,
    /// A certificate is over at the time asked.
    #[error("a certificate expired at {0}")]
    Expired(UtcTime),
    /// A certificate has not begun at the time asked.
    #[error("a certificate is not valid before {0}")]
    NotYetValid(UtcTime),
    /// Anything else webpki says.
    #[error("the chain does not verify: {0}")]
    Other(String),
    /// The signature does not fit the issuer's key.
    #[error("a signature was not made by the key of the issuer given")]
    Signature,
    /// No path to a root.
    #[error("no path leads from the certificate to a trusted CA")]
    UnknownIssuer,
    /// The extended key usage forbids it.
    #[error("the certificate's extended key usage does not allow this use")]
    Usage,
}

impl ChainError {
    fn from_webpki(error: webpki::Error) -> Self {
        let seconds =
            |t: UnixTime| UtcTime::from_unix(i64::try_from(t.as_secs()).unwrap_or(i64::MAX));
        match error {
            webpki::Error::CaUsedAsEndEntity => Self::CaAsEndEntity,
            webpki::Error::CertExpired { not_after, .. } => Self::Expired(seconds(not_after)),
            webpki::Error::CertNotValidYet { not_before, .. } => {
                Self::NotYetValid(seconds(not_before))
            }
            webpki::Error::InvalidSignatureForPublicKey => Self::Signature,
            webpki::Error::UnknownIssuer => Self::UnknownIssuer,
            webpki::Error::RequiredEkuNotFoundContext(_) => Self::Usage,
            other => Self::Other(format!("{other:?}")),
        }
    }
}

impl Explain for ChainError {
    fn kind(&self) -> Kind {
        Kind::Negative
    }
    fn code(&self) -> &'static str {
        match self {
            Self::CaAsEndEntity => "chain.ca-as-end-entity",
            Self::Expired(_) => "chain.expired",
            Self::NotYetValid(_) => "chain.not-yet-valid",
            Self::Other(_) => "chain.invalid",
            Self::Signature => "chain.signature",
            Self::UnknownIssuer => "chain.unknown-issuer",
            Self::Usage => "chain.usage",
        }
    }
}
