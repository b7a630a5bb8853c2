//! The data plane for programs that are no devices (`iot-data`): publish, retained messages,
//! connections; and what `iot` says of a thing's connection.

use std::sync::Arc;

use axum::routing::MethodFilter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::{Call, put};
use super::page::{Listing, TOKEN, page};
use super::{Operation, raw_operation, slow_operation};
use crate::core::ids::ThingName;
use crate::sandbox::Shared;
use crate::sandbox::broker::Broker;
use crate::sandbox::mqtt::hub::{MAX_PAYLOAD, Publication, Retained};
use crate::sandbox::mqtt::topics;
use crate::sandbox::registry::{ApiError, ErrorName};

/// Those whose quota is told by 429.
pub(super) const OPERATIONS: &[Operation] = &[
    raw_operation("Publish", MethodFilter::POST, "/topics/{*topic}", publish),
    slow_operation(
        "ListRetainedMessages",
        MethodFilter::GET,
        "/retainedMessage",
        list_retained,
    ),
    slow_operation(
        "GetRetainedMessage",
        MethodFilter::GET,
        "/retainedMessage/{*topic}",
        get_retained,
    ),
    slow_operation(
        "DeleteConnection",
        MethodFilter::DELETE,
        "/connections/{client}",
        delete_connection,
    ),
];

/// Of `iot` itself.
pub(super) const CONNECTIVITY: &[Operation] = &[slow_operation(
    "GetThingConnectivityData",
    MethodFilter::POST,
    "/things/{name}/connectivity-data",
    connectivity,
)];

fn broker(shared: &Shared) -> Result<Arc<Broker>, ApiError> {
    shared.broker().ok_or_else(|| {
        let message = "this sandbox has no MQTT endpoint";
        ApiError::new(ErrorName::ServiceUnavailable, message)
    })
}

fn publish(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let topic = call.raw_label("topic");
    if let Some(problem) = topics::topic_problem(topic) {
        return Err(ApiError::invalid(problem));
    }
    if call.payload().len() > MAX_PAYLOAD {
        let message = format!("the payload is over {MAX_PAYLOAD} bytes");
        return Err(ApiError::invalid(message));
    }
    let qos: u8 = call.number("qos")?.unwrap_or(0);
    if qos > 1 {
        return Err(ApiError::invalid("qos is neither 0 nor 1"));
    }
    let mut publication = Publication {
        topic: topic.into(),
        payload: call.payload().into(),
        qos,
        retain: call.flag("retain")?,
        expiry: call.number("messageExpiry")?,
        ..Publication::default()
    };
    let properties = &mut publication.properties;
    properties.content_type = call.query("contentType").map(str::to_owned);
    properties.response_topic = call.query("responseTopic").map(str::to_owned);
    properties.text = match call.header("x-amz-mqtt5-payload-format-indicator").ok() {
        None => None,
        Some("UTF8_DATA") => Some(true),
        Some("UNSPECIFIED_BYTES") => Some(false),
        Some(_) => {
            let message = "payloadFormatIndicator is neither UNSPECIFIED_BYTES nor UTF8_DATA";
            return Err(ApiError::invalid(message));
        }
    };
    if let Ok(text) = call.header("x-amz-mqtt5-correlation-data") {
        properties.correlation = Some(from_base64(text, "correlationData")?);
    }
    if let Ok(text) = call.header("x-amz-mqtt5-user-properties") {
        properties.user = user_properties(text)?;
    }
    broker(shared)?.publish(publication);
    Ok(Value::Null)
}

/// `[{"name": "value"}, …]`, in base64.
fn user_properties(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let wrong = || ApiError::invalid("userProperties is not a list of names with their values");
    let bytes = from_base64(text, "userProperties")?;
    // The AWS CLI encodes its argument, which is JSON already, as JSON once more.
    let inner: Option<String> = serde_json::from_slice(&bytes).ok();
    let bytes = inner.map_or(bytes, String::into_bytes);
    let all: Vec<serde_json::Map<String, Value>> =
        serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    let pairs = all.into_iter().flatten();
    pairs
        .map(|(name, value)| match value {
            Value::String(value) => Ok((name, value)),
            _ => Err(wrong()),
        })
        .collect()
}

fn from_base64(text: &str, name: &str) -> Result<Vec<u8>, ApiError> {
    STANDARD
        .decode(text)
        .map_err(|_| ApiError::invalid(format!("{name} is not base64")))
}

fn get_retained(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let topic = call.raw_label("topic");
    let found = broker(shared)?.retained(topic);
    let Retained { message, modified } =
        found.ok_or_else(|| ApiError::not_found("a retained message of", topic))?;
    let mut answer = json!({
        "topic": topic,
        "payload": STANDARD.encode(&message.payload),
        "qos": message.qos,
        "lastModifiedTime": modified,
    });
    let user = message
        .properties
        .as_ref()
        .map(|properties| &properties.user);
    let user = user.filter(|user| !user.is_empty()).map(|user| {
        let pairs: Vec<Value> = user.iter().map(|(k, v)| json!({ &k[..]: v })).collect();
        STANDARD.encode(Value::from(pairs).to_string())
    });
    put(&mut answer, "userProperties", user);
    Ok(answer)
}

fn list_retained(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let show = |one: &Retained| {
        json!({
            "topic": &*one.message.topic,
            "payloadSize": one.message.payload.len(),
            "qos": one.message.qos,
            "lastModifiedTime": one.modified,
        })
    };
    let all = broker(shared)?.all_retained().into_iter();
    let list = Listing::by_name(all, |one| one.message.topic.to_string(), show);
    page(call, &TOKEN, "retainedTopics", list)
}

fn delete_connection(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let client = call.raw_label("client");
    let (clean, silent) = (call.flag("cleanSession")?, call.flag("preventWillMessage")?);
    if broker(shared)?.delete_connection(client, clean, !silent) {
        return Ok(Value::Null);
    }
    Err(ApiError::not_found("a connection of client id", client))
}

/// A thing's client id is its name. One that has not been connected for an hour is unknown.
fn connectivity(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let known = {
        let registry = shared.registry.lock();
        let registry = registry.unwrap_or_else(std::sync::PoisonError::into_inner);
        registry.thing(&name).is_some()
    };
    if !known {
        return Err(ApiError::not_found("thing", &name));
    }
    let Some(found) = broker(shared)?.connectivity(name.as_str()) else {
        return Ok(json!({
            "thingName": name,
            "connected": false,
            "disconnectReason": "UNKNOWN",
        }));
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of our time are exact in 53 bits"
    )]
    let at = found.since as f64 / 1000.0;
    let mut answer = json!({ "thingName": name, "connected": found.connected, "timestamp": at });
    let reason = if found.connected { None } else { found.reason };
    put(&mut answer, "disconnectReason", reason);
    Ok(answer)
}

/// Of `iot-data`, too many calls are 429, where `iot` says 400.
pub(super) fn throttled(operation: &Operation, error: ApiError) -> ApiError {
    let of_data = OPERATIONS.iter().any(|one| one.name == operation.name);
    let status = if of_data { 429 } else { error.status };
    ApiError { status, ..error }
}
