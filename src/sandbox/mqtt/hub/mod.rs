//! The broker's decisions: who is connected, who has subscribed to what, what is kept for whom.
//!
//! A [`Turn`] takes one step: a client's packets, a lost connection, the passing of time. It
//! changes the [`Hub`] and returns [`Effects`]: what to write to the store first, then what to send,
//! close and log.

mod connect;
mod end;
mod events;
mod keep;
mod publish;
mod rates;
mod route;
mod session;
mod subscribe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, Rights};
use super::packet::{Incoming, Message, Outgoing, Version, code};
use super::trie::Trie;
use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::sandbox::logs::{Denial, Metric, Record, Stage, Why};
use crate::sandbox::service;
use crate::sandbox::store::Write;

pub(crate) use connect::Arrival;
pub(crate) use publish::{MAX_PAYLOAD, Publication};
use rates::Rates;
pub(crate) use session::{Connectivity, Retained};
use session::{Presence, Session};

/// The log's word for a policy's no.
pub(crate) const AUTHORIZATION: &str = "AUTHORIZATION_FAILURE";
/// The log's word for a client that breaks a rule.
pub(crate) const CLIENT_ERROR: &str = "CLIENT_ERROR";

/// Why a connection ends, spelled as lifecycle events do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    ApiInitiated,
    AuthError,
    ClientError,
    ClientInitiated,
    ConnectionLost,
    DuplicateClientId,
    KeepAliveTimeout,
    ServerError,
    ServerInitiated,
}

impl End {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ApiInitiated => "API_INITIATED_DISCONNECT",
            Self::AuthError => "AUTH_ERROR",
            Self::ClientError => "CLIENT_ERROR",
            Self::ClientInitiated => "CLIENT_INITIATED_DISCONNECT",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::DuplicateClientId => "DUPLICATE_CLIENTID",
            Self::KeepAliveTimeout => "MQTT_KEEP_ALIVE_TIMEOUT",
            Self::ServerError => "SERVER_ERROR",
            Self::ServerInitiated => "SERVER_INITIATED_DISCONNECT",
        }
    }

    /// The code of the DISCONNECT that tells a client of MQTT 5.
    fn code(self) -> Option<u8> {
        match self {
            Self::ApiInitiated => Some(code::ADMINISTRATIVE),
            Self::AuthError => Some(code::NOT_AUTHORIZED),
            Self::ClientError => Some(code::PROTOCOL),
            Self::ClientInitiated | Self::ConnectionLost => None,
            Self::DuplicateClientId => Some(code::TAKEN_OVER),
            Self::KeepAliveTimeout => Some(code::KEEP_ALIVE),
            Self::ServerError => Some(code::UNSPECIFIED),
            Self::ServerInitiated => Some(code::SHUTTING_DOWN),
        }
    }
}

/// What the hub asks of the rest of the sandbox.
pub(crate) trait World: Rights {
    /// A registered certificate.
    fn certificate(&self, id: &CertificateId) -> Option<Certificate>;
    /// Whether a service answers publishes to the topic.
    fn serves(&self, topic: &str) -> bool;
    /// Time that only runs forward, by which rates are measured.
    fn monotonic(&self) -> Duration;
}

/// How a hub treats its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HubRules {
    /// The longest a session outlives its connection, in seconds.
    pub(crate) session_expiry: u32,
    /// AWS IoT's rates are enforced.
    pub(crate) rates: bool,
}

/// What the broker is to do, in this order.
#[derive(Debug)]
pub(crate) enum Act {
    /// Send a packet on a connection.
    Send { link: u64, packet: Outgoing },
    /// Close a connection, once all is sent.
    Close { link: u64 },
    /// Write a record.
    Log(Box<Record>),
    /// Count what no record is written of.
    Count(Metric),
    /// Have a service answer.
    Serve(Box<service::Request>),
}

/// What comes of a turn.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// To be made durable before anything is sent.
    pub(crate) writes: Vec<Write>,
    pub(crate) acts: Vec<Act>,
}

