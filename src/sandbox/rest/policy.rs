//! IoT policies.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, generation, put_dates, timestamp};
use super::page::{Listing, MARKER, page};
use super::{Operation, operation};
use crate::core::ids::{Place, PolicyName};
use crate::sandbox::registry::{ApiError, Policy, PolicyVersion, Registry};

pub(super) const OPERATIONS: &[Operation] = &[
    operation("ListPolicies", MethodFilter::GET, "/policies", list),
    operation(
        "CreatePolicy",
        MethodFilter::POST,
        "/policies/{name}",
        create,
    ),
    operation("GetPolicy", MethodFilter::GET, "/policies/{name}", get),
    operation(
        "DeletePolicy",
        MethodFilter::DELETE,
        "/policies/{name}",
        delete,
    ),
    operation(
        "CreatePolicyVersion",
        MethodFilter::POST,
        "/policies/{name}/version",
        create_version,
    ),
    operation(
        "ListPolicyVersions",
        MethodFilter::GET,
        "/policies/{name}/version",
        list_versions,
    ),
    operation(
        "GetPolicyVersion",
        MethodFilter::GET,
        "/policies/{name}/version/{version}",
        get_version,
    ),
    operation(
        "SetDefaultPolicyVersion",
        MethodFilter::PATCH,
        "/policies/{name}/version/{version}",
        set_default,
    ),
    operation(
        "DeletePolicyVersion",
        MethodFilter::DELETE,
        "/policies/{name}/version/{version}",
        delete_version,
    ),
    operation(
        "AttachPolicy",
        MethodFilter::PUT,
        "/target-policies/{name}",
        attach,
    ),
    operation(
        "DetachPolicy",
        MethodFilter::POST,
        "/target-policies/{name}",
        detach,
    ),
    operation(
        "ListAttachedPolicies",
        MethodFilter::POST,
        "/attached-policies/{target}",
        list_attached,
    ),
    operation(
        "ListTargetsForPolicy",
        MethodFilter::POST,
        "/policy-targets/{name}",
        list_targets,
    ),
    operation(
        "GetEffectivePolicies",
        MethodFilter::POST,
        "/effective-policies",
        effective,
    ),
];

fn create(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.label("name")?;
    let document = call.need("policyDocument")?;
    let arn = registry.place().arn("policy", &name);
    let tags = call.tags()?;
    registry.together(|registry| {
        registry.create_policy(&name, document, call.now)?;
        registry.tag(&arn, tags)
    })?;
    Ok(json!({
        "policyName": name,
        "policyArn": arn,
        "policyDocument": document,
        "policyVersionId": "1",
    }))
}

fn find<'a>(registry: &'a Registry, name: &PolicyName) -> Result<&'a Policy, ApiError> {
    let found = registry.policy(name);
    found.ok_or_else(|| ApiError::not_found("policy", name))
}

fn get(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.label("name")?;
    let policy = find(registry, &name)?;
    let document = policy.default_version().map_or("", |v| &v.document);
    let mut answer = json!({
        "policyName": name,
        "policyArn": registry.place().arn("policy", &name),
        "policyDocument": document,
        "defaultVersionId": policy.default.to_string(),
        "generationId": generation(name.as_str(), policy.default),
    });
    put_dates(&mut answer, policy.dates);
    Ok(answer)
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_policy(&call.label("name")?)?;
    Ok(Value::Null)
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let names: Vec<PolicyName> = registry.policies().map(|p| p.name.clone()).collect();
    listed(registry.place(), call, names)
}

pub(super) fn listed(
    place: &Place,
    call: &Call,
    names: Vec<PolicyName>,
) -> Result<Value, ApiError> {
    let place = place.clone();
    let show = move |name: &PolicyName| json!({ "policyName": name, "policyArn": place.arn("policy", name) });
    let list = Listing::by_name(names.into_iter(), ToString::to_string, show);
    page(call, &MARKER, "policies", list)
}

fn create_version(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.label("name")?;
    let document = call.need("policyDocument")?;
    let as_default = call.flag("setAsDefault")?;
    let id = registry.create_policy_version(&name, document, as_default, call.now)?;
    Ok(json!({
        "policyArn": registry.place().arn("policy", &name),
        "policyDocument": document,
        "policyVersionId": id.to_string(),
        "isDefaultVersion": as_default,
    }))
}

fn version(call: &Call) -> Result<u32, ApiError> {
    let text = call.raw_label("version");
    text.parse()
        .map_err(|_| ApiError::invalid(format!("`{text}` is not a policy version id")))
}

fn get_version(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.label("name")?;
    let id = version(call)?;
    let policy = find(registry, &name)?;
    let found = policy.versions.iter().find(|v| v.id == id);
    let PolicyVersion {
        document, created, ..
    } = found.ok_or_else(|| ApiError::not_found(&format!("version {id} of policy"), &name))?;
    Ok(json!({
        "policyArn": registry.place().arn("policy", &name),
        "policyName": name,
        "policyDocument": &**document,
        "policyVersionId": id.to_string(),
        "isDefaultVersion": policy.default == id,
        "creationDate": timestamp(*created),
        "lastModifiedDate": timestamp(*created),
        "generationId": generation(name.as_str(), id),
    }))
}

fn list_versions(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: PolicyName = call.label("name")?;
    let policy = find(registry, &name)?;
    let show = |v: &PolicyVersion| {
        json!({
            "versionId": v.id.to_string(),
            "isDefaultVersion": v.id == policy.default,
            "createDate": timestamp(v.created),
        })
    };
    let versions: Vec<Value> = policy.versions.iter().rev().map(show).collect();
    Ok(json!({ "policyVersions": versions }))
}

fn set_default(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.set_default_policy_version(&call.label("name")?, version(call)?, call.now)?;
    Ok(Value::Null)
}

fn delete_version(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_policy_version(&call.label("name")?, version(call)?)?;
    Ok(Value::Null)
}

fn attach(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.attach_policy(&call.label("name")?, call.need("target")?)?;
    Ok(Value::Null)
}

fn detach(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.detach_policy(&call.label("name")?, call.need("target")?)?;
    Ok(Value::Null)
}

fn list_attached(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let recursive = call.flag("recursive")?;
    let names = registry.attached_policies(call.raw_label("target"), recursive)?;
    listed(registry.place(), call, names)
}

fn list_targets(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let targets = registry.targets_of_policy(&call.label("name")?)?;
    let show = |target: &String| Value::from(target.clone());
    let list = Listing::by_name(targets.into_iter(), Clone::clone, show);
    page(call, &MARKER, "targets", list)
}

/// The policies that hold for a certificate, and for a thing's groups if `thingName` is given.
fn effective(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let id = registry.principal_of_arn(call.need("principal")?)?;
    if registry.certificate(&id).is_none() {
        return Err(ApiError::not_found("certificate", &id));
    }
    let principal = registry.principal(&id);
    let of_thing = principal
        .things
        .iter()
        .filter(|thing| call.query("thingName") == Some(thing.name.as_str()))
        .flat_map(|thing| &thing.group_policies);
    let show = |(name, document): &(PolicyName, std::sync::Arc<str>)| {
        json!({
            "policyName": name,
            "policyArn": registry.place().arn("policy", name),
            "policyDocument": &**document,
        })
    };
    let all: Vec<Value> = principal
        .policies
        .iter()
        .chain(of_thing)
        .map(show)
        .collect();
    Ok(json!({ "effectivePolicies": all }))
}
