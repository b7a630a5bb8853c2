//! One device connection's input and output: TLS, packets, timers. What to do is decided elsewhere.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::broker::Broker;
use super::entrance::Doorway;
use super::exchange::{Inlet, Out};
use super::handshake::{self, Failed};
use super::http;
use super::logs::{Record, Stage, Why, of_refusal};
use super::mqtt::access::Peer;
use super::mqtt::decode::{Decoder, Flaw, UNSUPPORTED_VERSION};
use super::mqtt::encode::Encoder;
use super::mqtt::hub::{AUTHORIZATION, Arrival as Newcomer, CLIENT_ERROR, End, why_protocol};
use super::mqtt::packet::{Connack, Connect, Incoming, Outgoing, Version};
use super::pace::Pace;
use super::tls;
use crate::core::cert::Certificate;
use crate::core::jitp::{Presented, Verdict};

/// How long a client may take from the first byte to the end of its CONNECT.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write or the closing of a connection may take.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes are read at a time.
const BUFFER: usize = 8192;
/// How many bytes are gathered for one write.
const GATHER: usize = 64 * 1024;
/// MQTT 3.1.1's return code for another version of the protocol.
const UNACCEPTABLE_VERSION: u8 = 1;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Door {
    /// MQTT, as on port 8883.
    Mqtt,
    /// HTTPS, or MQTT if ALPN says so, as on ports 443 and 8443.
    Https,
}

/// Boxed, because futures keep a place for it wherever it is handed on.
type Stream = Box<TlsStream<TcpStream>>;

/// A certificate that came with proof of its key.
struct Arrival {
    stream: Stream,
    leaf: Arc<Certificate>,
    others: Vec<Certificate>,
    server_name: bool,
}

type Packets = Vec<Result<Incoming, Flaw>>;

/// Serves one connection to its end.
pub(super) async fn serve(doorway: Doorway, tcp: TcpStream, stop: watch::Receiver<bool>) {
    let Ok(address) = tcp.peer_addr() else { return };
    let _ = tcp.set_nodelay(true);
    let mut broker = Arc::clone(&doorway.broker);
    // What the handshake needed is given back when it is done: a connection may be idle for long.
    let arriving = Box::pin(timeout(CONNECT_TIMEOUT, arrive(&doorway, &mut broker, tcp)));
    let arrival = match arriving.await {
        Ok(Ok(arrival)) => arrival,
        Ok(Err(failed)) => return refuse(&broker, address, failed),
        Err(_) => return refuse(&broker, address, too_slow()),
    };
    let protocol = arrival.stream.get_ref().1.alpn_protocol();
    let https = doorway.door == Door::Https && protocol != Some(tls::MQTT);
    let presented = Presented {
        leaf: &arrival.leaf,
        others: &arrival.others,
        server_name: arrival.server_name,
    };
    if is_throttled(&broker) {
        let record = throttled(&arrival.leaf);
        return Box::pin(turn_away(&broker, arrival, (address, https), record)).await;
    }
    match broker.verdict(presented) {
        Verdict::Admit => Box::pin(admit(broker, arrival, (address, https), stop)).await,
        Verdict::Provision(provision) => {
            let record = broker.register(&arrival.leaf, &provision);
            let run = provision.run_template && !record.failed();
            let leaf = Arc::clone(&arrival.leaf);
            Box::pin(turn_away(&broker, arrival, (address, https), record)).await;
            if run {
                broker.provision_later(leaf, provision.ca);
            }
        }
        Verdict::Refuse(refusal) => {
            let record = Record::failure("Connect", AUTHORIZATION, refusal.to_string())
                .why(of_refusal(&refusal, &arrival.leaf));
            Box::pin(turn_away(&broker, arrival, (address, https), record)).await;
        }
    }
}

