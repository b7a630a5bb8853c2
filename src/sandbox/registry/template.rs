//! Provisioning templates and their versions.

use super::entities::{Dates, ProvisioningTemplate, RegistrationConfig, TemplateVersion};
use super::state::State;
use super::{ApiError, ErrorName, Registry};
use crate::core::finding::Severity;
use crate::core::ids::TemplateName;
use crate::core::template::{Template, TemplateKind};
use crate::core::time::UtcTime;

/// The most versions of one template, and the most templates. Neither is documented with
/// certainty; these are the quotas that AWS's console shows.
const VERSIONS: usize = 5;
const TEMPLATES: usize = 256;

/// `CreateProvisioningTemplate`.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// Its name.
    pub name: TemplateName,
    /// `type`.
    pub kind: TemplateKind,
    /// `templateBody`.
    pub body: String,
    /// `provisioningRoleArn`.
    pub role: String,
    /// `description`.
    pub description: Option<String>,
    /// `enabled`.
    pub enabled: bool,
    /// `preProvisioningHook`.
    pub hook: Option<serde_json::Value>,
}

/// `UpdateProvisioningTemplate`: what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct TemplateChange {
    /// `description`.
    pub description: Option<String>,
    /// `enabled`.
    pub enabled: Option<bool>,
    /// `defaultVersionId`.
    pub default: Option<u32>,
    /// `provisioningRoleArn`.
    pub role: Option<String>,
    /// `preProvisioningHook`.
    pub hook: Option<serde_json::Value>,
    /// `removePreProvisioningHook`.
    pub remove_hook: bool,
}

impl Registry {
    /// `CreateProvisioningTemplate`, with version 1 as the default.
    ///
    /// # Errors
    /// `ResourceAlreadyExistsException`, `LimitExceededException`, `InvalidRequestException`.
    pub fn create_template(&mut self, request: NewTemplate, now: UtcTime) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let name = request.name.clone();
            if state.templates.get(name.as_str()).is_some() {
                let arn = place.arn("provisioningtemplate", &name);
                return Err(ApiError::exists("template", name.as_str(), arn));
            }
            if state.templates.len() >= TEMPLATES {
                let message = "an account has at most 256 provisioning templates";
                return Err(ApiError::new(ErrorName::LimitExceeded, message));
            }
            check_body(&request.body, request.kind)?;
            check_role(&request.role)?;
            check_hook(request.kind, request.hook.as_ref())?;
            let version = TemplateVersion {
                id: 1,
                body: request.body,
                created: now,
            };
            let template = ProvisioningTemplate {
                name: request.name,
                kind: request.kind,
                description: request.description,
                enabled: request.enabled,
                role: request.role,
                hook: request.hook,
                versions: vec![version],
                default: 1,
                next: 2,
                dates: Dates::new(now),
            };
            state.templates.put(name.as_str(), template);
            Ok(())
        })
    }

    /// A provisioning template.
    pub fn template(&self, name: &TemplateName) -> Option<&ProvisioningTemplate> {
        self.state.templates.get(name.as_str())
    }

    /// Every provisioning template, by name.
    pub fn templates(&self) -> impl Iterator<Item = &ProvisioningTemplate> {
        self.state.templates.all()
    }

    /// `UpdateProvisioningTemplate`.
    ///
    /// # Errors
    /// `ResourceNotFoundException` for the template or the version, `InvalidRequestException`.
    pub fn update_template(
        &mut self,
        name: &TemplateName,
        change: TemplateChange,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let template = state.templates.change(name.as_str());
            let template = template.ok_or_else(|| no_template(name))?;
            if let Some(id) = change.default {
                check_version(template, id)?;
                template.default = id;
            }
            if let Some(role) = change.role {
                check_role(&role)?;
                template.role = role;
            }
            check_hook(template.kind, change.hook.as_ref())?;
            if change.remove_hook {
                template.hook = None;
            }
            template.hook = change.hook.or(template.hook.take());
            template.description = change.description.or(template.description.take());
            template.enabled = change.enabled.unwrap_or(template.enabled);
            template.dates.modified = now;
            Ok(())
        })
    }

    /// `DeleteProvisioningTemplate`, with all its versions.
    ///
    /// # Errors
    /// `DeleteConflictException` while a CA names it.
    pub fn delete_template(&mut self, name: &TemplateName) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            if state.templates.get(name.as_str()).is_none() {
                return Err(no_template(name));
            }
            let named = RegistrationConfig::Named(name.clone());
            if let Some(ca) = state
                .cas
                .all()
                .find(|ca| ca.config.as_ref() == Some(&named))
            {
                let message = format!("template {name} is used by CA certificate {}", ca.id);
                return Err(ApiError::new(ErrorName::DeleteConflict, message));
            }
            state.tags.remove(&place.arn("provisioningtemplate", name));
            state.templates.remove(name.as_str());
            Ok(())
        })
    }

    /// `CreateProvisioningTemplateVersion`. Answers its number.
    ///
    /// # Errors
    /// `VersionsLimitExceededException` for the sixth, `InvalidRequestException`.
    pub fn create_template_version(
        &mut self,
        name: &TemplateName,
        body: String,
        as_default: bool,
        now: UtcTime,
    ) -> Result<u32, ApiError> {
        self.mutate(|state, _| {
            let template = state.templates.change(name.as_str());
            let template = template.ok_or_else(|| no_template(name))?;
            check_body(&body, template.kind)?;
            if template.versions.len() >= VERSIONS {
                let message = format!("template {name} has the maximum number of versions (5)");
                return Err(ApiError::new(ErrorName::VersionsLimitExceeded, message));
            }
            let id = template.next;
            template.next += 1;
            template.versions.push(TemplateVersion {
                id,
                body,
                created: now,
            });
            if as_default {
                template.default = id;
            }
            template.dates.modified = now;
            Ok(id)
        })
    }

    /// `DeleteProvisioningTemplateVersion`.
    ///
    /// # Errors
    /// `DeleteConflictException` for the default version.
    pub fn delete_template_version(
        &mut self,
        name: &TemplateName,
        version: u32,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let template = state.templates.change(name.as_str());
            let template = template.ok_or_else(|| no_template(name))?;
            check_version(template, version)?;
            if template.default == version {
                let message = format!("version {version} is the default version of {name}");
                return Err(ApiError::new(ErrorName::DeleteConflict, message));
            }
            template.versions.retain(|v| v.id != version);
            Ok(())
        })
    }
}

