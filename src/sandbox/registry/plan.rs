//! Running a template's plan: everything or nothing.

use super::certificate::{self, AttachTo};
use super::state::State;
use super::thing::{self, NewThing};
use super::{ApiError, CertificateStatus, ErrorName, Registry, group, policy};
use crate::core::ids::{CertificateId, PolicyName, ThingName};
use crate::core::template::{
    CertificatePlan, Conflict, ExistingThing, Plan, PolicyPlan, ThingPlan, status_change,
    thing_change,
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
    /// The certificate's status now.
    pub status: CertificateStatus,
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
        self.mutate(|state, _| {
            if state.certificates.get(id.as_str()).is_none() {
                return Err(certificate::no_certificate(id));
            }
            let thing_created = match &plan.thing {
                Some(wanted) => make_thing(state, wanted, now)?,
                None => false,
            };
            for wanted in &plan.policies {
                make_policy(state, wanted, now)?;
            }
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
            let status = settle(state, id, &plan.certificate, now)?;
            Ok(Provisioned {
                thing: plan.thing.as_ref().map(|wanted| wanted.name.clone()),
                thing_created,
                policies: plan.policies.iter().map(|p| p.name().clone()).collect(),
                status,
            })
        })
    }
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
