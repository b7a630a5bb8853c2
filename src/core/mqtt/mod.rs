//! A client's side of the conversation in MQTT 3.1.1 and 5: bytes in, bytes out (OASIS MQTT 3.1.1
//! and 5.0).

mod reason;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, Sendable};
use mqtt_protocol_core::mqtt::packet::{
    GenericPacketTrait, Packet, Property, Qos, SubEntry, SubOpts, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, MqttError};
use mqtt_protocol_core::mqtt::{Connection, Version, role};

pub use reason::Reason;

use crate::explain::{Explain, Kind};

/// The largest packet we take: AWS IoT's payload limit of 128 KiB and room for a header.
const MAX_PACKET_BYTES: u32 = 132 * 1024;

/// The first byte of a CONNACK packet (MQTT 3.1.1 §3.2.1, MQTT 5 §3.2.1).
const CONNACK: u8 = 0x20;

/// Which MQTT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

impl Protocol {
    /// `MQTT 3.1.1`, `MQTT 5`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5",
        }
    }
}

/// One connection's state.
pub struct Client {
    protocol: Protocol,
    connection: Connection<role::Client>,
    /// Bytes of the first packet, until there are enough to tell what it is.
    head: Option<Vec<u8>>,
    /// Acknowledgements to be sent.
    replies: Vec<u8>,
}

/// What came of some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// CONNACK with code 0.
    Accepted {
        /// Whether the server kept a session.
        session_present: bool,
    },
    /// CONNACK with another code (MQTT 3.1.1 §3.2.2.3, MQTT 5 §3.2.2.2).
    Refused(Reason),
    /// A CONNACK of MQTT 3.1.1 in answer to MQTT 5: the server does not speak it.
    OtherVersion,
    /// SUBACK for one filter.
    Subscribed {
        /// The SUBSCRIBE's packet identifier.
        id: u16,
        /// Yes or no.
        reason: Reason,
    },
    /// PUBACK.
    Published {
        /// The PUBLISH's packet identifier.
        id: u16,
        /// Yes or no; MQTT 3.1.1 knows only yes.
        reason: Reason,
    },
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// What it says.
        payload: Vec<u8>,
    },
    /// MQTT 5's DISCONNECT from the server.
    Ended(Reason),
    /// Another packet; nothing to do.
    Other,
}

impl Client {
    /// A client and its CONNECT packet: clean session, no login.
    ///
    /// # Errors
    /// `mqtt.client-id`.
    pub fn connect(
        protocol: Protocol,
        client_id: &str,
        keep_alive_s: u16,
    ) -> Result<(Self, Vec<u8>), MqttFault> {
        let wrong = |_| MqttFault::ClientId(shown(client_id));
        if !(1..=128).contains(&client_id.len()) {
            return Err(MqttFault::ClientId(shown(client_id)));
        }
        let version = match protocol {
            Protocol::V3 => Version::V3_1_1,
            Protocol::V5 => Version::V5_0,
        };
        let options = ConnectionOptions::new().maximum_packet_size_recv(MAX_PACKET_BYTES);
        let mut client = Self {
            protocol,
            connection: Connection::with_options(version, options),
            head: Some(Vec::new()),
            replies: Vec::new(),
        };
        client.connection.set_auto_pub_response(true);
        let bytes = match protocol {
            Protocol::V3 => {
                let packet = v3_1_1::Connect::builder();
                let packet = packet.client_id(client_id).map_err(wrong)?;
                let packet = packet.clean_session(true).keep_alive(keep_alive_s);
                client.send(packet.build().map_err(wrong)?)
            }
            Protocol::V5 => {
                let packet = v5_0::Connect::builder();
                let packet = packet.client_id(client_id).map_err(wrong)?;
                let packet = packet.clean_start(true).keep_alive(keep_alive_s);
                client.send(packet.build().map_err(wrong)?)
            }
        };
        Ok((client, bytes))
    }

    /// Which MQTT it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn send<T>(&mut self, packet: T) -> Vec<u8>
    where
        T: Sendable<role::Client, u16>,
    {
        sent(self.connection.checked_send(packet))
    }

