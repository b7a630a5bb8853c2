//! Who calls the control plane: the account by its access key, the Region by the credential scope
//! (Signature Version 4), and whether the signature is really theirs.
//!
//! Source: IAM user guide "Signing AWS API requests".

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::http::header;
use axum::http::request::Parts;
use zeroize::Zeroizing;

use super::registry::{ApiError, ErrorName};
use crate::core::ids::{AccountId, Place, Region};
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Kind};

/// How far a request's time may be from ours.
const SKEW: Span = Span::seconds(300);
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Which signatures are taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AuthMode {
    /// Any.
    #[default]
    Any,
    /// Only right ones, of credentials that are known.
    Known,
}

/// The credentials that are known.
#[derive(Clone, Default)]
pub struct Keyring {
    mode: AuthMode,
    keys: BTreeMap<String, KnownKey>,
}

#[derive(Clone)]
struct KnownKey {
    secret: Zeroizing<String>,
    token: Option<String>,
    account: Option<AccountId>,
}

/// A file of credentials that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the credentials: {problem}")]
pub struct KeyringError {
    line: usize,
    problem: String,
}

impl Explain for KeyringError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "sandbox.credentials"
    }
    fn hint(&self) -> Option<String> {
        Some(
            "write it as the AWS CLI's credentials file: [NAME], aws_access_key_id, \
             aws_secret_access_key, and aws_account_id for another account"
                .into(),
        )
    }
}

impl Keyring {
    /// Reads credentials in the AWS CLI's format. `aws_account_id` says whose they are; without it
    /// they are the sandbox's own account's.
    ///
    /// # Errors
    /// `sandbox.credentials`.
    pub fn parse(mode: AuthMode, text: &str) -> Result<Self, KeyringError> {
        let mut keys = BTreeMap::new();
        let mut profile: Option<(usize, BTreeMap<String, String>)> = None;
        for (number, line) in text.lines().enumerate() {
            let (number, line) = (number + 1, line.trim());
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') && line.ends_with(']') {
                if let Some((at, settings)) = profile.replace((number, BTreeMap::new())) {
                    keep(&mut keys, at, settings)?;
                }
                continue;
            }
            let wrong = |problem: &str| KeyringError {
                line: number,
                problem: problem.to_owned(),
            };
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| wrong("neither `[NAME]` nor `KEY = VALUE`"))?;
            let (_, settings) = profile
                .as_mut()
                .ok_or_else(|| wrong("it stands before the first `[NAME]`"))?;
            settings.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
        if let Some((at, settings)) = profile {
            keep(&mut keys, at, settings)?;
        }
        Ok(Self { mode, keys })
    }

    /// Credentials that are taken for the sandbox's own account: key, secret, session token. `None`
    /// when any are.
    pub fn own(&self, home: &AccountId) -> Option<(&str, &str, Option<&str>)> {
        let of_home = |known: &KnownKey| known.account.as_ref().is_none_or(|id| id == home);
        let (key, known) = self.keys.iter().find(|(_, known)| of_home(known))?;
        let known = (&key[..], known.secret.as_str(), known.token.as_deref());
        (self.mode == AuthMode::Known).then_some(known)
    }

    /// Who has sent a request, as far as it says and is believed.
    ///
    /// # Errors
    /// `MissingAuthenticationTokenException` for a request that is not signed;
    /// `UnrecognizedClientException`, `InvalidSignatureException`, `IncompleteSignatureException`
    /// where only known credentials are taken.
    pub fn identify(
        &self,
        parts: &Parts,
        body: &[u8],
        home: &Place,
        now: UtcTime,
    ) -> Result<Place, ApiError> {
        let claim = Claim::of(parts)?;
        if self.mode == AuthMode::Known {
            let claim = claim.as_ref().filter(|claim| claim.is_header);
            let claim = claim.ok_or_else(|| {
                let message = "the Authorization header is not one of AWS4-HMAC-SHA256 with \
                               Credential, SignedHeaders and Signature";
                ApiError::new(ErrorName::IncompleteSignature, message)
            })?;
            self.verify(claim, parts, body, now)?;
        }
        let Some(claim) = claim else {
            return Ok(home.clone());
        };
        let known = self.keys.get(&claim.key);
        let account = known.and_then(|key| key.account.clone());
        Ok(Place {
            // A key of twelve digits stands for the account of that number.
            account: account
                .or_else(|| claim.key.parse().ok().filter(|_| claim.key.len() == 12))
                .unwrap_or_else(|| home.account.clone()),
            region: claim.region,
        })
    }

    fn verify(
        &self,
        claim: &Claim,
        parts: &Parts,
        body: &[u8],
        now: UtcTime,
    ) -> Result<(), ApiError> {
        let known = self.keys.get(&claim.key).ok_or_else(|| {
            let message = "The security token included in the request is invalid.";
            ApiError::new(ErrorName::UnrecognizedClient, message)
        })?;
        let refused = |message: String| ApiError::new(ErrorName::InvalidSignature, message);
        let sent = text(parts, "x-amz-date").and_then(amz_date);
        let sent = sent.ok_or_else(|| refused("the header x-amz-date is missing".into()))?;
        if sent < now.minus(SKEW) || sent > now.plus(SKEW) {
            return Err(refused(format!(
                "Signature expired: the request is of {sent}, the time is {now}"
            )));
        }
        if known.token.as_deref() != text(parts, "x-amz-security-token") {
            let message = "The security token included in the request is invalid.";
            return Err(ApiError::new(ErrorName::UnrecognizedClient, message));
        }
        let right = signature(claim, known, parts, body, sent);
        let same = right.is_some_and(|right| {
            // In constant time: how much of it is right is nobody's business.
            let pairs = right.bytes().zip(claim.signature.bytes());
            right.len() == claim.signature.len()
                && pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
        });
        if same {
            return Ok(());
        }
        Err(refused(
            "The request signature we calculated does not match the signature you provided. Check \
             your AWS Secret Access Key and signing method."
                .into(),
        ))
    }
}

