//! Running a template's plan: everything or nothing.

use super::certificate::{self, AttachTo, CertificateRegistration};
use super::state::State;
use super::thing::{self, NewThing};
use super::{
    ApiError, CertificateMode, CertificateStatus, ErrorName, Registry, group, issued, policy,
};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place, PolicyName, ThingName};
use crate::core::template::{
    CertificatePlan, CertificateSource, Conflict, ExistingThing, Plan, PolicyPlan, ThingPlan,
    status_change, thing_change,
};
use crate::core::time::UtcTime;

/// What running a plan made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Provisioned {
    /// The thing, if the plan has one.
    pub thing: Option<ThingName>,
    /// Whether the thing was not there before.
    pub thing_created: bool,
    /// The policies attached to the certificate.
    pub policies: Vec<PolicyName>,
    /// The certificate's status now; `None` when the plan has no certificate.
    pub status: Option<CertificateStatus>,
}

impl Registry {
    /// Runs a plan for a registered certificate, in the order of the developer guide: the thing,
    /// the policies, their attachment, the attachment to the thing, and the status last. A failure
    /// leaves everything as it was, the certificate `PENDING_ACTIVATION`.
    ///
    /// # Errors
    /// `ResourceNotFoundException` for a policy, type, group or billing group that is not there,
    /// `ConflictingResourceUpdateException` where an override setting says FAIL, and quotas.
    pub fn run_plan(
        &mut self,
        id: &CertificateId,
        plan: &Plan,
        now: UtcTime,
    ) -> Result<Provisioned, ApiError> {
        self.mutate(|state, _| carry_out(state, id, plan, now))
    }

    /// `RegisterThing`: finds, makes or registers the certificate that the plan names, and runs the
    /// plan for it. Answers the certificate's id, if the plan has one.
    ///
    /// # Errors
    /// As [`Registry::run_plan`], and what the certificate is refused for.
    pub fn register_thing(
        &mut self,
        plan: &Plan,
        now: UtcTime,
    ) -> Result<(Option<CertificateId>, Provisioned), ApiError> {
        self.mutate(
            |state, place| match certificate_of(state, place, plan, now)? {
                Some(id) => {
                    let done = carry_out(state, &id, plan, now)?;
                    Ok((Some(id), done))
                }
                None => Ok((None, without_certificate(state, plan, now)?)),
            },
        )
    }
}

/// Runs a plan, inside a mutation.
pub(super) fn carry_out(
    state: &mut State,
    id: &CertificateId,
    plan: &Plan,
    now: UtcTime,
) -> Result<Provisioned, ApiError> {
    if state.certificates.get(id.as_str()).is_none() {
        return Err(certificate::no_certificate(id));
    }
    let mut done = without_certificate(state, plan, now)?;
    for wanted in &plan.policies {
        policy::attach_to_certificate(state, wanted.name(), id)?;
    }
    if let Some(wanted) = &plan.thing {
        let request = AttachTo {
            thing: wanted.name.clone(),
            certificate: id.clone(),
            exclusive: plan.certificate.exclusive,
        };
        certificate::attach(state, &request)?;
    }
    done.status = Some(settle(state, id, &plan.certificate, now)?);
    Ok(done)
}

/// Makes what the plan wants beside the certificate.
fn without_certificate(
    state: &mut State,
    plan: &Plan,
    now: UtcTime,
) -> Result<Provisioned, ApiError> {
    let thing_created = match &plan.thing {
        Some(wanted) => make_thing(state, wanted, now)?,
        None => false,
    };
    for wanted in &plan.policies {
        make_policy(state, wanted, now)?;
    }
    Ok(Provisioned {
        thing: plan.thing.as_ref().map(|wanted| wanted.name.clone()),
        thing_created,
        policies: plan.policies.iter().map(|p| p.name().clone()).collect(),
        status: None,
    })
}

