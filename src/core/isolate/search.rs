//! The search: is there a word that several patterns match at once, for two devices whose names
//! differ?
//!
//! A breadth-first walk through the product of the patterns' automata. Where a pattern has an
//! unknown value, the walk guesses where in the word the value begins and ends. Two guesses that
//! begin together must end together when they are one value, and must not when they are values
//! that differ: so `t/${name}` of one device never meets `t/${name}` of another, and `t/${name}*`
//! meets it where one name is the beginning of the other. Values that begin at different places
//! are taken to be free of each other, which can only find too much.
//!
//! What a subscription reaches is walked as it is read: the filter's characters are guessed beside
//! the topic's, `+` for a level and `#` for the rest.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::Limit;
use super::atom::{Atom, Lazy, Slot, Trie};
use super::names::START;
use super::slots::Slots;

/// What is read together: tries that must all match, sets that must not.
#[derive(Clone, Default)]
pub(super) struct Track {
    pub(super) tries: Vec<Rc<Trie>>,
    pub(super) guards: Vec<Rc<Lazy>>,
    /// What is read before the word begins.
    pub(super) prefix: String,
    /// Whether it reads a topic filter that matches the word, and not the word itself.
    pub(super) filter: bool,
}

/// A question about words.
pub(super) struct Question<'a> {
    pub(super) tracks: Vec<Track>,
    pub(super) slots: &'a Slots<'a>,
    /// The characters of words; the first stands for all that no pattern names.
    pub(super) letters: Rc<[char]>,
    /// How many states may still be walked through, over all walks.
    pub(super) left: &'a Cell<usize>,
}

/// A word, and how the patterns match it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) word: String,
    /// Each value with where in the word, in characters, it was read.
    pub(super) spans: Vec<(Slot, usize, usize)>,
    /// The patterns that end the word, by the labels of the tries.
    pub(super) ends: Vec<u32>,
    /// The letters of the question.
    pub(super) letters: Rc<[char]>,
}

/// Where one trie is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Spot {
    /// The node behind the value that is being read; else the number of a set of nodes.
    node: u32,
    /// 0, or one more than the state of the value that is being read.
    span: u32,
    /// 0, or the number of the values that began together.
    group: u8,
}

/// How far a filter's reader is in the current level.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Mode {
    /// Before the topic's first character.
    First,
    /// At the beginning of a level.
    Begin,
    /// Within a level that it reads literally.
    Within,
    /// Within a level that its `+` stands for.
    Plus,
    /// Past its `#`.
    Hash,
    /// No filter: it reads the word.
    Word,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Joint {
    spots: Vec<Spot>,
    guards: Vec<u32>,
    mode: Mode,
}

/// A track's step, with the values that it closed and opened: a bit for each trie.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Turn {
    to: Joint,
    closed: u16,
    opened: u16,
}

/// A group number for values that begin just now.
const NEW: u8 = u8::MAX;

impl Track {
    /// Every way to read a character of the word.
    fn turns(&self, at: &Joint, c: char, slots: &Slots<'_>) -> Result<Vec<Turn>, Limit> {
        let mut found: Vec<Turn> = Vec::new();
        for Reading { text, mode, last } in readings(at.mode, c) {
            for mut turn in self.read(at, &text, slots)? {
                if last && self.finish(&turn.to, slots).is_none() {
                    continue;
                }
                turn.to.mode = mode;
                if last {
                    // Past its `#` the filter takes everything, whatever was read before.
                    turn.to.spots = vec![plain(0); self.tries.len()];
                    turn.to.guards = vec![0; self.guards.len()];
                }
                if last && turn.closed == 0 {
                    return Ok(vec![turn]);
                }
                found.push(turn);
            }
        }
        Ok(found)
    }

    /// Every way to read some text, one character after another.
    fn read(&self, at: &Joint, text: &[char], slots: &Slots<'_>) -> Result<Vec<Turn>, Limit> {
        let mut turns = vec![Turn {
            to: at.clone(),
            closed: 0,
            opened: 0,
        }];
        for (n, c) in text.iter().enumerate() {
            let mut next = Vec::new();
            for turn in turns {
                let closed = if n == 0 { None } else { Some(turn.closed) };
                for mut after in self.one(&turn.to, *c, slots)? {
                    after.closed = closed.unwrap_or(after.closed);
                    if !next.contains(&after) {
                        next.push(after);
                    }
                }
            }
            turns = next;
        }
        Ok(turns)
    }

