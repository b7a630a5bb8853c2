//! `scripts/fault/device` with few rounds: the full number is a run of its own.

use std::path::PathBuf;
use std::process::Command;

/// Runs it; what it said.
fn faults(more: &str) -> String {
    let venv =
        std::env::var("NAMEPLATE_TEST_VENV").unwrap_or_else(|_| ".nameplate-test/venv".to_owned());
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(here.join("scripts/fault/device"))
        .args(["--binary", env!("CARGO_BIN_EXE_nameplate")])
        .args(more.split_whitespace())
        .env("NAMEPLATE_TEST_VENV", std::path::absolute(venv).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn a_run_killed_at_any_rename_is_finished_by_the_next() {
    let said = faults("--calls renameat2,rename --faults signal=KILL --kills 4");
    for part in ["provision: sweep:", "provision: kill:", "renew: sweep:"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_sync_that_fails_is_told_and_the_next_run_finishes() {
    let said = faults("--calls fsync --faults error=EIO --kills 0 --only renew");
    assert!(said.contains("0 wrong"), "{said}");
}
