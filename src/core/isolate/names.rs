//! Which names the things of a fleet have.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};

use super::atom::{ANY, Atom, Lazy, ONE, Trie};
use crate::explain::{Explain, Kind};

/// The longest thing name, in characters (API reference, `ThingName`).
const MAX_NAME: usize = 128;

/// The thing names of a fleet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Names {
    /// Every name that AWS IoT takes: `[a-zA-Z0-9:_-]{1,128}`.
    All,
    /// Those that one of these patterns of `*` and `?` matches.
    Like(Vec<String>),
    /// Those that a regular expression matches as a whole.
    Matching(Regex),
    /// Exactly these; sorted, no two alike.
    Listed(Vec<String>),
}

/// A regular expression of names, as an automaton.
#[derive(Clone, Debug)]
pub struct Regex {
    text: String,
    dfa: Arc<dense::DFA<Vec<u32>>>,
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Regex {}

/// The most bytes that an automaton of names, and its making, may take up.
const MAX_AUTOMATON: usize = 4 << 20;

impl Regex {
    fn parse(text: &str) -> Result<Self, NamesError> {
        let bad = |problem: String| NamesError::Regex(text.to_owned(), problem);
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        // By itself first: what is put around it must not mend it.
        syntax::parse_with(text, &syntax).map_err(|error| bad(last_line(&error)))?;
        let dfa = dense::Builder::new()
            .syntax(syntax)
            .thompson(thompson::Config::new().nfa_size_limit(Some(MAX_AUTOMATON)))
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Anchored)
                    .dfa_size_limit(Some(MAX_AUTOMATON))
                    .determinize_size_limit(Some(MAX_AUTOMATON)),
            )
            .build(&format!("(?:{text})\\z"))
            .map_err(|error| bad(last_line(&error)))?;
        let dfa = Arc::new(dfa);
        let text = text.to_owned();
        Ok(Self { text, dfa })
    }

    /// The state before the first character.
    fn start(&self) -> Option<StateID> {
        self.dfa.universal_start_state(Anchored::Yes).or_else(|| {
            let config = start::Config::new().anchored(Anchored::Yes);
            self.dfa.start_state(&config).ok()
        })
    }

    /// Our number of a state: 0 is the first one.
    fn number(&self, id: StateID) -> Option<u32> {
        (!self.dfa.is_dead_state(id) && !self.dfa.is_quit_state(id)).then(|| id.as_u32() + 1)
    }

    fn state(&self, number: u32) -> Option<StateID> {
        match number.checked_sub(1) {
            None => self.start(),
            Some(id) => StateID::new(usize::try_from(id).ok()?).ok(),
        }
    }

    fn step(&self, number: u32, c: char) -> Option<u32> {
        let byte = u8::try_from(c).ok()?;
        self.number(self.dfa.next_state(self.state(number)?, byte))
    }

    fn accepts(&self, number: u32) -> bool {
        self.state(number)
            .is_some_and(|id| self.dfa.is_match_state(self.dfa.next_eoi_state(id)))
    }

    /// A few characters of names from each class that it tells apart.
    fn characters(&self) -> BTreeSet<char> {
        let mut classes: HashMap<u8, usize> = HashMap::new();
        let classes_of = self.dfa.byte_classes();
        let few = |c: &char| {
            let class = u8::try_from(*c).map_or(0, |byte| classes_of.get(byte));
            let count = classes.entry(class).or_default();
            *count += 1;
            *count <= OF_A_CLASS
        };
        ('-'..='z').filter(|c| in_names(*c)).filter(few).collect()
    }
}

/// How many characters of a class are told apart.
const OF_A_CLASS: usize = 3;

