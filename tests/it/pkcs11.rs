//! CA keys in a PKCS#11 token (SoftHSM), and what openssl says of what they signed.

use std::path::PathBuf;
use std::process::Command;

use crate::project::{Project, tool};

pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A project with a SoftHSM token of its own, labelled `factory`, PIN 1234.
pub(crate) struct Lab {
    pub(crate) project: Project,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let project = Project::new();
        std::fs::create_dir(project.path("tokens")).unwrap();
        let tokens = project.path("tokens");
        let config = format!("directories.tokendir = {}\n", tokens.display());
        std::fs::write(project.path("softhsm2.conf"), config).unwrap();
        std::fs::write(project.path("pin"), "1234\n").unwrap();
        let lab = Self { project };
        lab.program(
            "softhsm2-util",
            &[
                "--init-token",
                "--free",
                "--label",
                "factory",
                "--pin",
                "1234",
                "--so-pin",
                "12345678",
            ],
        );
        lab
    }

    fn conf(&self) -> PathBuf {
        self.project.path("softhsm2.conf")
    }

    #[track_caller]
    pub(crate) fn program(&self, program: &str, args: &[&str]) {
        let output = Command::new(program)
            .args(args)
            .current_dir(self.project.root())
            .env("SOFTHSM2_CONF", self.conf())
            .output()
            .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
    }

    pub(crate) fn keygen(&self, kind: &str, label: &str, id: &str) {
        self.program(
            "pkcs11-tool",
            &[
                "--module",
                MODULE,
                "--token-label",
                "factory",
                "--login",
                "--pin",
                "1234",
                "--keypairgen",
                "--key-type",
                kind,
                "--label",
                label,
                "--id",
                id,
            ],
        );
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        command
            .env("SOFTHSM2_CONF", self.conf())
            .env("NAMEPLATE_PKCS11_MODULE", MODULE)
            .env("NAMEPLATE_PIN_FILE", "pin");
        command
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> serde_json::Value {
        let args = [&["--format", "json"], args].concat();
        let output = self.command(&args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Exit code and everything on stderr.
    fn fails(command: &mut Command) -> (i32, String) {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text)
    }

    #[track_caller]
    fn verify(&self, ca: &str, device: &str) {
        let said = tool(
            "openssl",
            &[
                "verify",
                "-x509_strict",
                "-CAfile",
                ca,
                "-untrusted",
                &format!("devices/{device}/chain.pem"),
                &format!("devices/{device}/device.crt.pem"),
            ],
            self.project.root(),
        );
        assert!(said.contains("OK"), "{said}");
    }
}

#[test]
fn keys_of_every_kind_sign_from_the_token() {
    let lab = Lab::new();
    for (kind, name, id) in [
        ("EC:prime256v1", "p256", "01"),
        ("EC:secp384r1", "p384", "02"),
        ("rsa:2048", "rsa", "03"),
    ] {
        lab.keygen(kind, name, id);
        let uri = format!("pkcs11:token=factory;object={name}");
        let made = lab.ok(&["ca", "create", name, "--key", &uri]);
        assert_eq!(made["key_at_rest"], "elsewhere");
        assert!(!lab.project.path(&format!("ca/{name}/key.pem")).exists());
        let device = format!("pump-{name}");
        lab.ok(&["device", "issue", &device, "--ca", name]);
        lab.verify(&format!("ca/{name}/cert.pem"), &device);
    }
}

#[test]
fn a_key_made_in_the_token_signs_a_batch_on_every_thread() {
    let lab = Lab::new();
    let uri = "pkcs11:token=factory;object=line";
    lab.ok(&["ca", "create", "root"]);
    lab.ok(&[
        "ca",
        "create",
        "line",
        "--parent",
        "root",
        "--key",
        uri,
        "--generate-key",
    ]);
    let shown = lab.ok(&["ca", "show", "line"]);
    let at = shown["key_uri"].as_str().unwrap();
    assert!(at.contains("object=line") && at.contains("id=%"), "{at}");
    let list: Vec<String> = (0..200).map(|n| format!("dev-{n}")).collect();
    let list = list.join("\n");
    std::fs::write(lab.project.path("list.csv"), format!("thing_name\n{list}")).unwrap();
    lab.ok(&["device", "batch", "list.csv", "--ca", "line"]);
    for n in [0, 99, 199] {
        lab.verify("ca/root/cert.pem", &format!("dev-{n}"));
    }
    let again = ["ca", "create", "other", "--key", uri, "--generate-key"];
    let (code, text) = Lab::fails(&mut lab.command(&again));
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("pkcs11.exists"), "{text}");
    let listed = Command::new("pkcs11-tool")
        .args(["--module", MODULE, "--token-label", "factory"])
        .args([
            "--login",
            "--pin",
            "1234",
            "--list-objects",
            "--type",
            "privkey",
        ])
        .env("SOFTHSM2_CONF", lab.conf())
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("sensitive"), "{listed}");
    assert!(listed.contains("never extractable"), "{listed}");
}

