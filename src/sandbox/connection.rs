//! One MQTT connection's input and output: TLS, packets, timers. What to do is decided elsewhere.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, Qos, v3_1_1};
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::broker::{Broker, Claim, INBOX};
use super::logs::{Record, Stage, Why, of_refusal};
use super::service;
use super::session::{AUTHORIZATION, Act, End, Message, Peer, Session};
use crate::core::cert::Certificate;
use crate::core::jitp::{Presented, Verdict};

/// How long a client may take from the first byte to the end of its CONNECT.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write or the closing of a connection may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest packet: the payload, and room for the topic and headers.
const MAX_PACKET: u32 = 128 * 1024 + 1024;
/// How many bytes are read at a time.
const BUFFER: usize = 4096;

/// A certificate that came with proof of its key.
struct Arrival {
    stream: TlsStream<TcpStream>,
    leaf: Certificate,
    others: Vec<Certificate>,
    server_name: bool,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    broker: Arc<Broker>,
    config: Arc<rustls::ServerConfig>,
    tcp: TcpStream,
    stop: watch::Receiver<bool>,
) {
    let Ok(address) = tcp.peer_addr() else { return };
    let _ = tcp.set_nodelay(true);
    let refuse = |details: String| {
        let record = Record::failure("Connect", "TLS_FAILURE", details);
        broker.logs.write(record.of(address, None, None));
    };
    let arrival = match timeout(CONNECT_TIMEOUT, arrive(&broker, config, tcp)).await {
        Ok(Ok(arrival)) => arrival,
        Ok(Err(details)) => return refuse(details),
        Err(_) => return refuse("the TLS handshake took too long".to_owned()),
    };
    let presented = Presented {
        leaf: &arrival.leaf,
        others: &arrival.others,
        server_name: arrival.server_name,
    };
    match broker.verdict(presented) {
        Verdict::Admit => Link::new(broker, arrival, address).run(stop).await,
        Verdict::Provision(provision) => {
            let record = tokio::task::block_in_place(|| broker.register(&arrival.leaf, &provision));
            let run = provision.run_template && !record.failed();
            let leaf = arrival.leaf.clone();
            turn_away(&broker, arrival, address, record).await;
            if run {
                broker.provision_later(leaf, provision.ca);
            }
        }
        Verdict::Refuse(refusal) => {
            let record = Record::failure("Connect", AUTHORIZATION, refusal.to_string())
                .why(of_refusal(&refusal, &arrival.leaf));
            turn_away(&broker, arrival, address, record).await;
        }
    }
}

/// The TLS handshake. An error is for the log.
async fn arrive(
    broker: &Broker,
    config: Arc<rustls::ServerConfig>,
    tcp: TcpStream,
) -> Result<Arrival, String> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp);
    let start = start
        .await
        .map_err(|error| format!("no TLS handshake: {error}"))?;
    let named = start.client_hello().server_name().map(str::to_owned);
    let right = broker.endpoint.accepts(named.as_deref());
    let stream = start.into_stream(config).await;
    let stream = match (stream, right) {
        (Ok(stream), true) => stream,
        (Err(error), true) => return Err(format!("the TLS handshake failed: {error}")),
        (_, false) => {
            let sent = named.map_or("none".to_owned(), |name| format!("`{name}`"));
            let wanted = &broker.endpoint.name;
            return Err(format!(
                "the client sent the TLS server name {sent}; this endpoint is `{wanted}`"
            ));
        }
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let parse = |der: &rustls_pki_types::CertificateDer<'_>| {
        Certificate::from_der(der).map_err(|error| error.to_string())
    };
    let (leaf, others) = chain
        .split_first()
        .ok_or("the client sent no certificate")?;
    Ok(Arrival {
        leaf: parse(leaf)?,
        others: others.iter().filter_map(|der| parse(der).ok()).collect(),
        server_name: named.is_some(),
        stream,
    })
}