/// Writes why a handshake failed.
fn refuse(broker: &Broker, address: SocketAddr, failed: Failed) {
    let Failed { denial, principal } = failed;
    let record = Record::failure("Connect", "TLS_FAILURE", denial.details).why(denial.why);
    broker
        .logs
        .write(record.of(address, principal.as_deref(), None));
}

fn too_slow() -> Failed {
    let details = "the TLS handshake took too long".to_owned();
    let remedy = "let the client finish its handshake in 10 seconds";
    handshake::failed(Stage::Tls, "tls.timeout", details, remedy)
}

fn is_throttled(broker: &Broker) -> bool {
    let now = broker.shared.clock.monotonic();
    broker.shared.faults.throttles_connect(now)
}

fn throttled(leaf: &Certificate) -> Record {
    let remedy = "wait longer between tries, with jitter; or end the fault: `nameplate sandbox \
                  fault clear connect-throttle`";
    let why = Why::new(Stage::Connect, "fault.connect-throttle", remedy).of(leaf);
    let details = "more clients connect in this second than the fault `connect-throttle` allows";
    Record::failure("Connect", "THROTTLED", details).why(why)
}

async fn admit(
    broker: Arc<Broker>,
    arrival: Arrival,
    from: (SocketAddr, bool),
    stop: watch::Receiver<bool>,
) {
    let (address, https) = from;
    let peer = Peer {
        address,
        certificate: arrival.leaf,
        place: broker.exchange.place(),
    };
    if https {
        http::serve(broker, *arrival.stream, peer, stop).await;
    } else {
        Conversation::new(broker, arrival.stream, peer)
            .run(stop)
            .await;
    }
}

/// The TLS handshake; from its first message on `broker` is the one that the client means. An error
/// is for the log.
async fn arrive(
    doorway: &Doorway,
    broker: &mut Arc<Broker>,
    tcp: TcpStream,
) -> Result<Arrival, Failed> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp);
    let start = start
        .await
        .map_err(|error| handshake::explain(&error, None))?;
    let named = start.client_hello().server_name().map(str::to_owned);
    let meant = doorway.to(named.as_deref());
    let config = Arc::clone(&doorway.config);
    let (stream, shown) = handshake::watch(start.into_stream(config)).await;
    let Some(right) = meant else {
        let wanted = &broker.endpoint.name;
        return Err(handshake::wrong_name(named.as_deref(), wanted));
    };
    *broker = right;
    let stream = stream.map_err(|error| handshake::explain(&error, shown.as_ref()))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let parse = |der: &rustls_pki_types::CertificateDer<'_>| {
        Certificate::from_der(der).map_err(|error| {
            let remedy = "look at it with `nameplate cert inspect`, and issue it anew";
            handshake::failed(
                Stage::Certificate,
                "tls.certificate",
                error.to_string(),
                remedy,
            )
        })
    };
    let none = std::io::Error::other(rustls::Error::NoCertificatesPresented);
    let (leaf, others) = chain
        .split_first()
        .ok_or_else(|| handshake::explain(&none, None))?;
    Ok(Arrival {
        leaf: Arc::new(parse(leaf)?),
        others: others.iter().filter_map(|der| parse(der).ok()).collect(),
        server_name: named.is_some(),
        stream: Box::new(stream),
    })
}

/// Reads the CONNECT of a client that will not get in, so that the record names it, and closes
/// without an answer. HTTPS has an answer.
async fn turn_away(
    broker: &Broker,
    mut arrival: Arrival,
    from: (SocketAddr, bool),
    record: Record,
) {
    let (address, https) = from;
    let id = arrival.leaf.id().as_str();
    if https {
        broker
            .logs
            .write(http::over_http(record.of(address, Some(id), None)));
        return http::forbid(&mut arrival.stream, &broker.logs.uuid()).await;
    }
    let mut decoder = Decoder::new();
    let connect = async {
        loop {
            let packets = read(&mut arrival.stream, &mut decoder).await?;
            match packets.into_iter().next() {
                Some(Ok(Incoming::Connect(connect))) => return Some(connect.client_id),
                Some(_) => return None,
                None => {}
            }
        }
    };
    let client = timeout(CONNECT_TIMEOUT, connect).await.ok().flatten();
    broker
        .logs
        .write(record.of(address, Some(id), client.as_deref()));
    let _ = timeout(WRITE_TIMEOUT, arrival.stream.shutdown()).await;
}

