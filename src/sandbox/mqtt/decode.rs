//! Bytes to packets, with the checks that the codec leaves to its user: reserved flags, packet
//! identifiers of 0, U+0000 in text (MQTT 3.1.1 and 5 §1.5, §2.2, §3.8).

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{
    PacketBuildResult, PacketBuilder, PacketData, RawPacket,
};
use mqtt_protocol_core::mqtt::packet::{Property, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::packet::{
    Connect, Filter, Incoming, Properties, Publish, Subscribe, Version, Will, code,
};

/// The largest packet, in bytes: what AWS IoT's CONNACK states as Maximum Packet Size.
pub(crate) const MAX_PACKET: u32 = 149_504;

/// Bytes that are not a packet AWS IoT takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Flaw {
    /// The reason code it is answered with.
    pub(crate) code: u8,
    /// What is wrong, in words.
    pub(crate) text: String,
}

/// A CONNECT of another MQTT than 3.1.1 and 5.
pub(crate) const UNSUPPORTED_VERSION: u8 = 0x84;

fn flaw(code: u8, text: impl Into<String>) -> Flaw {
    Flaw {
        code,
        text: text.into(),
    }
}

fn malformed(text: &str) -> Flaw {
    flaw(code::MALFORMED, text)
}

impl From<MqttError> for Flaw {
    fn from(error: MqttError) -> Self {
        let text = format!("{error:?}");
        match error {
            MqttError::ClientIdentifierNotValid => flaw(code::CLIENT_ID, text),
            MqttError::TopicNameInvalid => flaw(code::TOPIC, text),
            MqttError::ProtocolError => flaw(code::PROTOCOL, text),
            _ => flaw(code::MALFORMED, text),
        }
    }
}

/// Makes packets of one connection's bytes.
pub(crate) struct Decoder {
    builder: PacketBuilder,
    /// How many bytes it was fed.
    fed: usize,
    version: Option<Version>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            builder: PacketBuilder::with_maximum_packet_size(MAX_PACKET),
            fed: 0,
            version: None,
        }
    }

    /// Every whole packet that these bytes complete; ends with the first flaw.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Result<Incoming, Flaw>> {
        self.fed = self.fed.saturating_add(bytes.len());
        let mut cursor = Cursor::new(bytes);
        let mut packets = Vec::new();
        while !cursor.remaining_slice().is_empty() {
            let packet = match self.builder.feed(&mut cursor) {
                PacketBuildResult::Complete(raw) => self.parse(&raw),
                PacketBuildResult::Incomplete => continue,
                PacketBuildResult::Error(MqttError::PacketTooLarge) => Err(flaw(
                    code::QUOTA,
                    format!("a packet is longer than {MAX_PACKET} bytes"),
                )),
                PacketBuildResult::Error(error) => Err(error.into()),
            };
            let failed = packet.is_err();
            packets.push(packet);
            if failed {
                break;
            }
        }
        packets
    }

    /// How many bytes it was fed since this was asked last.
    pub(crate) fn take_fed(&mut self) -> usize {
        std::mem::take(&mut self.fed)
    }

    fn parse(&mut self, raw: &RawPacket) -> Result<Incoming, Flaw> {
        let (kind, flags) = (raw.packet_type(), raw.flags());
        let wanted = match kind {
            6 | 8 | 10 => 2,
            3 => flags,
            _ => 0,
        };
        if flags != wanted {
            return Err(malformed("reserved flags of the fixed header are set"));
        }
        match (kind, self.version) {
            (1, None) => {
                let connect = connect(raw)?;
                self.version = Some(connect.version);
                Ok(Incoming::Connect(Box::new(connect)))
            }
            (_, None) => Err(flaw(code::PROTOCOL, "the first packet is not a CONNECT")),
            (_, Some(version)) => later(raw, kind, version),
        }
    }
}

