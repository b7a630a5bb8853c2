//! The cases of the Eclipse `paho.mqtt.testing` client suites for MQTT 3.1.1 and 5 as AWS IoT plays
//! them, over the wire: one test for each case, named after it; where AWS deviates, the deviation.
//! docs/sandbox-mqtt.md has the same list.

use std::time::{Duration, Instant};

use crate::raw_mqtt::{Heard, Hello, Identity, Message, Raw, data, number, user};
use crate::sandbox_mqtt::Lab;

/// A sandbox with a certificate that may do everything.
fn lab() -> (Lab, Identity) {
    let lab = Lab::new();
    let device = lab.device_of(&lab.ca, "CN=tester", (-1, 10));
    let all = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iot:*","Resource":"*"},
        {"Effect":"Deny","Action":"iot:Subscribe","Resource":"*/nosubscribe"}]}"#;
    lab.allow(&device, "all", all);
    let identity = Identity {
        port: lab.running.info().mqtt_port.unwrap(),
        ca: lab.running.ca_pem().unwrap().into(),
        certificate: std::fs::read(&device.chain_file).unwrap(),
        key: std::fs::read(&device.key_file).unwrap(),
    };
    (lab, identity)
}

/// In both versions, each in a sandbox of its own.
fn both(case: impl Fn(&Identity, bool)) {
    for v5 in [false, true] {
        let (_lab, identity) = lab();
        case(&identity, v5);
    }
}

fn five(case: impl Fn(&Identity)) {
    let (_lab, identity) = lab();
    case(&identity);
}

fn message(topic: &str, qos: u8) -> Message {
    Message {
        topic: topic.into(),
        payload: topic.into(),
        qos,
        id: 7,
        ..Message::default()
    }
}

fn retained(topic: &str, payload: &str) -> Message {
    Message {
        payload: payload.into(),
        retain: true,
        ..message(topic, 1)
    }
}

fn gone(topic: &str) -> Message {
    Message {
        payload: b"gone".to_vec(),
        ..message(topic, 1)
    }
}

fn connect(identity: &Identity, v5: bool, id: &str) -> Raw {
    Raw::connected(identity, v5, id, &Hello::default())
}

#[track_caller]
fn published(raw: &mut Raw, message: &Message) {
    raw.publish(message);
    assert_eq!(raw.hear(), Heard::Puback { id: 7, code: 0 });
}

const ACKED: Heard = Heard::Puback { id: 7, code: 0 };

#[test]
fn basic() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        one.subscribed("TopicA", 1);
        // The same once more is granted once more, and makes no second copy.
        one.subscribed("TopicA", 1);
        one.publish(&message("TopicA", 0));
        let heard = one.message();
        assert_eq!((heard.qos, &heard.payload[..]), (0, &b"TopicA"[..]));
        one.publish(&message("TopicA", 1));
        let mut both = [one.hear(), one.hear()];
        both.sort_by_key(|heard| *heard == ACKED);
        let [Heard::Publish(heard), acked] = both else {
            panic!("{both:?}")
        };
        assert_eq!((heard.qos, acked), (1, ACKED));
        one.puback(heard.id);
        one.silent();
        // A second CONNECT ends the connection.
        one.send(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01x");
        if v5 {
            assert_eq!(one.hear(), Heard::Disconnect(0x82));
        }
        assert_eq!(one.hear(), Heard::Closed);
        // Another protocol's name, and what is no CONNECT.
        for bytes in [&b"\x10\x0d\0\x04hjkl\x04\x02\0\x3c\0\x01x"[..], b"\xc0\0"] {
            let mut raw = Raw::dial(identity, false);
            raw.send(bytes);
            let heard = raw.hear();
            let refused =
                matches!(heard, Heard::Connack { code: 1, .. }) && raw.hear() == Heard::Closed;
            assert!(refused || heard == Heard::Closed, "{heard:?}");
        }
    });
}

