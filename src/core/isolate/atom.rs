//! Patterns as automata: many patterns in one trie, read a character at a time, and a lazy
//! determinization of those without unknown values.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::Limit;

/// Which unknown value of which device; an index into [`super::slots::Slots`].
pub(super) type Slot = u8;

/// One step of a pattern.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Atom {
    /// This character.
    Char(char),
    /// One character, none of these.
    Except(&'static str),
    /// Any number of characters, none of these.
    Run(&'static str),
    /// The whole of an unknown value.
    Value(Slot),
}

/// The label of patterns that no one asks for.
pub(super) const NO_LABEL: u32 = u32::MAX;

/// A policy's `?`.
pub(super) const ONE: Atom = Atom::Except("");
/// A policy's `*`.
pub(super) const ANY: Atom = Atom::Run("");
/// MQTT's `+`.
pub(super) const LEVEL: Atom = Atom::Run("/");

/// The characters of a text, as atoms.
pub(super) fn literal(text: &str) -> impl Iterator<Item = Atom> + '_ {
    text.chars().map(Atom::Char)
}

/// One place in a [`Trie`].
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) edges: Vec<(Atom, u32)>,
    /// It also reads these without leaving: all but the characters named.
    pub(super) stay: Option<&'static str>,
    /// The value that was read on the way here.
    pub(super) slot: Option<Slot>,
    /// The patterns that end here.
    pub(super) ends: Vec<u32>,
}

/// Patterns that share their beginnings.
#[derive(Debug)]
pub(super) struct Trie {
    pub(super) nodes: Vec<Node>,
    sets: RefCell<Sets>,
    /// How many nodes were walked through for what is not known yet.
    spent: Cell<usize>,
}

/// Sets of nodes that have been met: every place where a reader can be that reads no value.
#[derive(Debug, Default)]
struct Sets {
    known: Vec<Met>,
    ids: HashMap<Vec<u32>, u32>,
    steps: HashMap<(u32, char), Option<u32>>,
}

/// One set of nodes, with what follows from it.
#[derive(Clone, Debug)]
pub(super) struct Met {
    nodes: Rc<[u32]>,
    /// The nodes behind the values that can begin here.
    pub(super) values: Rc<[(u32, Slot)]>,
    /// The patterns that end here.
    pub(super) ends: Rc<[u32]>,
    /// Whether every word goes on from here to an end.
    pub(super) all: bool,
}

