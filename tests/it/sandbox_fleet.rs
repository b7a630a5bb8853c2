//! Fleet provisioning over the sandbox's MQTT endpoint: the AWS IoT Device SDK for Python's identity
//! client, and a plain MQTT client; and what becomes of claims and tokens as time passes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nameplate::core::ids::Place;
use nameplate::core::key::KeyAlgorithm;
use nameplate::core::status::CertificateStatus;
use nameplate::core::template::{Template, TemplateKind};
use nameplate::core::time::{Span, UtcTime};
use nameplate::effects::clock::SystemClock;
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::keys::RingKeys;
use nameplate::ports::{Clock, Keygen};
use nameplate::sandbox::fleet::{HookTarget, Hooks};
use nameplate::sandbox::registry::{NewTemplate, Request};
use nameplate::sandbox::server::{MqttConfig, Running, Server, ServerConfig, StatePlace};

use super::sandbox_rest::command;

fn place() -> Place {
    Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    }
}

/// The machine's clock, moved by whoever holds it.
#[derive(Default)]
struct MovedClock(AtomicI64);

impl Clock for MovedClock {
    fn now(&self) -> UtcTime {
        let by = Span::seconds(self.0.load(Ordering::Relaxed));
        SystemClock.now().plus(by)
    }
    fn now_nanos(&self) -> i128 {
        SystemClock.now_nanos() + i128::from(self.0.load(Ordering::Relaxed)) * 1_000_000_000
    }
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration);
    }
}

fn start(folder: &Path, clock: Arc<MovedClock>) -> Running {
    let program = |name: &str, script: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (name.to_owned(), HookTarget::Program(path))
    };
    let allow = format!(
        "cat > {}/event.json; echo '{{\"allowProvisioning\":true,\
         \"parameterOverrides\":{{\"Site\":\"b\"}}}}'",
        folder.display()
    );
    let mut config = ServerConfig::new(
        StatePlace::Durable(folder.join("state")),
        place(),
        clock,
        Arc::new(OsEntropy::default()),
    );
    config.mqtt = Some(MqttConfig::new("127.0.0.1:0".parse().unwrap()));
    config.hooks = Hooks::new([
        program("allow", &allow),
        program("deny", r#"echo '{"allowProvisioning":false}'"#),
        program("rubbish", "echo rubbish"),
        program("slow", "exec sleep 30"),
        ("web".to_owned(), web_hook()),
    ]);
    Server::start(config).unwrap()
}

/// A web server that allows every device, once asked properly.
fn web_hook() -> HookTarget {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(event["claimCertificateId"].is_string());
            let answer = r#"{"allowProvisioning":true}"#;
            write!(
                stream.get_mut(),
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
    });
    url.parse().unwrap()
}

#[test]
fn devices_provision_themselves_by_claim_and_by_a_trusted_user() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), Arc::default());
    let info = running.info();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/fleet.py");
    let output = command("python3", running.control_url())
        .arg(script)
        .arg(info.mqtt_port.unwrap().to_string())
        .arg(info.ca_file.as_ref().unwrap())
        .arg(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let records: Vec<String> = running
        .records()
        .iter()
        .filter(|record| record.failed())
        .map(|record| serde_json::to_string(record).unwrap())
        .collect();
    assert!(output.status.success(), "{stderr}\n{records:#?}");
    assert_eq!(output.stdout, b"ok\n");
    let told = |event: &str, reason: &str, details: &str| {
        running.records().iter().any(|record| {
            let text = record.details.as_deref().unwrap_or_default();
            record.event_type == event
                && record.reason.as_deref() == Some(reason)
                && text.contains(details)
        })
    };
    for (event, reason, details) in [
        (
            "ProvisionDevice",
            "RegisterThingFailed",
            "does not allow it",
        ),
        (
            "ProvisionDevice",
            "RegisterThingFailed",
            "no answer in 5 seconds",
        ),
        ("ProvisionDevice", "RegisterThingFailed", "runs nowhere"),
        ("ProvisionDevice", "RegisterThingFailed", "is not JSON"),
        (
            "GetDeviceCredentials",
            "CreateCertificateFromCsrFailed",
            "InvalidCsr",
        ),
    ] {
        assert!(told(event, reason, details), "{event} {reason} {details}");
    }
}

