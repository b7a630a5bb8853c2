//! Policies made of whole levels, decided exactly: there only matters which values equal which
//! levels, so it is enough to try, for each value, every level that stands in a policy, and one
//! text that is none of them.

use std::collections::BTreeSet;

use super::atom::Slot;
use super::prove::{Answer, Prover};
use super::slots::{Assignment, Kind, Slots, THING, fold};
use super::{Fleet, Reach, Why};
use crate::core::policy::{Condition, NamedPolicy, Pattern, Piece, Rule, Test};

/// The most cases.
const MAX_CASES: usize = 4_000;

/// Whether in all patterns each level is a literal, a variable or a wildcard.
pub(super) fn whole_levels(fleet: &Fleet<'_>) -> bool {
    let mut statements = all_policies(fleet).flat_map(|named| named.document.statements());
    statements.all(|statement| {
        statement.resources.patterns.iter().all(in_levels)
            && statement.conditions.iter().all(compares_whole)
    })
}

fn all_policies<'a>(fleet: &Fleet<'a>) -> impl Iterator<Item = &'a NamedPolicy> {
    let other = fleet.other.into_iter().flatten();
    fleet.policies.iter().chain(other)
}

/// What one level is made of.
#[derive(Default)]
struct Level {
    literal: bool,
    variables: usize,
    any: bool,
    one: bool,
}

/// The first level is the beginning of the ARN, which no value can be.
fn in_levels(pattern: &Pattern) -> bool {
    let mut levels = vec![Level::default()];
    for piece in pattern.pieces() {
        let last = levels.len() - 1;
        match piece {
            Piece::Literal(text) => {
                for (n, part) in text.split('/').enumerate() {
                    if n > 0 {
                        levels.push(Level::default());
                    }
                    let last = levels.len() - 1;
                    levels[last].literal |= !part.is_empty();
                }
            }
            Piece::Any => levels[last].any = true,
            Piece::One => levels[last].one = true,
            Piece::Variable(_) => levels[last].variables += 1,
        }
    }
    let first =
        levels[0].variables == 0 && (!levels[0].any || levels.len() > 1 || !levels[0].literal);
    first
        && levels[1..].iter().all(|level| {
            let kinds = usize::from(level.literal) + level.variables + usize::from(level.any);
            kinds <= 1 && !level.one
        })
}

/// Whether a condition only asks whether whole values are equal.
fn compares_whole(condition: &Condition) -> bool {
    match condition.operator.rule {
        Rule::Null
        | Rule::Test {
            test: Test::Equal | Test::Bool,
            ..
        } => true,
        Rule::Test { .. } => !fold(&condition.key).starts_with("iot:"),
    }
}

/// Every level that a value could equal.
fn levels(fleet: &Fleet<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::from([String::new()]);
    let mut add = |text: &str| found.extend(text.split('/').map(str::to_owned));
    for statement in all_policies(fleet).flat_map(|named| named.document.statements()) {
        let conditions = statement.conditions.iter().flat_map(|one| &one.values);
        for pattern in statement.resources.patterns.iter().chain(conditions) {
            for piece in pattern.pieces() {
                if let Piece::Literal(text) = piece {
                    add(text);
                }
            }
        }
    }
    let shared = &fleet.shared;
    let filters = [
        &shared.topics,
        &shared.publish,
        &shared.receive,
        &shared.clients,
    ];
    filters.into_iter().flatten().for_each(|filter| add(filter));
    found
}

/// Decides one way to reach, case by case.
pub(super) fn decide(prover: &Prover<'_>, reach: Reach) -> Answer {
    let mut cases = Cases {
        prover,
        reach,
        levels: levels(prover.fleet),
        left: MAX_CASES,
    };
    cases.from(Assignment::new())
}

struct Cases<'p, 'a> {
    prover: &'p Prover<'a>,
    reach: Reach,
    levels: BTreeSet<String>,
    left: usize,
}

impl Cases<'_, '_> {
    /// Decides all cases that these values leave open.
    fn from(&mut self, assigned: Assignment) -> Answer {
        if self.left == 0 {
            return Answer::Perhaps(Why::Limit);
        }
        self.left -= 1;
        let scene = self.prover.scene(assigned.clone());
        let answer = self.prover.ask(&scene, self.reach);
        let Answer::Perhaps(_) = answer else {
            return answer;
        };
        let slots = self.prover.slots;
        let next = slots
            .all()
            .into_iter()
            .find(|slot| !assigned.contains_key(slot));
        let Some(slot) = next else {
            return answer;
        };
        let mut perhaps = None;
        for value in self.options(slot, &assigned) {
            let mut more = assigned.clone();
            more.insert(slot, value);
            match self.from(more) {
                Answer::No => {}
                Answer::Yes(found) => return Answer::Yes(found),
                Answer::Perhaps(why) => {
                    perhaps.get_or_insert(why);
                }
            }
        }
        perhaps.map_or(Answer::No, Answer::Perhaps)
    }

    /// The values of a slot that are to be told apart.
    fn options(&self, slot: Slot, assigned: &Assignment) -> Vec<Option<String>> {
        let slots: &Slots<'_> = self.prover.slots;
        let taken = |text: &str| {
            assigned.iter().any(|(other, value)| {
                slots.distinct(*other, slot) && value.as_deref() == Some(text)
            })
        };
        let others = assigned.values().flatten().cloned();
        let known: BTreeSet<String> = self.levels.iter().cloned().chain(others).collect();
        let mut options: Vec<Option<String>> = Vec::new();
        let fresh = match slots.kind(slot) {
            Kind::Name => slots.names().fresh(&known),
            Kind::Unique | Kind::Free => {
                let mut texts = (1..).map(|n| format!("value-{n}"));
                texts.find(|text| !known.contains(text))
            }
        };
        options.extend(fresh.map(Some));
        let usable = |text: &&String| slots.contains(slot, text) && !taken(text);
        options.extend(known.iter().filter(usable).cloned().map(Some));
        let key = slots.key(slot);
        if slots.kind(slot) != Kind::Name && (key.starts_with(THING) || key.starts_with("iot:")) {
            options.push(None);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::Document;

    #[test]
    fn whole_levels_are_told_from_parts() {
        for (resource, expected) in [
            ("*", true),
            ("arn:aws:iot:r:1:topic/*", true),
            ("arn:aws:iot:*:*:topic/a/${iot:ClientId}/*", true),
            ("arn:aws:iot:r:1:topic/a/*/b", true),
            ("arn:aws:iot:r:1:topic/a/${iot:ClientId}*", false),
            ("arn:aws:iot:r:1:topic/pump-${iot:ClientId}", false),
            ("arn:aws:iot:r:1:topic/pump-*", false),
            ("arn:aws:iot:r:1:topic/?", false),
            (
                "arn:aws:iot:r:1:topic/${iot:ClientId}${iot:ClientId}",
                false,
            ),
        ] {
            let text = format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"iot:*","Resource":"{resource}"}}}}"#
            );
            let document = Document::parse(&text).unwrap();
            let pattern = &document.statements()[0].resources.patterns[0];
            assert_eq!(in_levels(pattern), expected, "{resource}");
        }
    }
}
