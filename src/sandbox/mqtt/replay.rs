//! What clients send, without a network: for the fuzz target, and whoever drives it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::access::{Authority, Peer, Rights};
use super::decode::Decoder;
use super::encode::Encoder;
use super::hub::{Act, Arrival, End, Hub, HubRules, Turn, World};
use super::packet::{Incoming, Outgoing, Version};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place};
use crate::core::policy::{Document, NamedPolicy};

/// Clients side by side.
const CLIENTS: u64 = 3;
/// How long any session lasts at most, in seconds.
const EXPIRY: u32 = 3600;
/// Everything but what is called secret.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:*","Resource":"*"},
    {"Effect":"Deny","Action":"iot:*","Resource":"*/secret*"}]}"#;

/// One certificate that may do what the policy says.
struct OneRight {
    certificate: Arc<Certificate>,
    policy: Option<Arc<Document>>,
}

impl Rights for OneRight {
    fn generation(&self) -> u64 {
        1
    }

    fn authority(&self, _: &CertificateId) -> (Authority, u64) {
        let policies = self.policy.iter().map(|document| NamedPolicy {
            name: "all".into(),
            document: Arc::clone(document),
        });
        let authority = Authority {
            policies: policies.collect(),
            things: Vec::new(),
            versions: BTreeMap::new(),
            active: true,
        };
        (authority, 1)
    }
}

impl World for OneRight {
    fn certificate(&self, _: &CertificateId) -> Option<Certificate> {
        Some((*self.certificate).clone())
    }

