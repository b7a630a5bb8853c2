//! What a device asks of fleet provisioning over MQTT, and what it is answered. Source: developer
//! guide "Device provisioning MQTT API".

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::core::cert::Certificate;
use crate::core::ids::TemplateName;
use crate::core::payload::Format;
use crate::explain::{Explain, Kind};

/// How long an ownership token is good, in seconds.
pub const TOKEN_LIFE_S: i64 = 3600;
/// What the service calls a token that is unknown, used or over.
const TOKEN_REFUSED: &str = "InvalidCertificateOwnershipToken";

/// What can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation<'a> {
    /// CreateKeysAndCertificate: the service makes the key.
    Keys,
    /// CreateCertificateFromCsr.
    Csr,
    /// RegisterThing by this template.
    Provision(&'a TemplateName),
}

impl Operation<'_> {
    /// What AWS calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "CreateKeysAndCertificate",
            Self::Csr => "CreateCertificateFromCsr",
            Self::Provision(_) => "RegisterThing",
        }
    }

    /// The topic that it is published to; its answers come from `/accepted` and `/rejected` below.
    pub fn topic(self, format: Format) -> String {
        let format = format.name();
        match self {
            Self::Keys => format!("$aws/certificates/create/{format}"),
            Self::Csr => format!("$aws/certificates/create-from-csr/{format}"),
            Self::Provision(template) => {
                format!("$aws/provisioning-templates/{template}/provision/{format}")
            }
        }
    }
}

/// The payload that asks for a certificate for the key of a request.
pub fn ask_for_csr(format: Format, csr_pem: &str) -> Vec<u8> {
    format.encode(&json!({ "certificateSigningRequest": csr_pem }))
}

/// The payload that asks for a key and its certificate.
pub fn ask_for_keys(format: Format) -> Vec<u8> {
    format.encode(&json!({}))
}

/// The payload that asks for the template to be run.
pub fn ask_for_thing(
    format: Format,
    token: &str,
    parameters: &BTreeMap<String, String>,
) -> Zeroizing<Vec<u8>> {
    let body = json!({ "certificateOwnershipToken": token, "parameters": parameters });
    format.encode(&body).into()
}

/// A certificate that was issued, and what it is provisioned with.
pub struct Issued {
    /// The certificate.
    pub certificate: Certificate,
    /// The ownership token.
    pub token: Zeroizing<String>,
    /// The key, PEM, if the service made it.
    pub private_key: Option<Zeroizing<String>>,
}

/// What RegisterThing answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Registered {
    /// The thing.
    pub thing_name: Option<String>,
    /// The template's `DeviceConfiguration`.
    pub device_configuration: Map<String, Value>,
}

/// Reads the answer of CreateKeysAndCertificate or CreateCertificateFromCsr.
///
/// # Errors
/// `fleet.answer`.
pub fn issued(format: Format, payload: &[u8]) -> Result<Issued, FleetError> {
    let mut body = format.decode(payload).map_err(FleetError::Answer)?;
    let pem = required(&mut body, "certificatePem")?;
    let certificate = Certificate::all_from_pem(pem.as_bytes())
        .map_err(|error| FleetError::Answer(format!("certificatePem: {error}")))?
        .swap_remove(0);
    let id = required(&mut body, "certificateId")?;
    if id != certificate.id().as_str() {
        return Err(FleetError::Answer(
            "certificateId is not the certificate's".into(),
        ));
    }
    let token = required(&mut body, "certificateOwnershipToken")?.into();
    let private_key = optional(&mut body, "privateKey")?.map(Zeroizing::new);
    Ok(Issued {
        certificate,
        token,
        private_key,
    })
}

/// Reads the answer of RegisterThing.
///
/// # Errors
/// `fleet.answer`.
pub fn registered(format: Format, payload: &[u8]) -> Result<Registered, FleetError> {
    let mut body = format.decode(payload).map_err(FleetError::Answer)?;
    let thing_name = optional(&mut body, "thingName")?;
    let device_configuration = match body.remove("deviceConfiguration") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(FleetError::Answer("deviceConfiguration is no map".into())),
    };
    Ok(Registered {
        thing_name,
        device_configuration,
    })
}

fn required(body: &mut Map<String, Value>, name: &str) -> Result<String, FleetError> {
    optional(body, name)?.ok_or_else(|| FleetError::Answer(format!("there is no {name}")))
}

fn optional(body: &mut Map<String, Value>, name: &str) -> Result<Option<String>, FleetError> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(FleetError::Answer(format!("{name} is no text"))),
    }
}

