//! Things: attributes, versions, idempotent creation.

use std::collections::{BTreeMap, BTreeSet};

use super::entities::{Dates, Thing};
use super::state::State;
use super::{ApiError, ErrorName, Registry, uuid};
use crate::core::ids::{CertificateId, Place, ThingName};
use crate::core::template::{attribute_problem, attributes_allowed, merge_attributes};
use crate::core::time::UtcTime;

/// `CreateThing`.
#[derive(Clone, Debug)]
pub struct NewThing {
    /// Its name.
    pub name: ThingName,
    /// Its type, which must exist.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its billing group, which must exist.
    pub billing_group: Option<ThingName>,
}

/// `attributePayload` of an update.
#[derive(Clone, Debug)]
pub struct AttributeChange {
    /// The attributes; with `merge`, an empty value removes.
    pub attributes: BTreeMap<String, String>,
    /// Add to what is there instead of replacing all of it.
    pub merge: bool,
}

/// `UpdateThing`: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ThingChange {
    /// The new type, which must exist.
    pub type_name: Option<ThingName>,
    /// `removeThingType`.
    pub remove_type: bool,
    /// `attributePayload`.
    pub attributes: Option<AttributeChange>,
    /// `expectedVersion`.
    pub expected_version: Option<u64>,
}

impl Registry {
    /// `CreateThing`; the same again answers what is there.
    ///
    /// # Errors
    /// `ResourceAlreadyExistsException` for another thing of this name.
    pub fn create_thing(&mut self, request: NewThing, now: UtcTime) -> Result<Thing, ApiError> {
        self.mutate(
            |state, place| match state.things.get(request.name.as_str()) {
                None => create(state, request, now),
                Some(thing) => {
                    let same = thing.type_name == request.type_name
                        && thing.attributes == kept(request.attributes)
                        && thing.billing_group == request.billing_group;
                    let arn = place.arn("thing", &thing.name);
                    same.then(|| thing.clone())
                        .ok_or_else(|| ApiError::exists("thing", thing.name.as_str(), arn))
                }
            },
        )
    }

    /// A thing.
    pub fn thing(&self, name: &ThingName) -> Option<&Thing> {
        self.state.things.get(name.as_str())
    }

    /// Every thing, by name.
    pub fn things(&self) -> impl Iterator<Item = &Thing> {
        self.state.things.all()
    }

    /// `UpdateThing`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `VersionConflictException`, `InvalidRequestException`.
    pub fn update_thing(
        &mut self,
        name: &ThingName,
        change: ThingChange,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            if change.remove_type && change.type_name.is_some() {
                let message = "thingTypeName and removeThingType exclude each other";
                return Err(ApiError::invalid(message));
            }
            check_type(state, change.type_name.as_ref())?;
            let thing = state.things.change(name.as_str());
            let thing = thing.ok_or_else(|| ApiError::not_found("thing", name))?;
            check_expected(thing, change.expected_version)?;
            if change.remove_type {
                thing.type_name = None;
            }
            if change.type_name.is_some() {
                thing.type_name = change.type_name;
            }
            match change.attributes {
                Some(AttributeChange {
                    attributes,
                    merge: true,
                }) => merge_attributes(&mut thing.attributes, &attributes),
                Some(AttributeChange { attributes, .. }) => thing.attributes = kept(attributes),
                None => {}
            }
            check_attributes(&thing.attributes, thing.type_name.is_some())?;
            touch(thing, now);
            Ok(())
        })
    }

    /// `DeleteThing`; one that is not there is no error.
    ///
    /// # Errors
    /// `VersionConflictException`; `InvalidRequestException` while a certificate is attached.
    pub fn delete_thing(
        &mut self,
        name: &ThingName,
        expected: Option<u64>,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let Some(thing) = state.things.get(name.as_str()) else {
                return Ok(());
            };
            check_expected(thing, expected)?;
            if !thing.principals.is_empty() {
                let message =
                    format!("thing {name} cannot be deleted while principals are attached to it");
                return Err(ApiError::invalid(message));
            }
            state.things.remove(name.as_str());
            Ok(())
        })
    }

    /// The things of a certificate, and whether exclusively.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn things_of(&self, id: &CertificateId) -> Result<&BTreeMap<ThingName, bool>, ApiError> {
        let entry = self.state.certificates.get(id.as_str());
        entry
            .map(|entry| &entry.things)
            .ok_or_else(|| super::certificate::no_certificate(id))
    }

    /// The id in the ARN of a certificate of this account and Region.
    ///
    /// # Errors
    /// `InvalidRequestException`.
    pub fn principal_of_arn(&self, arn: &str) -> Result<CertificateId, ApiError> {
        principal_of_arn(arn, &self.place)
    }
}

fn principal_of_arn(arn: &str, place: &Place) -> Result<CertificateId, ApiError> {
    super::certificate::certificate_of_arn(arn, place).ok_or_else(|| {
        let shown: String = arn.chars().take(120).collect();
        ApiError::invalid(format!(
            "`{shown}` is not the ARN of a certificate of this account and Region"
        ))
    })
}

/// Makes a thing that is not there, inside a mutation.
pub(super) fn create(
    state: &mut State,
    request: NewThing,
    now: UtcTime,
) -> Result<Thing, ApiError> {
    check_type(state, request.type_name.as_ref())?;
    if let Some(group) = &request.billing_group
        && state.billing_groups.get(group.as_str()).is_none()
    {
        return Err(ApiError::not_found("billing group", group));
    }
    let attributes = kept(request.attributes);
    check_attributes(&attributes, request.type_name.is_some())?;
    let thing = Thing {
        id: uuid()?,
        type_name: request.type_name,
        attributes,
        billing_group: request.billing_group,
        groups: BTreeSet::new(),
        principals: BTreeMap::new(),
        version: 1,
        dates: Dates::new(now),
        name: request.name,
    };
    state.things.put(thing.name.as_str(), thing.clone());
    Ok(thing)
}

/// Checks that a type exists and is not deprecated, if one is named.
pub(super) fn check_type(state: &State, name: Option<&ThingName>) -> Result<(), ApiError> {
    let Some(name) = name else {
        return Ok(());
    };
    match state.types.get(name.as_str()) {
        None => Err(ApiError::not_found("thing type", name)),
        Some(found) if found.deprecated.is_some() => Err(ApiError::invalid(format!(
            "thing type {name} is deprecated: no thing can get it"
        ))),
        Some(_) => Ok(()),
    }
}

/// Checks names, values and the number of attributes.
pub(super) fn check_attributes(
    attributes: &BTreeMap<String, String>,
    typed: bool,
) -> Result<(), ApiError> {
    for (name, value) in attributes {
        if let Some(rule) = attribute_problem(name, value) {
            return Err(ApiError::invalid(format!("`{name}` = `{value}`: {rule}")));
        }
    }
    let allowed = attributes_allowed(attributes.len(), typed);
    allowed.map_err(|error| ApiError::invalid(error.to_string()))
}

/// Counts a change of a thing.
pub(super) fn touch(thing: &mut Thing, now: UtcTime) {
    thing.version += 1;
    thing.dates.modified = now;
}

fn kept(mut attributes: BTreeMap<String, String>) -> BTreeMap<String, String> {
    attributes.retain(|_, value| !value.is_empty());
    attributes
}

fn check_expected(thing: &Thing, expected: Option<u64>) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != thing.version => Err(ApiError::new(
            ErrorName::VersionConflict,
            format!(
                "thing {} has version {}, not {expected}",
                thing.name, thing.version
            ),
        )),
        _ => Ok(()),
    }
}
