//! Denying less than was meant: the criteria of Device Defender's
//! `IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK` (developer guide, "AWS IoT policy potentially
//! misconfigured"), and denies that fail open.

use super::resources::has_mqtt_wildcard;
use super::shape::{Symbol, covers, overlap, symbols};
use super::{Board, Case, Entry, shown};
use crate::core::policy::{Action, Family, Pattern, Piece, find_variable};

const CHECK: &str = "IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK";

pub(super) fn judge(cases: &[Case<'_>], board: &mut Board<'_>) {
    let attached = always_attached(cases);
    for case in cases.iter().filter(|case| case.denies()) {
        fails_open(case, attached, board);
        if case.inverted() {
            continue;
        }
        for entry in &case.entries {
            mqtt_wildcards(case, entry, board);
            if entry.serves.contains(&Action::Subscribe) {
                receive(case, entry, cases, board);
            }
        }
    }
}

fn mqtt_wildcards(case: &Case<'_>, entry: &Entry<'_>, board: &mut Board<'_>) {
    let Some(("topic" | "topicfilter", name)) = entry.shape.named() else {
        return;
    };
    if entry.serves.is_empty() || !has_mqtt_wildcard(name) {
        return;
    }
    let text = entry.pattern.as_written();
    let message = format!(
        "`{}` denies that text alone; + and # are no wildcards in a policy \
         (POLICY_CONTAINS_MQTT_WILDCARDS_IN_DENY_STATEMENT)",
        shown(text)
    );
    board.add(CHECK, case.at(&entry.path), message);
    board.mend(text, with_stars(text));
}

/// `*` for every `+` and `#` outside `${…}`: it denies at least as much.
fn with_stars(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for (at, c) in text.char_indices() {
        inside = (inside || text[at..].starts_with("${")) && c != '}';
        out.push(if !inside && (c == '+' || c == '#') {
            '*'
        } else {
            c
        });
    }
    out
}

/// A denied filter under a broader one that is allowed, while its messages are not denied.
fn receive(case: &Case<'_>, entry: &Entry<'_>, cases: &[Case<'_>], board: &mut Board<'_>) {
    let Some(("topicfilter", name)) = entry.shape.named() else {
        return;
    };
    if has_mqtt_wildcard(name) {
        return;
    }
    let denied = symbols(name);
    if !received(&denied, cases) || receive_denied(&denied, cases) {
        return;
    }
    let text = shown(entry.pattern.as_written());
    let under = |other: &Entry<'_>| {
        let subscribes = other.serves.contains(&Action::Subscribe);
        let broader = match other.shape.named() {
            Some((_, wide)) => {
                let wide = symbols(wide);
                covers(&wide, &denied) && wide != denied
            }
            None => true,
        };
        subscribes && broader
    };
    let allowed = cases.iter().filter(|case| case.allows());
    let broader = allowed.flat_map(|case| &case.entries).any(under);
    if broader && name.contains(&Piece::Any) {
        let message = format!(
            "a filter with MQTT wildcards gets past `{text}`, and its messages are not denied \
             (TOPIC_FILTERS_INTENDED_TO_DENY_ALLOWED_USING_WILDCARDS)"
        );
        board.add(CHECK, case.at(&entry.path), message);
    } else {
        let message = format!("iot:Subscribe is denied on `{text}`, and iot:Receive is not");
        board.add("policy.deny-receive", case.at(&entry.path), message);
    }
}

/// Whether some message under this filter may be received.
fn received(filter: &[Symbol], cases: &[Case<'_>]) -> bool {
    let allowed = cases.iter().filter(|case| case.allows());
    allowed
        .filter(|case| case.actions.contains(&Action::Receive))
        .any(|case| {
            case.inverted()
                || case
                    .entries
                    .iter()
                    .any(|entry| meets(entry, filter, overlap))
        })
}

/// Whether every message under this filter is denied.
fn receive_denied(filter: &[Symbol], cases: &[Case<'_>]) -> bool {
    let denies = cases.iter().filter(|case| case.denies());
    denies
        .filter(|case| !case.inverted() && case.actions.contains(&Action::Receive))
        .any(|case| {
            case.entries
                .iter()
                .any(|entry| meets(entry, filter, covers))
        })
}

fn meets(entry: &Entry<'_>, filter: &[Symbol], how: impl Fn(&[Symbol], &[Symbol]) -> bool) -> bool {
    if !entry.serves.contains(&Action::Receive) {
        return false;
    }
    match entry.shape.named() {
        Some((_, name)) => how(&symbols(name), filter),
        None => true,
    }
}

/// A variable without a value lets a Deny match nothing.
fn fails_open(case: &Case<'_>, attached: bool, board: &mut Board<'_>) {
    let resources = case.entries.iter().filter(|_| !case.inverted());
    let mut texts: Vec<(&Pattern, &str)> = resources
        .map(|entry| (entry.pattern, &entry.path[..]))
        .collect();
    let conditions = &case.statement.conditions;
    texts.extend(conditions.iter().flat_map(|condition| {
        let path = &condition.path[..];
        condition.values.iter().map(move |value| (value, path))
    }));
    for (pattern, path) in texts {
        let open = pattern
            .variables()
            .find(|name| may_be_absent(name, attached));
        if let Some(name) = open {
            let message =
                format!("where ${{{name}}} has no value, this denies nothing: it fails open");
            board.add("policy.deny-open", case.at(path), message);
        }
    }
}

/// Whether a connection can be without the variable.
fn may_be_absent(name: &str, attached: bool) -> bool {
    let Some(known) = find_variable(name) else {
        // Told of as unknown or old.
        return false;
    };
    match known.family {
        Family::Thing if known.name == "iot:Connection.Thing.IsAttached" => false,
        Family::Thing if known.name == "iot:Connection.Thing.ThingName" => !attached,
        Family::Certificate => known.name != "iot:Certificate.SerialNumber",
        Family::Thing | Family::Connect => true,
        Family::Connection => known.name != "iot:ClientId",
        Family::Network => known.name != "aws:SourceIp",
    }
}

/// Whether no device connects by this policy whose certificate is not attached to its thing.
fn always_attached(cases: &[Case<'_>]) -> bool {
    let thing_name = |name: &str| name.eq_ignore_ascii_case("iot:Connection.Thing.ThingName");
    let mut connects = cases
        .iter()
        .filter(|case| case.allows() && case.actions.contains(&Action::Connect))
        .peekable();
    connects.peek().is_some()
        && connects.all(|case| {
            let connect = |entry: &&Entry<'_>| entry.serves.contains(&Action::Connect);
            let mut entries = case.entries.iter().filter(connect);
            case.wants_attached()
                || (!case.inverted() && entries.all(|e| e.pattern.variables().any(thing_name)))
        })
}