/// Reads the CONNECT of a client that will not get in, so that the record names it, and closes
/// without an answer.
async fn turn_away(broker: &Broker, mut arrival: Arrival, address: SocketAddr, record: Record) {
    let mut codec = codec();
    let mut buffer = vec![0; BUFFER];
    let connect = async {
        loop {
            let read = arrival.stream.read(&mut buffer).await.ok()?;
            let mut cursor = Cursor::new(&buffer[..read]);
            for event in codec.recv(&mut cursor) {
                match event {
                    Event::NotifyPacketReceived(Packet::V3_1_1Connect(connect)) => {
                        return Some(connect.client_id().to_owned());
                    }
                    Event::RequestClose | Event::NotifyError(_) => return None,
                    _ => {}
                }
            }
            if read == 0 {
                return None;
            }
        }
    };
    let client = timeout(CONNECT_TIMEOUT, connect).await.ok().flatten();
    let id = arrival.leaf.id().as_str();
    broker
        .logs
        .write(record.of(address, Some(id), client.as_deref()));
    let _ = timeout(WRITE_TIMEOUT, arrival.stream.shutdown()).await;
}

fn codec() -> Connection<role::Server> {
    let options = ConnectionOptions::new().maximum_packet_size_recv(MAX_PACKET);
    Connection::with_options(Version::V3_1_1, options)
}

/// A connection whose certificate may connect.
struct Link {
    broker: Arc<Broker>,
    stream: TlsStream<TcpStream>,
    codec: Connection<role::Server>,
    session: Session,
    leaf: Certificate,
    address: SocketAddr,
    generation: u64,
    number: u64,
    client_id: Option<String>,
    inbox: (mpsc::Sender<Message>, mpsc::Receiver<Message>),
    /// Ends when another connection takes the client id.
    taken: Option<oneshot::Receiver<()>>,
    /// How long the client may be silent.
    silence: Duration,
}

impl Link {
    fn new(broker: Arc<Broker>, arrival: Arrival, address: SocketAddr) -> Self {
        let (authority, generation) = broker.authority(arrival.leaf.id());
        let place = broker.logs.place().clone();
        let peer = Peer {
            address,
            certificate: arrival.leaf.clone(),
            place,
        };
        Self {
            session: Session::new(peer, authority),
            number: broker.number(),
            broker,
            stream: arrival.stream,
            codec: codec(),
            leaf: arrival.leaf,
            address,
            generation,
            client_id: None,
            inbox: mpsc::channel(INBOX),
            taken: None,
            silence: CONNECT_TIMEOUT,
        }
    }

    async fn run(mut self, stop: watch::Receiver<bool>) {
        let end = self.converse(stop).await;
        for act in self.session.ended(end) {
            match act {
                Act::Log(record) => self.broker.logs.write(*record),
                Act::Publish(message) => self.broker.publish(&message),
                _ => {}
            }
        }
        if let Some(client_id) = &self.client_id {
            self.broker.leave(client_id, self.number);
        }
        let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
    }

