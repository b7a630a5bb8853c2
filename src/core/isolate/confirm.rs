//! Two concrete devices, tried on the policy engine itself.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::atom::{Atom, Slot};
use super::scene::{Client, Scene, Station};
use super::shape::{after, text};
use super::slots::{
    Assignment, CLIENT_ID, IS_ATTACHED, Kind, Side, Slots, THING, THING_NAME, fold,
};
use super::{Counterexample, Device, Fleet, Packet, Reach, StatementRef};
use crate::core::policy::{Action, Facts, NamedPolicy, Request, decide};

/// The most combinations of condition keys' values that are tried.
const MAX_SETTINGS: usize = 48;
/// The deepest topic, in levels, whose filters are tried in every combination; in a deeper one, at
/// most two levels are `+`.
const ALL_WAYS: usize = 5;
/// The most groups of shared subscriptions that are tried.
const MAX_GROUPS: usize = 16;
/// Levels below these are not `+`.
const MAX_LEVELS: usize = 8;

/// Decides with concrete values.
pub(super) struct Confirm<'a> {
    fleet: &'a Fleet<'a>,
    slots: &'a Slots<'a>,
    /// How many questions the engine was asked.
    pub(super) asked: Cell<usize>,
}

/// One device with concrete values.
#[derive(Clone, Debug)]
pub(super) struct Cast<'a> {
    policies: &'a [NamedPolicy],
    name: String,
    /// Variables with their values, by folded names; none where they have none.
    values: BTreeMap<String, String>,
    /// Values of what conditions ask about, to be tried one after another.
    settings: Vec<BTreeMap<String, String>>,
    /// Client ids to try.
    clients: Vec<String>,
}

impl<'a> Confirm<'a> {
    pub(super) fn new(fleet: &'a Fleet<'a>, slots: &'a Slots<'a>) -> Self {
        Self {
            fleet,
            slots,
            asked: Cell::new(0),
        }
    }

    /// Gives every value that has none yet a text; `None` when there are not enough names.
    pub(super) fn complete(&self, mut assigned: Assignment) -> Option<Assignment> {
        for slot in self.slots.all() {
            if assigned.contains_key(&slot) {
                continue;
            }
            let avoid: BTreeSet<String> = assigned.values().flatten().cloned().collect();
            let text = match self.slots.kind(slot) {
                Kind::Name => self.slots.names().fresh(&avoid)?,
                Kind::Unique => format!("{}", slot as usize + 1),
                Kind::Free => "value".to_owned(),
            };
            assigned.insert(slot, Some(text));
        }
        let all: Vec<_> = assigned.iter().collect();
        let clash = all.iter().any(|(a, x)| {
            all.iter()
                .any(|(b, y)| self.slots.distinct(**a, **b) && x == y && x.is_some())
        });
        (!clash).then_some(assigned)
    }

    /// The two devices with these values; those that are not `pinned` may be set as conditions ask.
    pub(super) fn devices(&self, assigned: &Assignment, pinned: &BTreeSet<Slot>) -> [Cast<'a>; 2] {
        Side::BOTH.map(|side| self.device(side, assigned, pinned))
    }

