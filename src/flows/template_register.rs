//! `template register`: lint, compare with the target, create or add a version. The policy that the
//! template names comes first, so that no template stands without it.

use serde_json::Value;

use crate::core::diff::{json_lines, same_json};
use crate::core::finding::{Finding, Severity};
use crate::core::ids::{PolicyName, TemplateName};
use crate::core::template::{
    Problem, Template, TemplateError, TemplateKind, Usage, policy_problem,
};
use crate::explain::{Explain, Kind};
use crate::ports::cloud::{
    CloudError, CloudErrorKind, CloudResult, ControlPlane, NewTemplate, TemplateUpdate,
    TemplateView,
};

/// How the template is to stand at the target.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: TemplateName,
    /// Its kind.
    pub kind: TemplateKind,
    /// Its document.
    pub body: String,
    /// The provisioning role; `None` leaves what is there.
    pub role_arn: Option<String>,
    /// The policy to create or update with it.
    pub policy: Option<(PolicyName, String)>,
}

/// One thing to do at the target.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// The policy is not there.
    CreatePolicy {
        /// Its name.
        policy: PolicyName,
    },
    /// The policy's document differs.
    UpdatePolicy {
        /// Its name.
        policy: PolicyName,
        /// The difference, line by line.
        diff: Vec<String>,
    },
    /// The template is not there.
    CreateTemplate,
    /// The template's document differs.
    NewVersion {
        /// The default version that it replaces.
        replaces: i32,
        /// The difference, line by line.
        diff: Vec<String>,
    },
    /// The provisioning role differs.
    ChangeRole {
        /// What it is.
        from: String,
        /// What is wanted.
        to: String,
    },
    /// The template is switched off.
    Enable,
}

impl Step {
    /// Whether it changes something that stands at the target, rather than adding to it.
    pub fn alters(&self) -> bool {
        !matches!(self, Self::CreatePolicy { .. } | Self::CreateTemplate)
    }
}

/// The kind a document is written for; one for `RegisterThing` is registered nowhere.
pub fn kind_of(template: &Template) -> TemplateKind {
    match template.usage() {
        Usage::Jitp => TemplateKind::Jitp,
        Usage::FleetProvisioning | Usage::RegisterThing => TemplateKind::FleetProvisioning,
    }
}

/// The policies that a template calls by name.
pub fn policies_named(body: &str) -> Vec<PolicyName> {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    json.get("Resources")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|resources| resources.values())
        .filter_map(|resource| resource.pointer("/Properties/PolicyName")?.as_str())
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// Compares the target with what is wanted; an empty plan means there is nothing to do.
///
/// # Errors
/// `template-register.*` for what AWS IoT would refuse, `cloud.*`.
pub fn plan(plane: &dyn ControlPlane, wanted: &Wanted) -> Result<Vec<Step>, RegisterError> {
    let mut errors = match Template::parse(&wanted.body) {
        Ok(template) => template.lint(wanted.kind),
        Err(error) => findings_of(&error),
    };
    errors.retain(|finding| finding.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(RegisterError::Lint(errors));
    }
    let mut steps = Vec::new();
    if let Some((name, document)) = &wanted.policy {
        if let Some(problem) = policy_problem(document) {
            return Err(RegisterError::Policy(name.clone(), problem));
        }
        match plane.get_policy(name)? {
            None => steps.push(Step::CreatePolicy {
                policy: name.clone(),
            }),
            Some(view) if same_json(&view.document, document) => {}
            Some(view) => steps.push(Step::UpdatePolicy {
                policy: name.clone(),
                diff: json_lines(&view.document, document),
            }),
        }
    }
    match plane.describe_template(&wanted.name)? {
        None if wanted.role_arn.is_none() => return Err(RegisterError::NoRole),
        None => steps.push(Step::CreateTemplate),
        Some(view) if view.kind != wanted.kind => {
            return Err(RegisterError::OtherKind(wanted.name.clone(), view.kind));
        }
        Some(view) => steps.extend(template_changes(&view, wanted)),
    }
    Ok(steps)
}

/// The places where a text is no template, as findings.
fn findings_of(error: &TemplateError) -> Vec<Finding> {
    let finding =
        |problem: &Problem| Finding::error(error.code(), &problem.path, &*problem.message);
    error.problems().iter().map(finding).collect()
}

fn template_changes(view: &TemplateView, wanted: &Wanted) -> Vec<Step> {
    let mut steps = Vec::new();
    if !same_json(&view.body, &wanted.body) {
        steps.push(Step::NewVersion {
            replaces: view.default_version,
            diff: json_lines(&view.body, &wanted.body),
        });
    }
    if let Some(role) = wanted.role_arn.as_ref().filter(|r| **r != view.role_arn) {
        steps.push(Step::ChangeRole {
            from: view.role_arn.clone(),
            to: role.clone(),
        });
    }
    if !view.enabled {
        steps.push(Step::Enable);
    }
    steps
}

