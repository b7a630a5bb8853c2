//! Why there is no new identity yet.

use crate::core::csr_draft::CsrDraftError;
use crate::core::enrolment::EnrolmentError;
use crate::core::fleet::FleetError;
use crate::core::ids::CertificateId;
use crate::core::key::KeyError;
use crate::explain::{Explain, Kind};
use crate::flows::connect::{ConnectError, Cut, Fault};
use crate::ports::{FileError, SignError};

/// Why there is no new identity yet.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The asker is not let in.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// The request cannot be made.
    #[error(transparent)]
    Draft(#[from] CsrDraftError),
    /// The asker was let in, and then not served.
    #[error(transparent)]
    Exchange(#[from] Fault),
    /// The journal or the identity's files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The service says no.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] EnrolmentError),
    /// The key cannot be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The template was asked for, its answer was lost, and the certificate does not connect.
    #[error(
        "the template's answer was lost, and the certificate {} does not connect",
        .certificate.short()
    )]
    Lost {
        /// The certificate.
        certificate: CertificateId,
        /// What happened.
        #[source]
        source: Box<ConnectError>,
    },
    /// The service sent none.
    #[error("the service's answer holds no key, and none was made here")]
    NoKey,
    /// Nobody said under which name to connect.
    #[error("the template made no thing, and nothing else names the client id to connect with")]
    NoName,
    /// Somebody else's certificate.
    #[error("the certificate is not for this device's key")]
    OtherKey,
    /// The new identity does not connect.
    #[error("the new identity does not connect, so nothing was put in place")]
    Proof(#[source] Box<ConnectError>),
    /// The request cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<ConnectError> for EnrolError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl EnrolError {
    /// Whether asking again, after a while, can help.
    pub fn may_pass(&self) -> bool {
        match self {
            // A closed connection may be a no or the network: only trying tells.
            Self::Exchange(Fault::Exchange { cut, .. }) => {
                !matches!(cut, Cut::Refused(_) | Cut::Mqtt(_))
            }
            Self::Fleet(FleetError::Rejected(rejection)) => {
                rejection.may_pass() || rejection.is_of_token()
            }
            Self::Proof(error) => error.kind() == Kind::Unavailable,
            _ => false,
        }
    }

    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Connect(error) => &**error,
            Self::Draft(error) => error,
            Self::Exchange(error) => error,
            Self::File(error) => error,
            Self::Fleet(error) => error,
            Self::Journal(error) => error,
            Self::Key(error) => error,
            Self::Sign(error) => error,
            Self::Lost { .. } | Self::NoKey | Self::NoName | Self::OtherKey | Self::Proof(_) => {
                return None;
            }
        })
    }
}

impl Explain for EnrolError {
    fn kind(&self) -> Kind {
        match self {
            Self::Lost { .. } | Self::NoKey | Self::OtherKey => Kind::Negative,
            Self::NoName => Kind::Usage,
            Self::Proof(error) => error.kind(),
            other => other.inner().map_or(Kind::Bug, Explain::kind),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "enrol.lost",
            Self::NoKey => "enrol.no-key",
            Self::NoName => "enrol.no-name",
            Self::OtherKey => "enrol.other-key",
            Self::Proof(_) => "enrol.proof",
            other => other.inner().map_or("enrol.failed", Explain::code),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Lost { certificate, .. } => Some(format!(
                "look at certificate {certificate} at the target: if it is there and ACTIVE, name \
                 the client id that its policy allows with --client-id; if not, begin again with \
                 --start-over"
            )),
            Self::NoName => Some("name it with --client-id".into()),
            Self::OtherKey => {
                Some("bring the certificate that was made for this device's own request".into())
            }
            Self::Proof(error) => error.hint(),
            other => other.inner().and_then(Explain::hint),
        }
    }
}
