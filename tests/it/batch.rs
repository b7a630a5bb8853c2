//! `device batch` as a process: good and bad lists, kill -9, a full disk.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nameplate::core::cert::Certificate;

use crate::device_lab::{Said, command};

/// A project with a root and an intermediate CA.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for args in [
            &["init"][..],
            &["ca", "create", "root", "--unencrypted"],
            &["ca", "create", "line", "--parent", "root", "--unencrypted"],
        ] {
            let said = project.run(args);
            assert_eq!(said.code, 0, "{args:?}: {said}");
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(None, args);
        command.current_dir(self.dir.path());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn list(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Each of these devices has one live identity, and its folder is whole.
    fn assert_issued(&self, devices: &[String]) {
        let ledger = rusqlite::Connection::open(self.path("ledger.sqlite")).unwrap();
        let mut all = ledger
            .prepare("SELECT device, state, folder, der FROM certificates WHERE live = 1")
            .unwrap();
        let live: Vec<(String, String, String, Vec<u8>)> = all
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let names: HashSet<&String> = live.iter().map(|(device, ..)| device).collect();
        assert_eq!(names.len(), live.len(), "two live identities");
        assert_eq!(names, devices.iter().collect());
        for (device, state, folder, der) in &live {
            assert_eq!(state, "issued", "{device}");
            let folder = Path::new(folder);
            let leaf = Certificate::all_from_pem(&fs::read(folder.join("device.crt.pem")).unwrap());
            assert_eq!(leaf.unwrap()[0].der(), der, "{device}");
            for file in ["device.key.pem", "chain.pem", "ca.pem"] {
                assert!(
                    fs::read(folder.join(file)).unwrap().ends_with(b"-----\n"),
                    "{device}"
                );
            }
        }
        assert!(!self.path("devices/.nameplate-staging").exists());
        let folders = fs::read_dir(self.path("devices")).unwrap().count();
        assert_eq!(folders, devices.len(), "a folder without an identity");
    }

    fn assert_verifies(&self, device: &str) {
        let folder = self.path("devices").join(device);
        let openssl = |args: &[&str]| {
            let output = Command::new("openssl")
                .args(args)
                .current_dir(&folder)
                .output();
            let output = output.expect("openssl is installed");
            assert!(output.status.success(), "{device} {args:?}: {output:?}");
            output.stdout
        };
        openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            "ca.pem",
            "-untrusted",
            "chain.pem",
            "device.crt.pem",
        ]);
        let of_certificate = openssl(&["x509", "-in", "device.crt.pem", "-noout", "-pubkey"]);
        assert_eq!(
            of_certificate,
            openssl(&["pkey", "-in", "device.key.pem", "-pubout"])
        );
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

fn csv(devices: &[String]) -> String {
    devices
        .iter()
        .fold("serial\n".to_owned(), |mut text, name| {
            let _ = writeln!(text, "{name}");
            text
        })
}

#[test]
fn lists_are_issued_from_csv_ndjson_and_stdin() {
    let project = Project::new();
    project.list(
        "a.csv",
        "serial,name,plant\r\n7,pump-1,\"Nord, Ost\"\r\n8,pump-2,Süd\r\n",
    );
    let subject = "CN={name},serialNumber={serial},O={plant}";
    let said = project.run(&[
        "device",
        "batch",
        "a.csv",
        "--subject",
        subject,
        "--format",
        "ndjson",
    ]);
    assert_eq!(said.code, 0, "{said}");
    let lines: Vec<serde_json::Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(
        (&lines[0]["name"], &lines[1]["standing"]),
        (&"pump-1".into(), &"issued".into())
    );
    assert_eq!(lines[2]["issued"], 2, "{said}");
    let leaf = fs::read(project.path("devices/pump-1/device.crt.pem")).unwrap();
    let leaf = Certificate::all_from_pem(&leaf).unwrap().swap_remove(0);
    assert_eq!(
        leaf.subject.to_string(),
        r"CN=pump-1, serialNumber=7, O=Nord\, Ost"
    );
    assert_eq!(lines[0]["certificate_id"], leaf.id().as_str());

    project.list(
        "b.ndjson",
        "{\"name\":\"pump-3\",\"x\":null}\n{\"name\":\"pump-4\"}\n",
    );
    let said = project.run(&["device", "batch", "b.ndjson", "--format", "json"]);
    assert_eq!(
        (said.code, &said.json()["issued"]),
        (0, &2.into()),
        "{said}"
    );

    let mut batch = project.command(&["device", "batch", "-", "--format", "json"]);
    batch
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = batch.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"serial\npump-4\npump-5\n")
        .unwrap();
    let said: Said = child.wait_with_output().unwrap().into();
    assert_eq!(said.json()["issued"], 1, "{said}");
    assert_eq!(said.json()["skipped"], 1, "{said}");

    let all: Vec<String> = (1..=5).map(|n| format!("pump-{n}")).collect();
    project.assert_issued(&all);
    all.iter()
        .for_each(|device| project.assert_verifies(device));
}

