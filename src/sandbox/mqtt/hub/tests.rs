use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;

use super::super::access::{Authority, Peer};
use super::super::encode::RECEIVE_MAXIMUM;
use super::super::packet::{Connect, Filter, Publish, Subscribe, Will};
use super::*;
use crate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::ids::Place;
use crate::core::policy::{Document, NamedPolicy};
use crate::core::subject::Subject;
use crate::core::time::{UtcTime, Validity};
use crate::effects::keys::{LocalSigner, RingKeys};
use crate::ports::{Keygen, Signer};
use crate::sandbox::store::Store;

/// Everything but what is called secret, and no Receive of what is called closed.
const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:*","Resource":"*"},
    {"Effect":"Deny","Action":"iot:*","Resource":"*/secret*"},
    {"Effect":"Deny","Action":"iot:RetainPublish","Resource":"*/fleeting*"},
    {"Effect":"Deny","Action":"iot:Receive","Resource":"*/closed*"}]}"#;
const NOTHING: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Deny","Action":"iot:*","Resource":"*"}]}"#;

const RULES: HubRules = HubRules {
    session_expiry: 3600,
    rates: false,
};

fn certificate() -> Arc<Certificate> {
    static ONE: OnceLock<Arc<Certificate>> = OnceLock::new();
    Arc::clone(ONE.get_or_init(|| {
        let algorithm = crate::core::key::KeyAlgorithm::EcP256;
        let (key, public) = RingKeys::default().generate(algorithm).unwrap();
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
        Arc::new(draft.seal(&signature).unwrap())
    }))
}

/// A registry of one certificate.
struct OneRight {
    passed: RefCell<Duration>,
    policy: RefCell<Arc<Document>>,
    generation: RefCell<u64>,
    active: RefCell<bool>,
}

impl OneRight {
    fn change(&self, policy: &str) {
        *self.policy.borrow_mut() = Arc::new(Document::parse(policy).unwrap());
        *self.generation.borrow_mut() += 1;
    }
}

impl Rights for OneRight {
    fn generation(&self) -> u64 {
        *self.generation.borrow()
    }
    fn authority(&self, _: &CertificateId) -> (Authority, u64) {
        let authority = Authority {
            policies: vec![NamedPolicy {
                name: "all".into(),
                document: Arc::clone(&self.policy.borrow()),
            }],
            things: vec![],
            versions: std::collections::BTreeMap::new(),
            active: *self.active.borrow(),
        };
        (authority, self.generation())
    }
}

impl World for OneRight {
    fn certificate(&self, _: &CertificateId) -> Option<Certificate> {
        Some((*certificate()).clone())
    }
    fn serves(&self, topic: &str) -> bool {
        topic.starts_with("$aws/certificates/create/")
    }
    fn monotonic(&self) -> Duration {
        *self.passed.borrow()
    }
}

struct Lab {
    hub: Hub,
    world: OneRight,
    store: Store,
    now: i64,
    links: u64,
    /// Records of the last step: event, reason.
    records: Vec<(String, Option<String>)>,
    served: Vec<Arc<str>>,
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
}

fn place() -> Arc<Place> {
    Arc::new(Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    })
}

fn v3(id: &str) -> Connect {
    Connect {
        version: Version::V3,
        client_id: id.into(),
        clean: true,
        keep_alive: 60,
        will: None,
        expiry: None,
        receive_maximum: u16::MAX,
        packet_maximum: u32::MAX,
        alias_maximum: 0,
        problem_information: false,
        authentication: false,
    }
}

fn v5(id: &str) -> Connect {
    Connect {
        version: Version::V5,
        expiry: Some(0),
        ..v3(id)
    }
}

fn kept(connect: Connect) -> Connect {
    Connect {
        clean: false,
        expiry: connect.expiry.map(|_| 600),
        ..connect
    }
}

fn message(topic: &str, qos: u8) -> Publish {
    Publish {
        topic: topic.into(),
        id: (qos > 0).then_some(7),
        qos,
        payload: b"m".as_slice().into(),
        ..Publish::default()
    }
}

fn filter(text: &str, qos: u8) -> Filter {
    Filter {
        text: text.into(),
        qos,
        ..Filter::default()
    }
}