    /// Takes what the server sent. Ask for [`Self::replies`] afterwards.
    ///
    /// # Errors
    /// `mqtt.protocol` when it is not the MQTT that was asked for.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, MqttFault> {
        let Some(mut head) = self.head.take() else {
            return self.take_in(bytes);
        };
        head.extend_from_slice(bytes);
        // The codec would wait for the rest of a packet that some other protocol's text spells.
        if let Some(first) = head.first()
            && *first != CONNACK
        {
            let why = format!("its first byte is {first:#04x}, not a CONNACK's");
            return Err(self.wrong(why));
        }
        match (self.protocol, &head[..]) {
            // Two bytes are too few for a CONNACK of MQTT 5 (§3.2.2), and all that one of 3.1.1 has.
            (Protocol::V5, [_, 2, ..]) => Ok(vec![Heard::OtherVersion]),
            (_, [] | [_]) => {
                self.head = Some(head);
                Ok(Vec::new())
            }
            _ => self.take_in(&head),
        }
    }

    fn wrong(&self, why: String) -> MqttFault {
        MqttFault::Protocol {
            protocol: self.protocol.name(),
            why,
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, MqttFault> {
        let mut cursor = Cursor::new(bytes);
        let mut heard = Vec::new();
        while !cursor.remaining_slice().is_empty() {
            for event in self.connection.recv(&mut cursor) {
                match event {
                    Event::NotifyPacketReceived(packet) => heard.push(understand(packet)),
                    Event::NotifyError(error) => return Err(self.wrong(format!("{error:?}"))),
                    Event::RequestSendPacket { packet, .. } => {
                        self.replies.extend(packet.to_continuous_buffer());
                    }
                    _ => {}
                }
            }
        }
        Ok(heard)
    }

    /// Acknowledgements of what was heard, to be sent.
    pub fn replies(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.replies)
    }

    /// A SUBSCRIBE packet for one filter with QoS 1, and its identifier.
    ///
    /// # Errors
    /// `mqtt.topic`.
    pub fn subscribe(&mut self, filter: &str) -> Result<(u16, Vec<u8>), MqttFault> {
        let wrong = |_: MqttError| MqttFault::Topic(shown(filter));
        let id = self.connection.acquire_packet_id().map_err(wrong)?;
        let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
        let entries = vec![SubEntry::new(filter, options).map_err(wrong)?];
        let bytes = match self.protocol {
            Protocol::V3 => {
                let packet = v3_1_1::Subscribe::builder().packet_id(id).entries(entries);
                self.send(packet.build().map_err(wrong)?)
            }
            Protocol::V5 => {
                let packet = v5_0::Subscribe::builder().packet_id(id).entries(entries);
                self.send(packet.build().map_err(wrong)?)
            }
        };
        Ok((id, bytes))
    }

    /// A PUBLISH packet with QoS 1, and its identifier.
    ///
    /// # Errors
    /// `mqtt.topic`.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(u16, Vec<u8>), MqttFault> {
        let wrong = |_: MqttError| MqttFault::Topic(shown(topic));
        let id = self.connection.acquire_packet_id().map_err(wrong)?;
        let bytes = match self.protocol {
            Protocol::V3 => {
                let packet = v3_1_1::Publish::builder();
                let packet = packet.topic_name(topic).map_err(wrong)?;
                let packet = packet.qos(Qos::AtLeastOnce).packet_id(id);
                self.send(packet.payload(payload).build().map_err(wrong)?)
            }
            Protocol::V5 => {
                let packet = v5_0::Publish::builder();
                let packet = packet.topic_name(topic).map_err(wrong)?;
                let packet = packet.qos(Qos::AtLeastOnce).packet_id(id);
                self.send(packet.payload(payload).build().map_err(wrong)?)
            }
        };
        if bytes.is_empty() {
            // The codec holds to the server's own bounds: packet size, unacknowledged messages.
            return Err(MqttFault::Topic(shown(topic)));
        }
        Ok((id, bytes))
    }

    /// A PINGREQ packet.
    pub fn ping(&mut self) -> Vec<u8> {
        match self.protocol {
            Protocol::V3 => self.send(v3_1_1::Pingreq::new()),
            Protocol::V5 => self.send(v5_0::Pingreq::new()),
        }
    }

    /// A DISCONNECT packet: the server then publishes no last will.
    pub fn disconnect(&mut self) -> Vec<u8> {
        match self.protocol {
            Protocol::V3 => self.send(v3_1_1::Disconnect::new()),
            Protocol::V5 => v5_0::Disconnect::builder()
                .build()
                .map_or_else(|_| Vec::new(), |packet| self.send(packet)),
        }
    }
}