#[test]
fn quality_of_service_2_is_not_there() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        if v5 {
            one.subscribe(&[("t", 2)]);
            assert_eq!(
                one.hear(),
                Heard::Suback {
                    id: 11,
                    codes: vec![1]
                }
            );
            one.publish(&message("t", 2));
            assert_eq!(one.hear(), Heard::Disconnect(0x9b));
            assert_eq!(one.hear(), Heard::Closed);
        } else {
            one.subscribe(&[("t", 2)]);
            one.publish(&message("t", 2));
            one.silent();
        }
    });
}

#[test]
fn retained_messages() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        for topic in ["TopicA/B", "TopicA/C"] {
            published(&mut one, &retained(topic, "state"));
        }
        // A subscription to the very topic gets it, with RETAIN set.
        one.subscribed("TopicA/B", 1);
        let heard = one.message();
        assert!(heard.retain && heard.payload == b"state", "{heard:?}");
        one.puback(heard.id);
        // AWS: none for wildcards.
        one.subscribed("TopicA/+", 1);
        one.silent();
        // What is published live has it not.
        one.publish(&Message {
            qos: 0,
            ..retained("TopicA/B", "new")
        });
        assert!(!one.message().retain);
        // An empty one takes it away.
        one.publish(&Message {
            qos: 0,
            ..retained("TopicA/B", "")
        });
        assert_eq!(one.message().payload, b"");
        let mut two = connect(identity, v5, "two");
        two.subscribed("TopicA/B", 1);
        two.silent();
        two.subscribed("TopicA/C", 0);
        assert_eq!(two.message().payload, b"state");
    });
}

#[test]
fn zero_length_clientid() {
    both(|identity, v5| {
        let (_, answer) = Raw::connect(identity, v5, "", &Hello::default());
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        // Assigned Client Identifier.
        assert_eq!(more.text(0x12).is_some(), v5);
        let clean = Hello {
            clean: false,
            ..Hello::default()
        };
        let (mut raw, answer) = Raw::connect(identity, v5, "", &clean);
        match (v5, answer) {
            (true, Heard::Connack { code: 0, .. }) => {}
            (false, Heard::Connack { code: 2, .. }) => assert_eq!(raw.hear(), Heard::Closed),
            (_, other) => panic!("{other:?}"),
        }
    });
}

#[test]
fn offline_message_queueing() {
    both(|identity, v5| {
        let mut ears = Raw::connected(identity, v5, "ears", &Hello::kept(v5));
        ears.subscribed("TopicA/#", 1);
        ears.disconnect(0);
        let mut mouth = connect(identity, v5, "mouth");
        mouth.publish(&message("TopicA/0", 0));
        published(&mut mouth, &message("TopicA/1", 1));
        let (mut ears, answer) = Raw::connect(identity, v5, "ears", &Hello::kept(v5));
        assert!(
            matches!(
                answer,
                Heard::Connack {
                    present: true,
                    code: 0,
                    ..
                }
            ),
            "{answer:?}"
        );
        // QoS 0 is not kept.
        assert_eq!(ears.message().topic, "TopicA/1");
        ears.silent();
    });
}

#[test]
fn will_message() {
    both(|identity, v5| {
        let mut ears = connect(identity, v5, "ears");
        ears.subscribed("w/#", 1);
        let will = |topic: &str| Hello {
            will: Some(gone(topic)),
            ..Hello::default()
        };
        Raw::connected(identity, v5, "broken", &will("w/broken")).cut();
        let heard = ears.message();
        assert_eq!((&heard.topic[..], heard.qos), ("w/broken", 1));
        ears.puback(heard.id);
        // None after a goodbye; with MQTT 5's reason 4 there is one.
        Raw::connected(identity, v5, "polite", &will("w/polite")).disconnect(0);
        ears.silent();
        if v5 {
            Raw::connected(identity, v5, "asking", &will("w/asking")).disconnect(4);
            assert_eq!(ears.message().topic, "w/asking");
        }
    });
}

