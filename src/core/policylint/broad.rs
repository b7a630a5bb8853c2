//! Allowing too much: the criteria of Device Defender's `IOT_POLICY_OVERLY_PERMISSIVE_CHECK`
//! (developer guide, "AWS IoT policies overly permissive"), and client ids that are not pinned.

use super::{Board, Case, Entry, names, shown};
use crate::core::policy::{Action, Family, Piece, find_variable};

const CHECK: &str = "IOT_POLICY_OVERLY_PERMISSIVE_CHECK";
const REASON: &str = "ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS";
/// Where the topics of all things are.
const THINGS: &str = "$aws/things/";

pub(super) fn judge(case: &Case<'_>, board: &mut Board<'_>) {
    if !case.allows() {
        return;
    }
    let actions = &case.statement.actions;
    if actions.inverted {
        let message = "Allow with NotAction allows every action but these, those to come too";
        board.add("policy.allow-not-action", case.at(&actions.path), message);
    }
    if case.inverted() {
        let bounded: Vec<Action> = case
            .actions
            .iter()
            .copied()
            .filter(|a| is_judged(*a))
            .collect();
        if !bounded.is_empty() {
            let message = format!(
                "{} on everything but a few resources ({REASON})",
                names(&bounded)
            );
            let path = &case.statement.resources.path;
            board.add(CHECK, case.at(path), message);
        }
        return;
    }
    for entry in &case.entries {
        let broad: Vec<Action> = entry
            .serves
            .iter()
            .copied()
            .filter(|action| is_broad(case, entry, *action))
            .collect();
        if !broad.is_empty() {
            let text = shown(entry.pattern.as_written());
            let message = format!("{} on `{text}` ({REASON})", names(&broad));
            board.add(CHECK, case.at(&entry.path), message);
        }
        if !broad.contains(&Action::Connect) && entry.serves.contains(&Action::Connect) {
            client_id(case, entry, board);
        }
    }
}

/// iot:Receive is not: what is subscribed to bounds it. Retained messages, role aliases and what
/// IAM alone may ask for are not among the criteria.
fn is_judged(action: Action) -> bool {
    use Action::{
        Connect, DeleteThingShadow, DescribeJobExecution, GetPendingJobExecutions, GetThingShadow,
        Publish, RetainPublish, StartNextPendingJobExecution, Subscribe, UpdateJobExecution,
        UpdateThingShadow,
    };
    matches!(
        action,
        Connect
            | DeleteThingShadow
            | DescribeJobExecution
            | GetPendingJobExecutions
            | GetThingShadow
            | Publish
            | RetainPublish
            | StartNextPendingJobExecution
            | Subscribe
            | UpdateJobExecution
            | UpdateThingShadow
    )
}

fn is_broad(case: &Case<'_>, entry: &Entry<'_>, action: Action) -> bool {
    if !is_judged(action) {
        return false;
    }
    if entry.shape.takes_in_all() {
        return true;
    }
    let Some((_, name)) = entry.shape.named() else {
        return false;
    };
    match action.resource_kind() {
        "client" => is_client_id(name) && !case.wants_attached(),
        "topic" => all_things(name),
        "topicfilter" => all_things(name) || all_by_filter(name),
        _ => false,
    }
}

fn is_client_id(name: &[Piece]) -> bool {
    matches!(name, [Piece::Variable(one)] if one.eq_ignore_ascii_case("iot:ClientId"))
}

/// `$aws/things/*…`, and what is shorter before its wildcard.
fn all_things(name: &[Piece]) -> bool {
    let wild = |piece: Option<&Piece>| matches!(piece, Some(Piece::Any));
    match name {
        [Piece::Literal(start), rest @ ..] => THINGS.starts_with(&start[..]) && wild(rest.first()),
        _ => false,
    }
}

/// `#`, `$aws/things/#`, `$aws/things/+/…`: filters that are allowed as they stand.
fn all_by_filter(name: &[Piece]) -> bool {
    let Some(Piece::Literal(start)) = name.first() else {
        return false;
    };
    let whole = name.len() == 1;
    let after = start.strip_prefix(THINGS).unwrap_or_default();
    (whole && matches!(&start[..], "#" | "$aws/#")) || after.starts_with(['#', '+'])
}

/// A client id that others could take as well.
fn client_id(case: &Case<'_>, entry: &Entry<'_>, board: &mut Board<'_>) {
    let Some((_, name)) = entry.shape.named() else {
        return;
    };
    let wild = |piece: &Piece| matches!(piece, Piece::Any | Piece::One);
    let text = shown(entry.pattern.as_written());
    if name.iter().any(wild) {
        let message = format!("`{text}` lets a device connect under many client ids");
        board.add("policy.client-id", case.at(&entry.path), message);
        return;
    }
    let family = |piece: &Piece| match piece {
        Piece::Variable(name) => find_variable(name).map(|known| known.family),
        _ => None,
    };
    let has = |wanted: Family| name.iter().any(|piece| family(piece) == Some(wanted));
    if has(Family::Certificate) && !has(Family::Thing) && !case.wants_attached() {
        let message = format!("`{text}` does not ask whether the certificate belongs to the thing");
        board.add("policy.is-attached", case.at(&entry.path), message);
    }
}