/// The packets that the next bytes complete; `None` at the end of the connection. The buffer is on
/// the stack while there is something to read, so that an idle connection needs none.
async fn read(stream: &mut TlsStream<TcpStream>, decoder: &mut Decoder) -> Option<Packets> {
    std::future::poll_fn(|context| {
        let mut bytes = [0; BUFFER];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                Poll::Ready(Some(decoder.feed(buffer.filled())))
            }
            Poll::Ready(_) => Poll::Ready(None),
        }
    })
    .await
}

/// An MQTT connection whose certificate may connect.
struct Conversation {
    broker: Arc<Broker>,
    stream: Stream,
    decoder: Decoder,
    /// There is one once the CONNECT is read.
    encoder: Option<Encoder>,
    inlet: Inlet,
    peer: Option<Peer>,
    /// The hub knows of the connection.
    connected: bool,
    /// How long the client may be silent.
    silence: Duration,
    /// Where throughput is enforced.
    pace: Option<Box<Pace>>,
}

/// What happens to a connection.
enum Event {
    Out(Out),
    Read(Option<Packets>),
    Silent,
    Stop,
}

impl Conversation {
    fn new(broker: Arc<Broker>, stream: Stream, peer: Peer) -> Self {
        Self {
            inlet: broker.open(),
            pace: (broker.rules.paced).then(|| Pace::new(broker.shared.clock.monotonic()).into()),
            broker,
            stream,
            decoder: Decoder::new(),
            encoder: None,
            peer: Some(peer),
            connected: false,
            silence: CONNECT_TIMEOUT,
        }
    }

    async fn run(mut self, stop: watch::Receiver<bool>) {
        self.converse(stop).await;
        self.broker.close(self.inlet.link);
        let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
    }

    /// Until the hub closes the connection, or the client does before the hub knows of it.
    async fn converse(&mut self, mut stop: watch::Receiver<bool>) {
        let mut idle = pin!(sleep(self.silence));
        loop {
            let event = tokio::select! {
                out = self.inlet.next() => Event::Out(out),
                packets = read(&mut self.stream, &mut self.decoder) => Event::Read(packets),
                () = &mut idle => Event::Silent,
                () = stopped(&mut stop) => Event::Stop,
            };
            match event {
                Event::Out(out) => {
                    if !self.write(out).await {
                        return;
                    }
                }
                Event::Read(Some(packets)) => {
                    if !self.received(packets) {
                        return self.drain().await;
                    }
                    let fed = self.decoder.take_fed();
                    self.keep_pace(fed).await;
                    idle.set(sleep(self.silence));
                }
                Event::Read(None) => return self.over(End::ConnectionLost).await,
                Event::Silent => return self.too_silent().await,
                Event::Stop => return self.over(End::ServerInitiated).await,
            }
        }
    }

    /// The connection ends from this side.
    async fn over(&mut self, end: End) {
        if self.connected {
            let link = self.inlet.link;
            self.broker.turn(Some(link), |turn| turn.lost(link, end));
            self.drain().await;
        }
    }

    /// The client has said nothing for too long.
    async fn too_silent(&mut self) {
        if !self.connected {
            let why = Why::new(
                Stage::Connect,
                "mqtt.no-connect",
                "let the client send CONNECT as soon as TLS is done",
            );
            let details = "no CONNECT came in time";
            self.refuse(Record::failure("Connect", CLIENT_ERROR, details), why);
        }
        self.over(End::KeepAliveTimeout).await;
    }

    /// Sends what there is.
    async fn drain(&mut self) {
        if let Some(out) = self.inlet.ready() {
            self.write(out).await;
        }
    }

