//! What the documentation lists is what there is: links, error codes, configuration keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            all.push(path);
        }
    }
    all
}

fn reference() -> String {
    fs::read_to_string(repository().join("docs/reference.md")).unwrap()
}

#[test]
fn links_lead_somewhere() {
    let mut pages = files(&repository().join("docs"), "md");
    pages.push(repository().join("README.md"));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let targets = text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.starts_with("http") {
                let there = page.parent().unwrap().join(path);
                assert!(there.exists(), "{}: {target}", page.display());
            }
        }
    }
}

/// Codes that no command ends with: they are reasons inside a check or a log line.
fn is_inner(file: &Path) -> bool {
    file.ends_with("src/core/jitp.rs") || file.ends_with("src/core/sntp.rs")
}

/// The dotted literals in the bodies of `fn code`, and those that a failure is made of on the spot.
fn codes_in(source: &str) -> BTreeSet<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let bodies = code.split("fn code(&self) -> &'static str {").skip(1);
    bodies
        .filter_map(|rest| rest.split("\n    }\n").next())
        .flat_map(|body| body.split('"').skip(1).step_by(2))
        .filter(|literal| literal.contains('.'))
        .chain(code.split("Failure::new(").skip(1).filter_map(code_of))
        .collect()
}

/// The second argument of `Failure::new`, when it is a literal.
fn code_of(arguments: &str) -> Option<&str> {
    let literal = arguments.split('"').nth(1)?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (literal.contains('.') && literal.chars().all(word)).then_some(literal)
}

#[test]
fn every_error_code_is_in_the_reference() {
    let reference = reference();
    let mut count = 0;
    let sources = files(&repository().join("src"), "rs");
    for file in sources.iter().filter(|file| !is_inner(file)) {
        let source = fs::read_to_string(file).unwrap();
        for code in codes_in(&source) {
            let name = file.display();
            let listed = reference.contains(&format!("`{code}`"));
            assert!(listed, "docs/reference.md lacks `{code}` ({name})");
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn every_configuration_key_is_in_the_reference() {
    let reference = reference();
    let shipped = fs::read_to_string(repository().join("src/flows/nameplate.toml")).unwrap();
    let mut table = String::new();
    for line in shipped.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ") {
            let key = format!("`{table}{}`", key.trim_start_matches('#'));
            assert!(reference.contains(&key), "docs/reference.md lacks {key}");
        }
    }
}