fn understand(packet: Packet) -> Heard {
    match packet {
        Packet::V3_1_1Connack(connack) => match connack.return_code() {
            ConnectReturnCode::Accepted => Heard::Accepted {
                session_present: connack.session_present(),
            },
            code => Heard::Refused(Reason::connack(Protocol::V3, code as u8, None)),
        },
        Packet::V5_0Connack(connack) => match connack.reason_code() as u8 {
            0 => Heard::Accepted {
                session_present: connack.session_present(),
            },
            code => Heard::Refused(Reason::connack(Protocol::V5, code, text(connack.props()))),
        },
        Packet::V3_1_1Suback(suback) => {
            let code = suback.return_codes().first().map_or(0x80, |c| *c as u8);
            let (id, reason) = (suback.packet_id(), Reason::of(code, None));
            Heard::Subscribed { id, reason }
        }
        Packet::V5_0Suback(suback) => {
            let code = suback.reason_codes().first().map_or(0x80, |c| *c as u8);
            let (id, reason) = (suback.packet_id(), Reason::of(code, text(suback.props())));
            Heard::Subscribed { id, reason }
        }
        Packet::V3_1_1Puback(puback) => Heard::Published {
            id: puback.packet_id(),
            reason: Reason::of(0, None),
        },
        Packet::V5_0Puback(puback) => {
            let code = puback.reason_code().map_or(0, |code| code as u8);
            let adds = puback.props().as_deref().and_then(text);
            let (id, reason) = (puback.packet_id(), Reason::of(code, adds));
            Heard::Published { id, reason }
        }
        Packet::V3_1_1Publish(message) => Heard::Message {
            topic: message.topic_name().to_owned(),
            payload: message.payload().as_slice().to_vec(),
        },
        Packet::V5_0Publish(message) => Heard::Message {
            topic: message.topic_name().to_owned(),
            payload: message.payload().as_slice().to_vec(),
        },
        Packet::V5_0Disconnect(end) => {
            let code = end.reason_code().map_or(0, |code| code as u8);
            Heard::Ended(Reason::of(code, end.props().as_deref().and_then(text)))
        }
        _ => Heard::Other,
    }
}

/// The reason string, with nothing in it that could move a terminal's cursor.
fn text(properties: &[Property]) -> Option<String> {
    properties.iter().find_map(|property| match property {
        Property::ReasonString(reason) => {
            let plain = |c: &char| !c.is_control();
            Some(reason.val().chars().filter(plain).take(500).collect())
        }
        _ => None,
    })
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn sent(events: Vec<Event>) -> Vec<u8> {
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::RequestSendPacket { packet, .. } => Some(packet.to_continuous_buffer()),
            _ => None,
        })
        .flatten()
        .collect()
}