    fn device(&self, side: Side, assigned: &Assignment, pinned: &BTreeSet<Slot>) -> Cast<'a> {
        let policies = match side {
            Side::First => self.fleet.policies,
            Side::Second => self.fleet.other.unwrap_or(self.fleet.policies),
        };
        let mut values = BTreeMap::new();
        let mut fixed = BTreeSet::from([CLIENT_ID.to_owned(), IS_ATTACHED.to_owned()]);
        let mut name = String::new();
        for slot in self.slots.all() {
            let (key, text) = (self.slots.key(slot), assigned.get(&slot));
            if self.slots.side(slot) != side {
                continue;
            }
            if key == THING_NAME {
                name = text.cloned().flatten().unwrap_or_default();
            }
            if pinned.contains(&slot) || self.slots.kind(slot) != Kind::Free {
                fixed.insert(key.clone());
            }
            if let Some(Some(text)) = text {
                values.insert(key, text.clone());
            }
        }
        for key in &self.fleet.same {
            values.insert(fold(key), name.clone());
            fixed.insert(fold(key));
        }
        Cast {
            policies,
            settings: settings(policies, &fixed),
            clients: self.clients(side, assigned, &name),
            name,
            values,
        }
    }

    /// Client ids that the policies may let the device connect with.
    fn clients(&self, side: Side, assigned: &Assignment, name: &str) -> Vec<String> {
        let scene = Scene::new(self.slots, self.fleet, assigned.clone());
        let names = assigned.iter().filter_map(|(slot, text)| {
            let is_name = self.slots.kind(*slot) == Kind::Name;
            text.clone().filter(|_| is_name)
        });
        let names: Vec<String> = names.collect();
        let fillers = ["x", "", "+", "#", "*", "***"].map(str::to_owned);
        let mut found = vec![name.to_owned()];
        for attached in [false, true] {
            let station = Station {
                side,
                attached,
                client: Client::Like(vec![super::atom::ANY]),
            };
            found.extend(
                scene
                    .compared(&station)
                    .iter()
                    .filter_map(|atoms| text(atoms)),
            );
            let entries = scene.access(&station, Action::Connect).entries;
            for rest in after(&entries, &self.fleet.place.arn("client", "")) {
                for filler in names.iter().chain(&fillers) {
                    let client = filled(&rest, filler);
                    if !client.is_empty() && client.len() <= 128 && !found.contains(&client) {
                        found.push(client);
                    }
                }
            }
        }
        found
    }

    /// Client ids that the first device could have.
    pub(super) fn client_ids(devices: &[Cast<'a>; 2]) -> Vec<String> {
        devices[0].clients.clone()
    }

    /// Whether both devices can do this with this client id or topic; and how.
    pub(super) fn check(
        &self,
        devices: &[Cast<'a>; 2],
        reach: Reach,
        word: &str,
    ) -> Option<Counterexample> {
        let mut found = Vec::new();
        for (cast, action) in devices.iter().zip(reach.actions()) {
            found.push(self.one(cast, devices, (action, word))?);
        }
        let devices = <[Device; 2]>::try_from(found).ok()?;
        let shared = word.to_owned();
        Some(Counterexample {
            reach,
            shared,
            devices,
        })
    }

    fn one(
        &self,
        cast: &Cast<'a>,
        devices: &[Cast<'a>; 2],
        (action, word): (Action, &str),
    ) -> Option<Device> {
        let mut clients = cast.clients.clone();
        if action == Action::Connect {
            clients = vec![word.to_owned()];
        } else if clients.len() > 1 || self.fleet.exclusive {
            clients.extend(word.split('/').map(str::to_owned));
            clients.extend(devices.iter().map(|other| other.name.clone()));
        }
        for setting in &cast.settings {
            for client in clients.iter().filter(|client| !client.is_empty()) {
                let attached = self.fleet.exclusive || *client == cast.name;
                let mut values = cast.values.clone();
                values.extend(setting.clone());
                if !attached {
                    values.retain(|key, _| !key.starts_with(THING));
                }
                let device = Device {
                    thing: cast.name.clone(),
                    client_id: client.clone(),
                    attached,
                    values,
                    packets: Vec::new(),
                };
                if let Some(device) = self.plays(cast, device, (action, word)) {
                    return Some(device);
                }
            }
        }
        None
    }

    /// The device, when it may connect and do what is asked.
    fn plays(
        &self,
        cast: &Cast<'a>,
        mut device: Device,
        (action, word): (Action, &str),
    ) -> Option<Device> {
        let facts = facts(&device);
        let may = |action: Action, name: &str| self.may(cast, &facts, (action, name));
        let mut packets = vec![may(Action::Connect, &device.client_id)?];
        match action {
            Action::Connect => {}
            Action::Publish => packets.push(may(Action::Publish, word)?),
            _ => {
                let receive = may(Action::Receive, word)?;
                let filters = filters(word, &groups(cast, &device.client_id)).into_iter();
                let mut allowed = filters.filter_map(|filter| may(Action::Subscribe, &filter));
                packets.extend([allowed.next()?, receive]);
            }
        }
        device.values.remove(THING_NAME);
        device.packets = packets;
        Some(device)
    }

    fn may(
        &self,
        cast: &Cast<'a>,
        facts: &Facts,
        (action, name): (Action, &str),
    ) -> Option<Packet> {
        let resource = action.resource(&self.fleet.place, name);
        let request = Request {
            action,
            resource: &resource,
        };
        self.asked.set(self.asked.get() + 1);
        let decision = decide(cast.policies, facts, request);
        if !decision.allowed() {
            return None;
        }
        let because = decision.because.iter().map(|reason| StatementRef {
            policy: reason.policy.to_owned(),
            statement: reason.statement,
            sid: reason.sid.map(str::to_owned),
            path: format!("$.Statement[{}]", reason.statement),
        });
        Some(Packet {
            action: action.name(),
            name: name.to_owned(),
            because: because.collect(),
            resource,
        })
    }
}

/// What the engine is told of a device.
fn facts(device: &Device) -> Facts {
    let one = |text: &str| vec![text.to_owned()];
    let mut facts = Facts::new(&device.client_id);
    for (key, value) in &device.values {
        facts = facts.with(key, one(value));
    }
    if device.attached {
        facts = facts
            .with(IS_ATTACHED, one("true"))
            .with(THING_NAME, one(&device.thing));
    }
    facts
}

/// A pattern of client ids with its wildcards filled.
fn filled(atoms: &[Atom], filler: &str) -> String {
    let mut text = String::new();
    for atom in atoms {
        match atom {
            Atom::Char(c) => text.push(*c),
            Atom::Except(_) => text.push(filler.chars().next().unwrap_or('x')),
            Atom::Run(_) => text.push_str(filler),
            Atom::Value(_) => {}
        }
    }
    text
}

/// The values to try for what conditions ask about, in every combination up to a limit.
fn settings(policies: &[NamedPolicy], fixed: &BTreeSet<String>) -> Vec<BTreeMap<String, String>> {
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let statements = policies
        .iter()
        .flat_map(|named| named.document.statements());
    for condition in statements.flat_map(|statement| &statement.conditions) {
        let key = fold(&condition.key);
        if fixed.contains(&key) {
            continue;
        }
        let texts = options.entry(key).or_default();
        for value in condition.values.iter().take(4) {
            let text = value.as_written().replace(['*', '?'], "x");
            let text = text.split_once('/').map_or(&text[..], |(before, _)| before);
            if !text.contains("${") && !texts.iter().any(|known| known == text) {
                texts.push(text.to_owned());
            }
        }
    }
    let mut all = vec![BTreeMap::new()];
    for (key, texts) in options {
        let before = all.clone();
        for text in texts {
            for one in &before {
                if all.len() < MAX_SETTINGS {
                    let mut one: BTreeMap<String, String> = one.clone();
                    one.insert(key.clone(), text.clone());
                    all.push(one);
                }
            }
        }
    }
    all
}

/// Groups of shared subscriptions: what stands behind `$share/` in the policies, and whatever else
/// can be a level of a filter.
fn groups(cast: &Cast<'_>, client: &str) -> Vec<String> {
    let mut found = vec!["group".to_owned(), cast.name.clone(), client.to_owned()];
    let statements = cast
        .policies
        .iter()
        .flat_map(|named| named.document.statements());
    for pattern in statements.flat_map(|statement| &statement.resources.patterns) {
        let (_, filter) = pattern
            .as_written()
            .split_once("topicfilter/")
            .unwrap_or_default();
        found.extend(filter.split(['/', '*', '?']).map(str::to_owned));
    }
    found.extend(cast.values.values().cloned());
    let mut seen = BTreeSet::new();
    found.retain(|group| {
        let fits = !group.is_empty() && !group.contains(['/', '+', '#', '$', '*', '?']);
        fits && seen.insert(group.clone())
    });
    found.truncate(MAX_GROUPS);
    found
}

/// Filters that match a topic, the plainest first.
fn filters(topic: &str, groups: &[String]) -> Vec<String> {
    let levels: Vec<&str> = topic.split('/').collect();
    let mut found = Vec::new();
    let most = if levels.len() <= ALL_WAYS {
        levels.len()
    } else {
        2
    };
    let masks = 1_u32 << levels.len().min(MAX_LEVELS);
    let few = |mask: &u32| mask.count_ones() as usize <= most;
    let mut order: Vec<u32> = (0..masks).filter(few).collect();
    order.sort_by_key(|mask| mask.count_ones());
    for mask in order {
        let level = |n: usize| if mask >> n & 1 == 1 { "+" } else { levels[n] };
        let all: Vec<&str> = (0..levels.len()).map(level).collect();
        found.push(all.join("/"));
        for cut in (0..levels.len()).rev().filter(|cut| mask >> cut == 0) {
            let mut short = all[..cut].to_vec();
            short.push("#");
            found.push(short.join("/"));
        }
        found.push(format!("{}/#", all.join("/")));
    }
    let wild = |filter: &String| filter.starts_with(['+', '#']);
    found.retain(|filter| !(topic.starts_with('$') && wild(filter)));
    let shared = groups.iter().flat_map(|group| {
        let longer = |filter: &String| format!("$share/{group}/{filter}");
        found.iter().map(longer).collect::<Vec<_>>()
    });
    let shared: Vec<String> = shared.collect();
    found.extend(shared);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_a_topic_match_it() {
        let found = filters("a/b", &["g".to_owned()]);
        for wanted in [
            "a/b",
            "a/#",
            "#",
            "+/b",
            "a/+",
            "+/+",
            "+/#",
            "a/b/#",
            "$share/g/+/b",
        ] {
            assert!(found.iter().any(|one| one == wanted), "{wanted}: {found:?}");
        }
        assert_eq!(found[0], "a/b");
        let reserved = filters("$aws/x", &[]);
        assert!(reserved.iter().all(|filter| filter.starts_with("$aws/")));
    }
}
