//! Thing types, thing groups and billing groups: as much as provisioning needs.

use std::collections::BTreeMap;

use super::entities::{BillingGroup, Dates, Group, Thing, ThingType};
use super::state::State;
use super::{ApiError, Registry, uuid};
use crate::core::ids::ThingName;
use crate::core::time::UtcTime;

/// The most groups of one thing.
const GROUPS_PER_THING: usize = 10;
/// The most groups above one another.
const GROUP_DEPTH: usize = 7;

/// `CreateThingType`.
#[derive(Clone, Debug)]
pub struct NewType {
    /// Its name.
    pub name: ThingName,
    /// `thingTypeDescription`.
    pub description: Option<String>,
    /// `searchableAttributes`, at most 3.
    pub searchable: Vec<String>,
}

/// `CreateThingGroup`.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Its name.
    pub name: ThingName,
    /// `parentGroupName`.
    pub parent: Option<ThingName>,
    /// `thingGroupDescription`.
    pub description: Option<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Registry {
    /// `CreateThingType`; the same again answers what is there.
    ///
    /// # Errors
    /// `ResourceAlreadyExistsException` for another type of this name.
    pub fn create_type(&mut self, request: NewType, now: UtcTime) -> Result<ThingType, ApiError> {
        self.mutate(|state, place| {
            if let Some(there) = state.types.get(request.name.as_str()) {
                let same = there.description == request.description
                    && there.searchable == request.searchable;
                let arn = place.arn("thingtype", &there.name);
                return same
                    .then(|| there.clone())
                    .ok_or_else(|| ApiError::exists("thing type", there.name.as_str(), arn));
            }
            if request.searchable.len() > 3 {
                return Err(ApiError::invalid("at most 3 searchableAttributes"));
            }
            let made = ThingType {
                id: uuid()?,
                description: request.description,
                searchable: request.searchable,
                deprecated: None,
                dates: Dates::new(now),
                name: request.name,
            };
            state.types.put(made.name.as_str(), made.clone());
            Ok(made)
        })
    }

    /// A thing type.
    pub fn thing_type(&self, name: &ThingName) -> Option<&ThingType> {
        self.state.types.get(name.as_str())
    }

    /// Every thing type, by name.
    pub fn thing_types(&self) -> impl Iterator<Item = &ThingType> {
        self.state.types.all()
    }

    /// `CreateThingGroup`; the same again answers what is there.
    ///
    /// # Errors
    /// `ResourceAlreadyExistsException` for another group of this name.
    pub fn create_group(&mut self, request: NewGroup, now: UtcTime) -> Result<Group, ApiError> {
        self.mutate(|state, place| {
            if let Some(there) = state.groups.get(request.name.as_str()) {
                let same = there.parent == request.parent
                    && there.description == request.description
                    && there.attributes == request.attributes;
                let arn = place.arn("thinggroup", &there.name);
                return same
                    .then(|| there.clone())
                    .ok_or_else(|| ApiError::exists("thing group", there.name.as_str(), arn));
            }
            if let Some(parent) = &request.parent
                && ancestry(state, parent)?.len() >= GROUP_DEPTH
            {
                return Err(ApiError::invalid("thing groups are at most 7 deep"));
            }
            super::thing::check_attributes(&request.attributes, true)?;
            let made = Group {
                id: uuid()?,
                parent: request.parent,
                description: request.description,
                attributes: request.attributes,
                policies: Vec::new(),
                version: 1,
                dates: Dates::new(now),
                name: request.name,
            };
            state.groups.put(made.name.as_str(), made.clone());
            Ok(made)
        })
    }

    /// A thing group.
    pub fn group(&self, name: &ThingName) -> Option<&Group> {
        self.state.groups.get(name.as_str())
    }

    /// Every thing group, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.state.groups.all()
    }

    /// `CreateBillingGroup`; the same again answers what is there.
    ///
    /// # Errors
    /// `ResourceAlreadyExistsException` for another of this name.
    pub fn create_billing_group(
        &mut self,
        name: &ThingName,
        description: Option<String>,
        now: UtcTime,
    ) -> Result<BillingGroup, ApiError> {
        self.mutate(|state, place| {
            if let Some(there) = state.billing_groups.get(name.as_str()) {
                let arn = place.arn("billinggroup", name);
                return (there.description == description)
                    .then(|| there.clone())
                    .ok_or_else(|| ApiError::exists("billing group", name.as_str(), arn));
            }
            let made = BillingGroup {
                name: name.clone(),
                id: uuid()?,
                description,
                version: 1,
                dates: Dates::new(now),
            };
            state.billing_groups.put(name.as_str(), made.clone());
            Ok(made)
        })
    }

    /// A billing group.
    pub fn billing_group(&self, name: &ThingName) -> Option<&BillingGroup> {
        self.state.billing_groups.get(name.as_str())
    }

    /// `AddThingToThingGroup`; the same again changes nothing.
    ///
    /// # Errors
    /// `ResourceNotFoundException`; `InvalidRequestException` for an eleventh group, or a second
    /// one of the same hierarchy.
    pub fn add_to_group(&mut self, thing: &ThingName, group: &ThingName) -> Result<(), ApiError> {
        self.mutate(|state, _| join(state, thing, group))
    }

    /// `RemoveThingFromThingGroup`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn remove_from_group(
        &mut self,
        thing: &ThingName,
        group: &ThingName,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            if state.groups.get(group.as_str()).is_none() {
                return Err(ApiError::not_found("thing group", group));
            }
            change_thing(state, thing)?.groups.remove(group);
            Ok(())
        })
    }

    /// `AddThingToBillingGroup`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn add_to_billing_group(
        &mut self,
        thing: &ThingName,
        group: &ThingName,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| bill(state, thing, group))
    }
}