    async fn converse(&mut self, mut stop: watch::Receiver<bool>) -> End {
        let mut buffer = vec![0; BUFFER];
        let mut idle = pin!(sleep(self.silence));
        loop {
            let outcome = tokio::select! {
                read = self.stream.read(&mut buffer) => match read {
                    Ok(read) if read > 0 => {
                        let outcome = self.received(&buffer[..read]).await;
                        idle.set(sleep(self.silence));
                        outcome
                    }
                    _ => Err(End::ConnectionLost),
                },
                Some(message) = self.inbox.1.recv() => self.deliver(message).await,
                () = taken(&mut self.taken) => Err(End::DuplicateClientId),
                () = &mut idle => Err(self.too_silent()),
                () = stopped(&mut stop) => Err(End::ServerInitiated),
                () = sleep(REFRESH) => self.refresh().await,
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// The client has said nothing for too long.
    fn too_silent(&self) -> End {
        if self.client_id.is_some() {
            return End::KeepAliveTimeout;
        }
        let why = Why::new(
            Stage::Connect,
            "mqtt.no-connect",
            "let the client send CONNECT as soon as TLS is done",
        );
        let record = Record::failure("Connect", "CLIENT_ERROR", "no CONNECT came in time")
            .why(why.of(&self.leaf));
        let id = self.leaf.id().as_str();
        self.broker
            .logs
            .write(record.of(self.address, Some(id), None));
        End::ClientError
    }

    async fn deliver(&mut self, message: Message) -> Result<(), End> {
        self.refresh().await?;
        let acts = self.session.deliver(message);
        self.perform(acts).await
    }

    /// Learns anew what the client may do, if anything has changed.
    async fn refresh(&mut self) -> Result<(), End> {
        if self.broker.generation() == self.generation {
            return Ok(());
        }
        let (authority, generation) = self.broker.authority(self.leaf.id());
        self.generation = generation;
        let acts = self.session.refresh(authority);
        self.perform(acts).await
    }

    async fn received(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.refresh().await?;
        let mut cursor = Cursor::new(bytes);
        while !cursor.remaining_slice().is_empty() {
            for event in self.codec.recv(&mut cursor) {
                self.event(event).await?;
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::NotifyPacketReceived(packet) => {
                let generated = format!("${}", self.broker.logs.uuid());
                let acts = self.session.packet(&packet, &generated);
                self.perform(acts).await
            }
            // AWS IoT has no QoS 2: the codec's own PUBREC stays here.
            Event::RequestSendPacket { packet, .. }
                if !matches!(packet, Packet::V3_1_1Pubrec(_)) =>
            {
                self.write(&packet.to_continuous_buffer()).await
            }
            Event::NotifyError(error) => {
                let details = format!("the client broke the MQTT 3.1.1 protocol: {error:?}");
                let why = Why::new(
                    Stage::Connect,
                    "mqtt.protocol",
                    "use a client that speaks MQTT as the standard has it",
                );
                let record =
                    Record::failure("Disconnect", "CLIENT_ERROR", details).why(why.of(&self.leaf));
                let (id, client) = (self.leaf.id().as_str(), self.client_id.as_deref());
                self.broker
                    .logs
                    .write(record.of(self.address, Some(id), client));
                Err(End::ClientError)
            }
            Event::RequestClose => Err(End::ClientError),
            _ => Ok(()),
        }
    }

    async fn perform(&mut self, acts: Vec<Act>) -> Result<(), End> {
        for act in acts {
            match act {
                Act::Claim { client_id, silence } => self.claim(client_id, silence),
                Act::Send(packet) => self.send(packet).await?,
                Act::Deliver(message) => self.send_message(message).await?,
                Act::Publish(message) => self.publish(&message),
                Act::Subscriptions(all) => {
                    let id = self.client_id.as_deref().unwrap_or_default();
                    self.broker.subscriptions(id, self.number, all);
                }
                Act::Log(record) => self.broker.logs.write(*record),
                Act::Close(end) => return Err(end),
            }
        }
        Ok(())
    }

    /// To the topic's service, or to everyone who has subscribed.
    fn publish(&self, message: &Message) {
        if !self.broker.is_served(&message.topic) {
            return self.broker.publish(message);
        }
        self.broker.ask(service::Request {
            topic: Arc::clone(&message.topic),
            payload: Arc::clone(&message.payload),
            client_id: self.client_id.clone().unwrap_or_default(),
            certificate: self.leaf.clone(),
            source: self.address,
        });
    }

    fn claim(&mut self, client_id: String, silence: Duration) {
        let (owned, taken) = oneshot::channel();
        self.silence = silence;
        self.taken = Some(taken);
        self.client_id = Some(client_id.clone());
        self.broker.claim(Claim {
            client_id,
            number: self.number,
            inbox: self.inbox.0.clone(),
            owned,
        });
    }

    async fn send_message(&mut self, message: Message) -> Result<(), End> {
        let builder = v3_1_1::Publish::builder()
            .topic_name(&*message.topic)
            .map(|builder| builder.qos(message.qos).payload(message.payload.to_vec()));
        let Ok(mut builder) = builder else {
            return Ok(());
        };
        if message.qos != Qos::AtMostOnce {
            let Ok(id) = self.codec.acquire_packet_id() else {
                return Ok(());
            };
            builder = builder.packet_id(id);
        }
        match builder.build() {
            Ok(publish) => self.send(publish.into()).await,
            Err(_) => Ok(()),
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<(), End> {
        for event in self.codec.send(packet) {
            if let Event::RequestSendPacket { packet, .. } = event {
                self.write(&packet.to_continuous_buffer()).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::ConnectionLost),
        }
    }
}

/// How often a silent connection asks whether its rights have changed.
const REFRESH: Duration = Duration::from_secs(1);

/// Until the sandbox is told to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}

/// Until another connection takes the client id; never, before there is one.
async fn taken(signal: &mut Option<oneshot::Receiver<()>>) {
    match signal {
        Some(signal) => {
            let _ = signal.await;
        }
        None => std::future::pending().await,
    }
}
