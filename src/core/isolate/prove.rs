//! The proof: every way to reach, every state of both devices, one search each.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::atom::{ANY, Atom, Lazy, NO_LABEL, Trie};
use super::confirm::Confirm;
use super::names::{Apart, Names, in_names};
use super::scene::{Access, Client, Scene, Station, Way};
use super::search::{Found, Question, walk};
use super::shape::{after, filter_set, text};
use super::slots::{Assignment, Kind, Side, Slots, THING_NAME};
use super::track::Track;
use super::{Counterexample, Doubt, Fleet, Limit, Reach, Verdict, Why, split};
use crate::core::policy::Action;

/// The most steps that the search for one way to reach may take: some tens of milliseconds.
pub(super) const BUDGET: usize = 12_000;
/// The most steps that all cases of one way to reach may take together.
pub(super) const CASES: usize = 50_000;
/// The steps that it takes to put one pattern together, in every state of both devices.
const PER_PATTERN: usize = 8;
/// The steps that a name of a list adds to the budget, and the most names that do.
const PER_NAME: usize = 20;
const MAX_LISTED: usize = 20_000;
/// The most patterns that are read side by side, and in one track.
const MAX_TRIES: [usize; 2] = [32, 16];
/// The most pairs of a list, of each kind, that are tried before the list is searched.
const LIKELY: usize = 4;
/// The most findings of one search that are tried with concrete names.
const TRIES: usize = 12;

/// Looks for two devices that the fleet's policies do not keep apart. What holds for any names holds
/// for a list of them, however long; then what holds for any names of which none is the beginning or
/// the end of another, where the list has none such; only what is left is searched with the very
/// names.
pub fn prove(fleet: &Fleet<'_>) -> Verdict {
    if fleet.names == Names::All {
        return search(fleet, &Reach::ALL, Apart::default());
    }
    let any = Fleet {
        place: fleet.place.clone(),
        names: Names::All,
        same: fleet.same.clone(),
        unique: fleet.unique.clone(),
        shared: fleet.shared.clone(),
        ..*fleet
    };
    let mut verdict = search(&any, &Reach::ALL, Apart::default());
    let apart = fleet.names.apart();
    if apart != Apart::default() && !verdict.proved() {
        verdict = verdict.then(|left| search(&any, left, apart));
    }
    if !verdict.proved() {
        verdict = verdict.then(|left| search(fleet, left, apart));
    }
    verdict
}

impl Verdict {
    /// With what is still open decided again.
    fn then(mut self, search: impl FnOnce(&[Reach]) -> Self) -> Self {
        let found = self.counterexamples.iter().map(|one| one.reach);
        let left: BTreeSet<Reach> = found
            .chain(self.doubts.iter().map(|one| one.reach))
            .collect();
        let left: Vec<Reach> = left.into_iter().collect();
        let mut next = search(&left);
        next.counterexamples.sort_by_key(|one| one.reach);
        next.doubts.sort_by_key(|one| one.reach);
        next.statements.append(&mut self.statements);
        next.statements.sort_unstable();
        next.statements.dedup();
        next.free.append(&mut self.free);
        next.open.append(&mut self.open);
        next.searches += self.searches;
        next.steps += self.steps;
        next
    }
}

