//! `scripts/fault/issue` with few rounds: the full number is a run of its own.

use std::path::PathBuf;
use std::process::Command;

/// Runs it; what it said.
fn faults(more: &str) -> String {
    let venv =
        std::env::var("NAMEPLATE_TEST_VENV").unwrap_or_else(|_| ".nameplate-test/venv".to_owned());
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(here.join("scripts/fault/issue"))
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
fn nothing_is_lost_or_doubled_under_faults() {
    let said = faults("--only kill,race --kills 10 --rows 20 --races 1");
    assert!(said.contains("sqlite: kill: 10 kills"), "{said}");
}

#[test]
fn a_sync_that_fails_is_told_and_the_next_run_finishes() {
    let only = "--only eio --calls fsync --databases sqlite --shapes ndjson --rows 2";
    let said = faults(only);
    assert!(said.contains("injected errors"), "{said}");
}
