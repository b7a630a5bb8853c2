//! `clock check` and `clock wait`, with real time servers and daemons, hostile packets and faked clocks.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::device_lab::{CLIENT, Lab, Running, SERVER, Said, free_port, nameplate};

/// What every test needs to be alone on the machine: no daemon, no memory.
fn check(fake_time: Option<&str>, lab: &Lab, more: &[&str]) -> Said {
    clock("check", fake_time, lab, more)
}

fn clock(verb: &str, fake_time: Option<&str>, lab: &Lab, more: &[&str]) -> Said {
    let (state, run) = (lab.text("state"), lab.text("run"));
    let mut args = vec!["clock", verb, "--format", "json"];
    args.extend(["--state-dir", &state]);
    if !more.contains(&"--run-dir") {
        args.extend(["--run-dir", &run]);
    }
    if !more.contains(&"--daemon") {
        args.extend(["--daemon", "none"]);
    }
    if verb == "check" {
        args.extend(["--timeout", "1s"]);
    }
    args.extend(more);
    nameplate(fake_time, &args)
}

fn at(server: &Running) -> String {
    format!("127.0.0.1:{}", server.port)
}

fn trust(said: &Said) -> String {
    said.json()["trust"]
        .as_str()
        .unwrap_or("nothing")
        .to_owned()
}

fn evidence(said: &Said, source: &str) -> Vec<serde_json::Value> {
    let json = said.json();
    let all = json["evidence"].as_array().unwrap().iter();
    all.filter(|one| one["source"] == source).cloned().collect()
}

fn seconds(said: &Said) -> f64 {
    said.json()["offset_seconds"].as_f64().unwrap()
}

#[test]
fn one_right_server_gives_offset_uncertainty_and_trust() {
    let lab = Lab::new();
    let chronyd = lab.chronyd(None);
    let said = check(None, &lab, &["--server", &at(&chronyd)]);
    assert_eq!((said.code, &trust(&said)[..]), (0, "network"), "{said}");
    let ntp = &evidence(&said, "ntp")[0];
    assert_eq!(ntp["part"], "counts", "{said}");
    assert!(
        ntp["offset_seconds"].as_f64().unwrap().abs() < 0.1,
        "{said}"
    );
    let uncertainty = ntp["uncertainty_seconds"].as_f64().unwrap();
    assert!((0.0025..0.5).contains(&uncertainty), "{said}");
    assert_eq!(evidence(&said, "build")[0]["trust"], "certain");
    let text = nameplate(
        None,
        &[
            "clock",
            "check",
            "--daemon",
            "none",
            "--server",
            &at(&chronyd),
        ],
    );
    assert!(text.stdout.starts_with("RIGHT: "), "{text}");
}

#[test]
fn two_liars_of_five_are_outvoted_and_two_of_four_are_not() {
    let lab = Lab::new();
    let right = [lab.chronyd(None), lab.chronyd(None), lab.chronyd(None)];
    let liars = [lab.chronyd(Some("+3h")), lab.chronyd(Some("+3h"))];
    let all: Vec<String> = right.iter().chain(&liars).map(at).collect();
    let said = check(None, &lab, &["--server", &all.join(",")]);
    assert_eq!((said.code, &trust(&said)[..]), (0, "majority"), "{said}");
    assert!(seconds(&said).abs() < 0.1, "{said}");
    let parts: Vec<String> = evidence(&said, "ntp")
        .iter()
        .map(|one| one["part"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        parts,
        ["counts", "counts", "counts", "refuted", "refuted"],
        "{said}"
    );
    std::thread::sleep(Duration::from_secs(2));
    let tie = check(None, &lab, &["--server", &all[1..].join(",")]);
    assert_eq!((tie.code, &trust(&tie)[..]), (4, "nothing"), "{tie}");
}

#[test]
fn a_clock_that_is_hours_off_is_wrong_and_by_how_much() {
    let lab = Lab::new();
    let server = lab.chronyd(Some("+3h"));
    let said = check(None, &lab, &["--server", &at(&server)]);
    assert_eq!(said.code, 1, "{said}");
    assert!((seconds(&said) - 10_800.0).abs() < 60.0, "{said}");
    let nobody = format!("127.0.0.1:{}", free_port());
    let said = check(None, &lab, &["--server", &nobody]);
    assert_eq!(said.code, 4, "{said}");
    assert!(said.stdout.contains("it cannot be reached"), "{said}");
}

#[test]
fn ipv6_is_asked_too() {
    let lab = Lab::new();
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&honest(&bytes[..count]), from);
        }
    });
    let said = check(None, &lab, &["--server", &format!("[::1]:{port}")]);
    assert_eq!(said.code, 0, "{said}");
}

