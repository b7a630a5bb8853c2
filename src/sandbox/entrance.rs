//! Where devices come in: the listeners of the device endpoint, and what they share.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::broker::{Broker, Rules};
use super::connection::Door;
use super::exchange::Exchange;
use super::failure::ServerError;
use super::mqtt::hub::HubRules;
use super::tls::{Endpoint, ServerCa, https_config, server_config};
use super::worlds::{Brokers, Worlds};
use super::{connection, unstable};
use crate::core::ids::Place;

/// How long a persistent session outlives its connection, in seconds: one hour (service quota
/// "Persistent session expiry period").
pub const SESSION_EXPIRY: u32 = 3600;
/// How often time passes for sessions.
const TICK: Duration = Duration::from_secs(1);
/// How often changes are looked for while they take time to be known.
const WATCH: Duration = Duration::from_millis(50);
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
    /// Other accounts and Regions with a port of their own for MQTT.
    pub places: Vec<(Place, SocketAddr)>,
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
            places: Vec::new(),
            session_expiry: SESSION_EXPIRY,
            name: "localhost".into(),
            legacy_sni: false,
            allow_expired: false,
        }
    }
}

/// The listeners of the device endpoint.
pub(super) struct Listeners {
    /// MQTT of the place that the sandbox was started as.
    pub(super) mqtt: TcpListener,
    /// HTTPS, and MQTT by ALPN.
    pub(super) https: Option<TcpListener>,
    /// MQTT of other places.
    pub(super) places: Vec<(Place, TcpListener)>,
}

/// The device endpoint, ready to serve.
pub(super) struct Entrance {
    pub(super) listeners: Listeners,
    config: Arc<rustls::ServerConfig>,
    worlds: Arc<Worlds>,
}

/// One listener's way in.
#[derive(Clone)]
pub(super) struct Doorway {
    /// What is spoken.
    pub(super) door: Door,
    /// Its TLS.
    pub(super) config: Arc<rustls::ServerConfig>,
    /// Whom the endpoint's plain name leads to.
    pub(super) broker: Arc<Broker>,
    /// Whom other names lead to.
    pub(super) worlds: Arc<Worlds>,
}

impl Doorway {
    /// Whom a client means by this server name; `None` when there is no such endpoint here.
    pub(super) fn to(&self, server_name: Option<&str>) -> Option<Arc<Broker>> {
        let endpoint = &self.broker.endpoint;
        let name = endpoint.meant(server_name)?;
        if name == endpoint.name {
            return Some(Arc::clone(&self.broker));
        }
        self.worlds.broker_of(&name)
    }
}

impl Entrance {
    /// # Errors
    /// `sandbox.tls`; what the state of another place says.
    pub(super) fn new(
        mqtt: &MqttConfig,
        parts: (ServerCa, Exchange, Rules, HubRules),
        worlds: &Arc<Worlds>,
        listeners: Listeners,
    ) -> Result<Self, ServerError> {
        let (ca, exchange, rules, hub) = parts;
        let shared = worlds.home();
        let endpoint = Arc::new(Endpoint {
            name: mqtt.name.clone(),
            others: RwLock::new(HashSet::new()),
            legacy_sni: mqtt.legacy_sni,
            clock: Arc::clone(&shared.clock),
            entropy: shared.logs.entropy(),
            faults: Arc::clone(&shared.faults),
        });
        let config = server_config(ca, Arc::clone(&endpoint))?;
        let home = Arc::new(Broker::new(
            shared.clone(),
            Arc::clone(&endpoint),
            rules,
            exchange,
        ));
        let _ = shared.broker.set(Arc::downgrade(&home));
        worlds.open(Brokers {
            endpoint,
            rules,
            hub,
            home,
            with_port: mqtt.places.iter().map(|(place, _)| place.clone()).collect(),
        })?;
        Ok(Self {
            listeners,
            config,
            worlds: Arc::clone(worlds),
        })
    }

    /// Accepts connections in the background, until told to stop.
    pub(super) fn serve(self, stop: &watch::Receiver<bool>) -> io::Result<JoinSet<()>> {
        let Self {
            listeners,
            config,
            worlds,
        } = self;
        let home = worlds.home().logs.place().clone();
        let mut doors = vec![(listeners.mqtt, Door::Mqtt, home.clone())];
        let https = listeners.https.into_iter();
        doors.extend(https.map(|listener| (listener, Door::Https, home.clone())));
        let places = listeners.places.into_iter();
        doors.extend(places.map(|(place, listener)| (listener, Door::Mqtt, place)));
        let mut tasks = JoinSet::new();
        for (listener, door, place) in doors {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let Some(broker) = worlds.broker_at(&place) else {
                continue;
            };
            let doorway = Doorway {
                door,
                config: match door {
                    Door::Mqtt => Arc::clone(&config),
                    Door::Https => https_config(&config),
                },
                broker,
                worlds: Arc::clone(&worlds),
            };
            tasks.spawn(accept(listener, doorway, stop.clone()));
        }
        let mut stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = keep_time(&worlds) => {}
                () = watch_changes(&worlds) => {}
                () = connection::stopped(&mut stop) => {}
            }
        });
        Ok(tasks)
    }
}

/// Lets time pass for every session, for ever.
async fn keep_time(worlds: &Worlds) {
    loop {
        tokio::time::sleep(TICK).await;
        for broker in worlds.brokers() {
            broker.pass_time();
        }
    }
}

/// Sees changes of the registries when they happen, while they take time to be known.
async fn watch_changes(worlds: &Worlds) {
    loop {
        tokio::time::sleep(WATCH).await;
        for broker in worlds.brokers() {
            broker.notice_changes();
        }
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    doorway: Doorway,
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
        let (mut doorway, stopping) = (doorway.clone(), stopping.clone());
        let broker = Arc::clone(&doorway.broker);
        doorway.config = unstable::fragmented(&doorway.config, &broker.shared.faults);
        connections.spawn(async move {
            let stop = stopping.clone();
            let shared = &broker.shared;
            let serve = |tcp| Box::pin(connection::serve(doorway, tcp, stop));
            unstable::meet((&shared.faults, &shared.logs), tcp, stopping, serve).await;
        });
    }
    while connections.join_next().await.is_some() {}
}
