//! Thing types, thing groups and billing groups.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, missing, put, timestamp};
use super::page::{Listing, TOKEN, page};
use super::{Operation, operation};
use crate::core::ids::ThingName;
use crate::sandbox::registry::{ApiError, Group, NewGroup, NewType, Registry, Thing, ThingType};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(MethodFilter::GET, "/thing-types", list_types),
    operation(MethodFilter::POST, "/thing-types/{name}", create_type),
    operation(MethodFilter::GET, "/thing-types/{name}", describe_type),
    operation(MethodFilter::GET, "/thing-groups", list_groups),
    operation(MethodFilter::POST, "/thing-groups/{name}", create_group),
    operation(MethodFilter::GET, "/thing-groups/{name}", describe_group),
    operation(
        MethodFilter::PUT,
        "/thing-groups/addThingToThingGroup",
        add_to_group,
    ),
    operation(
        MethodFilter::PUT,
        "/thing-groups/removeThingFromThingGroup",
        remove_from_group,
    ),
    operation(
        MethodFilter::GET,
        "/thing-groups/{name}/things",
        things_in_group,
    ),
    operation(
        MethodFilter::GET,
        "/things/{name}/thing-groups",
        groups_of_thing,
    ),
    operation(MethodFilter::POST, "/billing-groups/{name}", create_billing),
    operation(
        MethodFilter::GET,
        "/billing-groups/{name}",
        describe_billing,
    ),
    operation(
        MethodFilter::PUT,
        "/billing-groups/addThingToBillingGroup",
        add_to_billing,
    ),
];

fn create_type(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let mut request = NewType {
        name: call.label("name")?,
        description: None,
        searchable: Vec::new(),
    };
    if let Some(properties) = call.inner("thingTypeProperties")? {
        request.description = properties.text("thingTypeDescription")?.map(str::to_owned);
        request.searchable = properties.list("searchableAttributes")?;
    }
    let made = registry.create_type(request, call.now)?;
    Ok(json!({
        "thingTypeName": made.name,
        "thingTypeArn": registry.place().arn("thingtype", &made.name),
        "thingTypeId": made.id,
    }))
}

fn show_type(registry: &Registry, made: &ThingType) -> Value {
    let mut properties = json!({ "searchableAttributes": made.searchable });
    put(
        &mut properties,
        "thingTypeDescription",
        made.description.clone(),
    );
    json!({
        "thingTypeName": made.name,
        "thingTypeArn": registry.place().arn("thingtype", &made.name),
        "thingTypeProperties": properties,
        "thingTypeMetadata": {
            "deprecated": false,
            "creationDate": timestamp(made.dates.created),
        },
    })
}

fn describe_type(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let found = registry.thing_type(&name);
    let found = found.ok_or_else(|| ApiError::not_found("thing type", &name))?;
    let mut answer = show_type(registry, found);
    answer["thingTypeId"] = found.id.clone().into();
    Ok(answer)
}

fn list_types(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let all: Vec<(String, Value)> = registry
        .thing_types()
        .map(|made| (made.name.to_string(), show_type(registry, made)))
        .collect();
    let list = Listing::by_name(
        all.into_iter(),
        |(name, _)| name.clone(),
        |(_, v)| v.clone(),
    );
    page(call, &TOKEN, "thingTypes", list)
}

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
    let made = registry.create_group(request, call.now)?;
    Ok(json!({
        "thingGroupName": made.name,
        "thingGroupArn": registry.place().arn("thinggroup", &made.name),
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
    Ok(json!({
        "thingGroupName": found.name,
        "thingGroupArn": registry.place().arn("thinggroup", &found.name),
        "thingGroupId": found.id,
        "version": 1,
        "thingGroupProperties": properties,
        "thingGroupMetadata": metadata,
    }))
}

fn list_groups(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let show = move |group: &&Group| json!({ "groupName": group.name, "groupArn": place.arn("thinggroup", &group.name) });
    let list = Listing::by_name(registry.groups(), |group| group.name.to_string(), show);
    page(call, &TOKEN, "thingGroups", list)
}

/// A name of the body, given as itself or at the end of its ARN.
fn named(call: &Call, name: &str, arn: &str) -> Result<ThingName, ApiError> {
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
    let things = registry
        .things()
        .filter(|thing| thing.groups.contains(&name));
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

fn create_billing(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let properties = call.inner("billingGroupProperties")?;
    let description = match properties {
        Some(properties) => properties.text("billingGroupDescription")?,
        None => None,
    };
    let made = registry.create_billing_group(&name, description.map(str::to_owned), call.now)?;
    Ok(json!({
        "billingGroupName": made.name,
        "billingGroupArn": registry.place().arn("billinggroup", &made.name),
        "billingGroupId": made.id,
    }))
}

fn describe_billing(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let found = registry.billing_group(&name);
    let found = found.ok_or_else(|| ApiError::not_found("billing group", &name))?;
    let mut properties = json!({});
    put(
        &mut properties,
        "billingGroupDescription",
        found.description.clone(),
    );
    Ok(json!({
        "billingGroupName": found.name,
        "billingGroupArn": registry.place().arn("billinggroup", &found.name),
        "billingGroupId": found.id,
        "version": 1,
        "billingGroupProperties": properties,
        "billingGroupMetadata": { "creationDate": timestamp(found.dates.created) },
    }))
}

fn add_to_billing(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let thing = named(call, "thingName", "thingArn")?;
    let group = named(call, "billingGroupName", "billingGroupArn")?;
    registry.add_to_billing_group(&thing, &group)?;
    Ok(json!({}))
}