/// A server that answers everything.
fn fake_time_server_of(answer: fn(&[u8]) -> Vec<u8>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&answer(&bytes[..count]), from);
        }
    });
    port
}

/// What a right server at stratum 1 answers.
fn honest(packet: &[u8]) -> Vec<u8> {
    moved(packet, Duration::ZERO)
}

/// The answer of a server whose clock is ahead by this much.
fn moved(packet: &[u8], ahead: Duration) -> Vec<u8> {
    let now = std::time::SystemTime::now() + ahead;
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let seconds = u32::try_from((now.as_secs() + 2_208_988_800) & 0xffff_ffff).unwrap();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    let stamp = [
        seconds.to_be_bytes(),
        u32::try_from(fraction).unwrap().to_be_bytes(),
    ]
    .concat();
    let mut reply = vec![0; 48];
    reply[0] = 0x24;
    reply[1] = 1;
    reply[3] = 0xec;
    reply[24..32].copy_from_slice(&packet[40..48]);
    reply[32..40].copy_from_slice(&stamp);
    reply[40..48].copy_from_slice(&stamp);
    reply
}

/// Every hostile answer says that it is three hours later, and none moves the interval that two right
/// servers give.
#[test]
fn no_hostile_packet_moves_the_interval() {
    type Spoil = fn(&[u8]) -> Vec<u8>;
    fn spoilt(packet: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut reply = moved(packet, Duration::from_hours(3));
        change(&mut reply);
        reply
    }
    let cases: [(&str, Spoil); 14] = [
        ("wrong origin", |p| spoilt(p, |r| r[31] ^= 1)),
        ("zero origin", |p| spoilt(p, |r| r[24..32].fill(0))),
        ("client mode", |p| spoilt(p, |r| r[0] = 0x23)),
        ("broadcast mode", |p| spoilt(p, |r| r[0] = 0x25)),
        ("control mode", |p| spoilt(p, |r| r[0] = 0x26)),
        ("version 2", |p| spoilt(p, |r| r[0] = 0x14)),
        ("version 5", |p| spoilt(p, |r| r[0] = 0x2c)),
        ("stratum 0", |p| spoilt(p, |r| r[1] = 0)),
        ("stratum 16", |p| spoilt(p, |r| r[1] = 16)),
        ("leap alarm", |p| spoilt(p, |r| r[0] |= 0xc0)),
        ("truncated", |p| spoilt(p, |r| r.truncate(47))),
        ("amplified", |p| spoilt(p, |r| r.resize(468, 0))),
        ("extended", |p| {
            spoilt(p, |r| {
                r.extend([1, 4, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            })
        }),
        ("no transmit time", |p| spoilt(p, |r| r[40..48].fill(0))),
    ];
    let lab = Lab::new();
    let right = [(); 2].map(|()| fake_time_server_of(honest));
    for (name, hostile) in cases {
        let liar = fake_time_server_of(hostile);
        let servers = [right[0], liar, right[1]].map(|port| format!("127.0.0.1:{port}"));
        // Another memory each time: the right servers are not to be asked twice in two seconds.
        let run = lab.text(&format!("run-{name}"));
        let more = ["--server", &servers.join(","), "--run-dir", &run];
        let args = [
            "clock",
            "check",
            "--format",
            "json",
            "--daemon",
            "none",
            "--timeout",
            "1s",
        ];
        let said = nameplate(None, &[&args[..], &more].concat());
        assert_eq!(said.code, 0, "{name}: {said}");
        assert!(seconds(&said).abs() < 5.0, "{name}: {said}");
        let ntp = evidence(&said, "ntp");
        assert_eq!(ntp[1]["part"], "silent", "{name}: {said}");
        let alone = ["--server", &servers[1], "--run-dir", &run];
        let said = nameplate(None, &[&args[..], &alone].concat());
        assert_eq!(
            (said.code, &trust(&said)[..]),
            (4, "nothing"),
            "{name}: {said}"
        );
    }
}

/// The answer to an earlier request, sent again.
#[test]
fn a_replayed_answer_proves_nothing() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut first: Option<Vec<u8>> = None;
        let mut bytes = [0; 128];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            let reply = first.get_or_insert_with(|| honest(&bytes[..count]));
            let _ = socket.send_to(reply, from);
        }
    });
    let lab = Lab::new();
    let said = check(None, &lab, &["--server", &server]);
    assert_eq!(said.code, 0, "{said}");
    let said = check(None, &lab, &["--server", &server]);
    assert_eq!((said.code, &trust(&said)[..]), (4, "nothing"), "{said}");
    assert!(
        said.stdout.contains("another request's origin timestamp"),
        "{said}"
    );
}

