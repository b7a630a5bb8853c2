//! CONNECT: who gets in, and what becomes of the session and the connection before.

use std::sync::Arc;
use std::time::Duration;

use super::super::access::{Access, Peer};
use super::super::encode::RECEIVE_MAXIMUM;
use super::super::packet::{Connack, Connect, Granted, Outgoing, Version, code};
use super::super::topics;
use super::publish::MAX_PAYLOAD;
use super::session::{Link, Outbox, Session};
use super::{Act, CLIENT_ERROR, End, Turn, denied_record, why_limit};
use crate::core::policy;
use crate::sandbox::logs::{Record, Stage};

/// The longest client id, in bytes.
const MAX_CLIENT_ID: usize = 128;
/// What AWS IoT makes of the keep alive a client asks for, in seconds.
const KEEP_ALIVE: (u16, u16) = (30, 1200);
/// MQTT 3.1.1's return code for a client id that is not taken.
const IDENTIFIER_REJECTED: u8 = 2;

/// A CONNECT with what the hub cannot know of itself.
pub(crate) struct Arrival {
    /// The connection's number.
    pub(crate) link: u64,
    pub(crate) peer: Peer,
    /// 32 random hexadecimal digits, for a new session.
    pub(crate) identifier: String,
    /// A client id, for a client without one.
    pub(crate) generated_id: String,
}

/// A CONNECT that is not taken.
pub(super) struct Refusal {
    /// For MQTT 5.
    pub(super) code: u8,
    /// For MQTT 3.1.1; without one the connection is closed in silence.
    pub(super) v3_code: Option<u8>,
    pub(super) record: Box<Record>,
}

impl Turn<'_> {
    /// Lets a client in, or says why not and closes the connection. Returns how long it may be
    /// silent.
    pub(crate) fn connect(&mut self, arrival: Arrival, connect: Connect) -> Option<Duration> {
        let id = id_of(&connect, &arrival);
        let access = Access::new(arrival.peer.clone(), Arc::clone(&id), self.world);
        let allowed = valid(&connect)
            .and_then(|()| authorised(&access, &id, &connect))
            .and_then(|()| self.throttle_connect(&id));
        if let Err(refusal) = allowed {
            self.refuse(&arrival, &connect, &id, refusal);
            return None;
        }
        if let Some(key) = self.hub.ids.get(&id).copied() {
            self.meet_old_session(key, connect.clean);
        }
        let keep_alive = keep_alive(connect.keep_alive);
        let present = self.hub.ids.contains_key(&id);
        let expiry = self.session_expiry(&connect);
        let granted = Granted {
            expiry,
            keep_alive,
            assigned_id: connect.client_id.is_empty().then(|| id.to_string()),
        };
        let connack = Connack {
            code: code::SUCCESS,
            session_present: present,
            granted: (connect.version == Version::V5).then_some(granted),
            why: None,
        };
        let link = arrival.link;
        self.settle(arrival, connect, access, expiry);
        self.send(link, Outgoing::Connack(Box::new(connack)));
        self.log(link, Record::success("Connect"));
        self.connected_event(link);
        self.resume(link);
        Some(Duration::from_millis(u64::from(keep_alive) * 1500))
    }

    /// How long the session outlives the connection, in seconds.
    fn session_expiry(&self, connect: &Connect) -> u32 {
        match (connect.expiry, connect.clean) {
            (Some(asked), _) => asked.min(self.hub.session_expiry),
            (None, true) => 0,
            (None, false) => self.hub.session_expiry,
        }
    }

    /// Another connection with the client id is put out; a session that is not wanted ends.
    fn meet_old_session(&mut self, key: u64, clean: bool) {
        let old = self.hub.sessions.get(&key);
        if let Some(number) = old.and_then(|old| Some(old.link.as_ref()?.number)) {
            let end = End::DuplicateClientId;
            self.end(number, end, end.code(), None);
        }
        if clean && self.hub.sessions.contains_key(&key) {
            self.discard(key);
        }
    }

    /// Gives the connection its session: the one there is, or a new one.
    fn settle(&mut self, arrival: Arrival, connect: Connect, access: Access, expiry: u32) {
        let id = id_of(&connect, &arrival);
        let key = self.hub.ids.get(&id).copied().unwrap_or_else(|| {
            let key = self.hub.next_session;
            self.hub.next_session += 1;
            self.hub.ids.insert(Arc::clone(&id), key);
            let session = Session {
                key,
                client_id: Arc::clone(&id),
                identifier: arrival.identifier.into(),
                principal: arrival.peer.certificate.id().clone(),
                address: arrival.peer.address,
                expiry,
                ends: None,
                subscriptions: Vec::new(),
                outbox: Outbox::default(),
                will: None,
                will_due: None,
                stored: false,
                link: None,
            };
            self.hub.sessions.insert(key, session);
            key
        });
        self.hub.links.insert(arrival.link, key);
        let session = self.hub.sessions.get(&key);
        let rates = self.new_link_rates(session.map_or(0, |one| one.outbox.waiting.len()));
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return;
        };
        session.principal = arrival.peer.certificate.id().clone();
        session.address = arrival.peer.address;
        session.expiry = expiry;
        session.ends = None;
        session.will = connect.will.map(Box::new);
        session.will_due = None;
        session.link = Some(Box::new(Link {
            number: arrival.link,
            version: connect.version,
            access,
            window: usize::from(connect.receive_maximum.min(RECEIVE_MAXIMUM)),
            packet_maximum: usize::try_from(connect.packet_maximum).unwrap_or(usize::MAX),
            problem_information: connect.problem_information,
            zero_expiry: connect.expiry == Some(0),
            aliases: Vec::new(),
            rates,
        }));
        self.keep_session(key);
    }

    fn refuse(&mut self, arrival: &Arrival, connect: &Connect, id: &str, refusal: Refusal) {
        let link = arrival.link;
        let principal = arrival.peer.certificate.id().as_str();
        let mut record = *refusal.record;
        record.why = record
            .why
            .map(|why| Box::new(why.of(&arrival.peer.certificate)));
        let why = record
            .details
            .clone()
            .filter(|_| connect.problem_information);
        let record = record.of(arrival.peer.address, Some(principal), Some(id));
        self.effects.acts.push(Act::Log(Box::new(record)));
        let code = match connect.version {
            Version::V3 => refusal.v3_code,
            Version::V5 => Some(refusal.code),
        };
        if let Some(code) = code {
            let connack = Connack {
                code,
                why: why.map(|text| text.chars().take(500).collect()),
                ..Connack::default()
            };
            self.send(link, Outgoing::Connack(Box::new(connack)));
        }
        self.effects.acts.push(Act::Close { link });
    }
}

