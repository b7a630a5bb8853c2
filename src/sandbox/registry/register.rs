//! Running a template that the caller gives: RegisterThing, and the lines of registration tasks.

use std::collections::BTreeMap;

use super::{ApiError, ErrorName, Registry};
use crate::core::ids::{CertificateId, Place};
use crate::core::template::{Plan, ResourceKind, Template, Usage};
use crate::core::time::UtcTime;

/// What a template has made.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The certificate, PEM.
    pub certificate: Option<String>,
    /// ARNs by the template's logical names.
    pub arns: BTreeMap<String, String>,
}

impl Registry {
    /// `RegisterThing`.
    ///
    /// # Errors
    /// `InvalidRequestException` for the template, `ResourceRegistrationFailureException` for its
    /// run, `ConflictingResourceUpdateException` where an override setting says FAIL.
    pub fn register_by_template(
        &mut self,
        body: &str,
        parameters: &BTreeMap<String, String>,
        now: UtcTime,
    ) -> Result<Registered, ApiError> {
        let template = Template::parse(body).map_err(|e| ApiError::invalid(e.to_string()))?;
        let failed = |why: String| ApiError::new(ErrorName::ResourceRegistrationFailure, why);
        let plan = template
            .render(Usage::RegisterThing, parameters)
            .map_err(|error| failed(error.to_string()))?;
        let done = self.register_thing(&plan, now);
        let (id, _) = done.map_err(|error| match error.name {
            ErrorName::ConflictingResourceUpdate | ErrorName::InternalFailure => error,
            _ => failed(error.message),
        })?;
        let entry = id.as_ref().and_then(|id| self.certificate(id));
        Ok(Registered {
            certificate: entry.map(|entry| entry.pem.to_string()),
            arns: arns(&self.place, &template, &plan, id.as_ref()),
        })
    }
}

/// The ARNs of what the template's resources have become, by their logical names.
fn arns(
    place: &Place,
    template: &Template,
    plan: &Plan,
    id: Option<&CertificateId>,
) -> BTreeMap<String, String> {
    let mut policies = plan.policies.iter();
    let mut arn = |kind| match kind {
        ResourceKind::Thing => plan.thing.as_ref().map(|t| place.arn("thing", &t.name)),
        ResourceKind::Certificate => id.map(|id| place.arn("cert", id)),
        ResourceKind::Policy => policies.next().map(|p| place.arn("policy", p.name())),
    };
    let resources = template.resources();
    resources
        .filter_map(|(name, kind)| Some((name.to_owned(), arn(kind)?)))
        .collect()
}
