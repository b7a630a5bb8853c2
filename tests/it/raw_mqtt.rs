//! A client of MQTT 3.1.1 and 5 that says exactly what a test wants and shows exactly what comes back,
//! over TLS with any certificate and any key. It reads bytes by the standard's tables alone.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(20);

/// Shows a certificate and uses a key whether they fit or not.
#[derive(Debug)]
struct Regardless(Arc<CertifiedKey>);

impl ResolvesClientCert for Regardless {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// Where to connect, and as whom; PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) port: u16,
    pub(crate) ca: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// One connection.
pub(crate) struct Raw {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    pub(crate) v5: bool,
    bytes: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Heard {
    Connack {
        present: bool,
        code: u8,
        more: Props,
    },
    Publish(Box<Message>),
    Puback {
        id: u16,
        code: u8,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
    },
    Pingresp,
    Disconnect(u8),
    Closed,
}

/// A PUBLISH.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
    pub(crate) more: Props,
}

/// Properties of MQTT 5 by their number: the bytes of each value, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Props(pub(crate) BTreeMap<u8, Vec<Vec<u8>>>);

impl Props {
    /// The number that a property has.
    pub(crate) fn number(&self, id: u8) -> Option<u64> {
        let value = self.0.get(&id)?.first()?;
        Some(
            value
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    }

    /// The text that a property has.
    pub(crate) fn text(&self, id: u8) -> Option<String> {
        let value = self.0.get(&id)?.first()?;
        Some(String::from_utf8(value.clone()).unwrap())
    }
}

/// What a CONNECT says beside the client id.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    /// Sent with its QoS and RETAIN flag.
    pub(crate) will: Option<Message>,
    /// Of the will, in MQTT 5, as bytes.
    pub(crate) will_properties: Vec<u8>,
    /// Of MQTT 5, as bytes.
    pub(crate) properties: Vec<u8>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            clean: true,
            keep_alive: 60,
            will: None,
            will_properties: Vec::new(),
            properties: Vec::new(),
        }
    }
}

impl Hello {
    /// A session that outlives its connection.
    pub(crate) fn kept(v5: bool) -> Self {
        Self {
            clean: false,
            properties: if v5 { number(0x11, 600, 4) } else { Vec::new() },
            ..Self::default()
        }
    }
}

/// A property that is a number of so many bytes.
pub(crate) fn number(id: u8, value: u32, bytes: usize) -> Vec<u8> {
    [&[id], &value.to_be_bytes()[4 - bytes..]].concat()
}

/// A property that is text or binary data.
pub(crate) fn data(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[id], &text(value)[..]].concat()
}

/// A User Property.
pub(crate) fn user(name: &str, value: &str) -> Vec<u8> {
    [&[0x26], &text(name)[..], &text(value)].concat()
}

fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&length[..], value].concat()
}

