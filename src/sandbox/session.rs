//! One MQTT 3.1.1 connection's decisions: a packet in, actions out. It touches nothing; the broker
//! performs what it returns. What is denied ends the connection without a word, as AWS IoT does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{Packet, Qos, SubEntry, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};

use super::logs::{Denial, Holder, Record, Stage, Why, denied};
use super::registry::ThingView;
use super::topics;
use crate::core::cert::Certificate;
use crate::core::ids::Place;
use crate::core::policy::{
    Action, Check, Compiled, Connect, Facts, NamedPolicy, Packet as Asking, Request, Scene,
    ThingFacts, Will, decide, stands_for,
};

/// The largest payload: 128 KiB.
pub(super) const MAX_PAYLOAD: usize = 128 * 1024;
/// The most subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 50;
/// The most filters of one SUBSCRIBE.
const MAX_FILTERS: usize = 8;
/// The longest client id, in bytes.
const MAX_CLIENT_ID: usize = 128;
/// What AWS IoT makes of the keep alive a client asks for, in seconds.
const KEEP_ALIVE: (u16, u16) = (30, 1200);

/// A message on its way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) payload: Arc<[u8]>,
    pub(super) qos: Qos,
}

/// One subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subscription {
    pub(super) filter: String,
    pub(super) qos: Qos,
}

/// What the registry gives a certificate the right to.
#[derive(Clone, Debug, Default)]
pub(super) struct Authority {
    /// The policies attached to it.
    pub(super) policies: Vec<NamedPolicy>,
    /// The things it is attached to, each with the policies of its groups.
    pub(super) things: Vec<(ThingView, Vec<NamedPolicy>)>,
    /// The version of each policy that is in force.
    pub(super) versions: BTreeMap<String, u32>,
    /// The certificate is `ACTIVE`.
    pub(super) active: bool,
}

/// Why a connection ends, spelled as lifecycle events do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    AuthError,
    ClientError,
    ClientInitiated,
    ConnectionLost,
    DuplicateClientId,
    KeepAliveTimeout,
    ServerInitiated,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::AuthError => "AUTH_ERROR",
            Self::ClientError => "CLIENT_ERROR",
            Self::ClientInitiated => "CLIENT_INITIATED_DISCONNECT",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::DuplicateClientId => "DUPLICATE_CLIENTID",
            Self::KeepAliveTimeout => "MQTT_KEEP_ALIVE_TIMEOUT",
            Self::ServerInitiated => "SERVER_INITIATED_DISCONNECT",
        }
    }
}

/// What the broker is to do.
#[derive(Debug)]
pub(super) enum Act {
    /// Make this connection the client id's only one, and let it be silent this long.
    Claim {
        client_id: String,
        silence: Duration,
    },
    /// Send a packet.
    Send(Packet),
    /// Send a message to the client; the packet id is the broker's.
    Deliver(Message),
    /// Hand a message to everyone subscribed.
    Publish(Message),
    /// These are the subscriptions now.
    Subscriptions(Vec<Subscription>),
    /// Write a record.
    Log(Box<Record>),
    /// Close the connection.
    Close(End),
}

/// Who is at the other end.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) certificate: Certificate,
    pub(super) place: Place,
}

struct Client {
    id: String,
    will: Option<Message>,
}

/// One connection.
pub(super) struct Session {
    peer: Peer,
    authority: Authority,
    /// What applies to this client: the certificate's policies and its thing's.
    policies: Vec<NamedPolicy>,
    facts: Facts,
    /// The two put together.
    compiled: Compiled,
    client: Option<Client>,
    /// The client id that was asked about last.
    asking: String,
    subscriptions: Vec<Subscription>,
}

impl Session {
    pub(super) fn new(peer: Peer, authority: Authority) -> Self {
        let facts = Facts::new("");
        Self {
            peer,
            authority,
            policies: Vec::new(),
            compiled: Compiled::new(&[], &facts),
            facts,
            client: None,
            asking: String::new(),
            subscriptions: Vec::new(),
        }
    }

    /// Puts new rights in place; closes when the certificate is not active any more.
    pub(super) fn refresh(&mut self, authority: Authority) -> Vec<Act> {
        self.authority = authority;
        if !self.authority.active {
            let denial = Denial {
                details: "the certificate is not ACTIVE any more".to_owned(),
                why: Box::new(Why::new(
                    Stage::Certificate,
                    "connect.status",
                    "make the certificate ACTIVE again, unless it was revoked",
                )),
            };
            return self.refuse("Disconnect", denial, None);
        }
        if let Some(id) = self.client.as_ref().map(|client| client.id.clone()) {
            self.learn(&id, None);
        }
        Vec::new()
    }

