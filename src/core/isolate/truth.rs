//! Whether conditions hold, as far as what is known decides it.

use super::atom::Atom;
use super::scene::{Client, Scene, Station};
use super::shape::{is_client, selects, text, uses_client};
use super::slots::{CLIENT_ID, IS_ATTACHED, THING, fold};
use crate::core::policy::{
    Action, Condition, Effect, Facts, Pattern, Piece, Quantifier, Rule, Statement, Test,
};

/// How the names of variables with several values end.
const MANY: [&str; 2] = [".list", ".availablekeys"];

/// What is known of a condition key.
enum Known {
    /// Its value, or that it has none.
    Value(Option<String>),
    /// Its value is this unknown.
    Atoms(Vec<Atom>),
    /// Nothing.
    Nothing,
}

impl Scene<'_> {
    /// The client ids, other than the thing's name, that a condition compares with: with any other
    /// it is not met, or met when it asks for something else.
    pub(super) fn compared(&self, station: &Station) -> Vec<Vec<Atom>> {
        let mut found: Vec<Vec<Atom>> = Vec::new();
        for (_, statement) in self.statements(station.side) {
            for condition in statement.conditions.iter().filter(|one| is_equal(one)) {
                let values: Vec<_> = if fold(&condition.key) == CLIENT_ID {
                    let values = condition.values.iter().filter(|value| !uses_client(value));
                    values
                        .filter_map(|value| self.atoms(station, value))
                        .collect()
                } else if condition.values.iter().any(is_client) {
                    self.value(station, &condition.key).into_iter().collect()
                } else {
                    continue;
                };
                found.extend(values);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|atoms| !atoms.is_empty() && *atoms != self.name(station.side));
        found
    }

    /// Decides a condition that compares with a client id which is none of those it compares with.
    fn of_another(&self, station: &Station, condition: &Condition) -> Option<bool> {
        let (Client::Like(_), Rule::Test { negated, .. }) =
            (&station.client, condition.operator.rule)
        else {
            return None;
        };
        let mut values = condition.values.iter();
        if !is_equal(condition) {
            return None;
        }
        if fold(&condition.key) == CLIENT_ID {
            if values.any(uses_client) {
                return None;
            }
            let mut values = condition.values.iter();
            let resolved = values.all(|value| self.atoms(station, value).is_some());
            return Some(resolved && negated);
        }
        let there = matches!(
            self.known(station, &condition.key),
            Known::Atoms(_) | Known::Value(Some(_))
        );
        (there && values.len() > 0 && values.all(is_client)).then_some(negated)
    }

    pub(super) fn applies(&self, station: &Station, statement: &Statement, action: Action) -> bool {
        if !selects(&statement.actions, action) {
            return false;
        }
        let mut conditions = statement.conditions.iter();
        match statement.effect {
            Effect::Allow => conditions.all(|one| self.truth(station, one) != Some(false)),
            Effect::Deny => conditions.all(|one| self.truth(station, one) == Some(true)),
        }
    }

    /// Whether a condition holds, if what is known decides it.
    fn truth(&self, station: &Station, condition: &Condition) -> Option<bool> {
        if let Some(decided) = self.of_another(station, condition) {
            return Some(decided);
        }
        let used = condition.values.iter().flat_map(Pattern::variables);
        let mut facts = Facts::new("");
        let mut all_known = true;
        for key in used.chain([&condition.key[..]]) {
            match self.known(station, key) {
                Known::Value(value) => {
                    facts = facts.with(key, value.into_iter().collect());
                }
                Known::Atoms(_) | Known::Nothing => all_known = false,
            }
        }
        if all_known {
            return Some(condition.met(&facts));
        }
        let found = self.same_unknown(station, condition);
        let found = found.or_else(|| self.of_other(station, condition));
        if found.is_none() {
            self.open.borrow_mut().insert(condition.key.clone());
        }
        found
    }

    /// Decides `StringEquals iot:ClientId ${iot:Connection.Thing.ThingName}` and its like, where
    /// both are one unknown.
    fn same_unknown(&self, station: &Station, condition: &Condition) -> Option<bool> {
        let Known::Atoms(key) = self.known(station, &condition.key) else {
            return None;
        };
        let Rule::Test {
            test: Test::Equal | Test::EqualIgnoringCase | Test::Like,
            negated,
        } = condition.operator.rule
        else {
            return None;
        };
        let values: Option<Vec<_>> = condition
            .values
            .iter()
            .map(|value| self.atoms(station, value))
            .collect();
        // A value with a variable that has none: the condition is not met.
        let Some(values) = values else {
            return Some(false);
        };
        let plain =
            condition.operator.quantifier != Quantifier::All || !condition.values.is_empty();
        (plain && values.contains(&key)).then_some(!negated)
    }

    /// Decides a condition that compares a value with texts that it is none of.
    fn of_other(&self, station: &Station, condition: &Condition) -> Option<bool> {
        let (Known::Atoms(key), Rule::Test { negated, .. }) =
            (self.known(station, &condition.key), condition.operator.rule)
        else {
            return None;
        };
        let [Atom::Value(slot)] = key[..] else {
            return None;
        };
        let texts = self.others.get(&slot)?;
        let other = |value: &Pattern| match value.pieces() {
            [] => true,
            [Piece::Literal(text)] => texts.contains(text) || !self.slots.contains(slot, text),
            _ => false,
        };
        let decided = is_equal(condition) && condition.values.iter().all(other);
        (decided && !condition.values.is_empty()).then_some(negated)
    }

    fn known(&self, station: &Station, key: &str) -> Known {
        let folded = fold(key);
        let decided = match &folded[..] {
            CLIENT_ID => match &station.client {
                Client::Is(text) => return Known::Value(Some(text.clone())),
                Client::Exactly(atoms) => return Known::Atoms(atoms.clone()),
                Client::Like(_) => return Known::Nothing,
                Client::Own => true,
            },
            IS_ATTACHED => true,
            key if MANY.iter().any(|many| key.ends_with(many)) => false,
            key => key.starts_with(THING) || key.starts_with("iot:"),
        };
        if !decided || folded.starts_with("iot:connectattributes") || folded == "iot:lastwilltopic"
        {
            return Known::Nothing;
        }
        match self.value(station, key) {
            None => Known::Value(None),
            Some(atoms) => match text(&atoms) {
                Some(text) => Known::Value(Some(text)),
                None => Known::Atoms(atoms),
            },
        }
    }
}

/// Whether a condition asks for a value to be the same, or not to be.
fn is_equal(condition: &Condition) -> bool {
    matches!(
        condition.operator.rule,
        Rule::Test {
            test: Test::Equal,
            ..
        }
    )
}
