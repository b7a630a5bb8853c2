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
