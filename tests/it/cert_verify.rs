//! `cert verify`: what users see, beside `openssl verify`.

use std::process::Command;

use crate::project::{Project, tool};

/// A root `factory`, `line` below it, and the device `pump-1` by `line`.
fn project() -> Project {
    let project = Project::with_ca();
    project.ok(&["ca", "create", "line", "--parent", "factory"]);
    project.ok(&["device", "issue", "pump-1", "--ca", "line"]);
    project
}

const ROOT: &str = "ca/factory/cert.pem";
const LEAF: &str = "devices/pump-1/device.crt.pem";

/// The exit code, and the codes of all reasons.
fn verify(project: &Project, args: &[&str]) -> (i32, Vec<String>) {
    let args = [&["--format", "json", "cert", "verify"], args].concat();
    let output = project.run(&args);
    let said: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {output:?}"));
    let certificates = said["certificates"].as_array().unwrap();
    let reasons = certificates
        .iter()
        .flat_map(|one| one["reasons"].as_array().unwrap());
    let codes = reasons.map(|reason| reason["code"].as_str().unwrap().to_owned());
    (output.status.code().unwrap(), codes.collect())
}

fn text(project: &Project, args: &[&str]) -> (i32, String) {
    let output = project.run(&[&["cert", "verify"], args].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap(), said)
}