/// The certificate that the plan is for: one that is there, or one that is made or registered now.
fn certificate_of(
    state: &mut State,
    place: &Place,
    plan: &Plan,
    now: UtcTime,
) -> Result<Option<CertificateId>, ApiError> {
    match &plan.certificate.source {
        CertificateSource::None => Ok(None),
        CertificateSource::Id(id) => Ok(Some(id.parse()?)),
        CertificateSource::Request(csr) => {
            let request = issued::Request::parse(csr)?;
            let made = issued::issue(state, &request, now)?;
            let mut entry = certificate::entry(&made, None, CertificateMode::Default, now);
            entry.status = CertificateStatus::PendingActivation;
            state.certificates.put(made.id().as_str(), entry);
            Ok(Some(made.id().clone()))
        }
        CertificateSource::Pem { certificate, ca } => {
            let ca = ca.as_deref().map(first_certificate).transpose()?;
            let given = first_certificate(certificate)?;
            let id = given.id().clone();
            if state.certificates.get(id.as_str()).is_some() {
                return Ok(Some(id));
            }
            let request = CertificateRegistration {
                certificate: given,
                ca,
                status: CertificateStatus::PendingActivation,
                without_ca: false,
            };
            certificate::register(state, place, &request, now).map(Some)
        }
    }
}

fn first_certificate(pem: &str) -> Result<Certificate, ApiError> {
    let refused = |reason: String| ApiError::new(ErrorName::CertificateValidation, reason);
    let all = Certificate::all_from_pem(pem.as_bytes());
    let first = all.map(|all| all.into_iter().next());
    first
        .map_err(|error| refused(error.to_string()))?
        .ok_or_else(|| refused("there is no certificate in the PEM".into()))
}

/// Answers whether the thing is new.
fn make_thing(state: &mut State, wanted: &ThingPlan, now: UtcTime) -> Result<bool, ApiError> {
    let is_new = state.things.get(wanted.name.as_str()).is_none();
    if is_new {
        let request = NewThing {
            name: wanted.name.clone(),
            type_name: wanted.type_name.clone(),
            attributes: wanted.attributes.clone(),
            billing_group: wanted.billing_group.clone(),
        };
        thing::create(state, request, now)?;
        for name in &wanted.groups {
            group::join(state, &wanted.name, name)?;
        }
    } else {
        change_thing(state, wanted, now)?;
    }
    Ok(is_new)
}

/// What the override settings make of a thing that is there; answers what was decided.
fn change_thing(state: &mut State, wanted: &ThingPlan, now: UtcTime) -> Result<(), ApiError> {
    thing::check_type(state, wanted.type_name.as_ref())?;
    let Some(there) = state.things.get(wanted.name.as_str()) else {
        return Ok(());
    };
    let existing = ExistingThing {
        type_name: there.type_name.clone(),
        attributes: there.attributes.clone(),
        groups: there.groups.clone(),
        billing_group: there.billing_group.clone(),
    };
    let after = thing_change(wanted, &existing).map_err(refused)?.after;
    if let Some(name) = after
        .billing_group
        .as_ref()
        .filter(|_| after.billing_group != existing.billing_group)
    {
        group::bill(state, &wanted.name, name)?;
    }
    if let Some(thing) = state.things.change(wanted.name.as_str()) {
        thing.groups.retain(|name| after.groups.contains(name));
        let changed =
            (&thing.type_name, &thing.attributes) != (&after.type_name, &after.attributes);
        if changed {
            thing.type_name = after.type_name;
            thing.attributes = after.attributes;
            thing::touch(thing, now);
        }
    }
    let joined = after.groups.difference(&existing.groups);
    joined
        .into_iter()
        .try_for_each(|name| group::join(state, &wanted.name, name))
}

fn make_policy(state: &mut State, wanted: &PolicyPlan, now: UtcTime) -> Result<(), ApiError> {
    let name = wanted.name();
    match (wanted, state.policies.get(name.as_str()).is_some()) {
        (_, true) => Ok(()),
        (PolicyPlan::Named(_), false) => Err(policy::no_policy(name)),
        (PolicyPlan::Document { document, .. }, false) => {
            policy::create(state, name, document, now)
        }
    }
}

fn settle(
    state: &mut State,
    id: &CertificateId,
    plan: &CertificatePlan,
    now: UtcTime,
) -> Result<CertificateStatus, ApiError> {
    let entry = state.certificates.get(id.as_str());
    let before = entry
        .map(|entry| entry.status)
        .ok_or_else(|| certificate::no_certificate(id))?;
    let change = status_change(plan, before).map_err(refused)?;
    if change.after != before {
        certificate::set_status(state, id, change.after, now);
    }
    Ok(change.after)
}

fn refused(conflict: Conflict) -> ApiError {
    let name = match conflict {
        Conflict::Limit(_) => ErrorName::InvalidRequest,
        Conflict::Status(_) | Conflict::Thing { .. } => ErrorName::ConflictingResourceUpdate,
    };
    ApiError::new(name, conflict.to_string())
}