/// Puts a thing into a group, inside a mutation.
pub(super) fn join(
    state: &mut State,
    thing: &ThingName,
    group: &ThingName,
) -> Result<(), ApiError> {
    let root = |state: &State, name: &ThingName| ancestry(state, name).map(|mut all| all.pop());
    let wanted = root(state, group)?;
    let entry = state.things.get(thing.as_str());
    let entry = entry.ok_or_else(|| ApiError::not_found("thing", thing))?;
    if entry.groups.contains(group) {
        return Ok(());
    }
    if entry.groups.len() >= GROUPS_PER_THING {
        let message = format!("thing {thing} is in 10 groups already");
        return Err(ApiError::invalid(message));
    }
    for other in &entry.groups {
        if root(state, other)? == wanted {
            let message = format!(
                "thing {thing} is in group {other} of the same hierarchy as {group} already"
            );
            return Err(ApiError::invalid(message));
        }
    }
    change_thing(state, thing)?.groups.insert(group.clone());
    Ok(())
}

/// Puts a thing into a billing group, inside a mutation.
pub(super) fn bill(
    state: &mut State,
    thing: &ThingName,
    group: &ThingName,
) -> Result<(), ApiError> {
    if state.billing_groups.get(group.as_str()).is_none() {
        return Err(ApiError::not_found("billing group", group));
    }
    change_thing(state, thing)?.billing_group = Some(group.clone());
    Ok(())
}

pub(super) fn change_thing<'a>(
    state: &'a mut State,
    thing: &ThingName,
) -> Result<&'a mut Thing, ApiError> {
    let entry = state.things.change(thing.as_str());
    entry.ok_or_else(|| ApiError::not_found("thing", thing))
}

/// A group and those above it, nearest first.
pub(super) fn ancestry(state: &State, name: &ThingName) -> Result<Vec<ThingName>, ApiError> {
    let mut all = Vec::new();
    let mut next = Some(name);
    while let Some(name) = next {
        let group = state.groups.get(name.as_str());
        let group = group.ok_or_else(|| ApiError::not_found("thing group", name))?;
        all.push(name.clone());
        next = group.parent.as_ref();
    }
    Ok(all)
}