/// A packet after the CONNECT.
fn later(raw: &RawPacket, kind: u8, version: Version) -> Result<Incoming, Flaw> {
    let v5 = version == Version::V5;
    match kind {
        1 => Ok(Incoming::Unexpected("a second CONNECT")),
        3 => publish(raw, v5),
        4 => puback(raw, v5),
        5 => Ok(Incoming::Unexpected("PUBREC")),
        6 => Ok(Incoming::Unexpected("PUBREL")),
        7 => Ok(Incoming::Unexpected("PUBCOMP")),
        8 => subscribe(raw, v5),
        10 => unsubscribe(raw, v5),
        12 if raw.remaining_length() == 0 => Ok(Incoming::Pingreq),
        12 => Err(malformed("a PINGREQ with a body")),
        14 => disconnect(raw, v5),
        15 if v5 => Ok(Incoming::Auth),
        2 | 9 | 11 | 13 => Ok(Incoming::Unexpected("a packet that only servers send")),
        _ => Err(malformed("a packet of a reserved type")),
    }
}

fn connect(raw: &RawPacket) -> Result<Connect, Flaw> {
    let data = raw.data_as_slice();
    let name = usize::from(data.first().copied().unwrap_or(0)) << 8
        | usize::from(data.get(1).copied().unwrap_or(0));
    let (Some(protocol), Some(level)) = (data.get(2..2 + name), data.get(2 + name)) else {
        return Err(malformed("the CONNECT ends too early"));
    };
    if protocol != b"MQTT" || !matches!(level, 4 | 5) {
        let text = format!("MQTT 3.1.1 (level 4) and 5 are spoken here, not level {level}");
        return Err(flaw(UNSUPPORTED_VERSION, text));
    }
    let flags = data.get(7).copied().unwrap_or(1);
    let (will, qos) = (flags & 4 != 0, flags >> 3 & 3);
    if flags & 1 != 0 || qos == 3 || !will && flags & 0x38 != 0 {
        return Err(malformed("the flags of the CONNECT contradict each other"));
    }
    let connect = match level {
        4 => connect_v3(raw)?,
        _ => connect_v5(raw)?,
    };
    no_null(&connect.client_id)?;
    if let Some(will) = &connect.will {
        no_null(&will.topic)?;
    }
    Ok(connect)
}

fn connect_v3(raw: &RawPacket) -> Result<Connect, Flaw> {
    let packet = raw.parse_exact(v3_1_1::Connect::parse)?;
    let will = packet.will_topic().map(|topic| Will {
        topic: topic.to_owned(),
        payload: packet.will_payload().unwrap_or_default().to_vec(),
        qos: packet.will_qos() as u8,
        retain: packet.will_retain(),
        ..Will::default()
    });
    Ok(Connect {
        version: Version::V3,
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_session(),
        keep_alive: packet.keep_alive(),
        will,
        expiry: None,
        receive_maximum: u16::MAX,
        packet_maximum: u32::MAX,
        alias_maximum: 0,
        problem_information: false,
        authentication: false,
    })
}

fn connect_v5(raw: &RawPacket) -> Result<Connect, Flaw> {
    let packet = raw.parse_exact(v5_0::Connect::parse)?;
    let mut connect = Connect {
        version: Version::V5,
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_start(),
        keep_alive: packet.keep_alive(),
        will: None,
        expiry: Some(0),
        receive_maximum: u16::MAX,
        packet_maximum: u32::MAX,
        alias_maximum: 0,
        problem_information: true,
        authentication: false,
    };
    for property in packet.props() {
        match property {
            Property::SessionExpiryInterval(one) => connect.expiry = Some(one.val()),
            Property::ReceiveMaximum(one) => connect.receive_maximum = one.val(),
            Property::MaximumPacketSize(one) => connect.packet_maximum = one.val(),
            Property::TopicAliasMaximum(one) => connect.alias_maximum = one.val(),
            Property::RequestProblemInformation(one) => {
                connect.problem_information = one.val() != 0;
            }
            Property::AuthenticationMethod(_) | Property::AuthenticationData(_) => {
                connect.authentication = true;
            }
            _ => {}
        }
    }
    connect.will = will_v5(&packet);
    Ok(connect)
}

