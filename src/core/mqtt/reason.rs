//! What servers answer with: the codes of MQTT 3.1.1 and 5, in words.

use std::fmt;

use super::Protocol;

/// An answer's code, what it means, and what the server adds.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Reason {
    /// The code: of MQTT 3.1.1's CONNACK and SUBACK, or MQTT 5's reason code.
    pub code: u8,
    /// What the specification calls it.
    pub meaning: &'static str,
    /// MQTT 5's reason string, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Reason {
    /// A CONNACK's code.
    pub fn connack(protocol: Protocol, code: u8, text: Option<String>) -> Self {
        let meaning = match protocol {
            Protocol::V3 => connack_meaning(code),
            Protocol::V5 => meaning(code),
        };
        Self {
            code,
            meaning,
            text,
        }
    }

    /// Any other packet's code.
    pub fn of(code: u8, text: Option<String>) -> Self {
        Self {
            code,
            meaning: meaning(code),
            text,
        }
    }

    /// Whether it says yes.
    pub fn is_yes(&self) -> bool {
        self.code < 0x80
    }

    /// Whether the server may answer otherwise to the same question later.
    pub fn may_pass(&self) -> bool {
        // Not authorised (until a template has run), unavailable, busy, shutting down, rate, quota.
        matches!(self.code, 3 | 0x87..=0x89 | 0x8b | 0x97 | 0x9f)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code < 0x80 {
            write!(f, "{}: {}", self.code, self.meaning)?;
        } else {
            write!(f, "{:#04x}: {}", self.code, self.meaning)?;
        }
        match &self.text {
            Some(text) => write!(f, " (the server adds: {text})"),
            None => Ok(()),
        }
    }
}

/// What a CONNACK code means (MQTT 3.1.1 table 3.1).
fn connack_meaning(code: u8) -> &'static str {
    match code {
        0 => "accepted",
        1 => "the server does not speak MQTT 3.1.1",
        2 => "the client id is not allowed",
        3 => "the server is not available",
        4 => "user name or password is malformed",
        5 => "not authorised",
        _ => "reserved",
    }
}

/// What a reason code means (MQTT 5 §2.4); 0x80 is also SUBACK's only refusal in MQTT 3.1.1.
fn meaning(code: u8) -> &'static str {
    match code {
        0..=2 => "granted",
        0x04 => "disconnected with a last will",
        0x10 => "no subscriber matches",
        0x80 => "refused without a reason",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "refused for a reason of the server's own",
        0x84 => "the server does not speak MQTT 5",
        0x85 => "the client id is not allowed",
        0x86 => "bad user name or password",
        0x87 => "not authorised",
        0x88 => "the server is not available",
        0x89 => "the server is busy",
        0x8a => "banned",
        0x8b => "the server is shutting down",
        0x8c => "bad authentication method",
        0x8d => "nothing was heard for one and a half keep-alives",
        0x8e => "another connection took the client id over",
        0x8f => "the topic filter is not allowed",
        0x90 => "the topic name is not allowed",
        0x91 => "the packet identifier is in use",
        0x93 => "more messages are unacknowledged than the server takes",
        0x94 => "the topic alias is not allowed",
        0x95 => "the packet is too large",
        0x96 => "the message rate is too high",
        0x97 => "a quota is used up",
        0x98 => "an administrator ended it",
        0x99 => "the payload's format is wrong",
        0x9a => "retained messages are not supported",
        0x9b => "this QoS is not supported",
        0x9c => "use another server",
        0x9d => "the server has moved",
        0x9e => "shared subscriptions are not supported",
        0x9f => "the connection rate is too high",
        0xa0 => "the longest connection time is over",
        0xa1 => "subscription identifiers are not supported",
        0xa2 => "wildcard subscriptions are not supported",
        _ => "reserved",
    }
}
