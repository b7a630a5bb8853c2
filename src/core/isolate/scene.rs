//! What one device may do in one state of its connection, with what is not known left open. Where
//! something cannot be said exactly, the device may do more here than in truth, never less.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::atom::{ANY, Atom, Lazy, NO_LABEL, ONE, Slot, Trie, literal};
use super::shape::{covers, selects, set, uses_client, widened, widening, widest};
use super::slots::{Assignment, CLIENT_ID, IS_ATTACHED, Side, Slots, THING, THING_NAME, fold};
use super::{Fleet, Reach, StatementRef};
use crate::core::policy::{Action, Effect, NamedPolicy, Pattern, Piece, Selection, Statement};

/// The most patterns that are named where a search was too large.
const NAMED: usize = 4;

/// The client id of a connection, as far as it is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Client {
    /// The thing's name.
    Own,
    /// What these atoms can be, but none that [`Scene::compared`] names.
    Like(Vec<Atom>),
    /// These atoms, character for character.
    Exactly(Vec<Atom>),
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
    /// Values that are not known, but are none of these texts.
    pub(super) others: BTreeMap<Slot, Rc<BTreeSet<String>>>,
    /// The beginning of a client id's ARN.
    clients: String,
    labels: RefCell<Vec<(StatementRef, Vec<Atom>)>>,
    /// Condition keys that could not be decided.
    pub(super) open: RefCell<BTreeSet<String>>,
    used: Cell<usize>,
}

/// One pattern with its values.
struct Entry {
    /// Its number.
    pattern: usize,
    atoms: Vec<Atom>,
    /// Whether it is no wider than in truth.
    exact: bool,
}

/// Which client ids fit a pattern that they stand in themselves.
enum Fit {
    /// All: these atoms.
    All(Vec<Atom>),
    /// Perhaps some.
    Some,
}

