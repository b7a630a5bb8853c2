//! From the SDK's errors to ours.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_iot::config::http::HttpResponse;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::operation::RequestId;

use crate::ports::cloud::{CloudError, CloudErrorKind};

/// What went wrong with one call, with the service's own words.
pub(super) fn explain<E>(
    error: &SdkError<E, HttpResponse>,
    operation: &'static str,
    target: &str,
) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (kind, name, message) = match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let name = context.err().code().unwrap_or("UnknownError");
            let message = context
                .err()
                .message()
                .map_or_else(|| format!("HTTP {status} without a message"), str::to_owned);
            (kind_of(name, status), name.to_owned(), message)
        }
        SdkError::ResponseError(context) => {
            let status = context.raw().status().as_u16();
            let message = format!("HTTP {status}, {}", chain(error));
            (
                CloudErrorKind::Unavailable,
                "UnreadableAnswer".into(),
                message,
            )
        }
        SdkError::ConstructionFailure(_) => {
            (CloudErrorKind::Invalid, "BadRequest".into(), chain(error))
        }
        SdkError::TimeoutError(_) => (CloudErrorKind::Unavailable, "TimeOut".into(), chain(error)),
        _ if has_credentials_error(error) => {
            (CloudErrorKind::Denied, "NoCredentials".into(), chain(error))
        }
        _ => (
            CloudErrorKind::Unavailable,
            "NoConnection".into(),
            chain(error),
        ),
    };
    CloudError {
        kind,
        operation,
        target: target.to_owned(),
        name,
        message,
        request_id: error.request_id().map(str::to_owned),
    }
}

/// The service's name for an error decides before its HTTP status: AWS IoT throttles with 400.
fn kind_of(name: &str, status: u16) -> CloudErrorKind {
    use CloudErrorKind as K;
    match name {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded" => K::Throttled,
        "ResourceNotFoundException" | "NotFoundException" => K::NotFound,
        "ResourceAlreadyExistsException" => K::Exists,
        "LimitExceededException"
        | "VersionsLimitExceededException"
        | "ServiceQuotaExceededException" => K::Limit,
        "CertificateStateException"
        | "CertificateConflictException"
        | "DeleteConflictException"
        | "VersionConflictException"
        | "ConflictingResourceUpdateException"
        | "ConflictException"
        | "DisabledException"
        | "KMSInvalidStateException" => K::Conflict,
        "UnauthorizedException"
        | "AccessDeniedException"
        | "AccessDenied"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignatureException" => K::Denied,
        _ if status == 429 => K::Throttled,
        _ if status >= 500 => K::Unavailable,
        _ if matches!(status, 401 | 403) => K::Denied,
        _ if status == 404 => K::NotFound,
        _ => K::Invalid,
    }
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
}

/// The causes, outermost first, without a text that repeats its neighbour.
fn chain<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> String {
    let mut texts: Vec<String> = sources(error).map(ToString::to_string).collect();
    texts.dedup();
    if texts.is_empty() {
        texts.push(error.to_string());
    }
    texts.join(": ")
}

fn has_credentials_error<E: Error + 'static>(error: &SdkError<E, HttpResponse>) -> bool {
    sources(error).any(<dyn Error>::is::<CredentialsError>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_before_the_status() {
        let cases = [
            ("ThrottlingException", 400, CloudErrorKind::Throttled),
            ("InvalidRequestException", 400, CloudErrorKind::Invalid),
            (
                "CertificateValidationException",
                400,
                CloudErrorKind::Invalid,
            ),
            ("ResourceNotFoundException", 404, CloudErrorKind::NotFound),
            (
                "ResourceAlreadyExistsException",
                409,
                CloudErrorKind::Exists,
            ),
            ("LimitExceededException", 410, CloudErrorKind::Limit),
            ("CertificateStateException", 406, CloudErrorKind::Conflict),
            ("AccessDeniedException", 403, CloudErrorKind::Denied),
            (
                "ServiceUnavailableException",
                503,
                CloudErrorKind::Unavailable,
            ),
            ("UnknownError", 500, CloudErrorKind::Unavailable),
            ("UnknownError", 429, CloudErrorKind::Throttled),
        ];
        for (name, status, kind) in cases {
            assert_eq!(kind_of(name, status), kind, "{name} {status}");
        }
    }
}
