//! From a message to its receivers: who wants it, who may have it, who gets it now, and for whom it
//! waits.

use std::sync::Arc;

use super::super::packet::{Delivery, Message, Outgoing};
use super::super::trie::{Entry, OneOf, Options};
use super::session::{MAX_QUEUED, Queued};
use super::{Act, End, Turn};
use crate::core::policy::Action;
use crate::sandbox::logs::{Metric, Stage};
use crate::sandbox::service::Answer;

/// How long an unacknowledged message stays with a connected client, in milliseconds: one hour.
const RETRY: i64 = 3_600_000;

/// How a session gets a message.
pub(super) struct How {
    pub(super) qos: u8,
    pub(super) retain: bool,
    /// The shared subscription it comes by.
    pub(super) group: Option<Arc<str>>,
}

impl Turn<'_> {
    /// Hands a message to everyone who has subscribed to its topic.
    pub(super) fn route(&mut self, message: Arc<Message>) {
        let matches = self.hub.trie.matching(&message.topic);
        for entry in matches.each {
            self.offer(entry, &message, None);
        }
        for group in matches.one_of {
            self.offer_one_of(&group, &message);
        }
    }

    /// Messages of a service to the client that asked it.
    pub(crate) fn answer(&mut self, client_id: &str, answers: Vec<Answer>) {
        let Some(key) = self.hub.ids.get(client_id).copied() else {
            return;
        };
        for answer in answers {
            let message = Arc::new(Message {
                topic: answer.topic.into(),
                payload: answer.payload.into(),
                qos: 1,
                ..Message::default()
            });
            let matches = self.hub.trie.matching(&message.topic);
            for entry in matches.each.into_iter().filter(|one| one.session == key) {
                self.offer(entry, &message, None);
            }
        }
    }

    /// To the first of a shared subscription's members that is connected and may have it; else it
    /// waits for the first whose session is kept.
    fn offer_one_of(&mut self, group: &OneOf, message: &Arc<Message>) -> bool {
        let connected = |entry: &&Entry| {
            let session = self.hub.sessions.get(&entry.session);
            session.is_some_and(|session| session.link.is_some())
        };
        let members = group.members.iter();
        let (present, absent): (Vec<&Entry>, Vec<&Entry>) = members.partition(connected);
        let mut all = present.into_iter().chain(absent);
        all.any(|entry| self.offer(*entry, message, Some(&group.filter)))
    }

    /// A session's connection is over: what it got as a member of shared subscriptions and has not
    /// acknowledged goes to other members; without any it waits for the session, if that is kept.
    pub(super) fn pass_on(&mut self, key: u64) {
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return;
        };
        let client_id = Arc::clone(&session.client_id);
        let sent = session.outbox.sent.iter().map(|(_, queued)| queued);
        let all = sent.chain(&session.outbox.waiting);
        let shared: Vec<Queued> = all.filter(|one| one.group.is_some()).cloned().collect();
        for queued in shared {
            let group = queued.group.as_deref();
            let Some(mut group) = group.and_then(|filter| self.hub.trie.group(filter)) else {
                continue;
            };
            group.members.retain(|member| member.session != key);
            if self.offer_one_of(&group, &queued.message) {
                self.drop_queued(&client_id, &queued);
                if let Some(session) = self.hub.sessions.get_mut(&key) {
                    session.outbox.remove(queued.number);
                }
            }
        }
    }

    /// Gives a message to a subscriber. Returns whether it has it, or will.
    fn offer(&mut self, entry: Entry, message: &Arc<Message>, group: Option<&Arc<str>>) -> bool {
        let Options { qos, .. } = entry.options;
        if entry.options.no_local && message.from == entry.session {
            return true;
        }
        let retain = entry.options.as_published && message.retain;
        let how = How {
            qos: qos.min(message.qos),
            retain,
            group: group.map(Arc::clone),
        };
        self.give(entry.session, message, how)
    }

    /// Gives a message to a session.
    pub(super) fn give(&mut self, key: u64, message: &Arc<Message>, how: How) -> bool {
        let How { qos, retain, .. } = how;
        let Some(session) = self.hub.sessions.get(&key) else {
            return false;
        };
        if let Some(link) = &session.link {
            let number = link.number;
            if !self.still_active(number) || !self.may_receive(number, message) {
                return false;
            }
            if qos == 0 {
                if self.may_send_now(number, &message.topic) {
                    self.deliver(number, message, (None, retain));
                }
                return true;
            }
        } else if qos == 0 || !session.is_persistent() {
            return false;
        }
        self.enqueue(key, message, how)
    }

    /// Whether the client may have the message, and can.
    fn may_receive(&mut self, link: u64, message: &Message) -> bool {
        let Some(session) = self.hub.session_of(link) else {
            return false;
        };
        let Some(connection) = &session.link else {
            return false;
        };
        if let Err(denied) = connection
            .access
            .may(Stage::Receive, Action::Receive, &message.topic)
        {
            self.log_denied(link, "Publish-Out", denied, Some(&message.topic));
            return false;
        }
        message.wire_size(connection.version) <= connection.packet_maximum
    }

    fn enqueue(&mut self, key: u64, message: &Arc<Message>, how: How) -> bool {
        let number = self.hub.next_queued;
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return false;
        };
        if session.outbox.len() >= MAX_QUEUED {
            return false;
        }
        self.hub.next_queued += 1;
        let queued = Queued {
            number,
            message: Arc::clone(message),
            retain: how.retain,
            group: how.group,
            since: self.now,
        };
        let (kept, link) = (session.is_persistent(), session.link.as_ref());
        let link = link.map(|link| link.number);
        if kept {
            let client_id = Arc::clone(&session.client_id);
            self.keep_queued(&client_id, &queued);
        }
        if let Some(session) = self.hub.sessions.get_mut(&key) {
            session.outbox.waiting.push_back(queued);
        }
        if let Some(link) = link {
            self.pump(link);
        }
        true
    }

    /// Sends what waits, as far as the client's Receive Maximum goes.
    pub(super) fn pump(&mut self, link: u64) {
        loop {
            let now = self.now;
            let Some(session) = self.hub.session_of_mut(link) else {
                return;
            };
            let window = session.link.as_ref().map_or(0, |link| link.window);
            if session.outbox.sent.len() >= window || session.outbox.waiting.is_empty() {
                return;
            }
            if !self.may_pump(link) {
                return;
            }
            let Some(session) = self.hub.session_of_mut(link) else {
                return;
            };
            let Some(queued) = session.outbox.waiting.pop_front() else {
                return;
            };
            let client_id = Arc::clone(&session.client_id);
            if queued.message.expires.is_some_and(|at| at <= now) {
                self.drop_queued(&client_id, &queued);
                continue;
            }
            let id = session.outbox.next_id();
            let (message, retain) = (Arc::clone(&queued.message), queued.retain);
            session.outbox.sent.push_back((id, queued));
            self.deliver(link, &message, (Some(id), retain));
        }
    }

    fn deliver(&mut self, link: u64, message: &Arc<Message>, how: (Option<u16>, bool)) {
        let left = message.expires.map(|at| (at - self.now + 999) / 1000);
        if left.is_some_and(|left| left <= 0) {
            return;
        }
        let delivery = Delivery {
            message: Arc::clone(message),
            id: how.0,
            retain: how.1,
            expiry: left.map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
        };
        self.effects
            .acts
            .push(Act::Count(Metric::PublishOutSuccess));
        self.send(link, Outgoing::Publish(Box::new(delivery)));
    }

    /// A PUBACK from the client.
    pub(super) fn acknowledged(&mut self, link: u64, id: u16) {
        let Some(session) = self.hub.session_of_mut(link) else {
            return;
        };
        let client_id = Arc::clone(&session.client_id);
        if let Some(queued) = session.outbox.acknowledge(id) {
            self.drop_queued(&client_id, &queued);
            self.pump(link);
        }
    }

    /// A session has a connection again: what was sent without being acknowledged is sent anew with
    /// the same packet identifiers, then what waits. What the client may not receive any more is
    /// dropped.
    pub(super) fn resume(&mut self, link: u64) {
        let Some(session) = self.hub.session_of_mut(link) else {
            return;
        };
        let client_id = Arc::clone(&session.client_id);
        let sent = std::mem::take(&mut session.outbox.sent);
        let waiting = std::mem::take(&mut session.outbox.waiting);
        let wanted = |turn: &mut Self, queued: &Queued| {
            let alive = queued.message.expires.is_none_or(|at| at > turn.now);
            let wanted = alive && turn.may_receive(link, &queued.message);
            if !wanted {
                turn.drop_queued(&client_id, queued);
            }
            wanted
        };
        for (id, queued) in sent {
            if wanted(self, &queued) {
                let (message, retain) = (Arc::clone(&queued.message), queued.retain);
                if let Some(session) = self.hub.session_of_mut(link) {
                    session.outbox.sent.push_back((id, queued));
                }
                self.deliver(link, &message, (Some(id), retain));
            }
        }
        for queued in waiting {
            if wanted(self, &queued)
                && let Some(session) = self.hub.session_of_mut(link)
            {
                session.outbox.waiting.push_back(queued);
            }
        }
        self.pump(link);
    }

    /// Gives up what a connected client has not acknowledged for an hour.
    pub(super) fn give_up(&mut self, key: u64) {
        let now = self.now;
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return;
        };
        let Some(link) = session.link.as_ref().map(|link| link.number) else {
            return;
        };
        let client_id = Arc::clone(&session.client_id);
        let stale = |queued: &Queued| queued.since + RETRY <= now;
        let mut dropped = Vec::new();
        while let Some((id, queued)) = session.outbox.sent.pop_front() {
            if !stale(&queued) {
                session.outbox.sent.push_front((id, queued));
                break;
            }
            dropped.push(queued);
        }
        if dropped.is_empty() {
            return;
        }
        for queued in &dropped {
            self.drop_queued(&client_id, queued);
        }
        self.pump(link);
    }

    /// Ends a client's connection for an operator (`DeleteConnection`). Returns whether there was
    /// one.
    pub(crate) fn delete_connection(&mut self, client_id: &str, clean: bool, will: bool) -> bool {
        let Some(key) = self.hub.ids.get(client_id).copied() else {
            return false;
        };
        let Some(session) = self.hub.sessions.get_mut(&key) else {
            return false;
        };
        let link = session.link.as_ref().map(|link| link.number);
        if !will {
            session.will = None;
        }
        if let Some(link) = link {
            let end = End::ApiInitiated;
            self.end(link, end, end.code(), None);
        }
        if clean && self.hub.sessions.contains_key(&key) {
            self.discard(key);
        }
        link.is_some()
    }
}