    fn serves(&self, topic: &str) -> bool {
        topic.starts_with("$aws/certificates/create/")
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// One connection.
struct Line {
    number: u64,
    decoder: Decoder,
    encoder: Option<Encoder>,
    connected: bool,
}

struct Replay {
    hub: Hub,
    world: OneRight,
    place: Arc<Place>,
    lines: Vec<Line>,
    next: u64,
    /// Milliseconds since 1970.
    now: i64,
}

/// Gives a hub the bytes of several clients in turn. The input is a row of frames: a byte that says
/// which client (0 to 2), that its connection breaks (3 to 5), or that time passes (others); a byte
/// that is the number of bytes that follow, or of seconds; the bytes. Returns how many packets were
/// taken.
///
/// # Panics
/// When something is left of clients whose sessions are over: that is what it is for.
pub fn replay(certificate: &Certificate, place: &Place, frames: &[u8]) -> usize {
    let place = Arc::new(place.clone());
    let rules = HubRules {
        session_expiry: EXPIRY,
        rates: false,
    };
    let mut replay = Replay {
        hub: Hub::new(Arc::clone(&place), rules),
        world: OneRight {
            certificate: Arc::new(certificate.clone()),
            policy: Document::parse(POLICY).ok().map(Arc::new),
        },
        place,
        lines: Vec::new(),
        next: CLIENTS,
        now: 1_000_000,
    };
    replay.lines = (0..CLIENTS).map(Line::new).collect();
    let taken = replay.run(frames);
    replay.end();
    taken
}

impl Line {
    fn new(number: u64) -> Self {
        Self {
            number,
            decoder: Decoder::new(),
            encoder: None,
            connected: false,
        }
    }
}

impl Replay {
    fn run(&mut self, mut frames: &[u8]) -> usize {
        let mut taken = 0;
        while let [what, size, rest @ ..] = frames {
            let client = usize::from(*what);
            match *what {
                0..3 => {
                    let (bytes, after) = rest.split_at(usize::from(*size).min(rest.len()));
                    taken += self.feed(client, bytes);
                    frames = after;
                }
                3..6 => {
                    self.lost(client - 3);
                    frames = rest;
                }
                _ => {
                    self.pass(i64::from(*size));
                    frames = rest;
                }
            }
        }
        taken
    }

    /// Bytes of a client; its connection is a new one when the last was closed.
    fn feed(&mut self, client: usize, bytes: &[u8]) -> usize {
        let number = self.lines[client].number;
        let (mut whole, mut flaw, mut taken) = (Vec::new(), None, 0);
        for packet in self.lines[client].decoder.feed(bytes) {
            match packet {
                Ok(Incoming::Connect(connect)) => {
                    let (version, aliases) = (connect.version, connect.alias_maximum);
                    self.lines[client].encoder = Some(Encoder::new(version, aliases));
                    let arrival = self.arrival(number);
                    let accepted = self.step(|turn| turn.connect(arrival, *connect).is_some());
                    self.lines[client].connected |= accepted;
                }
                Ok(packet) => whole.push(packet),
                Err(error) => flaw = Some(error),
            }
            taken += 1;
        }
        if self
            .lines
            .iter()
            .any(|line| line.number == number && line.connected)
        {
            self.step(|turn| {
                turn.packets(number, whole);
                if let Some(flaw) = flaw {
                    turn.broken(number, flaw.code, &flaw.text);
                }
            });
        } else if flaw.is_some() {
            self.renew(number);
        }
        taken
    }

    fn arrival(&self, link: u64) -> Arrival {
        Arrival {
            link,
            peer: Peer {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
                certificate: Arc::clone(&self.world.certificate),
                place: Arc::clone(&self.place),
            },
            identifier: format!("{link:032x}"),
            generated_id: format!("$generated-{link}"),
        }
    }

    fn lost(&mut self, client: usize) {
        let number = self.lines[client].number;
        self.step(|turn| turn.lost(number, End::ConnectionLost));
        self.renew(number);
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds * 1000;
        self.step(|turn| {
            turn.tick();
        });
    }

    /// Takes a step, and does with packets and ends what a connection would.
    fn step<R>(&mut self, step: impl FnOnce(&mut Turn<'_>) -> R) -> R {
        let mut turn = self.hub.turn(&self.world, self.now);
        let answer = step(&mut turn);
        let mut closed = Vec::new();
        for act in turn.finish().acts {
            match act {
                Act::Send { link, packet } => self.send(link, &packet),
                Act::Close { link } => closed.push(link),
                _ => {}
            }
        }
        for link in closed {
            self.renew(link);
        }
        answer
    }

    fn send(&mut self, link: u64, packet: &Outgoing) {
        let found = self.lines.iter_mut().find(|line| line.number == link);
        if let Some(encoder) = found.and_then(|line| line.encoder.as_mut()) {
            let (version, mut bytes) = (encoder.version(), Vec::new());
            encoder.encode(packet, &mut bytes);
            // MQTT 3.1.1 has no DISCONNECT from a server.
            let silent = version == Version::V3 && matches!(packet, Outgoing::Disconnect { .. });
            assert!(silent || !bytes.is_empty(), "{packet:?} cannot be said");
        }
    }

    /// The client of a connection that is over gets another one.
    fn renew(&mut self, link: u64) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.number == link) {
            *line = Line::new(self.next);
            self.next += 1;
        }
    }

    /// When everyone is gone and every session over, nothing is left.
    fn end(&mut self) {
        for client in 0..self.lines.len() {
            self.lost(client);
        }
        // Once for the sessions, once more for what their wills have brought about.
        self.pass(i64::from(EXPIRY) + 1);
        self.pass(i64::from(EXPIRY) + 1);
        assert!(self.hub.is_idle(), "a session is left");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What clients say, whole packets; the first three connect.
    const SAID: &[&[u8]] = &[
        b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a",
        b"\x10\x0d\0\x04MQTT\x04\0\0\x3c\0\x01b",
        // A kept session with a will that is late.
        b"\x10\x1e\0\x04MQTT\x05\x0c\0\x3c\x05\x11\0\0\0\x05\0\x01b\x05\x18\0\0\0\x02\0\x01t\0\x01w",
        b"\x30\x04\0\x01tm",
        b"\x32\x06\0\x01t\0\x07m",
        b"\x33\x06\0\x01t\0\x08r",
        b"\x32\x07\0\x01t\0\x07\0m",
        b"\x34\x06\0\x01t\0\x09q",
        b"\x32\x0d\0\x08x/secret\0\x07m",
        b"\x82\x06\0\x01\0\x01t\x01",
        b"\x82\x07\0\x01\0\0\x01t\x05",
        b"\x82\x0f\0\x02\0\x0a$share/g/t\x01",
        b"\x82\x10\0\x02\0\0\x0a$share/g/t\x01",
        b"\x82\x06\0\x03\0\x01#\0",
        b"\xa2\x05\0\x02\0\x01t",
        b"\xa2\x0e\0\x02\0\x0a$share/g/t",
        b"\x40\x02\0\x01",
        b"\x40\x02\0\x02",
        b"\x40\x02\0\x03",
        b"\xc0\0",
        b"\xe0\0",
        b"\xe0\x01\x04",
        b"\xff",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn whatever_clients_say_in_whatever_order_nothing_is_left_of_them(
            steps in prop::collection::vec((0_u8..8, 0..SAID.len(), any::<bool>()), 1..60),
        ) {
            let mut frames = Vec::new();
            for (what, packet, again) in steps {
                match what {
                    0..3 => {
                        // Half of what is said begins with a CONNECT.
                        let first = if again { SAID[packet % 3] } else { b"" };
                        let said = [first, SAID[packet]].concat();
                        frames.extend([what, u8::try_from(said.len()).unwrap()]);
                        frames.extend(said);
                    }
                    3..6 => frames.extend([what, 0]),
                    _ => frames.extend([what, 2]),
                }
            }
            let place = Place {
                account: "123456789012".parse().unwrap(),
                region: "eu-west-1".parse().unwrap(),
            };
            let device = include_bytes!("../../../fuzz/device.pem");
            let all = Certificate::all_from_pem(device).unwrap();
            replay(&all[0], &place, &frames);
        }
    }
}
