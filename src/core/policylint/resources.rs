//! Actions and resources: whether they exist, whether they can meet, and where they are.

use super::shape::{Arn, Shape, literal};
use super::{Board, Case, Entry, Request, names, shown};
use crate::core::ids::Place;
use crate::core::near;
use crate::core::policy::{Action, Piece};

/// The kinds of resource of the data plane.
const KINDS: [&str; 5] = ["client", "rolealias", "thing", "topic", "topicfilter"];

pub(super) fn judge(case: &Case<'_>, request: &Request, board: &mut Board<'_>) {
    actions(case, board);
    for entry in &case.entries {
        let text = entry.pattern.as_written();
        if text.trim() != text {
            let message = format!("`{}` has white space at an end", shown(text));
            board.add("policy.white-space", case.at(&entry.path), message);
            board.mend(text, text.trim());
        } else if let Some(problem) = malformed(&entry.shape) {
            let message = format!("`{}` {}", shown(text), problem.what);
            board.add("policy.arn", case.at(&entry.path), message);
            if let Some((from, to)) = problem.kind {
                board.mend(text, text.replacen(&from, &to, 1));
            }
        } else if !case.inverted() {
            meets(case, entry, board);
            mqtt_wildcards(case, entry, board);
        }
        if let Shape::Arn(arn) = &entry.shape {
            in_place(case, (entry, arn), request, board);
        }
    }
    if !case.inverted() {
        lonely(case, board);
    }
}

fn actions(case: &Case<'_>, board: &mut Board<'_>) {
    let actions = &case.statement.actions;
    for (n, pattern) in actions.patterns.iter().enumerate() {
        let path = actions.path_of(n);
        let text = pattern.as_written();
        if text.trim() != text {
            let message = format!("`{}` has white space at an end", shown(text));
            board.add("policy.white-space", case.at(&path), message);
            board.mend(text, text.trim());
            continue;
        }
        if Action::all().any(|action| pattern.fits(action.folded())) {
            continue;
        }
        let known: Vec<&str> = Action::all().map(Action::name).collect();
        let meant = near::meant(text, &known)
            .map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        let message = format!(
            "`{}` is no action of AWS IoT Core's data plane{meant}",
            shown(text)
        );
        board.add("policy.action-unknown", case.at(&path), message);
    }
}

/// What is wrong with the form of a resource, and the part of it that can be set right.
struct Malformed {
    what: String,
    kind: Option<(String, String)>,
}

fn malformed(shape: &Shape) -> Option<Malformed> {
    let of = |what: String| Some(Malformed { what, kind: None });
    let arn = match shape {
        Shape::All | Shape::Loose => return None,
        Shape::NotArn => {
            return of("is no ARN such as arn:aws:iot:REGION:ACCOUNT:topic/NAME".into());
        }
        Shape::Arn(arn) => arn,
    };
    if let Some(service) = literal(&arn.service).filter(|service| *service != "iot") {
        return of(format!("is of the service `{service}`, not `iot`"));
    }
    let partitions = ["aws", "aws-cn", "aws-us-gov"];
    if let Some(partition) = literal(&arn.partition).filter(|one| !partitions.contains(one)) {
        return of(format!("has no partition of AWS: `{partition}`"));
    }
    if let (Some(partition), Some(region)) = (literal(&arn.partition), literal(&arn.region)) {
        let region = region.parse().ok()?;
        let account = "123456789012".parse().ok()?;
        let own = Place { account, region }.partition();
        if own != partition {
            return Some(Malformed {
                what: format!("names the partition `{partition}`; its Region is in `{own}`"),
                kind: Some((format!("arn:{partition}:"), format!("arn:{own}:"))),
            });
        }
    }
    let kind = arn
        .kind
        .as_ref()
        .filter(|kind| !KINDS.contains(&&kind[..]))?;
    let folded = kind.to_ascii_lowercase();
    let meant = near::meant(kind, &KINDS);
    let certain = KINDS.contains(&&folded[..]);
    Some(Malformed {
        what: match meant {
            Some(meant) => format!("has no kind of resource `{kind}/`; did you mean `{meant}/`?"),
            None => format!("has no kind of resource `{kind}/`"),
        },
        kind: certain.then(|| (format!(":{kind}/"), format!(":{folded}/"))),
    })
}

