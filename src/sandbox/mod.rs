//! The local stand-in for AWS IoT Core: a registry that decides, and servers that act.

use std::sync::{Arc, Mutex};

use crate::ports::Clock;

/// Certificates, things, policies and templates of one account and Region.
pub mod registry;
/// The control plane's REST interface.
pub mod rest;
/// Where the registry keeps its entities.
pub mod store;

/// What every server of one sandbox shares.
#[derive(Clone)]
pub struct Shared {
    /// The registry; hold the lock for one operation only.
    pub registry: Arc<Mutex<registry::Registry>>,
    /// The clock by which certificates are judged.
    pub clock: Arc<dyn Clock + Send + Sync>,
    /// The host name that `DescribeEndpoint` answers.
    pub endpoint: Arc<str>,
}