/// Everything the broker knows.
#[derive(Debug)]
pub(crate) struct Hub {
    /// The longest a session outlives its connection, in seconds.
    session_expiry: u32,
    place: Arc<crate::core::ids::Place>,
    sessions: HashMap<u64, Session>,
    /// Sessions by client id.
    ids: HashMap<Arc<str>, u64>,
    /// Sessions by connection.
    links: HashMap<u64, u64>,
    trie: Trie,
    retained: HashMap<Arc<str>, Retained>,
    presence: HashMap<Arc<str>, Presence>,
    next_session: u64,
    next_queued: u64,
    /// Where they are enforced.
    rates: Option<Rates>,
}

impl Hub {
    /// An empty one, of this account and Region.
    pub(crate) fn new(place: Arc<crate::core::ids::Place>, rules: HubRules) -> Self {
        Self {
            session_expiry: rules.session_expiry,
            rates: rules.rates.then(Rates::default),
            place,
            sessions: HashMap::new(),
            ids: HashMap::new(),
            links: HashMap::new(),
            trie: Trie::default(),
            retained: HashMap::new(),
            presence: HashMap::new(),
            next_session: 1,
            next_queued: 1,
        }
    }

    /// Begins a step; `now` is in milliseconds since 1970.
    pub(crate) fn turn<'a>(&'a mut self, world: &'a dyn World, now: i64) -> Turn<'a> {
        Turn {
            hub: self,
            world,
            now,
            effects: Effects::default(),
        }
    }

    /// Says of a record which connection it is about, if there is one.
    pub(crate) fn describe(&self, link: Option<u64>, record: Record) -> Record {
        match link.and_then(|link| self.session_of(link)) {
            Some(session) => session.describe(record),
            None => record,
        }
    }

    /// Whether nobody is connected, and no session kept.
    pub(crate) fn is_idle(&self) -> bool {
        let none = self.sessions.is_empty() && self.ids.is_empty() && self.links.is_empty();
        none && self.trie.is_empty()
    }

    fn session_of(&self, link: u64) -> Option<&Session> {
        self.sessions.get(self.links.get(&link)?)
    }

    fn session_of_mut(&mut self, link: u64) -> Option<&mut Session> {
        self.sessions.get_mut(self.links.get(&link)?)
    }
}

/// One step.
pub(crate) struct Turn<'a> {
    hub: &'a mut Hub,
    world: &'a dyn World,
    now: i64,
    effects: Effects,
}

