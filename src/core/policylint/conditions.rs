//! Conditions: keys that exist, operators that fit them, values that can be met.

use super::{Board, Case, shown};
use crate::core::json::item;
use crate::core::near;
use crate::core::policy::{
    Action, Condition, Family, Piece, Quantifier, Rule, Test, all_names, find_variable, successor,
};

pub(super) fn judge(case: &Case<'_>, board: &mut Board<'_>) {
    for condition in &case.statement.conditions {
        key(case, condition, board);
        values(case, condition, board);
    }
}

fn key(case: &Case<'_>, condition: &Condition, board: &mut Board<'_>) {
    let spot = case.at(&condition.path);
    let key = &condition.key;
    let Some(known) = find_variable(key) else {
        if let Some(now) = successor(key) {
            let message = format!("the key `{key}` is an old name; today it is `{now}`");
            board.add("policy.variable-stale", spot, message);
            return;
        }
        let all: Vec<&str> = all_names().collect();
        let meant = near::meant(key, &all)
            .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        let message = format!("AWS IoT documents no condition key `{}`{meant}", shown(key));
        board.add("policy.condition-key", spot, message);
        return;
    };
    let (quantifier, rule) = (condition.operator.quantifier, condition.operator.rule);
    if known.many && quantifier == Quantifier::One && rule != Rule::Null {
        let message = format!(
            "`{key}` has several values, and {} looks at one",
            condition.operator
        );
        board.add("policy.condition-set", spot, message);
    }
    let guarded = case
        .statement
        .conditions
        .iter()
        .any(|other| other.operator.rule == Rule::Null && other.key.eq_ignore_ascii_case(key));
    if case.allows() && quantifier == Quantifier::All && known.family != Family::Connect && !guarded
    {
        let message = format!("where `{key}` is absent, ForAllValues holds, and this allows");
        board.add("policy.condition-absent", spot, message);
    }
    let speaks_of_connect = case.actions.contains(&Action::Connect);
    if known.family == Family::Connect && !speaks_of_connect && !case.actions.is_empty() {
        let message = format!(
            "`{key}` is known for iot:Connect only, and the statement is about {}",
            super::names(&case.actions)
        );
        board.add("policy.condition-connect", spot, message);
    }
}

fn values(case: &Case<'_>, condition: &Condition, board: &mut Board<'_>) {
    let all = condition.operator.quantifier == Quantifier::All;
    if condition.values.is_empty() && !all {
        let message = format!("{} with no value holds for nothing", condition.operator);
        board.add("policy.condition-value", case.at(&condition.path), message);
    }
    for (n, pattern) in condition.values.iter().enumerate() {
        if pattern.variables().next().is_some() {
            continue;
        }
        let path = if condition.listed {
            item(&condition.path, n)
        } else {
            condition.path.clone()
        };
        let text = pattern.as_written();
        if let Some(problem) = problem(condition, text) {
            let message = format!("`{}` {problem}", shown(text));
            board.add("policy.condition-value", case.at(&path), message);
        } else if literal_star(condition, pattern.pieces()) {
            let message = format!(
                "{} compares `{}` letter by letter, the wildcard too",
                condition.operator,
                shown(text)
            );
            board.add("policy.condition-wildcard", case.at(&path), message);
        }
    }
}

fn problem(condition: &Condition, text: &str) -> Option<String> {
    let of_operator = condition.operator.value_problem(text);
    if let Some(problem) = of_operator {
        return Some(problem.to_owned());
    }
    let Rule::Test { test, .. } = condition.operator.rule else {
        return None;
    };
    let known = find_variable(&condition.key)?;
    let plain = matches!(test, Test::Equal | Test::EqualIgnoringCase);
    match known.name {
        "iot:ConnectAttributes" if plain => {
            let features = ["PersistentConnect", "LastWill"];
            let fits = features.iter().any(|feature| match test {
                Test::Equal => *feature == text,
                _ => feature.eq_ignore_ascii_case(text),
            });
            (!fits).then(|| "is neither PersistentConnect nor LastWill".to_owned())
        }
        "iot:Connection.Thing.IsAttached" if plain => {
            let fits = text == "true" || text == "false";
            (!fits).then(|| "is neither `true` nor `false`".to_owned())
        }
        "iot:LastWillTopic" if !text.starts_with("arn:") && !text.starts_with('*') => {
            Some("is no ARN of a topic, as iot:LastWillTopic is".to_owned())
        }
        _ => None,
    }
}

fn literal_star(condition: &Condition, pieces: &[Piece]) -> bool {
    let plain = matches!(
        condition.operator.rule,
        Rule::Test {
            test: Test::Equal | Test::EqualIgnoringCase,
            ..
        }
    );
    plain && matches!(pieces, [Piece::Literal(text)] if text.contains(['*', '?']))
}
