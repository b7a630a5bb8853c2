//! Why a certificate was revoked (RFC 5280 §5.3.1).

use std::fmt;
use std::str::FromStr;

use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Revocation {
    /// From this second on.
    pub at: UtcTime,
    /// Why.
    pub reason: RevocationReason,
}

/// A CRL's reason code. `removeFromCRL` is left out: it only means something in a delta CRL.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RevocationReason {
    /// No reason is given; the extension is then left out, as RFC 5280 §5.3.1 advises.
    #[default]
    Unspecified,
    /// The private key is known to others.
    KeyCompromise,
    /// A CA's private key is known to others.
    CaCompromise,
    /// The subject's name or other facts changed.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// No longer needed.
    CessationOfOperation,
    /// Held back for now.
    CertificateHold,
    /// A privilege was withdrawn.
    PrivilegeWithdrawn,
    /// The key of an attribute authority is known to others.
    AaCompromise,
}

/// Name and code of each reason.
const REASONS: [(RevocationReason, &str, u8); 9] = [
    (RevocationReason::Unspecified, "unspecified", 0),
    (RevocationReason::KeyCompromise, "keyCompromise", 1),
    (RevocationReason::CaCompromise, "cACompromise", 2),
    (
        RevocationReason::AffiliationChanged,
        "affiliationChanged",
        3,
    ),
    (RevocationReason::Superseded, "superseded", 4),
    (
        RevocationReason::CessationOfOperation,
        "cessationOfOperation",
        5,
    ),
    (RevocationReason::CertificateHold, "certificateHold", 6),
    (
        RevocationReason::PrivilegeWithdrawn,
        "privilegeWithdrawn",
        9,
    ),
    (RevocationReason::AaCompromise, "aACompromise", 10),
];

impl RevocationReason {
    /// The name of RFC 5280: `keyCompromise`, …
    pub fn as_str(self) -> &'static str {
        REASONS
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("unspecified", |(_, name, _)| name)
    }

    /// The `CRLReason` code.
    pub fn code(self) -> u8 {
        REASONS
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or(0, |(.., code)| *code)
    }

    /// From a `CRLReason` code; unknown codes, and 8 (`removeFromCRL`), give `None`.
    pub fn from_code(code: u8) -> Option<Self> {
        REASONS
            .iter()
            .find(|(.., known)| *known == code)
            .map(|(reason, ..)| *reason)
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for RevocationReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for RevocationReason {
    type Err = ReasonError;
    /// Reads a reason by its RFC 5280 name, in any case.
    fn from_str(text: &str) -> Result<Self, ReasonError> {
        REASONS
            .iter()
            .find(|(_, name, _)| name.eq_ignore_ascii_case(text))
            .map(|(reason, ..)| *reason)
            .ok_or_else(|| ReasonError(text.to_owned()))
    }
}

/// Text that is not a reason.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a revocation reason; the reasons are unspecified, keyCompromise, cACompromise, \
     affiliationChanged, superseded, cessationOfOperation, certificateHold, privilegeWithdrawn and \
     aACompromise"
)]
pub struct ReasonError(String);

impl Explain for ReasonError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "revoke.reason"
    }
    fn hint(&self) -> Option<String> {
        let off = self.0.eq_ignore_ascii_case("removeFromCRL");
        off.then(|| "AWS IoT treats REVOKED as final, so nothing is taken off a list again".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_those_of_the_rfc() {
        for (reason, name, code) in REASONS {
            assert_eq!(name.parse::<RevocationReason>().unwrap(), reason);
            assert_eq!(RevocationReason::from_code(code), Some(reason));
            assert_eq!((reason.as_str(), reason.code()), (name, code));
        }
        let refused = "stolen".parse::<RevocationReason>().unwrap_err();
        for (_, name, _) in REASONS {
            assert!(refused.to_string().contains(name), "{name}");
        }
        assert!("removeFromCRL".parse::<RevocationReason>().is_err());
        assert_eq!(RevocationReason::from_code(8), None);
    }
}
