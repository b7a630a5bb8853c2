//! What outlives the process: persistent sessions, what waits for them, and retained messages, as
//! entities of the store.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::packet::{Message, Properties, Will};
use super::super::trie::Options;
use super::session::{Outbox, Queued, Retained, Session, Subscription};
use super::{Hub, Turn};
use crate::core::ids::{CertificateId, hex, unhex};
use crate::sandbox::store::{Store, StoreError, Write};

const SESSION: &str = "mqtt-session";
const QUEUED: &str = "mqtt-queued";
const RETAINED: &str = "mqtt-retained";

#[derive(Deserialize, Serialize)]
struct KeptSession {
    identifier: String,
    principal: String,
    address: SocketAddr,
    expiry: u32,
    ends: Option<i64>,
    subscriptions: Vec<KeptSubscription>,
    will: Option<KeptMessage>,
    will_delay: u32,
    will_due: Option<i64>,
}

#[derive(Deserialize, Serialize)]
struct KeptSubscription {
    filter: String,
    qos: u8,
    no_local: bool,
    as_published: bool,
}

#[derive(Deserialize, Serialize)]
struct KeptQueued {
    client_id: String,
    retain: bool,
    since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    message: KeptMessage,
}

#[derive(Deserialize, Serialize)]
struct KeptRetained {
    modified: i64,
    message: KeptMessage,
}

#[derive(Deserialize, Serialize)]
struct KeptMessage {
    topic: String,
    /// Hexadecimal.
    payload: String,
    qos: u8,
    retain: bool,
    /// Milliseconds since 1970; of a will seconds from when it is sent.
    expires: Option<i64>,
    #[serde(default)]
    properties: Properties,
}

impl From<&Message> for KeptMessage {
    fn from(message: &Message) -> Self {
        Self {
            topic: message.topic.to_string(),
            payload: hex(&message.payload),
            qos: message.qos,
            retain: message.retain,
            expires: message.expires,
            properties: message.properties.as_deref().cloned().unwrap_or_default(),
        }
    }
}

impl KeptMessage {
    fn message(self) -> Message {
        Message {
            topic: self.topic.into(),
            payload: unhex(&self.payload).unwrap_or_default().into(),
            qos: self.qos,
            retain: self.retain,
            expires: self.expires,
            properties: self.properties.boxed(),
            from: 0,
        }
    }

    fn of_will(will: &Will) -> Self {
        Self {
            topic: will.topic.clone(),
            payload: hex(&will.payload),
            qos: will.qos,
            retain: will.retain,
            expires: will.expiry.map(i64::from),
            properties: will.properties.clone(),
        }
    }

    fn will(self, delay: u32) -> Will {
        Will {
            topic: self.topic,
            payload: unhex(&self.payload).unwrap_or_default(),
            qos: self.qos,
            retain: self.retain,
            delay,
            expiry: self.expires.and_then(|seconds| u32::try_from(seconds).ok()),
            properties: self.properties,
        }
    }
}

/// A write of something that always is JSON.
fn write(kind: &'static str, key: String, value: Option<impl Serialize>) -> Write {
    let json = value.and_then(|value| serde_json::to_string(&value).ok());
    Write { kind, key, json }
}

const NOTHING: Option<()> = None;

fn queued_key(number: u64) -> String {
    format!("{number:020}")
}

