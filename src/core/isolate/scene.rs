//! What one device may do in one state of its connection, with what is not known left open. Where
//! something cannot be said exactly, the device may do more here than in truth, never less.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use super::StatementRef;
use super::atom::{ANY, Atom, Lazy, ONE, Trie, literal};
use super::slots::{Assignment, CLIENT_ID, IS_ATTACHED, Side, Slots, THING, THING_NAME, fold};
use crate::core::policy::{
    Action, Condition, Effect, Facts, NamedPolicy, Pattern, Piece, Quantifier, Rule, Selection,
    Statement, Test,
};

/// The client id of a connection, as far as it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Client {
    /// The thing's name.
    Own,
    /// What these atoms can be.
    Like(Vec<Atom>),
    /// This.
    Is(String),
}

/// A device in one state of its connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Station {
    pub(super) side: Side,
    /// Whether thing variables have a value.
    pub(super) attached: bool,
    pub(super) client: Client,
}

/// A way to be allowed: by one of many `Resource` entries, or by one `NotResource`.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) trie: Rc<Trie>,
    pub(super) none_of: Option<Rc<Lazy>>,
}

/// What a station may do with one action.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    pub(super) ways: Vec<Way>,
    /// The allowing patterns, each by itself.
    pub(super) entries: Vec<Vec<Atom>>,
    /// Nothing in here.
    pub(super) denied: Option<Rc<Lazy>>,
    /// Only what is in each of these.
    pub(super) musts: Vec<Rc<Trie>>,
}

/// The policies of both devices, and what has been decided on so far.
pub(super) struct Scene<'a> {
    pub(super) slots: &'a Slots<'a>,
    pub(super) policies: [&'a [NamedPolicy]; 2],
    pub(super) assigned: Assignment,
    labels: RefCell<Vec<StatementRef>>,
    /// Condition keys that could not be decided.
    pub(super) open: RefCell<BTreeSet<String>>,
    used: Cell<usize>,
}

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

impl<'a> Scene<'a> {
    pub(super) fn new(
        slots: &'a Slots<'a>,
        policies: [&'a [NamedPolicy]; 2],
        assigned: Assignment,
    ) -> Self {
        Self {
            slots,
            policies,
            assigned,
            labels: RefCell::default(),
            open: RefCell::default(),
            used: Cell::new(0),
        }
    }

    pub(super) fn policies(&self, side: Side) -> &'a [NamedPolicy] {
        self.policies[side as usize]
    }

    /// The statement behind a label.
    pub(super) fn label(&self, label: u32) -> Option<StatementRef> {
        self.labels.borrow().get(label as usize).cloned()
    }

    /// Every statement that allowed something.
    pub(super) fn labels(&self) -> Vec<StatementRef> {
        self.labels.borrow().clone()
    }

    /// A variable's value; `None` when it has none.
    fn value(&self, station: &Station, key: &str) -> Option<Vec<Atom>> {
        let key = fold(key);
        match &key[..] {
            CLIENT_ID => match &station.client {
                Client::Own => self.slot(station.side, THING_NAME),
                Client::Like(atoms) => Some(atoms.clone()),
                Client::Is(text) => Some(text.chars().map(widening).collect()),
            },
            IS_ATTACHED => Some(literal(if station.attached { "true" } else { "false" }).collect()),
            key if key.starts_with(THING) && !station.attached => None,
            key if key.starts_with("iot:thing.") => None,
            key => self.slot(station.side, key),
        }
    }

    /// The name of a device's thing.
    pub(super) fn name(&self, side: Side) -> Vec<Atom> {
        self.slot(side, THING_NAME).unwrap_or_default()
    }

    fn slot(&self, side: Side, key: &str) -> Option<Vec<Atom>> {
        let slot = self.slots.of(side, key);
        match self.assigned.get(&slot) {
            Some(Some(text)) => Some(literal(text).collect()),
            Some(None) => None,
            None => Some(vec![Atom::Value(slot)]),
        }
    }