    /// One packet from the client.
    pub(super) fn packet(&mut self, packet: &Packet, generated_id: &str) -> Vec<Act> {
        match (packet, &self.client) {
            (Packet::V3_1_1Connect(connect), None) => self.connect(connect, generated_id),
            (Packet::V3_1_1Publish(publish), Some(_)) => self.publish(publish),
            (Packet::V3_1_1Subscribe(subscribe), Some(_)) => self.subscribe(subscribe),
            (Packet::V3_1_1Unsubscribe(unsubscribe), Some(_)) => self.unsubscribe(unsubscribe),
            (Packet::V3_1_1Pingreq(_), Some(_)) => {
                vec![Act::Send(v3_1_1::Pingresp::new().into())]
            }
            (Packet::V3_1_1Disconnect(_), Some(_)) => vec![Act::Close(End::ClientInitiated)],
            (Packet::V3_1_1Puback(_), Some(_)) => Vec::new(),
            _ => {
                let details = format!("unexpected packet {}", packet_name(packet));
                self.wrong("Disconnect", Stage::Connect, details)
            }
        }
    }

    /// A message that one of the subscriptions matches.
    pub(super) fn deliver(&mut self, message: Message) -> Vec<Act> {
        let granted = self.subscriptions.iter();
        let granted = granted.filter(|sub| topics::matches(&sub.filter, &message.topic));
        let Some(qos) = granted.map(|sub| sub.qos).max_by_key(|qos| *qos as u8) else {
            return Vec::new();
        };
        if let Err(denial) = self.may(Stage::Receive, Action::Receive, &message.topic) {
            let record = self.denied("Publish-Out", denial);
            return vec![self.log(record.topic(&message.topic))];
        }
        let qos = if message.qos as u8 > 0 {
            qos
        } else {
            Qos::AtMostOnce
        };
        vec![Act::Deliver(Message { qos, ..message })]
    }

    /// The last words, once the connection is over.
    pub(super) fn ended(&mut self, end: End) -> Vec<Act> {
        let Some(client) = &mut self.client else {
            return Vec::new();
        };
        let will = client.will.take().filter(|_| end != End::ClientInitiated);
        let mut record = match end {
            End::DuplicateClientId => Record::failure(
                "Disconnect",
                "DUPLICATE_CLIENT_ID",
                "A new connection was established with the same client ID",
            )
            .why(self.who(Why::new(
                Stage::Takeover,
                "connect.duplicate-client-id",
                "give each device a client id of its own; one that connects twice takes itself over",
            ))),
            _ => Record::success("Disconnect"),
        };
        record.disconnect_reason = Some(end.as_str().into());
        let mut acts = vec![self.log(record)];
        acts.extend(will.map(Act::Publish));
        acts
    }

    fn connect(&mut self, connect: &v3_1_1::Connect, generated_id: &str) -> Vec<Act> {
        let id = match connect.client_id() {
            "" => generated_id,
            id => id,
        };
        if connect.client_id().starts_with('$') || id.len() > MAX_CLIENT_ID {
            let details =
                format!("the client id `{id}` is longer than 128 bytes, or starts with `$`");
            return self.wrong("Connect", Stage::Connect, details);
        }
        let asked = Connect {
            client_id: id,
            persistent: !connect.clean_session(),
            will: connect.will_topic().map(|topic| Will {
                topic,
                retain: connect.will_retain(),
            }),
        };
        let refused = self.may_connect(&asked);
        self.client = Some(Client {
            id: id.to_owned(),
            will: will_of(connect),
        });
        if let Err(denial) = refused {
            let acts = self.refuse("Connect", denial, None);
            self.client = None;
            return acts;
        }
        self.accept(id.to_owned(), connect.keep_alive())
    }

    fn accept(&mut self, client_id: String, asked: u16) -> Vec<Act> {
        let (least, most) = KEEP_ALIVE;
        let seconds = if asked == 0 {
            most
        } else {
            asked.clamp(least, most)
        };
        let connack = v3_1_1::Connack::builder()
            .session_present(false)
            .return_code(ConnectReturnCode::Accepted)
            .build();
        let log = self.log(Record::success("Connect"));
        let silence = Duration::from_millis(u64::from(seconds) * 1500);
        let claim = Act::Claim { client_id, silence };
        let mut acts = vec![claim];
        acts.extend(connack.ok().map(|packet| Act::Send(packet.into())));
        acts.push(log);
        acts
    }

