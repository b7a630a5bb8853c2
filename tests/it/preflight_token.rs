//! `preflight` with key, certificate and CAs in a PKCS#11 token (SoftHSM).

use crate::device_lab::Said;
use crate::pkcs11::{Lab, MODULE};

const KEY: &str = "pkcs11:token=factory;object=pump";
const CA: &str = "ca/factory/cert.pem";

fn preflight(lab: &Lab, more: &[&str]) -> Said {
    let base = [
        "preflight",
        "--format",
        "json",
        "--offline",
        "--trust-clock",
        "1m",
        "--ca",
        CA,
    ];
    lab.command(&[&base[..], more].concat())
        .output()
        .unwrap()
        .into()
}

/// A device whose key is in the token, and its certificate too.
fn device() -> Lab {
    let lab = Lab::new();
    lab.keygen("EC:prime256v1", "pump", "01");
    lab.project.ok(&["ca", "create", "factory"]);
    let issued = lab
        .command(&["device", "issue", "pump-1", "--key", KEY])
        .output()
        .unwrap();
    assert!(issued.status.success(), "{issued:?}");
    write(&lab, "cert", "devices/pump-1/device.crt.pem", "pump");
    write(&lab, "cert", CA, "ca");
    lab
}

fn token(lab: &Lab, args: &[&str]) {
    let login = [
        "--module",
        MODULE,
        "--token-label",
        "factory",
        "--login",
        "--pin",
        "1234",
    ];
    lab.program("pkcs11-tool", &[&login[..], args].concat());
}

fn write(lab: &Lab, kind: &str, file: &str, label: &str) {
    token(
        lab,
        &[
            "--write-object",
            file,
            "--type",
            kind,
            "--label",
            label,
            "--id",
            "01",
        ],
    );
}

#[test]
fn a_key_in_a_token_is_proved_by_a_signature() {
    let lab = device();
    let folder = ["--identity", "devices/pump-1"];
    let said = preflight(&lab, &folder);
    assert_eq!(said.code, 0, "{said}");
    for id in [
        "identity.key-mode",
        "identity.key-match",
        "identity.key-signs",
    ] {
        assert_eq!(said.status(id), "pass", "{id}: {said}");
    }
    assert!(!said.stdout.contains("1234"), "{said}");
    let both = [
        "--key",
        KEY,
        "--cert",
        "pkcs11:token=factory;object=pump;type=cert",
    ];
    let said = preflight(&lab, &both);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.status("identity.window"), "pass", "{said}");
    let roots = [
        &folder[..],
        &["--ca", "pkcs11:token=factory;object=ca;type=cert"],
    ]
    .concat();
    let base = [
        "preflight",
        "--format",
        "json",
        "--offline",
        "--trust-clock",
        "1m",
    ];
    let said: Said = lab
        .command(&[&base[..], &roots].concat())
        .output()
        .unwrap()
        .into();
    assert_eq!(
        (said.code, &said.status("chain.trust")[..]),
        (0, "pass"),
        "{said}"
    );
}

#[test]
fn a_token_that_is_not_as_it_should_be_is_the_cause() {
    let lab = device();
    for (name, key, words) in [
        (
            "no such key",
            "pkcs11:token=factory;object=other",
            "no private key",
        ),
        (
            "no such token",
            "pkcs11:token=none;object=pump",
            "no token fits",
        ),
        (
            "no module",
            "pkcs11:token=factory;object=pump?module-path=/nonexistent",
            "module",
        ),
        (
            "a wrong PIN",
            "pkcs11:token=factory;object=pump?pin-source=/wrong",
            "PIN",
        ),
        ("no URI", "pkcs11:token=factory", "names no key"),
    ] {
        let mut command = lab.command(&[
            "preflight",
            "--format",
            "json",
            "--offline",
            "--trust-clock",
            "1m",
            "--key",
            key,
            "--cert",
            "devices/pump-1/device.crt.pem",
        ]);
        if key.ends_with("/wrong") {
            command
                .env("NAMEPLATE_PIN", "4321")
                .env_remove("NAMEPLATE_PIN_FILE");
        }
        let said: Said = command.output().unwrap().into();
        assert_eq!(
            (said.code, &said.cause()[..]),
            (1, "identity.files"),
            "{name}: {said}"
        );
        assert!(
            said.json()["verdict"]["summary"]
                .to_string()
                .contains(words),
            "{name}: {said}"
        );
        assert_eq!(said.status("identity.window"), "pass", "{name}: {said}");
    }
    // Another key's public half in its place: only a signature tells.
    let root = lab.project.root();
    crate::project::tool(
        "openssl",
        &[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "other",
        ],
        root,
    );
    let der = [
        "ec",
        "-in",
        "other",
        "-pubout",
        "-outform",
        "DER",
        "-out",
        "other.der",
    ];
    crate::project::tool("openssl", &der, root);
    token(&lab, &["--delete-object", "--type", "pubkey", "--id", "01"]);
    write(&lab, "pubkey", "other.der", "pump");
    let said = preflight(&lab, &["--identity", "devices/pump-1"]);
    assert_eq!(said.status("identity.key-signs"), "fail", "{said}");
}