#[test]
fn a_good_identity_is_shown_with_its_path_and_window() {
    let project = project();
    let (code, said) = text(
        &project,
        &["devices/pump-1", "--root", ROOT, "--usage", "client"],
    );
    assert_eq!(code, 0, "{said}");
    for part in [
        "devices/pump-1/chain.pem:1: valid, 2",
        "  CN=pump-1\n",
        "  issued by CN=line  (devices/pump-1/chain.pem:",
        "  issued by CN=factory  (root, ca/factory/cert.pem)",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for args in [
        &[
            "devices/pump-1",
            "--root",
            ROOT,
            "--within",
            "90d",
            "--strict",
        ][..],
        &["devices/pump-1", "--root", "ca"],
        &["devices", "--root", "ca/line/cert.pem"],
        &[LEAF, "--root", ROOT, "--intermediate", "ca/line/cert.pem"],
        &["ca", "--root", ROOT, "--usage", "ca"],
        &[ROOT, "--root", ROOT],
    ] {
        assert_eq!(verify(&project, args), (0, vec![]), "{args:?}");
    }
}

#[test]
fn what_is_wrong_is_told_with_place_and_remedy() {
    let project = project();
    project.ok(&["ca", "create", "other"]);
    let line = ["--root", ROOT, "--intermediate", "ca/line/cert.pem"];
    for (args, code) in [
        (vec![LEAF, "--root", ROOT], "path.no-issuer"),
        (
            vec!["devices/pump-1", "--root", "ca/other/cert.pem"],
            "path.no-issuer",
        ),
        (vec!["ca/other/cert.pem", "--root", ROOT], "path.untrusted"),
        (
            [&[LEAF], &line[..], &["--at", "+400d"]].concat(),
            "path.expired",
        ),
        (
            [&[LEAF], &line[..], &["--at", "-2d"]].concat(),
            "path.not-yet-valid",
        ),
        (
            [&[LEAF], &line[..], &["--within", "400d"]].concat(),
            "path.ends-in-window",
        ),
        (
            [&[LEAF], &line[..], &["--usage", "server"]].concat(),
            "path.usage",
        ),
        (
            [&[LEAF], &line[..], &["--usage", "ca"]].concat(),
            "path.not-ca",
        ),
        (
            [&[LEAF], &line[..], &["--name", "a.test"]].concat(),
            "path.name",
        ),
        (
            [&[LEAF], &line[..], &["--policy", "2.5.29.32.0"]].concat(),
            "path.policy",
        ),
    ] {
        let (exit, codes) = verify(&project, &args);
        assert_eq!(
            (exit, codes.first().map(|c| &c[..])),
            (1, Some(code)),
            "{args:?}"
        );
    }
    let (_, said) = text(&project, &[LEAF, "--root", ROOT]);
    assert!(said.contains("device.crt.pem:1: not valid"), "{said}");
    assert!(
        said.contains("error[path.no-issuer]: its issuer `CN=line`"),
        "{said}"
    );
    assert!(
        said.contains("hint: name the issuer's certificate with --intermediate"),
        "{said}"
    );
    let late = ["devices/pump-1", "--root", ROOT, "--at", "+3000d"];
    let (_, said) = text(&project, &late);
    let line = "error[path.expired]: `CN=line` (devices/pump-1/chain.pem:";
    assert!(said.contains(line), "{said}");
}

#[test]
fn revocation_counts_when_a_list_is_given() {
    let project = project();
    let lists = ["--crl", "ca/line/crl.pem", "--crl", "ca/factory/crl.pem"];
    let plain = ["devices/pump-1", "--root", ROOT];
    let with = |more: &[&str]| verify(&project, &[&plain, more].concat());
    assert_eq!(with(&[]).0, 0);
    assert_eq!(with(&["--crl-check"]), (1, vec!["path.no-crl".into(); 2]));
    project.ok(&["ca", "crl", "line"]);
    project.ok(&["ca", "crl", "factory"]);
    assert_eq!(with(&lists[..2]), (0, vec![]));
    assert_eq!(with(&["--crl", "ca", "--crl-check"]), (0, vec![]));
    assert_eq!(with(&[&lists[..2], &["--crl-check"]].concat()).0, 1);
    assert_eq!(with(&[&lists[..], &["--crl-check"]].concat()), (0, vec![]));
    assert_eq!(
        with(&[&lists[..], &["--at", "+60d"]].concat()).1[0],
        "path.crl"
    );
    project.ok(&["device", "revoke", "pump-1", "--local", "--yes"]);
    assert_eq!(with(&lists), (0, vec![]), "not on the list yet");
    project.ok(&["ca", "crl", "line"]);
    assert_eq!(with(&lists), (1, vec!["path.revoked".into()]));
}

#[test]
fn wrong_input_is_refused_with_its_name() {
    let project = project();
    std::fs::write(project.path("rubbish"), "hello\n").unwrap();
    std::fs::create_dir(project.path("empty")).unwrap();
    let root = ["--root", ROOT];
    let key = "devices/pump-1/device.key.pem";
    for (args, expected) in [
        (vec!["devices/pump-1"], (2, "verify.no-root")),
        (vec!["-", "--root", "-"], (2, "verify.stdin")),
        (
            vec![LEAF, "--root", ROOT, "--crl", "devices"],
            (3, "crl.none"),
        ),
        (root.to_vec(), (2, "cert.missing-input")),
        ([&["rubbish"], &root[..]].concat(), (3, "pem.none")),
        ([&["missing"], &root[..]].concat(), (3, "file.missing")),
        ([&["empty"], &root[..]].concat(), (3, "gather.none")),
        ([&[key], &root[..]].concat(), (3, "verify.empty")),
        (vec![LEAF, "--root", key], (3, "verify.empty")),
        (vec![LEAF, "--root", "rubbish"], (3, "pem.none")),
        (
            [&[LEAF], &root[..], &["--crl", ROOT]].concat(),
            (3, "crl.none"),
        ),
        (
            [&[LEAF], &root[..], &["--crl", "missing"]].concat(),
            (3, "file.missing"),
        ),
        (
            [&[LEAF], &root[..], &["--intermediate", "rubbish"]].concat(),
            (3, "pem.none"),
        ),
        (
            [&[LEAF], &root[..], &["--name", "https://a"]].concat(),
            (2, "verify.name"),
        ),
        (
            [&[LEAF], &root[..], &["--policy", "any"]].concat(),
            (2, "verify.policy"),
        ),
        (
            [&[LEAF], &root[..], &["--within", "soon"]].concat(),
            (2, "time.syntax"),
        ),
        (
            [&[LEAF], &root[..], &["--within", "-1d"]].concat(),
            (2, "time.syntax"),
        ),
        (
            [&[LEAF], &root[..], &["--at", "soon"]].concat(),
            (2, "time.syntax"),
        ),
    ] {
        let args = [&["cert", "verify"], &args[..]].concat();
        let (code, error) = project.fails(&args);
        assert_eq!((code, &error[..]), expected, "{args:?}");
    }
    let leaf = std::fs::read_to_string(project.path(LEAF)).unwrap();
    let line = std::fs::read_to_string(project.path("ca/line/cert.pem")).unwrap();
    let broken = leaf.replace("-----END", "!-----END");
    std::fs::write(project.path("broken.pem"), format!("{leaf}{line}{broken}")).unwrap();
    let (code, codes) = verify(&project, &["broken.pem", "--root", ROOT]);
    assert_eq!((code, codes), (1, vec!["cert.der".into()]));
}

/// Every certificate of a file that issued no other one is verified, in any order.
#[test]
fn a_file_of_many_is_verified_one_by_one() {
    let project = project();
    project.ok(&["device", "issue", "pump-2", "--ca", "line"]);
    project.ok(&["device", "issue", "pump-3", "--ca", "factory"]);
    let read = |path: &str| std::fs::read_to_string(project.path(path)).unwrap();
    let all = [
        read("ca/line/cert.pem"),
        read(LEAF),
        read("devices/pump-2/device.crt.pem"),
        read(ROOT),
        read("devices/pump-3/device.crt.pem"),
    ];
    std::fs::write(project.path("all.pem"), all.concat()).unwrap();
    let args = [
        "--format", "json", "cert", "verify", "all.pem", "--root", ROOT,
    ];
    let output = project.run(&args);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["valid"], &said["not_valid"]), (&3.into(), &0.into()));
    let steps = |n: usize| said["certificates"][n]["path"].as_array().unwrap().len();
    assert_eq!((steps(0), steps(1), steps(2)), (3, 3, 2));
    let lines = project.run(&[&["--format", "ndjson"], &args[2..]].concat());
    assert_eq!(String::from_utf8_lossy(&lines.stdout).lines().count(), 3);
}