#[test]
fn a_ca_of_openssl_is_taken_in_with_its_key_in_the_token() {
    let lab = Lab::new();
    let run = |args: &[&str]| tool("openssl", args, lab.project.root());
    run(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "k.pem",
        "-out",
        "c.pem",
        "-days",
        "3650",
        "-subj",
        "/CN=Old Root",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    run(&[
        "pkcs8", "-topk8", "-nocrypt", "-in", "k.pem", "-out", "k8.pem",
    ]);
    lab.program(
        "softhsm2-util",
        &[
            "--import", "k8.pem", "--token", "factory", "--label", "old", "--id", "0a", "--pin",
            "1234",
        ],
    );
    let by_id = "pkcs11:token=factory;id=%0a";
    lab.ok(&["ca", "import", "old", "--cert", "c.pem", "--key", by_id]);
    lab.ok(&["device", "issue", "pump-1"]);
    lab.verify("c.pem", "pump-1");
    // Another key than the certificate's.
    lab.keygen("EC:prime256v1", "wrong", "0b");
    run(&[
        "req",
        "-x509",
        "-key",
        "k.pem",
        "-out",
        "c2.pem",
        "-days",
        "3650",
        "-subj",
        "/CN=Other",
    ]);
    let wrong = "pkcs11:token=factory;object=wrong";
    let (code, text) = Lab::fails(
        &mut lab.command(&["ca", "import", "mixed", "--cert", "c2.pem", "--key", wrong]),
    );
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("ca.key-mismatch"), "{text}");
}

#[test]
fn what_is_missing_is_named() {
    let lab = Lab::new();
    lab.keygen("EC:prime256v1", "there", "01");
    lab.ok(&[
        "ca",
        "create",
        "line",
        "--key",
        "pkcs11:token=factory;object=there",
    ]);
    let create = |uri: &str| lab.command(&["ca", "create", "x", "--key", uri]);
    let cases = [
        (
            "pkcs11:token=gone;object=there",
            4,
            "pkcs11.token-missing",
            "`factory`",
        ),
        (
            "pkcs11:token=factory;object=gone",
            3,
            "pkcs11.key-missing",
            "`there` (id 01)",
        ),
        (
            "pkcs11:object=there?module-path=/none.so",
            3,
            "pkcs11.module",
            "/none.so",
        ),
    ];
    for (uri, exit, name, words) in cases {
        let (code, text) = Lab::fails(&mut create(uri));
        assert_eq!(code, exit, "{uri}: {text}");
        assert!(text.contains(name) && text.contains(words), "{uri}: {text}");
    }
    let there = "pkcs11:token=factory;object=there";
    let (code, text) = Lab::fails(create(there).env_remove("NAMEPLATE_PIN_FILE"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("pkcs11.pin-missing"), "{text}");
    let (code, text) = Lab::fails(create(there).env_remove("NAMEPLATE_PKCS11_MODULE"));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("no PKCS#11 module"), "{text}");
    let (code, text) = Lab::fails(&mut create("pkcs11:object=there?pin-value=1234"));
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("pin-value"), "{text}");
    // The token is gone on a later day.
    std::fs::rename(lab.project.path("tokens"), lab.project.path("away")).unwrap();
    std::fs::create_dir(lab.project.path("tokens")).unwrap();
    let (code, text) = Lab::fails(&mut lab.command(&["device", "issue", "pump-1"]));
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("there are: none"), "{text}");
}

