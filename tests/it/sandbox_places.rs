//! Two accounts in two Regions each in one sandbox: every place has its own MQTT endpoint, chosen by
//! the TLS server name or by a port of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::sandbox_mqtt::wait_for;
use crate::sandbox_rest::command;
use crate::sandbox_why::Lab;

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(state: &Path) -> (Served, Value) {
    let child = Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args([
            "sandbox",
            "serve",
            "--control",
            "127.0.0.1:0",
            "--mqtt",
            "127.0.0.1:0",
        ])
        .args([
            "--place",
            "222222222222/us-east-1=127.0.0.1:0",
            "--jitp-delay",
            "0s",
        ])
        .arg("--state")
        .arg(state)
        .env("NAMEPLATE_REGION", "eu-west-1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Served(child);
    let mut info = Value::Null;
    wait_for("the sandbox listens", || {
        let text = std::fs::read_to_string(state.join("running.json")).unwrap_or_default();
        info = serde_json::from_str(&text).unwrap_or_default();
        info["pid"] == child.0.id()
    });
    (child, info)
}

#[test]
fn every_account_and_region_has_its_own_devices_and_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // The second time nobody has called the other places before their devices come.
    for what in ["set-up", "again"] {
        let (_served, info) = serve(&state);
        let url = info["control_url"].as_str().unwrap();
        let place = &info["places"][0];
        assert_eq!(
            (place["account"].as_str(), place["region"].as_str()),
            (Some("222222222222"), Some("us-east-1"))
        );
        let output = command("python3", url)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/places.py"))
            .args([
                what,
                url,
                &info["mqtt_port"].to_string(),
                &place["mqtt_port"].to_string(),
            ])
            .args([state.join("server-ca.pem").as_path(), folder.path()])
            .output()
            .unwrap();
        let log = std::fs::read_to_string(state.join("logs.ndjson")).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}: {stderr}\n{log}");
        assert_eq!(output.stdout, b"ok\n", "{what}");
        // Which place refused is in the record, where it is not the sandbox's own.
        let why = log.lines().filter_map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            Some((
                record["why"].get("place")?.clone(),
                record["why"]["rule"].clone(),
            ))
        });
        let of = why.filter(|(place, _)| place == "222222222222/eu-west-1");
        assert!(
            of.map(|(_, rule)| rule)
                .any(|rule| rule == "connect.unknown-ca")
        );
    }
}

#[test]
fn a_place_that_is_not_one_is_told() {
    for (place, part) in [
        ("here", "is not ACCOUNT/REGION=ADDR:PORT"),
        ("12/us-east-1=127.0.0.1:0", "AWS account id"),
        (
            "222222222222/us-east-1=nowhere",
            "is not ACCOUNT/REGION=ADDR:PORT",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_nameplate"))
            .args(["sandbox", "serve", "--ephemeral", "--place", place])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{place}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(part), "{text}");
    }
}

/// The command line's own way to another Region of a running sandbox: `--region`, and the name that
/// leads there.
#[test]
fn a_region_is_chosen_by_its_flag_and_connected_to_by_its_name() {
    let lab = Lab::new(&[]);
    let there = |args: &[&str]| {
        lab.project
            .ok(&[&["--region", "eu-central-1"], args].concat())
    };
    // A policy names its Region.
    for file in ["jitp.json", "jitp-policy.json"] {
        std::fs::remove_file(lab.project.path(file)).unwrap();
    }
    there(&["template", "new", "jitp"]);
    let register = ["template", "register", "jitp.json", "--name", "pump"];
    there(&[&register[..], &["--policy", "jitp-policy.json"]].concat());
    let registered = there(&["ca", "register", "factory", "--template", "pump"]);
    assert_eq!(
        registered["target"]["region"], "eu-central-1",
        "{registered:#}"
    );
    lab.issue("pump-1", &[]);
    let port = &lab.running()["mqtt_port"];
    let endpoint = format!("123456789012-ats.iot.eu-central-1.localhost:{port}");
    let connect = |endpoint: &str, attempts: &str| {
        let mut command = lab
            .project
            .command(&["connect", "--identity", "devices/pump-1"]);
        command.args([
            "--server-ca",
            "sandbox/server-ca.pem",
            "--attempts",
            attempts,
        ]);
        command.args(["--endpoint", endpoint]);
        command.output().unwrap().status.success()
    };
    assert!(connect(&endpoint, "20"));
    // The sandbox's own Region has not heard of it; its first connect makes it another thing there.
    let status = lab.project.ok(&["sandbox", "status"]);
    assert!(
        status["things"].as_array().unwrap().is_empty(),
        "{status:#}"
    );
    assert!(!connect(&lab.endpoint(), "1"));
    assert!(connect(&lab.endpoint(), "20"));
    // One that nobody has called is not there, and the record says how it comes to be.
    let record = lab.refused(|| {
        assert!(!connect(&endpoint.replace("central", "north"), "1"));
    });
    assert_eq!(record["why"]["rule"], "tls.server-name");
    let remedy = record["why"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("describe-endpoint"), "{remedy}");
}
