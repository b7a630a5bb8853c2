//! PUBLISH from a client, wills, and retained messages.

use std::sync::Arc;

use super::super::access::Access;
use super::super::encode::ALIASES;
use super::super::packet::{Message, Outgoing, Properties, Publish, Will, code};
use super::super::topics;
use super::session::Retained;
use super::{Act, End, Turn, denied_record};
use crate::sandbox::logs::Metric;
use crate::sandbox::service;

/// The largest payload: 128 KiB.
pub(crate) const MAX_PAYLOAD: usize = 128 * 1024;
/// The longest Message Expiry Interval, in seconds: 7 days.
const MAX_EXPIRY: u32 = 604_800;

/// A message that may be published, wherever it comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publication {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Arc<[u8]>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Message Expiry Interval, in seconds.
    pub(crate) expiry: Option<u32>,
    pub(crate) properties: Properties,
}

impl Turn<'_> {
    pub(super) fn publish(&mut self, link: u64, mut publish: Publish) {
        if let Err((code, details)) = self.resolve_alias(link, &mut publish) {
            return self.wrong(link, "Publish-In", code, details);
        }
        if publish.qos == 2 && self.is_v5(link) {
            let details = "AWS IoT has no QoS 2".to_owned();
            return self.wrong(link, "Publish-In", code::QOS, details);
        }
        let size = publish.payload.len();
        if size > MAX_PAYLOAD {
            let details = format!("a payload of {size} bytes is over {MAX_PAYLOAD}");
            return self.wrong(link, "Publish-In", code::QUOTA, details);
        }
        if let Some(details) = topics::topic_problem(&publish.topic) {
            self.log_wrong(link, "Publish-In", details.clone(), Some(&publish.topic));
            return self.turn_down(link, &publish, (code::TOPIC, End::ClientError), &details);
        }
        let Some(access) = self.access(link) else {
            return;
        };
        if let Err(denied) = access.may_publish(&publish.topic, publish.retain) {
            let why = denied.details.clone();
            self.log_denied(link, "Publish-In", denied, Some(&publish.topic));
            let outcome = (code::NOT_AUTHORIZED, End::AuthError);
            return self.turn_down(link, &publish, outcome, &why);
        }
        // AWS IoT has no QoS 2: over MQTT 3.1.1 it neither acknowledges nor passes on.
        if publish.qos == 2 {
            let details = "AWS IoT has no QoS 2: the message is neither acknowledged nor passed on";
            let topic = Some(&*publish.topic);
            return self.log_wrong(link, "Publish-In", details.to_owned(), topic);
        }
        let id = publish.id;
        if self.may_publish_now(link, &publish.topic) {
            self.accept(link, publish);
            self.puback(link, id, (code::SUCCESS, None));
        } else if self.is_v5(link) {
            let why = self.told(link, "too many publishes in a second");
            self.puback(link, id, (code::QUOTA, why));
        }
    }

    /// The answer to a publish of QoS 1.
    fn puback(&mut self, link: u64, id: Option<u16>, (code, why): (u8, Option<String>)) {
        if let Some(id) = id {
            self.send(link, Outgoing::Puback { id, code, why });
        }
    }

    /// A publish that is not taken: MQTT 5 says so in the PUBACK, all else ends the connection.
    fn turn_down(&mut self, link: u64, publish: &Publish, outcome: (u8, End), why: &str) {
        let (code, end) = outcome;
        match publish.id {
            Some(id) if self.is_v5(link) => {
                let why = self.told(link, why);
                self.send(link, Outgoing::Puback { id, code, why });
            }
            _ => self.end(link, end, Some(code), Some(why)),
        }
    }

    /// Puts the topic in an alias's place, and remembers new ones (MQTT 5 §3.3.2.3.4).
    fn resolve_alias(&mut self, link: u64, publish: &mut Publish) -> Result<(), (u8, String)> {
        let Some(alias) = publish.alias else {
            if publish.topic.is_empty() && self.is_v5(link) {
                let details = "a PUBLISH without topic and alias";
                return Err((code::PROTOCOL, details.to_owned()));
            }
            return Ok(());
        };
        if alias == 0 || alias > ALIASES {
            let details = format!("the topic alias {alias} is over {ALIASES}");
            return Err((code::TOPIC_ALIAS, details));
        }
        let session = self.hub.session_of_mut(link);
        let Some(link) = session.and_then(|session| session.link.as_mut()) else {
            return Ok(());
        };
        let at = usize::from(alias) - 1;
        if link.aliases.len() <= at {
            link.aliases.resize(at + 1, None);
        }
        if !publish.topic.is_empty() {
            link.aliases[at] = Some(publish.topic.as_str().into());
        } else if let Some(topic) = &link.aliases[at] {
            publish.topic = topic.to_string();
        } else {
            let details = format!("the topic alias {alias} stands for no topic");
            return Err((code::PROTOCOL, details));
        }
        Ok(())
    }

    /// To the topic's service, or to everyone who has subscribed.
    fn accept(&mut self, link: u64, publish: Publish) {
        let Some(session) = self.hub.session_of(link) else {
            return;
        };
        let (from, client_id) = (session.key, session.client_id.to_string());
        let counts = &mut self.effects.acts;
        counts.push(Act::Count(Metric::PublishInSuccess));
        if publish.retain {
            counts.push(Act::Count(Metric::PublishRetainedSuccess));
        }
        if publish.topic.starts_with("$aws/") && self.world.serves(&publish.topic) {
            let Some(access) = self.access(link) else {
                return;
            };
            let request = service::Request {
                topic: publish.topic.as_str().into(),
                payload: publish.payload,
                client_id,
                certificate: (*access.peer.certificate).clone(),
                source: access.peer.address,
            };
            self.effects.acts.push(Act::Serve(Box::new(request)));
            return;
        }
        let publication = Publication {
            topic: publish.topic.into(),
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expiry: publish.expiry,
            properties: publish.properties,
        };
        self.broadcast(publication, from);
    }

    /// Publishes a message that is allowed. `from` is the session it comes from, or 0.
    pub(crate) fn broadcast(&mut self, publication: Publication, from: u64) {
        if topics::is_basic_ingest(&publication.topic) {
            return;
        }
        let expiry = publication.expiry.map(|expiry| expiry.clamp(1, MAX_EXPIRY));
        let message = Arc::new(Message {
            topic: publication.topic,
            payload: publication.payload,
            qos: publication.qos.min(1),
            retain: publication.retain,
            expires: expiry.map(|seconds| self.now + i64::from(seconds) * 1000),
            properties: publication.properties.boxed(),
            from,
        });
        if message.retain && !message.topic.starts_with('$') {
            self.retain(&message);
        }
        self.route(message);
    }

    /// Keeps a message for its topic; an empty one removes what is kept.
    fn retain(&mut self, message: &Arc<Message>) {
        let topic = &message.topic;
        if message.payload.is_empty() {
            self.hub.retained.remove(topic);
        } else {
            let retained = Retained {
                message: Arc::clone(message),
                modified: self.now,
            };
            self.hub.retained.insert(Arc::clone(topic), retained);
        }
        self.keep_retained(topic);
    }

    /// The retained message of a topic, unless it has expired.
    pub(super) fn retained(&self, topic: &str) -> Option<Arc<Message>> {
        let retained = self.hub.retained.get(topic)?;
        let alive = retained.message.expires.is_none_or(|at| at > self.now);
        alive.then(|| Arc::clone(&retained.message))
    }

    /// Sends a session's will, if its rights of today allow it.
    pub(super) fn send_will(&mut self, key: u64, will: Will) {
        let world = self.world;
        let link = self.hub.sessions.get_mut(&key);
        if let Some(link) = link.and_then(|session| session.link.as_mut()) {
            link.access.refresh(world);
        }
        let Some(session) = self.hub.sessions.get(&key) else {
            return;
        };
        let allowed = match &session.link {
            Some(link) => link.access.may_publish(&will.topic, will.retain),
            None => match self.access_of_absent(key) {
                Some(access) => access.may_publish(&will.topic, will.retain),
                // A certificate that is gone has no rights left.
                None => return,
            },
        };
        if let Err(denied) = allowed {
            let record = denied_record("Publish-In", denied).topic(&will.topic);
            let record = session.describe(record);
            self.effects.acts.push(Act::Log(Box::new(record)));
            return;
        }
        let publication = Publication {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            expiry: will.expiry,
            properties: will.properties,
        };
        self.broadcast(publication, key);
    }

    /// The rights of a session's last connection, as they are now.
    fn access_of_absent(&self, key: u64) -> Option<Access> {
        let session = self.hub.sessions.get(&key)?;
        let certificate = self.world.certificate(&session.principal)?;
        let peer = super::super::access::Peer {
            address: session.address,
            certificate: Arc::new(certificate),
            place: Arc::clone(&self.hub.place),
        };
        Some(Access::new(
            peer,
            Arc::clone(&session.client_id),
            self.world,
        ))
    }
}

impl super::Hub {
    /// The retained message of a topic.
    pub(crate) fn retained(&self, topic: &str) -> Option<&Retained> {
        self.retained.get(topic)
    }

    /// Every retained message, in no order.
    pub(crate) fn all_retained(&self) -> impl Iterator<Item = &Retained> {
        self.retained.values()
    }
}