fn search(fleet: &Fleet<'_>, reaches: &[Reach], apart: Apart) -> Verdict {
    let slots = Slots::new(&fleet.names, &fleet.same, &fleet.unique).apart(apart);
    let prover = Prover::new(fleet, &slots);
    let scene = prover.scene(Assignment::new());
    let mut verdict = Verdict::default();
    let budget = BUDGET + fleet.names.count().min(MAX_LISTED) * PER_NAME;
    for reach in reaches.iter().copied() {
        // Of two devices of one kind, either may be the first.
        if reach == Reach::ReceiveFrom && fleet.other.is_none() {
            continue;
        }
        prover.left.set(BUDGET);
        let likely = prover.likely(reach);
        verdict.steps += BUDGET - prover.left.get();
        prover.left.set(budget);
        let mut answer = likely.unwrap_or_else(|| prover.ask(&scene, reach));
        verdict.steps += budget - prover.left.get();
        let cases = match answer {
            Answer::Perhaps(Why::Unconfirmed { .. }) => CASES,
            // What is too much for all values together often is not for each.
            Answer::Perhaps(Why::Limit { .. }) => CASES / 2,
            Answer::No | Answer::Yes(_) => 0,
        };
        if cases > 0 {
            prover.left.set(cases);
            answer = split::decide(&prover, reach);
            verdict.steps += cases - prover.left.get();
        }
        match answer {
            Answer::No => {}
            Answer::Yes(found) => verdict.counterexamples.push(*found),
            Answer::Perhaps(why) => verdict.doubts.push(Doubt { reach, why }),
        }
    }
    for doubt in &mut verdict.doubts {
        if let Why::Limit { statements } = &mut doubt.why {
            *statements = scene.wildest(doubt.reach);
        }
    }
    verdict.statements = scene.labels();
    verdict.statements.sort_unstable();
    verdict.statements.dedup();
    verdict.open = scene.open.take();
    let free = slots.all().into_iter();
    let free = free.filter(|slot| slots.kind(*slot) == Kind::Free);
    verdict.free = free.map(|slot| slots.key(slot)).collect();
    verdict.searches = scene.searches();
    verdict
}

/// What came of a question.
pub(super) enum Answer {
    /// There is no such word.
    No,
    /// There is, and these devices show it.
    Yes(Box<Counterexample>),
    /// The patterns overlap, but no devices show it.
    Perhaps(Why),
}

/// What stays the same for all searches of a fleet.
pub(super) struct Prover<'a> {
    pub(super) fleet: &'a Fleet<'a>,
    pub(super) slots: &'a Slots<'a>,
    pub(super) confirm: Confirm<'a>,
    left: Cell<usize>,
    /// Topics that all may use, that all may publish to, that all may receive; client ids.
    shared: [Option<Rc<Lazy>>; 4],
}

/// A station with what it may do.
struct Equipped {
    station: Station,
    /// Its thing's name.
    name: Vec<Atom>,
    /// What that is not.
    not_named: Option<Rc<Lazy>>,
    connect: Access,
    publish: Access,
    receive: Access,
    subscribe: Access,
}

impl<'a> Prover<'a> {
    fn new(fleet: &'a Fleet<'a>, slots: &'a Slots<'a>) -> Self {
        let topics = fleet.place.arn("topic", "");
        let clients = fleet.place.arn("client", "");
        let shared = &fleet.shared;
        Self {
            fleet,
            slots,
            confirm: Confirm::new(fleet, slots),
            left: Cell::new(BUDGET),
            shared: [
                filter_set(shared.topics.iter(), &topics),
                filter_set(shared.publish.iter(), &topics),
                filter_set(shared.receive.iter(), &topics),
                filter_set(shared.clients.iter(), &clients),
            ],
        }
    }

