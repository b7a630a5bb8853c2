//! What a plan finds at the target: the device's own thing, and what its properties name. For a list
//! the calls are paced, several at a time, and each prerequisite is asked for once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::core::ids::ThingName;
use crate::core::template::{
    ExistingThing, ExistingThings, Foreseen, Plan, PrerequisiteKind, Reason, Template,
};
use crate::ports::Clock;
use crate::ports::cloud::{CloudResult, ControlPlane, ThingView};

/// Calls that are under way at a time.
const AT_A_TIME: usize = 16;
/// Prerequisites whose answers are kept; a list whose rows name more asks again.
const REMEMBERED: usize = 100_000;

/// Fails a plan for the first thing that it needs and the target does not have.
///
/// # Errors
/// `cloud.*`.
pub fn check_target(plane: &dyn ControlPlane, foreseen: &mut Foreseen) -> CloudResult<()> {
    check(foreseen, &mut |kind, name| plane.has(kind, name))
}

/// Whether something is there.
type Has<'a> = &'a mut dyn FnMut(PrerequisiteKind, &str) -> CloudResult<bool>;

fn check(foreseen: &mut Foreseen, has: Has<'_>) -> CloudResult<()> {
    let plan = foreseen.plan.as_ref().filter(|_| foreseen.passes);
    for wanted in plan.map(Plan::prerequisites).unwrap_or_default() {
        let there = has(wanted.kind, &wanted.name)?;
        if let Some(finding) = Template::lint_prerequisite(&wanted, Some(there)) {
            foreseen.fail(Reason::of_missing(finding));
            return Ok(());
        }
    }
    Ok(())
}

/// What the target has of a thing.
///
/// # Errors
/// `cloud.*`.
pub fn at_target(plane: &dyn ControlPlane, name: &ThingName) -> CloudResult<Option<ExistingThing>> {
    let Some(view) = plane.describe_thing(name)? else {
        return Ok(None);
    };
    Ok(Some(existing(view, plane.groups_of(name)?)))
}

fn existing(view: ThingView, groups: Vec<ThingName>) -> ExistingThing {
    let named = |text: Option<String>| text.and_then(|text| text.parse().ok());
    ExistingThing {
        type_name: named(view.type_name),
        attributes: view.attributes,
        groups: groups.into_iter().collect(),
        billing_group: named(view.billing_group),
    }
}

/// Asks a target about the rows of a list.
pub struct Looks<'a> {
    plane: &'a dyn ControlPlane,
    clock: &'a dyn Clock,
    /// The time that one call may take its turn for.
    turn: Duration,
    /// When the next call may start, on the monotonic clock.
    next: Duration,
    known: BTreeMap<(PrerequisiteKind, String), bool>,
}

impl<'a> Looks<'a> {
    /// At most `per_second` calls are started in a second.
    pub fn new(plane: &'a dyn ControlPlane, clock: &'a dyn Clock, per_second: NonZeroU32) -> Self {
        Self {
            plane,
            clock,
            turn: Duration::from_secs(1) / per_second.get(),
            next: Duration::ZERO,
            known: BTreeMap::new(),
        }
    }

    /// What is there of each of these things; of their groups only where they matter (`true`).
    ///
    /// # Errors
    /// `cloud.*`.
    pub(super) fn things(
        &mut self,
        wanted: &BTreeMap<ThingName, bool>,
        known: &ExistingThings,
    ) -> CloudResult<ExistingThings> {
        let all: Vec<(&ThingName, bool)> = wanted.iter().map(|(name, one)| (name, *one)).collect();
        let mut found = known.only(wanted.keys());
        for some in all.chunks(AT_A_TIME) {
            let names = |wanted: &dyn Fn(&ThingName, bool) -> bool| -> Vec<ThingName> {
                let chosen = some.iter().filter(|(name, groups)| wanted(name, *groups));
                chosen.map(|(name, _)| (*name).clone()).collect()
            };
            let unknown = names(&|name, _| known.thing(name).is_none());
            self.pace(unknown.len());
            let views = self.plane.describe_things(&unknown)?;
            let views: BTreeMap<ThingName, ThingView> = unknown
                .into_iter()
                .zip(views)
                .filter_map(|(name, view)| Some((name, view?)))
                .collect();
            let grouped = names(&|name, groups| groups && views.contains_key(name));
            self.pace(grouped.len());
            let groups = self.plane.groups_of_things(&grouped)?;
            let mut groups: BTreeMap<ThingName, Vec<ThingName>> =
                grouped.into_iter().zip(groups).collect();
            for (name, view) in views {
                let groups = groups.remove(&name).unwrap_or_default();
                found = found.with(name, existing(view, groups));
            }
        }
        Ok(found)
    }

    /// Fails a plan for the first thing that it needs and the target does not have.
    ///
    /// # Errors
    /// `cloud.*`.
    pub(super) fn check(&mut self, foreseen: &mut Foreseen) -> CloudResult<()> {
        check(foreseen, &mut |kind, name| {
            let key = (kind, name.to_owned());
            if let Some(there) = self.known.get(&key) {
                return Ok(*there);
            }
            self.pace(1);
            let there = self.plane.has(kind, name)?;
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
            self.known.insert(key, there);
            Ok(there)
        })
    }

    /// Waits until the next calls may start.
    fn pace(&mut self, calls: usize) {
        let now = self.clock.monotonic();
        let wait = self.next.saturating_sub(now);
        if calls > 0 && !wait.is_zero() {
            self.clock.sleep(wait);
        }
        let turns = u32::try_from(calls).unwrap_or(u32::MAX);
        self.next = self.next.max(now) + self.turn * turns;
    }
}