/// Reads what came from a `/rejected` topic.
pub fn rejected(operation: &'static str, format: Format, payload: &[u8]) -> FleetError {
    let mut body = match format.decode(payload) {
        Ok(body) => body,
        Err(why) => return FleetError::Answer(why),
    };
    let status = body.remove("statusCode").and_then(|code| code.as_u64());
    let mut text = |name: &str| {
        let text = optional(&mut body, name).ok().flatten();
        let plain = |c: &char| !c.is_control();
        let text = text.unwrap_or_default();
        text.chars().filter(plain).take(500).collect::<String>()
    };
    FleetError::Rejected(Rejection {
        operation,
        status: status
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or(0),
        code: text("errorCode"),
        message: text("errorMessage"),
    })
}

/// A request that was refused, as the service tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejection {
    /// What was asked.
    pub operation: &'static str,
    /// `statusCode`; 0 when there was none.
    pub status: u16,
    /// `errorCode`.
    pub code: String,
    /// `errorMessage`.
    pub message: String,
}

impl Rejection {
    /// Whether the ownership token was refused: it is unknown, used or over.
    pub fn is_of_token(&self) -> bool {
        self.code == TOKEN_REFUSED
    }

    /// Whether the same question may be answered otherwise later.
    pub fn may_pass(&self) -> bool {
        self.status == 429 || self.status >= 500
    }
}

/// Why there is no answer to go on with.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It cannot be understood.
    #[error("the service's answer cannot be used: {0}")]
    Answer(String),
    /// It is no.
    #[error(
        "{} was rejected with {} {}: {}",
        .0.operation, .0.status, .0.code, .0.message
    )]
    Rejected(Rejection),
}

impl Explain for FleetError {
    fn kind(&self) -> Kind {
        match self {
            Self::Rejected(rejection) if rejection.may_pass() => Kind::Unavailable,
            Self::Answer(_) | Self::Rejected(_) => Kind::Negative,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Answer(_) => "fleet.answer",
            Self::Rejected(_) => "fleet.rejected",
        }
    }
    fn hint(&self) -> Option<String> {
        let Self::Rejected(rejection) = self else {
            return None;
        };
        let advice = match (rejection.status, &rejection.code[..]) {
            (_, TOKEN_REFUSED) => {
                "the token is used, or more than an hour old: run the same command again"
            }
            (403, _) => {
                "look at the target: the pre-provisioning hook says no or failed, the template is \
                 not enabled, its role may not do what it says, or the claim has ended"
            }
            (404, _) => "check --template: there is no fleet provisioning template of that name",
            (_, "InvalidCsr") => "AWS IoT takes P-256, P-384 and RSA keys from 2048 bits",
            (409, _) => {
                "the thing or certificate stands in the way as it is: see OverrideSettings of the \
                 template"
            }
            (400, _) => {
                "check --param against the template's Parameters: `nameplate template plan -t \
                 TEMPLATE --set NAME=VALUE` shows on a desk what it makes of them"
            }
            (429, _) => "the account's provisioning quota is used up: try again later",
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_the_guide() {
        let template = "pump".parse().unwrap();
        for (operation, topic) in [
            (Operation::Keys, "$aws/certificates/create/json"),
            (Operation::Csr, "$aws/certificates/create-from-csr/json"),
            (
                Operation::Provision(&template),
                "$aws/provisioning-templates/pump/provision/json",
            ),
        ] {
            assert_eq!(operation.topic(Format::Json), topic);
        }
    }

    #[test]
    fn answers_are_read_in_both_formats_and_strictly() {
        for format in [Format::Json, Format::Cbor] {
            let body = json!({"thingName": "a", "deviceConfiguration": {"k": "v"}});
            let answer = registered(format, &format.encode(&body)).unwrap();
            assert_eq!(answer.thing_name.as_deref(), Some("a"));
            assert_eq!(answer.device_configuration["k"], "v");
            for bad in [
                json!({"thingName": 1}),
                json!({"deviceConfiguration": []}),
                json!([]),
            ] {
                assert!(registered(format, &format.encode(&bad)).is_err());
            }
            for bad in [
                json!({}),
                json!({"certificatePem": "x", "certificateId": "y"}),
            ] {
                assert!(issued(format, &format.encode(&bad)).is_err());
            }
        }
    }

    #[test]
    fn rejections_keep_their_words_and_have_a_remedy() {
        let body =
            json!({"statusCode": 403, "errorCode": "AccessDenied", "errorMessage": "no\u{1b}"});
        let bytes = Format::Json.encode(&body);
        let error = rejected("RegisterThing", Format::Json, &bytes);
        assert_eq!(
            error.to_string(),
            "RegisterThing was rejected with 403 AccessDenied: no"
        );
        assert!(error.hint().unwrap().contains("pre-provisioning hook"));
        let FleetError::Rejected(rejection) = error else {
            panic!()
        };
        assert!(!rejection.may_pass() && !rejection.is_of_token());
    }
}