    fn publish(&mut self, publish: &v3_1_1::Publish) -> Vec<Act> {
        let (topic, payload) = (publish.topic_name(), publish.payload().as_slice());
        if payload.len() > MAX_PAYLOAD {
            let details = format!("a payload of {} bytes is over {MAX_PAYLOAD}", payload.len());
            return self.wrong("Publish-In", Stage::Publish, details);
        }
        if let Some(details) = topics::topic_problem(topic) {
            return self.wrong("Publish-In", Stage::Publish, details);
        }
        let mut allowed = self.may(Stage::Publish, Action::Publish, topic);
        if allowed.is_ok() && publish.retain() {
            allowed = self.may(Stage::Retain, Action::RetainPublish, topic);
        }
        if let Err(denial) = allowed {
            return self.refuse("Publish-In", denial, Some(topic));
        }
        // AWS IoT has no QoS 2: it neither acknowledges nor passes on.
        if publish.qos() == Qos::ExactlyOnce {
            return Vec::new();
        }
        let mut acts = vec![Act::Publish(Message {
            topic: topic.into(),
            payload: payload.into(),
            qos: publish.qos(),
        })];
        if let Some(id) = publish.packet_id() {
            let puback = v3_1_1::Puback::builder().packet_id(id).build();
            acts.extend(puback.ok().map(|packet| Act::Send(packet.into())));
        }
        acts
    }

    fn subscribe(&mut self, subscribe: &v3_1_1::Subscribe) -> Vec<Act> {
        let entries = subscribe.entries();
        if entries.len() > MAX_FILTERS {
            let details = format!(
                "{} filters in one SUBSCRIBE are over {MAX_FILTERS}",
                entries.len()
            );
            return self.wrong("Subscribe", Stage::Subscribe, details);
        }
        for filter in entries.iter().map(SubEntry::topic_filter) {
            if let Some(details) = topics::filter_problem(filter) {
                return self.wrong("Subscribe", Stage::Subscribe, details);
            }
            if let Err(denial) = self.may(Stage::Subscribe, Action::Subscribe, filter) {
                return self.refuse("Subscribe", denial, Some(filter));
            }
        }
        let mut codes = Vec::new();
        let mut acts = Vec::new();
        for entry in entries {
            let code = self.add(entry.topic_filter(), entry.sub_opts().qos());
            if code != SubackReturnCode::Failure {
                let record = Record::success("Subscribe").topic(entry.topic_filter());
                acts.push(self.log(record));
            }
            codes.push(code);
        }
        let suback = v3_1_1::Suback::builder()
            .packet_id(subscribe.packet_id())
            .return_codes(codes)
            .build();
        acts.push(Act::Subscriptions(self.subscriptions.clone()));
        acts.extend(suback.ok().map(|packet| Act::Send(packet.into())));
        acts
    }

    /// Adds or replaces one subscription. Shared ones (`$share/…`) are not played.
    fn add(&mut self, filter: &str, qos: Qos) -> SubackReturnCode {
        let (qos, code) = match qos {
            Qos::AtMostOnce => (qos, SubackReturnCode::SuccessMaximumQos0),
            _ => (Qos::AtLeastOnce, SubackReturnCode::SuccessMaximumQos1),
        };
        self.subscriptions.retain(|sub| sub.filter != filter);
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS || filter.starts_with("$share/") {
            return SubackReturnCode::Failure;
        }
        self.subscriptions.push(Subscription {
            filter: filter.to_owned(),
            qos,
        });
        code
    }

    fn unsubscribe(&mut self, unsubscribe: &v3_1_1::Unsubscribe) -> Vec<Act> {
        for filter in unsubscribe.entries() {
            self.subscriptions
                .retain(|sub| sub.filter != filter.as_str());
        }
        let unsuback = v3_1_1::Unsuback::builder()
            .packet_id(unsubscribe.packet_id())
            .build();
        let mut acts = vec![Act::Subscriptions(self.subscriptions.clone())];
        acts.extend(unsuback.ok().map(|packet| Act::Send(packet.into())));
        acts
    }

    /// Asks everything that a CONNECT asks. What only `iot:Connect` is told is forgotten then.
    fn may_connect(&mut self, connect: &Connect<'_>) -> Result<(), Denial> {
        self.learn(connect.client_id, Some(connect));
        let checks = Asking::Connect(*connect).checks();
        for (n, Check { action, name }) in checks.into_iter().enumerate() {
            if n == 1 {
                self.learn(connect.client_id, None);
            }
            let stage = if n == 0 { Stage::Connect } else { Stage::Will };
            self.may(stage, action, name)?;
        }
        self.learn(connect.client_id, None);
        Ok(())
    }

