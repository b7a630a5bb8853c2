//! Passphrase-encrypted keys, in both directions: OpenSSL's read by us, ours by OpenSSL and GnuTLS.

use std::fs;

use crate::project::{Project, tool};

/// A project with a CA of openssl's: `c.pem`, and its key `k.pem` in the clear.
fn lab(curve: &str) -> Project {
    let project = Project::new();
    // OpenSSL reads one file for two passphrases line by line.
    fs::copy(project.path("pw"), project.path("pw2")).unwrap();
    let curve = format!("ec_paramgen_curve:{curve}");
    openssl(
        &project,
        &format!(
            "req -x509 -newkey ec -pkeyopt {curve} -nodes -keyout k.pem -out c.pem -days 3650 -subj /CN=c"
        ),
    );
    project
}

#[track_caller]
fn openssl(project: &Project, args: &str) -> String {
    let args: Vec<&str> = args.split(' ').collect();
    tool("openssl", &args, project.root())
}

fn import<'a>(name: &'a str, key: &'a str) -> [&'a str; 7] {
    ["ca", "import", name, "--cert", "c.pem", "--key", key]
}

#[test]
fn every_scheme_of_openssl_that_is_safe_is_read() {
    for scheme in [
        "-v2 aes-128-cbc",
        "-v2 aes-192-cbc",
        "-v2 aes-256-cbc",
        "-v2 aes-256-cbc -v2prf hmacWithSHA1",
        "-v2 aes-256-cbc -v2prf hmacWithSHA224",
        "-v2 aes-256-cbc -v2prf hmacWithSHA384",
        "-v2 aes-256-cbc -v2prf hmacWithSHA512",
        "-v2 aes-128-cbc -iter 1000000",
        "-scrypt",
    ] {
        let project = lab("P-256");
        let line = format!("pkcs8 -topk8 {scheme} -in k.pem -passout file:pw -out e.pem");
        openssl(&project, &line);
        project.ok(&import("c", "e.pem"));
        project.ok(&["device", "issue", "pump-1"]);
    }
}

#[test]
fn other_schemes_are_refused_with_the_line_that_converts_them() {
    for make in [
        "pkcs8 -topk8 -v2 des3 -in k.pem -passout file:pw -out e.pem",
        "pkcs8 -topk8 -v2 aria-128-cbc -in k.pem -passout file:pw -out e.pem",
        "pkcs8 -topk8 -v1 PBE-SHA1-3DES -in k.pem -passout file:pw -out e.pem",
        "pkcs8 -topk8 -v1 PBE-MD5-DES -provider legacy -provider default -in k.pem -passout file:pw -out e.pem",
        "pkcs8 -topk8 -v1 PBE-SHA1-RC2-40 -provider legacy -provider default -in k.pem -passout file:pw -out e.pem",
        "ec -in k.pem -aes256 -passout file:pw -out e.pem",
    ] {
        let project = lab("P-256");
        openssl(&project, make);
        let output = project.run(&import("c", "e.pem"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{make}: {text}");
        assert!(text.contains("key.scheme"), "{make}: {text}");
        assert!(text.contains("openssl pkcs8 -topk8"), "{make}: {text}");
        // The line does what it says.
        let legacy = if make.contains("legacy") {
            "-provider legacy -provider default "
        } else {
            ""
        };
        let line = format!(
            "pkcs8 -topk8 -v2 aes-256-cbc {legacy}-in e.pem -passin file:pw -passout file:pw2 -out new.pem"
        );
        openssl(&project, &line);
        project.ok(&import("c", "new.pem"));
    }
}

#[test]
fn ours_are_read_by_openssl_and_gnutls() {
    for curve in ["p256", "p384"] {
        let project = Project::new();
        project.ok(&["ca", "create", "ours", "--curve", curve]);
        let key = "ca/ours/key.pem";
        let text = fs::read_to_string(project.path(key)).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        let of_key = openssl(&project, &format!("pkey -in {key} -passin file:pw -pubout"));
        let of_certificate = openssl(&project, "x509 -in ca/ours/cert.pem -noout -pubkey");
        assert_eq!(of_key, of_certificate);
        let read = ["--key-info", "--infile", key, "--password", "correct horse"];
        let said = tool("certtool", &read, project.root());
        let bits = if curve == "p256" { "256" } else { "384" };
        let line = format!("curve:\tSECP{bits}R1");
        assert!(said.contains(&line), "{said}");
    }
}

#[test]
fn a_wrong_passphrase_and_a_broken_file_are_told_apart() {
    let project = lab("P-384");
    openssl(
        &project,
        "pkcs8 -topk8 -in k.pem -passout file:pw -out e.pem",
    );
    fs::write(project.path("other"), "battery staple").unwrap();
    let with_other = [
        &import("c", "e.pem")[..],
        &["--key-passphrase-file", "other"],
    ]
    .concat();
    assert_eq!(project.fails(&with_other), (3, "key.passphrase".into()));
    let text = fs::read_to_string(project.path("e.pem")).unwrap();
    let der = project.path("e.der");
    openssl(&project, "asn1parse -in e.pem -noout -out e.der");
    let whole = fs::read(&der).unwrap();
    for (name, broken) in [
        ("empty", String::new()),
        ("half", text[..text.len() / 2].to_owned()),
        (
            "no-end",
            text.replace("-----END ENCRYPTED PRIVATE KEY-----\n", ""),
        ),
        ("not-base64", text.replace('M', "*")),
    ] {
        fs::write(project.path(name), broken).unwrap();
        let (exit, code) = project.fails(&import("c", name));
        assert_eq!(exit, 3, "{name}");
        assert!(
            ["pem.none", "pem.syntax"].contains(&&code[..]),
            "{name}: {code}"
        );
    }
    // A block that is PEM, around a DER cut short anywhere: never a panic, never a key.
    for length in (0..whole.len()).step_by(37) {
        fs::write(&der, &whole[..length]).unwrap();
        let base64 = openssl(&project, "base64 -in e.der");
        let block = format!(
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{base64}-----END ENCRYPTED PRIVATE KEY-----\n"
        );
        fs::write(project.path("cut"), block).unwrap();
        let (exit, code) = project.fails(&import("c", "cut"));
        assert_eq!(exit, 3, "{length}");
        assert!(
            code.starts_with("key.") || code.starts_with("pem."),
            "{length}: {code}"
        );
    }
    project.ok(&import("c", "e.pem"));
}
