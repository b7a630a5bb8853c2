//! One client id's state, with a connection or without.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::access::Access;
use super::super::packet::{Message, Version, Will};
use super::super::trie::Options;
use super::rates::LinkRates;
use crate::core::ids::CertificateId;
use crate::sandbox::logs::Record;

/// How many messages wait for one session at most. AWS IoT states no number; this one bounds memory.
pub(super) const MAX_QUEUED: usize = 10_000;

/// One client id's state.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: u64,
    pub(super) client_id: Arc<str>,
    /// As lifecycle events tell it: 32 hexadecimal digits.
    pub(super) identifier: Box<str>,
    /// The certificate of its last connection.
    pub(super) principal: CertificateId,
    /// Where its last connection came from.
    pub(super) address: SocketAddr,
    /// How long it outlives its connection, in seconds; with 0 it ends with it.
    pub(super) expiry: u32,
    /// When it is over, in milliseconds since 1970; `None` while it is connected.
    pub(super) ends: Option<i64>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) outbox: Outbox,
    pub(super) will: Option<Box<Will>>,
    /// When the will is sent; `None` while it is connected.
    pub(super) will_due: Option<i64>,
    /// The store has it.
    pub(super) stored: bool,
    pub(super) link: Option<Box<Link>>,
}

/// A session's connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) version: Version,
    pub(super) access: Access,
    /// How many QoS 1 messages may be on their way to the client.
    pub(super) window: usize,
    /// The largest packet the client takes, in bytes.
    pub(super) packet_maximum: usize,
    pub(super) problem_information: bool,
    /// The client asked for a session that ends with the connection.
    pub(super) zero_expiry: bool,
    /// Topic aliases of the client's; the first is 1.
    pub(super) aliases: Vec<Option<Arc<str>>>,
    /// What it may do in a second, where that is enforced.
    pub(super) rates: Option<LinkRates>,
}

/// One subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subscription {
    pub(super) filter: Arc<str>,
    pub(super) options: Options,
}

/// Messages of QoS 1 on their way to a client.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Sent, without their PUBACK yet.
    pub(super) sent: VecDeque<(u16, Queued)>,
    pub(super) waiting: VecDeque<Queued>,
    last_id: u16,
}

/// One message for one session.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    /// Its place in the order of all that was ever queued.
    pub(super) number: u64,
    pub(super) message: Arc<Message>,
    pub(super) retain: bool,
    /// The shared subscription it came by.
    pub(super) group: Option<Arc<str>>,
    /// When it was queued, in milliseconds since 1970.
    pub(super) since: i64,
}

impl Outbox {
    /// A packet identifier that is not in use.
    pub(super) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let used = self.sent.iter().any(|(id, _)| *id == self.last_id);
            if !used {
                return self.last_id;
            }
        }
    }

    /// Takes the message with this packet identifier out.
    pub(super) fn acknowledge(&mut self, id: u16) -> Option<Queued> {
        let at = self.sent.iter().position(|(sent, _)| *sent == id)?;
        Some(self.sent.remove(at)?.1)
    }

    /// Takes out the message of this number.
    pub(super) fn remove(&mut self, number: u64) {
        self.sent.retain(|(_, queued)| queued.number != number);
        self.waiting.retain(|queued| queued.number != number);
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }
}

impl Session {
    /// Whether it outlives its connection.
    pub(super) fn is_persistent(&self) -> bool {
        self.expiry > 0
    }

    pub(super) fn version(&self) -> Option<Version> {
        Some(self.link.as_ref()?.version)
    }

    /// Says whom a record is about.
    pub(super) fn describe(&self, record: Record) -> Record {
        let principal = Some(self.principal.as_str());
        record.of(self.address, principal, Some(&self.client_id))
    }
}

/// A retained message.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    pub(crate) message: Arc<Message>,
    /// When it was published, in milliseconds since 1970.
    pub(crate) modified: i64,
}

/// Connections of one client id, counted for lifecycle events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    pub(super) version: u64,
    /// Since when it is not connected, in milliseconds since 1970; `None` while it is.
    pub(super) offline: Option<i64>,
    /// Why it is not.
    pub(super) why: Option<super::End>,
    pub(super) since: i64,
}

/// Whether a client is connected (`GetThingConnectivityData`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Connectivity {
    pub(crate) connected: bool,
    /// Since when, in milliseconds since 1970.
    pub(crate) since: i64,
    /// Why the last connection ended.
    pub(crate) reason: Option<&'static str>,
}
