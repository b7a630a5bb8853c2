//! Mending a document in its text, so that everything else stays as it was written.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Linted, Request, lint};
use crate::core::finding::Severity;
use crate::core::json::Places;

/// The most fixes of one document.
const MAX_FIXES: usize = 500;

/// Another value for one string of a document.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Fix {
    /// The rule whose finding it mends.
    pub rule: &'static str,
    /// Where: a JSON path.
    pub path: String,
    /// What stands there.
    pub from: String,
    /// What should.
    pub to: Value,
}

/// A document after its fixes.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// The text.
    pub text: String,
    /// What was mended, in order.
    pub fixes: Vec<Fix>,
}

/// Mends what can be mended with certainty. A fix that would bring about another warning or error
/// is left out; so are those that `wanted` refuses.
pub fn fix(text: &str, request: &Request, wanted: impl Fn(&Fix) -> bool) -> Fixed {
    let mut fixed = Fixed {
        text: text.to_owned(),
        fixes: Vec::new(),
    };
    let mut refused: BTreeSet<(&'static str, String)> = BTreeSet::new();
    let mut before = lint(&fixed.text, request);
    for _ in 0..MAX_FIXES {
        let mut open = before.fixes.iter();
        let is_open = |fix: &&Fix| !refused.contains(&(fix.rule, fix.path.clone())) && wanted(fix);
        let Some(next) = open.find(is_open).cloned() else {
            break;
        };
        let edited = apply(&fixed.text, &next);
        let after = edited.as_ref().map(|text| lint(text, request));
        match (edited, after) {
            (Some(text), Some(after)) if is_better(&before, &after, &next) => {
                fixed.text = text;
                fixed.fixes.push(next);
                before = after;
                // What was in the way of another fix may be gone.
                refused.clear();
            }
            _ => {
                refused.insert((next.rule, next.path));
            }
        }
    }
    fixed
}

/// Whether the rule is quiet at the place now, and no other speaks up.
fn is_better(before: &Linted, after: &Linted, fix: &Fix) -> bool {
    let grave = |linted: &Linted| -> BTreeSet<(&'static str, String)> {
        let findings = linted.findings.iter();
        findings
            .filter(|placed| placed.finding.severity >= Severity::Warning)
            .map(|placed| (placed.finding.rule, placed.finding.path.clone()))
            .collect()
    };
    let (before, after) = (grave(before), grave(after));
    after.is_subset(&before) && !after.contains(&(fix.rule, fix.path.clone()))
}

/// The text with one string changed; `None` when it does not stand there.
fn apply(text: &str, fix: &Fix) -> Option<String> {
    let new = fix.to.to_string();
    if fix.path == "$.Version" && fix.from.is_empty() {
        let brace = text.find('{')? + 1;
        // Where the next member stands, so that the new one is written in the same manner.
        let rest = &text[brace..];
        let space = &rest[..rest.len() - rest.trim_start().len()];
        let (before, after) = text.split_at(brace);
        let gap = if space.contains('\n') { ": " } else { ":" };
        return Some(format!("{before}{space}\"Version\"{gap}{new},{after}"));
    }
    let (line, column) = Places::of(text).find(&fix.path);
    let start = offset(text, line, column)?;
    let value = start + value_start(&text[start..], fix.path.ends_with(']'))?;
    let length = string_length(&text[value..])?;
    let old = &text[value..value + length];
    let stands = serde_json::from_str::<String>(old).ok()? == fix.from;
    stands.then(|| format!("{}{new}{}", &text[..value], &text[value + length..]))
}

/// The byte at a line and column, in characters from 1.
fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let starts = text.match_indices('\n').map(|(at, _)| at + 1);
    let start = std::iter::once(0).chain(starts).nth(line.checked_sub(1)?)?;
    let within = text[start..].char_indices().map(|(at, _)| at);
    within
        .chain([text.len() - start])
        .nth(column - 1)
        .map(|at| start + at)
}

/// From a member's name or an item to its value.
fn value_start(text: &str, item: bool) -> Option<usize> {
    let quoted_key = item_key(text);
    match (item, quoted_key) {
        // `$['a b']` is a member whose path ends like an item's.
        (_, Some(value)) => Some(value),
        (true, None) => Some(0),
        (false, None) => None,
    }
}

/// Past `"name" :`, if that is what stands here.
fn item_key(text: &str) -> Option<usize> {
    let after = string_length(text)?;
    let rest = text[after..].trim_start();
    let rest = rest.strip_prefix(':')?.trim_start();
    Some(text.len() - rest.len())
}

/// The length of the JSON string at the start of a text.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    let inside = text.strip_prefix('"')?;
    let end = inside.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(end + 2)
}
