//! Packets of MQTT 3.1.1 and 5 in one form: what a version does not have is at its default.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Reason codes (MQTT 5 §2.4), those that AWS IoT uses.
pub(crate) mod code {
    /// Done; for a SUBACK: QoS 0 granted.
    pub(crate) const SUCCESS: u8 = 0x00;
    /// A DISCONNECT that asks for the will to be sent.
    pub(crate) const WITH_WILL: u8 = 0x04;
    pub(crate) const UNSPECIFIED: u8 = 0x80;
    pub(crate) const MALFORMED: u8 = 0x81;
    pub(crate) const PROTOCOL: u8 = 0x82;
    pub(crate) const CLIENT_ID: u8 = 0x85;
    pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
    pub(crate) const SHUTTING_DOWN: u8 = 0x8b;
    pub(crate) const KEEP_ALIVE: u8 = 0x8d;
    pub(crate) const TAKEN_OVER: u8 = 0x8e;
    pub(crate) const FILTER: u8 = 0x8f;
    pub(crate) const TOPIC: u8 = 0x90;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x93;
    pub(crate) const TOPIC_ALIAS: u8 = 0x94;
    pub(crate) const QUOTA: u8 = 0x97;
    pub(crate) const ADMINISTRATIVE: u8 = 0x98;
    pub(crate) const QOS: u8 = 0x9b;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0xa1;
}

/// Which MQTT a connection speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// What a message carries through from publisher to subscriber.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(crate) struct Properties {
    /// Payload Format Indicator: `true` for UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<bool>,
    /// Content Type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    /// Response Topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_topic: Option<String>,
    /// Correlation Data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) correlation: Option<Vec<u8>>,
    /// User Properties, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) user: Vec<(String, String)>,
}

/// A packet from a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Incoming {
    Auth,
    Connect(Box<Connect>),
    Disconnect {
        code: u8,
        /// Session Expiry Interval, in seconds.
        expiry: Option<u32>,
    },
    Pingreq,
    Puback(u16),
    Publish(Box<Publish>),
    Subscribe(Subscribe),
    Unsubscribe {
        id: u16,
        filters: Vec<String>,
    },
    /// A packet that AWS IoT does not take from a client, by its name.
    Unexpected(&'static str),
}

/// CONNECT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    /// Clean Session or Clean Start.
    pub(crate) clean: bool,
    /// Seconds; 0 for none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
    /// Session Expiry Interval in seconds; `None` for 3.1.1.
    pub(crate) expiry: Option<u32>,
    /// Receive Maximum.
    pub(crate) receive_maximum: u16,
    /// Maximum Packet Size, in bytes.
    pub(crate) packet_maximum: u32,
    /// Topic Alias Maximum.
    pub(crate) alias_maximum: u16,
    /// Request Problem Information.
    pub(crate) problem_information: bool,
    /// It names an Authentication Method.
    pub(crate) authentication: bool,
}

/// The last will in a CONNECT.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Will Delay Interval, in seconds.
    pub(crate) delay: u32,
    /// Message Expiry Interval, in seconds.
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: Properties,
}

/// PUBLISH from a client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Publish {
    /// Empty when the alias says it.
    pub(crate) topic: String,
    pub(crate) alias: Option<u16>,
    /// `None` with QoS 0.
    pub(crate) id: Option<u16>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) payload: Arc<[u8]>,
    /// Message Expiry Interval, in seconds.
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: Properties,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Subscribe {
    pub(crate) id: u16,
    pub(crate) filters: Vec<Filter>,
    /// It has a Subscription Identifier.
    pub(crate) identified: bool,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Filter {
    pub(crate) text: String,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) as_published: bool,
    /// Retain Handling: 0 always, 1 if it is new, 2 never.
    pub(crate) retain_handling: u8,
}

/// A packet to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outgoing {
    Connack(Box<Connack>),
    /// Only MQTT 5 has it.
    Disconnect {
        code: u8,
        why: Option<String>,
    },
    Pingresp,
    Puback {
        id: u16,
        code: u8,
        why: Option<String>,
    },
    Publish(Box<Delivery>),
    Suback {
        id: u16,
        codes: Vec<u8>,
        why: Option<String>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
    },
}

/// CONNACK. The code is MQTT 5's, or for 3.1.1 its return code.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Connack {
    pub(crate) code: u8,
    pub(crate) session_present: bool,
    /// What was granted; `None` when refused.
    pub(crate) granted: Option<Granted>,
    pub(crate) why: Option<String>,
}

/// What a CONNACK of MQTT 5 tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Granted {
    /// Session Expiry Interval, in seconds.
    pub(crate) expiry: u32,
    /// Server Keep Alive, in seconds.
    pub(crate) keep_alive: u16,
    pub(crate) assigned_id: Option<String>,
}

/// A message, as all its receivers share it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Arc<[u8]>,
    /// As it was published: 0 or 1.
    pub(crate) qos: u8,
    /// It was published to be retained.
    pub(crate) retain: bool,
    /// When it is no use any more, in milliseconds since 1970.
    pub(crate) expires: Option<i64>,
    pub(crate) properties: Option<Box<Properties>>,
    /// The key of the session it came from; 0 for AWS IoT itself.
    pub(crate) from: u64,
}

/// A message to one client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    /// The packet identifier; `None` with QoS 0.
    pub(crate) id: Option<u16>,
    pub(crate) retain: bool,
    /// Message Expiry Interval: what is left of it, in seconds.
    pub(crate) expiry: Option<u32>,
}

impl Message {
    /// The length of its PUBLISH with QoS 1, in bytes, without a topic alias.
    pub(crate) fn wire_size(&self, version: Version) -> usize {
        let plain = 2 + self.topic.len() + 2 + self.payload.len();
        let length = match version {
            Version::V3 => plain,
            Version::V5 => {
                let properties = self.properties.as_ref().map_or(0, |all| all.size());
                let properties = properties + self.expires.map_or(0, |_| 5);
                plain + properties + vbi(properties)
            }
        };
        1 + vbi(length) + length
    }
}

impl Properties {
    fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 3 + text.len());
        let user = self.user.iter().map(|(k, v)| 5 + k.len() + v.len());
        self.text.map_or(0, |_| 2)
            + text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation.as_ref().map_or(0, |data| 3 + data.len())
            + user.sum::<usize>()
    }

    /// `None` when nothing is set.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// The bytes of a variable byte integer.
fn vbi(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}