/// Forged answers, as fast as they can be sent, from the server's own address, and none of them with
/// the right nonce; the true one comes after all of them.
#[test]
fn forged_answers_at_rate_do_not_keep_the_true_one_out() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            let start = Instant::now();
            let mut n = 0_u64;
            while start.elapsed() < Duration::from_millis(300) {
                let mut forged = moved(&bytes[..count], Duration::from_hours(3));
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                forged[24..32].copy_from_slice(&n.to_be_bytes());
                let _ = socket.send_to(&forged, from);
            }
            // A full receive buffer would drop the true answer too.
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(50));
                let _ = socket.send_to(&honest(&bytes[..count]), from);
            }
        }
    });
    let lab = Lab::new();
    let said = check(None, &lab, &["--server", &server]);
    assert_eq!(said.code, 0, "{said}");
    assert!(seconds(&said).abs() < 5.0, "{said}");
}

#[test]
fn a_kiss_of_death_is_obeyed_by_later_runs_too() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    let (sender, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            let mut reply = honest(&bytes[..count]);
            reply[1] = 0;
            reply[12..16].copy_from_slice(b"DENY");
            let _ = socket.send_to(&reply, from);
            let _ = sender.send(());
        }
    });
    let lab = Lab::new();
    for (run, why) in [
        (0, "kiss-o'-death `DENY`"),
        (1, "not asked: it said `DENY`"),
    ] {
        let said = check(None, &lab, &["--server", &server]);
        assert_eq!(said.code, 4, "{run}: {said}");
        assert!(said.stdout.contains(why), "{run}: {said}");
    }
    assert_eq!(asked.try_iter().count(), 1);
}

