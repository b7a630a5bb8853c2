//! The local stand-in for AWS IoT Core: a registry that decides, and servers that act.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::ports::{Clock, Entropy};

/// Its own interface and page.
pub mod admin;
/// Who calls the control plane.
pub mod auth;
mod broker;
/// Thing registration tasks.
pub mod bulk;
/// Its clock.
pub mod clock;
mod connection;
/// Where devices come in.
pub mod entrance;
mod exchange;
mod failure;
/// Faults made on purpose.
pub mod faults;
/// Fleet provisioning over MQTT.
pub mod fleet;
/// The state folder, and how a running sandbox is found.
pub mod folder;
mod handshake;
mod http;
mod keypair;
/// What happened, shaped as in CloudWatch Logs.
pub mod logs;
mod mqtt;
mod pace;
mod propagation;
mod provisioning;
/// Calls per second.
pub mod quota;
/// Certificates, things, policies and templates of one account and Region.
pub mod registry;
/// The control plane's REST interface.
pub mod rest;
/// Starts and stops a sandbox.
pub mod server;
mod service;
/// Its whole state as one file.
pub mod snapshot;
/// Where the registry keeps its entities.
pub mod store;
/// The MQTT endpoint's TLS.
pub mod tls;
mod unstable;
/// Several accounts and Regions.
pub mod worlds;

pub use mqtt::replay::replay as replay_mqtt;

/// What every server of one sandbox shares.
#[derive(Clone)]
pub struct Shared {
    /// The registry; hold the lock for one operation only.
    pub registry: Arc<Mutex<registry::Registry>>,
    /// The clock by which certificates are judged.
    pub clock: Arc<dyn Clock + Send + Sync>,
    /// The host name that `DescribeEndpoint` answers.
    pub endpoint: Arc<str>,
    /// What happened.
    pub logs: logs::Logs,
    /// What is to go wrong.
    pub faults: Arc<faults::Faults>,
    /// Where pre-provisioning hooks run.
    pub hooks: Arc<fleet::Hooks>,
    /// Where the inputs of registration tasks are.
    pub buckets: Arc<bulk::Buckets>,
    /// The broker, while one runs.
    broker: Arc<OnceLock<Weak<broker::Broker>>>,
}

impl Shared {
    /// The broker, if this sandbox has one. It is asked without holding the registry's lock.
    fn broker(&self) -> Option<Arc<broker::Broker>> {
        self.broker.get()?.upgrade()
    }

    /// Of a registry alone: no endpoint, no hooks, no buckets, records in memory.
    pub fn alone(
        registry: registry::Registry,
        clock: Arc<dyn Clock + Send + Sync>,
        entropy: Arc<dyn Entropy + Send + Sync>,
    ) -> Self {
        let place = registry.place().clone();
        Self {
            registry: Arc::new(Mutex::new(registry)),
            endpoint: Arc::from("localhost"),
            logs: logs::Logs::new(place, Arc::clone(&clock), entropy, None),
            clock,
            hooks: Arc::default(),
            buckets: Arc::default(),
            faults: Arc::default(),
            broker: Arc::default(),
        }
    }
}
