//! `device issue --flaw`: each identity is wrong in one way, OpenSSL or the parser sees exactly that,
//! and nobody takes it for a good one.

use std::process::Command;

use nameplate::core::cert::{CLIENT_AUTH, Certificate};
use nameplate::core::flaw::{CaFlaw, Flaw};
use nameplate::core::key::KeyAlgorithm;
use nameplate::core::time::Span;

use crate::project::{Project, tool};

fn read(project: &Project, path: &str) -> Certificate {
    Certificate::all_from_pem(&std::fs::read(project.path(path)).unwrap())
        .unwrap()
        .remove(0)
}

/// The number of the first error that `openssl verify` meets; 0 when there is none.
fn openssl_error(project: &Project, device: &str, more: &[&str]) -> u32 {
    let leaf = format!("devices/{device}/device.crt.pem");
    let output = Command::new("openssl")
        .args([
            "verify",
            "-purpose",
            "sslclient",
            "-CAfile",
            "ca/factory/cert.pem",
        ])
        .args(more)
        .arg(leaf)
        .current_dir(project.root())
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let number = text
        .split("error ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    assert_eq!(number.is_none(), output.status.success(), "{text}");
    number.map_or(0, |number| number.parse().unwrap())
}

/// Everything about an identity that is not as it should be.
fn faults(project: &Project, device: &str) -> Vec<&'static str> {
    let ca = read(project, "ca/factory/cert.pem");
    let leaf = read(project, &format!("devices/{device}/device.crt.pem"));
    let key = format!("devices/{device}/device.key.pem");
    let own = tool("openssl", &["pkey", "-in", &key, "-pubout"], project.root());
    let cert = format!("devices/{device}/device.crt.pem");
    let show = ["x509", "-in", &cert, "-noout", "-pubkey"];
    let shown = tool("openssl", &show, project.root());
    let text = tool(
        "openssl",
        &["x509", "-in", &cert, "-noout", "-text"],
        project.root(),
    );
    let now = nameplate::core::time::UtcTime::from_unix(
        i64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
        .unwrap(),
    );
    let usage = leaf.extended_key_usage.as_deref();
    let foreign = leaf.issuer_der != ca.subject_der;
    let signed = leaf.verifies_with(&ca.public_key);
    [
        (leaf.version != 3, "version"),
        (leaf.is_ca != Some(false), "basic constraints"),
        (
            leaf.key_usage.is_none_or(|usage| !usage.digital_signature),
            "key usage",
        ),
        (usage.is_none(), "no usage"),
        (usage.is_some_and(|usage| usage != [CLIENT_AUTH]), "usage"),
        (leaf.subject.first("CN") != Some(device), "name"),
        (leaf.validity.not_after < now, "over"),
        (leaf.validity.not_before > now, "early"),
        (leaf.validity.not_after > ca.validity.not_after, "outlives"),
        (
            leaf.validity.not_after.since(leaf.validity.not_before) < Span::days(1),
            "short",
        ),
        (leaf.authority_key_id != ca.subject_key_id, "aki"),
        (foreign, "issuer"),
        (!signed, "signature"),
        (leaf.key_algorithm() != KeyAlgorithm::EcP256, "key"),
        (own != shown, "possession"),
        (text.contains("2.999: critical"), "critical"),
    ]
    .into_iter()
    .filter_map(|(wrong, what)| wrong.then_some(what))
    .collect()
}

