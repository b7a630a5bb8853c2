//! Why the identity was not renewed.

use std::path::PathBuf;

use crate::core::enrolment::{EnrolmentError, OtherWay};
use crate::core::key::KeyError;
use crate::explain::{Explain, Kind};
use crate::flows::enrol::EnrolError;
use crate::flows::identity::IdentityError;
use crate::ports::FileError;
use crate::ports::hook::HookError;

/// Why the identity was not renewed. The old one is in its place.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A renewal is on its way.
    #[error("a renewal has begun, in `{0}`")]
    Begun(PathBuf),
    /// The steps.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The files.
    #[error(transparent)]
    File(#[from] FileError),
    /// Those who use the identity did not take the new one.
    #[error("the new identity was not taken, and the old one is back in its place")]
    Hook(#[source] HookError),
    /// The identity in use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] EnrolmentError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nowhere to prove it.
    #[error("there is no endpoint to prove the new identity at")]
    NoEndpoint,
    /// Two renames would leave a moment without an identity.
    #[error("the file system of `{0}` cannot exchange two folders in one step")]
    NoExchange(PathBuf),
    /// No client id.
    #[error("nothing says under which client id this identity connects")]
    NoName,
    /// There is no way back.
    #[error("there is no identity in `{0}` to go back to")]
    NoOld(PathBuf),
    /// A certificate without a request.
    #[error("no request of this device waits for a certificate")]
    NothingAsked,
    /// A file without a certificate.
    #[error("there is no certificate in what was brought")]
    NothingBrought,
    /// The way back was taken, and those who use the identity were not told.
    #[error("the identity before is back in its place, but not everybody was told")]
    NotTold(#[source] HookError),
    /// Begun otherwise.
    #[error(transparent)]
    OtherWay(#[from] OtherWay),
    /// Not good now.
    #[error("the certificate that was brought is not valid now: {0}")]
    Window(String),
}

impl RenewError {
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Enrol(error) => error,
            Self::File(error) => error,
            Self::Hook(error) | Self::NotTold(error) => error,
            Self::Identity(error) => error,
            Self::Journal(error) => error,
            Self::Key(error) => error,
            Self::OtherWay(error) => error,
            _ => return None,
        })
    }
}

impl Explain for RenewError {
    fn kind(&self) -> Kind {
        match self {
            Self::Begun(_) | Self::NoExchange(_) => Kind::Refused,
            Self::NoEndpoint | Self::NoName => Kind::Usage,
            Self::NoOld(_) | Self::NothingAsked | Self::NothingBrought | Self::Window(_) => {
                Kind::Input
            }
            other => other.inner().map_or(Kind::Bug, Explain::kind),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Begun(_) => "renew.begun",
            Self::NoEndpoint => "renew.no-endpoint",
            Self::NoExchange(_) => "renew.no-exchange",
            Self::NoName => "renew.no-name",
            Self::NoOld(_) => "renew.no-old",
            Self::NothingAsked => "renew.nothing-asked",
            Self::NothingBrought => "renew.nothing-brought",
            Self::Window(_) => "renew.window",
            other => other.inner().map_or("renew.failed", Explain::code),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Begun(_) => Some(
                "let it finish (`nameplate device renew`), or forget it with --start-over".into(),
            ),
            Self::NoEndpoint => Some(
                "name it with --endpoint HOST[:PORT], or NAMEPLATE_ENDPOINT, or `endpoint` under \
                 [device] in nameplate.toml"
                    .into(),
            ),
            Self::NoName => Some("name it with --client-id".into()),
            Self::NothingAsked => {
                Some("make a request first: `nameplate device renew --csr-out FILE`".into())
            }
            Self::Window(_) => {
                Some("check this device's clock first: `nameplate preflight`".into())
            }
            Self::Hook(_) => Some("mend the command, then run the same command again".into()),
            other => other.inner().and_then(Explain::hint),
        }
    }
}