fn vbi(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value % 128).unwrap();
        value /= 128;
        bytes.push(if value > 0 { byte | 128 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    [&[head], &vbi(body.len())[..], body].concat()
}

impl Raw {
    /// Begins a connection; TLS is done with the first packet.
    pub(crate) fn dial(identity: &Identity, v5: bool) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(&identity.ca).unwrap();
        roots.add(ca).unwrap();
        let chain = CertificateDer::pem_slice_iter(&identity.certificate);
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(&identity.key).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let shown = Arc::new(CertifiedKey::new(chain, key));
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Regardless(shown)));
        let server = "localhost".try_into().unwrap();
        let tls = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", identity.port)).unwrap();
        tcp.set_read_timeout(Some(WAIT)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self {
            stream: rustls::StreamOwned::new(tls, tcp),
            v5,
            bytes: Vec::new(),
        }
    }

    /// Waits longer for answers.
    pub(crate) fn patient(&self, wait: Duration) {
        self.stream.sock.set_read_timeout(Some(wait)).unwrap();
    }

    /// Connects, and expects to be let in.
    #[track_caller]
    pub(crate) fn connected(identity: &Identity, v5: bool, id: &str, hello: &Hello) -> Self {
        let (raw, answer) = Self::connect(identity, v5, id, hello);
        assert!(
            matches!(answer, Heard::Connack { code: 0, .. }),
            "{answer:?}"
        );
        raw
    }

    /// Connects, and shows the answer.
    pub(crate) fn connect(identity: &Identity, v5: bool, id: &str, hello: &Hello) -> (Self, Heard) {
        let mut raw = Self::dial(identity, v5);
        let mut flags = u8::from(hello.clean) << 1;
        let mut tail = text(id);
        if let Some(will) = &hello.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
            if v5 {
                tail.extend(vbi(hello.will_properties.len()));
                tail.extend(&hello.will_properties);
            }
            tail.extend(text(&will.topic));
            tail.extend(text(&will.payload));
        }
        let mut body = [&text("MQTT")[..], &[if v5 { 5 } else { 4 }, flags]].concat();
        body.extend(hello.keep_alive.to_be_bytes());
        if v5 {
            body.extend(vbi(hello.properties.len()));
            body.extend(&hello.properties);
        }
        body.extend(tail);
        raw.send(&packet(0x10, &body));
        let answer = raw.hear();
        (raw, answer)
    }

    /// Sends bytes; a connection that is closed already says so when it is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.flush();
    }

    pub(crate) fn publish(&mut self, message: &Message) {
        self.publish_with(message, &[]);
    }

    /// With properties of MQTT 5.
    pub(crate) fn publish_with(&mut self, message: &Message, properties: &[u8]) {
        let mut body = text(&message.topic);
        if message.qos > 0 {
            body.extend(message.id.to_be_bytes());
        }
        if self.v5 {
            body.extend(vbi(properties.len()));
            body.extend(properties);
        }
        body.extend(&message.payload);
        let dup = u8::from(message.dup) << 3;
        let head = 0x30 | dup | message.qos << 1 | u8::from(message.retain);
        self.send(&packet(head, &body));
    }

    /// Subscribes with these options for each filter (in 3.1.1 the QoS alone).
    pub(crate) fn subscribe(&mut self, filters: &[(&str, u8)]) {
        self.subscribe_with(filters, &[]);
    }

    pub(crate) fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &[u8]) {
        let mut body = 11_u16.to_be_bytes().to_vec();
        if self.v5 {
            body.extend(vbi(properties.len()));
            body.extend(properties);
        }
        for (filter, options) in filters {
            body.extend(text(filter));
            body.push(*options);
        }
        self.send(&packet(0x82, &body));
    }

    /// Subscribes to one filter, and expects it to be granted as asked.
    #[track_caller]
    pub(crate) fn subscribed(&mut self, filter: &str, options: u8) {
        self.subscribe(&[(filter, options)]);
        let codes = vec![options & 3];
        assert_eq!(self.hear(), Heard::Suback { id: 11, codes });
    }

    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) {
        let mut body = 12_u16.to_be_bytes().to_vec();
        if self.v5 {
            body.push(0);
        }
        for filter in filters {
            body.extend(text(filter));
        }
        self.send(&packet(0xa2, &body));
    }

    pub(crate) fn puback(&mut self, id: u16) {
        self.send(&packet(0x40, &id.to_be_bytes()));
    }

    pub(crate) fn ping(&mut self) {
        self.send(&[0xc0, 0]);
    }

    /// DISCONNECT, in MQTT 5 with this reason.
    pub(crate) fn disconnect(mut self, code: u8) {
        if self.v5 {
            self.send(&[0xe0, 1, code]);
        } else {
            self.send(&[0xe0, 0]);
        }
        assert_eq!(self.hear(), Heard::Closed);
    }

    /// The connection breaks.
    pub(crate) fn cut(self) {
        let _ = self.stream.sock.shutdown(std::net::Shutdown::Both);
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        match self.hear() {
            Heard::Publish(message) => *message,
            other => panic!("no message, but {other:?}"),
        }
    }

    /// Nothing has come that is not read: the next answer is that to a PINGREQ.
    #[track_caller]
    pub(crate) fn silent(&mut self) {
        self.ping();
        assert_eq!(self.hear(), Heard::Pingresp);
    }

    /// The next packet, or the end.
    pub(crate) fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.whole() {
                return heard;
            }
            let mut more = [0; 4096];
            match self.stream.read(&mut more) {
                Ok(0) => return Heard::Closed,
                Ok(read) => self.bytes.extend(&more[..read]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("nothing came in time")
                }
                Err(_) => return Heard::Closed,
            }
        }
    }

    /// The first packet, if it is there as a whole.
    fn whole(&mut self) -> Option<Heard> {
        let head = *self.bytes.first()?;
        let (length, at) = read_vbi(&self.bytes, 1)?;
        let body = self.bytes.get(at..at + length)?.to_vec();
        self.bytes.drain(..at + length);
        Some(read_packet(head, &body, self.v5))
    }
}

