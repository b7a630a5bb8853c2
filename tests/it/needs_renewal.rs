//! `device needs-renewal`: the exit code is the answer, for one and for many, with and without a
//! project, at every side of a border.

use std::io::Write;
use std::process::Stdio;

use crate::device_lab::{CLIENT, Lab, nameplate};
use crate::project::Project;

fn code(project: &Project, args: &[&str]) -> i32 {
    let args = [&["device", "needs-renewal"], args].concat();
    project.run(&args).status.code().unwrap()
}

#[test]
fn the_border_is_where_it_should_be() {
    // A year from 2026-11-02 00:00:00 on.
    let lab = Lab::new();
    let folder = lab.identity("pump-1", "ca", CLIENT, "@2026-11-02 00:00:00");
    let cases = [
        ("33%", "2026-11-02T00:00:00Z", 1),
        // 33 % of 365 days are 120 days 10 h 48 min.
        ("33%", "2027-07-04T13:11:59Z", 1),
        ("33%", "2027-07-04T13:12:00Z", 0),
        ("30d", "2027-10-02T23:59:59Z", 1),
        ("30d", "2027-10-03T00:00:00Z", 0),
        ("0s", "2027-11-01T23:59:59Z", 1),
        ("0s", "2027-11-02T00:00:00Z", 0),
        ("0s", "2027-11-02T00:00:01Z", 0),
        ("30d", "2026-11-01T23:59:59Z", 1),
        ("100%", "2026-11-02T00:00:00Z", 0),
    ];
    for (within, at, expected) in cases {
        let args = [
            "device",
            "needs-renewal",
            &folder,
            "--within",
            within,
            "--at",
            at,
        ];
        let said = nameplate(None, &args);
        assert_eq!(said.code, expected, "{within} {at}: {said}");
    }
}

#[test]
fn files_folders_stdin_and_many_at_once() {
    let lab = Lab::new();
    let old = lab.identity("pump-old", "ca", CLIENT, "@2026-11-02 00:00:00");
    let new = lab.identity("pump-new", "ca", CLIENT, "@2027-06-01 00:00:00");
    let all = lab.path("");
    let all = all.to_str().unwrap();
    let ask = |args: &[&str]| {
        let front = [
            "--format",
            "json",
            "device",
            "needs-renewal",
            "--at",
            "2027-10-20",
        ];
        nameplate(None, &[&front[..], args].concat())
    };
    let (old_file, new_file) = (format!("{old}/device.crt.pem"), format!("{new}/chain.pem"));
    assert_eq!(ask(&[&old]).code, 0);
    assert_eq!(ask(&[&old_file]).code, 0);
    assert_eq!(ask(&["--cert", &new_file]).code, 1);
    assert_eq!(ask(&["--identity", &new]).code, 1);
    let both = ask(&[&new, "--cert", &old_file]);
    assert_eq!(both.code, 0, "{both}");
    let json = both.json();
    let answers: Vec<_> = json["certificates"].as_array().unwrap().iter().collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(
        answers
            .iter()
            .filter(|one| one["needs_renewal"] == true)
            .count(),
        1
    );
    let both = ask(&[all]);
    assert_eq!(both.json()["certificates"].as_array().unwrap().len(), 2);
    // The issuer in chain.pem ends much later than the leaf, and counts with --bundle.
    let bundle = ask(&[&new_file, "--bundle", "--within", "3600d"]);
    let json = bundle.json();
    assert_eq!(
        json["certificates"].as_array().unwrap().len(),
        2,
        "{bundle}"
    );

    let mut child = crate::device_lab::command(None, &["device", "needs-renewal", "-"])
        .args(["--at", "2030-01-01"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pem = std::fs::read(&old_file).unwrap();
    child.stdin.take().unwrap().write_all(&pem).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("-: due: expired at 2027-11-02"));
}

#[test]
fn names_come_from_the_ledger() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "pump-1", "--days", "300"]);
    project.ok(&["device", "issue", "pump-2", "--days", "100"]);
    assert_eq!(code(&project, &["pump-1"]), 1);
    assert_eq!(code(&project, &["pump-1", "--within", "300d"]), 0);
    assert_eq!(code(&project, &["--all", "--within", "99d"]), 1);
    assert_eq!(code(&project, &["--all", "--within", "100d"]), 0);
    assert_eq!(
        code(&project, &["pump-1", "devices/pump-2", "--within", "200d"]),
        0
    );
    let quiet = project.run(&["device", "needs-renewal", "pump-1", "--quiet"]);
    assert_eq!(quiet.status.code(), Some(1));
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
}

#[test]
fn wrong_input_is_told_from_not_due() {
    let project = Project::with_ca();
    let fails = |args: &[&str]| project.fails(&[&["device", "needs-renewal"], args].concat());
    std::fs::write(project.path("no.pem"), "not a certificate\n").unwrap();
    std::fs::create_dir(project.path("empty")).unwrap();
    assert_eq!(fails(&["pump-9"]), (3, "device.unknown".into()));
    assert_eq!(fails(&["./none.pem"]), (3, "file.missing".into()));
    assert_eq!(fails(&["no.pem"]), (3, "pem.none".into()));
    assert_eq!(fails(&["no.pem", "./none.pem"]), (3, "pem.none".into()));
    assert_eq!(
        fails(&["--cert", "empty"]),
        (3, "renewal.no-identity".into())
    );
    assert_eq!(fails(&[]), (2, "device.missing-input".into()));
    assert_eq!(
        fails(&["no.pem", "--at", "soon"]),
        (2, "time.syntax".into())
    );
    for within in ["30", "0%", "101%", "soon"] {
        assert_eq!(
            code(&project, &["no.pem", "--within", within]),
            2,
            "{within}"
        );
    }
}

/// What we ship for systemd is what systemd takes.
#[test]
fn the_units_pass_systemd_analyze() {
    let units = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/device");
    // The commands that the units run must exist for the check: this program stands in for them.
    let folder = tempfile::tempdir().unwrap();
    for name in ["nameplate-renew.service", "nameplate-renew.timer"] {
        let text = std::fs::read_to_string(units.join(name)).unwrap();
        let text = text.replace("/usr/bin/nameplate", env!("CARGO_BIN_EXE_nameplate"));
        let text = text.replace("/usr/local/sbin/renew-identity", "/bin/true");
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let files = ["nameplate-renew.service", "nameplate-renew.timer"];
    let paths = files.map(|name| folder.path().join(name));
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(paths)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .expect("systemd-analyze is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("nameplate-renew"),
        "{said}"
    );
}