fn will_v5(packet: &v5_0::Connect) -> Option<Will> {
    let mut will = Will {
        topic: packet.will_topic()?.to_owned(),
        payload: packet.will_payload().unwrap_or_default().to_vec(),
        qos: packet.will_qos() as u8,
        retain: packet.will_retain(),
        ..Will::default()
    };
    for property in packet.will_props() {
        match property {
            Property::WillDelayInterval(one) => will.delay = one.val(),
            Property::MessageExpiryInterval(one) => will.expiry = Some(one.val()),
            other => carried(other, &mut will.properties),
        }
    }
    Some(will)
}

/// Takes over a property that goes with the message.
fn carried(property: &Property, into: &mut Properties) {
    match property {
        Property::PayloadFormatIndicator(one) => into.text = Some(one.val() == 1),
        Property::ContentType(one) => into.content_type = Some(one.val().to_owned()),
        Property::ResponseTopic(one) => into.response_topic = Some(one.val().to_owned()),
        Property::CorrelationData(one) => into.correlation = Some(one.val().to_vec()),
        Property::UserProperty(one) => {
            into.user.push((one.key().to_owned(), one.val().to_owned()));
        }
        _ => {}
    }
}

fn publish(raw: &RawPacket, v5: bool) -> Result<Incoming, Flaw> {
    let flags = raw.flags();
    if flags & 0b0110 == 0 && flags & 0b1000 != 0 {
        return Err(malformed("a PUBLISH with QoS 0 and DUP"));
    }
    let PacketData::Publish(data) = &raw.data else {
        return Err(malformed("a PUBLISH without a body"));
    };
    let mut publish = Publish {
        qos: flags >> 1 & 3,
        retain: flags & 1 != 0,
        ..Publish::default()
    };
    if v5 {
        let (packet, _) = v5_0::Publish::parse(flags, data.clone())?;
        packet.topic_name().clone_into(&mut publish.topic);
        publish.id = packet.packet_id();
        publish.payload = packet.payload().as_slice().into();
        for property in packet.props() {
            match property {
                Property::TopicAlias(one) => publish.alias = Some(one.val()),
                Property::MessageExpiryInterval(one) => publish.expiry = Some(one.val()),
                Property::SubscriptionIdentifier(_) => {
                    let text = "a PUBLISH from a client with a subscription identifier";
                    return Err(flaw(code::PROTOCOL, text));
                }
                other => carried(other, &mut publish.properties),
            }
        }
    } else {
        let (packet, _) = v3_1_1::Publish::parse(flags, data.clone())?;
        packet.topic_name().clone_into(&mut publish.topic);
        publish.id = packet.packet_id();
        publish.payload = packet.payload().as_slice().into();
    }
    no_null(&publish.topic)?;
    if let Some(id) = publish.id {
        some_id(id)?;
    }
    Ok(Incoming::Publish(Box::new(publish)))
}

fn puback(raw: &RawPacket, v5: bool) -> Result<Incoming, Flaw> {
    let id = if v5 {
        raw.parse_exact(v5_0::Puback::parse)?.packet_id()
    } else {
        raw.parse_exact(v3_1_1::Puback::parse)?.packet_id()
    };
    Ok(Incoming::Puback(id))
}

fn subscribe(raw: &RawPacket, v5: bool) -> Result<Incoming, Flaw> {
    let (id, entries, identified) = if v5 {
        let packet = raw.parse_exact(v5_0::Subscribe::parse)?;
        let mut properties = packet.props().iter();
        let identified = properties.any(|one| matches!(one, Property::SubscriptionIdentifier(_)));
        (packet.packet_id(), packet.entries().clone(), identified)
    } else {
        let packet = raw.parse_exact(v3_1_1::Subscribe::parse)?;
        (packet.packet_id(), packet.entries().clone(), false)
    };
    some_id(id)?;
    let filters = entries.iter().map(|entry| filter(entry, v5));
    Ok(Incoming::Subscribe(Subscribe {
        id,
        filters: filters.collect::<Result<_, _>>()?,
        identified,
    }))
}

fn filter(entry: &SubEntry, v5: bool) -> Result<Filter, Flaw> {
    let options = entry.sub_opts();
    let filter = Filter {
        text: entry.topic_filter().to_owned(),
        qos: options.qos() as u8,
        no_local: options.nl(),
        as_published: options.rap(),
        retain_handling: options.rh() as u8,
    };
    no_null(&filter.text)?;
    if !v5 && (filter.no_local || filter.as_published || filter.retain_handling != 0) {
        return Err(malformed("reserved bits of a SUBSCRIBE are set"));
    }
    Ok(filter)
}

