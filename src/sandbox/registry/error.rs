//! The errors of the API, by their names on the wire.

use crate::explain::{Explain, Kind};
use crate::sandbox::store::StoreError;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $status:literal,)*) => {
        /// An exception of the API model (botocore `iot` 2015-05-28), or of the front door.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum ErrorName {
            $($(#[$doc])* $name,)*
        }

        impl ErrorName {
            /// The name on the wire, with `Exception` at its end.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!(stringify!($name), "Exception"),)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

names! {
    /// The credentials may not do it.
    AccessDenied = 403,
    /// More than one registered CA could have signed the certificate.
    CertificateConflict = 409,
    /// The certificate's status does not allow it.
    CertificateState = 406,
    /// The certificate is not good enough.
    CertificateValidation = 400,
    /// Two updates at once.
    ConflictingResourceUpdate = 409,
    /// Still in use.
    DeleteConflict = 409,
    /// The request is signed in a way that cannot be read.
    IncompleteSignature = 400,
    /// Our own fault.
    InternalFailure = 500,
    /// A parameter is wrong.
    InvalidRequest = 400,
    /// A parameter is wrong, as CloudWatch Logs says it.
    InvalidParameter = 400,
    /// The signature is not that of the credentials.
    InvalidSignature = 403,
    /// A quota is reached.
    LimitExceeded = 410,
    /// Not a policy document.
    MalformedPolicy = 400,
    /// The request is not signed.
    MissingAuthenticationToken = 403,
    /// The verification certificate does not carry the registration code.
    RegistrationCodeValidation = 400,
    /// It is there already.
    ResourceAlreadyExists = 409,
    /// It is not there.
    ResourceNotFound = 404,
    /// Provisioning failed.
    ResourceRegistrationFailure = 400,
    /// Not now, or not here.
    ServiceUnavailable = 503,
    /// Too many calls (quota per second).
    Throttling = 400,
    /// The sandbox has no such operation.
    UnknownOperation = 404,
    /// Nobody has these credentials.
    UnrecognizedClient = 403,
    /// The expected version is not the version.
    VersionConflict = 409,
    /// Too many versions.
    VersionsLimitExceeded = 409,
}

/// An answer of the API that is an error.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {message}", name.as_str())]
pub struct ApiError {
    /// Its name.
    pub name: ErrorName,
    /// One line about it.
    pub message: String,
    /// The HTTP status.
    pub status: u16,
    /// Id and ARN of what is there already, for `ResourceAlreadyExistsException`.
    pub resource: Option<(String, String)>,
}

impl ApiError {
    /// An error of this name.
    pub fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self {
            name,
            message: message.into(),
            status: name.status(),
            resource: None,
        }
    }

    /// `InvalidRequestException`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorName::InvalidRequest, message)
    }

    /// `ResourceNotFoundException`.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(
            ErrorName::ResourceNotFound,
            format!("{what} {name} does not exist"),
        )
    }

    /// `ResourceAlreadyExistsException` with what is there.
    pub fn exists(what: &str, id: impl Into<String>, arn: impl Into<String>) -> Self {
        let (id, arn) = (id.into(), arn.into());
        Self {
            name: ErrorName::ResourceAlreadyExists,
            status: ErrorName::ResourceAlreadyExists.status(),
            message: format!("{what} {id} already exists"),
            resource: Some((id, arn)),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorName::InternalFailure, error.to_string())
    }
}

impl From<crate::core::ids::IdError> for ApiError {
    fn from(error: crate::core::ids::IdError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl Explain for ApiError {
    fn kind(&self) -> Kind {
        match self.name {
            ErrorName::InternalFailure => Kind::Unavailable,
            _ => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        "sandbox.api"
    }
}