/// A packet as text: what matters of it.
fn text(packet: &Outgoing) -> String {
    match packet {
        Outgoing::Connack(one) => {
            let present = if one.session_present { " present" } else { "" };
            format!("CONNACK {:02x}{present}", one.code)
        }
        Outgoing::Disconnect { code, .. } => format!("DISCONNECT {code:02x}"),
        Outgoing::Pingresp => "PINGRESP".into(),
        Outgoing::Puback { id, code, .. } => format!("PUBACK {id} {code:02x}"),
        Outgoing::Publish(one) => {
            let id = one.id.map_or("0".into(), |id| format!("1 id {id}"));
            let retain = if one.retain { " retain" } else { "" };
            let expiry = one.expiry.map_or(String::new(), |s| format!(" for {s}"));
            format!("PUBLISH {} qos {id}{retain}{expiry}", one.message.topic)
        }
        Outgoing::Suback { codes, .. } => format!("SUBACK {codes:02x?}"),
        Outgoing::Unsuback { codes, .. } => format!("UNSUBACK {codes:02x?}"),
    }
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        Self {
            hub: Hub::new(place(), RULES),
            world: OneRight {
                passed: RefCell::new(Duration::from_secs(1000)),
                policy: RefCell::new(Arc::new(Document::parse(POLICY).unwrap())),
                generation: RefCell::new(1),
                active: RefCell::new(true),
            },
            store: Store::durable(&path).unwrap(),
            now: 1_000_000,
            links: 0,
            records: vec![],
            served: vec![],
            _folder: folder,
            path,
        }
    }

    /// What a step sends and closes, each with its connection.
    fn step(&mut self, step: impl FnOnce(&mut Turn<'_>)) -> Vec<String> {
        let mut turn = self.hub.turn(&self.world, self.now);
        step(&mut turn);
        let effects = turn.finish();
        self.store.commit(&effects.writes).unwrap();
        self.records.clear();
        let mut said = Vec::new();
        for act in effects.acts {
            match act {
                Act::Send { link, packet } => said.push(format!("{link}: {}", text(&packet))),
                Act::Close { link } => said.push(format!("{link}: close")),
                Act::Count(_) => {}
                Act::Log(one) => self.records.push((one.event_type, one.reason)),
                Act::Serve(one) => self.served.push(one.topic),
            }
        }
        said
    }

    /// Connects as the next link.
    fn connect(&mut self, connect: Connect) -> (u64, Vec<String>) {
        self.links += 1;
        let link = self.links;
        let arrival = Arrival {
            link,
            peer: Peer {
                address: "127.0.0.1:9".parse().unwrap(),
                certificate: certificate(),
                place: place(),
            },
            identifier: format!("{link:032x}"),
            generated_id: format!("$generated-{link}"),
        };
        let said = self.step(|turn| {
            turn.connect(arrival, connect);
        });
        (link, said)
    }

    fn packet(&mut self, link: u64, packet: Incoming) -> Vec<String> {
        self.step(|turn| turn.packets(link, vec![packet]))
    }

    fn publish(&mut self, link: u64, publish: Publish) -> Vec<String> {
        self.packet(link, Incoming::Publish(Box::new(publish)))
    }

    fn subscribe(&mut self, link: u64, filters: Vec<Filter>) -> Vec<String> {
        let subscribe = Subscribe {
            id: 3,
            filters,
            identified: false,
        };
        self.packet(link, Incoming::Subscribe(subscribe))
    }

    /// A connection that has subscribed to this with QoS 1.
    fn ears(&mut self, connect: Connect, text: &str) -> u64 {
        let (link, _) = self.connect(connect);
        let said = self.subscribe(link, vec![filter(text, 1)]);
        assert_eq!(said[0], format!("{link}: SUBACK [01]"));
        link
    }

    fn lost(&mut self, link: u64) -> Vec<String> {
        self.step(|turn| turn.lost(link, End::ConnectionLost))
    }

    fn later(&mut self, seconds: i64) -> Vec<String> {
        self.now += seconds * 1000;
        *self.world.passed.borrow_mut() += Duration::from_secs(seconds.unsigned_abs());
        self.step(|turn| {
            turn.tick();
        })
    }

    /// As after a kill: another hub over the same store.
    fn restarted(&mut self) {
        self.store = Store::durable(&self.path).unwrap();
        self.hub = Hub::new(place(), RULES);
        self.hub.load(&self.store, self.now).unwrap();
    }
}

#[test]
fn what_is_denied_ends_an_old_connection_and_is_told_to_a_new_one() {
    for (asked, v3_said, v5_said) in [
        (
            "connect",
            vec!["2: close"],
            vec!["2: CONNACK 87", "2: close"],
        ),
        (
            "publish 0",
            vec!["1: close"],
            vec!["1: DISCONNECT 87", "1: close"],
        ),
        ("publish 1", vec!["1: close"], vec!["1: PUBACK 7 87"]),
        ("retain", vec!["1: close"], vec!["1: PUBACK 7 87"]),
        ("subscribe", vec!["1: close"], vec!["1: SUBACK [01, 87]"]),
        ("will", vec!["2: close"], vec!["2: CONNACK 87", "2: close"]),
    ] {
        for (connect, wanted) in [(v3("a"), v3_said), (v5("a"), v5_said)] {
            let mut lab = Lab::new();
            let (link, _) = lab.connect(connect.clone());
            let said = match asked {
                "connect" => {
                    let client_id = "secret".into();
                    lab.connect(Connect {
                        client_id,
                        ..connect
                    })
                    .1
                }
                "publish 0" => lab.publish(link, message("secret", 0)),
                "publish 1" => lab.publish(link, message("secret", 1)),
                "retain" => {
                    let retain = true;
                    lab.publish(
                        link,
                        Publish {
                            retain,
                            ..message("fleeting", 1)
                        },
                    )
                }
                "subscribe" => lab.subscribe(link, vec![filter("x", 1), filter("secret", 1)]),
                _ => {
                    let topic = "secret".into();
                    let will = Some(Will {
                        topic,
                        ..Will::default()
                    });
                    lab.connect(Connect {
                        client_id: "b".into(),
                        will,
                        ..connect
                    })
                    .1
                }
            };
            assert_eq!(said, wanted, "{asked}");
            let denied = |one: &&(String, Option<String>)| one.1.as_deref() == Some(AUTHORIZATION);
            assert_eq!(lab.records.iter().filter(denied).count(), 1, "{asked}");
        }
    }
}

#[test]
fn what_may_not_be_received_is_dropped_in_silence() {
    let mut lab = Lab::new();
    let ears = lab.ears(v5("ears"), "#");
    let (mouth, _) = lab.connect(v3("mouth"));
    assert_eq!(lab.publish(mouth, message("closed", 1)), ["2: PUBACK 7 00"]);
    assert_eq!(
        lab.records,
        [("Publish-Out".into(), Some(AUTHORIZATION.into()))]
    );
    let said = lab.publish(mouth, message("open", 1));
    assert_eq!(
        said,
        [
            format!("{ears}: PUBLISH open qos 1 id 1"),
            "2: PUBACK 7 00".into()
        ]
    );
}

