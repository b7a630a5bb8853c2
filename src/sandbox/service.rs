//! Services behind reserved topics: a publish to one of them goes to its service and to nobody
//! else, and the answers go to the client that asked, if it has subscribed and may receive them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Shared;
use super::fleet::Fleet;
use crate::core::cert::Certificate;

/// A publish that a service is to answer. The client may publish to the topic.
#[derive(Debug)]
pub(super) struct Request {
    /// The topic.
    pub(super) topic: Arc<str>,
    /// The payload.
    pub(super) payload: Arc<[u8]>,
    /// Who asks.
    pub(super) client_id: String,
    /// The certificate it has presented; registered and `ACTIVE`.
    pub(super) certificate: Certificate,
    /// Where it connects from.
    pub(super) source: SocketAddr,
}

/// A message back to the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    /// Its topic.
    pub(super) topic: String,
    /// Its payload.
    pub(super) payload: Vec<u8>,
}

/// One service. It is called on a thread that may block.
pub(super) trait Service: Send + Sync {
    /// Whether publishes to this topic are this service's.
    fn serves(&self, topic: &str) -> bool;
    /// Does what is asked, and answers.
    fn answer(&self, request: &Request) -> Vec<Answer>;
}

/// Every service of a sandbox.
pub(super) fn all(shared: &Shared) -> Vec<Arc<dyn Service>> {
    vec![Arc::new(Fleet::new(shared.clone()))]
}