    /// Gathers what policies may ask about.
    fn learn(&mut self, client_id: &str, connect: Option<&Connect<'_>>) {
        client_id.clone_into(&mut self.asking);
        let things = &self.authority.things;
        let names = things
            .iter()
            .map(|(thing, _)| (thing.name.as_str(), thing.exclusive));
        let thing = stands_for(client_id, names).map(|n| &things[n]);
        self.policies.clone_from(&self.authority.policies);
        if let Some((_, group_policies)) = thing {
            self.policies.extend(group_policies.iter().cloned());
        }
        let scene = Scene {
            client_id,
            certificate: Some(&self.peer.certificate),
            thing: thing.map(|(thing, _)| ThingFacts {
                name: thing.name.as_str(),
                type_name: thing.type_name.as_ref().map(AsRef::as_ref),
                attributes: &thing.attributes,
            }),
            source_ip: Some(self.peer.address.ip()),
            context: &[],
        };
        self.facts = match connect {
            Some(connect) => scene.connect_facts(connect, &self.peer.place),
            None => scene.facts(),
        };
        self.compiled = Compiled::new(&self.policies, &self.facts);
    }

    /// Whether the policies allow it; else what was asked, and why not.
    fn may(&self, stage: Stage, action: Action, name: &str) -> Result<(), Denial> {
        let resource = self.peer.place.arn(action.resource_kind(), name);
        let request = Request {
            action,
            resource: &resource,
        };
        if self.compiled.allows(request) {
            return Ok(());
        }
        let things = self.authority.things.iter();
        let things: Vec<&str> = things.map(|(thing, _)| thing.name.as_str()).collect();
        let holder = Holder {
            client_id: &self.asking,
            policies: &self.policies,
            versions: &self.authority.versions,
            things: &things,
        };
        let decision = decide(&self.policies, &self.facts, request);
        Err(denied(stage, holder, &request, &decision))
    }

    fn refuse(&self, event: &str, denial: Denial, topic: Option<&str>) -> Vec<Act> {
        let record = self.denied(event, denial);
        let record = match topic {
            Some(topic) => record.topic(topic),
            None => record,
        };
        vec![self.log(record), Act::Close(End::AuthError)]
    }

    fn denied(&self, event: &str, denial: Denial) -> Record {
        Record::failure(event, AUTHORIZATION, denial.details).why(self.who(*denial.why))
    }

    /// The client broke a rule of the protocol or of AWS IoT.
    fn wrong(&self, event: &str, stage: Stage, details: String) -> Vec<Act> {
        let why = Why::new(
            stage,
            "mqtt.limit",
            "mend what the client sends, as the details say",
        );
        let record = Record::failure(event, "CLIENT_ERROR", details).why(self.who(why));
        vec![self.log(record), Act::Close(End::ClientError)]
    }

    fn who(&self, why: Why) -> Why {
        why.of(&self.peer.certificate)
    }

    fn log(&self, record: Record) -> Act {
        let client = self.client.as_ref().map(|client| &client.id[..]);
        let id = self.peer.certificate.id().as_str();
        Act::Log(Box::new(record.of(self.peer.address, Some(id), client)))
    }
}

/// The log's word for a policy's no.
pub(super) const AUTHORIZATION: &str = "AUTHORIZATION_FAILURE";

fn will_of(connect: &v3_1_1::Connect) -> Option<Message> {
    let topic = connect.will_topic()?;
    Some(Message {
        topic: topic.into(),
        payload: connect.will_payload().unwrap_or_default().into(),
        qos: match connect.will_qos() {
            Qos::AtMostOnce => Qos::AtMostOnce,
            _ => Qos::AtLeastOnce,
        },
    })
}

