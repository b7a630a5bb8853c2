//! `policy isolate`: proofs, counterexamples that `policy simulate` bears out, and limits.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

const NAME: &str = "${iot:Connection.Thing.ThingName}";
const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";

fn nameplate(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":"iot:{action}","Resource":"{ARN}{resource}"}}"#)
}

fn policy(folder: &Path, statements: &[String]) {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
        statements.join(",")
    );
    std::fs::write(folder.join("p.json"), text).unwrap();
}

#[test]
fn awss_own_policy_isolates_and_any_client_does_not() {
    let folder = tempfile::tempdir().unwrap();
    policy(
        folder.path(),
        &[allow("Connect", &format!("client/{NAME}"))],
    );
    let proved = nameplate(folder.path(), &["policy", "isolate", "p.json"]);
    assert_eq!(proved.status.code(), Some(0), "{proved:?}");
    assert!(String::from_utf8_lossy(&proved.stdout).starts_with("proved: "));
    policy(folder.path(), &[allow("Connect", "client/*")]);
    let words = ["--format", "json", "policy", "isolate", "p.json"];
    let disproved = nameplate(folder.path(), &words);
    assert_eq!(disproved.status.code(), Some(1), "{disproved:?}");
    let report: Value = serde_json::from_slice(&disproved.stdout).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["proved"], false);
    assert_eq!(report["counterexamples"][0]["reach"], "connect");
    bears_out(folder.path(), &report);
}

/// Every command that a counterexample prints says ALLOWED.
fn bears_out(folder: &Path, report: &Value) {
    let mut commands = 0;
    for found in report["counterexamples"].as_array().unwrap() {
        for command in found["commands"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|c| c.as_array().unwrap())
        {
            let command = command.as_str().unwrap();
            let rest = command.strip_prefix("nameplate").unwrap();
            let shell = format!("{}{rest}", env!("CARGO_BIN_EXE_nameplate"));
            let run = Command::new("sh")
                .args(["-c", &shell])
                .current_dir(folder)
                .output()
                .unwrap();
            assert_eq!(run.status.code(), Some(0), "{command}\n{run:?}");
            commands += 1;
        }
    }
    assert!(commands > 0);
}

#[test]
fn a_name_that_begins_another_is_found_and_borne_out() {
    let folder = tempfile::tempdir().unwrap();
    policy(
        folder.path(),
        &[
            allow("Connect", &format!("client/{NAME}")),
            allow("Publish", &format!("topic/d/{NAME}*")),
            allow("Receive", &format!("topic/d/{NAME}*")),
            allow("Subscribe", &format!("topicfilter/d/{NAME}*")),
        ],
    );
    let run = |more: &[&str]| {
        let words = [&["--format", "json", "policy", "isolate", "p.json"], more].concat();
        let output = nameplate(folder.path(), &words);
        (
            output.status.code(),
            serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        )
    };
    let (code, report) = run(&[]);
    assert_eq!(
        (code, report["counterexamples"].as_array().unwrap().len()),
        (Some(1), 3)
    );
    bears_out(folder.path(), &report);
    std::fs::write(folder.path().join("names"), "pump-1\npump-2\npump-10\n").unwrap();
    let (code, report) = run(&["--names-file", "names"]);
    assert_eq!(code, Some(1));
    let devices = &report["counterexamples"][0]["devices"];
    let mut things = [
        devices[0]["thing"].as_str().unwrap(),
        devices[1]["thing"].as_str().unwrap(),
    ];
    things.sort_unstable();
    assert_eq!(things, ["pump-1", "pump-10"]);
    std::fs::write(folder.path().join("names"), "pump-01\npump-02\npump-10\n").unwrap();
    assert_eq!(run(&["--names-file", "names"]).0, Some(0));
    assert_eq!(run(&["--shared", "d/#"]).0, Some(0));
}

