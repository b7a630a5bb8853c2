//! Nobody gets in who should not, whatever MQTT they speak, and each refusal is one record that says
//! who it was, from where, how far they came, by which rule they were refused and what mends it.

use serde_json::{Value, json};

use crate::project::Project;
use crate::raw_mqtt::{Heard, Hello, Identity, Message, Raw};
use crate::sandbox_why::{Lab, rest};

const ROLE: &str = "arn:aws:iam::123456789012:role/Provisioning";

/// The identity in a device's folder as it is.
fn identity(lab: &Lab, name: &str) -> Identity {
    let read = |path: String| std::fs::read(lab.project.path(&path)).unwrap();
    Identity {
        port: u16::try_from(lab.running()["mqtt_port"].as_u64().unwrap()).unwrap(),
        ca: read("sandbox/server-ca.pem".into()),
        certificate: read(format!("devices/{name}/device.crt.pem")),
        key: read(format!("devices/{name}/device.key.pem")),
    }
}

/// A refusal is explained: by this rule at this stage, with a remedy, and with who it was.
#[track_caller]
fn explained(record: &Value, stage: &str, rule: &str) {
    let why = &record["why"];
    assert_eq!(
        (&why["stage"], &why["rule"]),
        (&json!(stage), &json!(rule)),
        "{record:#}"
    );
    assert!(
        !why["remedy"].as_str().unwrap_or_default().is_empty(),
        "{record:#}"
    );
    assert!(
        record["sourcePort"].is_u64() && record["sourceIp"] == "127.0.0.1",
        "{record:#}"
    );
    assert_eq!(
        record["principalId"].as_str().unwrap().len(),
        64,
        "{record:#}"
    );
    assert!(
        why["subject"].is_string() && why["issuer"].is_string(),
        "{record:#}"
    );
}

/// Connects, and is refused: in MQTT 3.1.1 always in silence.
#[track_caller]
fn turned_away(lab: &Lab, identity: &Identity, (v5, id): (bool, &str), told: Heard) -> Value {
    lab.refused(|| {
        let (mut raw, answer) = Raw::connect(identity, v5, id, &Hello::default());
        if v5 && told != Heard::Closed {
            let (Heard::Connack { code: said, .. }, Heard::Connack { code, .. }) = (&answer, &told)
            else {
                panic!("{answer:?}")
            };
            assert_eq!(said, code);
            assert_eq!(raw.hear(), Heard::Closed);
        } else {
            assert_eq!(answer, Heard::Closed);
        }
    })
}

fn connack(code: u8) -> Heard {
    let more = crate::raw_mqtt::Props::default();
    Heard::Connack {
        present: false,
        code,
        more,
    }
}