fn unsubscribe(raw: &RawPacket, v5: bool) -> Result<Incoming, Flaw> {
    let (id, entries) = if v5 {
        let packet = raw.parse_exact(v5_0::Unsubscribe::parse)?;
        (packet.packet_id(), packet.entries().clone())
    } else {
        let packet = raw.parse_exact(v3_1_1::Unsubscribe::parse)?;
        (packet.packet_id(), packet.entries().clone())
    };
    some_id(id)?;
    let filters = entries.iter().map(|entry| entry.as_str().to_owned());
    Ok(Incoming::Unsubscribe {
        id,
        filters: filters.collect(),
    })
}

fn disconnect(raw: &RawPacket, v5: bool) -> Result<Incoming, Flaw> {
    if !v5 {
        return match raw.remaining_length() {
            0 => Ok(Incoming::Disconnect {
                code: code::SUCCESS,
                expiry: None,
            }),
            _ => Err(malformed("a DISCONNECT with a body")),
        };
    }
    let packet = raw.parse_exact(v5_0::Disconnect::parse)?;
    let expiry = packet.props().iter().flatten().find_map(|one| match one {
        Property::SessionExpiryInterval(one) => Some(one.val()),
        _ => None,
    });
    let code = packet
        .reason_code()
        .map_or(code::SUCCESS, |code| code as u8);
    Ok(Incoming::Disconnect { code, expiry })
}

fn some_id(id: u16) -> Result<(), Flaw> {
    match id {
        0 => Err(flaw(code::PROTOCOL, "a packet identifier of 0")),
        _ => Ok(()),
    }
}