#[test]
fn overlapping_subscriptions() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        one.subscribe(&[("TopicA/#", 0), ("TopicA/+", 1)]);
        assert_eq!(
            one.hear(),
            Heard::Suback {
                id: 11,
                codes: vec![0, 1]
            }
        );
        one.publish(&message("TopicA/x", 0));
        // One copy.
        assert_eq!(one.message().qos, 0);
        one.silent();
        let mut other = connect(identity, v5, "other");
        published(&mut other, &message("TopicA/x", 1));
        assert_eq!(one.message().qos, 1);
        one.silent();
    });
}

/// Takes as long as the shortest keep alive of AWS IoT: 45 seconds.
#[test]
fn keepalive() {
    std::thread::scope(|scope| {
        for v5 in [false, true] {
            scope.spawn(move || {
                let (_lab, identity) = lab();
                let hello = Hello {
                    keep_alive: 5,
                    ..Hello::default()
                };
                let (mut one, answer) = Raw::connect(&identity, v5, "one", &hello);
                let Heard::Connack { code: 0, more, .. } = answer else {
                    panic!("{answer:?}")
                };
                // AWS: at least 30 s; MQTT 5 is told.
                assert_eq!(more.number(0x13), v5.then_some(30));
                let start = Instant::now();
                one.patient(Duration::from_secs(90));
                if v5 {
                    assert_eq!(one.hear(), Heard::Disconnect(0x8d));
                }
                assert_eq!(one.hear(), Heard::Closed);
                let after = start.elapsed().as_secs_f32();
                assert!((44.0..80.0).contains(&after), "after {after} s");
            });
        }
    });
}

#[test]
fn redelivery_on_reconnect() {
    both(|identity, v5| {
        let mut ears = Raw::connected(identity, v5, "ears", &Hello::kept(v5));
        ears.subscribed("t", 1);
        let mut mouth = connect(identity, v5, "mouth");
        published(&mut mouth, &message("t", 1));
        let first = ears.message();
        ears.cut();
        let mut ears = Raw::connected(identity, v5, "ears", &Hello::kept(v5));
        let again = ears.message();
        // With the same identifier; AWS: without DUP.
        assert_eq!((again.id, again.dup), (first.id, false));
        ears.puback(again.id);
        ears.silent();
        ears.cut();
        let mut ears = Raw::connected(identity, v5, "ears", &Hello::kept(v5));
        ears.silent();
    });
}

#[test]
fn subscribe_failure() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        one.subscribe(&[("test/nosubscribe", 1)]);
        if v5 {
            assert_eq!(
                one.hear(),
                Heard::Suback {
                    id: 11,
                    codes: vec![0x87]
                }
            );
            one.silent();
        } else {
            // AWS: closed, and not 0x80.
            assert_eq!(one.hear(), Heard::Closed);
        }
    });
}

#[test]
fn dollar_topics() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        one.subscribe(&[("#", 1), ("+/#", 1)]);
        assert_eq!(
            one.hear(),
            Heard::Suback {
                id: 11,
                codes: vec![1, 1]
            }
        );
        // A wildcard does not hear of `$`: neither its own events nor what others send there.
        let mut two = connect(identity, v5, "two");
        two.publish(&message("$aws/things/x/shadow/get", 0));
        two.silent();
        one.silent();
        // AWS: topics with `$` of one's own are refused.
        two.publish(&message("$TopicA", 0));
        if v5 {
            assert_eq!(two.hear(), Heard::Disconnect(0x90));
        }
        assert_eq!(two.hear(), Heard::Closed);
        let mut three = connect(identity, v5, "three");
        three.subscribe(&[("$TopicA/#", 0)]);
        let refused = Heard::Suback {
            id: 11,
            codes: vec![0x8f],
        };
        assert_eq!(three.hear(), if v5 { refused } else { Heard::Closed });
    });
}

#[test]
fn unsubscribe() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        one.subscribe(&[("a", 1), ("b", 1), ("c", 1)]);
        one.hear();
        one.unsubscribe(&["a", "never"]);
        // AWS: 0x00 even where there was none; 3.1.1 has no codes.
        let codes = if v5 { vec![0, 0] } else { vec![] };
        assert_eq!(one.hear(), Heard::Unsuback { id: 12, codes });
        let mut other = connect(identity, v5, "other");
        for topic in ["a", "b", "c"] {
            published(&mut other, &message(topic, 1));
        }
        for topic in ["b", "c"] {
            let heard = one.message();
            assert_eq!(heard.topic, topic);
            one.puback(heard.id);
        }
        one.silent();
    });
}

