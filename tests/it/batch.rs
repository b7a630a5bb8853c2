//! `device batch`: killed, out of disk, given bad lists.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::project::{Project, quiet, tool};

fn list(count: usize) -> String {
    let mut text = "serial,site\n".to_owned();
    for n in 0..count {
        writeln!(text, "SN-{n:05},\"Hall, {n}\"").unwrap();
    }
    text
}

/// Every row: one live identity, its folder whole, its certificate the ledger's.
#[track_caller]
fn assert_whole(project: &Project, out: &Path, count: usize) {
    let all = project.ok(&["device", "list", "--state", "issued"]);
    let mut by_device = BTreeMap::new();
    for device in all["devices"].as_array().unwrap() {
        assert_eq!(device["live"], true);
        let name = device["device"].as_str().unwrap().to_owned();
        let id = device["id"].as_str().unwrap().to_owned();
        assert!(by_device.insert(name, id).is_none());
    }
    assert_eq!(by_device.len(), count);
    let intended = project.ok(&["device", "list", "--state", "intended"]);
    assert_eq!(intended["devices"].as_array().unwrap().len(), 0);
    let mut folders = 0;
    for entry in std::fs::read_dir(out).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let id = by_device
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is not ours"));
        let leaf = std::fs::read(folder.join("device.crt.pem")).unwrap();
        let leaf = nameplate::core::cert::Certificate::all_from_pem(&leaf).unwrap();
        assert_eq!(leaf[0].id().as_str(), id);
        assert!(folder.join("device.key.pem").exists() && folder.join("chain.pem").exists());
        folders += 1;
    }
    assert_eq!(folders, count);
    assert_eq!(
        project.ok(&["ledger", "verify"])["broken"],
        serde_json::Value::Null
    );
}

#[test]
fn killed_at_random_moments_the_same_command_finishes() {
    const COUNT: usize = 2_000;
    let project = Project::with_ca();
    std::fs::write(project.path("list.csv"), list(COUNT)).unwrap();
    let args = [
        "device",
        "batch",
        "list.csv",
        "--subject",
        "CN={serial},OU={site}",
        "--out",
        "out",
    ];
    let mut state = 0x2545_f491_u32;
    let mut kills = 0;
    while kills < 20 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let mut child = quiet(&mut project.command(&args)).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(u64::from(state % 400)));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    let last = project.ok(&args);
    let sum = ["issued", "finished", "skipped"].map(|part| last[part].as_u64().unwrap());
    assert_eq!(sum.iter().sum::<u64>(), COUNT as u64);
    assert_whole(&project, &project.path("out"), COUNT);
    let verify = [
        "verify",
        "-CAfile",
        "out/SN-00007/ca.pem",
        "out/SN-00007/device.crt.pem",
    ];
    tool("openssl", &verify, project.root());
}

