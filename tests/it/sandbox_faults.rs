//! What goes wrong on purpose: for each fault what a client sees, what the record says, and that it is
//! over when the fault is.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::raw_mqtt::{Heard, Hello, Identity, Raw};
use crate::sandbox_why::{Lab, rest, wait_for};

impl Lab {
    fn set(&self, fault: &str) {
        self.project.ok(&["sandbox", "fault", "set", fault]);
    }

    fn clear(&self) {
        self.project.ok(&["sandbox", "fault", "clear", "--all"]);
    }

    fn port(&self) -> u16 {
        u16::try_from(self.running()["mqtt_port"].as_u64().unwrap()).unwrap()
    }

    fn identity(&self, name: &str) -> Identity {
        let read = |path: String| std::fs::read(self.project.path(&path)).unwrap();
        Identity {
            port: self.port(),
            ca: read("sandbox/server-ca.pem".into()),
            certificate: read(format!("devices/{name}/device.crt.pem")),
            key: read(format!("devices/{name}/device.key.pem")),
        }
    }

    /// The code that `connect` fails with at its one attempt.
    fn fails(&self, name: &str, flags: &[&str]) -> String {
        let output = self
            .connecting(name, &[&["--attempts", "1"], flags].concat())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{text}");
        let code = text
            .split("error[")
            .nth(1)
            .and_then(|rest| rest.split(']').next());
        code.unwrap_or_else(|| panic!("{text}")).to_owned()
    }
}

/// A sandbox with a device that is known.
fn lab() -> Lab {
    let lab = Lab::new(&[]);
    lab.issue("pump-1", &[]);
    assert!(lab.connect("pump-1", &[]));
    lab
}

#[track_caller]
fn explained(record: &Value, stage: &str, rule: &str) {
    let why = &record["why"];
    assert_eq!(
        (why["stage"].as_str(), why["rule"].as_str()),
        (Some(stage), Some(rule)),
        "{record:#}"
    );
    let remedy = why["remedy"].as_str().unwrap_or_default();
    assert!(!remedy.is_empty(), "{record:#}");
    if let Some(fault) = rule.strip_prefix("fault.") {
        assert!(
            remedy.contains(&format!("fault clear {fault}")),
            "{record:#}"
        );
    }
}

#[test]
fn a_bad_server_certificate_is_refused_by_the_device_and_its_alert_recorded() {
    let lab = lab();
    for (fault, code, alert) in [
        (
            "server-cert-expired",
            "server.expired",
            "certificate_expired",
        ),
        (
            "server-cert-not-yet-valid",
            "server.not-yet-valid",
            "certificate_expired",
        ),
        ("server-cert-wrong-name", "server.name", "bad_certificate"),
        ("server-cert-untrusted", "server.chain", "bad_certificate"),
    ] {
        lab.set(fault);
        let record = lab.refused(|| assert_eq!(lab.fails("pump-1", &[]), code, "{fault}"));
        explained(&record, "tls", "tls.client-alert");
        assert_eq!(record["why"]["alert"], alert, "{fault}: {record:#}");
        lab.clear();
        assert!(lab.connect("pump-1", &["--attempts", "1"]), "after {fault}");
    }
}

#[test]
fn oversized_certificates_and_small_fragments_are_borne() {
    let lab = lab();
    let before = lab.refusals().len();
    for fault in [
        "server-cert-oversized",
        "tls-fragments=64",
        "tls-fragments=16384",
    ] {
        lab.set(fault);
        for v5 in [false, true] {
            Raw::connected(&lab.identity("pump-1"), v5, "pump-1", &Hello::default()).disconnect(0);
        }
        lab.clear();
    }
    assert_eq!(lab.refusals().len(), before);
}

#[test]
fn a_template_that_fails_leaves_the_device_pending_until_the_fault_is_over() {
    let lab = lab();
    lab.issue("pump-2", &[]);
    lab.set("template-fail");
    // A server's error may pass, so that the device tries on.
    let flags = ["--attempts", "3", "--timeout", "30s"];
    let output = lab.connecting("pump-2", &flags).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("error[connect.closed]"), "{text}");
    let refusals = lab.refusals();
    let record = refusals.last().unwrap();
    explained(record, "provisioning", "fault.template-fail");
    assert_eq!(record["reason"], "ProvisionThing.ServerError");
    assert_eq!(record["why"]["template"], "pump");
    let metrics = lab.project.ok(&["sandbox", "status"])["now"]["metrics"].clone();
    assert!(
        metrics["ProvisionThing.ServerError"].as_u64() >= Some(1),
        "{metrics}"
    );
    lab.clear();
    // The next connection runs it again.
    assert!(lab.connect("pump-2", &[]));
}

