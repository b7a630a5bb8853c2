//! `connect` against the sandbox and mosquitto, in MQTT 3.1.1 and 5: what is tried over the
//! connection, and each no explained.

use std::fs;
use std::time::Duration;

use crate::device_lab::{Lab, nameplate};
use crate::fleet_lab::{FleetLab, error_of};

const OPEN: &str = r#"{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"PLACE:client/pump-1"},
 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"PLACE:topic/open/*"},
 {"Effect":"Allow","Action":"iot:Publish","Resource":"PLACE:topic/deaf/*"},
 {"Effect":"Allow","Action":"iot:Subscribe","Resource":["PLACE:topicfilter/open/*",
  "PLACE:topicfilter/deaf/*"]}]}"#;

fn lab() -> (FleetLab, String) {
    let lab = FleetLab::new();
    lab.policy("open", OPEN);
    let identity = lab.identity("pump", &["open"]);
    (lab, identity)
}

#[test]
fn a_probe_is_subscribed_published_and_received_in_both_versions() {
    let (lab, identity) = lab();
    for (version, name) in [("3", "MQTT 3.1.1"), ("5", "MQTT 5"), ("auto", "MQTT 5")] {
        let said = lab.run(&[
            "connect",
            "--identity",
            &identity,
            "--client-id",
            "pump-1",
            "--mqtt",
            version,
            "--probe-topic",
            "open/{client-id}",
            "--probe-subscribe",
            "open/other",
            "--probe-publish",
            "deaf/x",
        ]);
        assert_eq!(said.code, 0, "{said}");
        let json = said.json();
        assert_eq!(json["protocol"], name);
        assert_eq!(json["probes"][0]["topic"], "open/pump-1");
        for step in ["subscribed", "published", "received"] {
            assert_eq!(json["probes"][0][step], true, "{said}");
        }
        assert_eq!(json["probes"][1]["published"], serde_json::Value::Null);
        assert_eq!(json["probes"][2]["published"], true);
    }
}

#[test]
fn each_no_to_a_probe_is_told_as_a_client_sees_it_and_the_others_are_still_tried() {
    let (lab, identity) = lab();
    for (version, subscribe, publish) in [
        (
            "3",
            "answered by closing the connection",
            "answered by closing the connection",
        ),
        (
            "5",
            "refused with 0x87: not authorised",
            "refused with 0x87: not authorised",
        ),
    ] {
        let said = lab.run(&[
            "connect",
            "--identity",
            &identity,
            "--client-id",
            "pump-1",
            "--mqtt",
            version,
            "--probe-topic",
            "closed/x",
            "--probe-publish",
            "closed/y",
            "--probe-subscribe",
            "open/z",
        ]);
        assert_eq!(said.code, 1, "{said}");
        let json = said.json();
        let probes = json["probes"].as_array().unwrap();
        let of = |topic: &str| probes.iter().find(|probe| probe["topic"] == topic).unwrap();
        let fault = |topic: &str| of(topic)["fault"].as_str().unwrap_or("").to_owned();
        assert!(fault("closed/x").contains(subscribe), "{said}");
        assert!(fault("closed/y").contains(publish), "{said}");
        assert_eq!(of("open/z")["subscribed"], true, "{said}");
    }
}

#[test]
fn a_client_id_that_the_policy_does_not_allow_is_explained_by_the_server() {
    let (lab, identity) = lab();
    for (version, code, seen) in [
        ("3", "connect.closed", "closed before CONNACK"),
        ("5", "connect.refused", "CONNACK code 0x87: not authorised"),
    ] {
        let said = lab.run(&[
            "connect",
            "--identity",
            &identity,
            "--client-id",
            "pump-2",
            "--mqtt",
            version,
            "--attempts",
            "1",
        ]);
        assert_eq!(said.code, 1, "{said}");
        let error = error_of(&said);
        assert_eq!(error["error"], code);
        let because = error["because"].to_string();
        assert!(because.contains(seen), "{said}");
        assert!(because.contains("iot:Connect on"), "{said}");
        // In MQTT 5 the sandbox says it to the client's face; it is not repeated.
        assert_eq!(
            because.contains("policy.implicit-deny"),
            version == "3",
            "{said}"
        );
        assert!(
            error["hint"].as_str().unwrap().contains("Allow statement"),
            "{said}"
        );
    }
}

