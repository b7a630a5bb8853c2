//! The deprecated operations that attach policies to principals, which name them in headers.

use axum::routing::MethodFilter;
use serde_json::Value;

use super::call::Call;
use super::page::{Listing, MARKER, page};
use super::policy::listed;
use super::{Operation, operation};
use crate::core::ids::PolicyName;
use crate::sandbox::registry::{ApiError, Registry};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "AttachPrincipalPolicy",
        MethodFilter::PUT,
        "/principal-policies/{name}",
        attach,
    ),
    operation(
        "DetachPrincipalPolicy",
        MethodFilter::DELETE,
        "/principal-policies/{name}",
        detach,
    ),
    operation(
        "ListPrincipalPolicies",
        MethodFilter::GET,
        "/principal-policies",
        policies,
    ),
    operation(
        "ListPolicyPrincipals",
        MethodFilter::GET,
        "/policy-principals",
        principals,
    ),
];

const PRINCIPAL: &str = "x-amzn-iot-principal";
const POLICY: &str = "x-amzn-iot-policy";

fn attach(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let principal = call.header(PRINCIPAL)?;
    registry.principal_of_arn(principal)?;
    registry.attach_policy(&call.label("name")?, principal)?;
    Ok(Value::Null)
}

fn detach(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.label("name")?;
    let principal = call.header(PRINCIPAL)?;
    registry.principal_of_arn(principal)?;
    // Unlike DetachPolicy, this one knows what is attached.
    if !registry
        .attached_policies(principal, false)?
        .contains(&name)
    {
        return Err(ApiError::not_found("attached policy", &name));
    }
    registry.detach_policy(&name, principal)?;
    Ok(Value::Null)
}

fn policies(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let principal = call.header(PRINCIPAL)?;
    registry.principal_of_arn(principal)?;
    let names = registry.attached_policies(principal, false)?;
    listed(registry.place(), call, names)
}

fn principals(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.header(POLICY)?.parse()?;
    let groups = registry.place().arn("thinggroup", "");
    let targets = registry.targets_of_policy(&name)?;
    let principals = targets.into_iter().filter(|arn| !arn.starts_with(&groups));
    let show = |target: &String| Value::from(target.clone());
    page(
        call,
        &MARKER,
        "principals",
        Listing::by_name(principals, Clone::clone, show),
    )
}