#[test]
fn limits_have_each_its_outcome() {
    let long = "x".repeat(257);
    let big = Publish {
        payload: vec![0; MAX_PAYLOAD + 1].into(),
        ..message("a", 1)
    };
    let alias = |alias, topic: &str| Publish {
        alias: Some(alias),
        ..message(topic, 0)
    };
    for (publish, v3_said, v5_said) in [
        (big, vec!["1: close"], vec!["1: DISCONNECT 97", "1: close"]),
        (message(&long, 1), vec!["1: close"], vec!["1: PUBACK 7 90"]),
        (
            message(&long, 0),
            vec!["1: close"],
            vec!["1: DISCONNECT 90", "1: close"],
        ),
        (
            message("$aws/x", 1),
            vec!["1: close"],
            vec!["1: PUBACK 7 90"],
        ),
        (message("a/+", 1), vec!["1: close"], vec!["1: PUBACK 7 90"]),
        (
            message("a", 2),
            vec![],
            vec!["1: DISCONNECT 9b", "1: close"],
        ),
        (
            alias(9, "a"),
            vec!["1: close"],
            vec!["1: DISCONNECT 94", "1: close"],
        ),
        (
            alias(8, ""),
            vec!["1: close"],
            vec!["1: DISCONNECT 82", "1: close"],
        ),
    ] {
        for (connect, wanted) in [(v3("a"), v3_said), (v5("a"), v5_said)] {
            let mut lab = Lab::new();
            let (link, _) = lab.connect(connect);
            assert_eq!(
                lab.publish(link, publish.clone()),
                wanted,
                "{}",
                publish.topic
            );
        }
    }
}

#[test]
fn connects_that_aws_does_not_take() {
    let long = "x".repeat(129);
    let refused = |connect: Connect| Lab::new().connect(connect).1;
    assert_eq!(refused(v3(&long)), ["1: close"]);
    assert_eq!(refused(v5(&long)), ["1: CONNACK 85", "1: close"]);
    assert_eq!(refused(v5("$mine")), ["1: CONNACK 85", "1: close"]);
    assert_eq!(refused(kept(v3(""))), ["1: CONNACK 02", "1: close"]);
    let authentication = true;
    let said = refused(Connect {
        authentication,
        ..v5("a")
    });
    assert_eq!(said, ["1: CONNACK 80", "1: close"]);
    let will = |topic: &str, qos, size| {
        let topic = topic.to_owned();
        let payload = vec![0; size];
        let will = Some(Will {
            topic,
            payload,
            qos,
            ..Will::default()
        });
        refused(Connect { will, ..v5("a") })
    };
    assert_eq!(will("w", 2, 1), ["1: CONNACK 9b", "1: close"]);
    assert_eq!(will("w/#", 1, 1), ["1: CONNACK 90", "1: close"]);
    assert_eq!(will("w", 1, MAX_PAYLOAD + 1), ["1: CONNACK 97", "1: close"]);
    assert_eq!(refused(v3("")), ["1: CONNACK 00"]);
    assert_eq!(refused(v5("x+#")), ["1: CONNACK 00"]);
}

#[test]
fn keep_alive_and_session_expiry_are_clamped_and_told() {
    for (asked, seconds) in [(0, 1200), (10, 30), (60, 60), (2000, 1200)] {
        let mut lab = Lab::new();
        let connect = Connect {
            keep_alive: asked,
            expiry: Some(u32::MAX),
            client_id: String::new(),
            ..v5("")
        };
        let arrival = Arrival {
            link: 1,
            peer: Peer {
                address: "127.0.0.1:9".parse().unwrap(),
                certificate: certificate(),
                place: place(),
            },
            identifier: "i".into(),
            generated_id: "$generated".into(),
        };
        let mut turn = lab.hub.turn(&lab.world, 0);
        let silence = turn.connect(arrival, connect).unwrap();
        assert_eq!(silence.as_secs(), seconds * 3 / 2, "{asked}");
        let effects = turn.finish();
        let Act::Send { packet, .. } = &effects.acts[0] else {
            panic!("{effects:?}")
        };
        let Outgoing::Connack(connack) = packet else {
            panic!("{packet:?}")
        };
        let granted = connack.granted.clone().unwrap();
        assert_eq!(u64::from(granted.keep_alive), seconds);
        assert_eq!(granted.expiry, 3600);
        assert_eq!(granted.assigned_id.as_deref(), Some("$generated"));
    }
}

#[test]
fn subscriptions_are_counted_and_checked() {
    let nine = || {
        (0..9)
            .map(|n| filter(&format!("a/{n}"), 0))
            .collect::<Vec<_>>()
    };
    let mut lab = Lab::new();
    let (old, _) = lab.connect(v3("old"));
    let (new, _) = lab.connect(v5("new"));
    assert_eq!(
        lab.subscribe(new, nine()),
        [format!("2: SUBACK {:02x?}", [0x97; 9])]
    );
    assert_eq!(
        lab.subscribe(new, vec![filter("a/#/b", 1)]),
        ["2: SUBACK [8f]"]
    );
    assert_eq!(
        lab.subscribe(new, vec![filter("$SYS/#", 1)]),
        ["2: SUBACK [8f]"]
    );
    assert_eq!(lab.subscribe(new, vec![filter("a", 2)]), ["2: SUBACK [01]"]);
    // "The message broker doesn't send a PUBACK or SUBACK when QoS level 2 is requested."
    assert!(lab.subscribe(old, vec![filter("a", 2)]).is_empty());
    for n in 0..50 {
        lab.subscribe(old, vec![filter(&format!("s/{n}"), 0)]);
    }
    assert_eq!(
        lab.subscribe(old, vec![filter("one/more", 0)]),
        ["1: SUBACK [80]"]
    );
    assert_eq!(
        lab.subscribe(old, vec![filter("s/1", 1)]),
        ["1: SUBACK [01]"]
    );
    assert_eq!(lab.subscribe(old, nine()), ["1: close"]);
    let identified = Subscribe {
        id: 1,
        filters: vec![filter("b", 0)],
        identified: true,
    };
    let said = lab.packet(new, Incoming::Subscribe(identified));
    assert_eq!(said, ["2: DISCONNECT a1", "2: close"]);
    let (new, _) = lab.connect(v5("new"));
    let no_local = true;
    let said = lab.subscribe(
        new,
        vec![Filter {
            no_local,
            ..filter("$share/g/a", 0)
        }],
    );
    assert_eq!(said, ["3: DISCONNECT 82", "3: close"]);
}