#[test]
fn a_filter_with_number_sign_does_not_match_its_parent() {
    both(|identity, v5| {
        let mut one = connect(identity, v5, "one");
        one.subscribed("sensor/#", 0);
        one.publish(&message("sensor", 0));
        one.silent();
        one.publish(&message("sensor/a/b", 0));
        assert_eq!(one.message().topic, "sensor/a/b");
    });
}

#[test]
fn session_expiry() {
    five(|identity| {
        // It ends with its connection, lasts as long as asked, at most an hour.
        for (asked, granted, present) in [(0, 0, false), (600, 600, true), (u32::MAX, 3600, true)] {
            let id = format!("c{asked}");
            let properties = number(0x11, asked, 4);
            let hello = Hello {
                clean: false,
                properties,
                ..Hello::default()
            };
            let (raw, answer) = Raw::connect(identity, true, &id, &hello);
            let Heard::Connack {
                present: false,
                code: 0,
                more,
            } = answer
            else {
                panic!("{answer:?}")
            };
            assert_eq!(more.number(0x11).unwrap_or(asked.into()), granted);
            raw.disconnect(0);
            let (_, answer) = Raw::connect(identity, true, &id, &hello);
            let Heard::Connack {
                present: was,
                code: 0,
                ..
            } = answer
            else {
                panic!("{answer:?}")
            };
            assert_eq!(was, present, "{asked}");
            let clean = Hello {
                properties: number(0x11, 600, 4),
                ..Hello::default()
            };
            let (_, answer) = Raw::connect(identity, true, &id, &clean);
            assert!(matches!(
                answer,
                Heard::Connack {
                    present: false,
                    code: 0,
                    ..
                }
            ));
        }
        // A DISCONNECT may not prolong a session that was to end.
        let mut raw = connect(identity, true, "x");
        raw.send(b"\xe0\x07\0\x05\x11\0\0\0\x07");
        assert_eq!(raw.hear(), Heard::Disconnect(0x82));
        // A session is over a second after its second is.
        let brief = Hello {
            clean: false,
            properties: number(0x11, 1, 4),
            ..Hello::default()
        };
        Raw::connected(identity, true, "brief", &brief).disconnect(0);
        let deadline = Instant::now() + Duration::from_secs(10);
        std::thread::sleep(Duration::from_millis(2200));
        let (_, answer) = Raw::connect(identity, true, "brief", &brief);
        assert!(Instant::now() < deadline);
        assert!(
            matches!(
                answer,
                Heard::Connack {
                    present: false,
                    code: 0,
                    ..
                }
            ),
            "{answer:?}"
        );
    });
}

#[test]
fn shared_subscriptions() {
    both(|identity, v5| {
        let mut members = [connect(identity, v5, "one"), connect(identity, v5, "two")];
        for member in &mut members {
            member.subscribed("$share/group/topic/+", 1);
        }
        let mut outsider = connect(identity, v5, "outsider");
        outsider.subscribed("topic/+", 1);
        let mut mouth = connect(identity, v5, "mouth");
        for n in 0..4 {
            published(&mut mouth, &message(&format!("topic/{n}"), 1));
            let heard = outsider.message();
            outsider.puback(heard.id);
        }
        let [one, two] = &mut members;
        let mut topics = Vec::new();
        for member in [one, two] {
            for _ in 0..2 {
                let heard = member.message();
                member.puback(heard.id);
                topics.push(heard.topic);
            }
            member.silent();
        }
        topics.sort();
        assert_eq!(topics, ["topic/0", "topic/1", "topic/2", "topic/3"]);
        // What a member leaves unacknowledged goes to the other.
        let [mut one, two] = members;
        for n in 4..6 {
            published(&mut mouth, &message(&format!("topic/{n}"), 1));
        }
        let kept = one.message();
        one.puback(kept.id);
        one.silent();
        two.cut();
        assert_ne!(one.message().topic, kept.topic);
    });
    five(|identity| {
        let mut one = connect(identity, true, "one");
        one.subscribe(&[("$share/group/t", 5)]);
        assert_eq!(one.hear(), Heard::Disconnect(0x82));
    });
}

