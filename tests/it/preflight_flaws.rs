//! Every flaw that an identity is issued with, on the device and on the server, and every fault of
//! the sandbox: preflight names the right cause, and what is right passes.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nameplate::core::flaw::Flaw;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

use crate::device_lab::{Said, free_port};
use crate::project::{Project, quiet};

const CA: &str = "ca/factory/cert.pem";

/// What is expected: exit code, the check that says so, and its status.
type Expected = (i32, &'static str, &'static str);

fn preflight(project: &Project, more: &[&str]) -> Said {
    let base = [
        "preflight",
        "--format",
        "json",
        "--no-ntp",
        "--trust-clock",
        "1m",
    ];
    project.run(&[&base[..], more].concat()).into()
}

#[track_caller]
fn expect(name: &str, said: &Said, (code, check, status): Expected) {
    assert_eq!(said.code, code, "{name}: {said}");
    assert_eq!(said.status(check), status, "{name}: {said}");
    if code != 0 {
        assert_eq!(said.cause(), check, "{name}: {said}");
    }
}

/// A certificate that is only unusual is warned of: AWS IoT's own have no extended key usage, and
/// one that outlives its CA is good until the CA's end.
fn on_a_device(flaw: Flaw) -> Expected {
    match flaw {
        Flaw::FlawedCa => unreachable!("it comes with a CA"),
        Flaw::BadSignature | Flaw::WrongAki => (1, "chain.signed", "fail"),
        Flaw::CaTrue | Flaw::WrongEku | Flaw::WrongKeyUsage => (1, "identity.usage", "fail"),
        Flaw::Expired | Flaw::NotYetValid => (1, "identity.window", "fail"),
        Flaw::MissingEku => (0, "identity.usage", "warn"),
        Flaw::NameMismatch => (1, "identity.name", "fail"),
        Flaw::OutlivesCa => (0, "chain.outlives", "warn"),
        Flaw::UnknownCritical => (1, "identity.extensions", "fail"),
        Flaw::V1 => (1, "identity.version", "fail"),
        Flaw::WeakKey => (1, "identity.algorithm", "fail"),
        Flaw::WrongCa => (1, "chain.trust", "fail"),
        Flaw::WrongKey => (1, "identity.key-match", "fail"),
    }
}

#[test]
fn every_flaw_of_a_device_is_found_and_named() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "good"]);
    let look = |device: &str| {
        let folder = format!("devices/{device}");
        let flags = [
            "--identity",
            &folder,
            "--ca",
            CA,
            "--thing",
            device,
            "--offline",
        ];
        preflight(&project, &flags)
    };
    expect("good", &look("good"), (0, "chain.trust", "pass"));
    for flaw in Flaw::ALL.iter().filter(|flaw| **flaw != Flaw::FlawedCa) {
        let device = format!("d-{}", flaw.word());
        project.ok(&["device", "issue", &device, "--flaw", flaw.word()]);
        expect(flaw.word(), &look(&device), on_a_device(*flaw));
    }
}

fn on_a_server(flaw: Flaw) -> Expected {
    match flaw {
        Flaw::FlawedCa => unreachable!("it comes with a CA"),
        Flaw::BadSignature | Flaw::WrongCa => (1, "server.trust", "fail"),
        Flaw::CaTrue | Flaw::WrongEku | Flaw::WrongKeyUsage => (1, "server.usage", "fail"),
        Flaw::Expired | Flaw::NotYetValid => (1, "server.window", "fail"),
        Flaw::MissingEku => (0, "server.usage", "warn"),
        Flaw::NameMismatch => (1, "server.name", "fail"),
        Flaw::OutlivesCa => (0, "server.outlives", "warn"),
        Flaw::UnknownCritical => (1, "server.extensions", "fail"),
        Flaw::V1 => (1, "server.version", "fail"),
        Flaw::WeakKey => (1, "server.algorithm", "fail"),
        Flaw::WrongAki => (0, "server.key-id", "warn"),
        Flaw::WrongKey => (1, "server.key", "fail"),
    }
}

