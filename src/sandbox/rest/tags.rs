//! Tags.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, missing};
use super::{Operation, operation};
use crate::sandbox::registry::{ApiError, Registry};

pub(super) const OPERATIONS: &[Operation] = &[
    operation("TagResource", MethodFilter::POST, "/tags", tag),
    operation("ListTagsForResource", MethodFilter::GET, "/tags", list),
    operation("UntagResource", MethodFilter::POST, "/untag", untag),
];

fn tag(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.tag(call.need("resourceArn")?, call.tags()?)?;
    Ok(json!({}))
}

fn untag(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.untag(call.need("resourceArn")?, &call.body().list("tagKeys")?)?;
    Ok(json!({}))
}

/// All of them at once: a resource has at most 50.
fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let arn = call
        .query("resourceArn")
        .ok_or_else(|| missing("resourceArn"))?;
    let tags = registry.tags(arn)?;
    let show = |(key, value): (&String, &String)| json!({ "Key": key, "Value": value });
    let tags: Vec<Value> = tags.iter().map(show).collect();
    Ok(json!({ "tags": tags }))
}
