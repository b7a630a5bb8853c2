//! Thing groups.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, missing, put, timestamp};
use super::page::{Listing, TOKEN, page};
use super::{Operation, operation};
use crate::core::ids::ThingName;
use crate::sandbox::registry::{
    ApiError, AttributeChange, Group, GroupChange, NewGroup, Registry, Thing,
};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "ListThingGroups",
        MethodFilter::GET,
        "/thing-groups",
        list_groups,
    ),
    operation(
        "CreateThingGroup",
        MethodFilter::POST,
        "/thing-groups/{name}",
        create_group,
    ),
    operation(
        "DescribeThingGroup",
        MethodFilter::GET,
        "/thing-groups/{name}",
        describe_group,
    ),
    operation(
        "UpdateThingGroup",
        MethodFilter::PATCH,
        "/thing-groups/{name}",
        update_group,
    ),
    operation(
        "DeleteThingGroup",
        MethodFilter::DELETE,
        "/thing-groups/{name}",
        delete_group,
    ),
    operation(
        "UpdateThingGroupsForThing",
        MethodFilter::PUT,
        "/thing-groups/updateThingGroupsForThing",
        change_groups,
    ),
    operation(
        "AddThingToThingGroup",
        MethodFilter::PUT,
        "/thing-groups/addThingToThingGroup",
        add_to_group,
    ),
    operation(
        "RemoveThingFromThingGroup",
        MethodFilter::PUT,
        "/thing-groups/removeThingFromThingGroup",
        remove_from_group,
    ),
    operation(
        "ListThingsInThingGroup",
        MethodFilter::GET,
        "/thing-groups/{name}/things",
        things_in_group,
    ),
    operation(
        "ListThingGroupsForThing",
        MethodFilter::GET,
        "/things/{name}/thing-groups",
        groups_of_thing,
    ),
];

fn create_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let mut request = NewGroup {
        name: call.label("name")?,
        parent: call.name("parentGroupName")?,
        description: None,
        attributes: std::collections::BTreeMap::new(),
    };
    if let Some(properties) = call.inner("thingGroupProperties")? {
        request.description = properties.text("thingGroupDescription")?.map(str::to_owned);
        if let Some(payload) = properties.inner("attributePayload")? {
            request.attributes = payload.texts("attributes")?;
        }
    }
    let arn = registry.place().arn("thinggroup", &request.name);
    let tags = call.tags()?;
    let made = registry.together(|registry| {
        let made = registry.create_group(request, call.now)?;
        registry.tag(&arn, tags)?;
        Ok(made)
    })?;
    Ok(json!({
        "thingGroupName": made.name,
        "thingGroupArn": arn,
        "thingGroupId": made.id,
    }))
}

fn describe_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let found = registry.group(&name);
    let found = found.ok_or_else(|| ApiError::not_found("thing group", &name))?;
    let mut properties = json!({ "attributePayload": { "attributes": found.attributes } });
    put(
        &mut properties,
        "thingGroupDescription",
        found.description.clone(),
    );
    let mut metadata = json!({ "creationDate": timestamp(found.dates.created) });
    let parent = found.parent.as_ref().map(ToString::to_string);
    put(&mut metadata, "parentGroupName", parent);
    let place = registry.place();
    let show = |group: &ThingName| json!({ "groupName": group, "groupArn": place.arn("thinggroup", group) });
    let above = registry.groups_above(&name)?;
    metadata["rootToParentThingGroups"] = above.iter().map(show).collect();
    Ok(json!({
        "thingGroupName": found.name,
        "thingGroupArn": registry.place().arn("thinggroup", &found.name),
        "thingGroupId": found.id,
        "version": found.version,
        "thingGroupProperties": properties,
        "thingGroupMetadata": metadata,
    }))
}

