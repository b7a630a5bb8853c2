//! `device sign`, `device issue --csr` and `--key`: requests and keys made by OpenSSL and GnuTLS.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use nameplate::core::cert::Certificate;

use crate::project::{Project, tool};

/// Makes `NAME.key` and `NAME.csr` with OpenSSL; `kind` is what `req -newkey` takes.
fn openssl(project: &Project, name: &str, (kind, more): (&[&str], &[&str])) {
    let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
    let subject = format!("/O=Pumps/CN={name}");
    let files = ["-keyout", &key, "-out", &csr, "-subj", &subject];
    let front = ["req", "-new", "-nodes"];
    tool(
        "openssl",
        &[&front[..], kind, &files, more].concat(),
        project.root(),
    );
}

const P256: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
const P521: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
const RSA: &[&str] = &["-newkey", "rsa:2048"];

/// Makes `NAME.csr` with GnuTLS.
fn certtool(project: &Project, name: &str, template: &str) {
    std::fs::write(project.path("template"), template).unwrap();
    let make = [
        "--generate-privkey",
        "--key-type=ecdsa",
        "--curve=secp384r1",
    ];
    let key = format!("{name}.key");
    let csr = format!("{name}.csr");
    tool(
        "certtool",
        &[&make[..], &["--outfile", &key]].concat(),
        project.root(),
    );
    let request = [
        "--generate-request",
        "--template",
        "template",
        "--load-privkey",
    ];
    tool(
        "certtool",
        &[&request[..], &[&key, "--outfile", &csr]].concat(),
        project.root(),
    );
}

fn leaf(project: &Project, device: &str) -> Certificate {
    let path = project.path("devices").join(device).join("device.crt.pem");
    Certificate::all_from_pem(&std::fs::read(path).unwrap())
        .unwrap()
        .remove(0)
}

/// The certificate is for the key that stayed where it was, and others verify it.
fn verified(project: &Project, device: &str) {
    let folder = format!("devices/{device}");
    let (leaf, ca) = (
        format!("{folder}/device.crt.pem"),
        format!("{folder}/ca.pem"),
    );
    let strict = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"];
    tool(
        "openssl",
        &[&strict[..], &[&ca, &leaf]].concat(),
        project.root(),
    );
    let chain = format!("{folder}/chain.pem");
    let verify = ["--verify", "--load-ca-certificate", &ca, "--infile", &chain];
    tool("certtool", &verify, project.root());
    let key = format!("{device}.key");
    let of_key = tool("openssl", &["pkey", "-in", &key, "-pubout"], project.root());
    let show = ["x509", "-in", &leaf, "-noout", "-pubkey"];
    assert_eq!(of_key, tool("openssl", &show, project.root()));
}