#[test]
fn a_wrong_certificate_is_refused_and_explained_in_both_versions() {
    let lab = Lab::new(&[]);
    for (n, (flaw, stage, rule)) in [
        ("wrong-ca", "registration", "connect.unknown-ca"),
        ("bad-signature", "registration", "connect.broken-signature"),
        ("expired", "certificate", "connect.expired"),
        ("not-yet-valid", "certificate", "connect.not-yet-valid"),
        ("wrong-eku", "certificate", "connect.purpose"),
        ("v1", "tls", "connect.version"),
        ("wrong-key", "tls", "tls.proof-of-possession"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("bad-{n}");
        lab.issue(&name, &["--flaw", flaw]);
        for v5 in [false, true] {
            let record = turned_away(&lab, &identity(&lab, &name), (v5, &name), Heard::Closed);
            explained(&record, stage, rule);
            assert!(
                record["why"]["subject"].as_str().unwrap().contains(&name),
                "{record:#}"
            );
            // Before TLS is done nobody has said a client id.
            assert_eq!(
                record["clientId"].as_str(),
                (stage != "tls").then_some(&name[..])
            );
        }
    }
    // A CA of the registered one's name, with another key.
    let other = Project::new();
    other.ok(&["ca", "create", "factory", "--unencrypted"]);
    other.ok(&["device", "issue", "thief"]);
    let mut thief = identity(&lab, "bad-0");
    thief.certificate = std::fs::read(other.path("devices/thief/device.crt.pem")).unwrap();
    thief.key = std::fs::read(other.path("devices/thief/device.key.pem")).unwrap();
    for v5 in [false, true] {
        let record = turned_away(&lab, &thief, (v5, "thief"), Heard::Closed);
        explained(&record, "registration", "connect.signature");
    }
    // None of them is known now.
    assert!(
        lab.project.ok(&["sandbox", "status"])["things"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let status = lab.project.ok(&["sandbox", "status"]);
    assert_eq!(status["now"]["metrics"]["Connect.AuthError"], 16);
    assert!(
        status["now"]["metrics"].get("Connect.Success").is_none(),
        "{status:#}"
    );
}

#[test]
fn anothers_name_wildcards_and_reserved_topics_are_refused_in_both_versions() {
    let lab = Lab::new(&[]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    let pump = identity(&lab, "pump-1");
    for v5 in [false, true] {
        for id in ["pump-2", "*", "+", "#", "pump-+", "pump-*", "PUMP-1"] {
            let record = turned_away(&lab, &pump, (v5, id), connack(0x87));
            explained(&record, "connect", "policy.unresolved-variable");
            assert_eq!(record["clientId"], id);
            assert_eq!(record["why"]["policies"][0], "nameplate-device:1");
            assert_eq!(
                record["why"]["unresolved"][0],
                "iot:Connection.Thing.ThingName"
            );
        }
        let record = turned_away(&lab, &pump, (v5, "$pump-1"), connack(0x85));
        explained(&record, "connect", "mqtt.limit");
        for (topic, rule) in [
            ("$aws/events/presence/connected/pump-1", "mqtt.limit"),
            ("$aws/certificates/create/json/accepted", "mqtt.limit"),
            ("$SYS/broker", "mqtt.limit"),
            ("$mine", "mqtt.limit"),
            ("$aws/things/pump-2/shadow/update", "policy.implicit-deny"),
            ("devices/pump-2/t", "policy.implicit-deny"),
        ] {
            let code = if rule == "mqtt.limit" { 0x90 } else { 0x87 };
            let record = lab.refused(|| {
                let mut raw = Raw::connected(&pump, v5, "pump-1", &Hello::default());
                let (topic, payload) = (topic.to_owned(), b"m".to_vec());
                raw.publish(&Message {
                    topic,
                    payload,
                    qos: 1,
                    id: 7,
                    ..Message::default()
                });
                if v5 {
                    assert_eq!(raw.hear(), Heard::Puback { id: 7, code });
                } else {
                    assert_eq!(raw.hear(), Heard::Closed);
                }
            });
            explained(&record, "publish", rule);
            assert_eq!(record["topicName"], topic);
        }
        for (filter, rule, code) in [
            ("$SYS/#", "mqtt.limit", 0x8f),
            ("$aws/rules/#", "mqtt.limit", 0x8f),
            ("#", "policy.implicit-deny", 0x87),
            ("devices/+/t", "policy.implicit-deny", 0x87),
            ("$aws/events/#", "policy.implicit-deny", 0x87),
            ("$share/g/devices/pump-2/t", "policy.implicit-deny", 0x87),
        ] {
            let record = lab.refused(|| {
                let mut raw = Raw::connected(&pump, v5, "pump-1", &Hello::default());
                raw.subscribe(&[(filter, 1)]);
                if v5 {
                    let codes = vec![code];
                    assert_eq!(raw.hear(), Heard::Suback { id: 11, codes });
                } else {
                    assert_eq!(raw.hear(), Heard::Closed);
                }
            });
            explained(&record, "subscribe", rule);
            assert_eq!(record["topicName"], filter);
        }
        // A will is a publish, too.
        let record = lab.refused(|| {
            let topic = "devices/pump-2/t".to_owned();
            let will = Some(Message {
                topic,
                qos: 1,
                ..Message::default()
            });
            let hello = Hello {
                will,
                ..Hello::default()
            };
            let (_, answer) = Raw::connect(&pump, v5, "pump-1", &hello);
            assert!(matches!(
                (v5, answer),
                (true, Heard::Connack { code: 0x87, .. }) | (false, Heard::Closed)
            ));
        });
        explained(&record, "will", "policy.implicit-deny");
    }
}

#[test]
fn a_certificate_that_was_deactivated_or_revoked_is_refused_in_both_versions() {
    let lab = Lab::new(&[]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    let pump = identity(&lab, "pump-1");
    let certificates = rest(&lab, "GET", "/certificates", "").1;
    let id = certificates.split("\"certificateId\":\"").nth(1).unwrap()[..64].to_owned();
    for status in ["INACTIVE", "ACTIVE", "REVOKED"] {
        let connect = || Raw::connected(&pump, true, "pump-1", &Hello::default());
        let connected = (status != "ACTIVE").then(connect);
        let path = format!("/certificates/{id}?newStatus={status}");
        assert_eq!(rest(&lab, "PUT", &path, "").0, 200);
        // Who is connected is put out; MQTT 5 is told why.
        if let Some(mut raw) = connected {
            assert_eq!(raw.hear(), Heard::Disconnect(0x87));
            assert_eq!(raw.hear(), Heard::Closed);
        }
        if status == "ACTIVE" {
            continue;
        }
        for v5 in [false, true] {
            let record = turned_away(&lab, &pump, (v5, "pump-1"), Heard::Closed);
            explained(&record, "certificate", "connect.status");
            assert!(
                record["details"].as_str().unwrap().contains(status),
                "{record:#}"
            );
        }
    }
}

/// The JSON that a request to the control plane was answered with.
#[track_caller]
fn asked(lab: &Lab, path: &str, body: &Value) -> Value {
    let (status, answer) = rest(lab, "POST", path, &body.to_string());
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

/// Asks a service, and shows whether it accepted and what it answered.
fn ask(raw: &mut Raw, topic: &str, body: &Value) -> (bool, Value) {
    let answers: Vec<String> = ["accepted", "rejected"]
        .map(|end| format!("{topic}/{end}"))
        .into();
    for filter in &answers {
        raw.subscribed(filter, 1);
    }
    let (payload, topic) = (body.to_string().into_bytes(), topic.to_owned());
    raw.publish(&Message {
        topic,
        payload,
        qos: 1,
        id: 7,
        ..Message::default()
    });
    loop {
        if let Heard::Publish(message) = raw.hear() {
            raw.puback(message.id);
            let body = serde_json::from_slice(&message.payload).unwrap();
            return (message.topic == answers[0], body);
        }
    }
}

#[test]
fn an_ownership_token_is_no_use_twice_in_both_versions() {
    let lab = Lab::new(&[]);
    let template = json!({
        "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "nameplate-device"}}
        }
    });
    let made = json!({
        "templateName": "fleet", "templateBody": template.to_string(), "provisioningRoleArn": ROLE,
        "enabled": true
    });
    asked(&lab, "/provisioning-templates", &made);
    for v5 in [false, true] {
        let claim = asked(
            &lab,
            "/provisioning-templates/fleet/provisioning-claim",
            &json!({}),
        );
        let text = |value: &Value| value.as_str().unwrap().as_bytes().to_vec();
        let claimant = Identity {
            port: u16::try_from(lab.running()["mqtt_port"].as_u64().unwrap()).unwrap(),
            ca: std::fs::read(lab.project.path("sandbox/server-ca.pem")).unwrap(),
            certificate: text(&claim["certificatePem"]),
            key: text(&claim["keyPair"]["PrivateKey"]),
        };
        let mut raw = Raw::connected(&claimant, v5, "claimant", &Hello::default());
        let (accepted, keys) = ask(&mut raw, "$aws/certificates/create/json", &json!({}));
        assert!(accepted, "{keys}");
        let provision = "$aws/provisioning-templates/fleet/provision/json";
        let serial = if v5 { "fleet-5" } else { "fleet-3" };
        let body = |serial: &str| {
            json!({
                "certificateOwnershipToken": keys["certificateOwnershipToken"],
                "parameters": {"SerialNumber": serial}
            })
        };
        let (accepted, done) = ask(&mut raw, provision, &body(serial));
        assert!(accepted && done["thingName"] == serial, "{done}");
        // Once more, for another thing; and one that was never given.
        let forged = json!({"certificateOwnershipToken": "x", "parameters": {"SerialNumber": "y"}});
        for body in [body("stolen"), forged] {
            let record = lab.refused(|| {
                let (accepted, answer) = ask(&mut raw, provision, &body);
                assert!(!accepted, "{answer}");
                assert_eq!(answer["errorCode"], "InvalidCertificateOwnershipToken");
                assert_eq!(answer["statusCode"], 400);
            });
            explained(
                &record,
                "provisioning",
                "fleet.InvalidCertificateOwnershipToken",
            );
            assert_eq!(
                (&record["clientId"], &record["why"]["template"]),
                (&json!("claimant"), &json!("fleet"))
            );
        }
        // What the template cannot be run with is named.
        let (_, keys) = ask(&mut raw, "$aws/certificates/create/json", &json!({}));
        let body = json!({"certificateOwnershipToken": keys["certificateOwnershipToken"], "parameters": {}});
        let record = lab.refused(|| assert!(!ask(&mut raw, provision, &body).0));
        assert_eq!(record["why"]["parameter"], "SerialNumber", "{record:#}");
    }
    let status = lab.project.ok(&["sandbox", "status"]);
    assert_eq!(status["things"], json!(["fleet-3", "fleet-5"]));
    let metrics = &status["now"]["metrics"];
    assert_eq!(metrics["ProvisionThing.Success"], 2, "{metrics}");
    assert_eq!(metrics["ProvisionThing.ClientError"], 6, "{metrics}");
}

/// Policies of a thing's groups count, and the record names them.
#[test]
fn a_group_gives_its_things_rights_and_takes_them_away() {
    let lab = Lab::new(&[]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    let pump = identity(&lab, "pump-1");
    let put = |method: &str, path: &str, body: Value| {
        let (status, answer) = rest(&lab, method, path, &body.to_string());
        assert_eq!(status, 200, "{answer}");
    };
    let document = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish",
        "Resource":"arn:aws:iot:us-east-1:123456789012:topic/hall/+"},{"Effect":"Allow",
        "Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:123456789012:topic/hall/temperature"}]}"#;
    put("POST", "/thing-groups/hall", json!({}));
    put(
        "POST",
        "/policies/hall",
        json!({"policyDocument": document}),
    );
    let member = json!({"thingGroupName": "hall", "thingName": "pump-1"});
    put("PUT", "/thing-groups/addThingToThingGroup", member.clone());
    let target = json!({"target": "arn:aws:iot:us-east-1:123456789012:thinggroup/hall"});
    for v5 in [false, true] {
        let publish = |allowed: bool| {
            let mut raw = Raw::connected(&pump, v5, "pump-1", &Hello::default());
            let (topic, payload) = ("hall/temperature".to_owned(), b"21".to_vec());
            raw.publish(&Message {
                topic,
                payload,
                qos: 1,
                id: 7,
                ..Message::default()
            });
            match (allowed, v5) {
                (true, _) => assert_eq!(raw.hear(), Heard::Puback { id: 7, code: 0 }),
                (false, true) => assert_eq!(raw.hear(), Heard::Puback { id: 7, code: 0x87 }),
                (false, false) => assert_eq!(raw.hear(), Heard::Closed),
            }
        };
        let record = lab.refused(|| publish(false));
        explained(&record, "publish", "policy.implicit-deny");
        assert_eq!(record["why"]["policies"], json!(["nameplate-device:1"]));
        put("PUT", "/target-policies/hall", target.clone());
        publish(true);
        // It holds for other topics alone.
        let record = lab.refused(|| {
            let mut raw = Raw::connected(&pump, v5, "pump-1", &Hello::default());
            let (topic, payload) = ("hall/other/t".to_owned(), b"21".to_vec());
            raw.publish(&Message {
                topic,
                payload,
                qos: 1,
                id: 7,
                ..Message::default()
            });
            raw.hear();
        });
        assert_eq!(
            record["why"]["policies"],
            json!(["nameplate-device:1", "hall:1"])
        );
        put("POST", "/target-policies/hall", target.clone());
    }
}