#[test]
fn every_flaw_of_a_server_is_found_and_named() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "good"]);
    let issue = |name: &str, flags: &[&str]| {
        let base = [
            "device",
            "issue",
            name,
            "--cert-profile",
            "server",
            "--set=host=localhost",
        ];
        project.ok(&[&base[..], flags].concat());
    };
    issue("right", &[]);
    let look = |server: &str, version: &str| {
        let port = if server == "s-wrong-key" {
            impostor(&project, server)
        } else {
            0
        };
        let running = (port == 0).then(|| s_server(&project, server, version));
        let port = running.as_ref().map_or(port, |(_, port)| *port);
        let endpoint = format!("localhost:{port}");
        let flags = ["--identity", "devices/good", "--ca", CA, "--server-ca", CA];
        preflight(&project, &[&flags[..], &["--endpoint", &endpoint]].concat())
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let said = look("right", version);
        expect("right", &said, (0, "server.trust", "pass"));
        assert_eq!(said.status("server.key"), "pass", "{said}");
    }
    for flaw in Flaw::ALL.iter().filter(|flaw| **flaw != Flaw::FlawedCa) {
        let server = format!("s-{}", flaw.word());
        issue(&server, &["--flaw", flaw.word()]);
        for version in ["-tls1_2", "-tls1_3"] {
            let name = format!("{} {version}", flaw.word());
            // A key that may not sign has no cipher suite in OpenSSL's TLS 1.2.
            let expected = match (flaw, version) {
                (Flaw::WrongKeyUsage, "-tls1_2") => (1, "server.tls", "fail"),
                _ => on_a_server(*flaw),
            };
            expect(&name, &look(&server, version), expected);
        }
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `openssl s_server` with an identity of the project's, weak keys allowed.
fn s_server(project: &Project, name: &str, version: &str) -> (Server, u16) {
    let port = free_port();
    let mut command = Command::new("openssl");
    let file = |part: &str| format!("devices/{name}/{part}");
    command
        .args([
            "s_server",
            "-quiet",
            "-accept",
            &format!("127.0.0.1:{port}"),
        ])
        .args([
            "-cert",
            &file("device.crt.pem"),
            "-key",
            &file("device.key.pem"),
        ])
        .args([version, "-cipher", "DEFAULT@SECLEVEL=0"])
        .current_dir(project.root())
        .stdin(Stdio::piped());
    let server = Server(quiet(&mut command).spawn().expect("openssl is installed"));
    wait_for("s_server", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (server, port)
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server that shows a certificate whose key it does not have: no honest one can be told to.
fn impostor(project: &Project, name: &str) -> u16 {
    #[derive(Debug)]
    struct Shows(Arc<CertifiedKey>);
    impl ResolvesServerCert for Shows {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let file = |part: &str| project.path(&format!("devices/{name}/{part}"));
    let certificate = CertificateDer::from_pem_file(file("device.crt.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("device.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = Shows(Arc::new(CertifiedKey::new(vec![certificate], key)));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = rustls::Stream::new(&mut tls, &mut tcp).write_all(b"x");
        }
    });
    port
}

/// A project whose CA is registered in a running sandbox, with a device that may connect.
fn sandbox() -> (Project, Server, String) {
    let project = Project::new();
    project.ok(&["ca", "create", "factory", "--unencrypted"]);
    let any = "127.0.0.1:0";
    let mut command = project.command(&["sandbox", "serve", "--control", any, "--mqtt", any]);
    command.args(["--jitp-delay", "0s"]);
    let server = Server(quiet(&mut command).spawn().unwrap());
    let running = || -> Option<serde_json::Value> {
        let text = std::fs::read_to_string(project.path("sandbox/running.json")).ok()?;
        serde_json::from_str(&text).ok()
    };
    wait_for("the sandbox runs", || running().is_some());
    let endpoint = format!("localhost:{}", running().unwrap()["mqtt_port"]);
    project.ok(&["template", "new", "jitp"]);
    let register = ["template", "register", "jitp.json", "--name", "pump"];
    project.ok(&[&register[..], &["--policy", "jitp-policy.json"]].concat());
    project.ok(&["ca", "register", "factory", "--template", "pump"]);
    for name in ["pump-1", "pump-2", "pump-3"] {
        let subject = format!("CN={name},serialNumber={name}");
        project.ok(&["device", "issue", name, "--subject", &subject]);
    }
    (project, server, endpoint)
}

/// Each fault as it is set, with further flags of preflight: what is said of the server.
const FAULTS: &[(&str, &[&str], Expected, &str)] = &[
    (
        "server-cert-expired",
        &[],
        (1, "server.window", "fail"),
        "expired",
    ),
    (
        "server-cert-not-yet-valid",
        &[],
        (1, "server.window", "fail"),
        "starts in",
    ),
    (
        "server-cert-wrong-name",
        &[],
        (1, "server.name", "fail"),
        "is not for `localhost`",
    ),
    (
        "server-cert-untrusted",
        &[],
        (1, "server.trust", "fail"),
        "not to be trusted",
    ),
    (
        "server-cert-oversized",
        &[],
        (0, "server.trust", "pass"),
        "",
    ),
    ("tls-fragments=64", &[], (0, "server.trust", "pass"), ""),
    (
        "tls-fragments=64",
        &["--connect"],
        (0, "mqtt.connect", "pass"),
        "",
    ),
    (
        "connection-drop",
        &[],
        (4, "server.tls", "fail"),
        "closed the connection during the TLS",
    ),
    ("connection-delay=200ms", &[], (0, "server.tls", "pass"), ""),
    (
        "connection-delay=1m",
        &[],
        (4, "server.tls", "fail"),
        "did not answer in time: the TLS",
    ),
    (
        "connection-half-open",
        &[],
        (4, "server.tls", "fail"),
        "did not answer in time: the TLS",
    ),
    (
        "connect-throttle=0",
        &["--connect"],
        (1, "mqtt.connect", "fail"),
        "closed the connection to",
    ),
    (
        "rest-throttle=0",
        &["--connect"],
        (0, "mqtt.connect", "pass"),
        "",
    ),
    (
        "rest-delay=1m",
        &["--connect"],
        (0, "mqtt.connect", "pass"),
        "",
    ),
    (
        "propagation-delay=1m",
        &["--connect"],
        (0, "mqtt.connect", "pass"),
        "",
    ),
];

#[test]
fn every_fault_of_the_sandbox_is_found_and_named() {
    let (project, _server, endpoint) = sandbox();
    let look = |device: &str, more: &[&str]| {
        let identity = format!("devices/{device}");
        let flags = ["--identity", &identity, "--ca", CA, "--timeout", "2s"];
        let server = [
            "--endpoint",
            &endpoint,
            "--server-ca",
            "sandbox/server-ca.pem",
        ];
        preflight(&project, &[&flags[..], &server, more].concat())
    };
    let set = |fault: &str| project.ok(&["sandbox", "fault", "set", fault]);
    let clear = || project.ok(&["sandbox", "fault", "clear", "--all"]);
    let right = look("pump-1", &[]);
    expect("right", &right, (0, "server.trust", "pass"));
    assert_eq!(right.status("server.client-auth"), "pass", "{right}");
    // The first connect under JITP is dropped by design, and the next one is not.
    let first = look("pump-1", &["--connect"]);
    expect("first", &first, (1, "mqtt.connect", "fail"));
    assert!(
        first.check("mqtt.connect")["remedy"]
            .to_string()
            .contains("PENDING"),
        "{first}"
    );
    wait_for("pump-1 is provisioned", || {
        look("pump-1", &["--connect"]).code == 0
    });
    for (fault, flags, expected, words) in FAULTS {
        set(fault);
        let said = look("pump-1", flags);
        expect(fault, &said, *expected);
        let fact = said.check(expected.1)["fact"].to_string();
        assert!(fact.contains(words), "{fault}: {fact}");
        clear();
    }
    // Where the cut falls is chance: in TLS, before CONNACK, or when all is over.
    set("connection-cut=1ms");
    let cut = (0..50).map(|_| look("pump-1", &["--connect"]));
    let said = cut
        .into_iter()
        .find(|said| said.code != 0)
        .expect("a connection is cut");
    let causes = ["server.tls", "mqtt.connect"];
    assert!(causes.contains(&&said.cause()[..]), "{said}");
    clear();
    for (device, fault) in [("pump-2", "template-fail"), ("pump-3", "template-delay=1h")] {
        set(fault);
        for _ in 0..2 {
            expect(
                fault,
                &look(device, &["--connect"]),
                (1, "mqtt.connect", "fail"),
            );
        }
        clear();
    }
    expect(
        "cleared",
        &look("pump-1", &["--connect"]),
        (0, "mqtt.connect", "pass"),
    );
}