#[test]
fn unsubscribed_is_unheard() {
    let mut lab = Lab::new();
    let ears = lab.ears(v5("ears"), "a");
    let filters = vec!["a".to_owned(), "never".to_owned(), "#/a".to_owned()];
    let said = lab.packet(ears, Incoming::Unsubscribe { id: 4, filters });
    assert_eq!(said, ["1: UNSUBACK [00, 00, 8f]"]);
    assert_eq!(lab.publish(ears, message("a", 1)), ["1: PUBACK 7 00"]);
}

#[test]
fn a_kept_session_gets_what_it_missed() {
    for connect in [kept(v3("ears")), kept(v5("ears"))] {
        let mut lab = Lab::new();
        let ears = lab.ears(connect.clone(), "a");
        lab.lost(ears);
        let (mouth, _) = lab.connect(v3("mouth"));
        lab.publish(mouth, message("a", 1));
        lab.publish(mouth, message("a", 0));
        let (ears, said) = lab.connect(connect.clone());
        let missed = format!("{ears}: PUBLISH a qos 1 id 1");
        assert_eq!(
            said,
            [format!("{ears}: CONNACK 00 present"), missed.clone()]
        );
        // Without a PUBACK it comes again, with the same identifier.
        lab.lost(ears);
        let (ears, said) = lab.connect(connect.clone());
        assert_eq!(said[1], missed.replace("3:", &format!("{ears}:")));
        lab.packet(ears, Incoming::Puback(1));
        lab.lost(ears);
        let (_, said) = lab.connect(connect);
        assert_eq!(said.len(), 1, "{said:?}");
    }
}

#[test]
fn a_session_ends_when_it_is_over_or_unwanted() {
    let mut lab = Lab::new();
    let ears = lab.ears(kept(v5("ears")), "a");
    lab.lost(ears);
    lab.later(599);
    let (ears, said) = lab.connect(kept(v5("ears")));
    assert_eq!(said, [format!("{ears}: CONNACK 00 present")]);
    lab.lost(ears);
    lab.later(601);
    let (ears, said) = lab.connect(kept(v5("ears")));
    assert_eq!(said, [format!("{ears}: CONNACK 00")]);
    lab.lost(ears);
    let (ears, said) = lab.connect(v5("ears"));
    assert_eq!(said, [format!("{ears}: CONNACK 00")]);
    // With an expiry of 0 the DISCONNECT may not prolong it; otherwise it may change it.
    let goodbye = |expiry| Incoming::Disconnect { code: 0, expiry };
    let said = lab.packet(ears, goodbye(Some(5)));
    assert_eq!(
        said,
        [format!("{ears}: DISCONNECT 82"), format!("{ears}: close")]
    );
    let (ears, _) = lab.connect(kept(v5("ears")));
    lab.packet(ears, goodbye(Some(0)));
    let (_, said) = lab.connect(kept(v5("ears")));
    assert_eq!(said, ["6: CONNACK 00"]);
}

#[test]
fn no_more_is_on_its_way_than_the_client_takes() {
    let mut lab = Lab::new();
    let receive_maximum = 1;
    let ears = lab.ears(
        Connect {
            receive_maximum,
            ..v5("ears")
        },
        "a",
    );
    let (mouth, _) = lab.connect(v5("mouth"));
    assert_eq!(lab.publish(mouth, message("a", 1)).len(), 2);
    assert_eq!(lab.publish(mouth, message("a", 1)), ["2: PUBACK 7 00"]);
    let said = lab.packet(ears, Incoming::Puback(1));
    assert_eq!(said, ["1: PUBLISH a qos 1 id 2"]);
    // Nobody sends more than Receive Maximum at once.
    let many = vec![Incoming::Publish(Box::new(message("b", 1))); 101];
    assert_eq!(usize::from(RECEIVE_MAXIMUM), 100);
    let said = lab.step(|turn| turn.packets(mouth, many));
    assert_eq!(said[100..], ["2: DISCONNECT 93", "2: close"]);
}

#[test]
fn messages_too_large_for_the_client_are_not_sent() {
    let mut lab = Lab::new();
    let packet_maximum = 20;
    let ears = lab.ears(
        Connect {
            packet_maximum,
            ..v5("ears")
        },
        "a",
    );
    let sized = |size| Publish {
        payload: vec![0; size].into(),
        ..message("a", 1)
    };
    // Fixed header 2, topic 3, identifier 2, property length 1.
    assert_eq!(lab.publish(ears, sized(12)).len(), 2);
    assert_eq!(lab.publish(ears, sized(13)), ["1: PUBACK 7 00"]);
}

#[test]
fn what_is_not_acknowledged_is_given_up_after_an_hour() {
    let mut lab = Lab::new();
    let ears = lab.ears(kept(v5("ears")), "a");
    lab.publish(ears, message("a", 1));
    lab.later(3601);
    lab.lost(ears);
    assert_eq!(lab.connect(kept(v5("ears"))).1, ["2: CONNACK 00 present"]);
}

#[test]
fn messages_expire_and_tell_what_is_left() {
    let mut lab = Lab::new();
    let ears = lab.ears(kept(v5("ears")), "a");
    let (mouth, _) = lab.connect(v5("mouth"));
    let expiry = Some(10);
    let said = lab.publish(
        mouth,
        Publish {
            expiry,
            ..message("a", 1)
        },
    );
    assert_eq!(said[0], "1: PUBLISH a qos 1 id 1 for 10");
    lab.packet(ears, Incoming::Puback(1));
    lab.lost(ears);
    lab.publish(
        mouth,
        Publish {
            expiry,
            ..message("a", 1)
        },
    );
    lab.publish(
        mouth,
        Publish {
            expiry: Some(2),
            ..message("a", 1)
        },
    );
    lab.now += 4000;
    let (_, said) = lab.connect(kept(v5("ears")));
    assert_eq!(
        said,
        ["3: CONNACK 00 present", "3: PUBLISH a qos 1 id 2 for 6"]
    );
}