fn no_null(text: &str) -> Result<(), Flaw> {
    if text.contains('\0') {
        return Err(malformed("text with the character U+0000"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONNECT_V3: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
    const CONNECT_V5: &[u8] = b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01a";

    fn one(first: &[u8], bytes: &[u8]) -> Result<Incoming, u8> {
        let mut decoder = Decoder::new();
        assert_eq!(decoder.feed(first).len(), 1);
        let mut packets = decoder.feed(bytes);
        assert_eq!(packets.len(), 1, "{bytes:02x?}");
        packets.remove(0).map_err(|flaw| flaw.code)
    }

    #[test]
    fn packets_come_whole_however_they_are_cut() {
        let publish = b"\x32\x06\0\x01t\0\x07m";
        let all = [CONNECT_V3, publish, b"\xc0\0"].concat();
        for cut in 0..all.len() {
            let mut decoder = Decoder::new();
            let mut packets = decoder.feed(&all[..cut]);
            packets.extend(decoder.feed(&all[cut..]));
            assert_eq!(packets.len(), 3, "{cut}");
            let Ok(Incoming::Publish(publish)) = &packets[1] else {
                panic!("{packets:?}")
            };
            assert_eq!((&publish.topic[..], publish.id), ("t", Some(7)));
            assert_eq!(packets[2], Ok(Incoming::Pingreq));
        }
    }

    #[test]
    fn a_connect_tells_all() {
        let mut decoder = Decoder::new();
        let head = b"\0\x04MQTT\x05\xee\0\x0a";
        let properties: &[u8] =
            b"\x14\x11\0\0\0\x09\x21\0\x02\x27\0\0\x01\0\x22\0\x03\x17\0\x19\x01";
        let will = b"\x0a\x18\0\0\0\x05\x02\0\0\0\x08\0\x01w\0\x02\0\xff";
        let tail = b"\0\x01u\0\x01p";
        let body = [&head[..], properties, b"\0\x01a", will, tail].concat();
        let packet = [&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat();
        let mut packets = decoder.feed(&packet);
        let Ok(Incoming::Connect(connect)) = packets.remove(0) else {
            panic!("{packets:?}")
        };
        let will = Will {
            topic: "w".into(),
            payload: vec![0, 255],
            qos: 1,
            retain: true,
            delay: 5,
            expiry: Some(8),
            ..Will::default()
        };
        let wanted = Connect {
            version: Version::V5,
            client_id: "a".into(),
            clean: true,
            keep_alive: 10,
            will: Some(will),
            expiry: Some(9),
            receive_maximum: 2,
            packet_maximum: 256,
            alias_maximum: 3,
            problem_information: false,
            authentication: false,
        };
        assert_eq!(*connect, wanted);
    }

    #[test]
    fn what_is_no_packet_is_told_by_its_code() {
        let first = |bytes: &[u8]| {
            let packet = Decoder::new().feed(bytes).remove(0);
            packet.map_err(|flaw| flaw.code)
        };
        assert_eq!(first(b"\xc0\0"), Err(code::PROTOCOL));
        let old = b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a";
        assert_eq!(first(old), Err(UNSUPPORTED_VERSION));
        let newer = b"\x10\x0d\0\x04MQTT\x06\x02\0\x3c\0\x01a";
        assert_eq!(first(newer), Err(UNSUPPORTED_VERSION));
        let reserved = b"\x10\x0d\0\x04MQTT\x04\x03\0\x3c\0\x01a";
        assert_eq!(first(reserved), Err(code::MALFORMED));
        let null = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01\0";
        assert_eq!(first(null), Err(code::MALFORMED));
        assert_eq!(first(b"\x10\xff\xff\xff\x7f"), Err(code::QUOTA));
        for (bytes, wanted) in [
            (&b"\x36\x05\0\x01t\0\x07"[..], code::MALFORMED), // QoS 3
            (b"\x38\x03\0\x01t", code::MALFORMED),            // DUP with QoS 0
            (b"\x32\x05\0\x01t\0\0", code::PROTOCOL),         // identifier 0
            (b"\x30\x03\0\x01\xff", code::MALFORMED),         // not UTF-8
            (b"\x80\x06\0\x01\0\x01t\0", code::MALFORMED),    // reserved flags
            (b"\x82\x06\0\x01\0\x01t\x04", code::MALFORMED),  // reserved option of 3.1.1
            (b"\x82\x06\0\x01\0\x01t\x03", code::MALFORMED),  // QoS 3
            (b"\x82\x02\0\x01", code::PROTOCOL),              // no filter
            (b"\xe0\x01\0", code::MALFORMED),                 // DISCONNECT with a body
            (b"\xf0\0", code::MALFORMED),                     // AUTH in 3.1.1
            (b"\x00\0", code::MALFORMED),                     // type 0
            (b"\xc0\x01\0", code::MALFORMED),
        ] {
            assert_eq!(one(CONNECT_V3, bytes), Err(wanted), "{bytes:02x?}");
        }
        for (bytes, wanted) in [
            (&b"\x30\x06\0\x01t\x02\x0b\x01"[..], code::PROTOCOL), // subscription identifier
            (b"\x30\x08\0\x01t\x04\x01\0\x01\0", code::PROTOCOL),  // a property twice
            (b"\x30\x06\0\x01t\x02\x11\0", code::MALFORMED),
        ] {
            let said = one(CONNECT_V5, bytes);
            assert!(said.is_err(), "{bytes:02x?} {said:?}");
            assert!(
                said == Err(wanted) || said == Err(code::MALFORMED),
                "{bytes:02x?}"
            );
        }
        assert_eq!(one(CONNECT_V5, b"\xf0\0"), Ok(Incoming::Auth));
        let goodbye = Incoming::Disconnect {
            code: 4,
            expiry: Some(7),
        };
        assert_eq!(
            one(CONNECT_V5, b"\xe0\x07\x04\x05\x11\0\0\0\x07"),
            Ok(goodbye)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            v5: bool,
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in 0_u8..16,
            flags in 0_u8..16,
        ) {
            let mut decoder = Decoder::new();
            decoder.feed(if v5 { CONNECT_V5 } else { CONNECT_V3 });
            let head = [kind << 4 | flags, u8::try_from(bytes.len()).unwrap()];
            decoder.feed(&[&head[..], &bytes].concat());
            Decoder::new().feed(&[&[0x10, head[1]], &bytes[..]].concat());
            Decoder::new().feed(&bytes);
        }
    }
}
