//! What AWS IoT makes itself: certificates with and without keys, claims, and RegisterThing.

use std::sync::PoisonError;

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, put, timestamp};
use super::{Operation, operation, slow_operation};
use crate::core::cert::Certificate;
use crate::core::ids::{Place, TemplateName};
use crate::core::status::CertificateStatus;
use crate::sandbox::Shared;
use crate::sandbox::keypair::KeyPair;
use crate::sandbox::registry::{ApiError, Registry, Request};

pub(super) const OPERATIONS: &[Operation] = &[
    slow_operation(
        "CreateKeysAndCertificate",
        MethodFilter::POST,
        "/keys-and-certificate",
        create_keys,
    ),
    operation(
        "CreateCertificateFromCsr",
        MethodFilter::POST,
        "/certificates",
        create_from_csr,
    ),
    slow_operation(
        "CreateProvisioningClaim",
        MethodFilter::POST,
        "/provisioning-templates/{name}/provisioning-claim",
        create_claim,
    ),
    operation(
        "RegisterThing",
        MethodFilter::POST,
        "/things",
        register_thing,
    ),
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
    let made = registry.register_by_template(body, &parameters, call.now)?;
    let mut answer = json!({ "resourceArns": made.arns });
    put(&mut answer, "certificatePem", made.certificate);
    Ok(answer)
}
