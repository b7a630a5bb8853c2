//! The search: is there a word that several patterns match at once, for two devices whose names
//! differ?
//!
//! A breadth-first walk through the product of the patterns' automata. Where a pattern has an
//! unknown value, the walk guesses where in the word the value begins and ends. Two guesses that
//! begin together must end together when they are one value, and must not when they are values
//! that differ: so `t/${name}` of one device never meets `t/${name}` of another, and `t/${name}*`
//! meets it where one name is the beginning of the other. Values that begin at different places
//! are taken to be free of each other, which can only find too much.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Limit;
use super::atom::Slot;
use super::slots::Slots;
use super::track::{Joint, NEW, Spot, Track};

/// A question about words.
pub(super) struct Question<'a> {
    pub(super) tracks: Vec<Track>,
    pub(super) slots: &'a Slots<'a>,
    /// The characters of words; the first stands for all that no pattern names.
    pub(super) letters: Rc<[char]>,
    /// How many steps may still be taken, over all walks.
    pub(super) left: &'a Cell<usize>,
}

/// A word, and how the patterns match it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) word: String,
    /// Each value with where in the word, in characters, it was read.
    pub(super) spans: Vec<(Slot, usize, usize)>,
    /// The patterns that end the word: for each trie, by its labels.
    pub(super) ends: Vec<Rc<[u32]>>,
    /// The letters of the question.
    pub(super) letters: Rc<[char]>,
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
    /// How many steps the patterns have taken.
    spent: Cell<usize>,
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
    let mut walk = Walk {
        question,
        states: Vec::new(),
        ids: HashMap::new(),
        trails: Vec::new(),
        bits,
        spent: Cell::new(0),
    };
    walk.spent.set(walk.spent());
    walk.begin()?;
    walk.pay(walk.states.len())?;
    let mut at = 0;
    while at < walk.states.len() {
        if !walk.arrive(at, on_found)? {
            return Ok(());
        }
        for letter in question.letters.iter() {
            walk.go(at, *letter)?;
            walk.pay(1)?;
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

    fn spent(&self) -> usize {
        let tries = self.question.tracks.iter().flat_map(|track| &track.tries);
        tries.map(|trie| trie.spent()).sum()
    }

    /// Takes steps off the budget: so many, and those that the patterns took.
    fn pay(&self, steps: usize) -> Result<(), Limit> {
        let spent = self.spent();
        let steps = steps + spent - self.spent.replace(spent);
        let left = self.question.left.get().checked_sub(steps);
        self.question.left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Limit)
    }

    fn add(&mut self, state: Vec<Joint>, trail: Option<Trail>) -> Result<(), Limit> {
        let state = Rc::new(state);
        if self.ids.contains_key(&state) {
            return Ok(());
        }
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

    /// Whether values may end so.
    fn may_close(&self, open: &[Open], closed: u32) -> bool {
        let ends = |one: &Open| closed >> one.bit & 1 == 1;
        let mut all = open.iter().enumerate();
        all.all(|(n, a)| {
            open[n + 1..].iter().all(|b| {
                let slots = [a.slot, b.slot];
                self.question
                    .slots
                    .may_end(slots, together(a, b), [ends(a), ends(b)])
            })
        })
    }

    /// One letter on from a state.
    fn go(&mut self, at: usize, letter: char) -> Result<(), Limit> {
        let Question { tracks, slots, .. } = self.question;
        let from = Rc::clone(&self.states[at]);
        let mut ways: Vec<(Vec<Joint>, u32, u32)> = vec![(Vec::new(), 0, 0)];
        for ((track, joint), bit) in tracks.iter().zip(&*from).zip(&self.bits) {
            let turns = track.turns(joint, letter, slots)?;
            self.pay(ways.len() * turns.len())?;
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
        let mut ways: Vec<(u32, Vec<Rc<[u32]>>)> = vec![(0, Vec::new())];
        for ((track, joint), bit) in self.question.tracks.iter().zip(&**state).zip(&self.bits) {
            let endings = track.endings(joint, self.question.slots)?;
            let mut next = Vec::new();
            for (closed, labels) in &ways {
                for (more, ends) in &endings {
                    let labels = labels.iter().chain(ends).cloned().collect();
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
    fn found(&self, at: usize, last: u32, ends: Vec<Rc<[u32]>>) -> Found {
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
        others.filter(|b| together(a, b)).map(move |b| (a, b))
    })
}

/// Whether two values began together. None begins before the word does, as no value holds the `/`
/// that ends what is read before.
fn together(a: &Open, b: &Open) -> bool {
    a.spot.group > 0 && a.spot.group == b.spot.group
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