#[test]
fn request_response() {
    five(|identity| {
        // AWS: no Response Information, though it is asked for.
        let asking = Hello {
            properties: number(0x19, 1, 1),
            ..Hello::default()
        };
        let (mut asker, answer) = Raw::connect(identity, true, "asker", &asking);
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(more.text(0x1a), None);
        asker.subscribed("answers", 1);
        let mut answerer = connect(identity, true, "answerer");
        answerer.subscribed("requests", 1);
        let properties = [data(0x08, "answers"), data(0x09, b"\0\xff")].concat();
        asker.publish_with(&message("requests", 0), &properties);
        let heard = answerer.message();
        assert_eq!(heard.more.text(0x08).as_deref(), Some("answers"));
        let correlation = heard.more.0[&0x09][0].clone();
        answerer.publish_with(&message("answers", 0), &data(0x09, correlation));
        assert_eq!(asker.message().more.0[&0x09], [b"\0\xff"]);
    });
}

#[test]
fn will_delay() {
    five(|identity| {
        let mut ears = connect(identity, true, "ears");
        ears.subscribed("w", 1);
        let hello = |delay| Hello {
            clean: false,
            will: Some(gone("w")),
            will_properties: number(0x18, delay, 4),
            properties: number(0x11, 600, 4),
            ..Hello::default()
        };
        let start = Instant::now();
        Raw::connected(identity, true, "late", &hello(2)).cut();
        let heard = ears.message();
        assert!(start.elapsed() >= Duration::from_secs(2));
        ears.puback(heard.id);
        // One that is back before is not given up.
        Raw::connected(identity, true, "back", &hello(3)).cut();
        let back = Raw::connected(identity, true, "back", &hello(3));
        std::thread::sleep(Duration::from_millis(4200));
        ears.silent();
        back.disconnect(0);
    });
}

#[test]
fn subscribe_identifiers() {
    five(|identity| {
        // AWS has none.
        let (mut one, answer) = Raw::connect(identity, true, "one", &Hello::default());
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(more.number(0x29), Some(0));
        one.subscribe_with(&[("t", 1)], b"\x0b\x05");
        assert_eq!(one.hear(), Heard::Disconnect(0xa1));
        assert_eq!(one.hear(), Heard::Closed);
    });
}

#[test]
fn subscribe_options() {
    five(|identity| {
        let (no_local, as_published) = (4, 8);
        let mut one = connect(identity, true, "one");
        let mut two = connect(identity, true, "two");
        one.subscribed("t", 1 | no_local);
        two.subscribed("t", 1 | no_local | as_published);
        one.publish(&Message {
            qos: 0,
            ..retained("t", "m")
        });
        assert!(two.message().retain, "retain as published");
        one.silent();
        two.publish(&Message {
            qos: 0,
            ..retained("t", "n")
        });
        assert!(!one.message().retain);
        two.silent();
        // Retain Handling: always, only for a new subscription, never.
        let mut three = connect(identity, true, "three");
        for (handling, wanted) in [(2 << 4, false), (1 << 4, false), (0, true)] {
            three.subscribed("t", 1 | handling);
            if wanted {
                assert_eq!(three.message().payload, b"n");
            } else {
                three.silent();
            }
        }
        let mut four = connect(identity, true, "four");
        four.subscribed("t", 1 | 1 << 4);
        assert_eq!(four.message().payload, b"n");
    });
}