#[test]
fn nobody_is_asked_twice_in_two_seconds() {
    let lab = Lab::new();
    let server = format!("127.0.0.1:{}", fake_time_server_of(honest));
    let start = Instant::now();
    for _ in 0..2 {
        let said = check(None, &lab, &["--server", &server]);
        assert_eq!(said.code, 0, "{said}");
    }
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

/// The clock at every time that a board may come up with; the server is right about November 2026.
#[test]
fn the_clock_may_be_anywhere_and_the_servers_decide() {
    let lab = Lab::new();
    let identity = lab.identity("pump-1", "ca", CLIENT, "@2026-11-02 00:00:00");
    for (n, (wall, code)) in [
        ("@1970-01-01 00:00:10", 1),
        ("@2026-11-01 00:00:00", 1),
        ("@2026-11-01 12:00:00", 1),
        ("@2038-01-19 03:14:08", 1),
        ("@2060-01-01 00:00:00", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let server = lab.chronyd(Some("@2026-11-20 12:00:00"));
        let run = lab.text(&format!("run-{n}"));
        let more = [
            "--server",
            &at(&server),
            "--cert",
            &format!("{identity}/device.crt.pem"),
        ];
        let said = check(
            Some(wall),
            &lab,
            &[&more[..], &["--run-dir", &run]].concat(),
        );
        assert_eq!(said.code, code, "{wall}: {said}");
        let json = said.json();
        let earliest = json["interval"]["earliest"].as_str().unwrap();
        assert!(earliest.starts_with("2026-11-20T12:0"), "{wall}: {said}");
    }
}

#[test]
fn alone_a_board_says_only_what_is_certain() {
    let lab = Lab::new();
    for (wall, code) in [
        ("@1970-01-01 00:00:10", 1),
        ("@2026-11-01 00:00:00", 4),
        ("@2038-01-19 03:14:08", 4),
        ("@2060-01-01 00:00:00", 4),
    ] {
        let said = check(Some(wall), &lab, &["--offline"]);
        assert_eq!(
            (said.code, &trust(&said)[..]),
            (code, "nothing"),
            "{wall}: {said}"
        );
        let vouched = check(Some(wall), &lab, &["--offline", "--trust-clock", "1m"]);
        let believed = wall.starts_with("@2026") || wall.starts_with("@2038");
        assert_eq!(vouched.code == 0, believed, "{wall}: {vouched}");
    }
    assert!(!lab.path("state").exists(), "a word is not kept as seen");
}

#[test]
fn between_the_windows_of_ca_and_leaf_the_leaf_decides() {
    let lab = Lab::new();
    let leaf = lab.identity("late", "ca", CLIENT, "@2026-12-15 00:00:00");
    let early = lab.chronyd(Some("@2026-12-01 00:00:00"));
    let more = ["--server", &at(&early), "--identity", &leaf];
    let said = check(Some("@2026-12-01 00:00:00"), &lab, &more);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.stdout.contains("starts in 1"), "{said}");
    let later = lab.chronyd(Some("@2026-12-16 00:00:00"));
    let more = ["--server", &at(&later), "--identity", &leaf];
    let said = check(Some("@2026-12-16 00:00:00"), &lab, &more);
    assert_eq!(said.code, 0, "{said}");
}

#[test]
fn the_last_sure_time_is_kept_and_is_a_floor() {
    let lab = Lab::new();
    let servers = [(); 3].map(|()| lab.chronyd(None));
    let servers = servers.each_ref().map(at).join(",");
    let said = check(
        None,
        &lab,
        &["--server", servers.split(',').next().unwrap()],
    );
    assert_eq!(said.code, 0, "{said}");
    let file = lab.path("state/last-seen");
    assert!(!file.exists(), "one server alone leaves nothing behind");
    std::thread::sleep(Duration::from_secs(2));
    let said = check(None, &lab, &["--server", &servers]);
    assert_eq!(said.code, 0, "{said}");
    let kept = fs::read_to_string(&file).unwrap();
    let said = check(Some("@2026-11-03 00:00:00"), &lab, &["--offline"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.stdout.contains("has seen 20"), "{said}");
    let back = lab.chronyd(Some("@2026-11-03 00:00:00"));
    let said = check(
        Some("@2026-11-03 00:00:00"),
        &lab,
        &["--server", &at(&back)],
    );
    assert_eq!((said.code, &trust(&said)[..]), (1, "nothing"), "{said}");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        kept,
        "it never goes back"
    );
    fs::write(&file, "2036-11-03T00:00:00Z 7\n").unwrap();
    let said = check(None, &lab, &["--offline", "--trust-clock", "1m"]);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.stdout.contains("it is ignored"), "{said}");
}

#[test]
fn a_time_that_cannot_be_kept_is_a_warning() {
    let lab = Lab::new();
    let servers = [(); 3].map(|()| lab.chronyd(None));
    let servers = servers.each_ref().map(at).join(",");
    fs::write(lab.path("state"), "a file, not a folder").unwrap();
    let said = check(None, &lab, &["--server", &servers]);
    assert_eq!(said.code, 0, "{said}");
    let warning = said.json()["warnings"][0].to_string();
    assert!(warning.contains("is not kept"), "{said}");
}