#[test]
fn until_thing_usable_waits_for_the_policy_to_allow_the_things_own_topics() {
    let (lab, identity) = lab();
    let connect = [
        "connect",
        "--identity",
        &identity,
        "--client-id",
        "pump-1",
        "--until",
        "thing-usable",
        "--backoff-max",
        "1s",
    ];
    let said = lab.run(&[&connect[..], &["--timeout", "2s"]].concat());
    assert_eq!(said.code, 1, "{said}");
    let error = error_of(&said);
    assert_eq!(error["error"], "connect.subscribe");
    let because = error["because"].to_string();
    assert!(
        because.contains("subscribing to `devices/pump-1/probe` was refused with 0x87"),
        "{said}"
    );
    let wider = OPEN.replace("open/*", "devices/*");
    let said = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lab.run(&[&connect[..], &["--timeout", "30s"]].concat()));
        std::thread::sleep(Duration::from_secs(1));
        lab.policy("open", &wider);
        waiting.join().unwrap()
    });
    assert_eq!(said.code, 0, "{said}");
    assert!(said.json()["attempts"].as_u64().unwrap() > 1, "{said}");
    assert_eq!(said.json()["probes"][0]["received"], true);
}

#[test]
fn port_443s_way_in_is_taken_by_alpn_and_a_second_region_when_the_first_is_away() {
    let (lab, identity) = lab();
    let https = lab.https_endpoint();
    let connect = ["connect", "--identity", &identity, "--client-id", "pump-1"];
    let said = lab.run(&[&connect[..], &["--endpoint", &https, "--alpn"]].concat());
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["alpn"], "x-amzn-mqtt-ca");
    let away = format!("localhost:{}", crate::device_lab::free_port());
    let both = format!("{away},{}", lab.endpoint());
    let said = lab.run(&[&connect[..], &["--endpoint", &both]].concat());
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["endpoint"], lab.endpoint());
    assert_eq!(said.json()["attempts"], 1);
    let said = lab.run(&[&connect[..], &["--endpoint", &away, "--attempts", "1"]].concat());
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (4, &"dial.refused".into())
    );
}

#[test]
fn a_takeover_is_told_with_its_reason() {
    let (lab, identity) = lab();
    let connect = ["connect", "--identity", &identity, "--client-id", "pump-1"];
    let mut held = lab.command(&[&connect[..], &["--hold", "30s"]].concat());
    let held = held.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(lab.run(&connect).code, 0);
    let held: crate::device_lab::Said = held.wait_with_output().unwrap().into();
    assert_eq!(held.code, 1, "{held}");
    assert!(
        held.stdout
            .contains("DISCONNECT 0x8e: another connection took the client id over"),
        "{held}"
    );
}

/// A broker nobody here wrote, with an access list.
#[test]
fn mosquitto_grants_and_refuses_probes_in_both_versions() {
    let lab = Lab::new();
    let identity = lab.good();
    fs::write(lab.path("acl"), "user pump-1\ntopic readwrite open/#\n").unwrap();
    let broker = lab.mosquitto_with(&format!("acl_file {}\n", lab.text("acl")));
    let (endpoint, ca) = (format!("localhost:{}", broker.port), lab.text("ca.pem"));
    let connect = |version: &str, topic: &str| {
        let mut args = vec!["connect", "--format", "json", "--identity", &identity];
        args.extend(["--endpoint", &endpoint, "--server-ca", &ca]);
        args.extend(["--mqtt", version, "--probe-topic", topic]);
        args.extend(["--timeout", "3s"]);
        nameplate(None, &args)
    };
    for (version, no) in [
        // It takes the subscription and, in 3.1.1, the message, and hands nothing back.
        ("3", "receiving from `closed/x` was not answered in time"),
        (
            "5",
            "publishing to `closed/x` was refused with 0x87: not authorised",
        ),
    ] {
        let said = connect(version, "open/x");
        assert_eq!(said.code, 0, "{said}");
        assert_eq!(said.json()["probes"][0]["received"], true);
        let said = connect(version, "closed/x");
        assert_eq!(said.code, 1, "{said}");
        let fault = said.json()["probes"][0]["fault"].to_string();
        assert!(fault.contains(no), "{said}");
    }
}