/// Unmounts when the test is over, however it ends.
pub(crate) struct Mount(pub(crate) std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_full_disk_stops_the_batch_and_loses_nothing() {
    let project = Project::with_ca();
    let small = project.path("small");
    std::fs::create_dir(&small).unwrap();
    let target = small.to_str().unwrap();
    // This needs root, as CI has; elsewhere it fails rather than pass untested.
    tool(
        "mount",
        &["-t", "tmpfs", "-o", "size=12M", "tmpfs", target],
        project.root(),
    );
    let mount = Mount(small.clone());
    std::fs::write(project.path("list.csv"), list(1_500)).unwrap();
    let args = ["device", "batch", "list.csv", "--out", "small/out"];
    let (exit, code) = project.fails(&args);
    assert_eq!((exit, &code[..]), (4, "file.disk-full"));
    assert!(!small.join("out/.nameplate-staging").exists());
    tool("mount", &["-o", "remount,size=64M", target], project.root());
    let done = project.ok(&args);
    assert!(done["skipped"].as_u64().unwrap() > 0, "{done}");
    assert_whole(&project, &small.join("out"), 1_500);
    drop(mount);
}

#[test]
fn bad_lists_issue_nothing() {
    let project = Project::with_ca();
    let long = format!("name\n{}\n", "x".repeat(129));
    for (bytes, subject, expected) in [
        (&b"serial\nA\nB\nA\n"[..], "CN={name}", "list.rows"),
        (b"serial\nA\nB\xff\n", "CN={name}", "list.rows"),
        (long.as_bytes(), "CN={name}", "list.rows"),
        (b"serial\nA\n", "CN={nmae}", "pattern.unknown"),
        (b"number\nA\n", "CN={name}", "list.name-column"),
        (b"serial,c\nA,DEU\n", "CN={name},C={c}", "list.rows"),
        (b"serial\n", "CN={name}", "list.empty"),
    ] {
        std::fs::write(project.path("list.csv"), bytes).unwrap();
        let (exit, code) = project.fails(&["device", "batch", "list.csv", "--subject", subject]);
        assert_eq!((exit, &code[..]), (3, expected));
    }
    assert!(!project.path("devices").exists());
    std::fs::create_dir_all(project.path("devices/A")).unwrap();
    std::fs::write(project.path("list.csv"), "serial\nA\n").unwrap();
    let failed = project.fails(&["device", "batch", "list.csv"]);
    assert_eq!(failed, (5, "file.exists".to_owned()));
}

#[test]
fn lists_are_read_from_csv_ndjson_and_stdin_and_streamed() {
    let project = Project::with_ca();
    let text = "serial,name,plant\r\n7,pump-1,\"Nord, Ost\"\r\n8,pump-2,Süd\r\n";
    std::fs::write(project.path("a.csv"), text).unwrap();
    let subject = "CN={name},serialNumber={serial},O={plant}";
    let args = [
        "--format",
        "ndjson",
        "device",
        "batch",
        "a.csv",
        "--subject",
        subject,
    ];
    let output = project.run(&args);
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        (&lines[0]["name"], &lines[1]["standing"]),
        (&"pump-1".into(), &"issued".into())
    );
    assert_eq!(lines[2]["issued"], 2);
    let leaf = std::fs::read(project.path("devices/pump-1/device.crt.pem")).unwrap();
    let leaf = nameplate::core::cert::Certificate::all_from_pem(&leaf)
        .unwrap()
        .swap_remove(0);
    assert_eq!(
        leaf.subject.to_string(),
        r"CN=pump-1, serialNumber=7, O=Nord\, Ost"
    );
    assert_eq!(lines[0]["certificate_id"], leaf.id().as_str());

    let text = "{\"name\":\"pump-3\",\"x\":null}\n{\"name\":\"pump-4\"}\n";
    std::fs::write(project.path("b.ndjson"), text).unwrap();
    assert_eq!(project.ok(&["device", "batch", "b.ndjson"])["issued"], 2);

    let mut batch = project.command(&["--format", "json", "device", "batch", "-"]);
    let mut child = batch
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"serial\npump-4\npump-5\n")
        .unwrap();
    let said: serde_json::Value =
        serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((&said["issued"], &said["skipped"]), (&1.into(), &1.into()));
    assert_whole(&project, &project.path("devices"), 5);
}

#[test]
fn a_wrong_row_is_named_with_line_and_column() {
    let project = Project::with_ca();
    let jitp = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/jitp.json");
    let cases: [(&[u8], &[&str], &[&str]); 5] = [
        (
            b"name\r\na\r\nb\r\na\r\n",
            &[],
            &["line 4", "`name`", "line 2"],
        ),
        (
            b"name,serial\na,1\nb,1\n",
            &[],
            &["line 3", "`serial`", "line 2"],
        ),
        (b"name,x\n,1\n", &[], &["line 2", "`name`", "empty"]),
        (b"name,x\na,b\xffc\n", &[], &["line 2", "`x`", "0xff", "2"]),
        (
            b"name\na\n",
            &["--template-file", jitp],
            &["line 2", "SerialNumber"],
        ),
    ];
    for (bytes, more, expected) in cases {
        std::fs::write(project.path("list.csv"), bytes).unwrap();
        let output = project.run(&[&["device", "batch", "list.csv"], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        for part in expected {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert!(!project.path("devices").exists());
}