#[test]
fn kept_facts_come_to_the_same_answer() {
    let lab = Lab::new();
    let (right, liar) = (lab.chronyd(None), lab.chronyd(Some("+3h")));
    let servers = format!("{},{}", at(&right), at(&liar));
    let first = check(None, &lab, &["--server", &servers]);
    let file = lab.path("facts.json");
    fs::write(&file, &first.stdout).unwrap();
    let file = file.to_str().unwrap();
    let second = check(Some("@2060-01-01 00:00:00"), &lab, &["--facts", file]);
    assert_eq!(second.code, first.code);
    assert_eq!(second.json()["evidence"], first.json()["evidence"]);
    fs::write(lab.path("facts.json"), "{}").unwrap();
    let wrong = check(None, &lab, &["--facts", file]);
    assert_eq!(wrong.code, 3, "{wrong}");
    assert!(wrong.stderr.contains("clock.facts"), "{wrong}");
}

#[test]
fn chronyd_is_asked_by_its_own_protocol_over_udp_and_its_socket() {
    let lab = Lab::new();
    let source = lab.chronyd(None);
    let daemon = lab.chrony_client(&at(&source));
    let socket = lab.text("chronyd.sock");
    for place in [
        format!("chrony={}", at(&daemon)),
        format!("chrony={socket}"),
    ] {
        let said = check(None, &lab, &["--offline", "--daemon", &place]);
        assert_eq!(
            (said.code, &trust(&said)[..]),
            (0, "daemon"),
            "{place}: {said}"
        );
        let chrony = &evidence(&said, "chrony")[0];
        assert_eq!(chrony["part"], "counts", "{said}");
        assert!(
            chrony["note"].as_str().unwrap().contains("stratum 2"),
            "{said}"
        );
    }
    let nobody = format!("chrony=127.0.0.1:{}", free_port());
    let said = check(None, &lab, &["--offline", "--daemon", &nobody]);
    assert_eq!(said.code, 4, "{said}");
    assert!(said.stdout.contains("it does not run there"), "{said}");
}

/// chronyd that may not steer the clock (`-x`) knows how far it is off, and says so.
#[test]
fn chronyds_correction_has_the_right_sign() {
    let lab = Lab::new();
    let source = lab.chronyd(Some("+3h"));
    let daemon = lab.chrony_client(&at(&source));
    let place = format!("chrony={}", at(&daemon));
    let said = check(None, &lab, &["--offline", "--daemon", &place]);
    let offset = evidence(&said, "chrony")[0]["offset_seconds"]
        .as_f64()
        .unwrap();
    assert!((offset - 10_800.0).abs() < 60.0, "{said}");
}

#[test]
fn waiting_ends_when_a_server_answers_and_not_before() {
    let lab = Lab::new();
    let identity = lab.good();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    // The first question of each of the two runs below goes unanswered.
    std::thread::spawn(move || {
        let mut bytes = [0; 128];
        let mut count = 0;
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            count += 1;
            if count > 2 {
                let _ = socket.send_to(&honest(&bytes[..length]), from);
            }
        }
    });
    let more = [
        "--identity",
        &identity,
        "--server",
        &server,
        "--server-timeout",
        "3s",
    ];
    let early = clock(
        "wait",
        None,
        &lab,
        &[&more[..], &["--timeout", "0s"]].concat(),
    );
    assert_eq!(early.code, 4, "{early}");
    assert_eq!(early.json()["rounds"], 1);
    let said = clock(
        "wait",
        None,
        &lab,
        &[&more[..], &["--timeout", "5m"]].concat(),
    );
    assert_eq!(said.code, 0, "{said}");
    assert!(said.json()["rounds"].as_u64().unwrap() > 1, "{said}");
    assert!(
        said.json()["waited_seconds"].as_f64().unwrap() > 2.0,
        "{said}"
    );
}