#[test]
fn requests_of_openssl_and_gnutls_are_signed_and_the_keys_stay_where_they_are() {
    let project = Project::with_ca();
    openssl(
        &project,
        "p256",
        (P256, &["-addext", "subjectAltName=DNS:p256.example"]),
    );
    openssl(&project, "p384", (P384, &["-sha256"]));
    openssl(&project, "rsa", (RSA, &["-sha512"]));
    certtool(
        &project,
        "gnutls",
        "cn = gnutls\ntls_www_client\nsigning_key\ndns_name = gnutls.example\n",
    );
    std::fs::create_dir(project.path("in")).unwrap();
    for name in ["p256", "p384", "rsa", "gnutls"] {
        let csr = format!("{name}.csr");
        std::fs::rename(project.path(&csr), project.path("in").join(&csr)).unwrap();
    }
    std::fs::copy(
        project.path("ca/factory/cert.pem"),
        project.path("in/ca.pem"),
    )
    .unwrap();
    let report = project.ok(&["device", "sign", "in"]);
    let all = report["certificates"].as_array().unwrap();
    assert_eq!(all.len(), 4);
    for name in ["p256", "p384", "rsa", "gnutls"] {
        verified(&project, name);
        assert!(
            !project
                .path("devices")
                .join(name)
                .join("device.key.pem")
                .exists()
        );
        let one = all.iter().find(|one| one["device"] == name).unwrap();
        assert_eq!(one["standing"], "signed");
        assert_eq!(one["left_out"], serde_json::json!([]));
        assert_eq!(one["id"], leaf(&project, name).id().as_str());
    }
    assert_eq!(
        leaf(&project, "p256").alternative_names,
        ["DNS:p256.example"]
    );
    assert_eq!(
        leaf(&project, "gnutls").alternative_names,
        ["DNS:gnutls.example"]
    );
    assert_eq!(leaf(&project, "rsa").subject.to_string(), "O=Pumps, CN=rsa");
    let shown = project.ok(&["device", "show", "rsa"]);
    assert!(shown.to_string().contains("RSA 2048"), "{shown}");

    // Again: refused before anything is signed, or left as it is.
    openssl(&project, "new", (P256, &[]));
    let again = ["device", "sign", "in", "new.csr"];
    assert_eq!(project.fails(&again), (5, "ledger.live".into()));
    assert!(!project.path("devices/new").exists());
    let report = project.ok(&[&again[..], &["--if-exists", "skip"]].concat());
    let standings: Vec<&str> = report["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["standing"].as_str().unwrap())
        .collect();
    assert_eq!(standings.iter().filter(|s| **s == "skipped").count(), 4);
    assert_eq!(standings.last(), Some(&"signed"));
    assert_eq!(report["certificates"][0]["same_key"], true);
    let issue = [
        "device",
        "issue",
        "p256",
        "--csr",
        "in/p384.csr",
        "--subject-from",
        "csr",
    ];
    assert_eq!(project.fails(&issue), (5, "ledger.live".into()));
    let rotate = project.run(&["device", "rotate", "p256"]);
    assert!(!rotate.status.success());
    let export = ["device", "export", "p256", "--output", "tar"];
    assert_eq!(project.fails(&export), (3, "export.no-key".into()));
    project.ok(&["ledger", "verify"]);
}

#[test]
fn stdin_holds_one_or_many() {
    let project = Project::with_ca();
    let mut text = Vec::new();
    for name in ["a", "b"] {
        openssl(&project, name, (P256, &[]));
        text.extend(std::fs::read(project.path(&format!("{name}.csr"))).unwrap());
    }
    let mut child = project
        .command(&["--format", "ndjson", "device", "sign", "-", "--out", "made"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
    assert!(project.path("made/a/chain.pem").exists());
    assert!(project.path("made/b/ca.pem").exists());
    // DER, from a file.
    openssl(&project, "c", (P256, &["-outform", "DER"]));
    project.ok(&["device", "sign", "c.csr"]);
    verified(&project, "c");
}

#[test]
fn a_named_device_takes_its_request_and_a_killed_run_is_finished() {
    let project = Project::with_ca();
    openssl(
        &project,
        "pump-1",
        (P256, &["-addext", "extendedKeyUsage=serverAuth"]),
    );
    let issue = ["device", "issue", "pump-1", "--csr", "pump-1.csr"];
    assert_eq!(project.fails(&issue), (5, "csr.unmet".into()));
    assert!(!project.path("devices/pump-1").exists());
    let ours = [&issue[..], &["--extensions-from", "profile"]].concat();
    let text = String::from_utf8(project.run(&ours).stdout).unwrap();
    assert!(
        text.contains("left out extendedKeyUsage serverAuth"),
        "{text}"
    );
    assert!(text.contains("stays where it is"), "{text}");
    assert!(!text.contains("device.key.pem"), "{text}");
    verified(&project, "pump-1");

    openssl(&project, "pump-2", (P384, &[]));
    let front = ["--cert-profile", "server", "--set", "host=broker.example"];
    let server = [&front[..], &["--subject-from", "csr"]].concat();
    let issue = ["device", "issue", "pump-2", "--csr", "pump-2.csr"];
    assert_eq!(
        project.fails(&[&issue[..], &front].concat()),
        (5, "csr.unmet".into())
    );
    let report = project.ok(&[&issue[..], &server].concat());
    assert_eq!(report["subject"], "O=Pumps, CN=pump-2");
    assert_eq!(report["key"], "elsewhere");
    assert_eq!(
        leaf(&project, "pump-2").alternative_names,
        ["DNS:broker.example"]
    );
}

#[test]
fn wrong_requests_are_all_told_and_none_is_signed() {
    let project = Project::with_ca();
    openssl(&project, "good", (P256, &[]));
    openssl(&project, "odd", (P521, &[]));
    openssl(&project, "old", (RSA, &["-sha1"]));
    tool(
        "openssl",
        &["genrsa", "-out", "weak.key", "1024"],
        project.root(),
    );
    let weak = [
        "req", "-new", "-key", "weak.key", "-subj", "/CN=weak", "-out", "weak.csr",
    ];
    tool("openssl", &weak, project.root());
    openssl(&project, "der", (P256, &["-outform", "DER"]));
    let mut changed = std::fs::read(project.path("der.csr")).unwrap();
    let at = changed.windows(3).position(|w| w == b"der").unwrap();
    changed[at] = b'D';
    std::fs::write(project.path("der.csr"), changed).unwrap();
    std::fs::write(project.path("text.csr"), "no request").unwrap();
    std::fs::write(project.path("empty.csr"), "").unwrap();
    for (file, code) in [
        ("odd.csr", "csr.key"),
        ("old.csr", "csr.signature"),
        ("weak.csr", "csr.key"),
        ("der.csr", "csr.signature"),
        ("text.csr", "pem.none"),
        ("empty.csr", "pem.none"),
        ("good.key", "csr.none"),
        ("nowhere.csr", "file.missing"),
    ] {
        assert_eq!(
            project.fails(&["device", "sign", file]),
            (3, code.into()),
            "{file}"
        );
        let issue = ["device", "issue", "good", "--csr", file];
        assert_eq!(project.fails(&issue), (3, code.into()), "{file}");
    }
    std::fs::copy(project.path("good.csr"), project.path("same.csr")).unwrap();
    let output = project.run(&["device", "sign", "."]);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    for part in [
        "7 of 8 requests cannot be signed, and none was",
        "EC P-521",
        "RSA 1024",
        "der.csr`: the request's own signature was not made",
        "old.csr`: the request's own signature is of a kind",
        "same.csr`: it is for device `good`, and so is",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(!project.path("devices/good").exists());
    let from_file = ["device", "sign", "good.csr", "--name-from", "file"];
    let with_subject = [&from_file[..], &["--subject", "CN={name},OU=x"]].concat();
    assert_eq!(project.fails(&with_subject), (5, "csr.unmet".into()));
    let serial = ["device", "sign", "good.csr", "--name-from", "serial"];
    assert_eq!(project.fails(&serial), (3, "csr.name".into()));
    let nothing_asked = ["device", "issue", "a", "--subject-from", "csr"];
    assert_eq!(project.run(&nothing_asked).status.code(), Some(2));
    project.ok(&from_file);
}

#[test]
fn keys_made_elsewhere_are_copied_in_every_form() {
    let project = Project::with_ca();
    let run = |args: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        tool("openssl", &args, project.root());
    };
    run("ecparam -name prime256v1 -genkey -noout -out sec1.pem");
    run("ec -in sec1.pem -outform DER -out sec1.der");
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out pkcs8.pem");
    run("pkey -in pkcs8.pem -outform DER -out pkcs8.der");
    run("genrsa -traditional -out rsa.pem 2048");
    run("rsa -in rsa.pem -traditional -outform DER -out rsa.der");
    run("pkcs8 -topk8 -in rsa.pem -out locked.pem -passout file:pw");
    run("pkcs8 -topk8 -in sec1.pem -outform DER -out locked.der -passout file:pw");
    for name in [
        "sec1.pem",
        "sec1.der",
        "pkcs8.pem",
        "pkcs8.der",
        "rsa.pem",
        "rsa.der",
        "locked.pem",
        "locked.der",
    ] {
        let device = name.replace('.', "-");
        let before = std::fs::read(project.path(name)).unwrap();
        let mut args = vec!["device", "issue", &device, "--key", name];
        if name.starts_with("locked") {
            args.extend(["--key-passphrase-file", "pw"]);
        }
        let report = project.ok(&args);
        assert_eq!(report["key"], "copied");
        assert_eq!(std::fs::read(project.path(name)).unwrap(), before);
        let copy = project.path("devices").join(&device).join("device.key.pem");
        let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let copy = copy.to_str().unwrap();
        let of_copy = tool("openssl", &["pkey", "-in", copy, "-pubout"], project.root());
        let original = ["pkey", "-in", name, "-pubout", "-passin", "file:pw"];
        assert_eq!(of_copy, tool("openssl", &original, project.root()));
        std::fs::copy(copy, project.path(&format!("{device}.key"))).unwrap();
        verified(&project, &device);
    }
    // A killed run left the key: the same command goes on, another key does not.
    std::fs::create_dir(project.path("devices/cut")).unwrap();
    std::fs::copy(
        project.path("devices/sec1-pem/device.key.pem"),
        project.path("devices/cut/device.key.pem"),
    )
    .unwrap();
    let issue = |key: &'static str| ["device", "issue", "cut", "--key", key];
    assert_eq!(
        project.fails(&issue("pkcs8.pem")),
        (5, "file.exists".into())
    );
    project.ok(&issue("sec1.pem"));
    run("genrsa -out small.pem 1024");
    run("genpkey -algorithm ed25519 -out ed.pem");
    let issue = |key: &'static str| ["device", "issue", "x", "--key", key];
    for (key, code) in [
        ("small.pem", "key.format"),
        ("ed.pem", "key.format"),
        ("locked.pem", "key.passphrase-missing"),
        ("nowhere.pem", "file.missing"),
        ("ca/factory/cert.pem", "key.none"),
    ] {
        assert_eq!(project.fails(&issue(key)), (3, code.into()), "{key}");
    }
    std::fs::write(project.path("other"), "wrong\n").unwrap();
    let wrong = [
        &issue("locked.pem")[..],
        &["--key-passphrase-file", "other"],
    ]
    .concat();
    assert_eq!(project.fails(&wrong), (3, "key.passphrase".into()));
    assert!(!project.path("devices/x").exists());
}

#[test]
fn a_key_that_aws_refuses_is_certified_only_when_allowed() {
    let project = Project::with_ca();
    openssl(&project, "ed", (&["-newkey", "ed25519"], &[]));
    openssl(&project, "p521", (P521, &[]));
    let sign = ["device", "sign", "ed.csr", "--subject-from", "csr"];
    assert_eq!(project.fails(&sign), (3, "csr.key".into()));
    let output = project.run(&[&sign[..], &["--allow-unsupported"]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("warning: `ed.csr`: Ed25519 keys"),
        "{stderr}"
    );
    let device = leaf(&project, "ed");
    assert_eq!(device.key_algorithm().to_string(), "Ed25519");
    // The signature of a request proves the key, and one that cannot be verified proves nothing.
    let issue = [
        "device",
        "issue",
        "p521",
        "--csr",
        "p521.csr",
        "--subject-from",
        "csr",
    ];
    let issue = [&issue[..], &["--allow-unsupported"]].concat();
    assert_eq!(project.fails(&issue), (3, "csr.signature".into()));
}