/// A conversation that is not the MQTT it should be.
#[derive(Debug, thiserror::Error)]
pub enum MqttFault {
    /// A client id that MQTT or AWS IoT does not take.
    #[error("`{0}` is not a client id: 1 to 128 bytes of UTF-8")]
    ClientId(String),
    /// The server's bytes are wrong.
    #[error("the server does not speak {protocol}: {why}")]
    Protocol {
        /// What was spoken to it.
        protocol: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A topic or filter that MQTT does not take.
    #[error("`{0}` is not a topic that can be used here")]
    Topic(String),
}

impl Explain for MqttFault {
    fn kind(&self) -> Kind {
        match self {
            Self::ClientId(_) | Self::Topic(_) => Kind::Input,
            Self::Protocol { .. } => Kind::Negative,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "mqtt.client-id",
            Self::Protocol { .. } => "mqtt.protocol",
            Self::Topic(_) => "mqtt.topic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(protocol: Protocol) -> Client {
        Client::connect(protocol, "pump-1", 30).unwrap().0
    }

    #[test]
    fn a_connect_packet_has_a_clean_session_in_both_versions() {
        let (_, bytes) = Client::connect(Protocol::V3, "pump-1", 30).unwrap();
        assert_eq!(bytes, b"\x10\x12\x00\x04MQTT\x04\x02\x00\x1e\x00\x06pump-1");
        let (_, bytes) = Client::connect(Protocol::V5, "pump-1", 30).unwrap();
        // One property: the largest packet we take.
        assert_eq!(
            bytes,
            b"\x10\x18\x00\x04MQTT\x05\x02\x00\x1e\x05\x27\x00\x02\x10\x00\x00\x06pump-1"
        );
        for bad in ["", &"x".repeat(129)] {
            assert!(Client::connect(Protocol::V3, bad, 30).is_err());
        }
    }

    #[test]
    fn answers_are_heard_in_any_slices() {
        let accepted = Heard::Accepted {
            session_present: false,
        };
        for (protocol, rest) in [
            (Protocol::V3, &[0x02, 0x00, 0x00][..]),
            (Protocol::V5, &[0x03, 0x00, 0x00, 0x00]),
        ] {
            let mut client = client(protocol);
            assert_eq!(client.hear(&[0x20]).unwrap(), []);
            assert_eq!(client.hear(rest).unwrap(), std::slice::from_ref(&accepted));
            assert_eq!(client.ping(), [0xc0, 0x00]);
            assert_eq!(client.hear(&[0xd0, 0x00]).unwrap(), [Heard::Other]);
            assert_eq!(client.disconnect()[..1], [0xe0]);
        }
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let heard = client(Protocol::V3).hear(&[0x20, 2, 0, 5]).unwrap();
        let Heard::Refused(reason) = &heard[0] else {
            panic!("{heard:?}")
        };
        assert_eq!(reason.to_string(), "5: not authorised");
        for nonsense in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            &[0x20, 2, 0, 9],
            &[0xff; 64],
        ] {
            assert!(client(Protocol::V3).hear(nonsense).is_err());
        }
        for nonsense in [&b"HTTP/1.1"[..], &[0x20, 3, 0, 0x42, 0]] {
            assert!(client(Protocol::V5).hear(nonsense).is_err());
        }
    }

    #[test]
    fn a_server_without_mqtt_5_is_known_by_its_connack() {
        for code in [0, 1, 5] {
            let heard = client(Protocol::V5).hear(&[0x20, 2, 0, code]).unwrap();
            assert_eq!(heard, [Heard::OtherVersion]);
        }
    }

    #[test]
    fn reason_strings_are_heard_without_control_characters() {
        let said = b"no\x1b[2J";
        let length = u8::try_from(said.len()).unwrap();
        let mut bytes = vec![0x20, 6 + length, 0, 0x87, 3 + length, 0x1f, 0, length];
        bytes.extend_from_slice(said);
        let heard = client(Protocol::V5).hear(&bytes);
        // The codec may refuse the string as a whole; it must never come through as it is.
        if let Ok(heard) = heard {
            let Heard::Refused(reason) = &heard[0] else {
                panic!("{heard:?}")
            };
            assert_eq!(reason.text.as_deref(), Some("no[2J"));
            assert!(reason.may_pass());
        }
    }

    #[test]
    fn topics_are_asked_for_and_messages_are_acknowledged() {
        for protocol in [Protocol::V3, Protocol::V5] {
            let mut client = client(protocol);
            let hello: &[u8] = match protocol {
                Protocol::V3 => &[0x20, 2, 0, 0],
                Protocol::V5 => &[0x20, 3, 0, 0, 0],
            };
            client.hear(hello).unwrap();
            let (id, bytes) = client.subscribe("a/b").unwrap();
            assert_eq!(bytes[0], 0x82);
            let [high, low] = id.to_be_bytes();
            let suback: &[u8] = match protocol {
                Protocol::V3 => &[0x90, 3, high, low, 0x80],
                Protocol::V5 => &[0x90, 4, high, low, 0, 0x87],
            };
            let heard = client.hear(suback).unwrap();
            assert!(
                matches!(&heard[0], Heard::Subscribed { id: got, reason } if *got == id && !reason.is_yes())
            );
            let (_, bytes) = client.publish("a/b", b"x").unwrap();
            assert_eq!(bytes[0], 0x32);
            let message: &[u8] = match protocol {
                Protocol::V3 => b"\x32\x08\x00\x03a/b\x00\x07x",
                Protocol::V5 => b"\x32\x09\x00\x03a/b\x00\x07\x00x",
            };
            let heard = client.hear(message).unwrap();
            assert_eq!(
                heard[0],
                Heard::Message {
                    topic: "a/b".into(),
                    payload: b"x".to_vec()
                }
            );
            assert_eq!(client.replies()[..4], [0x40, 2, 0, 7]);
            assert!(client.publish("a/#", b"x").is_err());
        }
    }
}