#[test]
fn retained_messages_reach_exact_filters_alone() {
    let mut lab = Lab::new();
    let (mouth, _) = lab.connect(v5("mouth"));
    let retained = |topic: &str| Publish {
        retain: true,
        ..message(topic, 1)
    };
    lab.publish(mouth, retained("a/b"));
    lab.publish(mouth, retained("closed"));
    let (ears, _) = lab.connect(v3("ears"));
    let found = "2: PUBLISH a/b qos 1 id 1 retain";
    assert_eq!(
        lab.subscribe(ears, vec![filter("a/b", 1)]),
        ["2: SUBACK [01]", found]
    );
    for wild in ["a/+", "#", "$share/g/a/b", "closed"] {
        assert_eq!(
            lab.subscribe(ears, vec![filter(wild, 1)]).len(),
            1,
            "{wild}"
        );
    }
    let (picky, _) = lab.connect(v5("picky"));
    let mut handled = |retain_handling| {
        let asked = vec![Filter {
            retain_handling,
            ..filter("a/b", 0)
        }];
        lab.subscribe(picky, asked).len() - 1
    };
    assert_eq!([handled(2), handled(1), handled(0)], [0, 0, 1]);
    // A live message is not marked, unless Retain As Published says so.
    let (rap, _) = lab.connect(v5("rap"));
    let as_published = true;
    let asked = vec![Filter {
        as_published,
        retain_handling: 2,
        ..filter("a/b", 0)
    }];
    lab.subscribe(rap, asked);
    let said = lab.publish(mouth, retained("a/b"));
    assert!(
        said.contains(&"4: PUBLISH a/b qos 0 retain".into()),
        "{said:?}"
    );
    assert!(said.contains(&"3: PUBLISH a/b qos 0".into()), "{said:?}");
    let empty = Publish {
        payload: vec![].into(),
        ..retained("a/b")
    };
    lab.publish(mouth, empty);
    assert_eq!(
        lab.subscribe(picky, vec![filter("a/b", 0)]),
        ["3: SUBACK [00]"]
    );
    assert!(lab.hub.retained("a/b").is_none());
}

#[test]
fn wills_are_sent_for_those_who_did_not_say_goodbye() {
    let will = |delay| {
        let topic = "will".to_owned();
        let payload = b"gone".to_vec();
        Some(Will {
            topic,
            payload,
            qos: 1,
            delay,
            ..Will::default()
        })
    };
    let mut lab = Lab::new();
    let ears = lab.ears(v3("ears"), "will");
    let sent = |said: &[String]| said.iter().any(|one| one.starts_with("1: PUBLISH will"));
    let mut die = |connect: Connect, how: Option<Incoming>| {
        let (link, _) = lab.connect(connect);
        match how {
            Some(packet) => sent(&lab.packet(link, packet)),
            None => sent(&lab.lost(link)),
        }
    };
    let old = || Connect {
        will: will(0),
        ..v3("x")
    };
    let new = || Connect {
        will: will(0),
        ..v5("x")
    };
    let goodbye = |code| Some(Incoming::Disconnect { code, expiry: None });
    assert!(die(old(), None));
    assert!(!die(old(), goodbye(0)));
    assert!(die(new(), goodbye(code::WITH_WILL)));
    assert!(die(new(), Some(Incoming::Auth)));
    // Delayed: later, never if the client comes back, at once if the session ends.
    let delayed = || Connect {
        will: will(5),
        ..kept(v5("x"))
    };
    assert!(!die(delayed(), None));
    assert!(!sent(&lab.later(4)));
    assert!(sent(&lab.later(2)));
    let (link, _) = lab.connect(delayed());
    lab.lost(link);
    let (link, _) = lab.connect(kept(v5("x")));
    assert!(!sent(&lab.later(10)));
    lab.lost(link);
    let (link, _) = lab.connect(delayed());
    lab.lost(link);
    assert!(sent(&lab.connect(v5("x")).1));
    // The rights of the moment count.
    let (link, _) = lab.connect(old());
    lab.world.change(NOTHING);
    lab.lost(link);
    assert!(
        lab.records
            .contains(&("Publish-In".into(), Some(AUTHORIZATION.into())))
    );
    assert_eq!(ears, 1);
}

#[test]
fn a_shared_subscription_has_one_receiver() {
    let mut lab = Lab::new();
    let one = lab.ears(kept(v3("one")), "$share/g/a/#");
    let two = lab.ears(v5("two"), "$share/g/a/#");
    let (mouth, _) = lab.connect(v3("mouth"));
    let mut receiver = || lab.publish(mouth, message("a/b", 1))[0][..1].to_owned();
    let (first, second) = (receiver(), receiver());
    assert_ne!(first, second);
    lab.lost(two);
    let mut receiver = || lab.publish(mouth, message("a/b", 1))[0].clone();
    assert!(receiver().starts_with("1: PUBLISH"));
    assert!(receiver().starts_with("1: PUBLISH"));
    // With nobody there it waits for the session that is kept.
    lab.lost(one);
    assert_eq!(lab.publish(mouth, message("a/c", 1)), ["3: PUBACK 7 00"]);
    let said = lab.connect(kept(v3("one"))).1;
    assert!(said.last().unwrap().contains("a/c"), "{said:?}");
}

#[test]
fn a_session_does_not_hear_itself_if_it_says_so() {
    let mut lab = Lab::new();
    let (link, _) = lab.connect(v5("a"));
    let no_local = true;
    lab.subscribe(
        link,
        vec![Filter {
            no_local,
            ..filter("t", 1)
        }],
    );
    assert_eq!(lab.publish(link, message("t", 1)), ["1: PUBACK 7 00"]);
    let (other, _) = lab.connect(v5("b"));
    assert_eq!(lab.publish(other, message("t", 1)).len(), 2);
}