fn packet_name(packet: &Packet) -> String {
    let text = packet.to_string();
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
    use crate::core::policy::Document;
    use crate::core::subject::Subject;
    use crate::core::time::{UtcTime, Validity};
    use crate::effects::keys::{LocalSigner, RingKeys};
    use crate::ports::{Keygen, Signer};

    const WIDE: &str = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":["iot:Connect","iot:Subscribe","iot:Publish"],"Resource":"*"},
        {"Effect":"Allow","Action":"iot:Receive","Resource":"*topic/open/*"}]}"#;

    fn certificate() -> Certificate {
        let (key, public) = RingKeys::default()
            .generate(crate::core::key::KeyAlgorithm::EcP256)
            .unwrap();
        let subject = Subject::common_name("x");
        let issuer = IssuerView::self_signed(&subject, &public).unwrap();
        let validity = Validity {
            not_before: UtcTime::MIN,
            not_after: UtcTime::NO_EXPIRY,
        };
        let spec = DraftSpec {
            subject,
            serial: [1; 16],
            validity,
            public_key: &public,
            purpose: Purpose::Device,
            alternative_names: vec![],
            extras: Extras::default(),
        };
        let draft = Draft::new(&spec, &issuer).unwrap();
        let signature = LocalSigner::new(&key).unwrap().sign(draft.tbs()).unwrap();
        draft.seal(&signature).unwrap()
    }

    fn session(keep_alive: u16) -> (Session, Vec<Act>) {
        let peer = Peer {
            address: "127.0.0.1:1".parse().unwrap(),
            certificate: certificate(),
            place: Place {
                account: "123456789012".parse().unwrap(),
                region: "eu-west-1".parse().unwrap(),
            },
        };
        let authority = Authority {
            policies: vec![NamedPolicy {
                name: "wide".into(),
                document: Arc::new(Document::parse(WIDE).unwrap()),
            }],
            things: vec![],
            versions: BTreeMap::new(),
            active: true,
        };
        let mut session = Session::new(peer, authority);
        let connect = v3_1_1::Connect::builder().client_id("x").unwrap();
        let connect = connect
            .keep_alive(keep_alive)
            .clean_session(true)
            .build()
            .unwrap();
        let acts = session.packet(&connect.into(), "$generated");
        (session, acts)
    }

    fn publish(topic: &str, qos: Qos, retain: bool) -> Packet {
        let builder = v3_1_1::Publish::builder().topic_name(topic).unwrap();
        let builder = builder.qos(qos).retain(retain).payload(b"m".to_vec());
        let builder = match qos {
            Qos::AtMostOnce => builder,
            _ => builder.packet_id(7),
        };
        builder.build().unwrap().into()
    }

    #[test]
    fn silence_is_one_and_a_half_times_the_keep_alive_aws_makes_of_it() {
        for (asked, seconds) in [(0, 1800), (10, 45), (60, 90), (2000, 1800)] {
            let (_, acts) = session(asked);
            let Some(Act::Claim { silence, .. }) = acts.first() else {
                panic!("{acts:?}")
            };
            assert_eq!(silence.as_secs(), seconds, "{asked}");
        }
    }

    #[test]
    fn a_publish_is_passed_on_acknowledged_or_ends_the_connection() {
        let (mut session, _) = session(60);
        let mut kinds = |packet: Packet| -> Vec<&'static str> {
            let acts = session.packet(&packet, "");
            let kind = |act: &Act| match act {
                Act::Publish(_) => "publish",
                Act::Send(_) => "send",
                Act::Log(_) => "log",
                Act::Close(End::AuthError) => "denied",
                Act::Close(End::ClientError) => "wrong",
                _ => "other",
            };
            acts.iter().map(kind).collect()
        };
        assert_eq!(kinds(publish("a", Qos::AtMostOnce, false)), ["publish"]);
        assert_eq!(
            kinds(publish("a", Qos::AtLeastOnce, false)),
            ["publish", "send"]
        );
        assert!(kinds(publish("a", Qos::ExactlyOnce, false)).is_empty());
        // Retained messages need iot:RetainPublish beside iot:Publish.
        assert_eq!(
            kinds(publish("a", Qos::AtMostOnce, true)),
            ["log", "denied"]
        );
        let event = publish("$aws/events/presence/connected/x", Qos::AtMostOnce, false);
        assert_eq!(kinds(event), ["log", "wrong"]);
    }

    #[test]
    fn what_may_not_be_received_is_dropped_in_silence() {
        let (mut session, _) = session(60);
        assert_eq!(
            session.add("#", Qos::ExactlyOnce),
            SubackReturnCode::SuccessMaximumQos1
        );
        let mut message = |topic: &str| {
            session.deliver(Message {
                topic: topic.into(),
                payload: b"m".as_slice().into(),
                qos: Qos::AtMostOnce,
            })
        };
        assert!(matches!(message("open/a")[..], [Act::Deliver(_)]));
        assert!(matches!(message("secret/a")[..], [Act::Log(_)]));
    }
}