fn keep(
    keys: &mut BTreeMap<String, KnownKey>,
    line: usize,
    mut settings: BTreeMap<String, String>,
) -> Result<(), KeyringError> {
    let wrong = |problem: String| KeyringError { line, problem };
    let mut need = |name: &str| {
        let value = settings.remove(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| wrong(format!("{name} is missing")))
    };
    let key = need("aws_access_key_id")?;
    let secret = Zeroizing::new(need("aws_secret_access_key")?);
    let account = settings.remove("aws_account_id").map(|id| id.parse());
    let known = KnownKey {
        secret,
        token: settings.remove("aws_session_token"),
        account: account
            .transpose()
            .map_err(|error: crate::core::ids::IdError| wrong(error.to_string()))?,
    };
    match keys.insert(key, known) {
        None => Ok(()),
        Some(_) => Err(wrong("the access key stands here twice".to_owned())),
    }
}

/// What a request says of itself.
struct Claim {
    key: String,
    region: Region,
    service: String,
    headers: Vec<String>,
    signature: String,
    is_header: bool,
}

impl Claim {
    /// `None` for a signature of another kind.
    fn of(parts: &Parts) -> Result<Option<Self>, ApiError> {
        if let Some(text) = text(parts, header::AUTHORIZATION.as_str()) {
            return Ok(Self::of_header(text));
        }
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("X-Amz-Signature=") {
            return Ok(Self::of_query(query));
        }
        Err(ApiError::new(
            ErrorName::MissingAuthenticationToken,
            "Missing Authentication Token: the request is not signed (SigV4)",
        ))
    }

    fn of_header(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(ALGORITHM)?;
        let part = |name: &str| {
            let mut parts = rest.split(',').map(str::trim);
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let headers = part("SignedHeaders")?.split(';').map(str::to_owned);
        let mut claim = Self::of_scope(part("Credential")?)?;
        claim.headers = headers.collect();
        part("Signature")?.clone_into(&mut claim.signature);
        claim.is_header = true;
        Some(claim)
    }

    fn of_query(query: &str) -> Option<Self> {
        let mut pairs = query.split('&');
        let scope = pairs.find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
        Self::of_scope(&scope.replace("%2F", "/").replace("%2f", "/"))
    }

    /// `KEY/DATE/REGION/SERVICE/aws4_request`
    fn of_scope(scope: &str) -> Option<Self> {
        let parts: Vec<&str> = scope.split('/').collect();
        let [key, _, region, service, "aws4_request"] = parts[..] else {
            return None;
        };
        Some(Self {
            key: key.to_owned(),
            region: region.parse().ok()?,
            service: service.to_owned(),
            headers: Vec::new(),
            signature: String::new(),
            is_header: false,
        })
    }
}

fn text<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

/// `20260131T235959Z`
fn amz_date(text: &str) -> Option<UtcTime> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}",
        &text[..4],
        &text[4..6],
        &text[6..8],
        &text[9..11],
        &text[11..13],
        &text[13..]
    );
    rfc3339.parse().ok()
}