/// What a message of several lines, with the expression marked, comes down to.
fn last_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl Names {
    /// The names that match a pattern.
    ///
    /// # Errors
    /// `isolate.names` when no name of a thing can match it.
    pub fn like(patterns: &[String]) -> Result<Self, NamesError> {
        for pattern in patterns {
            let fits = |c: char| in_names(c) || c == '*' || c == '?';
            if pattern.is_empty() || !pattern.chars().all(fits) {
                return Err(NamesError::Pattern(pattern.clone()));
            }
        }
        Ok(Self::Like(patterns.to_vec()))
    }

    /// The names that a regular expression matches from beginning to end.
    ///
    /// # Errors
    /// `isolate.names` when it cannot be read, is too large, or matches fewer than two names.
    pub fn matching(text: &str) -> Result<Self, NamesError> {
        let names = Self::Matching(Regex::parse(text)?);
        let reader = Reader::new(&names);
        let mut found = BTreeSet::new();
        for count in 0..2 {
            let name = reader.walk(&found).ok_or(NamesError::Few(count))?;
            found.insert(name);
        }
        drop(reader);
        Ok(names)
    }

    /// How many names are listed.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Listed(list) => list.len(),
            Self::All | Self::Like(_) | Self::Matching(_) => 0,
        }
    }

    /// Exactly these names.
    ///
    /// # Errors
    /// `isolate.names` when one is not a thing's name, or there are fewer than two.
    pub fn listed(mut names: Vec<String>) -> Result<Self, NamesError> {
        let bad =
            |name: &String| name.is_empty() || name.len() > MAX_NAME || !name.chars().all(in_names);
        if let Some(bad) = names.iter().find(|name| bad(name)) {
            return Err(NamesError::Name(bad.clone()));
        }
        names.sort_unstable();
        names.dedup();
        match names.len() {
            0 | 1 => Err(NamesError::Few(names.len())),
            _ => Ok(Self::Listed(names)),
        }
    }
}

/// What is known of all pairs of names of a fleet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Apart {
    /// None is the beginning of another.
    pub(super) prefix: bool,
    /// None is the end of another.
    pub(super) suffix: bool,
}

/// The most ends of names that are looked up in a list.
const MAX_ENDS: usize = 20_000_000;

impl Names {
    /// What is known of a list's names; of other names, nothing.
    pub(super) fn apart(&self) -> Apart {
        let Self::Listed(list) = self else {
            return Apart::default();
        };
        Apart {
            prefix: beginnings(list).next().is_none(),
            suffix: ends(list).is_some_and(|mut found| found.next().is_none()),
        }
    }

    /// Some pairs of a list that patterns are likely to confuse: one the beginning or the end of
    /// the other, and any two.
    pub(super) fn likely(&self, most: usize) -> Vec<[&str; 2]> {
        let Self::Listed(list) = self else {
            return Vec::new();
        };
        let mut found: Vec<[&str; 2]> = beginnings(list).take(most).collect();
        found.extend(ends(list).into_iter().flatten().take(most));
        found.extend(list.windows(2).take(1).map(|two| [&*two[0], &*two[1]]));
        found
    }
}

/// Every name of a sorted list that is the beginning of the next one, with that.
fn beginnings(list: &[String]) -> impl Iterator<Item = [&str; 2]> {
    let pairs = list.windows(2).map(|two| [&*two[0], &*two[1]]);
    pairs.filter(|[one, next]| next.starts_with(one))
}

/// Every name of a sorted list that is the end of another, with that; `None` when there is too
/// much to look up.
fn ends(list: &[String]) -> Option<impl Iterator<Item = [&str; 2]>> {
    let lengths: BTreeSet<usize> = list.iter().map(String::len).collect();
    if lengths.len().saturating_mul(list.len()) > MAX_ENDS {
        return None;
    }
    let find = |end: &str| list.binary_search_by(|known| (**known).cmp(end)).ok();
    Some(list.iter().flat_map(move |name| {
        let shorter: Vec<usize> = lengths.range(..name.len()).copied().collect();
        shorter.into_iter().filter_map(move |length| {
            let at = find(&name[name.len() - length..])?;
            Some([&*list[at], &**name])
        })
    }))
}

/// Whether a thing's name may hold it.
pub(super) fn in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
}

/// Names that no fleet has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NamesError {
    /// Nothing to isolate.
    #[error("there are {0} names, and it takes two devices to act as each other")]
    Few(usize),
    /// Not a thing's name.
    #[error("`{0}` is not the name of a thing: 1 to 128 of `a-z A-Z 0-9 : _ -`")]
    Name(String),
    /// A pattern that matches no thing's name.
    #[error("`{0}` is not a pattern of thing names: `a-z A-Z 0-9 : _ -`, `*` and `?`")]
    Pattern(String),
    /// No regular expression.
    #[error("`{0}` cannot be used as a regular expression: {1}")]
    Regex(String, String),
}

impl Explain for NamesError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "isolate.names"
    }
}

/// [`Names`], read a character at a time.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    how: How<'a>,
}

