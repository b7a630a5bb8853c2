//! The sandbox's device endpoint as unmodified clients meet it, in MQTT 3.1.1 and 5: mosquitto_pub
//! and mosquitto_sub, paho-mqtt, the AWS IoT Device SDK for Python v2, rumqttc, MQTT.js, and HTTPS.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::raw_mqtt::{Heard, Hello, Identity, Raw};
use crate::sandbox_mqtt::{Device, Lab, ca, wait_for};
use nameplate::core::status::CertificateStatus;
use nameplate::effects::clock::SystemClock;
use nameplate::ports::Clock;

/// A pump may connect as itself and as its helpers, and use its own topics.
const PUMP: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"iot:Connect","Resource":["arn:aws:iot:*:*:client/pump","arn:aws:iot:*:*:client/pump-*"]},
    {"Effect":"Allow","Action":["iot:Publish","iot:Receive","iot:RetainPublish"],
     "Resource":"arn:aws:iot:*:*:topic/devices/pump/*"},
    {"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/*devices/pump/*"}]}"#;

/// A sandbox with HTTPS, and a pump in it.
fn lab() -> (Lab, Device) {
    let lab = Lab::with(|mqtt| mqtt.https = Some("127.0.0.1:0".parse().unwrap()));
    let device = lab.device_of(&lab.ca, "CN=pump", (-1, 10));
    lab.allow(&device, "pump", PUMP);
    (lab, device)
}