    fn one(&self, at: &Joint, c: char, slots: &Slots<'_>) -> Result<Vec<Turn>, Limit> {
        let mut turns = vec![Turn {
            to: Joint {
                spots: Vec::new(),
                guards: Vec::new(),
                mode: at.mode,
            },
            closed: 0,
            opened: 0,
        }];
        for (n, (trie, spot)) in self.tries.iter().zip(&at.spots).enumerate() {
            let steps = steps(trie, *spot, c, slots);
            let mut next = Vec::with_capacity(turns.len() * steps.len());
            for turn in &turns {
                for step in &steps {
                    let mut turn = turn.clone();
                    turn.to.spots.push(step.to);
                    turn.closed |= u16::from(step.closed) << n;
                    turn.opened |= u16::from(step.opened) << n;
                    next.push(turn);
                }
            }
            turns = next;
        }
        if turns.is_empty() {
            return Ok(turns);
        }
        let guards = self.guards.iter().zip(&at.guards);
        let guards: Result<Vec<u32>, Limit> = guards.map(|(set, at)| set.step(*at, c)).collect();
        let guards = guards?;
        turns
            .iter_mut()
            .for_each(|turn| turn.to.guards.clone_from(&guards));
        Ok(turns)
    }

    /// Whether all tries match here and no guard does: which values end here, and the labels.
    fn finish(&self, at: &Joint, slots: &Slots<'_>) -> Option<(u16, Vec<u32>)> {
        let (mut closed, mut labels) = (0, Vec::new());
        for (n, (trie, spot)) in self.tries.iter().zip(&at.spots).enumerate() {
            let set = if spot.span > 0 {
                let slot = trie.nodes[spot.node as usize].slot?;
                if !slots.accepts(slot, spot.span - 1) {
                    return None;
                }
                closed |= 1 << n;
                trie.set(vec![spot.node], &|slot| slots.may_be_empty(slot))
            } else {
                spot.node
            };
            labels.push(trie.met(set).end?);
        }
        let mut guards = self.guards.iter().zip(&at.guards);
        (!guards.any(|(set, at)| set.hit(*at))).then_some((closed, labels))
    }

    /// Every way to end the word here.
    fn endings(&self, at: &Joint, slots: &Slots<'_>) -> Result<Vec<(u16, Vec<u32>)>, Limit> {
        if at.mode == Mode::Hash {
            return Ok(vec![(0, Vec::new())]);
        }
        let texts: &[&[char]] = match at.mode {
            Mode::Word | Mode::Hash => &[&[]],
            Mode::Begin => &[&[], &['+'], &['#']],
            // `a/#` counts as matching `a`: the standard says so, AWS IoT's guide does not.
            Mode::Within | Mode::Plus => &[&[], &['/', '#']],
            Mode::First => &[],
        };
        let mut found = Vec::new();
        for text in texts {
            for turn in self.read(at, text, slots)? {
                if let Some((closed, labels)) = self.finish(&turn.to, slots) {
                    let closed = if text.is_empty() { closed } else { turn.closed };
                    found.push((closed, labels));
                }
            }
        }
        Ok(found)
    }

    /// Every character that tells words apart once the prefix is read.
    ///
    /// # Errors
    /// [`Limit`].
    pub(super) fn characters(
        &self,
        slots: &Slots<'_>,
        found: &mut BTreeSet<char>,
    ) -> Result<(), Limit> {
        let plain = Self {
            filter: false,
            ..self.clone()
        };
        let mut starts = plain.starts(&[], slots)?;
        if self.filter {
            let shared = Self {
                prefix: format!("{}$share/", self.prefix),
                ..plain
            };
            starts.extend(shared.starts(&[], slots)?);
        }
        for joint in starts {
            for (trie, spot) in self.tries.iter().zip(&joint.spots) {
                let nodes = if spot.span > 0 {
                    vec![spot.node]
                } else {
                    trie.members(spot.node).to_vec()
                };
                trie.characters(&nodes, found);
            }
            for (set, state) in self.guards.iter().zip(&joint.guards) {
                set.characters(*state, found);
            }
        }
        Ok(())
    }

