//! Patterns as lists of atoms: what they cover, what is left of them, and MQTT's filters as such.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::atom::{ANY, Atom, Lazy, ONE, Trie, literal};
use super::slots::{CLIENT_ID, fold};
use crate::core::policy::{Action, Pattern, Piece, Selection};

pub(super) fn uses_client(pattern: &Pattern) -> bool {
    pattern.variables().any(|key| fold(key) == CLIENT_ID)
}

/// Whether a pattern is the client id, and nothing else.
pub(super) fn is_client(pattern: &Pattern) -> bool {
    matches!(pattern.pieces(), [Piece::Variable(key)] if fold(key) == CLIENT_ID)
}

/// Whether a pattern matches all that another does, whatever the values in both are.
pub(super) fn covers(wide: &[Atom], narrow: &[Atom]) -> bool {
    let mut at = BTreeSet::from([0]);
    for symbol in narrow.iter().map(Some).chain([None]) {
        at = skip(wide, at);
        let Some(symbol) = symbol else { break };
        let next = at.iter().filter_map(|n| match (wide.get(*n)?, symbol) {
            (Atom::Run(""), _) => Some(*n),
            (Atom::Except(""), Atom::Char(_) | Atom::Except(_)) => Some(n + 1),
            (one, other) => (one == other).then_some(n + 1),
        });
        at = next.collect();
    }
    at.contains(&wide.len())
}

/// A character of a client id, as it stands in a pattern.
pub(super) fn widened(atom: Atom) -> Atom {
    match atom {
        Atom::Char(c) => widening(c),
        atom => atom,
    }
}

/// An atom of client ids, as widely as one of them can make it: where any character fits, so does
/// `*`.
pub(super) fn widest(atom: Atom) -> Atom {
    match atom {
        Atom::Except(_) => ANY,
        atom => widened(atom),
    }
}

/// A client id's character in a pattern: there its `*` and `?` widen the policy.
pub(super) fn widening(c: char) -> Atom {
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

pub(super) fn set(patterns: Vec<Vec<Atom>>) -> Option<Rc<Lazy>> {
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
pub(super) fn selects(actions: &Selection, action: Action) -> bool {
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
