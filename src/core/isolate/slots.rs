//! The values that are not known but have names: each variable of a policy, once for each device.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::atom::Slot;
use super::names::{Apart, Names, Reader, START};

/// The two devices of a pair.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Side {
    /// The one that reaches.
    First,
    /// The one that is reached.
    Second,
}

impl Side {
    /// Both, in order.
    pub(super) const BOTH: [Self; 2] = [Self::First, Self::Second];
}

/// The name under which a thing's name is kept.
pub(super) const THING_NAME: &str = "iot:connection.thing.thingname";
/// Where thing variables begin.
pub(super) const THING: &str = "iot:connection.thing.";
/// The client id's variable.
pub(super) const CLIENT_ID: &str = "iot:clientid";
/// Whether the certificate is attached.
pub(super) const IS_ATTACHED: &str = "iot:connection.thing.isattached";

/// What is known of an unknown value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A thing's name: one of the fleet's, no other device has it.
    Name,
    /// Declared to differ from device to device.
    Unique,
    /// Anything: the same on all devices, or not.
    Free,
}

#[derive(Clone, Debug)]
struct Known {
    side: Side,
    key: String,
    kind: Kind,
}

/// The table of unknown values; grows as policies are read.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    names: Reader<'a>,
    characters: BTreeSet<char>,
    /// Variables that hold the thing's name, folded.
    same: Vec<String>,
    /// Variables that differ from device to device, folded.
    unique: Vec<String>,
    /// What is known of two names.
    apart: Apart,
    known: RefCell<Vec<Known>>,
}

/// Values that have been decided on: the text, or `None` for a variable without a value.
pub(super) type Assignment = BTreeMap<Slot, Option<String>>;

impl<'a> Slots<'a> {
    pub(super) fn new(names: &'a Names, same: &[String], unique: &[String]) -> Self {
        let fold_all = |keys: &[String]| keys.iter().map(|key| fold(key)).collect();
        let names = Reader::new(names);
        let slots = Self {
            characters: names.characters(),
            names,
            same: fold_all(same),
            unique: fold_all(unique),
            apart: Apart::default(),
            known: RefCell::default(),
        };
        for side in Side::BOTH {
            slots.of(side, THING_NAME);
        }
        slots
    }

    /// With what is known of two names.
    pub(super) fn apart(mut self, apart: Apart) -> Self {
        self.apart = apart;
        self
    }

    /// Whether two values may end together or one before the other, given whether they are surely
    /// not the same text and whether they began together.
    pub(super) fn may_end(&self, [a, b]: [Slot; 2], together: bool, ends: [bool; 2]) -> bool {
        let both = ends == [true, true];
        match (together, a == b) {
            (true, true) => ends[0] == ends[1],
            // One value has one length.
            (false, true) => !both,
            (_, false) if !self.distinct(a, b) => true,
            (true, false) => {
                let name = self.kind(a) == Kind::Name;
                !(both || name && self.apart.prefix && ends[0] != ends[1])
            }
            (false, false) => !(both && self.kind(a) == Kind::Name && self.apart.suffix),
        }
    }

    /// The slot of a variable, by its folded name.
    pub(super) fn of(&self, side: Side, key: &str) -> Slot {
        let key = if self.same.iter().any(|same| same == key) {
            THING_NAME
        } else {
            key
        };
        let mut known = self.known.borrow_mut();
        let found = known.iter().position(|k| k.side == side && k.key == key);
        let at = found.unwrap_or_else(|| {
            let kind = match key {
                THING_NAME => Kind::Name,
                key if self.unique.iter().any(|unique| unique == key) => Kind::Unique,
                _ => Kind::Free,
            };
            known.push(Known {
                side,
                key: key.to_owned(),
                kind,
            });
            known.len() - 1
        });
        Slot::try_from(at).unwrap_or(Slot::MAX)
    }

    /// All slots so far.
    pub(super) fn all(&self) -> Vec<Slot> {
        let count = self.known.borrow().len();
        (0..count).filter_map(|n| Slot::try_from(n).ok()).collect()
    }