    /// Where it is when the word begins.
    fn starts(&self, letters: &[char], slots: &Slots<'_>) -> Result<Vec<Joint>, Limit> {
        let mode = if self.filter { Mode::First } else { Mode::Word };
        let first = |trie: &Rc<Trie>| plain(trie.set(vec![0], &|slot| slots.may_be_empty(slot)));
        let begin = Joint {
            spots: self.tries.iter().map(first).collect(),
            guards: vec![Lazy::START; self.guards.len()],
            mode,
        };
        let read = |from: &[Joint], c: char| -> Result<Vec<Joint>, Limit> {
            let mut next: Vec<Joint> = Vec::new();
            for at in from {
                for turn in self.one(at, c, slots)? {
                    if !next.contains(&turn.to) {
                        next.push(turn.to);
                    }
                }
            }
            Ok(next)
        };
        let read_all =
            |from: Vec<Joint>, text: &str| text.chars().try_fold(from, |from, c| read(&from, c));
        let mut starts = read_all(vec![begin], &self.prefix)?;
        if self.filter {
            // `$share/GROUP/FILTER` subscribes to FILTER.
            let mut groups = read_all(starts.clone(), "$share/")?;
            let mut at = 0;
            let mut named: Vec<Joint> = Vec::new();
            while at < groups.len() {
                for c in letters.iter().filter(|c| !matches!(c, '/' | '+' | '#')) {
                    for joint in read(&groups[at..=at], *c)? {
                        if !named.contains(&joint) {
                            named.push(joint.clone());
                            groups.push(joint);
                        }
                    }
                }
                at += 1;
            }
            starts.extend(read(&named, '/')?);
        }
        for joint in &mut starts {
            joint.spots.iter_mut().for_each(|spot| spot.group = 0);
        }
        Ok(starts)
    }
}

/// A text of the filter that can stand for a character of the topic.
struct Reading {
    text: Vec<char>,
    /// The mode afterwards.
    mode: Mode,
    /// Whether the filter must end there.
    last: bool,
}

fn readings(mode: Mode, c: char) -> Vec<Reading> {
    let reading = |text: &[char], mode| Reading {
        text: text.to_vec(),
        mode,
        last: mode == Mode::Hash,
    };
    let rest = || reading(&['#'], Mode::Hash);
    match (mode, c) {
        (Mode::Word, _) => vec![reading(&[c], Mode::Word)],
        (Mode::Hash, _) => vec![Reading {
            text: Vec::new(),
            mode,
            last: false,
        }],
        (Mode::Plus | Mode::Within, '/') => vec![reading(&[c], Mode::Begin)],
        (Mode::Plus, _) => vec![reading(&[], Mode::Plus)],
        // A wildcard at the beginning does not match a topic that starts with `$`.
        (Mode::Within, _) | (Mode::First, '$') => vec![reading(&[c], Mode::Within)],
        (Mode::First | Mode::Begin, '/') => {
            let plus = reading(&['+', c], Mode::Begin);
            vec![reading(&[c], Mode::Begin), plus, rest()]
        }
        (Mode::First | Mode::Begin, _) => {
            let plus = reading(&['+'], Mode::Plus);
            vec![reading(&[c], Mode::Within), plus, rest()]
        }
    }
}

/// One trie's step.
struct Step {
    to: Spot,
    closed: bool,
    opened: bool,
}

fn steps(trie: &Trie, spot: Spot, c: char, slots: &Slots<'_>) -> Vec<Step> {
    let may_skip = |slot| slots.may_be_empty(slot);
    let mut found = Vec::new();
    let (mut set, mut closed) = (spot.node, false);
    if spot.span > 0 {
        let Some(slot) = trie.nodes[spot.node as usize].slot else {
            return found;
        };
        if let Some(state) = slots.step(slot, spot.span - 1, c) {
            let to = Spot {
                span: state + 1,
                ..spot
            };
            found.push(Step {
                to,
                closed: false,
                opened: false,
            });
        }
        if !slots.accepts(slot, spot.span - 1) {
            return found;
        }
        (set, closed) = (trie.set(vec![spot.node], &may_skip), true);
    }
    let next = trie.step(set, c, &may_skip);
    if let Some(node) = next {
        found.push(Step {
            to: plain(node),
            closed,
            opened: false,
        });
        if trie.met(node).all {
            return found;
        }
    }
    for (node, slot) in trie.met(set).values.iter() {
        if let Some(state) = slots.step(*slot, START, c) {
            let to = Spot {
                node: *node,
                span: state + 1,
                group: NEW,
            };
            found.push(Step {
                to,
                closed,
                opened: true,
            });
        }
    }
    found
}

fn plain(set: u32) -> Spot {
    Spot {
        node: set,
        span: 0,
        group: 0,
    }
}

/// How a state was come by.
#[derive(Clone, Copy, Debug)]
struct Trail {
    before: u32,
    letter: char,
    closed: u32,
    opened: u32,
}