/// `openssl verify` says yes and no where we do.
#[test]
fn openssl_agrees() {
    let project = project();
    project.ok(&["ca", "create", "other"]);
    let chain = "devices/pump-1/chain.pem";
    let epoch = |days: i64| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        (i64::try_from(now.as_secs()).unwrap() + days * 86_400).to_string()
    };
    for (ours, theirs) in [
        (vec![], vec![]),
        (vec!["--usage", "client"], vec!["-purpose", "sslclient"]),
        (vec!["--usage", "server"], vec!["-purpose", "sslserver"]),
        (vec!["--at", "+400d"], vec!["-attime", "400"]),
        (vec!["--at", "+100d"], vec!["-attime", "100"]),
        (
            vec!["--name", "pump.test"],
            vec!["-verify_hostname", "pump.test"],
        ),
        (vec!["--strict"], vec!["-x509_strict"]),
        (vec!["--crl-check"], vec!["-crl_check"]),
    ] {
        for root in [ROOT, "ca/other/cert.pem", "ca/line/cert.pem"] {
            let mine = [&["devices/pump-1", "--root", root], &ours[..]].concat();
            let theirs = theirs.iter().map(|word| match word.parse() {
                Ok(days) => epoch(days),
                Err(_) => (*word).to_owned(),
            });
            let output = Command::new("openssl")
                .args([
                    "verify",
                    "-partial_chain",
                    "-CAfile",
                    root,
                    "-untrusted",
                    chain,
                ])
                .args(theirs)
                .arg(chain)
                .current_dir(project.root())
                .output()
                .unwrap();
            let (code, codes) = verify(&project, &mine);
            assert_eq!(
                code == 0,
                output.status.success(),
                "{mine:?} {codes:?} {output:?}"
            );
        }
    }
    tool("openssl", &["version"], project.root());
}

/// Each flaw that makes a path bad is found by its own reason; the others are for those who look at
/// something else than the path.
#[test]
fn flawed_identities_are_refused_for_their_flaw() {
    let project = Project::with_ca();
    for (flaw, reason, strictly) in [
        (
            "bad-signature",
            Some("path.signature"),
            Some("path.signature"),
        ),
        ("ca-true", None, None),
        ("expired", Some("path.expired"), Some("path.expired")),
        ("missing-eku", None, None),
        ("name-mismatch", None, None),
        (
            "not-yet-valid",
            Some("path.not-yet-valid"),
            Some("path.not-yet-valid"),
        ),
        ("outlives-ca", None, None),
        (
            "unknown-critical",
            Some("path.critical-extension"),
            Some("path.critical-extension"),
        ),
        ("v1", None, Some("path.profile")),
        ("weak-key", None, Some("path.profile")),
        ("wrong-aki", None, Some("path.profile")),
        ("wrong-ca", Some("path.no-issuer"), Some("path.no-issuer")),
        ("wrong-eku", Some("path.usage"), Some("path.usage")),
        ("wrong-key", None, None),
        (
            "wrong-key-usage",
            Some("path.key-usage"),
            Some("path.key-usage"),
        ),
    ] {
        project.ok(&["device", "issue", flaw, "--flaw", flaw]);
        let leaf = format!("devices/{flaw}/device.crt.pem");
        let plain = [&leaf[..], "--root", ROOT, "--usage", "client"];
        for (more, expected) in [(&[][..], reason), (&["--strict"], strictly)] {
            let (code, codes) = verify(&project, &[&plain[..], more].concat());
            assert_eq!(
                codes.first().map(|code| &code[..]),
                expected,
                "{flaw} {more:?}"
            );
            assert_eq!(code, i32::from(expected.is_some()), "{flaw}");
        }
    }
    let (_, said) = text(&project, &["devices/unknown-critical", "--root", ROOT]);
    assert!(
        said.contains("critical extension 2.999 is not processed"),
        "{said}"
    );
}