/// A resource on which none of the statement's actions is asked for.
fn meets(case: &Case<'_>, entry: &Entry<'_>, board: &mut Board<'_>) {
    if !entry.serves.is_empty() || case.actions.is_empty() {
        return;
    }
    let text = entry.pattern.as_written();
    let kind = entry.shape.named().map(|(kind, _)| kind);
    let all = |wanted: &str| case.actions.iter().all(|a| a.resource_kind() == wanted);
    let any = |wanted: &str| case.actions.iter().any(|a| a.resource_kind() == wanted);
    let asked = names(&case.actions);
    if kind == Some("topic") && any("topicfilter") {
        let message = format!(
            "`{}` is a topic, and iot:Subscribe is asked for a topicfilter",
            shown(text)
        );
        board.add("policy.subscribe-topic", case.at(&entry.path), message);
        if all("topicfilter") {
            board.mend(text, text.replacen(":topic/", ":topicfilter/", 1));
        }
    } else if kind == Some("topicfilter") && any("topic") {
        let message = format!(
            "`{}` is a filter, and {asked} is asked for a topic",
            shown(text)
        );
        board.add("policy.publish-topicfilter", case.at(&entry.path), message);
        if all("topic") {
            board.mend(text, text.replacen(":topicfilter/", ":topic/", 1));
        }
    } else {
        let kinds = kinds_of(&case.actions);
        let message = format!(
            "{asked} is never asked for on `{}`: it wants {kinds}",
            shown(text)
        );
        board.add("policy.never-matches", case.at(&entry.path), message);
    }
}

fn kinds_of(actions: &[Action]) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for action in actions {
        let kind = match action.resource_kind() {
            "*" => "`*`".to_owned(),
            kind => format!("{kind}/…"),
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(" or ")
}

/// An action that is spelled out, and has no resource while others have one.
fn lonely(case: &Case<'_>, board: &mut Board<'_>) {
    let served = case.entries.iter().flat_map(|entry| &entry.serves);
    let served: Vec<Action> = served.copied().collect();
    let actions = &case.statement.actions;
    if served.is_empty() || actions.inverted {
        return;
    }
    for (n, pattern) in actions.patterns.iter().enumerate() {
        let [Piece::Literal(text)] = pattern.pieces() else {
            continue;
        };
        let Some(action) = Action::parse(text).filter(|action| !served.contains(action)) else {
            continue;
        };
        let rule = match action.resource_kind() {
            "topicfilter" if has_kind(case, "topic") => "policy.subscribe-topic",
            "topic" if has_kind(case, "topicfilter") => "policy.publish-topicfilter",
            _ => "policy.never-matches",
        };
        let message = format!(
            "no resource of the statement is one that {} is asked for: it wants {}",
            action.name(),
            kinds_of(&[action])
        );
        board.add(rule, case.at(&actions.path_of(n)), message);
    }
}

fn has_kind(case: &Case<'_>, wanted: &str) -> bool {
    let mut entries = case.entries.iter();
    entries.any(|entry| matches!(entry.shape.named(), Some((kind, _)) if kind == wanted))
}

/// A topic that is allowed and holds `+` or `#`, which no published topic does.
fn mqtt_wildcards(case: &Case<'_>, entry: &Entry<'_>, board: &mut Board<'_>) {
    let Some(("topic", name)) = entry.shape.named() else {
        return;
    };
    if !case.allows() || entry.serves.is_empty() || !has_mqtt_wildcard(name) {
        return;
    }
    let text = entry.pattern.as_written();
    let message = format!(
        "`{}` holds an MQTT wildcard; in a policy it is plain text, and no topic holds one",
        shown(text)
    );
    board.add("policy.publish-wildcard", case.at(&entry.path), message);
    let only_at_end = matches!(name, [.., Piece::Literal(last)] if last.ends_with("/#"));
    let without_end = text.strip_suffix('#').filter(|_| only_at_end);
    if let Some(start) = without_end.filter(|start| !outside_variables(start, ['+', '#'])) {
        board.mend(text, format!("{start}*"));
    }
}

/// Whether a name holds `+` or `#` as text.
pub(super) fn has_mqtt_wildcard(name: &[Piece]) -> bool {
    name.iter().any(|piece| match piece {
        Piece::Literal(text) => text.contains(['+', '#']),
        _ => false,
    })
}

/// Whether one of these characters stands outside `${…}`.
fn outside_variables(text: &str, any: [char; 2]) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].contains(any) {
            return true;
        }
        rest = rest[start..].split_once('}').map_or("", |(_, after)| after);
    }
    rest.contains(any)
}

fn in_place(
    case: &Case<'_>,
    (entry, arn): (&Entry<'_>, &Arn),
    request: &Request,
    board: &mut Board<'_>,
) {
    let region = request.region.as_ref().map(AsRef::as_ref);
    let account = request.account.as_ref().map(AsRef::as_ref);
    for (what, rule, found, wanted) in [
        (
            "Region",
            "policy.other-region",
            literal(&arn.region),
            region,
        ),
        (
            "account",
            "policy.other-account",
            literal(&arn.account),
            account,
        ),
    ] {
        if let (Some(found), Some(wanted)) = (found, wanted)
            && found != wanted
        {
            let text = shown(entry.pattern.as_written());
            let message = format!("`{text}` is of the {what} `{found}`, not `{wanted}`");
            board.add(rule, case.at(&entry.path), message);
        }
    }
}
