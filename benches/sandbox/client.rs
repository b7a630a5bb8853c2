//! The load client: real mutual TLS with a new session for each connection, and just enough MQTT.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How many connections are made at the same time.
const THREADS: usize = 16;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a device tries again that is not provisioned yet.
const TRIES: usize = 200;
/// QoS 1 publishes without a PUBACK.
const WINDOW: u16 = 20;
const DISCONNECT: [u8; 2] = [0xe0, 0];

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A device as a client.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) tls: Arc<ClientConfig>,
}

/// What is asked of a server for one connection.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Wish {
    /// A mutual handshake, and the server's close.
    Handshake,
    /// The CONNACK of a CONNECT.
    Connect,
}

impl Device {
    /// A connection that has not spoken yet. What is written to its TLS goes out with the last flight of
    /// the handshake.
    fn dial(&self, port: u16) -> io::Result<Stream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let name = "localhost".try_into().map_err(io::Error::other)?;
        let tls = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(tls, tcp))
    }

    /// Sends CONNECT; `false` when the server closes instead of a CONNACK.
    pub(crate) fn connect(&self, port: u16) -> io::Result<(Stream, bool)> {
        let mut stream = self.dial(port)?;
        stream
            .conn
            .writer()
            .write_all(&connect_packet(&self.name))?;
        let mut connack = [0; 4];
        match stream.read_exact(&mut connack) {
            Ok(()) if connack == [0x20, 2, 0, 0] => Ok((stream, true)),
            Ok(()) => Err(io::Error::other(format!("not let in: {connack:?}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok((stream, false)),
            Err(error) => Err(error),
        }
    }

    fn wish(&self, port: u16, wish: Wish) -> io::Result<()> {
        if wish == Wish::Handshake {
            // The server closes when it has verified the client: the end is its word for it.
            let mut stream = self.dial(port)?;
            let read = stream.read(&mut [0; 16])?;
            assert_eq!(read, 0);
            return Ok(());
        }
        let (mut stream, accepted) = self.connect(port)?;
        assert!(accepted, "{} is not let in", self.name);
        stream.write_all(&DISCONNECT)
    }
}

fn connect_packet(client: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\x02\x04\xb0".to_vec();
    field(&mut body, client.as_bytes());
    packet(0x10, &body)
}

fn field(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    into.extend(bytes);
}

/// A packet of at most 127 bytes.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    assert!(length < 128);
    [&[kind, length], body].concat()
}

/// Connects devices, one after another, for a while; how many a second.
pub(crate) fn connects(port: u16, devices: &[Device], time: Duration, wish: Wish) -> f64 {
    let done = AtomicUsize::new(0);
    let begun = Instant::now();
    let share = devices.len() / THREADS;
    std::thread::scope(|scope| {
        for own in devices.chunks(share).take(THREADS) {
            let done = &done;
            scope.spawn(move || {
                for device in own.iter().cycle() {
                    if begun.elapsed() >= time {
                        return;
                    }
                    device.wish(port, wish).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    per_second(done.into_inner(), begun)
}

/// Brings new devices in: the first connect of each, which registers it, and the one that finds it
/// provisioned. How many devices a second, and how many connects were too early.
pub(crate) fn first_connects(port: u16, devices: &[Device]) -> (f64, usize) {
    let early = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for own in devices.chunks(devices.len().div_ceil(THREADS)) {
            let early = &early;
            scope.spawn(move || {
                for some in own.chunks(8) {
                    for device in some {
                        let (_, accepted) = device.connect(port).unwrap();
                        assert!(!accepted, "{} was there before", device.name);
                    }
                    for device in some {
                        early.fetch_add(again(port, device), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (per_second(devices.len(), begun), early.into_inner())
}

/// Connects a device that waits to be provisioned; how often it was too early.
fn again(port: u16, device: &Device) -> usize {
    for tries in 0..TRIES {
        let (mut stream, accepted) = device.connect(port).unwrap();
        if accepted {
            stream.write_all(&DISCONNECT).unwrap();
            return tries;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} was not provisioned", device.name)
}

/// Publishes with QoS 1 for a while, each message in a TLS record of its own; how many a second.
pub(crate) fn publishes(port: u16, devices: &[Device], time: Duration) -> f64 {
    let done = AtomicUsize::new(0);
    let streams: Vec<(Stream, &Device)> = devices
        .iter()
        .map(|device| (device.connect(port).unwrap().0, device))
        .collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (mut stream, device) in streams {
            let done = &done;
            scope.spawn(move || {
                let mut body = Vec::new();
                field(
                    &mut body,
                    format!("devices/{}/telemetry", device.name).as_bytes(),
                );
                let topic = body.len();
                body.extend([0; 66]);
                let mut answers = [0; 4 * WINDOW as usize];
                while begun.elapsed() < time {
                    for id in 1..=WINDOW {
                        body[topic..topic + 2].copy_from_slice(&id.to_be_bytes());
                        let packet = packet(0x32, &body);
                        stream.conn.writer().write_all(&packet).unwrap();
                    }
                    stream.flush().unwrap();
                    stream.read_exact(&mut answers).unwrap();
                    assert!(answers.chunks(4).all(|one| one[..2] == [0x40, 2]));
                    done.fetch_add(usize::from(WINDOW), Ordering::Relaxed);
                }
                stream.write_all(&DISCONNECT).unwrap();
            });
        }
    });
    per_second(done.into_inner(), begun)
}

/// Connects every device and stays.
pub(crate) fn idle(port: u16, devices: &[Device]) -> Vec<Stream> {
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let share = devices.len().div_ceil(THREADS);
        let threads: Vec<_> = devices
            .chunks(share)
            .map(|own| {
                scope.spawn(move || {
                    let connect = |device: &Device| {
                        let (stream, accepted) = device.connect(port).unwrap();
                        assert!(accepted);
                        stream
                    };
                    own.iter().map(connect).collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            all.extend(thread.join().unwrap());
        }
    });
    all
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(count: usize, begun: Instant) -> f64 {
    count as f64 / begun.elapsed().as_secs_f64()
}