#[test]
fn a_client_id_has_one_connection_and_its_life_is_told() {
    let mut lab = Lab::new();
    let ears = lab.ears(v3("ears"), "$aws/events/#");
    let (_, said) = lab.connect(v5("a"));
    assert_eq!(said.len(), 2);
    let (_, said) = lab.connect(v3("a"));
    assert_eq!(
        said,
        [
            "2: DISCONNECT 8e",
            "2: close",
            "1: PUBLISH $aws/events/presence/disconnected/a qos 1 id 3",
            "3: CONNACK 00",
            "1: PUBLISH $aws/events/presence/connected/a qos 1 id 4",
        ]
    );
    let (event, reason) = &lab.records[0];
    assert_eq!(
        (&event[..], reason.as_deref()),
        ("Disconnect", Some("DUPLICATE_CLIENT_ID"))
    );
    let connectivity = lab.hub.connectivity("a").unwrap();
    assert!(connectivity.connected);
    lab.lost(3);
    let connectivity = lab.hub.connectivity("a").unwrap();
    assert_eq!(connectivity.reason, Some("CONNECTION_LOST"));
    assert_eq!(lab.hub.links.len(), 1);
    // Wildcards in the client id: nothing is told.
    assert_eq!(lab.connect(v5("a+")).1.len(), 1);
    lab.later(3601);
    assert!(lab.hub.connectivity("a").is_none());
    assert_eq!(ears, 1);
}

#[test]
fn events_have_the_documented_members() {
    let mut lab = Lab::new();
    lab.ears(v3("ears"), "$aws/events/#");
    let mut told = |step: &mut dyn FnMut(&mut Turn<'_>)| {
        let mut turn = lab.hub.turn(&lab.world, 5);
        step(&mut turn);
        let acts = turn.finish().acts.into_iter();
        let payloads = acts.filter_map(|act| match act {
            Act::Send {
                packet: Outgoing::Publish(one),
                ..
            } => Some(one.message.payload.clone()),
            _ => None,
        });
        let parse = |bytes: Arc<[u8]>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        payloads.map(parse).collect::<Vec<_>>()
    };
    let connect = |link| {
        let peer = Peer {
            address: "192.0.2.1:9".parse().unwrap(),
            certificate: certificate(),
            place: place(),
        };
        let (identifier, generated_id) = ("f".repeat(32), String::new());
        Arrival {
            link,
            peer,
            identifier,
            generated_id,
        }
    };
    let events = told(&mut |turn| {
        turn.connect(connect(8), v5("a"));
        let subscribe = Subscribe {
            id: 1,
            filters: vec![filter("foo/bar", 0)],
            identified: false,
        };
        turn.packets(8, vec![Incoming::Subscribe(subscribe)]);
        turn.connect(connect(9), v5("a"));
    });
    let id = certificate().id().to_string();
    let common = |kind: &str| {
        let identifier = "f".repeat(32);
        serde_json::json!({"clientId": "a", "timestamp": 5, "eventType": kind,
            "sessionIdentifier": identifier, "principalIdentifier": id})
    };
    let mut wanted: Vec<_> = ["connected", "subscribed", "disconnected", "connected"]
        .map(common)
        .to_vec();
    wanted[0]["ipAddress"] = "192.0.2.1".into();
    wanted[0]["versionNumber"] = 0.into();
    wanted[1]["topics"] = serde_json::json!(["foo/bar"]);
    wanted[2]["clientInitiatedDisconnect"] = false.into();
    wanted[2]["disconnectReason"] = "DUPLICATE_CLIENTID".into();
    wanted[2]["versionNumber"] = 0.into();
    wanted[3]["ipAddress"] = "192.0.2.1".into();
    wanted[3]["versionNumber"] = 1.into();
    assert_eq!(events, wanted);
}

#[test]
fn aliases_stand_for_the_topics_they_were_given() {
    let mut lab = Lab::new();
    let (link, _) = lab.connect(v5("a"));
    lab.subscribe(link, vec![filter("#", 0)]);
    let aliased = |topic: &str, alias| Publish {
        alias: Some(alias),
        ..message(topic, 0)
    };
    assert_eq!(
        lab.publish(link, aliased("one", 1)),
        ["1: PUBLISH one qos 0"]
    );
    assert_eq!(lab.publish(link, aliased("", 1)), ["1: PUBLISH one qos 0"]);
    assert_eq!(
        lab.publish(link, aliased("two", 1)),
        ["1: PUBLISH two qos 0"]
    );
    assert_eq!(lab.publish(link, aliased("", 1)), ["1: PUBLISH two qos 0"]);
    assert_eq!(
        lab.publish(link, message("", 0)),
        ["1: DISCONNECT 82", "1: close"]
    );
}

#[test]
fn reserved_topics_go_to_services_and_rules_not_to_subscribers() {
    let mut lab = Lab::new();
    let ears = lab.ears(v3("ears"), "$aws/certificates/create/json/accepted");
    let said = lab.publish(ears, message("$aws/certificates/create/json", 1));
    assert_eq!(said, ["1: PUBACK 7 00"]);
    assert_eq!(lab.served, ["$aws/certificates/create/json".into()]);
    let answer = service::Answer {
        topic: "$aws/certificates/create/json/accepted".into(),
        payload: vec![],
    };
    let answers = vec![answer];
    let said = lab.step(|turn| turn.answer("ears", answers));
    assert_eq!(
        said,
        ["1: PUBLISH $aws/certificates/create/json/accepted qos 1 id 1"]
    );
    let said = lab.publish(ears, message("$aws/rules/my_rule/a", 1));
    assert_eq!(said, ["1: PUBACK 7 00"]);
}