#[test]
fn each_flaw_is_the_only_one() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "good"]);
    assert_eq!(faults(&project, "good"), [""; 0]);
    assert_eq!(
        openssl_error(&project, "good", &["-x509_strict", "-auth_level", "2"]),
        0
    );
    for flaw in Flaw::ALL.iter().filter(|flaw| **flaw != Flaw::FlawedCa) {
        let device = format!("d-{flaw}", flaw = flaw.word());
        let report = project.ok(&["device", "issue", &device, "--flaw", flaw.word()]);
        assert_eq!(report["flaw"], flaw.word());
        let (expected, error): (&[&str], u32) = match flaw {
            Flaw::FlawedCa => unreachable!("it comes with a CA"),
            Flaw::BadSignature => (&["signature"], 7),
            Flaw::CaTrue => (&["basic constraints"], 0),
            Flaw::Expired => (&["over"], 10),
            Flaw::MissingEku => (&["no usage"], 0),
            Flaw::NameMismatch => (&["name"], 0),
            Flaw::NotYetValid => (&["early"], 9),
            Flaw::OutlivesCa => (&["outlives"], 0),
            Flaw::UnknownCritical => (&["critical"], 34),
            Flaw::V1 => (
                &[
                    "version",
                    "basic constraints",
                    "key usage",
                    "no usage",
                    "aki",
                ],
                0,
            ),
            Flaw::WeakKey => (&["key"], 66),
            Flaw::WrongAki => (&["aki"], 20),
            Flaw::WrongCa => (&["aki", "issuer", "signature"], 20),
            Flaw::WrongEku => (&["usage"], 26),
            Flaw::WrongKey => (&["possession"], 0),
            Flaw::WrongKeyUsage => (&["key usage"], 26),
        };
        assert_eq!(faults(&project, &device), expected, "{device}");
        let level = ["-auth_level", "2"];
        assert_eq!(openssl_error(&project, &device, &level), error, "{device}");
    }
    // The ledger knows them, row by row.
    let listed = project.ok(&["device", "list"]);
    for one in listed["devices"].as_array().unwrap() {
        let device = one["device"].as_str().unwrap();
        assert_eq!(one["flaw"].as_str(), device.strip_prefix("d-"), "{device}");
    }
    project.ok(&["ledger", "verify"]);
}

#[test]
fn a_flaw_is_asked_for_by_name_and_shown_everywhere() {
    let project = Project::with_ca();
    let output = project.run(&["device", "issue", "bad", "--flaw", "expired"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("FLAW     expired: its last second has passed"),
        "{text}"
    );
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("FLAWED on purpose")
    );
    for command in [&["device", "list"][..], &["device", "show", "bad"]] {
        let text = String::from_utf8(project.run(command).stdout).unwrap();
        assert!(text.contains("FLAW"), "{text}");
    }
    // A killed run's flawed identity is not given out as a good one.
    assert_eq!(
        project.fails(&["device", "issue", "bad"]),
        (5, "ledger.live".into())
    );
    for (flags, code) in [
        (&["--flaw", "odd"][..], 2),
        (&["--flaw", "v1", "--csr", "a.csr"], 2),
        (&["--flaw", "v1", "--key", "a.key"], 2),
    ] {
        let output = project.run(&[&["device", "issue", "x"], flags].concat());
        assert_eq!(output.status.code(), Some(code), "{flags:?}");
    }
    let both = [
        "device",
        "issue",
        "srv",
        "--cert-profile",
        "server",
        "--set=host=broker.example",
        "--flaw",
    ];
    project.ok(&[&both[..], &["name-mismatch"]].concat());
    let leaf = read(&project, "devices/srv/device.crt.pem");
    assert_eq!(leaf.alternative_names, ["DNS:somebody-else"]);
}