#[test]
fn waiting_for_a_certificate_that_is_over_ends_at_once() {
    let lab = Lab::new();
    let server = lab.chronyd(None);
    let old = lab.identity("old", "ca", CLIENT, "@2025-01-01 00:00:00");
    let start = Instant::now();
    let more = [
        "--identity",
        &old,
        "--server",
        &at(&server),
        "--timeout",
        "1m",
    ];
    let said = clock("wait", None, &lab, &more);
    assert_eq!(
        (said.code, said.json()["answer"].as_str()),
        (1, Some("never")),
        "{said}"
    );
    assert!(start.elapsed() < Duration::from_mins(5));
}

#[test]
fn the_endpoints_certificate_is_a_last_resort() {
    let lab = Lab::new();
    lab.leaf("right", "right", "ca", SERVER, "@2026-11-02 00:00:00");
    let server = lab.s_server("right");
    let (endpoint, ca) = (format!("localhost:{}", server.port), lab.text("ca.pem"));
    let more = ["--tls", "--endpoint", &endpoint, "--server-ca", &ca];
    let said = check(Some("@1970-01-01 00:00:10"), &lab, &more);
    assert_eq!((said.code, &trust(&said)[..]), (1, "hint"), "{said}");
    assert_eq!(
        said.json()["interval"]["earliest"],
        "2026-11-02T00:00:00Z",
        "{said}"
    );
    let said = check(None, &lab, &more);
    assert_eq!(
        said.code, 4,
        "a hint does not count unless asked for: {said}"
    );
    let hint = check(None, &lab, &[&more[..], &["--require", "hint"]].concat());
    assert_eq!(hint.code, 0, "{hint}");
    assert!(!lab.path("state").exists(), "a hint is not kept as seen");
    lab.ca("other");
    let (other, endpoint) = (lab.text("other.pem"), endpoint.clone());
    let foreign = ["--tls", "--endpoint", &endpoint, "--server-ca", &other];
    let said = check(None, &lab, &foreign);
    assert_eq!((said.code, &trust(&said)[..]), (4, "nothing"), "{said}");
}

/// A server whose certificate has ended long ago cannot pull a board back to its own days, but a board
/// at 1970 may take one that is valid now.
#[test]
fn nts_works_with_a_private_ca_and_from_1970() {
    let lab = Lab::new();
    lab.leaf("nts", "nts", "ca", SERVER, "@2026-11-02 00:00:00");
    let server = lab.chronyd_nts("nts", None);
    let ca = lab.text("ca.pem");
    let place = format!("localhost:{}", server.port);
    let more = ["--nts-server", &place, "--nts-ca", &ca];
    let said = check(None, &lab, &more);
    assert_eq!(
        (said.code, &trust(&said)[..]),
        (0, "authenticated"),
        "{said}"
    );
    assert!(!said.stdout.contains("clock_waived\": true"), "{said}");
    let old = check(Some("@1970-01-01 00:00:10"), &lab, &more);
    assert_eq!((old.code, &trust(&old)[..]), (1, "authenticated"), "{old}");
    assert!(
        old.stdout.contains("held against the last known time"),
        "{old}"
    );
    lab.ca("other");
    let other = lab.text("other.pem");
    let wrong = check(None, &lab, &["--nts-server", &place, "--nts-ca", &other]);
    assert_eq!((wrong.code, &trust(&wrong)[..]), (4, "nothing"), "{wrong}");
    assert!(wrong.stdout.contains("key exchange refused"), "{wrong}");
    let address = format!("127.0.0.1:{}", server.port);
    let name = check(None, &lab, &["--nts-server", &address, "--nts-ca", &ca]);
    assert_eq!((name.code, &trust(&name)[..]), (4, "nothing"), "{name}");
}

