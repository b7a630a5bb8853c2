//! `connect`, against mosquitto and against a server that drops connections as JITP does.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::device_lab::{CLIENT, Lab, SERVER, Said, command, free_port, nameplate, plain_server};

const NOW: &str = "@2026-11-02 00:00:00";

fn connect(lab: &Lab, identity: &str, port: u16, more: &[&str]) -> Said {
    let (endpoint, ca) = (format!("localhost:{port}"), lab.text("ca.pem"));
    let mut args = vec!["connect", "--format", "json", "--identity", identity];
    args.extend(["--endpoint", &endpoint, "--server-ca", &ca]);
    args.extend(more);
    nameplate(None, &args)
}

/// A TLS server that does with connection number `n` what `answers[n]` says, and the last one
/// ever after: `None` closes before CONNACK, `Some(code)` sends CONNACK.
fn jitp_like(lab: &Lab, answers: &'static [Option<u8>]) -> u16 {
    lab.leaf("jitp", "jitp", "ca", SERVER, NOW);
    let certificate = CertificateDer::from_pem_file(lab.path("jitp.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(lab.path("jitp.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (n, tcp) in listener.incoming().flatten().enumerate() {
            let mut tcp = tcp;
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut tls, &mut tcp);
            let mut bytes = [0; 512];
            let _ = stream.read(&mut bytes);
            if let Some(code) = answers[n.min(answers.len() - 1)] {
                let _ = stream.write_all(&[0x20, 2, 0, code]);
                let _ = stream.read(&mut bytes);
            }
        }
    });
    port
}

#[test]
fn mosquitto_accepts_an_identity_of_its_ca() {
    let lab = Lab::new();
    let broker = lab.mosquitto();
    let said = connect(&lab, &lab.good(), broker.port, &[]);
    assert_eq!(said.code, 0, "{said}");
    let json = said.json();
    assert_eq!(json["attempts"], 1);
    assert_eq!(json["client_id"], "pump-1");
    assert_eq!(json["tls_version"], "TLSv1.3");
    assert_eq!(json["server_subject"], "CN=broker");
}

#[test]
fn mosquitto_refuses_an_identity_of_another_ca_with_an_alert() {
    let lab = Lab::new();
    lab.ca("other");
    let broker = lab.mosquitto();
    let stranger = lab.identity("stranger", "other", CLIENT, NOW);
    let said = connect(&lab, &stranger, broker.port, &["--timeout", "5s"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(
        said.stderr.contains("dial.alert") && said.stderr.contains("unknown_ca"),
        "{said}"
    );
}

#[test]
fn a_second_connection_with_the_same_client_id_takes_over() {
    let lab = Lab::new();
    let broker = lab.mosquitto();
    let identity = lab.good();
    let (endpoint, ca) = (format!("localhost:{}", broker.port), lab.text("ca.pem"));
    let args = [
        "connect",
        "--identity",
        &identity,
        "--endpoint",
        &endpoint,
        "--server-ca",
        &ca,
    ];
    let held = command(None, &[&args[..], &["--hold", "30s"]].concat())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let second = nameplate(None, &args);
    assert_eq!(second.code, 0, "{second}");
    let held: Said = held.wait_with_output().unwrap().into();
    assert_eq!(held.code, 1, "{held}");
    assert!(
        held.stdout
            .contains("dropped: the server closed the connection"),
        "{held}"
    );
}

#[test]
fn the_first_drop_is_expected_and_only_connack_0_is_success() {
    let lab = Lab::new();
    let port = jitp_like(&lab, &[None, None, Some(0)]);
    let said = connect(&lab, &lab.good(), port, &["--timeout", "30s"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["attempts"], 3);
    assert!(said.stderr.contains("attempt 1: TLS was fine"), "{said}");
    assert!(
        said.stderr.contains("as JITP does to a new certificate"),
        "{said}"
    );
}

#[test]
fn a_device_that_is_never_accepted_is_told_what_it_may_be() {
    let lab = Lab::new();
    let port = jitp_like(&lab, &[None]);
    let said = connect(&lab, &lab.good(), port, &["--attempts", "2"]);
    assert_eq!((said.code, &said.stdout[..]), (1, ""), "{said}");
    for part in [
        "connect.closed",
        "auto-registration",
        "PENDING_ACTIVATION",
        "iot:Connect",
    ] {
        assert!(said.stderr.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_refusal_in_so_many_words_is_not_tried_again() {
    let lab = Lab::new();
    let port = jitp_like(&lab, &[Some(5)]);
    let said = connect(&lab, &lab.good(), port, &[]);
    assert_eq!(said.code, 1, "{said}");
    assert!(
        said.stderr
            .contains("attempt 1: CONNACK code 5: not authorised; giving up"),
        "{said}"
    );
}

#[test]
fn each_step_that_fails_is_named_with_its_exit_code() {
    let lab = Lab::new();
    let identity = lab.good();
    lab.leaf(
        "name",
        "localhost",
        "ca",
        "subjectAltName=DNS:elsewhere.example\n",
        NOW,
    );
    let wrong_name = lab.s_server("name");
    let once = ["--attempts", "1", "--timeout", "5s"];
    for (port, code, error) in [
        (free_port(), 4, "dial.refused"),
        (plain_server(), 1, "dial.not-tls"),
        (wrong_name.port, 1, "server.name"),
    ] {
        let said = connect(&lab, &identity, port, &once);
        assert_eq!(said.code, code, "{error}: {said}");
        assert!(said.stderr.contains(error), "{error}: {said}");
    }
}
