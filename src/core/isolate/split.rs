//! Case by case: a value is one of the levels that stand in the policies, or none of them. Of
//! policies made of whole levels nothing else matters, so that one text stands for all others, and
//! they are decided exactly; a short list of names is gone through name by name. In other policies
//! a value that is no level stays unknown, and is known to be none where conditions compare it.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::atom::Slot;
use super::names::in_names;
use super::prove::{Answer, Prover};
use super::slots::{Assignment, Kind, Slots, THING, fold};
use super::{Fleet, Names, Reach, Why};
use crate::core::policy::{Condition, NamedPolicy, Pattern, Piece, Rule, Test};

/// The most cases.
const MAX_CASES: usize = 4_000;
/// The longest list of names that are tried one by one.
pub(super) const MAX_LISTED: usize = 32;

/// Whether in all patterns each level is a literal, a variable or a wildcard.
fn whole_levels(fleet: &Fleet<'_>) -> bool {
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
        levels: Rc::new(levels(prover.fleet)),
        whole_levels: whole_levels(prover.fleet),
        short: short(&levels(prover.fleet)),
        left: MAX_CASES,
    };
    cases.from(&Case::default())
}

/// Names of one or two letters: some that stand in the policies, and one that need not.
fn short(levels: &BTreeSet<String>) -> Vec<String> {
    let used: BTreeSet<char> = levels.iter().flat_map(|level| level.chars()).collect();
    let other = ('a'..='z').rev().find(|c| !used.contains(c));
    let used = used.into_iter().filter(|c| in_names(*c)).take(3);
    let letters: Vec<char> = other.into_iter().chain(used).collect();
    let mut found: Vec<String> = letters.iter().map(char::to_string).collect();
    for a in &letters {
        found.extend(letters.iter().map(|b| format!("{a}{b}")));
    }
    found
}

/// What is known of the values.
#[derive(Clone, Debug, Default)]
struct Case {
    assigned: Assignment,
    /// Those that are none of the levels.
    others: BTreeSet<Slot>,
}

/// What a value can be.
enum Value {
    /// This text, or nothing.
    Is(Option<String>),
    /// None of the levels.
    Other,
}

struct Cases<'p, 'a> {
    prover: &'p Prover<'a>,
    reach: Reach,
    levels: Rc<BTreeSet<String>>,
    /// Short names, to be tried where parts of names matter.
    short: Vec<String>,
    /// Whether values are told apart by which levels they equal.
    whole_levels: bool,
    left: usize,
}

impl Cases<'_, '_> {
    /// Decides all cases that these values leave open.
    fn from(&mut self, known: &Case) -> Answer {
        if self.left == 0 {
            return Answer::Perhaps(Why::limit());
        }
        self.left -= 1;
        let mut scene = self.prover.scene(known.assigned.clone());
        for slot in &known.others {
            scene.others.insert(*slot, Rc::clone(&self.levels));
        }
        let answer = self.prover.ask(&scene, self.reach);
        let Answer::Perhaps(why) = answer else {
            return answer;
        };
        let slots = self.prover.slots;
        let next = slots
            .all()
            .into_iter()
            .find(|slot| !known.assigned.contains_key(slot) && !known.others.contains(slot));
        let Some(slot) = next else {
            return Answer::Perhaps(why);
        };
        let mut perhaps = None;
        for value in self.options(slot, &known.assigned) {
            let mut more = known.clone();
            match value {
                Value::Is(value) => {
                    more.assigned.insert(slot, value);
                }
                Value::Other => {
                    more.others.insert(slot);
                }
            }
            match self.from(&more) {
                Answer::No => {}
                Answer::Yes(found) => return Answer::Yes(found),
                Answer::Perhaps(why) => {
                    perhaps.get_or_insert(why);
                }
            }
        }
        perhaps.map_or(Answer::No, Answer::Perhaps)
    }

    /// The names, when they are listed and few.
    fn few(&self) -> Option<&[String]> {
        match &self.prover.fleet.names {
            Names::Listed(list) if list.len() <= MAX_LISTED => Some(list),
            _ => None,
        }
    }

    /// The values of a slot that are to be told apart: all that there are.
    fn options(&self, slot: Slot, assigned: &Assignment) -> Vec<Value> {
        let slots: &Slots<'_> = self.prover.slots;
        let usable = |text: &String| {
            let taken = assigned
                .iter()
                .any(|(other, value)| slots.distinct(*other, slot) && value.as_ref() == Some(text));
            slots.contains(slot, text) && !taken
        };
        let known: BTreeSet<String> = self
            .levels
            .iter()
            .cloned()
            .chain(assigned.values().flatten().cloned())
            .collect();
        let is_name = slots.kind(slot) == Kind::Name;
        let (mut options, mut texts) = (Vec::new(), known.clone());
        if self.whole_levels {
            options.extend(self.fresh(slot, &known).map(|text| Value::Is(Some(text))));
        } else if let (true, Some(few)) = (is_name, self.few()) {
            texts = few.iter().cloned().collect();
        } else {
            options.push(Value::Other);
            texts.extend(self.short.iter().filter(|_| is_name).cloned());
        }
        options.extend(
            texts
                .into_iter()
                .filter(usable)
                .map(|text| Value::Is(Some(text))),
        );
        let key = slots.key(slot);
        if !is_name && (key.starts_with(THING) || key.starts_with("iot:")) {
            options.push(Value::Is(None));
        }
        options
    }

    /// A text that is none of those that are known.
    fn fresh(&self, slot: Slot, known: &BTreeSet<String>) -> Option<String> {
        let slots = self.prover.slots;
        match slots.kind(slot) {
            Kind::Name => slots.names().fresh(known),
            Kind::Unique | Kind::Free => {
                let mut texts = (1..).map(|n| format!("value-{n}"));
                texts.find(|text| !known.contains(text))
            }
        }
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