/// Policies named by the template that the target does not have and this command does not bring.
///
/// # Errors
/// `cloud.*`.
pub fn missing_policies(
    plane: &dyn ControlPlane,
    wanted: &Wanted,
) -> Result<Vec<PolicyName>, RegisterError> {
    let mut missing = Vec::new();
    for name in policies_named(&wanted.body) {
        let brought = wanted.policy.as_ref().is_some_and(|(own, _)| *own == name);
        if !brought && plane.get_policy(&name)?.is_none() {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// Does the steps in order. A failure in the middle leaves what is done; the next plan has the rest.
///
/// # Errors
/// `cloud.*`.
pub fn apply(
    plane: &dyn ControlPlane,
    wanted: &Wanted,
    steps: &[Step],
) -> Result<(), RegisterError> {
    for step in steps {
        match (step, &wanted.policy) {
            (Step::CreatePolicy { policy }, Some((_, document))) => {
                plane.create_policy(policy, document)?;
            }
            (Step::UpdatePolicy { policy, .. }, Some((_, document))) => {
                new_policy_version(plane, policy, document)?;
            }
            // Without a policy there is no policy step.
            (Step::CreatePolicy { .. } | Step::UpdatePolicy { .. }, None) => {}
            (Step::CreateTemplate, _) => plane.create_template(&NewTemplate {
                name: wanted.name.clone(),
                kind: wanted.kind,
                body: wanted.body.clone(),
                role_arn: wanted.role_arn.clone().ok_or(RegisterError::NoRole)?,
            })?,
            (Step::NewVersion { .. }, _) => new_template_version(plane, wanted)?,
            (Step::ChangeRole { to, .. }, _) => plane.update_template(
                &wanted.name,
                &TemplateUpdate {
                    role_arn: Some(to.clone()),
                    ..TemplateUpdate::default()
                },
            )?,
            (Step::Enable, _) => plane.update_template(
                &wanted.name,
                &TemplateUpdate {
                    enabled: Some(true),
                    ..TemplateUpdate::default()
                },
            )?,
        }
    }
    Ok(())
}

/// AWS IoT keeps five versions: the oldest that is not the default makes room.
fn new_policy_version(
    plane: &dyn ControlPlane,
    name: &PolicyName,
    document: &str,
) -> CloudResult<()> {
    match plane.create_policy_version(name, document) {
        Err(error) if error.kind == CloudErrorKind::Limit => {
            let versions = plane.policy_versions(name)?;
            let oldest = versions
                .iter()
                .filter(|version| !version.is_default)
                .min_by_key(|version| version.id.parse::<u64>().unwrap_or(u64::MAX))
                .ok_or(error)?;
            plane.delete_policy_version(name, &oldest.id)?;
            plane.create_policy_version(name, document).map(drop)
        }
        other => other.map(drop),
    }
}

/// As [`new_policy_version`], for a template.
fn new_template_version(plane: &dyn ControlPlane, wanted: &Wanted) -> CloudResult<()> {
    match plane.create_template_version(&wanted.name, &wanted.body) {
        Err(error) if error.kind == CloudErrorKind::Limit => {
            let versions = plane.template_versions(&wanted.name)?;
            let oldest = versions
                .iter()
                .filter(|version| !version.is_default)
                .min_by_key(|version| version.version)
                .ok_or(error)?;
            plane.delete_template_version(&wanted.name, oldest.version)?;
            plane
                .create_template_version(&wanted.name, &wanted.body)
                .map(drop)
        }
        other => other.map(drop),
    }
}

/// A template that was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The control plane.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The linter's errors.
    #[error("AWS IoT would refuse this template: {}", summary(.0))]
    Lint(Vec<Finding>),
    /// No role to provision with.
    #[error("a new template needs the role that AWS IoT takes on to provision")]
    NoRole,
    /// The type cannot be changed.
    #[error("template `{0}` is there with type {1}; a template keeps its type")]
    OtherKind(TemplateName, TemplateKind),
    /// The policy document.
    #[error("AWS IoT would refuse policy `{0}`: {1}")]
    Policy(PolicyName, String),
}

fn summary(findings: &[Finding]) -> String {
    let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Explain for RegisterError {
    fn kind(&self) -> Kind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::NoRole => Kind::Usage,
            Self::OtherKind(..) => Kind::Refused,
            Self::Lint(_) | Self::Policy(..) => Kind::Input,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Cloud(error) => error.code(),
            Self::Lint(_) => "template-register.lint",
            Self::NoRole => "template-register.no-role",
            Self::OtherKind(..) => "template-register.other-kind",
            Self::Policy(..) => "template-register.policy",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Cloud(error) => error.hint(),
            Self::Lint(_) => Some("nameplate template lint FILE shows each place by itself".into()),
            Self::NoRole => Some(
                "name it with --role-arn; it trusts iot.amazonaws.com and has \
                 AWSIoTThingsRegistration"
                    .into(),
            ),
            Self::OtherKind(..) => Some("register it under another --name".into()),
            Self::Policy(..) => None,
        }
    }
}