/// The number of the first error that OpenSSL meets for a device below a CA, down from `top`.
fn below(project: &Project, ca: &str, above: &[&str]) -> u32 {
    let untrusted: Vec<String> = above
        .iter()
        .chain([&ca])
        .map(|name| std::fs::read_to_string(project.path(&format!("ca/{name}/cert.pem"))).unwrap())
        .collect();
    std::fs::write(project.path("untrusted.pem"), untrusted.concat()).unwrap();
    let leaf = format!("devices/below-{ca}/device.crt.pem");
    let output = Command::new("openssl")
        .args([
            "verify",
            "-CAfile",
            "ca/top/cert.pem",
            "-untrusted",
            "untrusted.pem",
            &leaf,
        ])
        .current_dir(project.root())
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let number = text
        .split("error ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    number.map_or(0, |number| number.parse().unwrap())
}

#[test]
fn what_a_flawed_ca_signs_is_refused() {
    let project = Project::new();
    project.ok(&["ca", "create", "top", "--unencrypted"]);
    let create = |name: &str, parent: &str, more: &[&str]| {
        let base = ["ca", "create", name, "--parent", parent, "--unencrypted"];
        project.ok(&[&base[..], more].concat())
    };
    create("mid", "top", &[]);
    let mut seen = Vec::new();
    for flaw in CaFlaw::ALL {
        let name = flaw.word();
        let parent = if *flaw == CaFlaw::PathLength {
            "mid"
        } else {
            "top"
        };
        let made = create(name, parent, &["--flaw", name]);
        assert_eq!(made["origin"], flaw.origin());
        assert_eq!(
            std::fs::read_to_string(project.path(&format!("ca/{name}/FLAWED")))
                .unwrap()
                .trim(),
            name
        );
        let device = format!("below-{name}");
        project.ok(&["device", "issue", &device, "--ca", name]);
        assert_eq!(
            project.ok(&["device", "show", &device])["certificates"][0]["flaw"],
            "flawed-ca"
        );
        let above: &[&str] = if parent == "mid" { &["mid"] } else { &[] };
        seen.push((name, below(&project, name, above)));
    }
    let expected = [
        ("bad-signature", 7),
        ("expired", 10),
        ("name-constraints", 47),
        ("no-cert-sign", 79),
        ("not-a-ca", 79),
        ("not-yet-valid", 9),
        ("outlives-parent", 0),
        ("path-length", 25),
        ("unknown-critical", 34),
        ("v1", 79),
        ("wrong-aki", 20),
        ("wrong-ski", 20),
    ];
    assert_eq!(seen, expected);
    let of = |name: &str| {
        read(&project, &format!("ca/{name}/cert.pem"))
            .validity
            .not_after
    };
    assert!(of("outlives-parent") > of("top"));

    // Nobody takes one for a good one.
    let refused = |args: &[&str]| assert_eq!(project.fails(args), (5, "ca.flawed".to_owned()));
    refused(&["ca", "create", "x", "--parent", "expired", "--unencrypted"]);
    refused(&["ca", "crl", "expired"]);
    std::fs::write(project.path("l.csv"), "name\na\n").unwrap();
    refused(&["device", "batch", "l.csv", "--ca", "expired"]);
    refused(&[
        "--target",
        "aws",
        "--region",
        "eu-west-1",
        "ca",
        "register",
        "expired",
        "--yes",
    ]);
    project.ok(&["device", "issue", "good"]);
    let good = read(&project, "devices/good/device.crt.pem");
    let mid = read(&project, "ca/mid/cert.pem");
    assert_eq!(
        good.issuer_der, mid.subject_der,
        "the only sound CA without one below it"
    );
    project.ok(&["ledger", "verify"]);
    let unfit = [
        "ca",
        "create",
        "x",
        "--unencrypted",
        "--flaw",
        "path-length",
    ];
    assert_eq!(project.fails(&unfit), (3, "ca.flaw".to_owned()));
    let room = [&unfit[..], &["--parent", "top"]].concat();
    assert_eq!(project.fails(&room), (3, "ca.flaw".to_owned()));
    let unknown = ["ca", "create", "x", "--flaw", "none"];
    assert_eq!(project.run(&unknown).status.code(), Some(2));
}

#[test]
fn a_flawed_ca_is_not_finished_as_a_good_one() {
    let create = ["ca", "create", "old", "--unencrypted"];
    let flawed = [&create[..], &["--flaw", "expired"]].concat();
    let other = Project::new();
    other.ok(&flawed);
    // As if the run had been killed before the CA was written down.
    assert!(other.path("ledger.sqlite").exists());
    for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = std::fs::remove_file(other.path(file));
    }
    assert_eq!(other.fails(&create), (5, "ca.foreign".to_owned()));
    let unlike = [&create[..], &["--flaw", "v1"]].concat();
    assert_eq!(other.fails(&unlike), (5, "ca.foreign".to_owned()));
    assert_eq!(other.ok(&flawed)["origin"], "flawed: expired");
}
