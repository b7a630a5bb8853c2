//! What AWS IoT makes itself: certificates with and without keys, claims, and RegisterThing.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use axum::routing::MethodFilter;
use serde_json::{Map, Value, json};

use super::call::{Call, timestamp};
use super::{Operation, operation, slow_operation};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place, TemplateName};
use crate::core::status::CertificateStatus;
use crate::core::template::{Plan, ResourceKind, Template, Usage};
use crate::sandbox::Shared;
use crate::sandbox::keypair::KeyPair;
use crate::sandbox::registry::{ApiError, ErrorName, Registry, Request};

pub(super) const OPERATIONS: &[Operation] = &[
    slow_operation(MethodFilter::POST, "/keys-and-certificate", create_keys),
    operation(MethodFilter::POST, "/certificates", create_from_csr),
    slow_operation(
        MethodFilter::POST,
        "/provisioning-templates/{name}/provisioning-claim",
        create_claim,
    ),
    operation(MethodFilter::POST, "/things", register_thing),
];

fn status(call: &Call) -> Result<CertificateStatus, ApiError> {
    Ok(if call.flag("setAsActive")? {
        CertificateStatus::Active
    } else {
        CertificateStatus::Inactive
    })
}

fn show(place: &Place, made: &Certificate) -> Value {
    json!({
        "certificateArn": place.arn("cert", made.id()),
        "certificateId": made.id(),
        "certificatePem": made.to_pem(),
    })
}

fn show_keys(into: &mut Value, pair: &KeyPair) {
    into["keyPair"] = json!({
        "PublicKey": pair.public_pem,
        "PrivateKey": pair.private_pem.as_str(),
    });
}

/// The registry is not held while keys are made.
fn create_keys(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let status = status(call)?;
    let pair = KeyPair::generate()?;
    let request = Request::for_key(pair.public.clone());
    let mut registry = shared
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let made = registry.issue(&request, status, call.now)?;
    let mut answer = show(registry.place(), &made);
    show_keys(&mut answer, &pair);
    Ok(answer)
}

fn create_from_csr(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let request = Request::parse(call.need("certificateSigningRequest")?)?;
    let made = registry.issue(&request, status(call)?, call.now)?;
    Ok(show(registry.place(), &made))
}

fn create_claim(shared: &Shared, call: &Call) -> Result<Value, ApiError> {
    let template: TemplateName = call.label("name")?;
    let pair = KeyPair::generate()?;
    let request = Request::for_key(pair.public.clone());
    let mut registry = shared
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let (made, expires) = registry.create_claim(&template, &request, call.now)?;
    let mut answer = json!({
        "certificateId": made.id(),
        "certificatePem": made.to_pem(),
        "expiration": timestamp(expires),
    });
    show_keys(&mut answer, &pair);
    Ok(answer)
}

fn register_thing(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let body = call.need("templateBody")?;
    let parameters = call.body().texts("parameters")?;
    register(registry, body, &parameters, call.now)
}

/// Runs a template that the caller gives, as RegisterThing and registration tasks do.
///
/// # Errors
/// `InvalidRequestException` for the template, `ResourceRegistrationFailureException` for its run,
/// `ConflictingResourceUpdateException`.
pub(super) fn register(
    registry: &mut Registry,
    body: &str,
    parameters: &BTreeMap<String, String>,
    now: crate::core::time::UtcTime,
) -> Result<Value, ApiError> {
    let template = Template::parse(body).map_err(|e| ApiError::invalid(e.to_string()))?;
    let failed = |why: String| ApiError::new(ErrorName::ResourceRegistrationFailure, why);
    let plan = template
        .render(Usage::RegisterThing, parameters)
        .map_err(|error| failed(error.to_string()))?;
    let (id, _) = registry
        .register_thing(&plan, now)
        .map_err(|error| match error.name {
            ErrorName::ConflictingResourceUpdate | ErrorName::InternalFailure => error,
            _ => failed(error.message),
        })?;
    let arns = arns(registry.place(), &template, &plan, id.as_ref());
    let mut answer = json!({ "resourceArns": arns });
    if let Some(entry) = id.and_then(|id| registry.certificate(&id)) {
        answer["certificatePem"] = (&*entry.pem).into();
    }
    Ok(answer)
}

/// The ARNs of what the template's resources have become, by their logical names.
fn arns(
    place: &Place,
    template: &Template,
    plan: &Plan,
    id: Option<&CertificateId>,
) -> Map<String, Value> {
    let mut policies = plan.policies.iter();
    let mut all = Map::new();
    for (name, kind) in template.resources() {
        let arn = match kind {
            ResourceKind::Thing => plan.thing.as_ref().map(|t| place.arn("thing", &t.name)),
            ResourceKind::Certificate => id.map(|id| place.arn("cert", id)),
            ResourceKind::Policy => policies.next().map(|p| place.arn("policy", p.name())),
        };
        if let Some(arn) = arn {
            all.insert(name.to_owned(), arn.into());
        }
    }
    all
}