    pub(super) fn scene(&self, assigned: Assignment) -> Scene<'a> {
        Scene::new(self.slots, self.fleet, assigned)
    }

    /// Whether a device can reach another in this way, names and all decided by what was found.
    pub(super) fn ask(&self, scene: &Scene<'a>, reach: Reach) -> Answer {
        let mut yes = None;
        let mut doubt = None;
        let mut tried = BTreeSet::new();
        let outcome = self.pay(PER_PATTERN * scene.size()).and_then(|()| {
            self.search(scene, reach, &mut |found| {
                if told_apart(scene, &found) {
                    return true;
                }
                let statements = found.ends.iter().flat_map(|ends| ends.iter().take(1));
                let statements = statements.filter_map(|label| scene.label(*label));
                doubt.get_or_insert_with(|| Why::Unconfirmed {
                    word: found.word.clone(),
                    statements: statements.collect(),
                });
                if tried.insert((found.word.clone(), found.spans.clone())) {
                    yes = self.try_out(scene, reach, &found);
                }
                yes.is_none() && tried.len() < TRIES
            })
        });
        match (yes, doubt, outcome) {
            (Some(found), ..) => Answer::Yes(Box::new(found)),
            (None, Some(why), _) => Answer::Perhaps(why),
            (None, None, Err(Limit)) => Answer::Perhaps(Why::limit()),
            (None, None, Ok(())) => Answer::No,
        }
    }

    /// Whether two names of a long list that patterns are likely to confuse reach each other so.
    fn likely(&self, reach: Reach) -> Option<Answer> {
        // A short one is gone through name by name.
        if self.fleet.names.count() <= split::MAX_LISTED {
            return None;
        }
        let [first, second] = Side::BOTH.map(|side| self.slots.of(side, THING_NAME));
        let found = self.fleet.names.likely(LIKELY).into_iter();
        let mut pairs = found.flat_map(|[a, b]| [[a, b], [b, a]]);
        pairs.find_map(|[one, two]| {
            let named = [(first, one), (second, two)];
            let assigned = named.map(|(slot, name)| (slot, Some(name.to_owned())));
            let answer = self.ask(&self.scene(assigned.into()), reach);
            matches!(answer, Answer::Yes(_)).then_some(answer)
        })
    }

    /// Takes steps off the budget.
    fn pay(&self, steps: usize) -> Result<(), Limit> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Limit)
    }

    /// Tries a finding with concrete values: first the very word, then any.
    fn try_out(&self, scene: &Scene<'a>, reach: Reach, found: &Found) -> Option<Counterexample> {
        for (word, spans) in self.variants(found) {
            self.pay(self.confirm.asked.take()).ok()?;
            let mut assigned = scene.assigned.clone();
            let texts = spans.into_iter().map(|(slot, text)| (slot, Some(text)));
            let pinned: BTreeSet<_> = texts
                .map(|(slot, text)| {
                    assigned.insert(slot, text);
                    slot
                })
                .collect();
            let Some(assigned) = self.confirm.complete(assigned) else {
                continue;
            };
            let devices = self.confirm.devices(&assigned, &pinned);
            let mut words = vec![word];
            if reach == Reach::Connect {
                words.extend(Confirm::client_ids(&devices));
            }
            let mut checked = words.iter().filter(|word| !word.is_empty());
            let yes = checked.find_map(|word| self.confirm.check(&devices, reach, word));
            // A limit met here only leaves the doubt standing.
            let _ = self.pay(self.confirm.asked.take());
            if yes.is_some() {
                return yes;
            }
            let concrete = self.scene(assigned);
            let mut yes = None;
            let mut tries = 0;
            let _ = self.search(&concrete, reach, &mut |found| {
                tries += 1;
                yes = self.confirm.check(&devices, reach, &found.word);
                yes.is_none() && tries < TRIES
            });
            if yes.is_some() {
                return yes;
            }
        }
        None
    }

    /// The word and its values as they were found, and again with the letters that stand for others
    /// made to differ from each other; those that go together.
    fn variants(&self, found: &Found) -> Vec<(String, Vec<(u8, String)>)> {
        let (other, letters) = (found.letters[0], &found.letters);
        let stand_ins: Vec<char> = STAND_INS
            .chars()
            .filter(|c| *c == other || !letters.contains(c))
            .collect();
        let plain: Vec<char> = found.word.chars().collect();
        let varied: Vec<char> = plain
            .iter()
            .enumerate()
            .map(|(n, c)| {
                if *c == other {
                    stand_ins[n % stand_ins.len()]
                } else {
                    *c
                }
            })
            .collect();
        let mut variants = Vec::new();
        for word in [varied, plain] {
            let mut values: Vec<(u8, String)> = Vec::new();
            for (slot, from, to) in &found.spans {
                let value = (*slot, word[*from..*to].iter().collect());
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            let clash = values.iter().any(|(a, x)| {
                let others = values.iter();
                let same = |(b, y): &&(u8, String)| {
                    (a == b && x != y) || (self.slots.distinct(*a, *b) && x == y)
                };
                others.clone().any(|other| same(&other))
            });
            if !clash {
                variants.push((word.into_iter().collect(), values));
            }
        }
        variants
    }

    /// Walks through every state of both devices.
    ///
    /// # Errors
    /// [`Limit`].
    pub(super) fn search(
        &self,
        scene: &Scene<'a>,
        reach: Reach,
        on_found: &mut dyn FnMut(Found) -> bool,
    ) -> Result<(), Limit> {
        let [first, second] = Side::BOTH.map(|side| self.stations(scene, side));
        let (first, second) = (first?, second?);
        let mut going = true;
        for one in &first {
            for two in &second {
                for tracks in self.tracks(reach, one, two) {
                    let mut found_one = |found| {
                        going = on_found(found);
                        going
                    };
                    scene.count();
                    walk(&self.question(tracks)?, &mut found_one)?;
                    if !going {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn question(&self, tracks: Vec<Track>) -> Result<Question<'_>, Limit> {
        let tries = tracks.iter().map(|track| track.tries.len());
        if tries.clone().sum::<usize>() > MAX_TRIES[0] || tries.max() > Some(MAX_TRIES[1]) {
            return Err(Limit);
        }
        Ok(Question {
            letters: letters(&tracks, self.slots)?.into(),
            tracks,
            slots: self.slots,
            left: &self.left,
        })
    }

    /// Every state in which a device can be connected.
    fn states(&self, scene: &Scene<'a>, side: Side) -> Vec<Station> {
        let any = Station {
            side,
            attached: self.fleet.exclusive,
            client: Client::Like(vec![ANY]),
        };
        let (uses_client, compared) = (scene.uses_client_id(side), scene.compared(&any));
        let mut stations = Vec::new();
        if !self.fleet.exclusive || uses_client || !compared.is_empty() {
            stations.push(Station {
                side,
                attached: true,
                client: Client::Own,
            });
        }
        let others = if uses_client {
            let entries = scene.access(&any, Action::Connect).entries;
            after(&entries, &self.fleet.place.arn("client", ""))
        } else {
            vec![vec![ANY]]
        };
        let compared = compared.into_iter().map(|client| (client, true));
        let clients = compared.chain(others.into_iter().map(|client| (client, false)));
        // With its thing's name as client id, a device is in the first of the states.
        for (client, exact) in clients.filter(|one| one.0 != scene.name(side)) {
            let client = match text(&client) {
                Some(text) => Client::Is(text),
                None if exact => Client::Exactly(client),
                None => Client::Like(client),
            };
            let station = Station {
                client,
                ..any.clone()
            };
            if !stations.contains(&station) {
                stations.push(station);
            }
        }
        stations
    }

    /// Every state, with what the device may do in it.
    fn stations(&self, scene: &Scene<'a>, side: Side) -> Result<Vec<Equipped>, Limit> {
        let mut equipped = Vec::new();
        for station in self.states(scene, side) {
            let one = Equipped {
                connect: scene.access(&station, Action::Connect),
                publish: scene.access(&station, Action::Publish),
                receive: scene.access(&station, Action::Receive),
                subscribe: scene.access(&station, Action::Subscribe),
                name: scene.name(side),
                not_named: scene.not_named(side),
                station,
            };
            if self.can_connect(&one)? {
                equipped.push(one);
            }
        }
        Ok(equipped)
    }

    fn can_connect(&self, one: &Equipped) -> Result<bool, Limit> {
        let mut can = false;
        for way in &one.connect.ways {
            let mut track = self.track("client");
            Self::connects(&mut track, one, way);
            walk(&self.question(vec![track])?, &mut |_| {
                can = true;
                false
            })?;
        }
        Ok(can)
    }

    fn track(&self, kind: &str) -> Track {
        Track {
            prefix: self.fleet.place.arn(kind, ""),
            filter: kind == "topicfilter",
            ..Track::default()
        }
    }

    /// Adds that a station connects with the word.
    fn connects(track: &mut Track, one: &Equipped, way: &Way) {
        let client = match &one.station.client {
            Client::Own => one.name.clone(),
            Client::Like(atoms) | Client::Exactly(atoms) => atoms.clone(),
            Client::Is(text) => text.chars().map(Atom::Char).collect(),
        };
        if one.station.client == Client::Own {
            track.guards.extend(one.not_named.clone());
        }
        let prefix = track.prefix.chars().map(Atom::Char);
        let whole: Vec<Atom> = prefix.chain(client).collect();
        track.tries.push(Rc::new(Trie::of(&whole)));
        add(track, &one.connect, way);
    }

    /// The tracks of every way in which two stations can do what is asked.
    fn tracks(&self, reach: Reach, one: &Equipped, two: &Equipped) -> Vec<Vec<Track>> {
        let stations = [one, two];
        let kind = if reach == Reach::Connect {
            "client"
        } else {
            "topic"
        };
        let mut base = self.track(kind);
        let shared = match reach {
            Reach::Connect => [&self.shared[3], &None],
            Reach::PublishAs => [&self.shared[0], &self.shared[1]],
            Reach::ReceiveAs => [&self.shared[0], &self.shared[2]],
            Reach::PublishTo | Reach::ReceiveFrom => [&self.shared[0], &None],
        };
        base.guards.extend(shared.into_iter().flatten().cloned());
        let mut all = vec![vec![base]];
        for (station, action) in stations.into_iter().zip(reach.actions()) {
            let mut next = Vec::new();
            for tracks in &all {
                self.extend(&mut next, tracks, (station, action));
            }
            all = next;
        }
        all
    }

    /// Adds one station's doing, in every way, to tracks that there are.
    fn extend(
        &self,
        all: &mut Vec<Vec<Track>>,
        tracks: &[Track],
        (one, action): (&Equipped, Action),
    ) {
        let own = match action {
            Action::Connect => &one.connect,
            Action::Publish => &one.publish,
            _ => &one.receive,
        };
        for way in &own.ways {
            let mut tracks = tracks.to_vec();
            if action == Action::Connect {
                Self::connects(&mut tracks[0], one, way);
            } else {
                add(&mut tracks[0], own, way);
            }
            if action != Action::Receive {
                all.push(tracks);
                continue;
            }
            for subscribe in &one.subscribe.ways {
                let mut filter = self.track("topicfilter");
                add(&mut filter, &one.subscribe, subscribe);
                let mut tracks = tracks.clone();
                tracks.push(filter);
                all.push(tracks);
            }
        }
    }
}

/// Whether no names bear a finding out, whatever they are.
fn told_apart(scene: &Scene<'_>, found: &Found) -> bool {
    let named = |ends: &&Rc<[u32]>| ends.iter().all(|label| *label != NO_LABEL);
    let mut ends = found.ends.iter().filter(named);
    let (Some(one), Some(two)) = (ends.next(), ends.next()) else {
        return false;
    };
    let mut pairs = one.iter().flat_map(|a| two.iter().map(move |b| (*a, *b)));
    pairs.all(|(a, b)| scene.told_apart(a, b))
}

/// Adds what an access asks of a word.
fn add(track: &mut Track, access: &Access, way: &Way) {
    track.tries.push(Rc::clone(&way.trie));
    track.tries.extend(access.musts.iter().cloned());
    let guards = way.none_of.iter().chain(&access.denied);
    track.guards.extend(guards.cloned());
}

/// The characters that tell words apart: first one that stands for all other characters of names.
fn letters(tracks: &[Track], slots: &Slots<'_>) -> Result<Vec<char>, Limit> {
    let topic = !tracks[0].prefix.ends_with("client/");
    let mut named: BTreeSet<char> = slots.characters().clone();
    for track in tracks {
        track.characters(slots, &mut named)?;
    }
    let mut letters: Vec<char> = STAND_INS
        .chars()
        .filter(|c| !named.contains(c))
        .take(1)
        .collect();
    letters.extend(named.iter().filter(|c| in_names(**c)));
    letters.push('/');
    letters.extend("~!@ ,;=".chars().find(|c| !named.contains(c)));
    let rest = named
        .iter()
        .filter(|c| !in_names(**c) && !"/$\0".contains(**c));
    letters.extend(rest.filter(|c| !topic || !"+#".contains(**c)));
    letters.push('$');
    Ok(letters)
}

/// Characters of names, those first that read well for any other.
const STAND_INS: &str = "xyzwvutsrqponmlkjihgfedcba0123456789XYZ";
