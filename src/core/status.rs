//! The status of a registered certificate, as AWS IoT names it.

use std::fmt;
use std::str::FromStr;

use crate::core::ids::IdError;

/// `CertificateStatus` of the API model. `REGISTER_INACTIVE` is deprecated and left out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CertificateStatus {
    /// May connect.
    Active,
    /// May not connect until it is made active.
    Inactive,
    /// Registered by its first connection; waits for provisioning.
    PendingActivation,
    /// On its way to another account.
    PendingTransfer,
    /// May never connect again.
    Revoked,
}

impl CertificateStatus {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::PendingActivation => "PENDING_ACTIVATION",
            Self::PendingTransfer => "PENDING_TRANSFER",
            Self::Revoked => "REVOKED",
        }
    }
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CertificateStatus {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let all = [
            Self::Active,
            Self::Inactive,
            Self::PendingActivation,
            Self::PendingTransfer,
            Self::Revoked,
        ];
        all.into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| IdError {
                what: "certificate status",
                rule: "ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER or PENDING_ACTIVATION",
                value: text.chars().take(80).collect(),
            })
    }
}

/// How a CA was registered, and so what holds for its certificates (`certificateMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CertificateMode {
    /// With proof of the CA's key; in one account of a Region only.
    #[default]
    Default,
    /// Without proof, in any number of accounts; the device must send the server's name.
    SniOnly,
}

impl CertificateMode {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT",
            Self::SniOnly => "SNI_ONLY",
        }
    }
}

impl FromStr for CertificateMode {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "DEFAULT" => Ok(Self::Default),
            "SNI_ONLY" => Ok(Self::SniOnly),
            other => Err(IdError {
                what: "certificate mode",
                rule: "DEFAULT or SNI_ONLY",
                value: other.chars().take(80).collect(),
            }),
        }
    }
}