/// What a server shows must be good for a server of that name, unless asked otherwise.
#[test]
fn a_server_is_held_to_its_name_and_use() {
    let project = project();
    let issue = [
        "device",
        "issue",
        "hub",
        "--ca",
        "line",
        "--cert-profile",
        "server",
    ];
    project.ok(&[&issue[..], &["--set", "host=localhost"]].concat());
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port().to_string()
    };
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            &format!("127.0.0.1:{port}"),
            "-quiet",
        ])
        .args([
            "-cert",
            "devices/hub/chain.pem",
            "-key",
            "devices/hub/device.key.pem",
        ])
        .args(["-cert_chain", "devices/hub/chain.pem"])
        .current_dir(project.root())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let by_name = format!("tls://localhost:{port}");
    let by_address = format!("tls://127.0.0.1:{port}");
    let up = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        project.run(&["cert", "inspect", &by_name]).status.success()
    });
    let root = ["--root", ROOT];
    let ask = |place: &String, more: &[&str]| {
        verify(&project, &[&[&place[..]], &root[..], more].concat())
    };
    let answers = [
        ask(&by_name, &[]),
        ask(&by_address, &[]),
        ask(&by_address, &["--name", "localhost"]),
        ask(&by_name, &["--usage", "client"]),
        verify(&project, &[&by_name, "--root", "amazon"]),
    ];
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(up);
    let expected = [
        (0, vec![]),
        (1, vec!["path.name"]),
        (0, vec![]),
        (1, vec!["path.usage"]),
        (1, vec!["path.no-issuer"]),
    ];
    for (n, (answer, (code, codes))) in answers.iter().zip(expected).enumerate() {
        assert_eq!(
            (answer.0, &answer.1),
            (code, &codes.iter().map(|c| (*c).to_owned()).collect()),
            "{n}"
        );
    }
}

/// A list of a big factory is larger than any other PEM file may be.
#[test]
fn a_large_list_is_read() {
    let project = project();
    std::fs::write(project.path("index.txt"), {
        let line = |n: u32| {
            format!("R\t301231235959Z\t260101000000Z\t7F{n:030X}\tunknown\t/CN=pump-{n}\n")
        };
        (0x7000_0000..0x7000_8000).map(line).collect::<String>()
    })
    .unwrap();
    let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\n\
        crl_extensions=e\ncrlnumber=number\n[e]\nauthorityKeyIdentifier=keyid\n";
    std::fs::write(project.path("ca.cnf"), config).unwrap();
    std::fs::write(project.path("number"), "01\n").unwrap();
    project.ok(&["ca", "create", "plain", "--unencrypted"]);
    project.ok(&["device", "issue", "valve", "--ca", "plain"]);
    let gencrl = [
        "ca",
        "-gencrl",
        "-config",
        "ca.cnf",
        "-cert",
        "ca/plain/cert.pem",
        "-keyfile",
        "ca/plain/key.pem",
        "-out",
        "big.pem",
    ];
    tool("openssl", &gencrl, project.root());
    assert!(std::fs::metadata(project.path("big.pem")).unwrap().len() > 1 << 20);
    let args = [
        "devices/valve",
        "--root",
        "ca/plain/cert.pem",
        "--crl",
        "big.pem",
        "--crl-check",
    ];
    assert_eq!(verify(&project, &args), (0, vec![]));
}
