//! `policy generate`: what it writes lints clean and isolates.

use std::path::Path;
use std::process::{Command, Output};

fn nameplate(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn done(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

#[test]
fn what_is_generated_lints_clean_and_isolates() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let topics = "publish devices/{thing}/telemetry\nsubscribe devices/{thing}/commands/#\n";
    std::fs::write(at.join("topics.txt"), topics).unwrap();
    let words = [
        "policy",
        "generate",
        "--topics",
        "topics.txt",
        "-o",
        "p.json",
    ];
    done(&nameplate(at, &words), 0);
    done(&nameplate(at, &["policy", "lint", "p.json"]), 0);
    done(&nameplate(at, &["policy", "isolate", "p.json"]), 0);
    // Nothing is overwritten.
    done(&nameplate(at, &words), 5);
    let again = nameplate(at, &["policy", "generate", "--topics", "topics.txt"]);
    done(&again, 0);
    let written = std::fs::read_to_string(at.join("p.json")).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&again.stdout).trim_end(),
        written.trim_end()
    );
}

#[test]
fn recorded_traffic_becomes_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let log = ["pump-1", "pump-2"].map(|name| {
        format!(
            r#"{{"eventType":"Publish-In","status":"Success","clientId":"{name}","topicName":"devices/{name}/t"}}"#
        )
    });
    std::fs::write(at.join("logs.ndjson"), log.join("\n")).unwrap();
    let made = nameplate(at, &["policy", "generate", "--traffic", "logs.ndjson"]);
    done(&made, 0);
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(
        text.contains("topic/devices/${iot:Connection.Thing.ThingName}/t"),
        "{text}"
    );
    assert!(!text.contains("pump-1"), "{text}");
}

#[test]
fn a_long_list_is_split_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let lines: Vec<String> = (0..60)
        .map(|n| format!("publish devices/{{thing}}/channel-{n}"))
        .collect();
    std::fs::write(at.join("topics.txt"), lines.join("\n")).unwrap();
    let words = [
        "policy",
        "generate",
        "--topics",
        "topics.txt",
        "-o",
        "p.json",
    ];
    let refused = nameplate(at, &words);
    done(&refused, 3);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("--split"),
        "{refused:?}"
    );
    done(&nameplate(at, &[&words[..], &["--split"]].concat()), 0);
    assert!(at.join("p-1.json").exists() && at.join("p-2.json").exists());
    assert!(!at.join("p.json").exists());
}
