//! Packets to bytes, with topic aliases for the topics that a client hears first.

use std::collections::HashMap;
use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, ContentType, CorrelationData, MaximumPacketSize, MaximumQos,
    MessageExpiryInterval, PayloadFormat, PayloadFormatIndicator, Property, Qos, ReasonString,
    ReceiveMaximum, ResponseTopic, RetainAvailable, ServerKeepAlive, SessionExpiryInterval,
    SharedSubscriptionAvailable, SubscriptionIdentifierAvailable, TopicAlias, TopicAliasMaximum,
    UserProperty, WildcardSubscriptionAvailable, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode,
    SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

use super::decode::MAX_PACKET;
use super::packet::{Connack, Delivery, Granted, Outgoing, Properties, Version};

/// How many QoS 1 messages may be without their PUBACK, each way.
pub(crate) const RECEIVE_MAXIMUM: u16 = 100;
/// How many topic aliases each way.
pub(crate) const ALIASES: u16 = 8;

/// Makes bytes for one connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    version: Version,
    /// How many aliases the client takes.
    most: u16,
    aliases: HashMap<Arc<str>, u16>,
}

impl Encoder {
    /// For a client that takes this many topic aliases.
    pub(crate) fn new(version: Version, alias_maximum: u16) -> Self {
        Self {
            version,
            most: alias_maximum.min(ALIASES),
            aliases: HashMap::new(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Appends the packet. A packet that its version cannot say is left out.
    pub(crate) fn encode(&mut self, packet: &Outgoing, into: &mut Vec<u8>) {
        let bytes = match self.version {
            Version::V3 => encode_v3(packet),
            Version::V5 => self.encode_v5(packet),
        };
        into.extend(bytes.unwrap_or_default());
    }

    fn encode_v5(&mut self, packet: &Outgoing) -> Result<Vec<u8>, MqttError> {
        Ok(match packet {
            Outgoing::Connack(connack) => connack_v5(connack)?,
            Outgoing::Disconnect { code, why } => v5_0::Disconnect::builder()
                .reason_code(known::<DisconnectReasonCode>(*code)?)
                .props(reason(why.as_deref())?)
                .build()?
                .to_continuous_buffer(),
            Outgoing::Pingresp => v5_0::Pingresp::new().to_continuous_buffer(),
            Outgoing::Puback { id, code: 0, .. } => v5_0::Puback::builder()
                .packet_id(*id)
                .build()?
                .to_continuous_buffer(),
            Outgoing::Puback { id, code, why } => v5_0::Puback::builder()
                .packet_id(*id)
                .reason_code(known::<PubackReasonCode>(*code)?)
                .props(reason(why.as_deref())?)
                .build()?
                .to_continuous_buffer(),
            Outgoing::Publish(delivery) => self.publish_v5(delivery)?,
            Outgoing::Suback { id, codes, why } => v5_0::Suback::builder()
                .packet_id(*id)
                .reason_codes(all::<SubackReasonCode>(codes)?)
                .props(reason(why.as_deref())?)
                .build()?
                .to_continuous_buffer(),
            Outgoing::Unsuback { id, codes } => v5_0::Unsuback::builder()
                .packet_id(*id)
                .reason_codes(all::<UnsubackReasonCode>(codes)?)
                .build()?
                .to_continuous_buffer(),
        })
    }

    fn publish_v5(&mut self, delivery: &Delivery) -> Result<Vec<u8>, MqttError> {
        let message = &delivery.message;
        let (topic, alias) = self.alias(&message.topic);
        let mut properties = match &message.properties {
            Some(carried) => carried_properties(carried)?,
            None => Vec::new(),
        };
        if let Some(seconds) = delivery.expiry {
            properties.push(MessageExpiryInterval::new(seconds)?.into());
        }
        if let Some(alias) = alias {
            properties.push(TopicAlias::new(alias)?.into());
        }
        let mut builder = v5_0::Publish::builder()
            .topic_name(topic)?
            .retain(delivery.retain)
            .props(properties)
            .payload(message.payload.to_vec());
        if let Some(id) = delivery.id {
            builder = builder.qos(Qos::AtLeastOnce).packet_id(id);
        }
        Ok(builder.build()?.to_continuous_buffer())
    }

    /// The topic to write and the alias beside it.
    fn alias<'a>(&mut self, topic: &'a Arc<str>) -> (&'a str, Option<u16>) {
        if let Some(alias) = self.aliases.get(topic) {
            return ("", Some(*alias));
        }
        let next = u16::try_from(self.aliases.len()).unwrap_or(u16::MAX);
        if next >= self.most {
            return (topic, None);
        }
        self.aliases.insert(Arc::clone(topic), next + 1);
        (topic, Some(next + 1))
    }
}

fn encode_v3(packet: &Outgoing) -> Result<Vec<u8>, MqttError> {
    Ok(match packet {
        Outgoing::Connack(connack) => v3_1_1::Connack::builder()
            .session_present(connack.session_present)
            .return_code(known::<ConnectReturnCode>(connack.code)?)
            .build()?
            .to_continuous_buffer(),
        // MQTT 3.1.1 has no way to say it.
        Outgoing::Disconnect { .. } => Vec::new(),
        Outgoing::Pingresp => v3_1_1::Pingresp::new().to_continuous_buffer(),
        Outgoing::Puback { id, .. } => v3_1_1::Puback::builder()
            .packet_id(*id)
            .build()?
            .to_continuous_buffer(),
        Outgoing::Publish(delivery) => publish_v3(delivery)?,
        Outgoing::Suback { id, codes, .. } => v3_1_1::Suback::builder()
            .packet_id(*id)
            .return_codes(all::<SubackReturnCode>(codes)?)
            .build()?
            .to_continuous_buffer(),
        Outgoing::Unsuback { id, .. } => v3_1_1::Unsuback::builder()
            .packet_id(*id)
            .build()?
            .to_continuous_buffer(),
    })
}

fn publish_v3(delivery: &Delivery) -> Result<Vec<u8>, MqttError> {
    let mut builder = v3_1_1::Publish::builder()
        .topic_name(&*delivery.message.topic)?
        .retain(delivery.retain)
        .payload(delivery.message.payload.to_vec());
    if let Some(id) = delivery.id {
        builder = builder.qos(Qos::AtLeastOnce).packet_id(id);
    }
    Ok(builder.build()?.to_continuous_buffer())
}

fn connack_v5(connack: &Connack) -> Result<Vec<u8>, MqttError> {
    let mut properties = reason(connack.why.as_deref())?;
    if let Some(granted) = &connack.granted {
        granted_properties(granted, &mut properties)?;
    }
    let packet = v5_0::Connack::builder()
        .session_present(connack.session_present)
        .reason_code(known::<ConnectReasonCode>(connack.code)?)
        .props(properties)
        .build()?;
    Ok(packet.to_continuous_buffer())
}

fn granted_properties(granted: &Granted, into: &mut Vec<Property>) -> Result<(), MqttError> {
    into.extend([
        SessionExpiryInterval::new(granted.expiry)?.into(),
        ReceiveMaximum::new(RECEIVE_MAXIMUM)?.into(),
        MaximumQos::new(1)?.into(),
        RetainAvailable::new(1)?.into(),
        MaximumPacketSize::new(MAX_PACKET)?.into(),
        TopicAliasMaximum::new(ALIASES)?.into(),
        WildcardSubscriptionAvailable::new(1)?.into(),
        SubscriptionIdentifierAvailable::new(0)?.into(),
        SharedSubscriptionAvailable::new(1)?.into(),
        ServerKeepAlive::new(granted.keep_alive)?.into(),
    ]);
    if let Some(id) = &granted.assigned_id {
        into.push(AssignedClientIdentifier::new(id)?.into());
    }
    Ok(())
}

fn carried_properties(carried: &Properties) -> Result<Vec<Property>, MqttError> {
    let mut all: Vec<Property> = Vec::new();
    if let Some(text) = carried.text {
        let format = if text {
            PayloadFormat::String
        } else {
            PayloadFormat::Binary
        };
        all.push(PayloadFormatIndicator::new(format)?.into());
    }
    if let Some(content_type) = &carried.content_type {
        all.push(ContentType::new(content_type)?.into());
    }
    if let Some(topic) = &carried.response_topic {
        all.push(ResponseTopic::new(topic)?.into());
    }
    if let Some(data) = &carried.correlation {
        all.push(CorrelationData::new(data)?.into());
    }
    for (key, value) in &carried.user {
        all.push(UserProperty::new(key, value)?.into());
    }
    Ok(all)
}

/// A Reason String, if there is something to say.
fn reason(why: Option<&str>) -> Result<Vec<Property>, MqttError> {
    match why {
        Some(text) => Ok(vec![ReasonString::new(text)?.into()]),
        None => Ok(Vec::new()),
    }
}

fn known<T: TryFrom<u8>>(code: u8) -> Result<T, MqttError> {
    T::try_from(code).map_err(|_| MqttError::ValueOutOfRange)
}

fn all<T: TryFrom<u8>>(codes: &[u8]) -> Result<Vec<T>, MqttError> {
    codes.iter().map(|code| known(*code)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::packet::Message;
    use super::*;

    fn delivery(topic: &Arc<str>, properties: Properties) -> Outgoing {
        let message = Message {
            topic: Arc::clone(topic),
            payload: b"m".as_slice().into(),
            properties: properties.boxed(),
            ..Message::default()
        };
        Outgoing::Publish(Box::new(Delivery {
            message: Arc::new(message),
            id: Some(7),
            retain: true,
            expiry: None,
        }))
    }

    fn bytes(encoder: &mut Encoder, packet: &Outgoing) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoder.encode(packet, &mut bytes);
        bytes
    }

    #[test]
    fn the_first_topics_get_aliases() {
        let mut encoder = Encoder::new(Version::V5, 1);
        let (t, u): (Arc<str>, Arc<str>) = ("t".into(), "u".into());
        let packet = |topic| delivery(topic, Properties::default());
        let first = b"\x33\x0a\0\x01t\0\x07\x03\x23\0\x01m";
        assert_eq!(bytes(&mut encoder, &packet(&t)), first);
        let again = b"\x33\x09\0\0\0\x07\x03\x23\0\x01m";
        assert_eq!(bytes(&mut encoder, &packet(&t)), again);
        let other = b"\x33\x07\0\x01u\0\x07\0m";
        assert_eq!(bytes(&mut encoder, &packet(&u)), other);
    }

    #[test]
    fn a_size_is_what_is_written() {
        let topic: Arc<str> = "a/b".into();
        let properties = Properties {
            text: Some(true),
            content_type: Some("text/plain".into()),
            response_topic: Some("r".into()),
            correlation: Some(vec![0; 130]),
            user: vec![("k".into(), "v".into())],
        };
        for properties in [Properties::default(), properties] {
            for version in [Version::V3, Version::V5] {
                let packet = delivery(&topic, properties.clone());
                let Outgoing::Publish(one) = &packet else {
                    continue;
                };
                let written = bytes(&mut Encoder::new(version, 0), &packet);
                assert_eq!(one.message.wire_size(version), written.len());
            }
        }
    }

    #[test]
    fn every_packet_of_both_versions_has_its_bytes() {
        let (mut old, mut new) = (Encoder::new(Version::V3, 8), Encoder::new(Version::V5, 8));
        let id = 3;
        let why = Some("no".to_owned());
        for (packet, v3, v5) in [
            (Outgoing::Pingresp, &b"\xd0\0"[..], &b"\xd0\0"[..]),
            (
                Outgoing::Puback {
                    id,
                    code: 0,
                    why: None,
                },
                b"\x40\x02\0\x03",
                b"\x40\x02\0\x03",
            ),
            (
                Outgoing::Puback {
                    id,
                    code: 0x87,
                    why: why.clone(),
                },
                b"\x40\x02\0\x03",
                b"\x40\x09\0\x03\x87\x05\x1f\0\x02no",
            ),
            (
                Outgoing::Suback {
                    id,
                    codes: vec![1, 0x80],
                    why: None,
                },
                b"\x90\x04\0\x03\x01\x80",
                b"\x90\x05\0\x03\0\x01\x80",
            ),
            (
                Outgoing::Unsuback { id, codes: vec![0] },
                b"\xb0\x02\0\x03",
                b"\xb0\x04\0\x03\0\0",
            ),
            (
                Outgoing::Disconnect {
                    code: 0x8e,
                    why: None,
                },
                b"",
                b"\xe0\x02\x8e\0",
            ),
        ] {
            assert_eq!(bytes(&mut old, &packet), v3, "{packet:?}");
            assert_eq!(bytes(&mut new, &packet), v5, "{packet:?}");
        }
        let connack = |code| {
            Outgoing::Connack(Box::new(Connack {
                code,
                ..Connack::default()
            }))
        };
        assert_eq!(bytes(&mut old, &connack(2)), b"\x20\x02\0\x02");
        assert_eq!(bytes(&mut new, &connack(0x87)), b"\x20\x03\0\x87\0");
    }
}