#[test]
fn wrong_input_is_told() {
    let folder = tempfile::tempdir().unwrap();
    policy(
        folder.path(),
        &[allow("Connect", &format!("client/{NAME}"))],
    );
    std::fs::write(folder.path().join("names"), "pump 1\npump-2\n").unwrap();
    for (more, code, part) in [
        (&["--shared", "a#"][..], 3, "isolate.shared"),
        (&["--names", "a/b"], 3, "isolate.names"),
        (&["--names-file", "names"], 3, "pump 1"),
        (&["--names-file", "none"], 3, "file.missing"),
    ] {
        let words = [&["policy", "isolate", "p.json"], more].concat();
        let output = nameplate(folder.path(), &words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{more:?} {text}");
        assert!(text.contains(part), "{more:?} {text}");
    }
}

#[test]
fn a_bomb_ends_soon() {
    let folder = tempfile::tempdir().unwrap();
    let wild = format!("topic/*a{}b{NAME}*c?*{NAME}", "?".repeat(600));
    policy(
        folder.path(),
        &[
            allow("Connect", &format!("client/{NAME}")),
            allow("Publish", &wild),
            allow("Receive", "topic/*a*a*a*a*a?????????????*b"),
            allow("Subscribe", "topicfilter/*+*a*??*a*????????"),
        ],
    );
    let began = Instant::now();
    let output = nameplate(folder.path(), &["policy", "isolate", "p.json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        began.elapsed() < Duration::from_mins(1),
        "{:?}",
        began.elapsed()
    );
}

/// Runs it to its end; its exit code, its stdout, and its peak memory in MiB.
fn watched(folder: &Path, words: &[&str]) -> (Option<i32>, String, u64) {
    let out = std::fs::File::create(folder.join("out")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(words)
        .current_dir(folder)
        .stdout(out)
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    let exit = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        if let Some(exit) = child.try_wait().unwrap() {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let out = std::fs::read_to_string(folder.join("out")).unwrap();
    (exit.code(), out, peak_kib / 1024)
}

#[test]
fn a_million_names_take_bounded_time_and_memory() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..1_000_000).map(|n| format!("pump-{n:07}\n")).collect();
    std::fs::write(folder.path().join("names"), names.concat()).unwrap();
    let connect = allow("Connect", &format!("client/{NAME}"));
    let common_name = "${iot:Certificate.Subject.CommonName}";
    let words = |more: &[&'static str]| {
        let base = ["policy", "isolate", "p.json", "--names-file", "names"];
        [&base[..], more].concat()
    };
    let begun = Instant::now();
    // Whole levels, parts of levels that the list keeps apart, and a document that is full of
    // variables that are the name, too.
    let parts = [allow("Publish", &format!("topic/d/{NAME}*"))];
    let same = (0..13).map(|n| {
        let name = if n % 2 == 0 { NAME } else { common_name };
        allow("Publish", &format!("topic/{n}/{name}/data"))
    });
    let same: Vec<String> = same.collect();
    let cases: [(&[String], &[&'static str]); 2] = [
        (&parts, &[]),
        (&same, &["--same", "iot:Certificate.Subject.CommonName"]),
    ];
    for (statements, more) in cases {
        policy(
            folder.path(),
            &[std::slice::from_ref(&connect), statements].concat(),
        );
        let size = std::fs::metadata(folder.path().join("p.json"))
            .unwrap()
            .len();
        assert!(more.is_empty() || (1_700..2_048).contains(&size), "{size}");
        let (code, out, mib) = watched(folder.path(), &words(more));
        assert_eq!(code, Some(0), "{out}");
        assert!(out.starts_with("proved: "), "{out}");
        assert!(mib < 256, "{mib} MiB");
    }
    // One that begins with another is found among them.
    policy(folder.path(), &[&[connect][..], &parts].concat());
    let names = [&names[..], &["pump-04711230\n".to_owned()]].concat();
    std::fs::write(folder.path().join("names"), names.concat()).unwrap();
    let (code, out, mib) = watched(folder.path(), &words(&[]));
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("pump-0471123") && out.contains("pump-04711230"),
        "{out}"
    );
    assert!(mib < 256, "{mib} MiB");
    // Seconds, not minutes, also in a debug build on a busy machine.
    assert!(
        begun.elapsed() < Duration::from_mins(4),
        "{:?}",
        begun.elapsed()
    );
}
