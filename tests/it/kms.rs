//! CA keys in AWS KMS, against moto's server: an independent stand-in for the service.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::project::{Project, tool};

/// moto's server, until dropped.
pub(crate) struct Moto {
    process: Child,
    pub(crate) url: String,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let venv = std::env::var_os("NAMEPLATE_TEST_VENV").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".nameplate-test/venv"),
            PathBuf::from,
        );
        let mut process = Command::new(venv.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto_server must be in the tests' Python environment: run scripts/test");
        let said = BufReader::new(process.stderr.take().unwrap());
        let mut lines = said.lines().map_while(Result::ok);
        let url = lines
            .find_map(|line| Some(line.split_once("Running on ")?.1.trim().to_owned()))
            .expect("moto_server says where it runs");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(project: &Project, moto: &str, args: &[&str]) -> (i32, serde_json::Value) {
    let args = [&["--format", "json"], args].concat();
    let output = project
        .command(&args)
        .env("AWS_ENDPOINT_URL_KMS", moto)
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_REGION", "eu-west-1")
        .output()
        .unwrap();
    let text = if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    };
    let value = serde_json::from_slice(text).unwrap_or_else(|_| panic!("{args:?}: {output:?}"));
    (output.status.code().unwrap(), value)
}

#[test]
fn a_key_in_kms_signs() {
    let moto = Moto::start();
    let project = Project::new();
    let ok = |args: &[&str]| {
        let (code, value) = run(&project, &moto.url, args);
        assert_eq!(code, 0, "{args:?}: {value}");
        value
    };
    ok(&[
        "ca",
        "create",
        "root",
        "--key",
        "awskms:alias/root",
        "--generate-key",
    ]);
    let shown = ok(&["ca", "show", "root"]);
    let uri = shown["key_uri"].as_str().unwrap();
    assert!(uri.starts_with("awskms:arn:aws:kms:eu-west-1:"), "{uri}");
    ok(&["ca", "create", "line", "--parent", "root"]);
    ok(&["device", "issue", "pump-1", "--ca", "line"]);
    ok(&["device", "issue", "pump-2", "--ca", "root"]);
    std::fs::write(project.path("l.csv"), "thing_name\nd-1\nd-2\nd-3\nd-4\n").unwrap();
    ok(&["device", "batch", "l.csv", "--ca", "root"]);
    for device in ["pump-1", "pump-2", "d-1", "d-4"] {
        let said = tool(
            "openssl",
            &[
                "verify",
                "-x509_strict",
                "-CAfile",
                "ca/root/cert.pem",
                "-untrusted",
                &format!("devices/{device}/chain.pem"),
                &format!("devices/{device}/device.crt.pem"),
            ],
            project.root(),
        );
        assert!(said.contains("OK"), "{said}");
    }
    // The same key, by its alias, for the same CA in another project.
    let other = Project::new();
    let certificate = project.path("ca/root/cert.pem");
    let certificate = certificate.to_str().unwrap();
    let import = [
        "ca",
        "import",
        "root",
        "--cert",
        certificate,
        "--key",
        "awskms:alias/root",
    ];
    assert_eq!(run(&other, &moto.url, &import).0, 0);
    for (args, exit, error) in [
        (
            &[
                "ca",
                "create",
                "x",
                "--key",
                "awskms:alias/root",
                "--generate-key",
            ][..],
            5,
            "kms.exists",
        ),
        (
            &["ca", "create", "x", "--key", "awskms:alias/none"],
            3,
            "cloud.not-found",
        ),
        (
            &[
                "ca",
                "create",
                "x",
                "--key",
                "awskms:1234-abcd",
                "--generate-key",
            ],
            3,
            "kms.key",
        ),
    ] {
        let (code, value) = run(&project, &moto.url, args);
        assert_eq!(
            (code, value["error"].as_str().unwrap()),
            (exit, error),
            "{args:?}"
        );
    }
}

#[test]
fn kms_that_does_not_answer_is_not_now() {
    let project = Project::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let args = ["ca", "create", "x", "--key", "awskms:alias/root"];
    let (code, value) = run(&project, &url, &args);
    assert_eq!(
        (code, value["error"].as_str().unwrap()),
        (4, "cloud.unavailable")
    );
    assert!(!project.path("ca/x").exists());
}
