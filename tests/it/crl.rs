//! `device revoke --local` and `ca crl`, read by OpenSSL, Python's cryptography and pkilint.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::{Project, tool};

fn venv() -> PathBuf {
    std::env::var_os("NAMEPLATE_TEST_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".nameplate-test/venv"),
        PathBuf::from,
    )
}

pub(crate) fn python(name: &str) -> String {
    let path = venv().join("bin").join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path.to_string_lossy().into_owned()
}

fn check(project: &Project) -> (i32, String) {
    let output = project.run(&["--format", "json", "ca", "crl", "factory", "--check"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let due = said["due"].as_str().unwrap_or("no").to_owned();
    (output.status.code().unwrap(), due)
}

/// Revokes `bad` here alone.
fn revoke(project: &Project, name: &str, reason: &str) -> serde_json::Value {
    project.ok(&[
        "device", "revoke", name, "--reason", reason, "--local", "--yes",
    ])
}

fn verifies(project: &Project, device: &str) -> bool {
    let leaf = format!("devices/{device}/device.crt.pem");
    let output = Command::new("openssl")
        .args(["verify", "-crl_check", "-CAfile", "ca/factory/cert.pem"])
        .args(["-CRLfile", "ca/factory/crl.pem", &leaf])
        .current_dir(project.root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() || said.contains("certificate revoked"),
        "{device}: {said}"
    );
    output.status.success()
}

const READ: &str = "
import sys
from cryptography import x509
ca = x509.load_pem_x509_certificate(open('ca/factory/cert.pem', 'rb').read())
crl = x509.load_pem_x509_crl(open('ca/factory/crl.pem', 'rb').read())
assert crl.is_signature_valid(ca.public_key())
number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
reasons = sorted(
    entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    for entry in crl if len(entry.extensions))
print(number, len(crl), *reasons)
";

#[test]
fn other_programs_read_the_list_and_refuse_what_is_on_it() {
    for curve in ["p256", "p384"] {
        let project = Project::new();
        project.ok(&["ca", "create", "factory", "--curve", curve]);
        for name in ["good", "bad", "old"] {
            project.ok(&["device", "issue", name]);
        }
        assert_eq!(check(&project), (1, "none".into()));
        let read = || tool(&python("python3"), &["-c", READ], project.root());
        assert_eq!(project.ok(&["ca", "crl", "factory"])["number"], 1);
        assert_eq!(read().trim(), "1 0", "{curve}");
        assert_eq!(check(&project), (0, "no".into()));
        assert!(verifies(&project, "bad"));
        revoke(&project, "bad", "keycompromise");
        revoke(&project, "old", "unspecified");
        assert_eq!(check(&project), (1, "revoked".into()));
        let made = project.ok(&["ca", "crl", "factory"]);
        assert_eq!((&made["number"], &made["revoked"]), (&2.into(), &2.into()));
        assert_eq!(read().trim(), "2 2 keyCompromise", "{curve}");
        assert_eq!(check(&project), (0, "no".into()));
        assert!(verifies(&project, "good"));
        assert!(!verifies(&project, "bad"));
        assert!(!verifies(&project, "old"));
        let crl = ["crl", "-in", "ca/factory/crl.pem", "-noout"];
        let signed = [&crl[..], &["-verify", "-CAfile", "ca/factory/cert.pem"]].concat();
        tool("openssl", &signed, project.root());
        let text = tool("openssl", &[&crl[..], &["-text"]].concat(), project.root());
        for part in [
            "Version 2",
            "Key Compromise",
            "CRL Number: \n                2",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let lint = [
            "lint",
            "-t",
            "CRL",
            "-p",
            "PKIX",
            "-s",
            "ERROR",
            "ca/factory/crl.pem",
        ];
        let found = tool(&python("lint_crl"), &lint, project.root());
        assert_eq!(found.trim(), "", "{curve}");
        project.ok(&["ledger", "verify"]);
    }
}

#[test]
fn a_reason_is_kept_from_the_first_time_and_wrong_ones_are_refused() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "pump"]);
    let first = revoke(&project, "pump", "superseded");
    let one = &first["certificates"][0];
    let shown = project.run(&["device", "show", "pump"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("  revoked  ") && shown.contains(": superseded"),
        "{shown}"
    );
    assert_eq!(one["was_revoked_here"], false);
    assert_eq!(one["at_target"], serde_json::Value::Null);
    let again = revoke(&project, "pump", "keyCompromise");
    assert_eq!(again["certificates"][0]["reason"], "superseded");
    assert_eq!(again["certificates"][0]["at"], one["at"]);
    let wrong = project.run(&["device", "revoke", "pump", "--reason", "stolen", "--yes"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("cessationOfOperation"));
    project.ok(&["ledger", "verify"]);
}

#[test]
fn a_list_that_did_not_reach_its_file_is_finished_by_the_same_command() {
    let project = Project::with_ca();
    project.ok(&["device", "issue", "pump"]);
    project.ok(&["ca", "crl", "factory"]);
    let before = std::fs::read(project.path("ca/factory/crl.pem")).unwrap();
    revoke(&project, "pump", "keyCompromise");
    // The list is signed and saved, and its place refuses it.
    std::fs::write(project.path("wall"), "").unwrap();
    let walled = ["ca", "crl", "factory", "--out", "wall/crl.pem"];
    assert_eq!(project.fails(&walled), (3, "file.write".into()));
    assert_eq!(check(&project), (1, "file".into()));
    let still = std::fs::read(project.path("ca/factory/crl.pem")).unwrap();
    assert_eq!(still, before);
    let made = project.ok(&["ca", "crl", "factory"]);
    assert_eq!((&made["number"], &made["revoked"]), (&3.into(), &1.into()));
    assert_eq!(check(&project), (0, "no".into()));
    project.ok(&["ledger", "verify"]);
}

#[test]
fn a_run_killed_at_any_moment_is_finished_by_the_same_command() {
    let project = Project::with_ca();
    let mut last = 0;
    let begun = std::time::Instant::now();
    project.ok(&["ca", "crl", "factory"]);
    let whole = begun.elapsed();
    for n in 1..=8_u32 {
        let mut command = project.command(&["ca", "crl", "factory"]);
        let mut child = crate::project::quiet(&mut command).spawn().unwrap();
        std::thread::sleep(whole * n / 9);
        child.kill().unwrap();
        child.wait().unwrap();
        let number = project.ok(&["ca", "crl", "factory"])["number"]
            .as_u64()
            .unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
        assert_eq!(check(&project), (0, "no".into()), "kill {n}");
    }
    project.ok(&["ledger", "verify"]);
}

#[test]
fn the_list_goes_to_stdout_and_wrong_windows_are_refused() {
    let project = Project::with_ca();
    let to_stdout = ["ca", "crl", "factory", "--out", "-", "--der"];
    let output = project.run(&to_stdout);
    assert!(output.status.success(), "{output:?}");
    std::fs::write(project.path("crl.der"), &output.stdout).unwrap();
    let read = [
        "crl",
        "-inform",
        "DER",
        "-in",
        "crl.der",
        "-noout",
        "-nextupdate",
    ];
    tool("openssl", &read, project.root());
    assert_eq!(project.fails(&to_stdout), (2, "output.shape".into()));
    let never = ["ca", "crl", "factory", "--next-update", "0s"];
    assert_eq!(project.fails(&never), (3, "crl.window".into()));
    let nobody = ["ca", "crl", "nobody", "--check"];
    assert_eq!(project.fails(&nobody), (3, "ca.unknown".into()));
    let short = ["ca", "crl", "factory", "--next-update", "1s"];
    project.ok(&short);
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    assert_eq!(check(&project), (1, "over".into()));
}
