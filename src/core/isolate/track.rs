//! What reads a word: several patterns at once, or a topic filter that matches the word.
//!
//! What a subscription reaches is read as the topic is read: the filter's characters are guessed
//! beside the topic's, `+` for a level and `#` for the rest.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Limit;
use super::atom::{Lazy, Trie};
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

/// Where one trie is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Spot {
    /// The node behind the value that is being read; else the number of a set of nodes.
    pub(super) node: u32,
    /// 0, or one more than the state of the value that is being read.
    pub(super) span: u32,
    /// 0, or the number of the values that began together.
    pub(super) group: u8,
}

/// How far a filter's reader is in the current level.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Mode {
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
pub(super) struct Joint {
    pub(super) spots: Vec<Spot>,
    pub(super) guards: Vec<u32>,
    pub(super) mode: Mode,
}

/// A track's step, with the values that it closed and opened: a bit for each trie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Turn {
    pub(super) to: Joint,
    pub(super) closed: u16,
    pub(super) opened: u16,
}

/// How a word can end: the values that end with it, a bit for each trie; and the labels of each
/// trie's patterns.
pub(super) type Ending = (u16, Vec<Rc<[u32]>>);

/// A group number for values that begin just now.
pub(super) const NEW: u8 = u8::MAX;

impl Track {
    /// Every way to read a character of the word.
    pub(super) fn turns(&self, at: &Joint, c: char, slots: &Slots<'_>) -> Result<Vec<Turn>, Limit> {
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
        for turn in &mut turns {
            turn.to.guards.clone_from(&guards);
        }
        Ok(turns)
    }

    /// Whether all tries match here and no guard does: which values end here, and the labels.
    fn finish(&self, at: &Joint, slots: &Slots<'_>) -> Option<Ending> {
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
            let ends = trie.met(set).ends;
            if ends.is_empty() {
                return None;
            }
            labels.push(ends);
        }
        let mut guards = self.guards.iter().zip(&at.guards);
        (!guards.any(|(set, at)| set.hit(*at))).then_some((closed, labels))
    }

    /// Every way to end the word here.
    pub(super) fn endings(&self, at: &Joint, slots: &Slots<'_>) -> Result<Vec<Ending>, Limit> {
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
    pub(super) fn starts(&self, letters: &[char], slots: &Slots<'_>) -> Result<Vec<Joint>, Limit> {
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

impl Step {
    fn new(to: Spot, closed: bool, opened: bool) -> Self {
        Self { to, closed, opened }
    }
}

fn steps(trie: &Trie, spot: Spot, c: char, slots: &Slots<'_>) -> Vec<Step> {
    let may_skip = |slot| slots.may_be_empty(slot);
    let mut found = Vec::new();
    let (mut set, mut closed) = (spot.node, false);
    if spot.span > 0 {
        let Some(value) = trie.nodes[spot.node as usize].slot else {
            return found;
        };
        if let Some(state) = slots.step(value, spot.span - 1, c) {
            let to = Spot {
                span: state + 1,
                ..spot
            };
            found.push(Step::new(to, false, false));
        }
        if !slots.accepts(value, spot.span - 1) {
            return found;
        }
        (set, closed) = (trie.set(vec![spot.node], &may_skip), true);
    }
    let next = trie.step(set, c, &may_skip);
    if let Some(node) = next {
        found.push(Step::new(plain(node), closed, false));
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
            found.push(Step::new(to, closed, true));
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
