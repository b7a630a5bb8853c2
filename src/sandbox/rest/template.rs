//! Provisioning templates.

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, missing, put, put_dates, timestamp};
use super::page::{Listing, TOKEN, page};
use super::{Operation, operation};
use crate::core::ids::TemplateName;
use crate::core::template::TemplateKind;
use crate::sandbox::registry::{
    ApiError, NewTemplate, ProvisioningTemplate, Registry, TemplateChange, TemplateVersion,
};

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "CreateProvisioningTemplate",
        MethodFilter::POST,
        "/provisioning-templates",
        create,
    ),
    operation(
        "ListProvisioningTemplates",
        MethodFilter::GET,
        "/provisioning-templates",
        list,
    ),
    operation(
        "DescribeProvisioningTemplate",
        MethodFilter::GET,
        "/provisioning-templates/{name}",
        describe,
    ),
    operation(
        "UpdateProvisioningTemplate",
        MethodFilter::PATCH,
        "/provisioning-templates/{name}",
        update,
    ),
    operation(
        "DeleteProvisioningTemplate",
        MethodFilter::DELETE,
        "/provisioning-templates/{name}",
        delete,
    ),
    operation(
        "CreateProvisioningTemplateVersion",
        MethodFilter::POST,
        "/provisioning-templates/{name}/versions",
        create_version,
    ),
    operation(
        "ListProvisioningTemplateVersions",
        MethodFilter::GET,
        "/provisioning-templates/{name}/versions",
        list_versions,
    ),
    operation(
        "DescribeProvisioningTemplateVersion",
        MethodFilter::GET,
        "/provisioning-templates/{name}/versions/{version}",
        describe_version,
    ),
    operation(
        "DeleteProvisioningTemplateVersion",
        MethodFilter::DELETE,
        "/provisioning-templates/{name}/versions/{version}",
        delete_version,
    ),
];

fn create(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: TemplateName = call
        .name("templateName")?
        .ok_or_else(|| missing("templateName"))?;
    let request = NewTemplate {
        name: name.clone(),
        kind: call
            .name("type")?
            .unwrap_or(TemplateKind::FleetProvisioning),
        body: call.need("templateBody")?.to_owned(),
        role: call.need("provisioningRoleArn")?.to_owned(),
        description: call.text("description")?.map(str::to_owned),
        enabled: call.body().flag("enabled")?.unwrap_or(false),
        hook: call.member("preProvisioningHook").cloned(),
    };
    let arn = registry.place().arn("provisioningtemplate", &name);
    let tags = call.tags()?;
    registry.together(|registry| {
        registry.create_template(request, call.now)?;
        registry.tag(&arn, tags)
    })?;
    Ok(json!({
        "templateArn": arn,
        "templateName": name,
        "defaultVersionId": 1,
    }))
}

fn find<'a>(
    registry: &'a Registry,
    name: &TemplateName,
) -> Result<&'a ProvisioningTemplate, ApiError> {
    let found = registry.template(name);
    found.ok_or_else(|| ApiError::not_found("template", name))
}

fn describe(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: TemplateName = call.label("name")?;
    let template = find(registry, &name)?;
    let mut answer = json!({
        "templateArn": registry.place().arn("provisioningtemplate", &name),
        "templateName": name,
        "defaultVersionId": template.default,
        "templateBody": template.default_version().map_or("", |v| &v.body),
        "enabled": template.enabled,
        "provisioningRoleArn": template.role,
        "type": template.kind.as_str(),
    });
    put_dates(&mut answer, template.dates);
    put(&mut answer, "description", template.description.clone());
    put(&mut answer, "preProvisioningHook", template.hook.clone());
    Ok(answer)
}

fn update(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let body = call.body();
    let change = TemplateChange {
        description: body.text("description")?.map(str::to_owned),
        enabled: body.flag("enabled")?,
        default: body.number("defaultVersionId")?,
        role: body.text("provisioningRoleArn")?.map(str::to_owned),
        hook: call.member("preProvisioningHook").cloned(),
        remove_hook: body.flag("removePreProvisioningHook")?.unwrap_or(false),
    };
    registry.update_template(&call.label("name")?, change, call.now)?;
    Ok(Value::Null)
}

fn delete(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_template(&call.label("name")?)?;
    Ok(Value::Null)
}

fn list(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let place = registry.place().clone();
    let show = move |template: &&ProvisioningTemplate| {
        let mut one = json!({
            "templateArn": place.arn("provisioningtemplate", &template.name),
            "templateName": template.name,
            "enabled": template.enabled,
            "type": template.kind.as_str(),
        });
        put_dates(&mut one, template.dates);
        put(&mut one, "description", template.description.clone());
        one
    };
    let list = Listing::by_name(registry.templates(), |t| t.name.to_string(), show);
    page(call, &TOKEN, "templates", list)
}

fn create_version(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: TemplateName = call.label("name")?;
    let body = call.need("templateBody")?.to_owned();
    let as_default = call.flag("setAsDefault")?;
    let id = registry.create_template_version(&name, body, as_default, call.now)?;
    Ok(json!({
        "templateArn": registry.place().arn("provisioningtemplate", &name),
        "templateName": name,
        "versionId": id,
        "isDefaultVersion": as_default,
    }))
}

fn version(call: &Call) -> Result<u32, ApiError> {
    let text = call.raw_label("version");
    text.parse()
        .map_err(|_| ApiError::invalid(format!("`{text}` is not a template version id")))
}

fn describe_version(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let name: TemplateName = call.label("name")?;
    let id = version(call)?;
    let template = find(registry, &name)?;
    let found = template.versions.iter().find(|v| v.id == id);
    let found =
        found.ok_or_else(|| ApiError::not_found(&format!("version {id} of template"), &name))?;
    Ok(json!({
        "versionId": id,
        "creationDate": timestamp(found.created),
        "templateBody": found.body,
        "isDefaultVersion": id == template.default,
    }))
}

fn list_versions(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    let template = find(registry, &call.label("name")?)?;
    let default = template.default;
    let show = move |v: &&TemplateVersion| {
        json!({
            "versionId": v.id,
            "creationDate": timestamp(v.created),
            "isDefaultVersion": v.id == default,
        })
    };
    let list = Listing::by_name(template.versions.iter(), |v| format!("{:010}", v.id), show);
    page(call, &TOKEN, "versions", list)
}

fn delete_version(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    registry.delete_template_version(&call.label("name")?, version(call)?)?;
    Ok(Value::Null)
}