/// A value that is being read.
struct Open {
    bit: u32,
    slot: Slot,
    spot: Spot,
}

struct Walk<'q> {
    question: &'q Question<'q>,
    states: Vec<Rc<Vec<Joint>>>,
    ids: HashMap<Rc<Vec<Joint>>, u32>,
    trails: Vec<Option<Trail>>,
    /// The first bit of each track.
    bits: Vec<u32>,
}

/// Walks until there is nothing new, or `on_found` has enough and says `false`.
///
/// # Errors
/// [`Limit`]: there is more to walk than the budget allows.
pub(super) fn walk(
    question: &Question<'_>,
    on_found: &mut dyn FnMut(Found) -> bool,
) -> Result<(), Limit> {
    let mut bits = Vec::new();
    let mut bit = 0;
    for track in &question.tracks {
        bits.push(bit);
        bit += u32::try_from(track.tries.len()).unwrap_or(u32::MAX / 4);
    }
    if bit > 32 || question.tracks.iter().any(|track| track.tries.len() > 16) {
        return Err(Limit);
    }
    let mut walk = Walk {
        question,
        states: Vec::new(),
        ids: HashMap::new(),
        trails: Vec::new(),
        bits,
    };
    walk.begin()?;
    let mut at = 0;
    while at < walk.states.len() {
        if !walk.arrive(at, on_found)? {
            return Ok(());
        }
        for letter in question.letters.iter() {
            walk.go(at, *letter)?;
        }
        at += 1;
    }
    Ok(())
}