fn read_vbi(bytes: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(at)?;
        value |= usize::from(byte & 127) << shift;
        (at, shift) = (at + 1, shift + 7);
        if byte & 128 == 0 {
            return Some((value, at));
        }
    }
}

fn u16_at(body: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([body[at], body[at + 1]])
}

fn read_packet(head: u8, body: &[u8], v5: bool) -> Heard {
    let code = |at: usize| body.get(at).copied().unwrap_or(0);
    match head >> 4 {
        2 => Heard::Connack {
            present: body[0] & 1 == 1,
            code: body[1],
            more: if v5 {
                props(body, 2).0
            } else {
                Props::default()
            },
        },
        3 => Heard::Publish(Box::new(read_publish(head, body, v5))),
        4 => Heard::Puback {
            id: u16_at(body, 0),
            code: code(2),
        },
        9 | 11 => {
            let at = if v5 { props(body, 2).1 } else { 2 };
            let (id, codes) = (u16_at(body, 0), body[at..].to_vec());
            match head >> 4 {
                9 => Heard::Suback { id, codes },
                _ => Heard::Unsuback { id, codes },
            }
        }
        13 => Heard::Pingresp,
        14 => Heard::Disconnect(code(0)),
        other => panic!("a packet of type {other} from a server"),
    }
}

fn read_publish(head: u8, body: &[u8], v5: bool) -> Message {
    let length = usize::from(u16_at(body, 0));
    let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
    let (mut at, mut id) = (2 + length, 0);
    let qos = head >> 1 & 3;
    if qos > 0 {
        id = u16_at(body, at);
        at += 2;
    }
    let mut more = Props::default();
    if v5 {
        (more, at) = props(body, at);
    }
    Message {
        topic,
        payload: body[at..].to_vec(),
        qos,
        retain: head & 1 == 1,
        dup: head & 8 == 8,
        id,
        more,
    }
}

/// Properties (MQTT 5 §2.2.2), and where they end.
fn props(body: &[u8], at: usize) -> (Props, usize) {
    let (length, mut at) = read_vbi(body, at).unwrap();
    let end = at + length;
    let mut all = Props::default();
    while at < end {
        let id = body[at];
        at += 1;
        let size = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x21 | 0x22 | 0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0b => read_vbi(body, at).unwrap().1 - at,
            0x26 => {
                let name = 2 + usize::from(u16_at(body, at));
                name + 2 + usize::from(u16_at(body, at + name))
            }
            _ => 2 + usize::from(u16_at(body, at)),
        };
        let value = match id {
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => {
                &body[at + 2..at + size]
            }
            _ => &body[at..at + size],
        };
        all.0.entry(id).or_default().push(value.to_vec());
        at += size;
    }
    (all, end)
}
