//! `device renew` as a device runs it, against the sandbox: by template and by file, with hooks, back
//! again, and after whatever cuts it off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nameplate::core::ids::CertificateId;

use crate::device_lab::Said;
use crate::fleet_lab::{FleetLab, error_of, leaf};

const NAME: &str = "pump-1";

struct Device {
    lab: FleetLab,
}

impl Device {
    /// A device that has provisioned itself.
    fn new() -> Self {
        let lab = FleetLab::new();
        let claim = lab.claim();
        let folder = lab.text(NAME);
        let serial = format!("SerialNumber={NAME}");
        let args = ["provision", "--claim", &claim, "--identity", &folder];
        let more = ["--template", "fleet", "--param", &serial];
        let said = lab.run(&[&args[..], &more].concat());
        assert_eq!(said.code, 0, "{said}");
        Self { lab }
    }

    fn folder(&self) -> PathBuf {
        self.lab.path(NAME)
    }

    fn leaf(&self) -> CertificateId {
        leaf(&self.folder()).expect("there is an identity")
    }

    fn renew(&self, more: &[&str]) -> Said {
        let folder = self.lab.text(NAME);
        let args = ["device", "renew", "--identity", &folder];
        self.lab.run(&[&args[..], more].concat())
    }

    #[track_caller]
    fn works(&self) {
        let folder = self.lab.text(NAME);
        let connect = ["connect", "--identity", &folder, "--attempts", "1"];
        let said = self.lab.run(&connect);
        assert_eq!(said.code, 0, "{said}");
        assert_eq!(said.json()["client_id"], NAME);
    }

    fn work(&self) -> PathBuf {
        self.lab.path(&format!("{NAME}.renewal"))
    }

    fn old(&self) -> PathBuf {
        self.lab.path(&format!("{NAME}.old"))
    }
}

#[test]
fn a_new_key_and_certificate_come_by_the_template_the_identity_came_from() {
    let device = Device::new();
    let first = device.leaf();
    let said = device.renew(&[]);
    assert_eq!(
        (said.code, &said.json()["outcome"]),
        (0, &"not-due".into()),
        "{said}"
    );
    assert!(!device.work().exists());
    for more in [
        &["--mqtt", "3"][..],
        &["--payload", "cbor", "--key-from", "cloud"],
    ] {
        let before = device.leaf();
        let key = fs::read(device.folder().join("device.key.pem")).unwrap();
        let said = device.renew(&[&["--force"], more].concat());
        assert_eq!(said.code, 0, "{said}");
        let json = said.json();
        assert_eq!(json["outcome"], "renewed");
        assert_eq!(json["old_certificate_id"], before.as_str());
        assert_ne!(device.leaf(), before);
        assert_ne!(
            fs::read(device.folder().join("device.key.pem")).unwrap(),
            key
        );
        assert_eq!(leaf(&device.old()), Some(before));
        assert!(!device.work().exists());
        device.works();
    }
    // Both certificates before are still good: the old is given up by nobody but its owner.
    let said = device.renew(&["--rollback"]);
    assert_eq!(said.code, 0, "{said}");
    device.works();
    assert_ne!(device.leaf(), first);
    let said = device.renew(&["--within", "100%"]);
    assert_eq!(said.json()["outcome"], "renewed", "{said}");
}

#[test]
fn a_request_goes_out_by_file_and_its_certificate_comes_back() {
    let device = Device::new();
    let before = device.leaf();
    let csr = device.lab.text("pump.csr");
    let out = ["--csr-out", &csr];
    let said = device.renew(&out);
    assert_eq!(
        (said.code, &said.json()["outcome"]),
        (0, &"waiting".into()),
        "{said}"
    );
    let text = fs::read_to_string(&csr).unwrap();
    assert_eq!(
        device.renew(&out).json()["csr_pem"],
        text.as_str(),
        "the same again"
    );
    // Somebody else's certificate is refused, and so is one that nobody asked for.
    let stranger = device.lab.identity("stranger", &["device"]);
    let said = device.renew(&["--cert-in", &format!("{stranger}/device.crt.pem")]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (1, &"enrol.other-key".into()),
        "{said}"
    );
    let said = device.renew(&["--force"]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (5, &"enrol.other-way".into()),
        "{said}"
    );
    // The operator has it signed, and gives it what the old one has.
    let signed = device.lab.sign(&text, NAME);
    let brought = device.lab.text("signed.pem");
    fs::write(&brought, &signed).unwrap();
    device.works();
    let said = device.renew(&["--cert-in", &brought]);
    assert_eq!(
        (said.code, &said.json()["outcome"]),
        (0, &"renewed".into()),
        "{said}"
    );
    assert_ne!(device.leaf(), before);
    device.works();
    let said = device.renew(&["--cert-in", &brought]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (3, &"renew.nothing-asked".into())
    );
}

