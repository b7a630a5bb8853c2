//! An MQTT 3.1.1 client's side of the conversation: bytes in, bytes out (OASIS MQTT 3.1.1).

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;
use mqtt_protocol_core::mqtt::{Connection, Version, role};

use crate::explain::{Explain, Kind};

/// The largest packet we take: AWS IoT's payload limit of 128 KiB and room for a header.
const MAX_PACKET_BYTES: u32 = 132 * 1024;

/// The first byte of a CONNACK packet (MQTT 3.1.1 §3.2.1).
const CONNACK: u8 = 0x20;

/// One connection's state.
pub struct Client {
    connection: Connection<role::Client>,
    /// Whether any byte came yet.
    began: bool,
}

/// What came of some bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard {
    /// CONNACK with code 0.
    Accepted {
        /// Whether the server kept a session.
        session_present: bool,
    },
    /// CONNACK with another code (MQTT 3.1.1 §3.2.2.3).
    Refused(u8),
    /// Another packet; nothing to do.
    Other,
}

impl Client {
    /// A client and its CONNECT packet: clean session, no login.
    ///
    /// # Errors
    /// `mqtt.client-id`.
    pub fn connect(client_id: &str, keep_alive_s: u16) -> Result<(Self, Vec<u8>), MqttFault> {
        let wrong = |_| MqttFault::ClientId(client_id.chars().take(80).collect());
        if !(1..=128).contains(&client_id.len()) {
            return Err(MqttFault::ClientId(client_id.chars().take(80).collect()));
        }
        let packet = v3_1_1::Connect::builder()
            .client_id(client_id)
            .map_err(wrong)?
            .clean_session(true)
            .keep_alive(keep_alive_s)
            .build()
            .map_err(wrong)?;
        let options = ConnectionOptions::new().maximum_packet_size_recv(MAX_PACKET_BYTES);
        let mut client = Self {
            connection: Connection::with_options(Version::V3_1_1, options),
            began: false,
        };
        let bytes = sent(client.connection.checked_send(packet));
        Ok((client, bytes))
    }

    /// Takes what the server sent.
    ///
    /// # Errors
    /// `mqtt.protocol` when it is not MQTT 3.1.1.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, MqttFault> {
        // The codec would wait for the rest of a packet that some other protocol's text spells.
        if let (false, Some(first)) = (self.began, bytes.first())
            && *first != CONNACK
        {
            let why = format!("its first byte is {first:#04x}, not a CONNACK's");
            return Err(MqttFault::Protocol(why));
        }
        self.began |= !bytes.is_empty();
        let mut cursor = Cursor::new(bytes);
        let mut heard = Vec::new();
        while !cursor.remaining_slice().is_empty() {
            for event in self.connection.recv(&mut cursor) {
                match event {
                    Event::NotifyPacketReceived(Packet::V3_1_1Connack(connack)) => {
                        heard.push(match connack.return_code() {
                            ConnectReturnCode::Accepted => Heard::Accepted {
                                session_present: connack.session_present(),
                            },
                            code => Heard::Refused(code as u8),
                        });
                    }
                    Event::NotifyPacketReceived(_) => heard.push(Heard::Other),
                    Event::NotifyError(error) => {
                        return Err(MqttFault::Protocol(format!("{error:?}")));
                    }
                    _ => {}
                }
            }
        }
        Ok(heard)
    }

    /// A PINGREQ packet.
    pub fn ping(&mut self) -> Vec<u8> {
        v3_1_1::Pingreq::builder().build().map_or_else(
            |_| Vec::new(),
            |packet| sent(self.connection.checked_send(packet)),
        )
    }

    /// A DISCONNECT packet: the server then publishes no last will.
    pub fn disconnect(&mut self) -> Vec<u8> {
        v3_1_1::Disconnect::builder().build().map_or_else(
            |_| Vec::new(),
            |packet| sent(self.connection.checked_send(packet)),
        )
    }
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

/// What a CONNACK code means (MQTT 3.1.1 table 3.1).
pub fn connack_meaning(code: u8) -> &'static str {
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

/// A conversation that is not MQTT 3.1.1.
#[derive(Debug, thiserror::Error)]
pub enum MqttFault {
    /// A client id that MQTT or AWS IoT does not take.
    #[error("`{0}` is not a client id: 1 to 128 bytes of UTF-8")]
    ClientId(String),
    /// The server's bytes are wrong.
    #[error("the server does not speak MQTT 3.1.1: {0}")]
    Protocol(String),
}

impl Explain for MqttFault {
    fn kind(&self) -> Kind {
        match self {
            Self::ClientId(_) => Kind::Input,
            Self::Protocol(_) => Kind::Negative,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "mqtt.client-id",
            Self::Protocol(_) => "mqtt.protocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_packet_is_mqtt_3_1_1_with_a_clean_session() {
        let (_, bytes) = Client::connect("pump-1", 30).unwrap();
        assert_eq!(bytes, b"\x10\x12\x00\x04MQTT\x04\x02\x00\x1e\x00\x06pump-1");
        for bad in ["", &"x".repeat(129)] {
            assert!(Client::connect(bad, 30).is_err());
        }
    }

    #[test]
    fn answers_are_heard_in_any_slices() {
        let (mut client, _) = Client::connect("pump-1", 30).unwrap();
        assert_eq!(client.hear(&[0x20]).unwrap(), []);
        let rest = client.hear(&[0x02, 0x00, 0x00]).unwrap();
        assert_eq!(
            rest,
            [Heard::Accepted {
                session_present: false
            }]
        );
        assert_eq!(client.ping(), [0xc0, 0x00]);
        assert_eq!(client.hear(&[0xd0, 0x00]).unwrap(), [Heard::Other]);
        assert_eq!(client.disconnect(), [0xe0, 0x00]);
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let (mut client, _) = Client::connect("pump-1", 30).unwrap();
        assert_eq!(client.hear(&[0x20, 2, 0, 5]).unwrap(), [Heard::Refused(5)]);
        for nonsense in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            &[0x20, 2, 0, 9],
            &[0xff; 64],
        ] {
            let (mut client, _) = Client::connect("pump-1", 30).unwrap();
            assert!(client.hear(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