#[test]
fn a_pin_is_tried_once_and_comes_from_anywhere_but_argv() {
    let lab = Lab::new();
    lab.keygen("EC:prime256v1", "k", "01");
    let key = "pkcs11:token=factory;object=k";
    let bare = |args: &[&str]| {
        let mut command = lab.command(args);
        command.env_remove("NAMEPLATE_PIN_FILE");
        command
    };
    std::fs::write(lab.project.path("bad"), "9999").unwrap();
    let (code, text) = Lab::fails(&mut bare(&[
        "ca",
        "create",
        "a",
        "--key",
        key,
        "--pin-file",
        "bad",
    ]));
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("[pkcs11.pin]"), "{text}");
    assert!(!lab.project.path("ca/a").exists());
    let pin = lab.project.path("pin");
    let with_source = format!("{key}?pin-source=file:{}", pin.display());
    let from_uri = bare(&["ca", "create", "a", "--key", &with_source]).status();
    assert!(from_uri.unwrap().success());
    let from_environment = bare(&["ca", "create", "b", "--key", key])
        .env("NAMEPLATE_PIN", "1234")
        .status();
    assert!(from_environment.unwrap().success());
    let config = lab.project.path("nameplate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[pkcs11]\npin_file = \"pin\"\n")).unwrap();
    let from_config = bare(&["device", "issue", "pump-1", "--ca", "b"]).status();
    assert!(from_config.unwrap().success());
}

#[test]
fn a_devices_own_key_stays_in_its_token() {
    let lab = Lab::new();
    lab.project.ok(&["ca", "create", "line"]);
    let key = "pkcs11:token=factory;object=pump-1";
    let issue = ["device", "issue", "pump-1", "--key", key];
    let (code, said) = Lab::fails(&mut lab.command(&issue));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("pkcs11.key-missing"), "{said}");
    let issued = lab.ok(&[&issue[..], &["--generate-key", "--curve", "p384"]].concat());
    let uri = issued["key_uri"].as_str().unwrap();
    assert!(
        uri.contains("object=pump-1") && !uri.contains("pin"),
        "{uri}"
    );
    let place = |name: &str| lab.project.path("devices/pump-1").join(name);
    assert!(!place("device.key.pem").exists());
    let kept = std::fs::read_to_string(place("device.key.uri")).unwrap();
    assert_eq!(kept.trim_end(), uri);
    lab.verify("ca/line/cert.pem", "pump-1");
    // What the token signs, the certificate's key verifies.
    std::fs::write(lab.project.path("text"), "hello").unwrap();
    let hash = ["dgst", "-sha256", "-binary", "-out", "hash", "text"];
    tool("openssl", &hash, lab.project.root());
    let sign = [
        "--module",
        MODULE,
        "--token-label",
        "factory",
        "--login",
        "--pin",
        "1234",
    ];
    let what = ["--sign", "--mechanism", "ECDSA", "--label", "pump-1"];
    let files = [
        "--signature-format",
        "openssl",
        "-i",
        "hash",
        "-o",
        "signature",
    ];
    lab.program("pkcs11-tool", &[&sign[..], &what, &files].concat());
    let leaf = "devices/pump-1/device.crt.pem";
    let public = [
        "x509",
        "-in",
        leaf,
        "-noout",
        "-pubkey",
        "-out",
        "public.pem",
    ];
    tool("openssl", &public, lab.project.root());
    let check = [
        "dgst",
        "-sha256",
        "-verify",
        "public.pem",
        "-signature",
        "signature",
        "text",
    ];
    let said = tool("openssl", &check, lab.project.root());
    assert!(said.contains("Verified OK"), "{said}");
    // A device that has an identity gets no second key.
    let other = "pkcs11:token=factory;object=other";
    let again = [
        "device",
        "issue",
        "pump-1",
        "--key",
        other,
        "--generate-key",
    ];
    let (code, said) = Lab::fails(&mut lab.command(&again));
    assert!(code == 5 && said.contains("ledger.live"), "{said}");
    let (code, said) = Lab::fails(&mut lab.command(&["device", "issue", "x", "--key", other]));
    assert!(code == 3 && said.contains("pkcs11.key-missing"), "{said}");
    // Exports name the token's key to whoever takes URIs.
    let exports = [
        "device",
        "issue",
        "pump-2",
        "--key",
        other,
        "--generate-key",
        "--env",
    ];
    let output = lab.command(&exports).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("export NAMEPLATE_KEY='pkcs11:"), "{said}");
    let (code, _) = Lab::fails(&mut lab.command(&["device", "rotate", "pump-1"]));
    assert!([3, 4, 5].contains(&code), "{code}");
}