#[derive(Debug)]
enum How<'a> {
    All,
    Like(Lazy),
    Matching(&'a Regex),
    Listed(&'a [String], RefCell<Ranges>),
}

/// Which part of the sorted list begins with what was read: (from, to, bytes read).
#[derive(Debug, Default)]
struct Ranges {
    known: Vec<(u32, u32, u32)>,
    ids: HashMap<(u32, u32, u32), u32>,
}

impl Ranges {
    fn id(&mut self, range: (u32, u32, u32)) -> u32 {
        let next = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let id = *self.ids.entry(range).or_insert(next);
        if id == next {
            self.known.push(range);
        }
        id
    }
}

/// The state before the first character.
pub(super) const START: u32 = 0;

impl<'a> Reader<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        let how = match names {
            Names::All => How::All,
            Names::Like(patterns) => {
                let mut trie = Trie::new();
                for pattern in patterns {
                    let atoms: Vec<Atom> = pattern.chars().map(atom).collect();
                    trie.add(&atoms, 0);
                }
                How::Like(Lazy::new(trie))
            }
            Names::Matching(regex) => How::Matching(regex),
            Names::Listed(list) => {
                let mut ranges = Ranges::default();
                ranges.id((0, u32::try_from(list.len()).unwrap_or(u32::MAX), 0));
                How::Listed(list, RefCell::new(ranges))
            }
        };
        Self { how }
    }

    /// The state after one more character; `None` when no name goes on so.
    pub(super) fn step(&self, state: u32, c: char) -> Option<u32> {
        if !in_names(c) {
            return None;
        }
        match &self.how {
            How::All => Some(1),
            How::Like(set) => {
                let next = set.step(state, c).ok()?;
                (!set.dead(next)).then_some(next)
            }
            How::Matching(regex) => regex.step(state, c),
            How::Listed(list, ranges) => {
                let mut ranges = ranges.borrow_mut();
                let (from, to, read) = ranges.known[state as usize];
                let part = &list[from as usize..to as usize];
                let byte = |name: &String| name.as_bytes().get(read as usize).copied();
                let wanted = Some(u8::try_from(c).ok()?);
                let begin = part.partition_point(|name| byte(name) < wanted);
                let end = part.partition_point(|name| byte(name) <= wanted);
                let shift = |n: usize| from + u32::try_from(n).unwrap_or(u32::MAX);
                (begin < end).then(|| ranges.id((shift(begin), shift(end), read + 1)))
            }
        }
    }

    /// Whether what was read is a name.
    pub(super) fn accepts(&self, state: u32) -> bool {
        match &self.how {
            How::All => state == 1,
            How::Like(set) => set.hit(state),
            How::Matching(regex) => regex.accepts(state),
            How::Listed(list, ranges) => {
                let (from, _, read) = ranges.borrow().known[state as usize];
                list[from as usize].len() == read as usize
            }
        }
    }

    /// Whether only one name goes on so.
    pub(super) fn single(&self, state: u32) -> bool {
        match &self.how {
            How::All | How::Like(_) | How::Matching(_) => false,
            How::Listed(_, ranges) => {
                let (from, to, _) = ranges.borrow().known[state as usize];
                to - from == 1
            }
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        if let How::Listed(list, _) = &self.how {
            return list
                .binary_search_by(|known| known.as_str().cmp(name))
                .is_ok();
        }
        let end = name.chars().try_fold(START, |state, c| self.step(state, c));
        name.len() <= MAX_NAME && end.is_some_and(|state| self.accepts(state))
    }

    /// The characters of the names, as far as they are told apart.
    pub(super) fn characters(&self) -> BTreeSet<char> {
        match &self.how {
            How::All => BTreeSet::new(),
            How::Like(set) => {
                let mut found = BTreeSet::new();
                set.characters(START, &mut found);
                found
            }
            How::Matching(regex) => regex.characters(),
            How::Listed(list, _) => list.iter().flat_map(|name| name.chars()).collect(),
        }
    }

    /// A name that is none of `avoid`, if there is one that is easily found.
    pub(super) fn fresh(&self, avoid: &BTreeSet<String>) -> Option<String> {
        if let How::Listed(list, _) = &self.how {
            return list.iter().find(|name| !avoid.contains(*name)).cloned();
        }
        let usual = (1..=avoid.len() + 2).map(|n| format!("device-{n}"));
        let mut usual = usual.filter(|name| !avoid.contains(name) && self.contains(name));
        usual.next().or_else(|| self.walk(avoid))
    }

    /// The shortest name of a pattern that is none of `avoid`.
    fn walk(&self, avoid: &BTreeSet<String>) -> Option<String> {
        let mut letters: Vec<char> = self
            .characters()
            .into_iter()
            .filter(|c| in_names(*c))
            .collect();
        letters.extend(['1', '2', 'a', 'b', 'x']);
        let mut level = vec![(START, String::new())];
        for _ in 0..MAX_NAME {
            let mut next: Vec<(u32, String)> = Vec::new();
            for (state, text) in &level {
                for c in &letters {
                    let Some(to) = self.step(*state, *c) else {
                        continue;
                    };
                    let longer = format!("{text}{c}");
                    if self.accepts(to) && !avoid.contains(&longer) {
                        return Some(longer);
                    }
                    // A few ways to each state are enough to come by what is to be avoided.
                    if next.iter().filter(|(known, _)| *known == to).count() <= avoid.len().min(8) {
                        next.push((to, longer));
                    }
                }
            }
            level = next;
        }
        None
    }
}

