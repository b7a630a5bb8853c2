//! AWS IoT's rates as clients of MQTT 3.1.1 and 5 meet them with `--quotas aws`.

use std::time::{Duration, Instant};

use crate::raw_mqtt::{Heard, Hello, Identity, Message, Raw};
use crate::sandbox_why::Lab;

fn lab() -> (Lab, Identity) {
    let lab = Lab::new(&["--quotas", "aws"]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    let read = |path: &str| std::fs::read(lab.project.path(path)).unwrap();
    let identity = Identity {
        port: u16::try_from(lab.running()["mqtt_port"].as_u64().unwrap()).unwrap(),
        ca: read("sandbox/server-ca.pem"),
        certificate: read("devices/pump-1/device.crt.pem"),
        key: read("devices/pump-1/device.key.pem"),
    };
    (lab, identity)
}

fn message(payload: Vec<u8>) -> Message {
    Message {
        topic: "devices/pump-1/t".into(),
        payload,
        qos: 1,
        id: 7,
        ..Message::default()
    }
}

/// Connects when its second is there.
fn patiently(identity: &Identity, v5: bool) -> Raw {
    loop {
        let (raw, answer) = Raw::connect(identity, v5, "pump-1", &Hello::default());
        if matches!(answer, Heard::Connack { code: 0, .. }) {
            return raw;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_client_id_that_connects_too_often_is_told_in_mqtt_5_and_closed_in_3() {
    let (lab, pump) = lab();
    for v5 in [false, true] {
        let mut first = patiently(&pump, v5);
        let before = lab.refusals().len();
        let (mut raw, answer) = Raw::connect(&pump, v5, "pump-1", &Hello::default());
        if v5 {
            assert!(
                matches!(answer, Heard::Connack { code: 0x97, .. }),
                "{answer:?}"
            );
            assert_eq!(raw.hear(), Heard::Closed);
        } else {
            assert_eq!(answer, Heard::Closed);
        }
        // The connection that is there is not taken over.
        first.silent();
        let record = lab.refusals().split_off(before).remove(0);
        assert_eq!(
            record["why"]["rule"], "quota.connect-client-id",
            "{record:#}"
        );
        assert_eq!(
            (&record["why"]["stage"], &record["clientId"]),
            (&"connect".into(), &"pump-1".into())
        );
        assert!(record["why"]["remedy"].as_str().unwrap().contains("jitter"));
        first.disconnect(0);
    }
    let metrics = lab.project.ok(&["sandbox", "status"])["now"]["metrics"].clone();
    assert!(
        metrics["Connect.ClientIDThrottle"].as_u64() >= Some(2),
        "{metrics}"
    );
}

#[test]
fn publishes_over_a_hundred_a_second_are_discarded() {
    let (lab, pump) = lab();
    for v5 in [false, true] {
        let mut raw = patiently(&pump, v5);
        // Together, so that none of them has a second of its own.
        for _ in 0..3 {
            for _ in 0..100 {
                raw.publish(&message(b"m".to_vec()));
            }
        }
        let (mut taken, mut refused) = (0, 0);
        raw.ping();
        loop {
            match raw.hear() {
                Heard::Puback { code: 0, .. } => taken += 1,
                Heard::Puback { code: 0x97, .. } => refused += 1,
                Heard::Pingresp | Heard::Disconnect(0x93) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!((100..300).contains(&taken), "{taken}");
        assert!(v5 || refused == 0, "{refused}");
    }
    let refusals = lab.refusals();
    let over = refusals
        .iter()
        .filter(|one| one["why"]["rule"] == "quota.publish");
    assert!(over.clone().count() > 0);
    for record in over {
        assert_eq!(record["reason"], "THROTTLED");
        assert_eq!(record["topicName"], "devices/pump-1/t");
        assert!(record["why"]["subject"].is_string() && record["why"]["remedy"].is_string());
    }
    let metrics = lab.project.ok(&["sandbox", "status"])["now"]["metrics"].clone();
    assert!(
        metrics["PublishIn.Throttle"].as_u64() > Some(0),
        "{metrics}"
    );
}

#[test]
fn half_a_mebibyte_a_second_passes_and_no_more() {
    let (_lab, pump) = lab();
    let mut raw = patiently(&pump, true);
    let start = Instant::now();
    for _ in 0..16 {
        raw.publish(&message(vec![b'x'; 96 * 1024]));
        assert_eq!(raw.hear(), Heard::Puback { id: 7, code: 0 });
    }
    // The first second's share is there at once.
    let least = Duration::from_millis(1900);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
}