impl Walk<'_> {
    fn begin(&mut self) -> Result<(), Limit> {
        let Question {
            tracks,
            slots,
            letters,
            ..
        } = self.question;
        let mut starts = vec![Vec::new()];
        for track in tracks {
            let own = track.starts(letters, slots)?;
            starts = product(&starts, &own);
        }
        for start in starts {
            self.add(start, None)?;
        }
        Ok(())
    }

    fn add(&mut self, state: Vec<Joint>, trail: Option<Trail>) -> Result<(), Limit> {
        let state = Rc::new(state);
        if self.ids.contains_key(&state) {
            return Ok(());
        }
        let left = self.question.left.get().checked_sub(1).ok_or(Limit)?;
        self.question.left.set(left);
        let id = u32::try_from(self.states.len()).map_err(|_| Limit)?;
        // A word has at least one letter, so a start is not the same as a state like it later on.
        if trail.is_some() {
            self.ids.insert(Rc::clone(&state), id);
        }
        self.states.push(state);
        self.trails.push(trail);
        Ok(())
    }

    /// The values that are being read in a state.
    fn open(&self, state: &[Joint]) -> Vec<Open> {
        let mut found = Vec::new();
        for ((joint, track), first) in state.iter().zip(&self.question.tracks).zip(&self.bits) {
            let spots = joint.spots.iter().zip(&track.tries).zip(*first..);
            for ((spot, trie), bit) in spots.filter(|((spot, _), _)| spot.span > 0) {
                if let Some(slot) = trie.nodes[spot.node as usize].slot {
                    found.push(Open {
                        bit,
                        slot,
                        spot: *spot,
                    });
                }
            }
        }
        found
    }

    /// Whether values that began together may end so.
    fn may_close(&self, open: &[Open], closed: u32) -> bool {
        pairs(open).all(|(a, b)| {
            let ends = |one: &Open| closed >> one.bit & 1 == 1;
            if a.slot == b.slot {
                ends(a) == ends(b)
            } else {
                !(ends(a) && ends(b) && self.question.slots.distinct(a.slot, b.slot))
            }
        })
    }

    /// One letter on from a state.
    fn go(&mut self, at: usize, letter: char) -> Result<(), Limit> {
        let Question { tracks, slots, .. } = self.question;
        let from = Rc::clone(&self.states[at]);
        let mut ways: Vec<(Vec<Joint>, u32, u32)> = vec![(Vec::new(), 0, 0)];
        for ((track, joint), bit) in tracks.iter().zip(&*from).zip(&self.bits) {
            let turns = track.turns(joint, letter, slots)?;
            let mut next = Vec::with_capacity(ways.len() * turns.len());
            for (joints, closed, opened) in &ways {
                for turn in &turns {
                    let mut joints = joints.clone();
                    joints.push(turn.to.clone());
                    let closed = closed | u32::from(turn.closed) << bit;
                    next.push((joints, closed, opened | u32::from(turn.opened) << bit));
                }
            }
            ways = next;
            if ways.is_empty() {
                return Ok(());
            }
        }
        let open = self.open(&from);
        for (mut state, closed, opened) in ways {
            if !self.may_close(&open, closed) || !self.regroup(&mut state) {
                continue;
            }
            let before = u32::try_from(at).map_err(|_| Limit)?;
            let trail = Trail {
                before,
                letter,
                closed,
                opened,
            };
            self.add(state, Some(trail))?;
        }
        Ok(())
    }

    /// Numbers the groups in the order of their first values; a value alone needs none. `false`
    /// when two values that differ can only become the same.
    fn regroup(&self, state: &mut [Joint]) -> bool {
        let open = self.open(state);
        let alike = pairs(&open).any(|(a, b)| {
            let slots = self.question.slots;
            let text = a.spot.span == b.spot.span;
            text && slots.distinct(a.slot, b.slot) && slots.single(a.slot, a.spot.span - 1)
        });
        let mut order: Vec<u8> = Vec::new();
        for one in &open {
            let group = one.spot.group;
            let shared = open
                .iter()
                .filter(|other| other.spot.group == group)
                .count()
                > 1;
            if group > 0 && shared && !order.contains(&group) {
                order.push(group);
            }
        }
        for spot in state.iter_mut().flat_map(|joint| &mut joint.spots) {
            let place = order.iter().position(|group| *group == spot.group);
            spot.group = place.map_or(0, |n| u8::try_from(n + 1).unwrap_or(NEW));
        }
        !alike
    }

    /// Tells of every way in which the word can end here.
    fn arrive(&self, at: usize, on_found: &mut dyn FnMut(Found) -> bool) -> Result<bool, Limit> {
        if self.trails[at].is_none() {
            return Ok(true);
        }
        let state = &self.states[at];
        let mut ways: Vec<(u32, Vec<u32>)> = vec![(0, Vec::new())];
        for ((track, joint), bit) in self.question.tracks.iter().zip(&**state).zip(&self.bits) {
            let endings = track.endings(joint, self.question.slots)?;
            let mut next = Vec::new();
            for (closed, labels) in &ways {
                for (more, ends) in &endings {
                    let labels = labels.iter().chain(ends).copied().collect();
                    next.push((closed | u32::from(*more) << bit, labels));
                }
            }
            ways = next;
        }
        let open = self.open(state);
        for (closed, ends) in ways {
            if self.may_close(&open, closed) && !on_found(self.found(at, closed, ends)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The word that led here, and where its values were.
    fn found(&self, at: usize, last: u32, ends: Vec<u32>) -> Found {
        let mut path = Vec::new();
        let mut here = at;
        while let Some(trail) = self.trails[here] {
            path.push((here, trail));
            here = trail.before as usize;
        }
        path.reverse();
        let mut began: HashMap<u32, (Slot, usize)> = HashMap::new();
        let mut spans = Vec::new();
        for (n, (here, trail)) in path.iter().enumerate() {
            for bit in (0..32).filter(|bit| trail.closed >> bit & 1 == 1) {
                spans.extend(began.remove(&bit).map(|(slot, from)| (slot, from, n)));
            }
            for open in self.open(&self.states[*here]) {
                if trail.opened >> open.bit & 1 == 1 {
                    began.insert(open.bit, (open.slot, n));
                }
            }
        }
        for bit in (0..32).filter(|bit| last >> bit & 1 == 1) {
            spans.extend(
                began
                    .remove(&bit)
                    .map(|(slot, from)| (slot, from, path.len())),
            );
        }
        spans.sort_unstable();
        spans.dedup();
        Found {
            word: path.iter().map(|(_, trail)| trail.letter).collect(),
            spans,
            ends,
            letters: Rc::clone(&self.question.letters),
        }
    }
}

/// Every two values that began together.
fn pairs(open: &[Open]) -> impl Iterator<Item = (&Open, &Open)> {
    open.iter().enumerate().flat_map(move |(n, a)| {
        let others = open[n + 1..].iter();
        let together = move |b: &&Open| a.spot.group > 0 && a.spot.group == b.spot.group;
        others.filter(together).map(move |b| (a, b))
    })
}

fn product(all: &[Vec<Joint>], own: &[Joint]) -> Vec<Vec<Joint>> {
    let longer = |before: &Vec<Joint>, one: &Joint| {
        let mut joints = before.clone();
        joints.push(one.clone());
        joints
    };
    all.iter()
        .flat_map(|before| own.iter().map(move |one| longer(before, one)))
        .collect()
}
