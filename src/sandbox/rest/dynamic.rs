//! Fleet indexing and dynamic thing groups, as an account has them that has never turned fleet
//! indexing on: there is no index, so that there can be no dynamic group.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::Call;
use super::{Operation, operation};
use crate::core::ids::ThingName;
use crate::sandbox::registry::{ApiError, ErrorName, Registry};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "CreateDynamicThingGroup",
        MethodFilter::POST,
        "/dynamic-thing-groups/{name}",
        create,
    ),
    operation(
        "UpdateDynamicThingGroup",
        MethodFilter::PATCH,
        "/dynamic-thing-groups/{name}",
        update,
    ),
    operation(
        "DeleteDynamicThingGroup",
        MethodFilter::DELETE,
        "/dynamic-thing-groups/{name}",
        delete,
    ),
    operation(
        "GetIndexingConfiguration",
        MethodFilter::GET,
        "/indexing/config",
        configuration,
    ),
    operation("ListIndices", MethodFilter::GET, "/indices", indices),
    operation(
        "DescribeIndex",
        MethodFilter::GET,
        "/indices/{name}",
        describe,
    ),
    operation("SearchIndex", MethodFilter::POST, "/indices/search", search),
];

/// The one index that dynamic groups are built from.
const THINGS: &str = "AWS_Things";

fn create(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    call.need("queryString")?;
    if registry.group(&name).is_some() {
        let arn = registry.place().arn("thinggroup", &name);
        return Err(ApiError::exists("thing group", name.as_str(), arn));
    }
    Err(no_index(call.text("indexName")?.unwrap_or(THINGS)))
}

fn update(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: ThingName = call.label("name")?;
    refuse_static(registry, &name)?;
    Err(ApiError::not_found("dynamic thing group", &name))
}

/// One that is not there is no error (API page "DeleteDynamicThingGroup").
fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    refuse_static(registry, &call.label("name")?)?;
    Ok(json!({}))
}

fn refuse_static(registry: &Registry, name: &ThingName) -> Result<(), ApiError> {
    if registry.group(name).is_none() {
        return Ok(());
    }
    let message = format!("thing group {name} is not dynamic");
    Err(ApiError::invalid(message))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of every operation")]
fn configuration(_: &mut Registry, _: &Call) -> Result<Value, ApiError> {
    Ok(json!({
        "thingIndexingConfiguration": {
            "thingIndexingMode": "OFF",
            "thingConnectivityIndexingMode": "OFF",
            "deviceDefenderIndexingMode": "OFF",
            "namedShadowIndexingMode": "OFF",
        },
        "thingGroupIndexingConfiguration": { "thingGroupIndexingMode": "OFF" },
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of every operation")]
fn indices(_: &mut Registry, _: &Call) -> Result<Value, ApiError> {
    Ok(json!({ "indexNames": [] }))
}

fn describe(_: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    Err(no_index(call.raw_label("name")))
}

fn search(_: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    call.need("queryString")?;
    Err(no_index(call.text("indexName")?.unwrap_or(THINGS)))
}

fn no_index(name: &str) -> ApiError {
    let message = format!("index {name} does not exist: fleet indexing is off");
    ApiError::new(ErrorName::ResourceNotFound, message)
}