#[test]
fn a_slow_template_lets_the_device_in_later() {
    let lab = lab();
    lab.issue("pump-2", &[]);
    lab.set("template-delay=2s");
    let start = Instant::now();
    assert!(lab.connect("pump-2", &[]));
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_dropped_connection_is_closed_before_tls() {
    let lab = lab();
    lab.set("connection-drop");
    let record = lab.refused(|| assert_eq!(lab.fails("pump-1", &[]), "dial.closed"));
    explained(&record, "tcp", "fault.connection-drop");
    lab.clear();
    // Of four, one.
    lab.set("connection-drop=25");
    let tries = (0..8).filter(|_| lab.connect("pump-1", &["--attempts", "1"]));
    assert_eq!(tries.count(), 6);
}

#[test]
fn a_half_open_connection_is_never_answered() {
    let lab = lab();
    lab.set("connection-half-open");
    let record = lab.refused(|| {
        let code = lab.fails("pump-1", &["--timeout", "2s"]);
        assert_eq!(code, "dial.timeout");
    });
    explained(&record, "tcp", "fault.connection-half-open");
    assert!(record["sourcePort"].is_u64(), "{record:#}");
    // Not a byte, and not closed either.
    let mut tcp = TcpStream::connect(("127.0.0.1", lab.port())).unwrap();
    tcp.set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    std::io::Write::write_all(&mut tcp, b"\x16\x03\x01\0\x05hello").unwrap();
    assert!(tcp.read(&mut [0; 1]).is_err(), "it was answered or closed");
    lab.clear();
    assert!(lab.connect("pump-1", &["--attempts", "1"]));
}

#[test]
fn a_delayed_connection_is_answered_late() {
    let lab = lab();
    lab.set("connection-delay=700ms");
    let start = Instant::now();
    Raw::connected(&lab.identity("pump-1"), true, "pump-1", &Hello::default()).disconnect(0);
    assert!(
        start.elapsed() >= Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_cut_connection_breaks_off_and_is_recorded_as_lost() {
    let lab = lab();
    lab.set("connection-cut=500ms");
    for v5 in [false, true] {
        let mut raw = Raw::connected(&lab.identity("pump-1"), v5, "pump-1", &Hello::default());
        // No goodbye from either side.
        assert_eq!(raw.hear(), Heard::Closed);
    }
    let output = lab.project.run(&["--format", "ndjson", "sandbox", "logs"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lost = text.lines().filter(|line| line.contains("CONNECTION_LOST"));
    assert_eq!(lost.count(), 2, "{text}");
    lab.clear();
    let status = || lab.project.ok(&["sandbox", "status"])["now"]["connections"].clone();
    wait_for("nobody is connected", || {
        status().as_array().unwrap().is_empty()
    });
}

#[test]
fn throttled_connects_are_refused_and_counted() {
    let lab = lab();
    lab.set("connect-throttle=0");
    for v5 in [false, true] {
        let record = lab.refused(|| {
            let pump = lab.identity("pump-1");
            let (_, answer) = Raw::connect(&pump, v5, "pump-1", &Hello::default());
            assert_eq!(answer, Heard::Closed);
        });
        explained(&record, "connect", "fault.connect-throttle");
        assert_eq!(record["clientId"], "pump-1");
    }
    lab.clear();
    let metrics = lab.project.ok(&["sandbox", "status"])["now"]["metrics"].clone();
    assert_eq!(metrics["Connect.Throttle"], 2, "{metrics}");
    assert!(lab.connect("pump-1", &["--attempts", "1"]));
}

#[test]
fn the_control_plane_is_throttled_and_slow() {
    let lab = lab();
    lab.set("rest-throttle=0");
    for (path, status) in [("/things", 400), ("/retainedMessage", 429)] {
        let record = lab.refused(|| {
            let (said, answer) = rest(&lab, "GET", path, "");
            assert_eq!(said, status);
            assert!(
                answer.contains("x-amzn-errortype: ThrottlingException"),
                "{answer}"
            );
        });
        explained(&record, "rest", "fault.rest-throttle");
    }
    lab.clear();
    lab.set("rest-delay=600ms");
    let start = Instant::now();
    assert_eq!(rest(&lab, "GET", "/things", "").0, 200);
    assert!(
        start.elapsed() >= Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
    lab.clear();
    let start = Instant::now();
    assert_eq!(rest(&lab, "GET", "/things", "").0, 200);
    assert!(
        start.elapsed() < Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
}