    /// A pattern; `None` when a variable in it has no value.
    pub(super) fn atoms(&self, station: &Station, pattern: &Pattern) -> Option<Vec<Atom>> {
        let mut atoms = Vec::new();
        for piece in pattern.pieces() {
            match piece {
                Piece::Literal(text) => atoms.extend(literal(text)),
                Piece::Any => atoms.push(ANY),
                Piece::One => atoms.push(ONE),
                Piece::Variable(key) => atoms.extend(self.value(station, key)?),
            }
        }
        Some(atoms)
    }

    /// What the station may do.
    pub(super) fn access(&self, station: &Station, action: Action) -> Access {
        let mut access = Access::default();
        let (mut allowed, mut denied) = (Trie::new(), Trie::new());
        for (at, statement) in self.statements(station.side) {
            if !self.applies(station, statement, action) {
                continue;
            }
            let resources = &statement.resources;
            match (statement.effect, resources.inverted) {
                (Effect::Allow, false) => {
                    for (pattern, atoms) in self.entries(station, resources) {
                        let label = self.add_label(&at, &resources.path_of(pattern));
                        allowed.add(&atoms, label);
                        access.entries.push(atoms);
                    }
                }
                (Effect::Allow, true) => {
                    let mut trie = Trie::new();
                    trie.add(&[ANY], self.add_label(&at, &resources.path));
                    access.ways.push(Way {
                        trie: Rc::new(trie),
                        none_of: set(self.known_only(station, resources)),
                    });
                    access.entries.push(vec![ANY]);
                }
                (Effect::Deny, false) => {
                    let known = self.known_only(station, resources);
                    for atoms in &known {
                        denied.add(atoms, 0);
                    }
                }
                (Effect::Deny, true) => {
                    let mut trie = Trie::new();
                    let entries = self.entries(station, resources);
                    for (_, atoms) in &entries {
                        trie.add(atoms, 0);
                    }
                    access.musts.push(Rc::new(trie));
                }
            }
        }
        if !allowed.is_empty() {
            access.ways.push(Way {
                trie: Rc::new(allowed),
                none_of: None,
            });
        }
        access.denied = (!denied.is_empty()).then(|| Rc::new(Lazy::new(denied)));
        access
    }

    /// Every statement of a device's policies, with where it stands.
    fn statements(&self, side: Side) -> impl Iterator<Item = (StatementRef, &'a Statement)> {
        self.policies(side).iter().flat_map(|named| {
            let statements = named.document.statements().iter().enumerate();
            statements.map(|(n, statement)| {
                let at = StatementRef {
                    policy: named.name.clone(),
                    statement: n,
                    sid: statement.sid.clone(),
                    path: statement.path.clone(),
                };
                (at, statement)
            })
        })
    }

    fn add_label(&self, at: &StatementRef, path: &str) -> u32 {
        let mut labels = self.labels.borrow_mut();
        labels.push(StatementRef {
            path: path.to_owned(),
            ..at.clone()
        });
        u32::try_from(labels.len() - 1).unwrap_or(u32::MAX)
    }

    /// The patterns that have all their values, by their numbers.
    fn entries(&self, station: &Station, resources: &Selection) -> Vec<(usize, Vec<Atom>)> {
        let patterns = resources.patterns.iter().enumerate();
        patterns
            .filter_map(|(n, pattern)| Some((n, self.atoms(station, pattern)?)))
            .collect()
    }

    /// The patterns without unknown values: all that may be taken away without taking too much.
    fn known_only(&self, station: &Station, resources: &Selection) -> Vec<Vec<Atom>> {
        let entries = self.entries(station, resources).into_iter();
        entries
            .map(|(_, atoms)| atoms)
            .filter(|atoms| atoms.iter().all(|atom| !matches!(atom, Atom::Value(_))))
            .filter(|_| !matches!(station.client, Client::Like(_)) || !uses_client(resources))
            .collect()
    }

