//! `preflight` against servers that others wrote: `openssl s_server`, nginx, and an HTTP proxy; and
//! the alert that a refused server is sent.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::device_lab::{CLIENT, Lab, Running, SERVER, Said, nameplate, nginx, tunnel_to};

const NOW: &str = "@2026-11-02 00:00:00";
const INTERMEDIATE: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";

fn look(lab: &Lab, endpoint: &str, more: &[&str]) -> Said {
    let (identity, ca) = (lab.text("pump-1.d"), lab.text("ca.pem"));
    let base = [
        "preflight",
        "--format",
        "json",
        "--no-ntp",
        "--trust-clock",
        "1m",
    ];
    let server = [
        "--identity",
        &identity,
        "--endpoint",
        endpoint,
        "--server-ca",
        &ca,
    ];
    nameplate(None, &[&base[..], &server, more].concat())
}

fn at(running: &Running) -> String {
    format!("localhost:{}", running.port)
}

/// The certificates that servers show, each with its key `NAME.key`.
fn servers(lab: &Lab) {
    lab.ca("other");
    lab.leaf("inter", "inter", "ca", INTERMEDIATE, NOW);
    lab.leaf("right", "right", "ca", SERVER, NOW);
    lab.leaf("below", "below", "inter", SERVER, NOW);
    lab.leaf(
        "name",
        "localhost",
        "ca",
        "subjectAltName=DNS:elsewhere.example\n",
        NOW,
    );
    lab.leaf("foreign", "foreign", "other", SERVER, NOW);
    lab.leaf(
        "client",
        "client",
        "ca",
        &format!("{CLIENT}subjectAltName=DNS:localhost\n"),
        NOW,
    );
    lab.leaf("old", "old", "ca", SERVER, "@2025-01-01 00:00:00");
    lab.leaf("early", "early", "ca", SERVER, "@2033-01-01 00:00:00");
    let read = |name: &str| fs::read_to_string(lab.path(name)).unwrap();
    let (below, inter, ca) = (read("below.pem"), read("inter.pem"), read("ca.pem"));
    for (name, text) in [
        ("whole.pem", format!("{below}{inter}")),
        ("swapped.pem", format!("{below}{ca}{inter}")),
        ("missing.pem", below.clone()),
    ] {
        fs::write(lab.path(name), text).unwrap();
    }
}

#[test]
fn nginx_with_each_chain_and_each_version_is_judged_rightly() {
    let lab = Lab::new();
    lab.good();
    servers(&lab);
    for (file, key, code, check, status) in [
        ("right.pem", "right", 0, "server.trust", "pass"),
        ("whole.pem", "below", 0, "server.trust", "pass"),
        ("swapped.pem", "below", 0, "server.order", "warn"),
        ("missing.pem", "below", 1, "server.trust", "fail"),
        ("name.pem", "name", 1, "server.name", "fail"),
    ] {
        for version in ["TLSv1.2", "TLSv1.3"] {
            for verify in ["off", "on"] {
                let directives = format!(
                    "ssl_certificate {};\nssl_certificate_key {};\nssl_protocols {version};\n\
                     ssl_verify_client {verify};\nssl_client_certificate {};",
                    lab.text(file),
                    lab.text(&format!("{key}.key")),
                    lab.text("ca.pem"),
                );
                let server = nginx(&lab, &directives);
                let said = look(&lab, &at(&server), &[]);
                let name = format!("{file} {version} {verify}");
                assert_eq!(said.code, code, "{name}: {said}");
                assert_eq!(said.status(check), status, "{name}: {said}");
                let tls = said.check("server.tls")["fact"].to_string();
                assert!(tls.contains(version), "{name}: {said}");
                let asked = if verify == "on" { "pass" } else { "warn" };
                assert_eq!(said.status("server.client-auth"), asked, "{name}: {said}");
                if file == "missing.pem" {
                    assert_eq!(said.cause(), "server.trust", "{said}");
                    let remedy = said.check(check)["remedy"].to_string();
                    assert!(remedy.contains("operator must send it"), "{said}");
                    assert!(
                        said.check(check)["fact"].to_string().contains("inter"),
                        "{said}"
                    );
                }
            }
        }
    }
}