#[test]
fn a_certificate_that_is_not_active_any_more_is_put_out() {
    let mut lab = Lab::new();
    let (link, _) = lab.connect(v5("a"));
    *lab.world.active.borrow_mut() = false;
    *lab.world.generation.borrow_mut() += 1;
    assert_eq!(
        lab.later(1),
        [format!("{link}: DISCONNECT 87"), format!("{link}: close")]
    );
    assert_eq!(
        lab.records[0],
        ("Disconnect".into(), Some(AUTHORIZATION.into()))
    );
}

#[test]
fn rights_that_change_count_from_the_next_packet() {
    let mut lab = Lab::new();
    let (link, _) = lab.connect(v5("a"));
    assert_eq!(lab.publish(link, message("t", 1)), ["1: PUBACK 7 00"]);
    lab.world.change(NOTHING);
    assert_eq!(lab.publish(link, message("t", 1)), ["1: PUBACK 7 87"]);
}

#[test]
fn packets_no_client_sends_end_the_connection() {
    for packet in [
        Incoming::Auth,
        Incoming::Connect(Box::new(v5("a"))),
        Incoming::Unexpected("PUBREL"),
    ] {
        let mut lab = Lab::new();
        let (link, _) = lab.connect(v5("a"));
        assert_eq!(lab.packet(link, packet), ["1: DISCONNECT 82", "1: close"]);
    }
    let mut lab = Lab::new();
    let (link, _) = lab.connect(v5("a"));
    assert_eq!(lab.packet(link, Incoming::Pingreq), ["1: PINGRESP"]);
    assert!(lab.packet(link, Incoming::Puback(99)).is_empty());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn what_is_kept_outlives_the_process() {
    let mut lab = Lab::new();
    let will = Some(Will {
        topic: "will".into(),
        payload: vec![0, 255],
        qos: 1,
        delay: 5,
        ..Will::default()
    });
    let ears = lab.ears(
        Connect {
            will,
            ..kept(v5("ears"))
        },
        "a/#",
    );
    lab.ears(kept(v3("witness")), "will");
    lab.ears(v3("brief"), "a/#");
    let retain = true;
    let properties = super::super::packet::Properties {
        user: vec![("k".into(), "v".into())],
        ..Default::default()
    };
    for n in 0..3 {
        let properties = properties.clone();
        lab.publish(
            3,
            Publish {
                retain,
                properties,
                ..message(&format!("a/{n}"), 1)
            },
        );
    }
    lab.packet(ears, Incoming::Puback(1));
    lab.restarted();
    assert_eq!(lab.hub.sessions.len(), 2);
    assert_eq!(
        lab.hub.retained("a/2").unwrap().message.payload[..],
        b"m"[..]
    );
    let properties = lab.hub.retained("a/2").unwrap().message.properties.clone();
    assert_eq!(properties.unwrap().user, [("k".to_owned(), "v".to_owned())]);
    lab.later(6);
    let said = lab.connect(kept(v3("witness"))).1;
    assert_eq!(
        said,
        ["4: CONNACK 00 present", "4: PUBLISH will qos 1 id 1"]
    );
    let said = lab.connect(kept(v5("ears"))).1;
    let wanted = [
        "5: CONNACK 00 present",
        "5: PUBLISH a/1 qos 1 id 1",
        "5: PUBLISH a/2 qos 1 id 2",
    ];
    assert_eq!(said, wanted);
    // And nothing is left of what is over.
    lab.step(|turn| {
        turn.delete_connection("ears", true, false);
        turn.delete_connection("witness", true, false);
    });
    let mut left = HashMap::new();
    for kind in ["mqtt-session", "mqtt-queued", "mqtt-retained"] {
        left.insert(kind, lab.store.load(kind).unwrap().len());
    }
    assert_eq!(left["mqtt-session"], 0);
    assert_eq!(left["mqtt-queued"], 0);
    assert_eq!(left["mqtt-retained"], 3);
}

#[test]
fn an_operator_ends_a_connection() {
    let mut lab = Lab::new();
    let (link, _) = lab.connect(v5("a"));
    let mut found = false;
    let said = lab.step(|turn| found = turn.delete_connection("a", false, true));
    assert_eq!(
        said,
        [format!("{link}: DISCONNECT 98"), format!("{link}: close")]
    );
    assert!(found);
    lab.step(|turn| found = turn.delete_connection("a", false, true));
    assert!(!found);
}

#[test]
fn ten_thousand_subscriptions_of_others_change_nothing() {
    let mut lab = Lab::new();
    for n in 0..200 {
        let (link, _) = lab.connect(v5(&format!("client-{n}")));
        for part in 0..7 {
            let filters = (0..8).map(|m| filter(&format!("crowd/{n}/{part}/{m}/#"), 1));
            lab.subscribe(link, filters.take(50 - part * 8).collect());
        }
    }
    let subscriptions = lab.hub.sessions.values();
    let count: usize = subscriptions.map(|one| one.subscriptions.len()).sum();
    assert_eq!(count, 10_000);
    let ears = lab.ears(v3("ears"), "own/+");
    let said = lab.publish(ears, message("own/t", 1));
    assert_eq!(said, ["201: PUBLISH own/t qos 1 id 1", "201: PUBACK 7 00"]);
    let said = lab.publish(ears, message("crowd/7/3/1/x", 1));
    assert_eq!(
        said,
        ["8: PUBLISH crowd/7/3/1/x qos 1 id 1", "201: PUBACK 7 00"]
    );
}

/// AWS IoT's rates, where they are enforced.
fn rated() -> Lab {
    let mut lab = Lab::new();
    let rules = HubRules {
        rates: true,
        ..RULES
    };
    lab.hub = Hub::new(place(), rules);
    lab
}

fn throttled(lab: &Lab) -> Vec<&str> {
    let reasons = lab
        .records
        .iter()
        .filter_map(|(_, reason)| reason.as_deref());
    reasons
        .filter(|reason| reason.ends_with("THROTTLED"))
        .collect()
}

#[test]
fn a_client_id_connects_once_in_a_second_and_an_account_five_hundred_times() {
    let mut lab = rated();
    assert_eq!(lab.connect(v5("one")).1.len(), 1);
    assert_eq!(lab.connect(v5("one")).1, ["2: CONNACK 97", "2: close"]);
    assert_eq!(throttled(&lab), ["CLIENT_ID_THROTTLED"]);
    // MQTT 3.1.1 is told nothing, and the connection that is there stays.
    assert_eq!(lab.connect(v3("one")).1, ["3: close"]);
    assert_eq!(lab.packet(1, Incoming::Pingreq), ["1: PINGRESP"]);
    lab.later(1);
    assert!(lab.connect(v5("one")).1.contains(&"1: close".to_owned()));
    let mut accepted = |n| lab.connect(v3(&format!("c{n}"))).1[0].contains("CONNACK 00");
    assert_eq!((0..600).filter(|n| accepted(*n)).count(), 499);
    assert_eq!(throttled(&lab), ["THROTTLED"]);
}

#[test]
fn publishes_over_the_rate_are_discarded_and_the_next_second_has_new_ones() {
    let mut lab = rated();
    let ears = lab.ears(v5("ears"), "t");
    let (new, _) = lab.connect(v5("new"));
    let (old, _) = lab.connect(v3("old"));
    let heard = |said: &[String]| said.iter().filter(|s| s.starts_with("1: PUBLISH")).count();
    let mut count = 0;
    for _ in 0..100 {
        let said = lab.publish(new, message("t", 1));
        assert!(said.contains(&"2: PUBACK 7 00".to_owned()), "{said:?}");
        count += heard(&said);
        lab.packet(ears, Incoming::Puback(u16::try_from(count).unwrap()));
    }
    assert_eq!(count, 100);
    let said = lab.publish(new, message("t", 1));
    assert_eq!(said, ["2: PUBACK 7 97"]);
    assert_eq!(throttled(&lab), ["THROTTLED"]);
    // QoS 0 is discarded without a word, and so is what is on its way to a client that has had
    // its hundred; QoS 1 waits for the next second.
    assert!(lab.publish(new, message("t", 0)).is_empty());
    assert!(lab.publish(old, message("t", 0)).is_empty());
    assert_eq!(throttled(&lab), ["THROTTLED"]);
    assert_eq!(lab.publish(old, message("t", 1)), ["3: PUBACK 7 00"]);
    assert_eq!(heard(&lab.later(1)), 1);
    for _ in 0..100 {
        lab.publish(old, message("u", 1));
    }
    // MQTT 3.1.1: no PUBACK.
    assert!(lab.publish(old, message("u", 1)).is_empty());
}

#[test]
fn what_waited_comes_ten_a_second_when_the_session_is_resumed() {
    let mut lab = rated();
    let ears = lab.ears(kept(v5("ears")), "t");
    lab.lost(ears);
    let (mouth, _) = lab.connect(v3("mouth"));
    for _ in 0..25 {
        lab.publish(mouth, message("t", 1));
    }
    lab.later(1);
    let heard = |said: &[String]| said.iter().filter(|s| s.contains("PUBLISH")).count();
    let said = lab.connect(kept(v5("ears"))).1;
    assert_eq!(heard(&said), 10);
    assert_eq!(heard(&lab.publish(mouth, message("t", 1))), 0);
    assert_eq!(heard(&lab.later(1)), 10);
    // The last of those that waited, and the new one behind them.
    assert_eq!(heard(&lab.later(1)), 6);
}

#[test]
fn subscriptions_over_the_rate_are_refused() {
    let mut lab = rated();
    let mut refused = Vec::new();
    for n in 0..11 {
        let version = if n == 10 { v3 } else { v5 };
        let (link, _) = lab.connect(version(&format!("c{n}")));
        for m in 0..50 {
            let said = lab.subscribe(link, vec![filter(&format!("f{m}"), 0)]);
            refused.extend(said.iter().filter(|s| !s.ends_with("[00]")).cloned());
        }
        if n == 10 {
            assert_eq!(refused.len(), 50);
            assert!(refused.iter().all(|said| said == "11: SUBACK [80]"));
            assert_eq!(throttled(&lab), ["THROTTLED"]);
        } else {
            assert!(refused.is_empty(), "{refused:?}");
        }
    }
}

#[test]
fn what_a_member_of_a_shared_subscription_leaves_behind_goes_to_the_others() {
    let mut lab = Lab::new();
    let one = lab.ears(kept(v5("one")), "$share/g/a/#");
    let (mouth, _) = lab.connect(v3("mouth"));
    for n in 0..3 {
        lab.publish(mouth, message(&format!("a/{n}"), 1));
    }
    lab.packet(one, Incoming::Puback(1));
    let two = lab.ears(v5("two"), "$share/g/a/#");
    // Two are without their PUBACK: they are sent to the member that is left, and not again to
    // the one that comes back.
    let said = lab.lost(one);
    let heard: Vec<_> = said.iter().filter(|s| s.contains("PUBLISH")).collect();
    assert_eq!(heard.len(), 2, "{said:?}");
    assert!(heard[0].starts_with("3: PUBLISH") && heard[0].contains("a/1"));
    assert!(heard[1].starts_with("3: PUBLISH") && heard[1].contains("a/2"));
    let said = lab.connect(kept(v5("one"))).1;
    assert!(!said.iter().any(|s| s.contains("PUBLISH")), "{said:?}");
    // With nobody left they wait for the session that is kept, over a restart, too.
    lab.lost(4);
    lab.lost(two);
    lab.restarted();
    let said = lab.connect(kept(v5("one"))).1;
    let heard = said.iter().filter(|s| s.contains("PUBLISH")).count();
    assert_eq!(heard, 2, "{said:?}");
}
