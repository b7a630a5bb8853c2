//! What came of one MQTT CONNECT as the device.

use super::facts::{Ended, MqttFacts};
use super::{Check, Weight};

const ID: &str = "mqtt.connect";

pub(super) fn judge(mqtt: &MqttFacts) -> Check {
    let client = &mqtt.client_id;
    let Some(ended) = &mqtt.failed else {
        let fact = format!("`{client}` was accepted ({} ms)", mqtt.elapsed_ms);
        return Check::pass(ID, fact);
    };
    let mut check = failed(client, ended);
    if check.remedy.is_none() {
        check.remedy.clone_from(&ended.hint);
    }
    check
}

/// Only what is about the device's registration and policy is a no: the rest has a check of its own.
fn failed(client: &str, ended: &Ended) -> Check {
    let message = &ended.message;
    match &ended.code[..] {
        "connect.closed" => Check::fail(
            ID,
            format!("the server closed the connection to `{client}` instead of accepting it"),
        ),
        "connect.refused"
        | "connect.provisioning"
        | "dial.alert"
        | "dial.identity"
        | "mqtt.client-id"
        | "mqtt.protocol" => Check::fail(ID, message),
        code if code.starts_with("server") || code.starts_with("chain") => {
            Check::skip(ID, "not tried: the server is not the right one")
                .remedy("mend what is said of the server first")
        }
        code if code.starts_with("file") || code.starts_with("identity") => {
            Check::skip(ID, format!("not tried: {message}"))
        }
        _ => Check::fail(ID, message).weigh(Weight::Network),
    }
}