/// With `parentGroup`, those right below it; with `recursive`, all below it.
fn list_groups(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let prefix = call.query("namePrefixFilter").unwrap_or_default();
    let parent: Option<ThingName> = call.query("parentGroup").map(str::parse).transpose()?;
    if let Some(parent) = &parent
        && registry.group(parent).is_none()
    {
        return Err(ApiError::not_found("thing group", parent));
    }
    // Without parentGroup every group is listed; `recursive=false` leaves only the roots.
    let recursive = call.query("recursive").map(|_| call.flag("recursive"));
    let recursive = recursive.transpose()?;
    let wanted = |group: &&Group| {
        let is_below = match (&parent, recursive) {
            (None, Some(false)) => group.parent.is_none(),
            (None, _) => true,
            (Some(parent), Some(true)) => is_below(registry, &group.name, parent),
            (Some(parent), _) => group.parent.as_ref() == Some(parent),
        };
        is_below && group.name.as_str().starts_with(prefix)
    };
    let show = move |group: &&Group| json!({ "groupName": group.name, "groupArn": place.arn("thinggroup", &group.name) });
    let groups = registry.groups().filter(wanted);
    let list = Listing::by_name(groups, |group| group.name.to_string(), show);
    page(call, &TOKEN, "thingGroups", list)
}

fn is_below(registry: &Registry, group: &ThingName, parent: &ThingName) -> bool {
    let above = registry.groups_above(group);
    above.is_ok_and(|above| above.contains(parent))
}

fn update_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let mut change = GroupChange {
        expected_version: call.body().number("expectedVersion")?,
        ..GroupChange::default()
    };
    if let Some(properties) = call.inner("thingGroupProperties")? {
        change.description = properties.text("thingGroupDescription")?.map(str::to_owned);
        if let Some(payload) = properties.inner("attributePayload")? {
            change.attributes = Some(AttributeChange {
                attributes: payload.texts("attributes")?,
                merge: payload.flag("merge")?.unwrap_or(false),
            });
        }
    }
    let version = registry.update_group(&call.label("name")?, change, call.now)?;
    Ok(json!({ "version": version }))
}

fn delete_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_group(&call.label("name")?, call.number("expectedVersion")?)?;
    Ok(json!({}))
}

fn change_groups(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let names = |list: Vec<String>| -> Result<Vec<ThingName>, ApiError> {
        let all = list.iter().map(|name| Ok(name.parse()?));
        all.collect()
    };
    let thing = call
        .name("thingName")?
        .ok_or_else(|| missing("thingName"))?;
    let add = names(call.body().list("thingGroupsToAdd")?)?;
    let remove = names(call.body().list("thingGroupsToRemove")?)?;
    registry.change_groups_of(&thing, &add, &remove)?;
    Ok(json!({}))
}

/// A name of the body, given as itself or at the end of its ARN.
pub(super) fn named(call: &Call, name: &str, arn: &str) -> Result<ThingName, ApiError> {
    if let Some(found) = call.name(name)? {
        return Ok(found);
    }
    let given = call.text(arn)?.ok_or_else(|| missing(name))?;
    let last = given.rsplit('/').next().unwrap_or_default();
    Ok(last.parse()?)
}

fn add_to_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let thing = named(call, "thingName", "thingArn")?;
    let group = named(call, "thingGroupName", "thingGroupArn")?;
    registry.add_to_group(&thing, &group)?;
    Ok(json!({}))
}

fn remove_from_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let thing = named(call, "thingName", "thingArn")?;
    let group = named(call, "thingGroupName", "thingGroupArn")?;
    registry.remove_from_group(&thing, &group)?;
    Ok(json!({}))
}

fn things_in_group(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    if registry.group(&name).is_none() {
        return Err(ApiError::not_found("thing group", &name));
    }
    let deep = call.flag("recursive")?;
    let inside = |group: &ThingName| *group == name || (deep && is_below(registry, group, &name));
    let things = registry
        .things()
        .filter(|thing| thing.groups.iter().any(inside));
    let show = |thing: &&Thing| Value::from(thing.name.as_str());
    let list = Listing::by_name(things, |thing| thing.name.to_string(), show);
    page(call, &TOKEN, "things", list)
}

fn groups_of_thing(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let place = registry.place().clone();
    let thing = registry.thing(&name);
    let thing = thing.ok_or_else(|| ApiError::not_found("thing", &name))?;
    let show = move |group: &&ThingName| json!({ "groupName": group, "groupArn": place.arn("thinggroup", group) });
    let list = Listing::by_name(thing.groups.iter(), ToString::to_string, show);
    page(call, &TOKEN, "thingGroups", list)
}
