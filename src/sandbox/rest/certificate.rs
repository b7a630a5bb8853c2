//! Device certificates.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, generation, put, put_dates, timestamp};
use super::page::{Listing, MARKER, page};
use super::{Operation, operation};
use crate::core::ids::{CertificateId, Place};
use crate::core::status::CertificateStatus;
use crate::sandbox::registry::{ApiError, CertificateEntry, CertificateRegistration, Registry};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "RegisterCertificate",
        MethodFilter::POST,
        "/certificate/register",
        register,
    ),
    operation(
        "RegisterCertificateWithoutCA",
        MethodFilter::POST,
        "/certificate/register-no-ca",
        register_without_ca,
    ),
    operation("ListCertificates", MethodFilter::GET, "/certificates", list),
    operation(
        "DescribeCertificate",
        MethodFilter::GET,
        "/certificates/{id}",
        describe,
    ),
    operation(
        "UpdateCertificate",
        MethodFilter::PUT,
        "/certificates/{id}",
        update,
    ),
    operation(
        "DeleteCertificate",
        MethodFilter::DELETE,
        "/certificates/{id}",
        delete,
    ),
    operation(
        "ListCertificatesByCA",
        MethodFilter::GET,
        "/certificates-by-ca/{id}",
        list_by_ca,
    ),
];

fn register(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let ca = call.certificate("caCertificatePem")?;
    registered(
        registry,
        call,
        CertificateRegistration {
            certificate: call.need_certificate("certificatePem")?,
            ca,
            status: wanted_status(call)?,
            without_ca: false,
        },
    )
}

fn register_without_ca(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registered(
        registry,
        call,
        CertificateRegistration {
            certificate: call.need_certificate("certificatePem")?,
            ca: None,
            status: wanted_status(call)?,
            without_ca: true,
        },
    )
}

fn registered(
    registry: &mut Registry,
    call: &Call,
    request: CertificateRegistration,
) -> Result<Value, ApiError> {
    let id = registry.register_certificate(&request, call.now)?;
    Ok(json!({
        "certificateArn": registry.place().arn("cert", &id),
        "certificateId": id,
    }))
}

/// `status`, else the deprecated `setAsActive`, else INACTIVE.
fn wanted_status(call: &Call) -> Result<CertificateStatus, ApiError> {
    if let Some(status) = call.name("status")? {
        return Ok(status);
    }
    Ok(if call.flag("setAsActive")? {
        CertificateStatus::Active
    } else {
        CertificateStatus::Inactive
    })
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let id: CertificateId = call.label("id")?;
    let place = registry.place().clone();
    let entry = registry.certificate(&id);
    let entry = entry.ok_or_else(|| ApiError::not_found("certificate", &id))?;
    let mut description = json!({
        "certificateArn": place.arn("cert", &entry.id),
        "certificateId": entry.id,
        "status": entry.status.as_str(),
        "certificatePem": &*entry.pem,
        "ownedBy": place.account,
        "customerVersion": entry.version,
        "transferData": {},
        "generationId": generation(entry.id.as_str(), entry.version),
        "validity": {
            "notBefore": timestamp(entry.validity.not_before),
            "notAfter": timestamp(entry.validity.not_after),
        },
        "certificateMode": entry.mode.as_str(),
    });
    put_dates(&mut description, entry.dates);
    let ca = entry.ca.map(|ca| ca.to_string());
    put(&mut description, "caCertificateId", ca);
    Ok(json!({ "certificateDescription": description }))
}

fn update(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let status = call
        .query("newStatus")
        .ok_or_else(|| super::call::missing("newStatus"))?
        .parse()?;
    registry.update_certificate(&call.label("id")?, status, call.now)?;
    Ok(Value::Null)
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_certificate(&call.label("id")?, call.flag("forceDelete")?)?;
    Ok(Value::Null)
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    listed(call, registry.certificates(), place)
}

fn list_by_ca(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let ca: CertificateId = call.label("id")?;
    let place = registry.place().clone();
    let of_ca = registry
        .certificates()
        .filter(|entry| entry.ca.as_ref() == Some(&ca));
    listed(call, of_ca, place)
}

fn listed<'a>(
    call: &Call,
    all: impl Iterator<Item = &'a CertificateEntry>,
    place: Place,
) -> Result<Value, ApiError> {
    let key = |entry: &&CertificateEntry| (entry.dates.created, entry.id.to_string());
    let show = move |entry: &&CertificateEntry| {
        json!({
            "certificateArn": place.arn("cert", &entry.id),
            "certificateId": entry.id,
            "status": entry.status.as_str(),
            "certificateMode": entry.mode.as_str(),
            "creationDate": timestamp(entry.dates.created),
        })
    };
    page(
        call,
        &MARKER,
        "certificates",
        Listing::by_date(call, all, key, show)?,
    )
}
