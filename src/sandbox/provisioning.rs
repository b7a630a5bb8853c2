//! Runs a CA's template for a certificate that is new, and explains it when it fails: which
//! parameter, resource or policy it was.

use std::sync::PoisonError;

use super::Shared;
use super::faults::FaultName;
use super::logs::{Record, Stage, Why};
use super::registry::{ApiError, ErrorName, Registry};
use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::status::CertificateStatus;
use crate::core::template::{Plan, PolicyPlan, RenderError, TemplateKind, jitp_parameters};
use crate::explain::Explain;

/// The counters that a failed run goes under.
const CLIENT_ERROR: &str = "ProvisionThing.ClientError";
const SERVER_ERROR: &str = "ProvisionThing.ServerError";

/// A run that failed.
pub(super) struct Failed {
    template: Option<String>,
    reason: &'static str,
    details: String,
    why: Box<Why>,
}

impl Failed {
    /// Its record.
    pub(super) fn record(self, leaf: &Certificate) -> Record {
        let mut why = self.why.of(leaf);
        why.template.clone_from(&self.template);
        let mut record = Record::failure("ProvisionDevice", self.reason, self.details).why(why);
        record.provisioning_template_name = self.template;
        record
    }
}

/// Why a certificate could not be put into the registry.
pub(super) fn unregistered(leaf: &Certificate) -> Why {
    let remedy = "mend the certificate or its CA's registration as the details say";
    Why::new(Stage::Registration, "registration.refused", remedy).of(leaf)
}

/// Runs the template; answers its name and what it did.
pub(super) fn run(
    shared: &Shared,
    leaf: &Certificate,
    ca: &CertificateId,
) -> Result<(String, String), Failed> {
    let mut registry = shared
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let Some((name, template)) = registry.jitp_template(ca) else {
        return Err(no_template(ca));
    };
    let of = |failed: Failed| Failed {
        template: Some(name.to_string()),
        ..failed
    };
    if shared.faults.has(FaultName::TemplateFail) {
        let (details, why) = on_purpose();
        return Err(of(Failed {
            template: None,
            reason: SERVER_ERROR,
            details: details.to_owned(),
            why: Box::new(why),
        }));
    }
    let values = jitp_parameters(&leaf.subject, leaf.id());
    let plan = template
        .render(TemplateKind::Jitp, &values)
        .map_err(|error| of(not_rendered(&error)))?;
    let done = registry
        .run_plan(leaf.id(), &plan, shared.clock.now())
        .map_err(|error| of(not_run(&error, &plan, &registry)))?;
    let thing = match (&done.thing, done.thing_created) {
        (Some(thing), true) => format!("thing `{thing}` created"),
        (Some(thing), false) => format!("thing `{thing}` was there"),
        (None, _) => "no thing".to_owned(),
    };
    let status = done.status.map_or("none", CertificateStatus::as_str);
    Ok((name.to_string(), format!("{thing}; certificate {status}")))
}

fn no_template(ca: &CertificateId) -> Failed {
    let remedy = "register the template again, enable it, or name another for the CA (`nameplate \
                  ca register`)";
    Failed {
        template: None,
        reason: CLIENT_ERROR,
        details: format!(
            "the template that the CA {ca} names is missing, disabled or cannot be read"
        ),
        why: Box::new(Why::new(Stage::Provisioning, "template.missing", remedy)),
    }
}

/// A run that fails because it is to, in words.
pub(super) fn on_purpose() -> (&'static str, Why) {
    let remedy = "end the fault: `nameplate sandbox fault clear template-fail`";
    let why = Why::new(Stage::Provisioning, "fault.template-fail", remedy);
    ("the fault `template-fail` is set", why)
}

fn not_rendered(error: &RenderError) -> Failed {
    Failed {
        template: None,
        reason: CLIENT_ERROR,
        details: error.to_string(),
        why: Box::new(why_not_rendered(error)),
    }
}

/// Why a template makes nothing of the values it is given.
pub(super) fn why_not_rendered(error: &RenderError) -> Why {
    let remedy = error.hint().unwrap_or_else(|| {
        "change the template, or the certificate's subject; `nameplate template plan` shows what \
         the template makes of a certificate"
            .to_owned()
    });
    let mut why = Why::new(Stage::Provisioning, error.code(), remedy);
    why.part = error.path().map(str::to_owned);
    why.parameter = match error {
        RenderError::NoValue { name }
        | RenderError::ParameterLong { name }
        | RenderError::Undeclared { name, .. } => Some(name.clone()),
        _ => None,
    };
    why
}

fn not_run(error: &ApiError, plan: &Plan, registry: &Registry) -> Failed {
    Failed {
        template: None,
        reason: match error.name {
            ErrorName::InternalFailure => SERVER_ERROR,
            _ => CLIENT_ERROR,
        },
        details: error.to_string(),
        why: Box::new(why_not_run(error, plan, registry)),
    }
}

/// Why what a template asks for cannot be done.
pub(super) fn why_not_run(error: &ApiError, plan: &Plan, registry: &Registry) -> Why {
    let remedy = match error.name {
        ErrorName::InternalFailure => "look at the disk of the state folder",
        ErrorName::ResourceNotFound => {
            "create what is missing: a template only makes the thing, and policies it writes out"
        }
        _ => "change the template, or what is in its way",
    };
    let rule = format!("template.{}", error.name.as_str());
    let mut why = Why::new(Stage::Provisioning, rule, remedy);
    why.part = failed_part(error, plan, registry);
    why
}

/// Which of the plan's resources it was: the first that is not there, or that the error names.
fn failed_part(error: &ApiError, plan: &Plan, registry: &Registry) -> Option<String> {
    let named = |policy: &&PolicyPlan| matches!(policy, PolicyPlan::Named(_));
    let missing = |policy: &&PolicyPlan| registry.policies().all(|one| one.name != *policy.name());
    if let Some(policy) = plan.policies.iter().filter(named).find(missing) {
        return Some(format!("policy `{}`", policy.name()));
    }
    let thing = plan.thing.as_ref()?;
    let of_thing = thing
        .groups
        .iter()
        .map(|name| ("thing group", name))
        .chain(thing.type_name.iter().map(|name| ("thing type", name)))
        .chain(
            thing
                .billing_group
                .iter()
                .map(|name| ("billing group", name)),
        );
    let mut named = of_thing.filter(|(_, name)| error.message.contains(name.as_str()));
    let part = named.next().map(|(kind, name)| format!("{kind} `{name}`"));
    part.or_else(|| Some(format!("thing `{}`", thing.name)))
}