impl Turn<'_> {
    /// Writes a session that outlives its connection.
    pub(super) fn keep_session(&mut self, key: u64) {
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return;
        };
        session.stored |= session.is_persistent();
        if !session.stored {
            return;
        }
        let id = session.client_id.to_string();
        let subscriptions = session.subscriptions.iter().map(|one| KeptSubscription {
            filter: one.filter.to_string(),
            qos: one.options.qos,
            no_local: one.options.no_local,
            as_published: one.options.as_published,
        });
        let kept = KeptSession {
            identifier: session.identifier.to_string(),
            principal: session.principal.to_string(),
            address: session.address,
            expiry: session.expiry,
            ends: session.ends,
            subscriptions: subscriptions.collect(),
            will: session.will.as_deref().map(KeptMessage::of_will),
            will_delay: session.will.as_ref().map_or(0, |will| will.delay),
            will_due: session.will_due,
        };
        self.effects.writes.push(write(SESSION, id, Some(kept)));
    }

    /// Removes all that was written of a session.
    pub(super) fn forget_session(&mut self, session: &Session) {
        if !session.stored {
            return;
        }
        let id = session.client_id.to_string();
        let writes = &mut self.effects.writes;
        writes.push(write(SESSION, id, NOTHING));
        let outbox = &session.outbox;
        let queued = outbox.sent.iter().map(|(_, queued)| queued);
        for queued in queued.chain(&outbox.waiting) {
            writes.push(write(QUEUED, queued_key(queued.number), NOTHING));
        }
    }

    pub(super) fn keep_queued(&mut self, client_id: &str, queued: &Queued) {
        let kept = KeptQueued {
            client_id: client_id.to_owned(),
            retain: queued.retain,
            since: queued.since,
            group: queued.group.as_ref().map(ToString::to_string),
            message: KeptMessage::from(&*queued.message),
        };
        let key = queued_key(queued.number);
        self.effects.writes.push(write(QUEUED, key, Some(kept)));
    }

    /// A queued message has arrived, or never will.
    pub(super) fn drop_queued(&mut self, client_id: &str, queued: &Queued) {
        let session = self.hub.ids.get(client_id);
        let session = session.and_then(|key| self.hub.sessions.get(key));
        if session.is_some_and(|session| session.stored) {
            let key = queued_key(queued.number);
            self.effects.writes.push(write(QUEUED, key, NOTHING));
        }
    }

    /// Writes what is retained for a topic, or that nothing is.
    pub(super) fn keep_retained(&mut self, topic: &str) {
        let retained = self.hub.retained.get(topic).map(|one| KeptRetained {
            modified: one.modified,
            message: KeptMessage::from(&*one.message),
        });
        let write = write(RETAINED, topic.to_owned(), retained);
        self.effects.writes.push(write);
    }
}

impl Hub {
    /// Takes in what the store has. Connections that were there when the last process ended have
    /// ended with it, now.
    ///
    /// # Errors
    /// `sandbox.state`, `sandbox.state-entity`.
    pub(crate) fn load(&mut self, store: &Store, now: i64) -> Result<(), StoreError> {
        for (topic, json) in store.load(RETAINED)? {
            let kept: KeptRetained = parse(RETAINED, &topic, &json)?;
            let retained = Retained {
                message: Arc::new(kept.message.message()),
                modified: kept.modified,
            };
            self.retained.insert(topic.into(), retained);
        }
        for (client_id, json) in store.load(SESSION)? {
            let kept = parse(SESSION, &client_id, &json)?;
            self.load_session(client_id, kept, now)?;
        }
        for (key, json) in store.load(QUEUED)? {
            let kept: KeptQueued = parse(QUEUED, &key, &json)?;
            self.load_queued(&key, kept);
        }
        Ok(())
    }

    fn load_session(
        &mut self,
        client_id: String,
        kept: KeptSession,
        now: i64,
    ) -> Result<(), StoreError> {
        let principal: Result<CertificateId, _> = kept.principal.parse();
        let principal = principal.map_err(|error| StoreError::Entity {
            kind: SESSION,
            key: client_id.clone(),
            reason: error.to_string(),
        })?;
        let key = self.next_session;
        self.next_session += 1;
        let delay = i64::from(kept.will_delay.min(kept.expiry)) * 1000;
        let has_will = kept.will.is_some();
        let session = Session {
            key,
            client_id: client_id.as_str().into(),
            identifier: kept.identifier.into(),
            principal,
            address: kept.address,
            expiry: kept.expiry,
            ends: kept.ends.or(Some(now + i64::from(kept.expiry) * 1000)),
            subscriptions: Vec::new(),
            outbox: Outbox::default(),
            will: kept.will.map(|will| Box::new(will.will(kept.will_delay))),
            will_due: kept.will_due.or(has_will.then_some(now + delay)),
            stored: true,
            link: None,
        };
        self.ids.insert(Arc::clone(&session.client_id), key);
        self.sessions.insert(key, session);
        for one in kept.subscriptions {
            let subscription = Subscription {
                filter: one.filter.into(),
                options: Options {
                    qos: one.qos,
                    no_local: one.no_local,
                    as_published: one.as_published,
                },
            };
            self.plant(key, &subscription);
            if let Some(session) = self.sessions.get_mut(&key) {
                session.subscriptions.push(subscription);
            }
        }
        Ok(())
    }

    fn load_queued(&mut self, key: &str, kept: KeptQueued) {
        let number: u64 = key.parse().unwrap_or(0);
        self.next_queued = self.next_queued.max(number + 1);
        let session = self.ids.get(&*kept.client_id);
        let session = session.and_then(|key| self.sessions.get_mut(key));
        if let Some(session) = session {
            session.outbox.waiting.push_back(Queued {
                number,
                message: Arc::new(kept.message.message()),
                retain: kept.retain,
                group: kept.group.map(Into::into),
                since: kept.since,
            });
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    kind: &'static str,
    key: &str,
    json: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Entity {
        kind,
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
