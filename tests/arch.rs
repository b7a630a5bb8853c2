//! The walls of the house. One package has no crate boundaries, so this test is the boundary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. A room not listed here may import nothing of ours.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &[]),
    ("lib", &[]),
    ("explain", &[]),
    ("core", &["explain"]),
    ("ports", &["core", "explain"]),
    ("effects", &["core", "explain", "ports"]),
    ("flows", &["core", "explain", "ports"]),
    ("sandbox", &["core", "explain", "ports"]),
    ("cli", &["core", "explain", "flows", "ports"]),
    (
        "cli/sandbox",
        &["core", "explain", "flows", "ports", "sandbox"],
    ),
    (
        "cli/wire",
        &["core", "effects", "explain", "flows", "ports", "sandbox"],
    ),
];

/// Files outside `cli/wire` that may name an adapter all the same, each with its reason.
const ADAPTER_EXCEPTIONS: &[(&str, &str)] = &[];

/// Words that mean an effect. They may not stand under `src/core` outside tests.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "SystemRandom",
    "OffsetDateTime::now",
    "tokio",
    "async fn",
    "println!",
    "eprintln!",
    "print!(",
];

/// Longest function, in lines from signature to closing brace. A longer one stands here with why.
const MAX_FUNCTION: usize = 50;
const LONG_FUNCTIONS: &[(&str, &str)] = &[];
/// Longest file, tests not counted.
const MAX_FILE: usize = 600;

struct Source {
    /// Path under `src`, without `.rs`.
    name: String,
    /// The lines before the first `#[cfg(test)]`.
    lines: Vec<String>,
}

#[test]
fn imports_point_one_way() {
    let mut broken = Vec::new();
    for source in sources() {
        let room = room_of(&source.name);
        let allowed = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == room)
            .map_or(&[][..], |(_, a)| a);
        let own = room.split('/').next().unwrap();
        for (n, line) in source.code() {
            for used in line.split("crate::").skip(1) {
                let target: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let excepted = ADAPTER_EXCEPTIONS
                    .iter()
                    .any(|(file, _)| *file == source.name);
                if !target.is_empty()
                    && target != own
                    && !allowed.contains(&&target[..])
                    && !excepted
                {
                    broken.push(format!("src/{}.rs:{n} {room} -> {target}", source.name));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_core_has_no_effects() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.name.starts_with("core/"))
    {
        for (n, line) in source.code() {
            if let Some(word) = EFFECTS.iter().find(|word| line.contains(**word)) {
                broken.push(format!("src/{}.rs:{n} `{word}` in the core", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_clock_is_read_in_one_place_and_the_process_ends_in_another() {
    let mut broken = Vec::new();
    for source in sources() {
        for (n, line) in source.code() {
            let at = format!("src/{}.rs:{n} {}", source.name, line.trim());
            let reads_clock = ["SystemTime::now", "Instant::now", "now_utc", "now_local"]
                .iter()
                .any(|word| line.contains(word));
            if reads_clock && source.name != "effects/clock" {
                broken.push(at.clone());
            }
            if line.contains("process::exit") {
                broken.push(at.clone());
            }
            if line.contains("unsafe ") && source.name != "effects/kernel_clock" {
                broken.push(at);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A feature gate stands on a `mod` line, an enum variant, a `use` or a match arm, never inside an
/// expression: what is compiled in must be visible from the map.
#[test]
fn feature_gates_stand_on_items() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.name == "cli/version" {
            continue;
        }
        for (n, line) in source.code() {
            if line.contains("cfg!(feature") {
                broken.push(format!("src/{}.rs:{n} {}", source.name, line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_and_functions_stay_within_their_budgets() {
    let mut broken = Vec::new();
    for source in sources() {
        if source.lines.len() > MAX_FILE {
            broken.push(format!(
                "src/{}.rs has {} lines",
                source.name,
                source.lines.len()
            ));
        }
        for (name, length) in functions(&source.lines) {
            let excepted = LONG_FUNCTIONS.iter().any(|(known, _)| *known == name);
            if length > MAX_FUNCTION && !excepted {
                broken.push(format!(
                    "src/{}.rs: fn {name} has {length} lines",
                    source.name
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

impl Source {
    /// Numbered lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines
            .iter()
            .enumerate()
            .map(|(n, line)| (n + 1, line.split("//").next().unwrap_or(line)))
    }
}

fn room_of(name: &str) -> String {
    if name == "cli/wire" || name.starts_with("cli/wire/") || name.starts_with("cli/wire_") {
        return "cli/wire".into();
    }
    if name.starts_with("cli/sandbox/") {
        return "cli/sandbox".into();
    }
    name.split('/').next().unwrap().into()
}

/// Every function with its length; formatted code closes a function at its own indentation.
fn functions(lines: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|l| {
            *l == close || (l.trim_end().ends_with(';') && l.len() - l.trim_start().len() == indent)
        });
        let one_line = line.trim_end().ends_with('}');
        let length = if one_line {
            1
        } else {
            end.map_or(1, |end| end + 1)
        };
        found.push((name, length));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let text = line.trim_start();
    if text.starts_with("//") {
        return None;
    }
    let at = if text.starts_with("fn ") {
        0
    } else {
        text.find(" fn ")? + 1
    };
    let before = &text[..at];
    let is_item = before.split_whitespace().all(|word| {
        word.starts_with("pub")
            || matches!(
                word,
                "const" | "async" | "unsafe" | "in" | "crate)" | "super)"
            )
    });
    let name: String = text[at + 3..]
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (is_item && !name.is_empty()).then_some(name)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.retain(|path| !path.ends_with("tests.rs"));
    assert!(files.len() > 20, "the sources were not found");
    files
        .iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let text = fs::read_to_string(path).unwrap();
            let lines = text
                .lines()
                .take_while(|line| line.trim() != "#[cfg(test)]");
            Source {
                name: name.to_str().unwrap().into(),
                lines: lines.map(Into::into).collect(),
            }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