#[test]
fn nts_outvotes_plain_liars_and_its_own_liar_is_held_to_its_certificate() {
    let lab = Lab::new();
    lab.leaf("nts", "nts", "ca", SERVER, "@2026-11-02 00:00:00");
    let server = lab.chronyd_nts("nts", None);
    let liars = [(); 3].map(|()| lab.chronyd(Some("+3h")));
    let liars = liars.each_ref().map(at).join(",");
    let (place, ca) = (format!("localhost:{}", server.port), lab.text("ca.pem"));
    let said = check(
        None,
        &lab,
        &["--nts-server", &place, "--nts-ca", &ca, "--server", &liars],
    );
    assert_eq!(
        (said.code, &trust(&said)[..]),
        (0, "authenticated"),
        "{said}"
    );
    assert!(seconds(&said).abs() < 1.0, "{said}");
    lab.leaf("ended", "ended", "ca", SERVER, "@2024-01-01 00:00:00");
    let stolen = lab.chronyd_nts("ended", Some("@2024-02-01 00:00:00"));
    let place = format!("localhost:{}", stolen.port);
    for wall in [
        None,
        Some("@2024-02-01 00:00:00"),
        Some("@1970-01-01 00:00:10"),
    ] {
        let said = check(wall, &lab, &["--nts-server", &place, "--nts-ca", &ca]);
        assert_eq!(trust(&said), "nothing", "{wall:?}: {said}");
        assert!(
            said.stdout.contains("key exchange refused"),
            "{wall:?}: {said}"
        );
    }
}

#[test]
fn a_wrong_command_line_or_file_is_told_apart_from_a_wrong_clock() {
    let lab = Lab::new();
    for (more, code, error) in [
        (&["--cert", "/nonexistent/x.pem"][..], 3, "file.missing"),
        (&["--server", "ntp://x"], 3, "endpoint.syntax"),
        (&["--time-floor", "yesterday"], 3, "time.syntax"),
        (&["--daemon", "sundial=1"], 2, "chrony=SOCKET"),
        (&["--tls"], 2, "device.missing-input"),
        (&["--offline", "--tls"], 2, "cannot be used with"),
    ] {
        let said = check(None, &lab, more);
        assert_eq!(said.code, code, "{more:?}: {said}");
        assert!(said.stderr.contains(error), "{more:?}: {said}");
    }
}

#[test]
fn the_units_pass_systemd_analyze() {
    let units = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/device");
    let names = [
        "nameplate-clock.service",
        "nameplate-connect.service",
        "nameplate-clock-check.service",
        "nameplate-clock-check.timer",
    ];
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let text = fs::read_to_string(units.join(name)).unwrap();
        let text = text.replace("/usr/bin/nameplate", env!("CARGO_BIN_EXE_nameplate"));
        fs::write(folder.path().join(name), text).unwrap();
    }
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(names.map(|name| folder.path().join(name)))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .expect("systemd-analyze is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("nameplate-c"),
        "{said}"
    );
}

#[test]
fn timesyncd_is_read_from_its_files() {
    let lab = Lab::new();
    let folder = lab.path("timesync");
    fs::create_dir_all(&folder).unwrap();
    let place = format!("timesyncd={}", folder.display());
    let said = check(None, &lab, &["--offline", "--daemon", &place]);
    assert!(said.stdout.contains("it does not run there"), "{said}");
    fs::write(folder.join("clock"), "").unwrap();
    fs::write(folder.join("synchronized"), "").unwrap();
    let said = check(None, &lab, &["--offline", "--daemon", &place]);
    let timesyncd = &evidence(&said, "timesyncd")[0];
    assert_eq!(timesyncd["part"], "shown", "{said}");
    assert_eq!(
        said.code, 4,
        "how good the clock is, the kernel says: {said}"
    );
    // What it wrote down is past: the board's clock says 2026-11-03, and is wrong.
    let args = ["--offline", "--trust-clock", "1m", "--daemon", &place];
    let said = check(Some("@2026-11-03 00:00:00"), &lab, &args);
    assert_eq!(trust(&said), "nothing", "{said}");
}

#[test]
fn ntpd_rs_is_asked_over_its_observation_socket() {
    let lab = Lab::new();
    let socket = lab.text("observe");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let json = r#"{"program":{"version":"1.5.0"},"system":{"stratum":3,
            "precision":3.814697266513178e-6,"root_delay":0.010765329704332475,
            "root_variance_base":1.7857333567999653e-7,"root_variance_linear":5.359e-10,
            "root_variance_quadratic":3.62e-11,"root_variance_cubic":1e-16,
            "leap_indicator":"NoWarning"},"sources":[],"servers":[]}"#;
        for mut stream in listener.incoming().flatten() {
            use std::io::Write as _;
            let _ = stream.write_all(&(json.len() as u64).to_be_bytes());
            let _ = stream.write_all(json.as_bytes());
        }
    });
    let place = format!("ntpd-rs={socket}");
    let said = check(None, &lab, &["--offline", "--daemon", &place]);
    assert_eq!((said.code, &trust(&said)[..]), (0, "daemon"), "{said}");
}