fn id_of(connect: &Connect, arrival: &Arrival) -> Arc<str> {
    match &connect.client_id[..] {
        "" => arrival.generated_id.as_str().into(),
        id => id.into(),
    }
}

fn keep_alive(asked: u16) -> u16 {
    let (least, most) = KEEP_ALIVE;
    match asked {
        0 => most,
        asked => asked.clamp(least, most),
    }
}

/// What AWS IoT takes, whoever asks.
fn valid(connect: &Connect) -> Result<(), Refusal> {
    let refuse = |code, v3_code, details: String| {
        Err(Refusal {
            code,
            v3_code,
            record: Box::new(
                Record::failure("Connect", CLIENT_ERROR, details).why(why_limit(Stage::Connect)),
            ),
        })
    };
    let id = &connect.client_id;
    if id.starts_with('$') || id.len() > MAX_CLIENT_ID {
        let details = format!("the client id `{id}` is longer than 128 bytes, or starts with `$`");
        return refuse(code::CLIENT_ID, None, details);
    }
    if id.is_empty() && connect.version == Version::V3 && !connect.clean {
        let details = "a persistent session needs a client id".to_owned();
        return refuse(code::CLIENT_ID, Some(IDENTIFIER_REJECTED), details);
    }
    if connect.authentication {
        let details = "AWS IoT has no enhanced authentication (Authentication Method)";
        return refuse(code::UNSPECIFIED, None, details.to_owned());
    }
    let Some(will) = &connect.will else {
        return Ok(());
    };
    if will.payload.len() > MAX_PAYLOAD {
        let size = will.payload.len();
        let details = format!("a last will of {size} bytes is over {MAX_PAYLOAD}");
        return refuse(code::QUOTA, None, details);
    }
    if will.qos > 1 {
        return refuse(code::QOS, None, "AWS IoT has no QoS 2".to_owned());
    }
    match topics::topic_problem(&will.topic) {
        Some(details) => refuse(code::TOPIC, None, format!("the last will: {details}")),
        None => Ok(()),
    }
}

/// What the policies say.
fn authorised(access: &Access, id: &str, connect: &Connect) -> Result<(), Refusal> {
    let asked = policy::Connect {
        client_id: id,
        persistent: match connect.expiry {
            Some(expiry) => expiry > 0,
            None => !connect.clean,
        },
        will: connect.will.as_ref().map(|will| policy::Will {
            topic: &will.topic,
            retain: will.retain,
        }),
    };
    access.may_connect(&asked).map_err(|denied| Refusal {
        code: code::NOT_AUTHORIZED,
        v3_code: None,
        record: Box::new(denied_record("Connect", denied)),
    })
}