/// A body that AWS IoT takes for templates of this kind: parsed, and no error in its lint.
pub(super) fn check_body(body: &str, kind: TemplateKind) -> Result<(), ApiError> {
    let template = Template::parse(body).map_err(|e| ApiError::invalid(e.to_string()))?;
    let errors: Vec<String> = template
        .lint(kind)
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("{}: {}", finding.path, finding.message))
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid(errors.join("; ")))
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME`, 20 to 2048 characters.
pub(super) fn check_role(role: &str) -> Result<(), ApiError> {
    let mut parts = role.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (arn, partition, service, region) = (next(), next(), next(), next());
    let (account, resource) = (next(), next());
    let good = (20..=2048).contains(&role.len())
        && arn == "arn"
        && partition.starts_with("aws")
        && service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && resource.len() > "role/".len()
        && resource.starts_with("role/");
    if good {
        return Ok(());
    }
    let shown: String = role.chars().take(120).collect();
    Err(ApiError::invalid(format!(
        "`{shown}` is not a role's ARN: arn:aws:iam::123456789012:role/NAME"
    )))
}

/// Checks that a template is there and of type FLEET_PROVISIONING.
pub(super) fn check_fleet(state: &State, name: &TemplateName) -> Result<(), ApiError> {
    let template = state.templates.get(name.as_str());
    match template.ok_or_else(|| no_template(name))?.kind {
        TemplateKind::FleetProvisioning => Ok(()),
        TemplateKind::Jitp => Err(ApiError::invalid(format!(
            "template {name} is of type JITP, not FLEET_PROVISIONING"
        ))),
    }
}

fn check_hook(kind: TemplateKind, hook: Option<&serde_json::Value>) -> Result<(), ApiError> {
    if kind == TemplateKind::Jitp && hook.is_some() {
        let message = "preProvisioningHook is for templates of type FLEET_PROVISIONING only";
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

fn check_version(template: &ProvisioningTemplate, version: u32) -> Result<(), ApiError> {
    if template.versions.iter().any(|v| v.id == version) {
        return Ok(());
    }
    let what = format!("version {version} of template");
    Err(ApiError::not_found(&what, &template.name))
}

fn no_template(name: &TemplateName) -> ApiError {
    ApiError::not_found("template", name)
}