/// NTPsec's ntpd has a port that cannot be chosen, so it runs in a network and user namespace of its own,
/// where no process may set this machine's clock.
#[test]
fn ntpsec_answers_and_its_own_clock_is_no_source() {
    let lab = Lab::new();
    let venv = std::env::var("NAMEPLATE_TEST_VENV").expect("scripts/test sets it");
    let ntpd = std::path::Path::new(&venv).with_file_name("ntpsec/usr/sbin/ntpd");
    assert!(ntpd.exists(), "scripts/test unpacks {}", ntpd.display());
    let conf = format!(
        "driftfile {}\ntos orphan 5 orphanwait 1\nrestrict default\nrestrict 127.0.0.1\n\
         disable kernel\ndisable ntp\n",
        lab.text("ntpd.drift")
    );
    fs::write(lab.path("ntpd.conf"), conf).unwrap();
    let look = format!(
        "{} clock check --offline --format json --daemon ntpd=127.0.0.1:123",
        env!("CARGO_BIN_EXE_nameplate")
    );
    let script = format!(
        "ip link set lo up\n\
         {} -n -N -c {} -p {} >/dev/null 2>&1 &\n\
         for n in 1 2 3 4 5 6 7 8 9 10; do sleep 0.3; {look} >{out} && break; \
         grep -q 'follows no source' {out} && break; done\n\
         kill $!\ncat {out}\n",
        ntpd.display(),
        lab.text("ntpd.conf"),
        lab.text("ntpd.pid"),
        out = lab.text("out.json"),
    );
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script])
        .env("NAMEPLATE_STATE_DIR", "/proc/nonexistent/state")
        .env("NAMEPLATE_RUN_DIR", "/proc/nonexistent/run")
        .output()
        .expect("unshare is installed");
    let said = Said::from(output);
    let ntpd = &evidence(&said, "ntpd")[0];
    assert_eq!(ntpd["note"], "it follows no source of time", "{said}");
    assert_eq!(trust(&said), "nothing", "{said}");
}

/// The disk fails at every call that keeping the time needs: the old time stays, whole.
#[test]
fn a_failing_disk_leaves_the_last_sure_time_as_it_was() {
    let lab = Lab::new();
    let servers = [(); 3].map(|()| lab.chronyd(None));
    let servers = servers.each_ref().map(at).join(",");
    let (state, file) = (lab.text("state"), lab.path("state/last-seen"));
    fs::create_dir_all(&state).unwrap();
    let old = "2026-11-02T00:00:00Z 1793577600\n";
    for call in ["fsync", "/^rename", "write"] {
        fs::write(&file, old).unwrap();
        let mut strace = std::process::Command::new("strace");
        // Threads write nothing before this one does, and the report goes out last.
        let nth = if call == "write" { ":when=1" } else { "" };
        let inject = format!("inject={call}:error=EIO{nth}");
        strace
            .args(["-f", "-o", "/dev/null", "-e", &inject])
            .arg(env!("CARGO_BIN_EXE_nameplate"))
            .args(["clock", "check", "--format", "json", "--daemon", "none"])
            .args(["--server", &servers, "--state-dir", &state])
            .args(["--run-dir", &lab.text(call.trim_start_matches("/^"))]);
        let said = Said::from(strace.output().expect("strace is installed"));
        assert_eq!(said.code, 0, "{call}: {said}");
        let warnings = said.json()["warnings"].to_string();
        assert!(warnings.contains("is not kept"), "{call}: {said}");
        let now = fs::read_to_string(&file).unwrap();
        assert_eq!(now == old, call != "write", "{call}: {now}");
        let left: Vec<_> = fs::read_dir(&state).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{call}: {left:?}");
    }
}
