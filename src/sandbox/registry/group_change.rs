//! Changes and the end of thing groups and billing groups.

use std::collections::BTreeMap;

use super::entities::{Dates, Thing};
use super::group::{ancestry, change_thing, join};
use super::state::State;
use super::{ApiError, AttributeChange, ErrorName, Registry, thing};
use crate::core::ids::ThingName;
use crate::core::template::merge_attributes;
use crate::core::time::UtcTime;

/// `UpdateThingGroup` and `UpdateBillingGroup`: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// The description.
    pub description: Option<String>,
    /// `attributePayload`; thing groups only.
    pub attributes: Option<AttributeChange>,
    /// `expectedVersion`.
    pub expected_version: Option<u64>,
}

impl Registry {
    /// `UpdateThingGroup`. Answers the new version.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `VersionConflictException`, `InvalidRequestException`.
    pub fn update_group(
        &mut self,
        name: &ThingName,
        change: GroupChange,
        now: UtcTime,
    ) -> Result<u64, ApiError> {
        self.mutate(|state, _| {
            let group = state.groups.change(name.as_str());
            let group = group.ok_or_else(|| ApiError::not_found("thing group", name))?;
            check_version("thing group", name, group.version, change.expected_version)?;
            amend(
                (&mut group.description, &mut group.version, &mut group.dates),
                change.description,
                now,
            );
            if let Some(AttributeChange { attributes, merge }) = change.attributes {
                if !merge {
                    group.attributes = BTreeMap::new();
                }
                merge_attributes(&mut group.attributes, &attributes);
                thing::check_attributes(&group.attributes, true)?;
            }
            Ok(group.version)
        })
    }

    /// `DeleteThingGroup`; one that is not there is no error. Its things leave it.
    ///
    /// # Errors
    /// `VersionConflictException`; `InvalidRequestException` while groups are below it.
    pub fn delete_group(
        &mut self,
        name: &ThingName,
        expected: Option<u64>,
    ) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let Some(group) = state.groups.get(name.as_str()) else {
                return Ok(());
            };
            check_version("thing group", name, group.version, expected)?;
            let below = state
                .groups
                .all()
                .find(|one| one.parent.as_ref() == Some(name));
            if let Some(child) = below {
                let message = format!("thing group {name} has the group {} below it", child.name);
                return Err(ApiError::invalid(message));
            }
            release(
                state,
                |thing| thing.groups.contains(name),
                |thing| {
                    thing.groups.remove(name);
                },
            )?;
            state.tags.remove(&place.arn("thinggroup", name));
            state.groups.remove(name.as_str());
            Ok(())
        })
    }

    /// The groups above one, the root first.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn groups_above(&self, name: &ThingName) -> Result<Vec<ThingName>, ApiError> {
        let mut all = ancestry(&self.state, name)?;
        all.remove(0);
        all.reverse();
        Ok(all)
    }

    /// `UpdateThingGroupsForThing`.
    ///
    /// # Errors
    /// As `AddThingToThingGroup` and `RemoveThingFromThingGroup`.
    pub fn change_groups_of(
        &mut self,
        thing: &ThingName,
        add: &[ThingName],
        remove: &[ThingName],
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            for group in remove {
                if state.groups.get(group.as_str()).is_none() {
                    return Err(ApiError::not_found("thing group", group));
                }
                change_thing(state, thing)?.groups.remove(group);
            }
            add.iter().try_for_each(|group| join(state, thing, group))
        })
    }

    /// `UpdateBillingGroup`. Answers the new version.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `VersionConflictException`.
    pub fn update_billing_group(
        &mut self,
        name: &ThingName,
        change: GroupChange,
        now: UtcTime,
    ) -> Result<u64, ApiError> {
        self.mutate(|state, _| {
            let group = state.billing_groups.change(name.as_str());
            let group = group.ok_or_else(|| ApiError::not_found("billing group", name))?;
            check_version(
                "billing group",
                name,
                group.version,
                change.expected_version,
            )?;
            amend(
                (&mut group.description, &mut group.version, &mut group.dates),
                change.description,
                now,
            );
            Ok(group.version)
        })
    }

    /// `DeleteBillingGroup`; one that is not there is no error. Its things leave it.
    ///
    /// # Errors
    /// `VersionConflictException`.
    pub fn delete_billing_group(
        &mut self,
        name: &ThingName,
        expected: Option<u64>,
    ) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let Some(group) = state.billing_groups.get(name.as_str()) else {
                return Ok(());
            };
            check_version("billing group", name, group.version, expected)?;
            let is_inside = |thing: &Thing| thing.billing_group.as_ref() == Some(name);
            release(state, is_inside, |thing| thing.billing_group = None)?;
            state.tags.remove(&place.arn("billinggroup", name));
            state.billing_groups.remove(name.as_str());
            Ok(())
        })
    }

    /// Every billing group, by name.
    pub fn billing_groups(&self) -> impl Iterator<Item = &super::BillingGroup> {
        self.state.billing_groups.all()
    }

    /// `RemoveThingFromBillingGroup`; one that is not in it stays as it is.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn remove_from_billing_group(
        &mut self,
        thing: &ThingName,
        group: &ThingName,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            if state.billing_groups.get(group.as_str()).is_none() {
                return Err(ApiError::not_found("billing group", group));
            }
            let entry = change_thing(state, thing)?;
            if entry.billing_group.as_ref() == Some(group) {
                entry.billing_group = None;
            }
            Ok(())
        })
    }
}

/// What a change of any group changes.
fn amend(
    (text, version, dates): (&mut Option<String>, &mut u64, &mut Dates),
    description: Option<String>,
    now: UtcTime,
) {
    if description.is_some() {
        *text = description;
    }
    *version += 1;
    dates.modified = now;
}

/// Lets the things go that are in a group which ends.
fn release(
    state: &mut State,
    is_inside: impl Fn(&Thing) -> bool,
    leave: impl Fn(&mut Thing),
) -> Result<(), ApiError> {
    let inside = state.things.all().filter(|thing| is_inside(thing));
    let inside: Vec<ThingName> = inside.map(|thing| thing.name.clone()).collect();
    for name in inside {
        leave(change_thing(state, &name)?);
    }
    Ok(())
}

fn check_version(
    what: &str,
    name: &ThingName,
    version: u64,
    expected: Option<u64>,
) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != version => Err(ApiError::new(
            ErrorName::VersionConflict,
            format!("{what} {name} has version {version}, not {expected}"),
        )),
        _ => Ok(()),
    }
}
