//! One request, its parts by name.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::Query;
use axum::http::request::Parts;
use serde_json::{Map, Value};

use crate::core::cert::Certificate;
use crate::core::ids::IdError;
use crate::core::json;
use crate::core::time::UtcTime;
use crate::sandbox::Shared;
use crate::sandbox::registry::{ApiError, Dates, ErrorName};

/// The most characters of a PEM in the API model.
const MAX_PEM: usize = 65_536;
/// The deepest nesting of a body: documents are given as strings.
const MAX_DEPTH: usize = 16;

/// One request.
pub(super) struct Call {
    /// What time it is.
    pub(super) now: UtcTime,
    /// The host name of the MQTT endpoint.
    pub(super) endpoint: Arc<str>,
    labels: HashMap<String, String>,
    query: HashMap<String, String>,
    headers: axum::http::HeaderMap,
    body: Map<String, Value>,
    payload: Vec<u8>,
}

impl Call {
    pub(super) fn new(
        shared: &Shared,
        parts: &Parts,
        labels: HashMap<String, String>,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let Query(query) = Query::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::invalid("the query string cannot be read"))?;
        Ok(Self {
            now: shared.clock.now(),
            endpoint: Arc::clone(&shared.endpoint),
            labels,
            query,
            headers: parts.headers.clone(),
            body: object(body)?,
            payload: Vec::new(),
        })
    }

    /// The same with a body that is no JSON.
    pub(super) fn with_payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The body, where it is no JSON.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The part `{name}` of the path, percent-decoded.
    pub(super) fn label<T: FromStr<Err = IdError>>(&self, name: &str) -> Result<T, ApiError> {
        Ok(self.raw_label(name).parse()?)
    }

    pub(super) fn raw_label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", |value| value)
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(|value| &value[..])
    }

    /// `true` or `false` in the query string.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.query(name) {
            Some("true") => Ok(true),
            None | Some("false") => Ok(false),
            Some(_) => Err(ApiError::invalid(format!(
                "{name} is neither true nor false"
            ))),
        }
    }

    /// A number in the query string.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parsed = self.query(name).map(str::parse).transpose();
        parsed.map_err(|_| ApiError::invalid(format!("{name} is not a number in range")))
    }

    /// A header that must be there.
    pub(super) fn header(&self, name: &str) -> Result<&str, ApiError> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| ApiError::invalid(format!("the header {name} is missing")))
    }

    /// A member of the body; `null` is as if it were left out.
    pub(super) fn member(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// The body's members.
    pub(super) fn body(&self) -> Members<'_> {
        Members(&self.body)
    }

    /// An object that is a member of the body.
    pub(super) fn inner(&self, name: &str) -> Result<Option<Members<'_>>, ApiError> {
        self.body().inner(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        self.body().text(name)
    }

    /// A text of the body that must be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A name in the body.
    pub(super) fn name<T: FromStr<Err = IdError>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ApiError> {
        self.body().name(name)
    }

    /// `tags` of the body, by key.
    pub(super) fn tags(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let one = |tag: Members<'_>| {
            let key = tag.text("Key")?.ok_or_else(|| missing("tags.Key"))?;
            let value = tag.text("Value")?.unwrap_or_default();
            Ok((key.to_owned(), value.to_owned()))
        };
        self.body().objects("tags")?.into_iter().map(one).collect()
    }

    /// The first certificate of a PEM in the body.
    pub(super) fn certificate(&self, name: &str) -> Result<Option<Certificate>, ApiError> {
        let Some(pem) = self.text(name)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if pem.len() > MAX_PEM {
            return Err(ApiError::invalid(format!(
                "{name} is longer than {MAX_PEM}"
            )));
        }
        let refused = |reason: String| {
            ApiError::new(
                ErrorName::CertificateValidation,
                format!("{name}: {reason}"),
            )
        };
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(refused("there is no CERTIFICATE block".into()));
        }
        let all = Certificate::all_from_pem(pem.as_bytes());
        all.map(|all| all.into_iter().next())
            .map_err(|error| refused(error.to_string()))
    }

    /// A certificate of the body that must be there.
    pub(super) fn need_certificate(&self, name: &str) -> Result<Certificate, ApiError> {
        self.certificate(name)?.ok_or_else(|| missing(name))
    }
}

/// The members of a JSON object.
#[derive(Clone, Copy)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn inner(self, name: &str) -> Result<Option<Members<'a>>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Members(map))),
            Some(_) => Err(ApiError::invalid(format!("{name} is not an object"))),
        }
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::invalid(format!("{name} is not a string"))),
        }
    }

    pub(super) fn name<T: FromStr<Err = IdError>>(self, name: &str) -> Result<Option<T>, ApiError> {
        let parsed = self.text(name)?.map(str::parse).transpose();
        parsed.map_err(|error: IdError| ApiError::invalid(format!("{name}: {error}")))
    }

    pub(super) fn flag(self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(*on)),
            Some(_) => Err(ApiError::invalid(format!(
                "{name} is neither true nor false"
            ))),
        }
    }

    pub(super) fn number<T: TryFrom<u64>>(self, name: &str) -> Result<Option<T>, ApiError> {
        let wrong = || ApiError::invalid(format!("{name} is not a number in range"));
        let number = self.get(name).map(|value| value.as_u64().ok_or_else(wrong));
        number
            .transpose()?
            .map(|n| T::try_from(n).map_err(|_| wrong()))
            .transpose()
    }

    /// An object of name → text.
    pub(super) fn texts(self, name: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let Some(inner) = self.inner(name)? else {
            return Ok(BTreeMap::new());
        };
        let names = inner.0.keys();
        names
            .map(|key| Ok((key.clone(), inner.text(key)?.unwrap_or_default().to_owned())))
            .collect()
    }

    /// A list of objects.
    pub(super) fn objects(self, name: &str) -> Result<Vec<Members<'a>>, ApiError> {
        let wrong = || ApiError::invalid(format!("{name} is not a list of objects"));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => all
                .iter()
                .map(|value| value.as_object().map(Members).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// A list of texts.
    pub(super) fn list(self, name: &str) -> Result<Vec<String>, ApiError> {
        let wrong = || ApiError::invalid(format!("{name} is not a list of strings"));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) => all
                .iter()
                .map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::invalid(format!("{name} is missing"))
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::invalid("the body is not UTF-8"))?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match json::parse(text, MAX_DEPTH) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::invalid("the body is not a JSON object")),
        Err(error) => Err(ApiError::invalid(format!("the body is not JSON: {error}"))),
    }
}

/// Epoch seconds as a JSON number with a fraction, as rest-json has timestamps.
pub(super) fn timestamp(at: UtcTime) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of the years 1950 to 9999 are exact in 53 bits"
    )]
    Value::from(at.unix() as f64)
}

/// `creationDate` and `lastModifiedDate`, put into an object.
pub(super) fn put_dates(into: &mut Value, dates: Dates) {
    into["creationDate"] = timestamp(dates.created);
    into["lastModifiedDate"] = timestamp(dates.modified);
}

/// Puts a member that may be absent.
pub(super) fn put<T: Into<Value>>(into: &mut Value, name: &str, value: Option<T>) {
    if let Some(value) = value {
        into[name] = value.into();
    }
}

/// `generationId`: changes with every change of the entity.
pub(super) fn generation(of: &str, version: impl std::fmt::Display) -> String {
    let id = crate::core::ids::CertificateId::of_der(format!("{of} {version}").as_bytes());
    id.as_str()[..32].to_owned()
}