#[test]
fn assigned_clientid() {
    five(|identity| {
        let kept = Hello {
            properties: number(0x11, 600, 4),
            ..Hello::default()
        };
        let (one, answer) = Raw::connect(identity, true, "", &kept);
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        let id = more.text(0x12).unwrap();
        assert!(!id.is_empty());
        one.disconnect(0);
        // AWS reserves `$` in front for what it makes itself.
        let again = Hello {
            clean: false,
            ..kept
        };
        let (_, answer) = Raw::connect(identity, true, &id, &again);
        assert!(
            matches!(answer, Heard::Connack { code: 0x85, .. }),
            "{answer:?}"
        );
    });
}

#[test]
fn server_topic_alias() {
    five(|identity| {
        let few = Hello {
            properties: number(0x22, 2, 2),
            ..Hello::default()
        };
        let mut one = Raw::connected(identity, true, "one", &few);
        one.subscribed("a/+", 0);
        let mut seen = Vec::new();
        for topic in ["a/1", "a/1", "a/2", "a/3", "a/2"] {
            one.publish(&message(topic, 0));
            let heard = one.message();
            seen.push((heard.topic.clone(), heard.more.number(0x23)));
            assert_eq!(heard.payload, topic.as_bytes());
        }
        let names: Vec<_> = seen
            .iter()
            .map(|(topic, alias)| (&topic[..], *alias))
            .collect();
        let wanted = [
            ("a/1", Some(1)),
            ("", Some(1)),
            ("a/2", Some(2)),
            ("a/3", None),
            ("", Some(2)),
        ];
        assert_eq!(names, wanted);
        // None for a client that takes none.
        let mut two = connect(identity, true, "two");
        two.subscribed("a/+", 0);
        for _ in 0..2 {
            two.publish(&message("a/1", 0));
            assert_eq!(two.message().more.number(0x23), None);
        }
    });
}

#[test]
fn client_topic_alias() {
    five(|identity| {
        let (mut one, answer) = Raw::connect(identity, true, "one", &Hello::default());
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(more.number(0x22), Some(8));
        one.subscribed("a/1", 0);
        let nameless = Message {
            topic: String::new(),
            ..message("a/1", 0)
        };
        one.publish_with(&message("a/1", 0), &number(0x23, 8, 2));
        one.publish_with(&nameless, &number(0x23, 8, 2));
        for _ in 0..2 {
            assert_eq!(one.message().topic, "a/1");
        }
        // Not over its maximum, not zero, and none that stands for nothing.
        for (alias, code) in [(9, 0x94), (0, 0x82), (1, 0x82)] {
            let mut bad = connect(identity, true, "bad");
            bad.publish_with(&nameless, &number(0x23, alias, 2));
            assert_eq!(bad.hear(), Heard::Disconnect(code), "{alias}");
        }
    });
}

#[test]
fn maximum_packet_size() {
    five(|identity| {
        let (mut one, answer) = Raw::connect(identity, true, "one", &Hello::default());
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        let most = usize::try_from(more.number(0x27).unwrap()).unwrap();
        one.publish(&Message {
            payload: vec![b'x'; most],
            ..message("t", 0)
        });
        assert_eq!(one.hear(), Heard::Disconnect(0x97));
        // What is too large for a client is not sent to it.
        let small = Hello {
            properties: number(0x27, 64, 4),
            ..Hello::default()
        };
        let mut two = Raw::connected(identity, true, "two", &small);
        two.subscribed("t", 0);
        two.publish(&Message {
            payload: vec![b'x'; 64],
            ..message("t", 0)
        });
        two.publish(&message("t", 0));
        assert_eq!(two.message().payload, b"t");
    });
    // In MQTT 3.1.1 the connection is closed.
    let (_lab, identity) = lab();
    let mut one = connect(&identity, false, "one");
    one.publish(&Message {
        payload: vec![b'x'; 128 * 1024 + 1],
        ..message("t", 0)
    });
    assert_eq!(one.hear(), Heard::Closed);
}

#[test]
fn server_keep_alive() {
    five(|identity| {
        for (asked, told) in [(0, 1200), (29, 30), (30, 30), (600, 600), (65535, 1200)] {
            let hello = Hello {
                keep_alive: asked,
                ..Hello::default()
            };
            let (_, answer) = Raw::connect(identity, true, "one", &hello);
            let Heard::Connack { code: 0, more, .. } = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(more.number(0x13), Some(told), "{asked}");
        }
    });
}