/// The signature that the request has if the credentials have signed it.
fn signature(
    claim: &Claim,
    known: &KnownKey,
    parts: &Parts,
    body: &[u8],
    sent: UtcTime,
) -> Option<String> {
    // These two the signer adds itself.
    let own = ["x-amz-date", "x-amz-security-token"];
    let names = claim
        .headers
        .iter()
        .filter(|name| !own.contains(&&name[..]));
    let headers: Option<Vec<(&str, &str)>> = names
        .map(|name| Some((&name[..], text(parts, name)?)))
        .collect();
    let host = text(parts, "host")?;
    let target = parts.uri.path_and_query()?;
    let url = format!("http://{host}{target}");
    let request = SignableRequest::new(
        parts.method.as_str(),
        url,
        headers?.into_iter(),
        SignableBody::Bytes(body),
    );
    let token = known.token.clone();
    let credentials = Credentials::new(&claim.key, known.secret.as_str(), token, None, "sandbox");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.excluded_headers = None;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(sent.unix()).ok()?))?;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(claim.region.as_str())
        .name(&claim.service)
        .time(time)
        .settings(settings)
        .build()
        .ok()?;
    let (_, signature) = sign(request.ok()?, &parameters.into()).ok()?.into_parts();
    Some(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Place {
        Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        }
    }

    fn parts(authorization: &str) -> Parts {
        let request = axum::http::Request::get("http://localhost/things")
            .header("host", "localhost")
            .header("x-amz-date", "20260131T120000Z")
            .header("authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    fn scope(key: &str, region: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260131/{region}/iot/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=00"
        )
    }

    #[test]
    fn the_key_tells_the_account_and_the_scope_the_region() {
        let file = "[a]\naws_access_key_id = AKIA1\naws_secret_access_key=s\n\
                    aws_account_id=210987654321\n[b]\naws_access_key_id=AKIA2\n\
                    aws_secret_access_key = t\n";
        let ring = Keyring::parse(AuthMode::Any, file).unwrap();
        let now = UtcTime::from_unix(1_769_860_800);
        for (authorization, account, region) in [
            (scope("AKIA1", "us-east-1"), "210987654321", "us-east-1"),
            (scope("AKIA2", "eu-west-1"), "123456789012", "eu-west-1"),
            (
                scope("111122223333", "eu-west-1"),
                "111122223333",
                "eu-west-1",
            ),
            (scope("whoever", "ap-south-1"), "123456789012", "ap-south-1"),
            ("Bearer x".to_owned(), "123456789012", "eu-west-1"),
        ] {
            let place = ring
                .identify(&parts(&authorization), b"", &home(), now)
                .unwrap();
            let found = (place.account.as_str(), place.region.as_str());
            assert_eq!(found, (account, region), "{authorization}");
        }
    }

    #[test]
    fn only_right_signatures_of_known_keys_are_taken() {
        let file = "[a]\naws_access_key_id=AKIA1\naws_secret_access_key=s\n";
        let ring = Keyring::parse(AuthMode::Known, file).unwrap();
        let now = UtcTime::from_unix(1_769_860_800);
        let name = |authorization: &str, now| {
            let answer = ring.identify(&parts(authorization), b"", &home(), now);
            answer.unwrap_err().name
        };
        assert_eq!(
            name(&scope("AKIA1", "eu-west-1"), now),
            ErrorName::InvalidSignature
        );
        assert_eq!(
            name(&scope("AKIA9", "eu-west-1"), now),
            ErrorName::UnrecognizedClient
        );
        assert_eq!(name("Bearer x", now), ErrorName::IncompleteSignature);
        let claim = Claim::of_header(&scope("AKIA1", "eu-west-1")).unwrap();
        let given = parts(&scope("AKIA1", "eu-west-1"));
        let right = signature(&claim, &ring.keys["AKIA1"], &given, b"", now).unwrap();
        let signed =
            scope("AKIA1", "eu-west-1").replace("Signature=00", &format!("Signature={right}"));
        assert!(ring.identify(&parts(&signed), b"", &home(), now).is_ok());
        assert!(ring.identify(&parts(&signed), b"x", &home(), now).is_err());
        let late = now.plus(Span::seconds(301));
        assert_eq!(name(&signed, late), ErrorName::InvalidSignature);
    }

    #[test]
    fn a_file_of_credentials_says_where_it_is_wrong() {
        for (text, wanted) in [
            ("aws_access_key_id=a", "line 1"),
            (
                "[a]\naws_access_key_id=a",
                "aws_secret_access_key is missing",
            ),
            ("[a]\nrubbish", "line 2"),
            (
                "[a]\naws_access_key_id=a\naws_secret_access_key=b\naws_account_id=1",
                "not an AWS account id",
            ),
        ] {
            let said = Keyring::parse(AuthMode::Any, text)
                .err()
                .unwrap()
                .to_string();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