#[test]
fn a_wrong_row_is_named_and_nothing_is_issued() {
    let project = Project::new();
    let jitp = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/jitp.json");
    let long = format!("name\n{}\n", "x".repeat(129));
    let cases: [(&[u8], &[&str], &[&str]); 8] = [
        (b"name\na\nb\na\n", &[], &["line 4", "`name`", "line 2"]),
        (
            b"name,serial\na,1\nb,1\n",
            &[],
            &["line 3", "`serial`", "line 2"],
        ),
        (b"name,x\n,1\n", &[], &["line 2", "`name`", "empty"]),
        (long.as_bytes(), &[], &["line 2", "`name`", "128"]),
        (b"name,x\na,b\xffc\n", &[], &["line 2", "`x`", "0xff", "2"]),
        (b"id\na\n", &[], &["--name-column", "id"]),
        (b"name\na\n", &["--subject", "CN={nmae}"], &["{nmae}"]),
        (
            b"name\na\n",
            &["--template-file", jitp],
            &["line 2", "SerialNumber"],
        ),
    ];
    for (bytes, more, expected) in cases {
        project.list("list.csv", bytes);
        let said = project.run(&[&["device", "batch", "list.csv"], more].concat());
        assert_eq!(said.code, 3, "{said}");
        for part in expected {
            assert!(said.stderr.contains(part), "{part}: {said}");
        }
    }
    assert!(!project.path("devices").exists());
    project.list("list.csv", b"name\na\n");
    assert_eq!(project.run(&["device", "batch", "list.csv"]).code, 0);
    let said = project.run(&["device", "batch", "list.csv", "--if-exists", "fail"]);
    assert_eq!(said.code, 5, "{said}");
    fs::create_dir(project.path("devices/b")).unwrap();
    project.list("list.csv", b"name\nc\nb\n");
    let said = project.run(&["device", "batch", "list.csv"]);
    assert_eq!(said.code, 5, "{said}");
    fs::remove_dir(project.path("devices/b")).unwrap();
    project.assert_issued(&["a".to_owned()]);
}

/// Kills the batch at fifteen moments of its life; each time the list grows once it is done.
#[test]
fn killed_at_any_moment_the_same_command_finishes() {
    let project = Project::new();
    let batch = ["device", "batch", "list.csv"];
    let mut devices = names("pump", 1_500);
    project.list("list.csv", csv(&devices));
    // A seed that changes from run to run; the moments are printed when the test fails.
    let mut seed = Instant::now().elapsed().subsec_nanos() ^ std::process::id();
    for kill in 0..15 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let moment = Duration::from_millis(u64::from(seed >> 8) % 400);
        println!("kill {kill} after {moment:?}");
        let mut child = project.start(&batch);
        std::thread::sleep(moment);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            let more = devices.len() + 500;
            devices = names("pump", more);
            project.list("list.csv", csv(&devices));
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let said = project.run(&batch);
    assert_eq!(said.code, 0, "{said}");
    project.assert_issued(&devices);
    devices
        .iter()
        .step_by(150)
        .for_each(|device| project.assert_verifies(device));
    assert_eq!(project.run(&["ledger", "verify"]).code, 0);
    let again = project.run(&[&batch[..], &["--format", "json"]].concat());
    assert_eq!(again.json()["issued"], 0, "{again}");
    assert_eq!(again.json()["skipped"], devices.len(), "{again}");
}

/// A small file system of its own, gone when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, size: &str) -> Self {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at)
            .status()
            .unwrap();
        assert!(
            mounted.success(),
            "this test mounts a tmpfs, so it must run as root"
        );
        Self(at)
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_says_how_far_it_got_and_a_rerun_finishes() {
    let project = Project::new();
    let devices = names("pump", 400);
    project.list("list.csv", csv(&devices));
    let disk = SmallDisk::mount(project.path("devices"), "3M");
    let batch = ["device", "batch", "list.csv"];
    let full = project.run(&batch);
    assert_eq!(full.code, 4, "{full}");
    assert!(full.stderr.contains("of 400 devices"), "{full}");
    assert!(
        full.stderr.contains("file.disk-full") && full.stderr.contains("room"),
        "{full}"
    );
    let in_place = fs::read_dir(&disk.0).unwrap().count();
    assert!(
        full.stderr
            .contains(&format!("stopped after {in_place} of")),
        "{full}"
    );
    disk.grow("32M");
    let said = project.run(&batch);
    assert_eq!(said.code, 0, "{said}");
    project.assert_issued(&devices);
}