/// The client's own Receive Maximum.
#[test]
fn flow_control_1() {
    five(|identity| {
        let narrow = Hello {
            properties: number(0x21, 2, 2),
            ..Hello::default()
        };
        let mut ears = Raw::connected(identity, true, "ears", &narrow);
        ears.subscribed("t", 1);
        let mut mouth = connect(identity, true, "mouth");
        for _ in 0..4 {
            published(&mut mouth, &message("t", 1));
        }
        let (one, two) = (ears.message(), ears.message());
        ears.silent();
        ears.puback(one.id);
        let three = ears.message();
        ears.silent();
        ears.puback(two.id);
        ears.puback(three.id);
        ears.message();
    });
}

/// The sandbox's Receive Maximum.
#[test]
fn flow_control_2() {
    five(|identity| {
        let (mut one, answer) = Raw::connect(identity, true, "one", &Hello::default());
        let Heard::Connack { code: 0, more, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(more.number(0x21), Some(100));
        // As many at once as are granted are all answered.
        for _ in 0..100 {
            one.publish(&message("t", 1));
        }
        for _ in 0..100 {
            assert_eq!(one.hear(), ACKED);
        }
    });
}

#[test]
fn payload_format_and_user_properties() {
    five(|identity| {
        let mut one = connect(identity, true, "one");
        one.subscribed("t", 1);
        let sent = [
            number(0x01, 1, 1),
            data(0x03, "text/plain"),
            user("k", "v"),
            user("k", "w"),
        ];
        one.publish_with(&message("t", 0), &sent.concat());
        let heard = one.message();
        assert_eq!(heard.more.number(0x01), Some(1));
        assert_eq!(heard.more.text(0x03).as_deref(), Some("text/plain"));
        let pairs = [user("k", "v"), user("k", "w")].map(|pair| pair[1..].to_vec());
        assert_eq!(heard.more.0[&0x26], pairs);
    });
}

#[test]
fn publication_expiry() {
    five(|identity| {
        let mut ears = Raw::connected(identity, true, "ears", &Hello::kept(true));
        ears.subscribed("t/+", 1);
        ears.disconnect(0);
        let mut mouth = connect(identity, true, "mouth");
        for (topic, seconds) in [("t/1", 1), ("t/60", 60), ("t/week", u32::MAX)] {
            mouth.publish_with(&message(topic, 1), &number(0x02, seconds, 4));
            assert_eq!(mouth.hear(), ACKED);
        }
        std::thread::sleep(Duration::from_millis(2200));
        let mut ears = Raw::connected(identity, true, "ears", &Hello::kept(true));
        let heard = ears.message();
        assert_eq!(heard.topic, "t/60");
        let left = heard.more.number(0x02).unwrap();
        assert!((50..60).contains(&left), "{left}");
        // AWS: at most seven days.
        let left = ears.message().more.number(0x02).unwrap();
        assert!((604_000..=604_800).contains(&left), "{left}");
        ears.silent();
    });
}

#[test]
fn enhanced_authentication_is_not_there() {
    five(|identity| {
        let asking = Hello {
            properties: data(0x15, "SCRAM"),
            ..Hello::default()
        };
        let (mut raw, answer) = Raw::connect(identity, true, "one", &asking);
        assert!(
            matches!(answer, Heard::Connack { code: 0x80, .. }),
            "{answer:?}"
        );
        assert_eq!(raw.hear(), Heard::Closed);
        let mut raw = connect(identity, true, "one");
        raw.send(b"\xf0\0");
        assert_eq!(raw.hear(), Heard::Disconnect(0x82));
    });
}

#[test]
fn a_client_id_is_taken_over() {
    both(|identity, v5| {
        let mut first = connect(identity, v5, "one");
        let mut second = connect(identity, v5, "one");
        if v5 {
            assert_eq!(first.hear(), Heard::Disconnect(0x8e));
        }
        assert_eq!(first.hear(), Heard::Closed);
        second.silent();
    });
}
