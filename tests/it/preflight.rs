//! `preflight`, with real time servers, real TLS servers and a faked clock.

use std::fs;

use crate::device_lab::{
    CLIENT, Lab, SERVER, Said, fake_time_server, free_port, nameplate, plain_server, set_mode,
};

const NOW: &str = "@2026-11-02 00:00:00";

fn preflight(fake_time: Option<&str>, identity: &str, more: &[&str]) -> Said {
    let mut args = vec![
        "preflight",
        "--format",
        "json",
        "--timeout",
        "1s",
        "--identity",
        identity,
    ];
    args.extend(more);
    nameplate(fake_time, &args)
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[test]
fn a_good_identity_at_the_right_time_is_ready() {
    let lab = Lab::new();
    let chronyd = lab.chronyd(None);
    let said = preflight(None, &lab.good(), &["--ntp", &at(chronyd.port)]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.status("clock.ntp"), "pass", "{said}");
    assert_eq!(said.status("identity.window"), "pass", "{said}");
    assert!(!said.stdout.contains("PRIVATE KEY"));
}

#[test]
fn a_clock_three_hours_off_comes_first() {
    let lab = Lab::new();
    let wrong = lab.chronyd(Some("+3h"));
    let said = preflight(None, &lab.good(), &["--ntp", &at(wrong.port)]);
    assert_eq!((said.code, &said.cause()[..]), (4, "clock.ntp"), "{said}");
    let summary = said.json()["verdict"]["summary"].to_string();
    assert!(
        summary.contains("fix the clock first") && summary.contains("behind"),
        "{said}"
    );
}

#[test]
fn a_majority_of_time_servers_outvotes_one_and_a_tie_does_not_count() {
    let lab = Lab::new();
    let identity = lab.good();
    let (one, two, liar) = (
        lab.chronyd(None),
        lab.chronyd(None),
        lab.chronyd(Some("+3h")),
    );
    let servers = [at(one.port), at(two.port), at(liar.port)];
    let tie = preflight(
        None,
        &identity,
        &["--ntp", &servers[0], "--ntp", &servers[2]],
    );
    assert_eq!(tie.code, 4, "{tie}");
    assert_eq!(tie.status("clock.ntp"), "fail", "{tie}");
    assert!(tie.stdout.contains("time servers disagree"), "{tie}");
    let majority = preflight(None, &identity, &["--ntp", &servers.join(",")]);
    assert_eq!(majority.code, 0, "{majority}");
    assert_eq!(majority.status("clock.ntp-server"), "warn", "{majority}");
}

#[test]
fn answers_to_other_requests_and_silence_prove_nothing() {
    let lab = Lab::new();
    let identity = lab.good();
    let stray = fake_time_server(|packet| {
        let mut reply = packet.to_vec();
        reply[0] = 0x24;
        reply[1] = 1;
        reply[24..32].copy_from_slice(&[7; 8]);
        reply[32..40].copy_from_slice(&[0xee; 8]);
        reply[40..48].copy_from_slice(&[0xee; 8]);
        Some(reply)
    });
    let silent = fake_time_server(|_| None);
    let (stray, silent) = (at(stray), at(silent));
    let said = preflight(None, &identity, &["--ntp", &stray, "--ntp", &silent]);
    assert_eq!(said.status("clock.ntp"), "warn", "{said}");
    assert!(
        said.stdout.contains("another request's origin timestamp"),
        "{said}"
    );
    assert!(said.stdout.contains("did not answer in time"), "{said}");
}

#[test]
fn the_years_1970_and_2060_are_the_clocks_fault_and_not_the_certificates() {
    let lab = Lab::new();
    let identity = lab.good();
    let chronyd = lab.chronyd(None);
    let server = at(chronyd.port);
    for (year, cause) in [
        ("@1970-01-02 00:00:00", "clock.floor"),
        ("@2060-01-01 00:00:00", "clock.ntp"),
    ] {
        let said = preflight(Some(year), &identity, &["--ntp", &server]);
        assert_eq!((said.code, &said.cause()[..]), (4, cause), "{year}: {said}");
        assert_eq!(said.status("identity.window"), "pass", "{year}: {said}");
    }
    let offline = preflight(Some("@1970-01-02 00:00:00"), &identity, &["--offline"]);
    assert_eq!(
        (offline.code, &offline.cause()[..]),
        (4, "clock.floor"),
        "{offline}"
    );
    assert_eq!(offline.status("identity.window"), "skip", "{offline}");
}

#[test]
fn each_fault_of_an_identity_is_named() {
    let lab = Lab::new();
    lab.ca("other");
    let cases: [(&str, &str, &str, &str, &str); 4] = [
        (
            "expired",
            "ca",
            CLIENT,
            "@2025-01-01 00:00:00",
            "identity.window",
        ),
        (
            "early",
            "ca",
            CLIENT,
            "@2033-01-01 00:00:00",
            "identity.window",
        ),
        ("server", "ca", SERVER, NOW, "identity.usage"),
        (
            "ca-like",
            "ca",
            "basicConstraints=critical,CA:TRUE\n",
            NOW,
            "identity.usage",
        ),
    ];
    let trust = ["--offline", "--trust-clock", "1m"];
    for (name, ca, extensions, from, cause) in cases {
        let said = preflight(
            Some("@2026-11-20 00:00:00"),
            &lab.identity(name, ca, extensions, from),
            &trust,
        );
        assert_eq!((said.code, &said.cause()[..]), (1, cause), "{name}: {said}");
    }
    let good = lab.good();
    let other = lab.identity("pump-2", "other", CLIENT, NOW);
    let ca = format!("{other}/ca.pem");
    let said = preflight(None, &good, &[&trust[..], &["--ca", &ca]].concat());
    assert_eq!((said.code, &said.cause()[..]), (1, "chain.trust"), "{said}");
    let key = format!("{other}/device.key.pem");
    let said = preflight(None, &good, &[&trust[..], &["--key", &key]].concat());
    assert_eq!(
        (said.code, &said.cause()[..]),
        (1, "identity.key-match"),
        "{said}"
    );
    let missing = preflight(
        None,
        &good,
        &[&trust[..], &["--key", "/nonexistent/key"]].concat(),
    );
    assert_eq!(
        (missing.code, &missing.cause()[..]),
        (1, "identity.files"),
        "{missing}"
    );
    let leaf = fs::read_to_string(format!("{good}/device.crt.pem")).unwrap();
    let wrong_issuer = fs::read_to_string(&ca).unwrap();
    fs::write(format!("{good}/chain.pem"), leaf + &wrong_issuer).unwrap();
    let said = preflight(None, &good, &trust);
    assert_eq!((said.code, &said.cause()[..]), (1, "chain.order"), "{said}");
    set_mode(format!("{good}/device.key.pem").as_ref(), 0o644);
    let said = preflight(None, &good, &trust);
    assert_eq!(
        (said.code, &said.cause()[..]),
        (1, "identity.key-mode"),
        "{said}"
    );
}

#[test]
fn each_fault_of_a_server_is_named() {
    let lab = Lab::new();
    lab.ca("other");
    let identity = lab.good();
    let elsewhere = "subjectAltName=DNS:elsewhere.example\n";
    lab.leaf("right", "right", "ca", SERVER, NOW);
    lab.leaf("name", "localhost", "ca", elsewhere, NOW);
    lab.leaf("foreign", "foreign", "other", SERVER, NOW);
    lab.leaf("old", "old", "ca", SERVER, "@2025-01-01 00:00:00");
    let look = |port: u16| {
        let endpoint = format!("localhost:{port}");
        let ca = lab.text("ca.pem");
        let more = [
            "--no-ntp",
            "--trust-clock",
            "1m",
            "--endpoint",
            &endpoint,
            "--server-ca",
            &ca,
        ];
        preflight(None, &identity, &more)
    };
    for (name, code, cause) in [
        ("right", 0, "none"),
        ("name", 1, "server.name"),
        ("foreign", 1, "server.trust"),
        ("old", 1, "server.window"),
    ] {
        let server = lab.s_server(name);
        let said = look(server.port);
        assert_eq!(
            (said.code, &said.cause()[..]),
            (code, cause),
            "{name}: {said}"
        );
    }
    let broker = lab.mosquitto();
    let said = look(broker.port);
    assert_eq!((said.code, &said.cause()[..]), (0, "none"), "{said}");
    let said = look(plain_server());
    assert_eq!((said.code, &said.cause()[..]), (1, "server.tls"), "{said}");
    let said = look(free_port());
    assert_eq!(
        (said.code, &said.cause()[..]),
        (4, "server.reach"),
        "{said}"
    );
}

#[test]
fn kept_facts_are_judged_alike_elsewhere() {
    let lab = Lab::new();
    let identity = lab.good();
    let chronyd = lab.chronyd(None);
    let said = preflight(
        Some("@2060-01-01 00:00:00"),
        &identity,
        &["--ntp", &at(chronyd.port)],
    );
    let file = lab.path("facts.json");
    fs::write(&file, &said.stdout).unwrap();
    let file = file.to_str().unwrap();
    let again = nameplate(None, &["preflight", "--format", "json", "--facts", file]);
    assert_eq!((again.code, again.json()), (said.code, said.json()));
    fs::write(file, "{}").unwrap();
    let wrong = nameplate(None, &["preflight", "--facts", file]);
    assert_eq!(wrong.code, 3, "{wrong}");
}

#[test]
fn a_missing_input_names_flag_variable_and_key() {
    let said = nameplate(None, &["preflight"]);
    assert_eq!(said.code, 2, "{said}");
    for way in ["--identity", "NAMEPLATE_IDENTITY", "[device]"] {
        assert!(said.stderr.contains(way), "{said}");
    }
}

#[test]
fn the_text_fits_a_terminal_and_leads_with_the_verdict() {
    let lab = Lab::new();
    let identity = lab.good();
    let args = [
        "preflight",
        "--identity",
        &identity,
        "--offline",
        "--trust-clock",
        "1m",
    ];
    let said = nameplate(None, &args);
    assert!(said.stdout.starts_with("READY: "), "{said}");
    let picture = said.stdout.split("\n\n").nth(1).unwrap();
    assert!(
        picture.lines().all(|line| line.chars().count() <= 80),
        "{said}"
    );
    assert_eq!(picture.lines().count(), 4, "{said}");
}