impl Turn<'_> {
    /// Ends the step.
    pub(crate) fn finish(self) -> Effects {
        self.effects
    }

    /// Packets from a connected client, in one go. A client that sends more QoS 1 messages at once
    /// than it may have unanswered breaks its Receive Maximum.
    pub(crate) fn packets(&mut self, link: u64, packets: Vec<Incoming>) {
        if !self.still_active(link) {
            return;
        }
        let mut unanswered = 0;
        for packet in packets {
            let Some(session) = self.hub.session_of(link) else {
                return;
            };
            if matches!(&packet, Incoming::Publish(publish) if publish.qos == 1) {
                unanswered += 1;
            }
            let v5 = session.version() == Some(Version::V5);
            if v5 && unanswered > super::encode::RECEIVE_MAXIMUM {
                let details = "more than 100 QoS 1 messages without waiting for a PUBACK";
                self.wrong(
                    link,
                    "Publish-In",
                    code::RECEIVE_MAXIMUM,
                    details.to_owned(),
                );
                return;
            }
            self.packet(link, packet);
        }
    }

    fn packet(&mut self, link: u64, packet: Incoming) {
        match packet {
            Incoming::Publish(publish) => self.publish(link, *publish),
            Incoming::Puback(id) => self.acknowledged(link, id),
            Incoming::Subscribe(subscribe) => self.subscribe(link, subscribe),
            Incoming::Unsubscribe { id, filters } => self.unsubscribe(link, id, &filters),
            Incoming::Pingreq => {
                self.effects.acts.push(Act::Count(Metric::PingSuccess));
                self.send(link, Outgoing::Pingresp);
            }
            Incoming::Disconnect { code, expiry } => self.goodbye(link, code, expiry),
            Incoming::Auth => {
                let details = "AWS IoT has no enhanced authentication (AUTH)";
                self.wrong(link, "Disconnect", code::PROTOCOL, details.to_owned());
            }
            Incoming::Connect(_) => {
                let details = "a second CONNECT";
                self.wrong(link, "Disconnect", code::PROTOCOL, details.to_owned());
            }
            Incoming::Unexpected(name) => {
                let details = format!("AWS IoT does not take {name} from a client");
                self.wrong(link, "Disconnect", code::PROTOCOL, details);
            }
        }
    }

    /// Learns a connection's rights anew; ends it when its certificate is not active any more.
    fn still_active(&mut self, link: u64) -> bool {
        let world = self.world;
        let Some(session) = self.hub.session_of_mut(link) else {
            return false;
        };
        let active = session
            .link
            .as_mut()
            .is_some_and(|link| link.access.refresh(world));
        if !active {
            let reason = "the certificate is not ACTIVE any more";
            let why = Why::new(
                Stage::Certificate,
                "connect.status",
                "make the certificate ACTIVE again, unless it was revoked",
            );
            let why = self.who(link, why);
            let record = Record::failure("Disconnect", AUTHORIZATION, reason).why(why);
            self.log(link, record);
            self.end(link, End::AuthError, End::AuthError.code(), Some(reason));
        }
        active
    }

    fn access(&self, link: u64) -> Option<&Access> {
        let session = self.hub.session_of(link)?;
        Some(&session.link.as_ref()?.access)
    }

    fn is_v5(&self, link: u64) -> bool {
        let session = self.hub.session_of(link);
        session.and_then(Session::version) == Some(Version::V5)
    }

    /// A reason in words, for a client of MQTT 5 that wants to know.
    fn told(&self, link: u64, why: &str) -> Option<String> {
        let session = self.hub.session_of(link)?;
        let wants = session.link.as_ref()?.problem_information;
        wants.then(|| why.chars().take(500).collect())
    }

    fn send(&mut self, link: u64, packet: Outgoing) {
        self.effects.acts.push(Act::Send { link, packet });
    }

    /// The client broke a rule of the protocol or of AWS IoT: it is told and put out.
    fn wrong(&mut self, link: u64, event: &str, code: u8, details: String) {
        self.log_wrong(link, event, details.clone(), None);
        self.end(link, End::ClientError, Some(code), Some(&details));
    }

    /// Writes a record of a rule that the client broke.
    fn log_wrong(&mut self, link: u64, event: &str, details: String, topic: Option<&str>) {
        let why = match event {
            "Publish-In" => why_limit(Stage::Publish),
            "Subscribe" => why_limit(Stage::Subscribe),
            _ => why_protocol(),
        };
        let why = self.who(link, why);
        let mut record = Record::failure(event, CLIENT_ERROR, details).why(why);
        record.topic_name = topic.map(str::to_owned);
        self.log(link, record);
    }

    /// Says whose certificate it was.
    fn who(&self, link: u64, why: Why) -> Why {
        match self.access(link) {
            Some(access) => why.of(&access.peer.certificate),
            None => why,
        }
    }

    /// Writes a record about a connection.
    fn log(&mut self, link: u64, record: Record) {
        let record = match self.hub.session_of(link) {
            Some(session) => session.describe(record),
            None => record,
        };
        self.effects.acts.push(Act::Log(Box::new(record)));
    }

    /// Writes a record of what a policy forbids.
    fn log_denied(&mut self, link: u64, event: &str, denial: Denial, topic: Option<&str>) {
        let record = denied_record(event, denial);
        let record = match topic {
            Some(topic) => record.topic(topic),
            None => record,
        };
        self.log(link, record);
    }

    /// A message from AWS IoT itself.
    pub(crate) fn announce(&mut self, topic: &str, payload: Vec<u8>) {
        self.route(Arc::new(Message {
            topic: topic.into(),
            payload: payload.into(),
            qos: 1,
            ..Message::default()
        }));
    }
}

/// The record of a policy's no.
pub(crate) fn denied_record(event: &str, denial: Denial) -> Record {
    Record::failure(event, AUTHORIZATION, denial.details).why(denial.why)
}

/// Why a client that goes over a limit is refused.
pub(crate) fn why_limit(stage: Stage) -> Why {
    let remedy = "mend what the client sends, as the details say";
    Why::new(stage, "mqtt.limit", remedy)
}

/// Why a client that does not speak MQTT is refused.
pub(crate) fn why_protocol() -> Why {
    let remedy = "use a client that speaks MQTT as the standard has it";
    Why::new(Stage::Connect, "mqtt.protocol", remedy)
}

#[cfg(test)]
mod tests;
