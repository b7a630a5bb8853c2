//! What only the whole document shows.

use std::collections::BTreeSet;

use super::shape::{Shape, literal};
use super::{Board, Case};
use crate::core::finding::Severity;
use crate::core::policy::{Action, Document, MAX_CHARACTERS};

/// From this many characters on, little more fits in.
const NEARLY_FULL: usize = MAX_CHARACTERS * 9 / 10;

pub(super) fn size(document: &Document, board: &mut Board<'_>) {
    let count = document.characters();
    if count > MAX_CHARACTERS {
        let message = format!(
            "{count} characters without white space; AWS IoT takes at most {MAX_CHARACTERS}"
        );
        board.add("policy.size", ("$", None), message);
    } else if count >= NEARLY_FULL {
        let message = format!("{count} of {MAX_CHARACTERS} characters are used");
        board.add("policy.size-near", ("$", None), message);
    }
}

pub(super) fn judge(document: &Document, cases: &[Case<'_>], board: &mut Board<'_>) {
    version(document, cases, board);
    if cases.is_empty() {
        let message = "there is no statement, so nothing is allowed";
        board.add("policy.no-statement", ("$.Statement", None), message);
        return;
    }
    names(cases, board);
    twins(cases, board);
    mixed(cases, board);
    missing(cases, board);
}

fn version(document: &Document, cases: &[Case<'_>], board: &mut Board<'_>) {
    let message = match document.version() {
        Some("2012-10-17") => return,
        Some(other) => format!("in version {other} of the language `${{…}}` is plain text"),
        None => "without Version the language is that of 2008, where `${…}` is plain text".into(),
    };
    let written = document.version().unwrap_or_default();
    board.add("policy.version", ("$.Version", None), message);
    let conditions = cases.iter().flat_map(|case| &case.statement.conditions);
    let values = conditions.flat_map(|condition| &condition.values);
    let resources = cases.iter().flat_map(|case| &case.entries);
    let mut texts = resources.map(|entry| entry.pattern).chain(values);
    if !texts.any(|pattern| pattern.as_written().contains("${")) {
        board.weigh(Severity::Warning);
    }
    board.mend(written, "2012-10-17");
}

fn names(cases: &[Case<'_>], board: &mut Board<'_>) {
    let mut seen = BTreeSet::new();
    for case in cases {
        let Some(sid) = case.sid() else { continue };
        if !seen.insert(sid) {
            let path = format!("{}.Sid", case.statement.path);
            let message = format!("another statement is called `{sid}` too");
            board.add("policy.sid-twice", case.at(&path), message);
        }
    }
}

/// A resource that stands twice in one statement, and a statement that stands twice.
fn twins(cases: &[Case<'_>], board: &mut Board<'_>) {
    let mut statements = BTreeSet::new();
    for case in cases {
        let mut resources = BTreeSet::new();
        for entry in &case.entries {
            if !resources.insert(entry.pattern.as_written()) {
                let message = "the statement names this resource before";
                board.add("policy.twice", case.at(&entry.path), message);
            }
        }
        let statement = case.statement;
        let conditions: Vec<String> = statement
            .conditions
            .iter()
            .map(|one| format!("{} {} {:?}", one.operator, one.key, one.values))
            .collect();
        let whole = format!(
            "{:?} {} {:?} {} {:?} {conditions:?}",
            statement.effect,
            statement.actions.inverted,
            case.actions,
            statement.resources.inverted,
            resources,
        );
        if !statements.insert(whole) {
            let message = "a statement before says the same";
            board.add("policy.twice", case.at(&statement.path), message);
        }
    }
}

/// Several accounts or Regions in one document.
fn mixed(cases: &[Case<'_>], board: &mut Board<'_>) {
    let mut first: Option<(&str, &str)> = None;
    for entry in cases.iter().flat_map(|case| &case.entries) {
        let Shape::Arn(arn) = &entry.shape else {
            continue;
        };
        let (Some(region), Some(account)) = (literal(&arn.region), literal(&arn.account)) else {
            continue;
        };
        match first {
            None => first = Some((region, account)),
            Some((r, a)) if r != region || a != account => {
                let message = format!(
                    "this is in {region} of account {account}, resources before in {r} of {a}"
                );
                board.add("policy.mixed-places", (&entry.path, None), message);
                return;
            }
            Some(_) => {}
        }
    }
}

/// Permissions that are of no use without another.
fn missing(cases: &[Case<'_>], board: &mut Board<'_>) {
    let allowed = |action: Action| {
        cases.iter().filter(|case| case.allows()).any(|case| {
            let served = case.entries.iter().any(|e| e.serves.contains(&action));
            case.actions.contains(&action) && (served || case.inverted())
        })
    };
    if allowed(Action::Subscribe) && !allowed(Action::Receive) {
        let message = "iot:Subscribe is allowed and iot:Receive is not: every message is dropped";
        board.add("policy.receive-missing", ("$.Statement", None), message);
    }
    if allowed(Action::RetainPublish) && !allowed(Action::Publish) {
        let message = "iot:RetainPublish is allowed and iot:Publish is not: both are needed";
        board.add("policy.publish-missing", ("$.Statement", None), message);
    }
    let uses = [Action::Publish, Action::Subscribe, Action::Receive];
    if uses.into_iter().any(allowed) && !allowed(Action::Connect) {
        let message = "iot:Connect is not allowed here; another policy must allow it";
        board.add("policy.connect-missing", ("$.Statement", None), message);
    }
}