fn python(which: &str) {
    let (lab, device) = lab();
    let folder = lab.folder.path();
    std::fs::copy(&device.chain_file, folder.join("pump.pem")).unwrap();
    std::fs::copy(&device.key_file, folder.join("pump.key")).unwrap();
    let venv = std::env::var_os("NAMEPLATE_TEST_VENV").expect("run scripts/test");
    let info = lab.running.info();
    let output = Command::new(Path::new(&venv).join("bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/mqtt_clients.py"))
        .arg(which)
        .arg(info.mqtt_port.unwrap().to_string())
        .arg(info.https_port.unwrap().to_string())
        .arg(info.ca_file.as_ref().unwrap())
        .arg(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let records = lab.running.records();
    assert!(output.status.success(), "{stderr}\n{records:#?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("ok\n"));
}

#[test]
fn paho_speaks_mqtt_5() {
    python("paho-5");
}

#[test]
fn paho_speaks_mqtt_3() {
    python("paho-3");
}

#[test]
fn the_aws_device_sdk_speaks_mqtt_5() {
    python("crt-5");
}

#[test]
fn the_aws_device_sdk_speaks_mqtt_3() {
    python("crt-3");
}

#[test]
fn https_publishes_and_alpn_tells_mqtt_apart() {
    python("https");
}

/// A client that is given a new device: it is provisioned, publishes and hears, and is refused on
/// another's topic and under another's client id; each refusal says why.
fn provisions_itself(program: impl Fn() -> Command, what: &str) {
    let lab = Lab::new();
    let info = lab.running.info();
    for version in ["3", "5"] {
        let name = format!("{what}-{version}");
        let subject = format!("CN={name},serialNumber={name}");
        let device = lab.device_of(&lab.ca, &subject, (-1, 10));
        let output = program()
            .args([version, &info.mqtt_port.unwrap().to_string()])
            .arg(info.ca_file.as_ref().unwrap())
            .args([&device.chain_file, &device.key_file])
            .arg(&name)
            .output()
            .unwrap();
        let records = lab.running.records();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {stderr}\n{records:#?}");
        assert_eq!(output.stdout, b"ok\n", "{name}");
        let id = device.certificate.id().as_str();
        let refused = |event: &str, client: &str| {
            let mut all = records.iter().filter(|record| {
                let of = record.client_id.as_deref() == Some(client);
                let by = record.principal_id.as_deref() == Some(id);
                of && by && record.failed() && record.event_type == event
            });
            let why = all.next().and_then(|record| record.why.clone());
            let why = why.unwrap_or_else(|| panic!("{event} of {name}: {records:#?}"));
            assert!(!why.remedy.is_empty(), "{why:?}");
            why.rule
        };
        assert_eq!(refused("Publish-In", &name), "policy.implicit-deny");
        assert_eq!(refused("Connect", "other"), "policy.unresolved-variable");
    }
}

#[test]
fn rumqttc_is_provisioned_heard_and_refused_in_both_versions() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/rumqttc");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rumqttc");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .unwrap();
    assert!(built.success(), "rumqttc's client does not compile");
    provisions_itself(
        || Command::new(target.join("debug/rumqttc-client")),
        "rumqttc",
    );
}

#[test]
fn mqtt_js_is_provisioned_heard_and_refused_in_both_versions() {
    let node = std::env::var_os("NAMEPLATE_TEST_NODE").map_or_else(
        || {
            let venv = std::env::var_os("NAMEPLATE_TEST_VENV").expect("run scripts/test");
            Path::new(&venv).with_file_name("node")
        },
        Into::into,
    );
    let modules = node.join("node_modules");
    assert!(
        modules.join("mqtt").is_dir(),
        "{}: run scripts/test",
        modules.display()
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/mqttjs/client.js");
    let program = || {
        let mut command = Command::new("node");
        command.env("NODE_PATH", &modules).arg(&script);
        command
    };
    provisions_itself(program, "mqttjs");
}

fn mosquitto(lab: &Lab, device: &Device, version: &str, more: &[&str]) -> Output {
    let mut command = lab.client("mosquitto_pub", device);
    command.args(["-V", version, "-d", "-m", "21.5"]).args(more);
    command.output().expect("mosquitto_pub must be installed")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[test]
fn mosquitto_publishes_and_hears_in_both_versions() {
    let (lab, device) = lab();
    for version in ["mqttv311", "mqttv5"] {
        let mut ears = lab.client("mosquitto_sub", &device);
        ears.args(["-V", version, "-i", &format!("pump-{version}")]);
        ears.args(["-t", "devices/pump/#", "-v", "-C", "1"]);
        let ears = ears.stdout(Stdio::piped()).spawn().unwrap();
        lab.wait_subscribed(&format!("pump-{version}"));
        let topic = ["-i", "pump", "-t", "devices/pump/t"];
        let output = mosquitto(&lab, &device, version, &topic);
        assert!(output.status.success(), "{}", said(&output));
        let heard = ears.wait_with_output().unwrap();
        assert_eq!(heard.stdout, b"devices/pump/t 21.5\n");
    }
}

#[test]
fn mosquitto_is_refused_with_the_right_code() {
    let (lab, device) = lab();
    let denied = ["-i", "pump", "-t", "devices/other/t"];
    let output = mosquitto(&lab, &device, "mqttv5", &denied);
    assert!(said(&output).contains("RC:135"), "{}", said(&output));
    let output = mosquitto(&lab, &device, "mqttv311", &denied);
    assert!(!output.status.success());
    let stolen = ["-i", "other", "-t", "devices/pump/t"];
    let output = mosquitto(&lab, &device, "mqttv5", &stolen);
    let text = said(&output).to_lowercase();
    assert!(text.contains("not authorized"), "{text}");
    let output = mosquitto(&lab, &device, "mqttv311", &stolen);
    assert!(!said(&output).contains("CONNACK (0)"), "{}", said(&output));
}

#[test]
fn tls_1_2_and_1_3_are_both_spoken() {
    let (lab, device) = lab();
    for tls in ["tlsv1.2", "tlsv1.3"] {
        let flags = ["-i", "pump", "-t", "devices/pump/t", "--tls-version", tls];
        let output = mosquitto(&lab, &device, "mqttv5", &flags);
        assert!(output.status.success(), "{tls}: {}", said(&output));
    }
}

/// Nobody gets in who should not, whatever MQTT they speak.
#[test]
fn impostors_stay_out_in_both_versions() {
    let (lab, device) = lab();
    let stranger = ca("Stranger CA");
    let impostor = ca("Factory CA");
    let unknown = lab.device_of(&stranger, "CN=pump", (-1, 1));
    let forged = lab.device_of(&impostor, "CN=pump", (-1, 1));
    let expired = lab.device_of(&lab.ca, "CN=old", (-2, -1));
    let early = lab.device_of(&lab.ca, "CN=early", (1, 2));
    for version in ["mqttv311", "mqttv5"] {
        let out = |device: &Device, id: &str, topic: &str, why: &str| {
            let output = mosquitto(&lab, device, version, &["-i", id, "-t", topic]);
            let text = said(&output);
            assert!(!text.contains("PUBACK (Mid: 1, RC:0)"), "{text}");
            assert!(
                !(version == "mqttv311" && output.status.success()),
                "{text}"
            );
            lab.refusal("AUTHORIZATION_FAILURE", why);
        };
        out(
            &unknown,
            "pump",
            "devices/pump/t",
            "no CA named `CN=Stranger CA`",
        );
        out(&forged, "pump", "devices/pump/t", "its key did not sign it");
        out(&expired, "pump", "devices/pump/t", "expired at");
        out(&early, "pump", "devices/pump/t", "not valid before");
        out(&device, "other", "devices/pump/t", "client/other`");
        for id in ["+", "#", "*"] {
            out(&device, id, "devices/pump/t", &format!("client/{id}`"));
        }
        let output = mosquitto(
            &lab,
            &device,
            version,
            &["-i", "pump", "-t", "$aws/events/x"],
        );
        assert!(!said(&output).contains("RC:0)") || version == "mqttv311");
        let reserved = "not a reserved topic that clients may publish to";
        lab.refusal("CLIENT_ERROR", reserved);
    }
    let id = device.certificate.id().clone();
    for status in [CertificateStatus::Inactive, CertificateStatus::Revoked] {
        let mut registry = lab.running.registry().lock().unwrap();
        registry
            .update_certificate(&id, status, SystemClock.now())
            .unwrap();
        drop(registry);
        for version in ["mqttv311", "mqttv5"] {
            let topic = ["-i", "pump", "-t", "devices/pump/t"];
            let output = mosquitto(&lab, &device, version, &topic);
            assert!(!said(&output).contains("CONNACK (0)"), "{}", said(&output));
            let why = format!("the certificate is {}", status.as_str());
            lab.refusal("AUTHORIZATION_FAILURE", &why);
        }
    }
}

/// What was acknowledged is there after a kill: a session's messages, and what is retained.
#[test]
fn acknowledged_messages_outlive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_nameplate");
    let serve = || {
        let child = Command::new(binary)
            .args(["sandbox", "serve", "--control", "127.0.0.1:0"])
            .args(["--mqtt", "127.0.0.1:0", "--state"])
            .arg(folder.path().join("state"))
            .env("NAMEPLATE_REGION", "eu-west-1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = folder.path().join("state/running.json");
        let mut info = serde_json::Value::Null;
        wait_for("the sandbox listens", || {
            let text = std::fs::read_to_string(&running).unwrap_or_default();
            info = serde_json::from_str(&text).unwrap_or_default();
            info["pid"] == child.id()
        });
        (child, info)
    };
    let (lab, device) = lab();
    drop(lab.running);
    std::fs::rename(
        lab.folder.path().join("sandbox"),
        folder.path().join("state"),
    )
    .unwrap();
    let ca_file = folder.path().join("state/server-ca.pem");
    let client = |program: &str, info: &serde_json::Value| {
        let mut command = Command::new(program);
        command.args(["-h", "localhost", "-q", "1", "-p"]);
        command.arg(info["mqtt_port"].to_string());
        command.arg("--cafile").arg(&ca_file);
        command.arg("--cert").arg(&device.chain_file);
        command.arg("--key").arg(&device.key_file);
        command
    };
    let kill = |mut child: std::process::Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };
    let (child, info) = serve();
    let kept = ["-i", "pump", "-c", "-t", "devices/pump/#"];
    let subscribed = client("mosquitto_sub", &info).args(kept).arg("-E").status();
    assert!(subscribed.unwrap().success());
    kill(child);
    let (child, info) = serve();
    for n in 0..5 {
        let mut publish = client("mosquitto_pub", &info);
        publish.args(["-i", "pump-2", "-r", "-m", &n.to_string()]);
        publish.args(["-t", &format!("devices/pump/{n}")]);
        assert!(publish.status().unwrap().success());
    }
    kill(child);
    let (child, info) = serve();
    let heard = client("mosquitto_sub", &info)
        .args(kept)
        .args(["-v", "-C", "5", "-W", "10"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&heard.stdout);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let wanted = (0..5).map(|n| format!("devices/pump/{n} {n}"));
    assert_eq!(lines, wanted.collect::<Vec<_>>());
    let retained = client("mosquitto_sub", &info)
        .args([
            "-i",
            "pump-3",
            "-t",
            "devices/pump/4",
            "-C",
            "1",
            "-W",
            "10",
        ])
        .output()
        .unwrap();
    assert_eq!(retained.stdout, b"4\n");
    kill(child);
}

/// A thousand handshakes that are never finished leave others served.
#[test]
fn half_open_handshakes_hold_up_nobody() {
    let (lab, device) = lab();
    let address = lab.running.mqtt_addr().unwrap();
    // Both ends of each are in this process.
    let limit = rustix::process::Resource::Nofile;
    let files = rustix::process::getrlimit(limit);
    let more = rustix::process::Rlimit {
        current: files.maximum,
        ..files
    };
    rustix::process::setrlimit(limit, more).unwrap();
    let half: Vec<_> = (0..1000)
        .map(|n| {
            use std::io::Write;
            let mut tcp = std::net::TcpStream::connect(address).unwrap();
            // Half of them begin a ClientHello.
            if n % 2 == 0 {
                tcp.write_all(b"\x16\x03\x01\x02\0\x01").unwrap();
            }
            tcp
        })
        .collect();
    for version in ["mqttv311", "mqttv5"] {
        let topic = ["-i", "pump", "-t", "devices/pump/t"];
        let output = mosquitto(&lab, &device, version, &topic);
        assert!(output.status.success(), "{}", said(&output));
    }
    drop(half);
}

/// Ten thousand subscriptions of two hundred clients leave others served.
#[test]
fn ten_thousand_subscriptions_hold_up_nobody() {
    let (lab, device) = lab();
    let identity = Identity {
        port: lab.running.info().mqtt_port.unwrap(),
        ca: lab.running.ca_pem().unwrap().into(),
        certificate: std::fs::read(&device.chain_file).unwrap(),
        key: std::fs::read(&device.key_file).unwrap(),
    };
    let crowd: Vec<Raw> = (0..200)
        .map(|n| {
            let id = format!("pump-{n}");
            let mut raw = Raw::connected(&identity, n % 2 == 0, &id, &Hello::default());
            for from in (0..50).step_by(8) {
                let filters = (from..50.min(from + 8)).map(|m| format!("devices/pump/{n}/{m}/#"));
                let filters: Vec<String> = filters.collect();
                let filters: Vec<(&str, u8)> = filters.iter().map(|one| (&one[..], 1)).collect();
                raw.subscribe(&filters);
                let codes = vec![1; filters.len()];
                assert_eq!(raw.hear(), Heard::Suback { id: 11, codes });
            }
            raw
        })
        .collect();
    for version in ["mqttv311", "mqttv5"] {
        let topic = ["-i", "pump", "-t", "devices/pump/t"];
        let output = mosquitto(&lab, &device, version, &topic);
        assert!(output.status.success(), "{}", said(&output));
    }
    // And the one who is meant hears.
    let topic = ["-i", "pump", "-t", "devices/pump/7/49/x"];
    assert!(mosquitto(&lab, &device, "mqttv5", &topic).status.success());
    let mut crowd = crowd.into_iter();
    assert_eq!(crowd.nth(7).unwrap().message().topic, "devices/pump/7/49/x");
}