    fn applies(&self, station: &Station, statement: &Statement, action: Action) -> bool {
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

    fn known(&self, station: &Station, key: &str) -> Known {
        let folded = fold(key);
        let decided = match &folded[..] {
            CLIENT_ID => match &station.client {
                Client::Is(text) => return Known::Value(Some(text.clone())),
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

    /// Whether any policy names the client id where topics or filters are decided.
    pub(super) fn uses_client_id(&self, side: Side) -> bool {
        let actions = [Action::Publish, Action::Receive, Action::Subscribe];
        self.statements(side).any(|(_, statement)| {
            actions
                .iter()
                .any(|action| selects(&statement.actions, *action))
                && (uses_client(&statement.resources)
                    || statement.conditions.iter().any(|condition| {
                        let mut used = condition.values.iter().flat_map(Pattern::variables);
                        fold(&condition.key) == CLIENT_ID || used.any(|key| fold(key) == CLIENT_ID)
                    }))
        })
    }

    /// Counts one more search, for the report.
    pub(super) fn count(&self) {
        self.used.set(self.used.get() + 1);
    }

    /// How many searches there were.
    pub(super) fn searches(&self) -> usize {
        self.used.get()
    }
}

fn uses_client(resources: &Selection) -> bool {
    let mut used = resources.patterns.iter().flat_map(Pattern::variables);
    used.any(|key| fold(key) == CLIENT_ID)
}

/// A client id's character in a pattern: there its `*` and `?` widen the policy.
fn widening(c: char) -> Atom {
    match c {
        '*' => ANY,
        '?' => ONE,
        c => Atom::Char(c),
    }
}

/// The text of atoms that are all characters.
pub(super) fn text(atoms: &[Atom]) -> Option<String> {
    let one = |atom: &Atom| match atom {
        Atom::Char(c) => Some(*c),
        _ => None,
    };
    atoms.iter().map(one).collect()
}

fn set(patterns: Vec<Vec<Atom>>) -> Option<Rc<Lazy>> {
    if patterns.is_empty() {
        return None;
    }
    let mut trie = Trie::new();
    for atoms in patterns {
        trie.add(&atoms, 0);
    }
    Some(Rc::new(Lazy::new(trie)))
}

/// Whether a statement is about an action.
fn selects(actions: &Selection, action: Action) -> bool {
    let hit = actions.patterns.iter().any(|pattern| {
        let atoms = pattern.pieces().iter().flat_map(|piece| match piece {
            Piece::Literal(text) | Piece::Variable(text) => literal(text).collect::<Vec<_>>(),
            Piece::Any => vec![ANY],
            Piece::One => vec![ONE],
        });
        let trie = Trie::of(&atoms.collect::<Vec<_>>());
        // An action is too short to meet the limit; where it did, it counts as asked for.
        Lazy::new(trie).contains(action.folded()) != Ok(false)
    });
    hit != actions.inverted
}

/// What is left of patterns after a beginning that is known: what can follow it.
pub(super) fn after(patterns: &[Vec<Atom>], beginning: &str) -> Vec<Vec<Atom>> {
    let mut found = Vec::new();
    for pattern in patterns {
        for at in positions(pattern, beginning) {
            let rest = pattern[at..].to_vec();
            if !found.contains(&rest) {
                found.push(rest);
            }
        }
    }
    found
}

/// Where in a pattern one can be after reading a text; a value counts as any part of a level.
fn positions(pattern: &[Atom], text: &str) -> BTreeSet<usize> {
    let mut at = skip(pattern, BTreeSet::from([0]));
    for c in text.chars() {
        let mut next = BTreeSet::new();
        for position in at {
            match pattern.get(position) {
                Some(Atom::Char(wanted)) if *wanted == c => {
                    next.insert(position + 1);
                }
                Some(Atom::Except(except)) if !except.contains(c) => {
                    next.insert(position + 1);
                }
                Some(Atom::Run(except)) if !except.contains(c) => {
                    next.insert(position);
                }
                Some(Atom::Value(_)) if c != '/' => {
                    next.extend([position, position + 1]);
                }
                _ => {}
            }
        }
        at = skip(pattern, next);
    }
    // After a `*` that may go on, what follows it alone says nothing more.
    let covered: Vec<usize> = at
        .iter()
        .filter(|at| **at > 0 && matches!(pattern[**at - 1], Atom::Run(_)))
        .filter(|after| at.contains(&(**after - 1)))
        .copied()
        .collect();
    at.into_iter()
        .filter(|one| !covered.contains(one))
        .collect()
}

fn skip(pattern: &[Atom], mut at: BTreeSet<usize>) -> BTreeSet<usize> {
    for (position, atom) in pattern.iter().enumerate() {
        if at.contains(&position) && matches!(atom, Atom::Run(_)) {
            at.insert(position + 1);
        }
    }
    at
}

/// What a filter of MQTT's matches, as patterns: nothing above `…/#`, and no topic that starts with
/// `$` for a wildcard at the beginning.
pub(super) fn filter_patterns(filter: &str) -> Vec<Vec<Atom>> {
    let levels: Vec<&str> = filter.split('/').collect();
    let mut patterns = vec![Vec::new()];
    for (n, level) in levels.iter().enumerate() {
        if n > 0 {
            for pattern in &mut patterns {
                pattern.push(Atom::Char('/'));
            }
        }
        patterns = patterns
            .into_iter()
            .flat_map(|before| level_patterns(before, level, n == 0))
            .collect();
    }
    patterns
}

fn level_patterns(mut before: Vec<Atom>, level: &str, first: bool) -> Vec<Vec<Atom>> {
    match (level, first) {
        ("#", true) => vec![vec![Atom::Except("$"), ANY]],
        ("+", true) => vec![vec![], vec![Atom::Except("$/"), super::atom::LEVEL]],
        ("#", false) => {
            before.push(ANY);
            vec![before]
        }
        ("+", false) => {
            before.push(super::atom::LEVEL);
            vec![before]
        }
        (level, _) => {
            before.extend(literal(level));
            vec![before]
        }
    }
}

/// The set of topics that some filters match.
pub(super) fn filter_set<'f>(
    filters: impl Iterator<Item = &'f String>,
    prefix: &str,
) -> Option<Rc<Lazy>> {
    let patterns = filters.flat_map(|filter| filter_patterns(filter));
    let whole = patterns.map(|pattern| literal(prefix).chain(pattern).collect());
    set(whole.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_filters_match_as_aws_has_it() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/", true),
            ("a/+", "a/b/c", false),
            ("a/#", "a/b/c", true),
            ("a/#", "a", false),
            ("#", "a/b", true),
            ("#", "$aws/x", false),
            ("+/x", "$aws/x", false),
            ("+/x", "/x", true),
            ("+/x", "y/x", true),
            ("$aws/#", "$aws/x", true),
        ] {
            let filters = [filter.to_owned()];
            let found = filter_set(filters.iter(), "").unwrap().contains(topic);
            assert_eq!(found, Ok(expected), "{filter} {topic}");
        }
    }

    #[test]
    fn what_follows_a_beginning_is_found() {
        let glob = |text: &str| -> Vec<Atom> { text.chars().map(widening).collect() };
        for (pattern, expected) in [
            ("arn/client/*", vec!["*"]),
            ("*", vec!["*"]),
            ("arn/client/pump-?", vec!["pump-?"]),
            ("arn/topic/*", vec![]),
            ("*client/x", vec!["*client/x", "x"]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(glob).collect();
            assert_eq!(
                after(&[glob(pattern)], "arn/client/"),
                expected,
                "{pattern}"
            );
        }
    }
}