fn atom(c: char) -> Atom {
    match c {
        '*' => ANY,
        '?' => ONE,
        c => Atom::Char(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn names_are_what_they_are_said_to_be() {
        let like = Names::like(&strings(&["pump-*", "v?"])).unwrap();
        let listed = Names::listed(strings(&["b", "a", "ab", "b"])).unwrap();
        assert_eq!(listed, Names::Listed(strings(&["a", "ab", "b"])));
        for (names, name, expected) in [
            (&Names::All, "a:_-9", true),
            (&Names::All, "a/b", false),
            (&Names::All, "", false),
            (&like, "pump-1", true),
            (&like, "pump-", true),
            (&like, "v1", true),
            (&like, "v12", false),
            (&listed, "ab", true),
            (&listed, "abc", false),
        ] {
            assert_eq!(Reader::new(names).contains(name), expected, "{name}");
        }
        for bad in ["", "a/b", "a+"] {
            assert!(Names::like(&strings(&[bad])).is_err(), "{bad}");
        }
        assert!(Names::listed(strings(&["a", "a b"])).is_err());
        assert_eq!(Names::listed(strings(&["a"])), Err(NamesError::Few(1)));
    }

    #[test]
    fn a_regular_expression_names_what_it_matches_as_a_whole() {
        let names = Names::matching("pump-[0-9]{2}|valve(-[a-z]+)?").unwrap();
        let reader = Reader::new(&names);
        for (name, expected) in [
            ("pump-01", true),
            ("pump-1", false),
            ("pump-011", false),
            ("valve", true),
            ("valve-x", true),
            ("valve-", false),
            ("xvalve", false),
            ("", false),
        ] {
            assert_eq!(reader.contains(name), expected, "{name}");
        }
        let two = reader.fresh(&BTreeSet::new()).unwrap();
        assert!(reader.contains(&two), "{two}");
        for (bad, part) in [
            ("a(?=b)", "look-around"),
            ("a(", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("[a-z]{1,100}{1,100}", "size limit"),
            ("pump", "1 names"),
            ("a b", "0 names"),
        ] {
            let error = Names::matching(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }

    #[test]
    fn a_list_is_read_a_character_at_a_time() {
        let listed = Names::listed(strings(&["pump-1", "pump-10", "valve"])).unwrap();
        let reader = Reader::new(&listed);
        let after = |text: &str| text.chars().try_fold(START, |s, c| reader.step(s, c));
        assert!(reader.accepts(after("pump-1").unwrap()));
        assert!(!reader.single(after("pump-1").unwrap()));
        assert!(reader.single(after("v").unwrap()));
        assert_eq!(after("pump-2"), None);
    }

    #[test]
    fn fresh_names_are_found() {
        let avoid: BTreeSet<String> = strings(&["device-1", "pump-1", "pump-"])
            .into_iter()
            .collect();
        for (names, expected) in [
            (Names::All, "device-2"),
            (Names::like(&strings(&["pump-*"])).unwrap(), "pump--"),
            (Names::listed(strings(&["pump-1", "x"])).unwrap(), "x"),
        ] {
            let found = Reader::new(&names).fresh(&avoid);
            assert_eq!(found.as_deref(), Some(expected));
        }
    }
}