/// What `s_server -msg` heard of the client: the names of the alerts.
fn alerts(log: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let heard = text.lines().filter(|line| line.starts_with("<<<"));
    let alert = |line: &str| {
        line.split_once("Alert [length")
            .map(|(_, rest)| rest.to_owned())
    };
    let name = |rest: String| rest.rsplit(' ').next().unwrap_or_default().to_owned();
    heard.filter_map(alert).map(name).collect()
}

#[test]
fn a_server_that_is_refused_is_sent_the_alert_that_says_why() {
    let lab = Lab::new();
    let identity = lab.good();
    servers(&lab);
    let ca = lab.text("ca.pem");
    for (name, cause, alert) in [
        ("right", "none", "close_notify"),
        ("old", "server.window", "certificate_expired"),
        ("early", "server.window", "certificate_expired"),
        ("name", "server.name", "bad_certificate"),
        ("foreign", "server.trust", "unknown_ca"),
        ("client", "server.usage", "unsupported_certificate"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            let log = lab.path(&format!("{name}{version}.log"));
            let files = [format!("{name}.pem"), format!("{name}.key")];
            let flags = ["-msg", version, "-cert", &files[0], "-key", &files[1]];
            let out = Stdio::from(fs::File::create(&log).unwrap());
            let server = lab.s_server_with(&flags, out);
            let heard = |before: usize| {
                let deadline = Instant::now() + Duration::from_secs(10);
                while alerts(&log).len() <= before && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                }
                alerts(&log).split_off(before)
            };
            let said = look(&lab, &at(&server), &[]);
            assert_eq!(said.cause(), cause, "{name} {version}: {said}");
            assert!(
                heard(0).contains(&alert.to_owned()),
                "{name} {version}: {:?}",
                alerts(&log)
            );
            if name == "right" {
                continue;
            }
            let before = alerts(&log).len();
            let flags = ["connect", "--identity", &identity, "--server-ca", &ca];
            let endpoint = at(&server);
            let more = [
                "--endpoint",
                &endpoint,
                "--attempts",
                "1",
                "--timeout",
                "2s",
            ];
            let said = nameplate(None, &[&flags[..], &more].concat());
            assert_eq!(said.code, 1, "{said}");
            assert_eq!(heard(before), [alert], "{name} {version}");
        }
    }
}

#[test]
fn alpn_at_the_https_port_is_asked_for_and_judged() {
    let lab = Lab::new();
    lab.good();
    servers(&lab);
    let serve = |alpn: &[&str]| {
        let files = ["-quiet", "-cert", "right.pem", "-key", "right.key"];
        lab.s_server_with(&[&files[..], alpn].concat(), Stdio::null())
    };
    let takes = serve(&["-alpn", "x-amzn-mqtt-ca"]);
    let said = look(&lab, &at(&takes), &["--alpn"]);
    assert_eq!(
        (said.code, &said.status("server.alpn")[..]),
        (0, "pass"),
        "{said}"
    );
    let ignores = serve(&[]);
    let said = look(&lab, &at(&ignores), &["--alpn"]);
    assert_eq!((said.code, &said.cause()[..]), (1, "server.alpn"), "{said}");
    let said = look(&lab, &at(&ignores), &[]);
    assert_eq!(
        (said.code, &said.status("server.alpn")[..]),
        (0, "absent"),
        "{said}"
    );
}

#[test]
fn what_a_server_wants_of_a_client_is_held_against_the_identity() {
    let lab = Lab::new();
    lab.good();
    lab.ca("other");
    servers_once(&lab);
    let serve = |more: &[&str]| {
        let files = [
            "-quiet",
            "-cert",
            "right.pem",
            "-key",
            "right.key",
            "-Verify",
            "2",
        ];
        lab.s_server_with(&[&files[..], more].concat(), Stdio::null())
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let ours = serve(&["-CAfile", "ca.pem", version]);
        let said = look(&lab, &at(&ours), &[]);
        assert_eq!(
            (said.code, &said.status("server.client-auth")[..]),
            (0, "pass"),
            "{said}"
        );
        let theirs = serve(&["-CAfile", "other.pem", version]);
        let said = look(&lab, &at(&theirs), &[]);
        assert_eq!(
            (said.code, &said.status("server.client-auth")[..]),
            (0, "warn"),
            "{said}"
        );
        let rsa = serve(&[
            "-CAfile",
            "ca.pem",
            version,
            "-client_sigalgs",
            "RSA-PSS+SHA256",
        ]);
        let said = look(&lab, &at(&rsa), &[]);
        assert_eq!(
            (said.code, &said.cause()[..]),
            (1, "server.client-auth"),
            "{said}"
        );
    }
}

