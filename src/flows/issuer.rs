//! A CA that is ready to sign: its certificate, the CAs above it, its key.

use crate::core::bundle::{self, File, Secrecy};
use crate::core::cert::Certificate;
use crate::core::draft::{DraftError, IssuerView};
use crate::core::key::PrivateKey;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Kind};
use crate::ports::Signer;

/// A CA and its key.
#[derive(Clone, Copy)]
pub struct Issuer<'a> {
    /// The CA's name in the project.
    pub name: &'a str,
    /// The CA's certificate, then those above it, up to the root when it is known.
    pub chain: &'a [Certificate],
    /// Its key.
    pub signer: &'a dyn Signer,
    /// It is wrong on purpose, and signs all the same.
    pub flawed: bool,
}

impl<'a> Issuer<'a> {
    /// The CA's own certificate.
    ///
    /// # Errors
    /// `ca.empty` when the chain holds nothing.
    pub fn certificate(&self) -> Result<&'a Certificate, IssuerError> {
        self.chain.first().ok_or(IssuerError::Empty)
    }

    /// When the CA and all above it are valid at once.
    ///
    /// # Errors
    /// `ca.expired`, `ca.not-yet-valid`, `ca.window`.
    pub fn window(&self, now: UtcTime) -> Result<Validity, IssuerError> {
        let mut window = self.certificate()?.validity;
        if self.flawed {
            return Ok(Validity {
                not_before: UtcTime::from_unix(0),
                not_after: UtcTime::NO_EXPIRY,
            });
        }
        for ca in self.chain {
            let name = || ca.subject.to_string();
            if now > ca.validity.not_after {
                return Err(IssuerError::Expired(name(), ca.validity.not_after));
            }
            if now < ca.validity.not_before {
                return Err(IssuerError::NotYetValid(name(), ca.validity.not_before));
            }
            window = window.overlap(&ca.validity).ok_or(IssuerError::Empty)?;
        }
        Ok(window)
    }

    /// What a draft needs to know, once it is certain that the key belongs to the certificate.
    ///
    /// # Errors
    /// `ca.key-mismatch`, `draft.issuer`.
    pub fn view(&self) -> Result<IssuerView, IssuerError> {
        let certificate = self.certificate()?;
        if certificate.public_key.bits() != self.signer.public().bits() {
            return Err(IssuerError::KeyMismatch(self.name.to_owned()));
        }
        if self.flawed {
            return Ok(IssuerView::from_flawed_ca(certificate));
        }
        IssuerView::from_ca(certificate).map_err(IssuerError::Draft)
    }

    /// The CA with a path length that leaves room for one more CA below.
    ///
    /// # Errors
    /// `ca.path-length`.
    pub fn may_have_ca_below(&self) -> Result<(), IssuerError> {
        match self.certificate()?.path_len {
            Some(0) => Err(IssuerError::PathLength(self.name.to_owned())),
            _ => Ok(()),
        }
    }

    /// The CA's certificates as text, made once for many leaves.
    pub fn text(&self) -> IssuerText {
        let below_root = self.chain.iter().filter(|ca| !ca.is_self_issued());
        IssuerText {
            below_root: below_root.map(Certificate::to_pem).collect(),
            all: self.chain.iter().map(Certificate::to_pem).collect(),
        }
    }
}

/// A CA's certificates, PEM.
pub struct IssuerText {
    below_root: String,
    all: String,
}

impl IssuerText {
    /// The three public files of an identity: chain, CA bundle, and the leaf last, so that a
    /// folder that holds the leaf holds everything.
    pub fn public_files(&self, leaf: &Certificate) -> [File; 3] {
        let file = |name, text: String| File {
            name,
            secrecy: Secrecy::Public,
            bytes: text.into_bytes().into(),
        };
        let leaf = leaf.to_pem();
        [
            file(bundle::CHAIN, [&leaf[..], &self.below_root].concat()),
            file(bundle::CA_BUNDLE, self.all.clone()),
            file(bundle::CERTIFICATE, leaf),
        ]
    }
}

/// The private file of an identity.
pub fn key_file(key: &PrivateKey) -> File {
    File {
        name: bundle::KEY,
        secrecy: Secrecy::Private,
        bytes: key.to_pem().as_bytes().to_vec().into(),
    }
}

/// A CA that cannot issue.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// Not a CA, or not allowed to sign.
    #[error(transparent)]
    Draft(DraftError),
    /// No certificates, or windows that never meet.
    #[error("the CA's chain holds no time at which all of it is valid")]
    Empty,
    /// Over.
    #[error("the CA `{0}` expired at {1}")]
    Expired(String, UtcTime),
    /// The key is another's.
    #[error("the key of CA `{0}` does not belong to its certificate")]
    KeyMismatch(String),
    /// Not begun.
    #[error("the CA `{0}` is not valid before {1}")]
    NotYetValid(String, UtcTime),
    /// pathLenConstraint is used up.
    #[error("the CA `{0}` may not have another CA below it: its path length is 0")]
    PathLength(String),
}

impl Explain for IssuerError {
    fn kind(&self) -> Kind {
        match self {
            Self::Draft(error) => error.kind(),
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Draft(error) => error.code(),
            Self::Empty => "ca.window",
            Self::Expired(..) => "ca.expired",
            Self::KeyMismatch(_) => "ca.key-mismatch",
            Self::NotYetValid(..) => "ca.not-yet-valid",
            Self::PathLength(_) => "ca.path-length",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Draft(error) => error.hint(),
            Self::Expired(..) => Some("check this machine's clock with `date -u`; if it is right, make a new CA with `nameplate ca create`".into()),
            Self::NotYetValid(..) => {
                Some("check this machine's clock with `date -u`, or wait".into())
            }
            Self::PathLength(_) => Some(
                "name another --parent, or make one with `nameplate ca create --path-len 1`".into(),
            ),
            Self::KeyMismatch(_) => {
                Some("bring the key and the certificate that belong together".into())
            }
            Self::Empty => None,
        }
    }
}
