//! Thing types.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, put, timestamp};
use super::page::{Listing, TOKEN, page};
use super::{Operation, operation};
use crate::core::ids::ThingName;
use crate::sandbox::registry::{ApiError, NewType, Registry, ThingType};

pub(super) const OPERATIONS: &[Operation] = &[
    operation("ListThingTypes", MethodFilter::GET, "/thing-types", list),
    operation(
        "CreateThingType",
        MethodFilter::POST,
        "/thing-types/{name}",
        create,
    ),
    operation(
        "DescribeThingType",
        MethodFilter::GET,
        "/thing-types/{name}",
        describe,
    ),
    operation(
        "DeleteThingType",
        MethodFilter::DELETE,
        "/thing-types/{name}",
        delete,
    ),
    operation(
        "DeprecateThingType",
        MethodFilter::POST,
        "/thing-types/{name}/deprecate",
        deprecate,
    ),
];

fn create(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let mut request = NewType {
        name: call.label("name")?,
        description: None,
        searchable: Vec::new(),
    };
    if let Some(properties) = call.inner("thingTypeProperties")? {
        request.description = properties.text("thingTypeDescription")?.map(str::to_owned);
        request.searchable = properties.list("searchableAttributes")?;
    }
    let arn = registry.place().arn("thingtype", &request.name);
    let tags = call.tags()?;
    let made = registry.together(|registry| {
        let made = registry.create_type(request, call.now)?;
        registry.tag(&arn, tags)?;
        Ok(made)
    })?;
    Ok(json!({
        "thingTypeName": made.name,
        "thingTypeArn": arn,
        "thingTypeId": made.id,
    }))
}

fn show(registry: &Registry, made: &ThingType) -> Value {
    let mut properties = json!({ "searchableAttributes": made.searchable });
    put(
        &mut properties,
        "thingTypeDescription",
        made.description.clone(),
    );
    let mut metadata = json!({
        "deprecated": made.deprecated.is_some(),
        "creationDate": timestamp(made.dates.created),
    });
    put(
        &mut metadata,
        "deprecationDate",
        made.deprecated.map(timestamp),
    );
    json!({
        "thingTypeName": made.name,
        "thingTypeArn": registry.place().arn("thingtype", &made.name),
        "thingTypeProperties": properties,
        "thingTypeMetadata": metadata,
    })
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    let found = registry.thing_type(&name);
    let found = found.ok_or_else(|| ApiError::not_found("thing type", &name))?;
    let mut answer = show(registry, found);
    answer["thingTypeId"] = found.id.clone().into();
    Ok(answer)
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let wanted = call.query("thingTypeName");
    let all: Vec<(String, Value)> = registry
        .thing_types()
        .filter(|made| wanted.is_none_or(|name| made.name.as_str() == name))
        .map(|made| (made.name.to_string(), show(registry, made)))
        .collect();
    let list = Listing::by_name(
        all.into_iter(),
        |(name, _)| name.clone(),
        |(_, v)| v.clone(),
    );
    page(call, &TOKEN, "thingTypes", list)
}

fn deprecate(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let undo = call.body().flag("undoDeprecate")?.unwrap_or(false);
    registry.deprecate_type(&call.label("name")?, undo, call.now)?;
    Ok(json!({}))
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_type(&call.label("name")?, call.now)?;
    Ok(json!({}))
}
