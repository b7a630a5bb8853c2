//! Lifecycle events (developer guide, "Lifecycle events").

use serde_json::{Map, Value, json};

use super::session::{Connectivity, Presence, Session};
use super::{End, Turn};

impl Turn<'_> {
    pub(super) fn connected_event(&mut self, link: u64) {
        let Some(session) = self.hub.session_of(link) else {
            return;
        };
        let id = session.client_id.clone();
        let version = match self.hub.presence.get(&id) {
            Some(before) => before.version + 1,
            None => 0,
        };
        let presence = Presence {
            version,
            offline: None,
            why: None,
            since: self.now,
        };
        let Some(session) = self.hub.session_of(link) else {
            return;
        };
        let mut event = self.event(session, "connected");
        event.insert("ipAddress".into(), session.address.ip().to_string().into());
        event.insert("versionNumber".into(), version.into());
        self.hub.presence.insert(id.clone(), presence);
        self.emit("presence/connected", &id, event);
    }

    pub(super) fn disconnected_event(&mut self, key: u64, end: End) {
        let Some(session) = self.hub.sessions.get(&key) else {
            return;
        };
        let id = session.client_id.clone();
        let mut event = self.event(session, "disconnected");
        let version = self.hub.presence.get(&id).map_or(0, |one| one.version);
        let by_client = end == End::ClientInitiated;
        event.insert("clientInitiatedDisconnect".into(), by_client.into());
        event.insert("disconnectReason".into(), end.as_str().into());
        event.insert("versionNumber".into(), version.into());
        let presence = Presence {
            version,
            offline: Some(self.now),
            why: Some(end),
            since: self.now,
        };
        self.hub.presence.insert(id.clone(), presence);
        self.emit("presence/disconnected", &id, event);
    }

    /// `what` is `subscribed` or `unsubscribed`.
    pub(super) fn subscription_event(&mut self, key: u64, what: &str, topics: &[&str]) {
        let Some(session) = self.hub.sessions.get(&key) else {
            return;
        };
        let id = session.client_id.clone();
        let mut event = self.event(session, what);
        event.insert("topics".into(), json!(topics));
        self.emit(&format!("subscriptions/{what}"), &id, event);
    }

    fn event(&self, session: &Session, kind: &str) -> Map<String, Value> {
        let mut event = Map::new();
        event.insert("clientId".into(), (*session.client_id).into());
        event.insert("timestamp".into(), self.now.into());
        event.insert("eventType".into(), kind.into());
        event.insert("sessionIdentifier".into(), (*session.identifier).into());
        event.insert(
            "principalIdentifier".into(),
            session.principal.as_str().into(),
        );
        let link = session.link.as_ref();
        if let Some(thing) = link.and_then(|link| link.access.exclusive_thing()) {
            event.insert("thingName".into(), thing.into());
        }
        event
    }

    /// There are none about client ids that could not stand in a topic.
    fn emit(&mut self, kind: &str, client_id: &str, event: Map<String, Value>) {
        if client_id.contains(['+', '#']) {
            return;
        }
        let topic = format!("$aws/events/{kind}/{client_id}");
        self.announce(&topic, Value::Object(event).to_string().into_bytes());
    }
}

impl super::Hub {
    /// Whether a client is connected; `None` for one that has not been for an hour.
    pub(crate) fn connectivity(&self, client_id: &str) -> Option<Connectivity> {
        let presence = self.presence.get(client_id)?;
        Some(Connectivity {
            connected: presence.offline.is_none(),
            since: presence.since,
            reason: presence.why.map(End::as_str),
        })
    }
}