    /// Writes a packet and those behind it; `false` when the connection is to end.
    async fn write(&mut self, first: Out) -> bool {
        let mut bytes = Vec::new();
        let mut next = Some(first);
        let mut open = true;
        while let Some(out) = next {
            match (out, &mut self.encoder) {
                (Some(packet), Some(encoder)) => encoder.encode(&packet, &mut bytes),
                (Some(_), None) => {}
                (None, _) => {
                    open = false;
                    break;
                }
            }
            next = if bytes.len() < GATHER {
                self.inlet.ready()
            } else {
                None
            };
        }
        let written = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        let written = matches!(timeout(WRITE_TIMEOUT, written).await, Ok(Ok(())));
        if open && !written && self.connected {
            let link = self.inlet.link;
            let end = End::ConnectionLost;
            self.broker.turn(Some(link), |turn| turn.lost(link, end));
        }
        self.keep_pace(bytes.len()).await;
        open && written
    }

    /// So many bytes have passed: more may after a while.
    async fn keep_pace(&mut self, bytes: usize) {
        let now = self.broker.shared.clock.monotonic();
        let wait = self.pace.as_mut().map(|pace| pace.spend(bytes, now));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            sleep(wait).await;
        }
    }

    /// Packets from the client, as many as came at once; `false` when the connection is to end.
    fn received(&mut self, packets: Packets) -> bool {
        let link = self.inlet.link;
        let mut whole = Vec::new();
        let mut broken = None;
        for packet in packets {
            match packet {
                Ok(Incoming::Connect(connect)) if self.peer.is_some() => self.connect(*connect),
                Ok(packet) => whole.push(packet),
                Err(flaw) => broken = Some(flaw),
            }
        }
        if !self.connected {
            // A refused client's CONNACK is on its way, and its end behind it.
            return match broken {
                Some(flaw) => self.misspoken(&flaw),
                None => true,
            };
        }
        self.broker.turn(Some(link), |turn| {
            turn.packets(link, whole);
            if let Some(flaw) = broken {
                turn.broken(link, flaw.code, &flaw.text);
            }
        });
        true
    }

    fn connect(&mut self, connect: Connect) {
        let Some(peer) = self.peer.take() else { return };
        self.encoder = Some(Encoder::new(connect.version, connect.alias_maximum));
        let newcomer = Newcomer {
            link: self.inlet.link,
            peer,
            identifier: self.broker.logs.uuid().replace('-', ""),
            generated_id: format!("${}", self.broker.logs.uuid()),
        };
        let link = Some(self.inlet.link);
        let accepted = self
            .broker
            .turn(link, |turn| turn.connect(newcomer, connect));
        if let Some(accepted) = accepted {
            self.connected = true;
            self.silence = accepted;
        }
    }

    /// The client's first words are no CONNECT that is understood here.
    fn misspoken(&mut self, flaw: &Flaw) -> bool {
        if self.peer.is_none() {
            return true;
        }
        let details = format!("the client broke the MQTT protocol: {}", flaw.text);
        self.refuse(
            Record::failure("Connect", CLIENT_ERROR, details),
            why_protocol(),
        );
        if flaw.code == UNSUPPORTED_VERSION {
            self.encoder = Some(Encoder::new(Version::V3, 0));
            let connack = Connack {
                code: UNACCEPTABLE_VERSION,
                ..Connack::default()
            };
            let packet = Outgoing::Connack(Box::new(connack));
            self.broker.say(self.inlet.link, packet);
        }
        false
    }

    /// Writes why a client was not let in that has not said who it is.
    fn refuse(&self, record: Record, why: Why) {
        let Some(peer) = &self.peer else { return };
        let record = record.why(why.of(&peer.certificate));
        let id = peer.certificate.id().as_str();
        self.broker
            .logs
            .write(record.of(peer.address, Some(id), None));
    }
}

/// Until the sandbox is told to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}
