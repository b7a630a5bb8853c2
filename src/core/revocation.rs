//! Why a certificate is revoked (RFC 5280 §5.3.1).

use crate::core::record::words;
use crate::core::time::UtcTime;

/// When and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Revocation {
    /// From this second on.
    pub at: UtcTime,
    /// Why.
    pub reason: RevocationReason,
}

/// CRLReason, without `removeFromCRL`, which belongs to delta CRLs, and `certificateHold`, which
/// would promise a way back that there is none.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RevocationReason {
    /// Not said; a CRL then carries no reason at all.
    #[default]
    Unspecified,
    /// The device's key is in other hands.
    KeyCompromise,
    /// The CA's key is in other hands.
    #[serde(rename = "cACompromise")]
    CaCompromise,
    /// The device has another name or owner.
    AffiliationChanged,
    /// Another certificate took its place.
    Superseded,
    /// The device is out of service.
    CessationOfOperation,
    /// What the certificate allowed is taken back.
    PrivilegeWithdrawn,
}

words!(RevocationReason {
    Unspecified = "unspecified",
    KeyCompromise = "keyCompromise",
    CaCompromise = "cACompromise",
    AffiliationChanged = "affiliationChanged",
    Superseded = "superseded",
    CessationOfOperation = "cessationOfOperation",
    PrivilegeWithdrawn = "privilegeWithdrawn",
});

impl RevocationReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The number in a CRL entry.
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::PrivilegeWithdrawn => 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RevocationReason;

    #[test]
    fn json_and_the_ledger_say_the_same_word() {
        for reason in RevocationReason::ALL {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{reason}\""));
            assert_eq!(RevocationReason::from_word(reason.as_str()), Some(reason));
        }
    }
}
