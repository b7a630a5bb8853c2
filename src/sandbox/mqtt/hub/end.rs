//! The ends of connections and sessions, and the passing of time.

use super::super::packet::{Outgoing, code};
use super::{Act, End, Turn};
use crate::sandbox::logs::{Record, Stage, Why};

/// After how long without a connection its count begins anew, in milliseconds: one hour.
const FORGET: i64 = 3_600_000;

impl Turn<'_> {
    /// The connection is over, seen from outside: it broke off, was silent for too long, or the
    /// sandbox stops.
    pub(crate) fn lost(&mut self, link: u64, end: End) {
        self.end(link, end, end.code(), None);
    }

    /// Bytes that are no packet.
    pub(crate) fn broken(&mut self, link: u64, code: u8, details: &str) {
        let details = format!("the client broke the MQTT protocol: {details}");
        self.wrong(link, "Disconnect", code, details);
    }

    /// DISCONNECT from the client.
    pub(super) fn goodbye(&mut self, link: u64, code: u8, expiry: Option<u32>) {
        let most = self.hub.session_expiry;
        let Some(session) = self.hub.session_of_mut(link) else {
            return;
        };
        let zero = session.link.as_ref().is_some_and(|link| link.zero_expiry);
        match expiry {
            // MQTT 5 §3.14.2.2.2.
            Some(asked) if asked > 0 && zero => {
                let details = "the DISCONNECT prolongs a session that was to end".to_owned();
                return self.wrong(link, "Disconnect", code::PROTOCOL, details);
            }
            Some(asked) => session.expiry = asked.min(most),
            None => {}
        }
        if code != code::WITH_WILL {
            session.will = None;
        }
        self.end(link, End::ClientInitiated, None, None);
    }

    /// Ends a connection, and with it a session that is not to outlive it. `code` and `why` are told
    /// to a client of MQTT 5.
    pub(super) fn end(&mut self, link: u64, end: End, code: Option<u8>, why: Option<&str>) {
        let Some(key) = self.hub.links.get(&link).copied() else {
            return;
        };
        self.farewell(link, end, (code, why));
        let now = self.now;
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return;
        };
        let delay = session.will.as_ref().map_or(0, |will| will.delay);
        let delay = delay.min(session.expiry);
        session.ends = Some(now + i64::from(session.expiry) * 1000);
        session.will_due = session.will.as_ref().map(|_| now + i64::from(delay) * 1000);
        let persistent = session.is_persistent();
        if delay == 0 {
            // While the rights of the connection are at hand.
            self.send_due_will(key);
        }
        self.hub.links.remove(&link);
        if let Some(session) = self.hub.sessions.get_mut(&key) {
            session.link = None;
        }
        self.disconnected_event(key, end);
        self.pass_on(key);
        if persistent {
            self.keep_session(key);
        } else {
            self.discard(key);
        }
    }

    /// The last words to the client and about it.
    fn farewell(&mut self, link: u64, end: End, said: (Option<u8>, Option<&str>)) {
        let mut record = match end {
            End::DuplicateClientId => Record::failure(
                "Disconnect",
                "DUPLICATE_CLIENT_ID",
                "A new connection was established with the same client ID",
            )
            .why(self.who(link, Why::new(
                Stage::Takeover,
                "connect.duplicate-client-id",
                "give each device a client id of its own; one that connects twice takes itself over",
            ))),
            _ => Record::success("Disconnect"),
        };
        record.disconnect_reason = Some(end.as_str().into());
        self.log(link, record);
        if let (Some(code), true) = (said.0, self.is_v5(link)) {
            // A server may always give its reason in a DISCONNECT (MQTT 5 §3.1.2.11.7).
            let why = said.1.map(|text| text.chars().take(500).collect());
            self.send(link, Outgoing::Disconnect { code, why });
        }
        self.effects.acts.push(Act::Close { link });
    }

    fn send_due_will(&mut self, key: u64) {
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return;
        };
        session.will_due = None;
        if let Some(will) = session.will.take() {
            self.send_will(key, *will);
        }
    }

    /// Ends a session without a connection: its will is sent, all else is forgotten.
    pub(super) fn discard(&mut self, key: u64) {
        self.send_due_will(key);
        let Some(session) = self.hub.sessions.remove(&key) else {
            return;
        };
        self.hub.ids.remove(&session.client_id);
        for subscription in &session.subscriptions {
            self.hub.uproot(key, &subscription.filter);
        }
        self.forget_session(&session);
    }

    /// Time has passed: wills and ends that are due, rights that have changed, messages that nobody
    /// acknowledges.
    pub(crate) fn tick(&mut self) {
        let now = self.now;
        let keys: Vec<u64> = self.hub.sessions.keys().copied().collect();
        for key in keys {
            let Some(session) = self.hub.sessions.get(&key) else {
                continue;
            };
            let due = |at: Option<i64>| at.is_some_and(|at| at <= now);
            let (will_due, over) = (due(session.will_due), due(session.ends));
            if let Some(link) = session.link.as_ref().map(|link| link.number) {
                if self.still_active(link) {
                    self.give_up(key);
                }
            } else if over {
                self.discard(key);
            } else if will_due {
                self.send_due_will(key);
                self.keep_session(key);
            }
        }
        self.pass_rates();
        let recent = |offline: Option<i64>| offline.is_none_or(|at| at + FORGET > now);
        self.hub.presence.retain(|_, one| recent(one.offline));
        self.expire_retained();
    }

    fn expire_retained(&mut self) {
        let now = self.now;
        let expired = |at: Option<i64>| at.is_some_and(|at| at <= now);
        let all = self.hub.retained.iter();
        let gone = all.filter(|(_, one)| expired(one.message.expires));
        let gone: Vec<_> = gone.map(|(topic, _)| topic.clone()).collect();
        for topic in gone {
            self.hub.retained.remove(&topic);
            self.keep_retained(&topic);
        }
    }
}
