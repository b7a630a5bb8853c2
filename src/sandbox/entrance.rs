//! Where devices come in: the listeners of the device endpoint, and what they share.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::broker::{Broker, Rules};
use super::connection::Door;
use super::exchange::Exchange;
use super::tls::{Endpoint, ServerCa, TlsError, https_config, server_config};
use super::{Shared, connection, unstable};

/// How long a persistent session outlives its connection, in seconds: one hour (service quota
/// "Persistent session expiry period").
pub const SESSION_EXPIRY: u32 = 3600;
/// How long a failed accept waits (such as when no more files can be opened).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the MQTT endpoint is to be.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    /// Where it listens; port 0 takes any free one.
    pub address: SocketAddr,
    /// Where it listens as AWS IoT does on 443 and 8443: HTTPS publishes, and MQTT for clients that
    /// ask for it by ALPN.
    pub https: Option<SocketAddr>,
    /// How long a persistent session outlives its connection at most, in seconds.
    pub session_expiry: u32,
    /// Its name: what clients must send as TLS server name.
    pub name: String,
    /// Takes clients that send no server name.
    pub legacy_sni: bool,
    /// Takes certificates outside their dates.
    pub allow_expired: bool,
}

impl MqttConfig {
    /// At this address, called `localhost`, strict.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            https: None,
            session_expiry: SESSION_EXPIRY,
            name: "localhost".into(),
            legacy_sni: false,
            allow_expired: false,
        }
    }
}

/// The device endpoint, ready to serve.
pub(super) struct Entrance {
    pub(super) listener: TcpListener,
    pub(super) https: Option<TcpListener>,
    config: Arc<rustls::ServerConfig>,
    broker: Arc<Broker>,
}

impl Entrance {
    /// # Errors
    /// `sandbox.tls`.
    pub(super) fn new(
        mqtt: &MqttConfig,
        parts: (ServerCa, Exchange, Rules),
        shared: &Shared,
        listeners: (TcpListener, Option<TcpListener>),
    ) -> Result<Self, TlsError> {
        let (ca, exchange, rules) = parts;
        let endpoint = Arc::new(Endpoint {
            name: mqtt.name.clone(),
            legacy_sni: mqtt.legacy_sni,
            clock: Arc::clone(&shared.clock),
            entropy: shared.logs.entropy(),
            faults: Arc::clone(&shared.faults),
        });
        let config = server_config(ca, Arc::clone(&endpoint))?;
        let broker = Arc::new(Broker::new(shared.clone(), endpoint, rules, exchange));
        let _ = shared.broker.set(Arc::downgrade(&broker));
        let (listener, https) = listeners;
        Ok(Self {
            listener,
            https,
            config,
            broker,
        })
    }

    /// Accepts connections in the background, until told to stop.
    pub(super) fn serve(self, stop: &watch::Receiver<bool>) -> io::Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        let mut doors = vec![(self.listener, Door::Mqtt, Arc::clone(&self.config))];
        if let Some(listener) = self.https {
            doors.push((listener, Door::Https, https_config(&self.config)));
        }
        for (listener, door, config) in doors {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let broker = Arc::clone(&self.broker);
            tasks.spawn(accept(listener, (door, config), broker, stop.clone()));
        }
        let (broker, mut stop) = (self.broker, stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = broker.keep_time() => {}
                () = broker.watch_changes() => {}
                () = connection::stopped(&mut stop) => {}
            }
        });
        Ok(tasks)
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    entrance: (Door, Arc<rustls::ServerConfig>),
    broker: Arc<Broker>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stopping = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = connection::stopped(&mut stop) => break,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (broker, stopping) = (Arc::clone(&broker), stopping.clone());
        let (door, config) = &entrance;
        let entrance = (*door, unstable::fragmented(config, &broker.shared.faults));
        connections.spawn(async move {
            let shared = broker.shared.clone();
            let stop = stopping.clone();
            let serve = |tcp| Box::pin(connection::serve(broker, entrance, tcp, stop));
            unstable::meet((&shared.faults, &shared.logs), tcp, stopping, serve).await;
        });
    }
    while connections.join_next().await.is_some() {}
}
