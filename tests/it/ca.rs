//! `ca create`, `ca import`: what openssl says of them, and what is refused.

use crate::project::{Project, tool};

#[test]
fn openssl_accepts_our_chain_and_reads_our_encrypted_key() {
    let project = Project::new();
    project.ok(&[
        "ca",
        "create",
        "root",
        "--subject",
        "DC=com,DC=example,CN=Root",
    ]);
    project.ok(&[
        "ca", "create", "line", "--parent", "root", "--curve", "p384",
    ]);
    project.ok(&["device", "issue", "pump-1"]);
    let said = tool(
        "openssl",
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            "ca/root/cert.pem",
            "-untrusted",
            "devices/pump-1/chain.pem",
            "devices/pump-1/device.crt.pem",
        ],
        project.root(),
    );
    assert!(said.contains("OK"), "{said}");
    let key = [
        "pkey",
        "-in",
        "ca/line/key.pem",
        "-passin",
        "file:pw",
        "-pubout",
    ];
    let from_key = tool("openssl", &key, project.root());
    let certificate = ["x509", "-in", "ca/line/cert.pem", "-noout", "-pubkey"];
    assert_eq!(from_key, tool("openssl", &certificate, project.root()));
}

#[test]
fn a_ca_made_by_openssl_is_taken_in_and_issues() {
    let project = Project::new();
    tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "k.pem",
            "-out",
            "c.pem",
            "-days",
            "3650",
            "-subj",
            "/O=Pumps/OU=one/OU=two/CN=Old Root",
        ],
        project.root(),
    );
    // Not valid an hour ago, so a device's window begins with it.
    project.ok(&["ca", "import", "old", "--cert", "c.pem", "--key", "k.pem"]);
    project.ok(&["device", "issue", "pump-1"]);
    let verify = [
        "verify",
        "-CAfile",
        "c.pem",
        "devices/pump-1/device.crt.pem",
    ];
    tool("openssl", &verify, project.root());
    let text = std::fs::read_to_string(project.path("ca/old/key.pem")).unwrap();
    assert!(text.contains("ENCRYPTED"), "the copy is encrypted at rest");

    std::fs::copy(project.path("ca/old/key.pem"), project.path("other.pem")).unwrap();
    project.ok(&["ca", "create", "another"]);
    std::fs::copy(
        project.path("ca/another/key.pem"),
        project.path("ca/old/key.pem"),
    )
    .unwrap();
    let failed = project.fails(&["device", "issue", "pump-2", "--ca", "old"]);
    assert_eq!(failed, (3, "ca.key-mismatch".to_owned()));
}

#[test]
fn bad_input_is_refused_by_name() {
    let project = Project::new();
    std::fs::write(project.path("wrong"), "wrong").unwrap();
    project.ok(&["ca", "create", "root"]);
    project.ok(&["ca", "create", "line", "--parent", "root"]);
    let leaf = project.ok(&["device", "issue", "a", "--ca", "line"]);
    assert_eq!(leaf["device"], "a");
    for (args, expected) in [
        (&["ca", "create", "root"][..], (5, "ca.exists")),
        (
            &["ca", "create", "sub", "--parent", "line"],
            (3, "ca.path-length"),
        ),
        (&["ca", "create", "../x"], (3, "name.invalid")),
        (
            &["ca", "create", "x", "--parent", "nobody"],
            (3, "ca.unknown"),
        ),
        (
            &["ca", "create", "x", "--parent", "root", "--days", "4000"],
            (3, "lifetime.after-ca"),
        ),
        (
            &[
                "ca",
                "create",
                "x",
                "--parent",
                "root",
                "--parent-passphrase-file",
                "wrong",
            ],
            (3, "key.passphrase"),
        ),
        (
            &[
                "ca",
                "import",
                "x",
                "--cert",
                "devices/a/device.crt.pem",
                "--key",
                "devices/a/device.key.pem",
            ],
            (3, "draft.issuer"),
        ),
        (
            &[
                "device",
                "issue",
                "b",
                "--ca",
                "line",
                "--passphrase-file",
                "wrong",
            ],
            (3, "key.passphrase"),
        ),
        (
            &["device", "issue", "b", "--ca", "line", "--days", "4000"],
            (3, "lifetime.after-ca"),
        ),
        (
            &["device", "issue", "a", "--ca", "line"],
            (5, "ledger.live"),
        ),
        (
            &["device", "issue", "b", "--subject", "CN={nam}"],
            (3, "pattern.unknown"),
        ),
    ] {
        let (exit, code) = project.fails(args);
        assert_eq!((exit, &code[..]), expected, "{args:?}");
    }
    let mut command = project.command(&["--format", "json", "ca", "create", "x"]);
    let output = command
        .env_remove("NAMEPLATE_PASSPHRASE_FILE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ca.passphrase-missing"));
}

#[test]
fn an_expired_ca_does_not_issue() {
    let project = Project::new();
    project.ok(&[
        "ca",
        "create",
        "old",
        "--not-before",
        "-2d",
        "--not-after",
        "-1d",
    ]);
    assert_eq!(
        project.fails(&["device", "issue", "a"]),
        (3, "ca.expired".to_owned())
    );
    project.ok(&["ca", "create", "early", "--not-before", "+1d"]);
    let failed = project.fails(&["device", "issue", "a", "--ca", "early"]);
    assert_eq!(failed, (3, "ca.not-yet-valid".to_owned()));
}

#[test]
fn init_keeps_what_is_there() {
    let project = Project::with_ca();
    std::fs::write(
        project.path("nameplate.toml"),
        "[issue]\nvalidity = \"10d\"\n",
    )
    .unwrap();
    let again = project.ok(&["init", "."]);
    let parts = again["parts"].as_array().unwrap();
    assert!(parts.iter().all(|part| part["made"] == false), "{again}");
    project.ok(&["device", "issue", "a"]);
}