#[test]
fn those_who_use_the_identity_are_told_and_the_old_one_comes_back_when_they_do_not_take_it() {
    let device = Device::new();
    let before = device.leaf();
    let log = device.lab.text("told");
    let say = format!("echo $NAMEPLATE_CERTIFICATE_ID $NAMEPLATE_OLD_CERTIFICATE_ID >> {log}");
    let said = device.renew(&["--force", "--exec", &say, "--exec", "exit 7"]);
    let error = error_of(&said);
    assert_eq!(
        (said.code, &error["error"]),
        (4, &"hook.failed".into()),
        "{said}"
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("old one is back")
    );
    assert_eq!(device.leaf(), before);
    device.works();
    let certificates = device.lab.certificates().len();
    // The next run takes the same new identity, and tells a process too.
    let mut user = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = device.lab.text("pid");
    fs::write(&pid, user.id().to_string()).unwrap();
    let tell = ["--exec", &say, "--signal", &pid, "--signal-name", "term"];
    let said = device.renew(&[&["--force"], &tell[..]].concat());
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["resumed"], true);
    assert_eq!(device.lab.certificates().len(), certificates);
    assert!(!user.wait().unwrap().success(), "it got the signal");
    let told = fs::read_to_string(&log).unwrap();
    let last = told.lines().last().unwrap();
    assert_eq!(last, format!("{} {before}", device.leaf()));
    device.works();
}

#[test]
fn a_new_identity_that_does_not_connect_leaves_the_old_one_alone() {
    let device = Device::new();
    let before = device.leaf();
    device.lab.template(
        "idle",
        &crate::fleet_lab::TEMPLATE.replace("\"ACTIVE\"", "\"INACTIVE\""),
    );
    let wide = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;
    device.lab.policy("device", wide);
    let said = device.renew(&["--force", "--template", "idle", "--timeout", "2s"]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (1, &"enrol.proof".into()),
        "{said}"
    );
    assert_eq!(device.leaf(), before);
    device.works();
    let nowhere = device.lab.text("nowhere");
    let said = device.lab.run(&["device", "renew", "--identity", &nowhere]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (3, &"file.missing".into())
    );
    let said = device.renew(&["--force", "--start-over"]);
    assert_eq!(said.code, 0, "{said}");
    device.works();
}

/// A daemon that does not outlive its test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_renews_what_is_due_and_goes_on() {
    let device = Device::new();
    let before = device.leaf();
    let folder = device.lab.text(NAME);
    let daemon = device
        .lab
        .command(&[
            "device",
            "renew",
            "--identity",
            &folder,
            "--daemon",
            "--every",
            "1s",
            "--within",
            "100%",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(daemon);
    let deadline = Instant::now() + Duration::from_mins(3);
    let mut seen = std::collections::BTreeSet::from([before.to_string()]);
    while seen.len() < 3 {
        assert!(Instant::now() < deadline, "the daemon does not renew");
        assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended");
        if let Some(now) = leaf(Path::new(&folder)) {
            seen.insert(now.to_string());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(daemon);
    let said = device.renew(&["--force"]);
    assert_eq!(said.code, 0, "{said}");
    device.works();
}

/// The service that is shipped, run by hand: its condition, then its command.
#[test]
fn the_shipped_service_renews_what_is_due_and_skips_what_is_not() {
    let device = Device::new();
    let unit = include_str!("../../scripts/device/nameplate-renew.service");
    let line = |key: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(key));
        let text = found.unwrap_or_else(|| panic!("there is no {key}"));
        text.replace("%%", "%").replace("$$", "$")
    };
    let binary = env!("CARGO_BIN_EXE_nameplate");
    let run = |text: &str| {
        let mut command = device.lab.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", &text.replace("/usr/bin/nameplate", binary)]);
        for (name, value) in command
            .env("NAMEPLATE_IDENTITY", device.folder())
            .get_envs()
        {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell.output().unwrap()
    };
    let condition = line("ExecCondition=");
    assert_eq!(run(&condition).status.code(), Some(1), "not due");
    let due = condition.replace("--within 33%", "--within 100%");
    assert_eq!(run(&due).status.code(), Some(0));
    let before = device.leaf();
    let start = line("ExecStart=");
    assert!(start.contains("device renew"), "{start}");
    let output = run(&start.replace("--within 33%", "--within 100%"));
    assert!(output.status.success(), "{output:?}");
    assert_ne!(device.leaf(), before);
    device.works();
}
