//! Billing groups.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, put, timestamp};
use super::group::named;
use super::page::{Listing, TOKEN, page};
use super::{Operation, operation};
use crate::core::ids::ThingName;
use crate::sandbox::registry::{ApiError, BillingGroup, GroupChange, Registry, Thing};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "ListBillingGroups",
        MethodFilter::GET,
        "/billing-groups",
        list,
    ),
    operation(
        "CreateBillingGroup",
        MethodFilter::POST,
        "/billing-groups/{name}",
        create,
    ),
    operation(
        "DescribeBillingGroup",
        MethodFilter::GET,
        "/billing-groups/{name}",
        describe,
    ),
    operation(
        "UpdateBillingGroup",
        MethodFilter::PATCH,
        "/billing-groups/{name}",
        update,
    ),
    operation(
        "DeleteBillingGroup",
        MethodFilter::DELETE,
        "/billing-groups/{name}",
        delete,
    ),
    operation(
        "ListThingsInBillingGroup",
        MethodFilter::GET,
        "/billing-groups/{name}/things",
        things,
    ),
    operation(
        "AddThingToBillingGroup",
        MethodFilter::PUT,
        "/billing-groups/addThingToBillingGroup",
        add,
    ),
    operation(
        "RemoveThingFromBillingGroup",
        MethodFilter::PUT,
        "/billing-groups/removeThingFromBillingGroup",
        remove,
    ),
];

fn description(call: &Call) -> Result<Option<String>, ApiError> {
    match call.inner("billingGroupProperties")? {
        Some(properties) => {
            let text = properties.text("billingGroupDescription")?;
            Ok(text.map(str::to_owned))
        }
        None => Ok(None),
    }
}

fn create(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let description = description(call)?;
    let arn = registry.place().arn("billinggroup", &name);
    let tags = call.tags()?;
    let made = registry.together(|registry| {
        let made = registry.create_billing_group(&name, description, call.now)?;
        registry.tag(&arn, tags)?;
        Ok(made)
    })?;
    Ok(json!({
        "billingGroupName": made.name,
        "billingGroupArn": arn,
        "billingGroupId": made.id,
    }))
}

fn find<'a>(registry: &'a Registry, name: &ThingName) -> Result<&'a BillingGroup, ApiError> {
    let found = registry.billing_group(name);
    found.ok_or_else(|| ApiError::not_found("billing group", name))
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let found = find(registry, &call.label("name")?)?;
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
        "version": found.version,
        "billingGroupProperties": properties,
        "billingGroupMetadata": { "creationDate": timestamp(found.dates.created) },
    }))
}

fn update(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let change = GroupChange {
        description: description(call)?,
        attributes: None,
        expected_version: call.body().number("expectedVersion")?,
    };
    let version = registry.update_billing_group(&call.label("name")?, change, call.now)?;
    Ok(json!({ "version": version }))
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_billing_group(&call.label("name")?, call.number("expectedVersion")?)?;
    Ok(json!({}))
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let prefix = call.query("namePrefixFilter").unwrap_or_default();
    let all = registry.billing_groups();
    let all = all.filter(|group| group.name.as_str().starts_with(prefix));
    let show = move |group: &&BillingGroup| json!({ "groupName": group.name, "groupArn": place.arn("billinggroup", &group.name) });
    let list = Listing::by_name(all, |group| group.name.to_string(), show);
    page(call, &TOKEN, "billingGroups", list)
}

fn things(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    find(registry, &name)?;
    let things = registry.things();
    let things = things.filter(|thing| thing.billing_group.as_ref() == Some(&name));
    let show = |thing: &&Thing| Value::from(thing.name.as_str());
    let list = Listing::by_name(things, |thing| thing.name.to_string(), show);
    page(call, &TOKEN, "things", list)
}

fn add(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let thing = named(call, "thingName", "thingArn")?;
    let group = named(call, "billingGroupName", "billingGroupArn")?;
    registry.add_to_billing_group(&thing, &group)?;
    Ok(json!({}))
}

fn remove(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let thing = named(call, "thingName", "thingArn")?;
    let group = named(call, "billingGroupName", "billingGroupArn")?;
    registry.remove_from_billing_group(&thing, &group)?;
    Ok(json!({}))
}