const TEMPLATE: &str = r#"{"Parameters":{"AWS::IoT::Certificate::Id":{"Type":"String"}},
 "Resources":{"certificate":{"Type":"AWS::IoT::Certificate","Properties":{
   "CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}}}}"#;

fn fleet_template(running: &Running, now: UtcTime) {
    let template = NewTemplate {
        name: "fleet".parse().unwrap(),
        kind: TemplateKind::FleetProvisioning,
        body: TEMPLATE.into(),
        role: "arn:aws:iam::123456789012:role/Provisioning".into(),
        description: None,
        enabled: true,
        hook: None,
    };
    let mut registry = running.registry().lock().unwrap();
    registry.create_template(template, now).unwrap();
}

fn wanted() -> Request {
    let (_, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
    Request::for_key(public)
}

#[test]
fn a_token_is_good_once_for_an_hour_and_its_certificate_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(MovedClock::default());
    let running = start(folder.path(), Arc::clone(&clock));
    fleet_template(&running, clock.now());
    let mut registry = running.registry().lock().unwrap();
    let used = registry.entitle(&wanted(), clock.now()).unwrap();
    let idle = registry.entitle(&wanted(), clock.now()).unwrap();
    let values = [(
        "AWS::IoT::Certificate::Id".to_owned(),
        used.certificate.id().to_string(),
    )];
    let plan = Template::parse(TEMPLATE)
        .unwrap()
        .render(TemplateKind::FleetProvisioning, &values.into())
        .unwrap();
    let done = registry.provision_entitled(&used.token, &plan, clock.now());
    assert_eq!(done.unwrap().status, Some(CertificateStatus::Active));
    assert!(
        registry
            .provision_entitled(&used.token, &plan, clock.now())
            .is_err()
    );
    clock.0.store(3600, Ordering::Relaxed);
    assert!(registry.entitled(&idle.token, clock.now()).is_some());
    clock.0.store(3605, Ordering::Relaxed);
    assert!(registry.entitled(&idle.token, clock.now()).is_none());
    registry.entitle(&wanted(), clock.now()).unwrap();
    assert!(registry.certificate(idle.certificate.id()).is_none());
    assert!(registry.certificate(used.certificate.id()).is_some());
}

/// A claim of a trusted user, as files.
fn claim(running: &Running, folder: &Path) {
    let script = "import boto3, sys\n\
                  made = boto3.client('iot').create_provisioning_claim(templateName='fleet')\n\
                  open(sys.argv[1] + '/claim.pem', 'w').write(made['certificatePem'])\n\
                  open(sys.argv[1] + '/claim.key', 'w').write(made['keyPair']['PrivateKey'])";
    let made = command("python3", running.control_url())
        .args(["-c", script])
        .arg(folder)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{stderr}");
}

#[test]
fn a_claim_that_has_ended_does_not_connect() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(MovedClock::default());
    let running = start(folder.path(), Arc::clone(&clock));
    fleet_template(&running, clock.now());
    claim(&running, folder.path());
    let connect = || {
        let info = running.info();
        let port = info.mqtt_port.unwrap().to_string();
        Command::new("mosquitto_pub")
            .args([
                "-h",
                "localhost",
                "-p",
                &port,
                "-i",
                "c",
                "-q",
                "1",
                "-m",
                "{}",
            ])
            .args(["-t", "$aws/certificates/create/json", "--cafile"])
            .arg(info.ca_file.as_ref().unwrap())
            .arg("--cert")
            .arg(folder.path().join("claim.pem"))
            .arg("--key")
            .arg(folder.path().join("claim.key"))
            .output()
            .expect("mosquitto_pub must be installed")
    };
    assert!(connect().status.success());
    clock.0.store(310, Ordering::Relaxed);
    assert!(!connect().status.success());
    let told = running.records().iter().any(|record| {
        let details = record.details.as_deref().unwrap_or_default();
        record.event_type == "Connect" && record.failed() && details.contains("expired")
    });
    assert!(told, "{:?}", running.records());
}

#[test]
fn a_first_connection_registers_or_provisions_as_its_ca_says() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), Arc::default());
    let info = running.info();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/first_connect.py");
    let output = command("python3", running.control_url())
        .arg(script)
        .arg(info.mqtt_port.unwrap().to_string())
        .arg(info.ca_file.as_ref().unwrap())
        .arg(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{stderr}\n{:#?}",
        running.records()
    );
    assert_eq!(output.stdout, b"ok\n");
}