fn servers_once(lab: &Lab) {
    lab.leaf("right", "right", "ca", SERVER, NOW);
}

#[test]
fn a_proxy_is_gone_through_and_one_that_reads_along_is_the_cause() {
    let lab = Lab::new();
    lab.good();
    servers_once(&lab);
    let server = lab.s_server("right");
    let url = |port: u16, login: &str| format!("http://{login}127.0.0.1:{port}");
    let open = url(tunnel_to(server.port, None), "");
    let said = look(&lab, "localhost:8883", &["--proxy", &open]);
    assert_eq!(said.code, 0, "{said}");
    assert!(
        said.check("server.reach")["fact"]
            .to_string()
            .contains("through the proxy"),
        "{said}"
    );
    assert_eq!(said.status("server.dns"), "absent", "{said}");
    // al ice:s3cret
    let closed = tunnel_to(server.port, Some("Basic YWwgaWNlOnMzY3JldA=="));
    let said = look(
        &lab,
        "localhost:8883",
        &["--proxy", &url(closed, "al%20ice:s3cret@")],
    );
    assert_eq!(said.code, 0, "{said}");
    assert!(
        !said.stdout.contains("s3cret") && !said.stdout.contains("YWw"),
        "{said}"
    );
    let said = look(&lab, "localhost:8883", &["--proxy", &url(closed, "")]);
    assert_eq!(
        (said.code, &said.cause()[..]),
        (4, "server.proxy"),
        "{said}"
    );
    assert!(said.stdout.contains("407"), "{said}");
    // A company's CA answers in Amazon's name.
    let host = "example-ats.iot.us-east-1.amazonaws.com";
    let names = format!("subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth\n");
    lab.leaf("mitm", "mitm", "ca", &names, NOW);
    let reader = lab.s_server("mitm");
    let reader = url(tunnel_to(reader.port, None), "");
    let identity = lab.text("pump-1.d");
    let base = [
        "preflight",
        "--format",
        "json",
        "--no-ntp",
        "--trust-clock",
        "1m",
    ];
    let server = [
        "--identity",
        &identity,
        "--endpoint",
        host,
        "--proxy",
        &reader,
    ];
    let said = nameplate(None, &[&base[..], &server].concat());
    assert_eq!(
        (said.code, &said.cause()[..]),
        (1, "server.intercepted"),
        "{said}"
    );
    assert_eq!(
        said.check("server.trust")["because"],
        "server.intercepted",
        "{said}"
    );
    let summary = said.json()["verdict"]["summary"].to_string();
    assert!(
        summary.contains("reads along") && summary.contains("CN=ca"),
        "{said}"
    );
}

#[test]
fn of_several_endpoints_the_first_good_one_is_named() {
    let lab = Lab::new();
    lab.good();
    servers(&lab);
    let (bad, good, gone) = (lab.s_server("name"), lab.s_server("right"), "localhost:1");
    let (bad, good) = (at(&bad), at(&good));
    let answers = |said: &Said| -> Vec<String> {
        let json = said.json();
        let all = json["verdict"]["endpoints"].as_array().unwrap().clone();
        all.iter()
            .map(|one| format!("{} {}", one["answer"], one["cause"]).replace('"', ""))
            .collect()
    };
    let said = look(&lab, &bad, &["--endpoint", gone, "--endpoint", &good]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["verdict"]["endpoint"], good, "{said}");
    let each = [
        "not-ready server.name",
        "cannot-tell server.reach",
        "ready null",
    ];
    assert_eq!(answers(&said), each, "{said}");
    // With none open, the one that may come back decides.
    let said = look(&lab, &bad, &["--endpoint", gone]);
    assert_eq!(
        (said.code, &said.cause()[..]),
        (4, "server.reach"),
        "{said}"
    );
    let text = nameplate(
        None,
        &[
            "preflight",
            "--no-ntp",
            "--trust-clock",
            "1m",
            "--identity",
            &lab.text("pump-1.d"),
            "--server-ca",
            &lab.text("ca.pem"),
            "--endpoint",
            &bad,
            "--endpoint",
            &good,
        ],
    );
    assert!(
        text.stdout.contains(&format!("connect to `{good}`")),
        "{text}"
    );
    assert!(
        text.stdout.contains(&format!("{bad}: NOT READY: ")),
        "{text}"
    );
}
