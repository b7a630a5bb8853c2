//! CA certificates and the registration code.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, Members, generation, missing, put, put_dates, timestamp};
use super::page::{Listing, MARKER, page};
use super::{Operation, operation};
use crate::core::ids::{CertificateId, TemplateName};
use crate::core::status::CertificateMode;
use crate::sandbox::registry::{
    ApiError, CaChange, CaEntry, CaRegistration, RegistrationConfig, Registry,
};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "GetRegistrationCode",
        MethodFilter::GET,
        "/registrationcode",
        registration_code,
    ),
    operation(
        "DeleteRegistrationCode",
        MethodFilter::DELETE,
        "/registrationcode",
        delete_code,
    ),
    operation(
        "RegisterCACertificate",
        MethodFilter::POST,
        "/cacertificate",
        register,
    ),
    operation(
        "DescribeCACertificate",
        MethodFilter::GET,
        "/cacertificate/{id}",
        describe,
    ),
    operation(
        "UpdateCACertificate",
        MethodFilter::PUT,
        "/cacertificate/{id}",
        update,
    ),
    operation(
        "DeleteCACertificate",
        MethodFilter::DELETE,
        "/cacertificate/{id}",
        delete,
    ),
    operation(
        "ListCACertificates",
        MethodFilter::GET,
        "/cacertificates",
        list,
    ),
];

fn registration_code(registry: &mut Registry, _: &Call) -> Result<Value, ApiError> {
    Ok(json!({ "registrationCode": registry.registration_code()? }))
}

fn delete_code(registry: &mut Registry, _: &Call) -> Result<Value, ApiError> {
    registry.delete_registration_code()?;
    Ok(Value::Null)
}

fn register(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let mode = call
        .name("certificateMode")?
        .unwrap_or(CertificateMode::Default);
    let request = CaRegistration {
        certificate: call.need_certificate("caCertificate")?,
        verification: call.certificate("verificationCertificate")?,
        mode,
        active: call.flag("setAsActive")?,
        auto_registration: call.flag("allowAutoRegistration")?,
        config: config(call.inner("registrationConfig")?)?,
    };
    let arn = registry.place().arn("cacert", request.certificate.id());
    let tags = call.tags()?;
    let id = registry.together(|registry| {
        let id = registry.register_ca(request, call.now)?;
        registry.tag(&arn, tags)?;
        Ok(id)
    })?;
    Ok(json!({
        "certificateArn": arn,
        "certificateId": id,
    }))
}

fn config(members: Option<Members<'_>>) -> Result<Option<RegistrationConfig>, ApiError> {
    let Some(members) = members else {
        return Ok(None);
    };
    let name = members.name::<TemplateName>("templateName")?;
    let body = members.text("templateBody")?;
    let role = members.text("roleArn")?;
    match (name, body, role) {
        (None, None, None) => Ok(None),
        (Some(name), None, None) => Ok(Some(RegistrationConfig::Named(name))),
        (Some(_), ..) => Err(ApiError::invalid(
            "registrationConfig has either templateName, or templateBody and roleArn",
        )),
        (None, Some(body), Some(role)) => Ok(Some(RegistrationConfig::Inline {
            body: body.to_owned(),
            role: role.to_owned(),
        })),
        (None, None, Some(_)) => Err(missing("registrationConfig.templateBody")),
        (None, Some(_), None) => Err(missing("registrationConfig.roleArn")),
    }
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let id: CertificateId = call.label("id")?;
    let place = registry.place().clone();
    let entry = registry.ca(&id);
    let ca = entry.ok_or_else(|| ApiError::not_found("CA certificate", &id))?;
    let mut description = json!({
        "certificateArn": place.arn("cacert", &ca.id),
        "certificateId": ca.id,
        "status": status(ca),
        "certificatePem": ca.certificate.to_pem(),
        "ownedBy": place.account,
        "autoRegistrationStatus": if ca.auto_registration { "ENABLE" } else { "DISABLE" },
        "customerVersion": ca.version,
        "generationId": generation(ca.id.as_str(), ca.version),
        "validity": {
            "notBefore": timestamp(ca.certificate.validity.not_before),
            "notAfter": timestamp(ca.certificate.validity.not_after),
        },
        "certificateMode": ca.mode.as_str(),
    });
    put_dates(&mut description, ca.dates);
    let mut answer = json!({ "certificateDescription": description });
    let config = ca.config.as_ref().map(|config| match config {
        RegistrationConfig::Named(name) => json!({ "templateName": name }),
        RegistrationConfig::Inline { body, role } => {
            json!({ "templateBody": body, "roleArn": role })
        }
    });
    put(&mut answer, "registrationConfig", config);
    Ok(answer)
}

fn update(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let change = CaChange {
        active: choice(call, "newStatus", "ACTIVE", "INACTIVE")?,
        auto_registration: choice(call, "newAutoRegistrationStatus", "ENABLE", "DISABLE")?,
        config: config(call.inner("registrationConfig")?)?,
        remove_config: call.body().flag("removeAutoRegistration")?.unwrap_or(false),
    };
    registry.update_ca(&call.label("id")?, change, call.now)?;
    Ok(Value::Null)
}

fn choice(call: &Call, name: &str, yes: &str, no: &str) -> Result<Option<bool>, ApiError> {
    match call.query(name) {
        None => Ok(None),
        Some(word) if word == yes => Ok(Some(true)),
        Some(word) if word == no => Ok(Some(false)),
        Some(_) => Err(ApiError::invalid(format!(
            "{name} is neither {yes} nor {no}"
        ))),
    }
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_ca(&call.label("id")?)?;
    Ok(Value::Null)
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let wanted = call.query("templateName");
    let cas = registry.cas().filter(|ca| {
        wanted.is_none_or(|name| ca.template().is_some_and(|named| named.as_str() == name))
    });
    let key = |ca: &&CaEntry| (ca.dates.created, ca.id.to_string());
    let show = move |ca: &&CaEntry| {
        json!({
            "certificateArn": place.arn("cacert", &ca.id),
            "certificateId": ca.id,
            "status": status(ca),
            "creationDate": timestamp(ca.dates.created),
        })
    };
    page(
        call,
        &MARKER,
        "certificates",
        Listing::by_date(call, cas, key, show)?,
    )
}

fn status(ca: &CaEntry) -> &'static str {
    if ca.active { "ACTIVE" } else { "INACTIVE" }
}