impl Trie {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            sets: RefCell::default(),
            spent: Cell::new(0),
        }
    }

    /// The trie of one pattern.
    pub(super) fn of(atoms: &[Atom]) -> Self {
        Self::labelled(atoms, NO_LABEL)
    }

    /// The trie of one pattern, which can be asked for.
    pub(super) fn labelled(atoms: &[Atom], label: u32) -> Self {
        let mut trie = Self::new();
        trie.add(atoms, label);
        trie
    }

    /// Adds a pattern; `label` says later which one ended.
    pub(super) fn add(&mut self, atoms: &[Atom], label: u32) {
        let mut at = 0;
        for atom in atoms {
            let known = self.nodes[at].edges.iter().find(|edge| edge.0 == *atom);
            at = if let Some(&(_, next)) = known {
                next as usize
            } else {
                let next = self.nodes.len();
                self.nodes.push(Node {
                    stay: match atom {
                        Atom::Run(except) => Some(except),
                        _ => None,
                    },
                    slot: match atom {
                        Atom::Value(slot) => Some(*slot),
                        _ => None,
                    },
                    ..Node::default()
                });
                self.nodes[at].edges.push((*atom, index(next)));
                next
            };
        }
        self.nodes[at].ends.push(label);
    }

    /// Whether no pattern is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[0].ends.is_empty()
    }

    /// Every character that a pattern names after some nodes.
    pub(super) fn characters(&self, from: &[u32], found: &mut BTreeSet<char>) {
        let mut seen = vec![false; self.nodes.len()];
        let mut next = from.to_vec();
        while let Some(at) = next.pop() {
            if std::mem::replace(&mut seen[at as usize], true) {
                continue;
            }
            for (atom, to) in &self.nodes[at as usize].edges {
                next.push(*to);
                if let Atom::Char(c) = atom {
                    found.insert(*c);
                }
            }
        }
    }

    /// The number of a set of nodes, which stands for it.
    pub(super) fn set(&self, mut nodes: Vec<u32>, may_skip: &dyn Fn(Slot) -> bool) -> u32 {
        nodes.sort_unstable();
        nodes.dedup();
        if let Some(known) = self.sets.borrow().ids.get(&nodes) {
            return *known;
        }
        let mut reached: Vec<u32> = Vec::new();
        for node in &nodes {
            reached.extend(self.closure(*node, may_skip));
        }
        self.spent.set(self.spent.get() + reached.len() + 1);
        reached.sort_unstable();
        reached.dedup();
        let at = |node: &u32| &self.nodes[*node as usize];
        let universal = |node: &&u32| at(node).stay == Some("") && !at(node).ends.is_empty();
        let all = reached.iter().find(universal).copied();
        // From there everything ends well: no other place is needed.
        let kept = all.map_or_else(|| reached.clone(), |node| vec![node]);
        let edges = kept.iter().flat_map(|node| &at(node).edges);
        let values = edges.filter_map(|(atom, next)| match atom {
            Atom::Value(slot) => Some((*next, *slot)),
            _ => None,
        });
        let ends = kept.iter().flat_map(|node| &at(node).ends).copied();
        let met = Met {
            values: values.filter(|_| all.is_none()).collect(),
            ends: ends.collect(),
            nodes: kept.into(),
            all: all.is_some(),
        };
        let mut sets = self.sets.borrow_mut();
        let id = index(sets.known.len());
        sets.known.push(met);
        sets.ids.insert(nodes, id);
        id
    }

    /// How many nodes it took to come to know the sets.
    pub(super) fn spent(&self) -> usize {
        self.spent.get()
    }

    /// What is known of a set.
    pub(super) fn met(&self, set: u32) -> Met {
        self.sets.borrow().known[set as usize].clone()
    }

    /// The nodes of a set.
    pub(super) fn members(&self, set: u32) -> Rc<[u32]> {
        Rc::clone(&self.sets.borrow().known[set as usize].nodes)
    }

    /// The set after one more character that is in no value; `None` when it is empty.
    pub(super) fn step(&self, set: u32, c: char, may_skip: &dyn Fn(Slot) -> bool) -> Option<u32> {
        if let Some(known) = self.sets.borrow().steps.get(&(set, c)) {
            return *known;
        }
        let mut next = Vec::new();
        for at in self.members(set).iter() {
            self.read(*at, c, &mut next);
        }
        let after = (!next.is_empty()).then(|| self.set(next, may_skip));
        self.sets.borrow_mut().steps.insert((set, c), after);
        after
    }

    /// The nodes after one more character.
    fn read(&self, at: u32, c: char, next: &mut Vec<u32>) {
        let node = &self.nodes[at as usize];
        if node.stay.is_some_and(|except| !except.contains(c)) {
            next.push(at);
        }
        for (atom, to) in &node.edges {
            match atom {
                Atom::Char(wanted) if *wanted == c => next.push(*to),
                Atom::Except(except) if !except.contains(c) => next.push(*to),
                _ => {}
            }
        }
    }

    /// A node, and those that are reached from it without reading; `may_skip` names the values that
    /// can be empty.
    pub(super) fn closure(&self, node: u32, may_skip: &dyn Fn(Slot) -> bool) -> Vec<u32> {
        let mut found = vec![node];
        let mut at = 0;
        while at < found.len() {
            for (atom, next) in &self.nodes[found[at] as usize].edges {
                let free = match atom {
                    Atom::Run(_) => true,
                    Atom::Value(slot) => may_skip(*slot),
                    _ => false,
                };
                if free && !found.contains(next) {
                    found.push(*next);
                }
            }
            at += 1;
        }
        found
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A set of texts: those that one of a trie's patterns, all without values, matches. Determinized
/// as far as it is asked.
#[derive(Debug)]
pub(super) struct Lazy {
    trie: Trie,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    states: Vec<Vec<u32>>,
    ids: HashMap<Vec<u32>, u32>,
    steps: HashMap<(u32, char), u32>,
    /// How many nodes were walked through.
    spent: usize,
}

/// The most nodes that one determinization may walk through.
const MAX_NODES: usize = 40_000;

impl Lazy {
    pub(super) fn new(trie: Trie) -> Self {
        let inner = Inner {
            states: vec![vec![0]],
            ids: HashMap::from([(vec![0], Self::START)]),
            steps: HashMap::new(),
            spent: 0,
        };
        Self {
            trie,
            inner: RefCell::new(inner),
        }
    }

    /// The state before the first character.
    pub(super) const START: u32 = 0;

    /// Every character that a pattern names after a state.
    pub(super) fn characters(&self, state: u32, found: &mut BTreeSet<char>) {
        let nodes = self.inner.borrow().states[state as usize].clone();
        let reached = nodes
            .iter()
            .flat_map(|node| self.trie.closure(*node, &|_| false));
        self.trie.characters(&reached.collect::<Vec<_>>(), found);
    }

    /// The state after one more character.
    ///
    /// # Errors
    /// [`Limit`] when there are too many states, or they are too large.
    pub(super) fn step(&self, state: u32, c: char) -> Result<u32, Limit> {
        let mut inner = self.inner.borrow_mut();
        if let Some(known) = inner.steps.get(&(state, c)) {
            return Ok(*known);
        }
        inner.spent += inner.states[state as usize].len() + 1;
        if inner.spent > MAX_NODES {
            return Err(Limit);
        }
        let next = self.after(&inner.states[state as usize], c);
        let id = if let Some(known) = inner.ids.get(&next) {
            *known
        } else {
            let id = index(inner.states.len());
            inner.states.push(next.clone());
            inner.ids.insert(next, id);
            id
        };
        inner.steps.insert((state, c), id);
        Ok(id)
    }

    fn after(&self, nodes: &[u32], c: char) -> Vec<u32> {
        let mut next = Vec::new();
        for node in nodes {
            for at in self.trie.closure(*node, &|_| false) {
                self.trie.read(at, c, &mut next);
            }
        }
        next.sort_unstable();
        next.dedup();
        next
    }

    /// Whether the text read so far is in the set.
    pub(super) fn hit(&self, state: u32) -> bool {
        let inner = self.inner.borrow();
        let mut nodes = inner.states[state as usize].iter();
        nodes.any(|node| self.ends(*node))
    }

    /// Whether no longer text can be in the set.
    pub(super) fn dead(&self, state: u32) -> bool {
        self.inner.borrow().states[state as usize].is_empty()
    }

    fn ends(&self, node: u32) -> bool {
        let mut all = self.trie.closure(node, &|_| false).into_iter();
        all.any(|at| !self.trie.nodes[at as usize].ends.is_empty())
    }

    /// Whether a whole text is in the set.
    ///
    /// # Errors
    /// [`Limit`].
    pub(super) fn contains(&self, text: &str) -> Result<bool, Limit> {
        let end = text
            .chars()
            .try_fold(Self::START, |state, c| self.step(state, c));
        Ok(self.hit(end?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Vec<Atom> {
        let atom = |c| match c {
            '*' => ANY,
            '?' => ONE,
            c => Atom::Char(c),
        };
        text.chars().map(atom).collect()
    }

    #[test]
    fn a_set_of_globs_contains_what_they_match() {
        let mut trie = Trie::new();
        for (n, text) in ["a/*", "b?c", "*z"].into_iter().enumerate() {
            trie.add(&glob(text), u32::try_from(n).unwrap());
        }
        let set = Lazy::new(trie);
        for (text, expected) in [
            ("a/", true),
            ("a/b/c", true),
            ("a", false),
            ("bxc", true),
            ("bc", false),
            ("z", true),
            ("a/z", true),
            ("zy", false),
            ("", false),
        ] {
            assert_eq!(set.contains(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_bomb_meets_the_limit() {
        let set = Lazy::new(Trie::of(&glob("*a????????????????????")));
        let mut word = String::new();
        let mut seed = 7_u32;
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            word.push(if seed >> 31 == 0 { 'a' } else { 'b' });
        }
        assert_eq!(set.contains(&word), Err(Limit));
    }
}
