//! What the sandbox keeps: everything through a kill, nothing when it is ephemeral, and who may ask it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::project::{Project, quiet};
use super::sandbox_rest::venv;

const BINARY: &str = env!("CARGO_BIN_EXE_nameplate");

/// Things, certificates, policies, attachments, groups, templates, retained and queued messages, JITP, fleet
/// provisioning, tokens, claims and tasks, each made and changed while the sandbox is killed.
#[test]
fn what_was_acknowledged_outlives_kills() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/kill.py");
    let output = Command::new(venv("python3"))
        .arg(script)
        .args([BINARY.as_ref(), folder.path().as_os_str()])
        .args(["6", "1"])
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(output.stdout.starts_with(b"ok "), "{stderr}");
}

struct Served {
    child: Child,
    folder: PathBuf,
    info: Value,
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where strace is between, what it started outlives it.
        let pid = self.info["pid"]
            .as_u64()
            .and_then(|pid| i32::try_from(pid).ok());
        if let (Some(pid), Ok(None)) = (pid, self.child.try_wait()) {
            let process = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An ephemeral sandbox whose temporary folders are in `place`.
#[expect(
    clippy::zombie_processes,
    reason = "Served waits for it when it is dropped"
)]
fn ephemeral(place: &Path, program: &[&str]) -> Served {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]);
    command.args(["sandbox", "serve", "--ephemeral", "--jitp-delay", "0s"]);
    command.args(["--control", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
    command.env("XDG_RUNTIME_DIR", place);
    command.current_dir(place);
    let child = quiet(&mut command).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        for entry in std::fs::read_dir(place).unwrap().flatten() {
            let folder = entry.path();
            let text = std::fs::read_to_string(folder.join("running.json")).unwrap_or_default();
            let info: Value = serde_json::from_str(&text).unwrap_or_default();
            // Under strace it is a child's.
            if info["pid"].is_u64() && (program.len() > 1 || info["pid"] == child.id()) {
                return Served {
                    child,
                    folder,
                    info,
                };
            }
        }
        assert!(Instant::now() < deadline, "the sandbox does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes things, certificates with keys, retained messages.
fn fill(served: &Served) {
    let script = r#"
import boto3, os
iot, data = boto3.client("iot"), boto3.client("iot-data")
for n in range(20):
    iot.create_thing(thingName=f"precious-{n}")
    data.publish(topic=f"precious/{n}", qos=1, retain=True, payload=b"precious")
iot.create_keys_and_certificate(setAsActive=True)
assert len(iot.list_things()["things"]) == 20
boto3.client("iot", region_name="eu-west-1").create_thing(thingName="precious")
"#;
    let url = served.info["control_url"].as_str().unwrap();
    let status = Command::new(venv("python3"))
        .args(["-c", script])
        .env("AWS_ENDPOINT_URL_IOT", url)
        .env("AWS_ENDPOINT_URL_IOT_DATA_PLANE", url)
        .env("AWS_ACCESS_KEY_ID", "sandbox")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .status()
        .unwrap();
    assert!(status.success());
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The folder has only what others find and trust it by; no file on any disk has been written.
#[test]
fn an_ephemeral_sandbox_keeps_nothing() {
    let place = tempfile::tempdir().unwrap();
    let trace = place.path().join("trace");
    let strace = ["strace", "-f", "-qq", "-e", "trace=%file,ftruncate", "-o"];
    let program = [&strace[..], &[trace.to_str().unwrap(), BINARY]].concat();
    let mut served = ephemeral(place.path(), &program);
    fill(&served);
    let expected = [
        "admin-token",
        "lock",
        "logs.ndjson",
        "running.json",
        "server-ca.pem",
    ];
    assert_eq!(names(&served.folder), expected);
    for name in expected {
        let text = std::fs::read_to_string(served.folder.join(name)).unwrap();
        assert!(!text.contains("precious"), "{name}: {text}");
        assert!(!text.contains("PRIVATE KEY"), "{name}");
    }
    let pid = i32::try_from(served.info["pid"].as_u64().unwrap()).unwrap();
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    served.child.wait().unwrap();
    assert!(!served.folder.exists());
    // Every file that was ever opened for writing, made or renamed is one of the folder's.
    let text = std::fs::read_to_string(&trace).unwrap();
    let writes = [
        "O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "rename", " link(", " linkat(",
    ];
    let folder = served.folder.to_str().unwrap();
    let others: Vec<&str> = text
        .lines()
        .filter(|line| writes.iter().any(|word| line.contains(word)))
        .filter(|line| !line.contains(folder) && !line.contains("\"/dev/"))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(text.contains("running.json"));
}

/// What a killed one leaves has no secret, and the next one clears it away.
#[test]
fn what_a_killed_ephemeral_sandbox_leaves_goes_with_the_next() {
    let place = tempfile::tempdir().unwrap();
    let mut first = ephemeral(place.path(), &[BINARY]);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(first.folder.join("running.json").exists());
    let second = ephemeral(place.path(), &[BINARY]);
    assert!(!first.folder.exists());
    // One that runs is left alone.
    let third = ephemeral(place.path(), &[BINARY]);
    assert!(second.folder.exists() && third.folder.exists());
}

/// Where only known credentials are taken, nameplate's own commands use them.
#[test]
fn commands_are_let_in_where_credentials_are_checked() {
    let project = Project::new();
    project.ok(&["ca", "create", "factory", "--unencrypted"]);
    let keys = "[other]\naws_access_key_id = AKIAEXAMPLE1\naws_secret_access_key = one\n\
                aws_account_id = 210987654321\n\
                [own]\naws_access_key_id = AKIAEXAMPLE2\naws_secret_access_key = two\n\
                aws_session_token = t0ken\n";
    std::fs::write(project.path("keys"), keys).unwrap();
    let known = [
        "sandbox",
        "serve",
        "--auth",
        "known",
        "--credentials",
        "keys",
    ];
    let mut command = project.command(&known);
    command.args(["--control", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"]);
    let child = quiet(&mut command).spawn().unwrap();
    let pid = child.id();
    let mut served = Served {
        child,
        folder: project.path("sandbox"),
        info: Value::Null,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while served.info["pid"] != pid {
        assert!(Instant::now() < deadline, "the sandbox does not start");
        let text = std::fs::read_to_string(project.path("sandbox/running.json"));
        served.info = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(20));
    }
    // By the file that the sandbox was started with.
    project.ok(&["template", "new", "jitp"]);
    let register = ["template", "register", "jitp.json", "--name", "pump"];
    project.ok(&[&register[..], &["--policy", "jitp-policy.json"]].concat());
    project.ok(&["ca", "register", "factory", "--template", "pump"]);
    // By the environment or a profile, where the sandbox is only a URL.
    let url = served.info["control_url"].as_str().unwrap();
    let list = [
        "--target",
        "sandbox",
        "--endpoint-url",
        url,
        "template",
        "list",
    ];
    let run = |envs: &[(&str, &str)], flags: &[&str]| {
        let mut command = project.command(&[&list[..], flags].concat());
        command.envs(envs.iter().copied());
        command.output().unwrap()
    };
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE2"),
        ("AWS_SECRET_ACCESS_KEY", "two"),
        ("AWS_SESSION_TOKEN", "t0ken"),
    ];
    let output = run(&environment, &[]);
    assert!(output.status.success(), "{output:?}");
    let keys = project.path("keys");
    let file = [("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().unwrap())];
    let output = run(&file, &["--profile", "own"]);
    assert!(output.status.success(), "{output:?}");
    let output = run(&[], &[]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let wrong = [
        environment[0],
        ("AWS_SECRET_ACCESS_KEY", "wrong"),
        environment[2],
    ];
    let output = run(&wrong, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("InvalidSignatureException"), "{said}");
}