impl<'a> Scene<'a> {
    pub(super) fn new(slots: &'a Slots<'a>, fleet: &'a Fleet<'a>, assigned: Assignment) -> Self {
        Self {
            slots,
            policies: [fleet.policies, fleet.other.unwrap_or(fleet.policies)],
            assigned,
            others: BTreeMap::new(),
            clients: fleet.place.arn("client", ""),
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
        let labels = self.labels.borrow();
        labels.get(label as usize).map(|known| known.0.clone())
    }

    /// Whether two patterns of two devices match no word at once, because they are one pattern
    /// without `*` and with one variable that differs: for words of one length the variable would
    /// have to stand at the same places, for the same text.
    pub(super) fn told_apart(&self, a: u32, b: u32) -> bool {
        let labels = self.labels.borrow();
        let atoms = |label: u32| labels.get(label as usize).map(|known| &known.1[..]);
        let (Some(a), Some(b)) = (atoms(a), atoms(b)) else {
            return false;
        };
        let mut pairs = a.iter().zip(b).filter(|(a, b)| a != b);
        let Some((Atom::Value(one), Atom::Value(two))) = pairs.clone().next() else {
            return false;
        };
        let alike = |(a, b): (&Atom, &Atom)| (*a, *b) == (Atom::Value(*one), Atom::Value(*two));
        let fixed = |atom: &Atom| match atom {
            Atom::Value(slot) => slot == one,
            Atom::Run(_) => false,
            Atom::Char(_) | Atom::Except(_) => true,
        };
        a.len() == b.len()
            && self.slots.distinct(*one, *two)
            && a.iter().all(fixed)
            && pairs.all(alike)
    }

    /// Every statement that allowed something.
    pub(super) fn labels(&self) -> Vec<StatementRef> {
        self.labels
            .borrow()
            .iter()
            .map(|known| known.0.clone())
            .collect()
    }

    /// A variable's value; `None` when it has none.
    pub(super) fn value(&self, station: &Station, key: &str) -> Option<Vec<Atom>> {
        let key = fold(key);
        match &key[..] {
            CLIENT_ID => match &station.client {
                Client::Own => self.slot(station.side, THING_NAME),
                Client::Like(atoms) => Some(atoms.iter().map(|atom| widest(*atom)).collect()),
                Client::Exactly(atoms) => Some(atoms.iter().map(|atom| widened(*atom)).collect()),
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
        let denials = self.denials(station, action);
        for (at, statement) in self.statements(station.side) {
            if !self.applies(station, statement, action) {
                continue;
            }
            let resources = &statement.resources;
            match (statement.effect, resources.inverted) {
                (Effect::Allow, false) => {
                    for Entry { pattern, atoms, .. } in self.entries(station, resources, action) {
                        let symbols = self.symbols(station, &resources.patterns[pattern]);
                        if denials.iter().any(|denial| covers(denial, &symbols)) {
                            continue;
                        }
                        let label = self.add_label(&at, &resources.path_of(pattern), &atoms);
                        allowed.add(&atoms, label);
                        access.entries.push(atoms);
                    }
                }
                (Effect::Allow, true) => {
                    let label = self.add_label(&at, &resources.path, &[ANY]);
                    access.ways.push(Way {
                        trie: Rc::new(Trie::labelled(&[ANY], label)),
                        none_of: set(self.known_only(station, resources, action)),
                    });
                    access.entries.push(vec![ANY]);
                }
                (Effect::Deny, false) => {
                    for atoms in self.known_only(station, resources, action) {
                        denied.add(&atoms, NO_LABEL);
                    }
                }
                (Effect::Deny, true) => {
                    let mut trie = Trie::new();
                    for entry in self.entries(station, resources, action) {
                        trie.add(&entry.atoms, NO_LABEL);
                    }
                    access.musts.push(Rc::new(trie));
                }
            }
        }
        let (trie, none_of) = (Rc::new(allowed), None);
        if !trie.is_empty() {
            access.ways.push(Way { trie, none_of });
        }
        access.denied = (!denied.is_empty()).then(|| Rc::new(Lazy::new(denied)));
        access
    }

    /// A pattern as symbols: an unknown value and an unknown client id are one each. A variable
    /// without a value is none.
    fn symbols(&self, station: &Station, pattern: &Pattern) -> Vec<Atom> {
        let known = pattern.pieces().iter().map(|piece| match piece {
            Piece::Variable(key) if fold(key) == CLIENT_ID => match &station.client {
                Client::Like(_) => Some(vec![ITSELF]),
                _ => self.value(station, key),
            },
            Piece::Variable(key) => self.value(station, key),
            Piece::Literal(text) => Some(literal(text).collect()),
            Piece::Any => Some(vec![ANY]),
            Piece::One => Some(vec![ONE]),
        });
        let whole: Option<Vec<_>> = known.collect();
        whole.map_or_else(Vec::new, |parts| parts.concat())
    }

    /// What is denied whatever the values are, as symbols.
    fn denials(&self, station: &Station, action: Action) -> Vec<Vec<Atom>> {
        let statements = self
            .statements(station.side)
            .map(|(_, statement)| statement);
        let denies = statements.filter(|one| {
            one.effect == Effect::Deny
                && !one.resources.inverted
                && self.applies(station, one, action)
        });
        let patterns = denies.flat_map(|one| &one.resources.patterns);
        let symbols = patterns.map(|pattern| self.symbols(station, pattern));
        symbols.filter(|symbols| !symbols.is_empty()).collect()
    }

    /// Every statement of a device's policies, with where it stands.
    pub(super) fn statements(
        &self,
        side: Side,
    ) -> impl Iterator<Item = (StatementRef, &'a Statement)> {
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

    /// The patterns that a search for this way to reach has most to do with, the wildest first.
    pub(super) fn wildest(&self, reach: Reach) -> Vec<StatementRef> {
        let mut found = BTreeSet::new();
        for (side, action) in Side::BOTH.into_iter().zip(reach.actions()) {
            for (at, statement) in self.statements(side) {
                let subscribes =
                    action == Action::Receive && selects(&statement.actions, Action::Subscribe);
                if !selects(&statement.actions, action) && !subscribes {
                    continue;
                }
                for (n, pattern) in statement.resources.patterns.iter().enumerate() {
                    let wild = |piece: &&Piece| !matches!(piece, Piece::Literal(_));
                    let wild = pattern.pieces().iter().filter(wild).count();
                    let path = statement.resources.path_of(n);
                    found.insert((Reverse(wild), StatementRef { path, ..at.clone() }));
                }
            }
        }
        let found = found.into_iter().map(|(_, at)| at);
        found.take(NAMED).collect()
    }

    /// How many patterns there are.
    pub(super) fn size(&self) -> usize {
        let statements = Side::BOTH
            .into_iter()
            .flat_map(|side| self.statements(side));
        let sizes = statements.map(|(_, one)| one.resources.patterns.len() + one.conditions.len());
        sizes.sum()
    }

    fn add_label(&self, at: &StatementRef, path: &str, atoms: &[Atom]) -> u32 {
        let mut labels = self.labels.borrow_mut();
        let at = StatementRef {
            path: path.to_owned(),
            ..at.clone()
        };
        labels.push((at, atoms.to_vec()));
        u32::try_from(labels.len() - 1).unwrap_or(u32::MAX)
    }

    /// The patterns that have all their values.
    fn entries(&self, station: &Station, resources: &Selection, action: Action) -> Vec<Entry> {
        let patterns = resources.patterns.iter().enumerate();
        let entry = |(n, pattern): (usize, &Pattern)| {
            let open = matches!(station.client, Client::Like(_)) && uses_client(pattern);
            let fit = if open && action == Action::Connect {
                self.of_itself(station, pattern)?
            } else {
                Fit::Some
            };
            let (atoms, exact) = match fit {
                Fit::All(atoms) => (atoms, true),
                Fit::Some => (self.atoms(station, pattern)?, !open),
            };
            Some(Entry {
                pattern: n,
                atoms,
                exact,
            })
        };
        patterns.filter_map(entry).collect()
    }

    /// The patterns without unknown values: all that may be taken away without taking too much.
    fn known_only(
        &self,
        station: &Station,
        resources: &Selection,
        action: Action,
    ) -> Vec<Vec<Atom>> {
        let entries = self.entries(station, resources, action).into_iter();
        let known = entries.filter(|one| one.exact).map(|one| one.atoms);
        known
            .filter(|atoms| atoms.iter().all(|atom| !matches!(atom, Atom::Value(_))))
            .collect()
    }

    /// Which client ids fit a pattern for client ids that they stand in themselves; `None`: none
    /// does. What must be there beside the client id, the client id would have to hold once more
    /// than it does.
    fn of_itself(&self, station: &Station, pattern: &Pattern) -> Option<Fit> {
        let atoms = self.symbols(station, pattern);
        if atoms.is_empty() {
            return None;
        }
        let arn: Vec<Atom> = literal(&self.clients).collect();
        let Some(rest) = atoms.strip_prefix(&arn[..]) else {
            return Some(Fit::Some);
        };
        if rest.iter().filter(|atom| **atom != ANY).eq([&ITSELF]) {
            return Some(Fit::All(arn.into_iter().chain([ANY]).collect()));
        }
        let needed = |atom: &Atom| match atom {
            Atom::Char(c) => !matches!(c, '*' | '?'),
            Atom::Value(slot) => *atom != ITSELF && !self.slots.may_be_empty(*slot),
            Atom::Except(_) | Atom::Run(_) => false,
        };
        (!rest.iter().any(needed)).then_some(Fit::Some)
    }

    /// What the name of a device's thing is known not to be, as client ids.
    pub(super) fn not_named(&self, side: Side) -> Option<Rc<Lazy>> {
        let texts = self.others.get(&self.slots.of(side, THING_NAME))?;
        let whole = |text: &String| literal(&self.clients).chain(literal(text)).collect();
        set(texts.iter().map(whole).collect())
    }

    /// Whether any policy names the client id where topics or filters are decided.
    pub(super) fn uses_client_id(&self, side: Side) -> bool {
        let actions = [Action::Publish, Action::Receive, Action::Subscribe];
        self.statements(side).any(|(_, statement)| {
            actions
                .iter()
                .any(|action| selects(&statement.actions, *action))
                && (statement.resources.patterns.iter().any(uses_client)
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

/// A client id that is not known, as a symbol.
const ITSELF: Atom = Atom::Value(Slot::MAX);