    fn at<T>(&self, slot: Slot, read: impl Fn(&Known) -> T) -> T {
        read(&self.known.borrow()[slot as usize])
    }

    pub(super) fn kind(&self, slot: Slot) -> Kind {
        self.at(slot, |known| known.kind)
    }

    pub(super) fn side(&self, slot: Slot) -> Side {
        self.at(slot, |known| known.side)
    }

    /// The folded name of the variable.
    pub(super) fn key(&self, slot: Slot) -> String {
        self.at(slot, |known| known.key.clone())
    }

    /// Whether two values are surely not the same text.
    pub(super) fn distinct(&self, a: Slot, b: Slot) -> bool {
        let known = self.known.borrow();
        let (a, b) = (&known[a as usize], &known[b as usize]);
        a.side != b.side && a.key == b.key && a.kind != Kind::Free
    }

    pub(super) fn names(&self) -> &Reader<'a> {
        &self.names
    }

    /// The characters by which names are told apart.
    pub(super) fn characters(&self) -> &BTreeSet<char> {
        &self.characters
    }

    /// The state after one more character of a value, from [`START`]; `None` when it cannot go on so.
    pub(super) fn step(&self, slot: Slot, state: u32, c: char) -> Option<u32> {
        match self.kind(slot) {
            Kind::Name => self.names.step(state, c),
            Kind::Unique | Kind::Free => in_values(c).then_some(1),
        }
    }

    /// Whether what was read is a whole value.
    pub(super) fn accepts(&self, slot: Slot, state: u32) -> bool {
        match self.kind(slot) {
            Kind::Name => self.names.accepts(state),
            Kind::Unique | Kind::Free => state != START,
        }
    }

    /// Whether only one value goes on so.
    pub(super) fn single(&self, slot: Slot, state: u32) -> bool {
        self.kind(slot) == Kind::Name && self.names.single(state)
    }

    /// Whether a value can be empty.
    pub(super) fn may_be_empty(&self, slot: Slot) -> bool {
        self.kind(slot) == Kind::Free
    }

    /// Whether a value can be this text.
    pub(super) fn contains(&self, slot: Slot, text: &str) -> bool {
        match self.kind(slot) {
            Kind::Name => self.names.contains(text),
            Kind::Unique => !text.is_empty() && text.chars().all(in_values),
            Kind::Free => text.chars().all(in_values),
        }
    }
}

/// What a value that takes a variable's place may hold. AWS IoT itself holds back the first five;
/// that no value holds a `/` is an assumption, which the report says.
fn in_values(c: char) -> bool {
    !matches!(c, '*' | '$' | '+' | '?' | '#' | '/' | '\0')
}

/// A variable's name as it is compared: in lower case, but for what stands in brackets.
pub(super) fn fold(key: &str) -> String {
    match key.split_once('[') {
        Some((before, after)) => format!("{}[{after}", before.to_ascii_lowercase()),
        None => key.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_one_slot_for_each_device() {
        let key = |text: &str| vec![text.to_owned()];
        let cn = "iot:Certificate.Subject.CommonName";
        let slots = Slots::new(&Names::All, &key(cn), &key("iot:Certificate.SerialNumber"));
        let (a, b) = (
            slots.of(Side::First, THING_NAME),
            slots.of(Side::Second, THING_NAME),
        );
        assert!(slots.distinct(a, b) && !slots.distinct(a, a));
        assert_eq!(slots.of(Side::First, &fold(cn)), a);
        let serial = |side| slots.of(side, "iot:certificate.serialnumber");
        assert!(slots.distinct(serial(Side::First), serial(Side::Second)));
        let site = |side| slots.of(side, &fold("iot:Connection.Thing.Attributes[Site]"));
        assert!(!slots.distinct(site(Side::First), site(Side::Second)));
        assert_eq!(
            slots.key(site(Side::First)),
            "iot:connection.thing.attributes[Site]"
        );
        assert!(slots.contains(site(Side::First), "") && !slots.contains(a, ""));
    }
}
