//! Running a template's plan: everything or nothing.

use std::collections::BTreeSet;

use super::certificate::{self, AttachTo};
use super::state::State;
use super::thing::{self, NewThing};
use super::{ApiError, CertificateStatus, ErrorName, Registry, group, policy};
use crate::core::ids::{CertificateId, PolicyName, ThingName};
use crate::core::template::{CertificatePlan, Override, Plan, PolicyPlan, ThingPlan};
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
    } else {
        change_thing(state, wanted, now)?;
        if let Some(name) = &wanted.billing_group {
            group::bill(state, &wanted.name, name)?;
        }
    }
    join_groups(state, wanted, is_new)?;
    Ok(is_new)
}

fn change_thing(state: &mut State, wanted: &ThingPlan, now: UtcTime) -> Result<(), ApiError> {
    thing::check_type(state, wanted.type_name.as_ref())?;
    let Some(there) = state.things.change(wanted.name.as_str()) else {
        return Ok(());
    };
    let before = (there.type_name.clone(), there.attributes.clone());
    if wanted.type_name.is_some() && there.type_name != wanted.type_name {
        match wanted.overrides.type_name {
            Override::DoNothing => {}
            Override::Fail => return Err(conflict(&wanted.name, "ThingTypeName")),
            Override::Replace | Override::Merge => there.type_name.clone_from(&wanted.type_name),
        }
    }
    if there.attributes != wanted.attributes {
        match wanted.overrides.attributes {
            Override::DoNothing => {}
            Override::Fail => return Err(conflict(&wanted.name, "AttributePayload")),
            Override::Merge => thing::merge(&mut there.attributes, wanted.attributes.clone()),
            Override::Replace => there.attributes.clone_from(&wanted.attributes),
        }
    }
    thing::check_attributes(&there.attributes, there.type_name.is_some())?;
    if before != (there.type_name.clone(), there.attributes.clone()) {
        thing::touch(there, now);
    }
    Ok(())
}

fn join_groups(state: &mut State, wanted: &ThingPlan, is_new: bool) -> Result<(), ApiError> {
    let groups: BTreeSet<ThingName> = wanted.groups.iter().cloned().collect();
    let there = state.things.get(wanted.name.as_str());
    let differs = there.is_some_and(|thing| thing.groups != groups);
    if !is_new && differs {
        match wanted.overrides.groups {
            Override::DoNothing => return Ok(()),
            Override::Fail => return Err(conflict(&wanted.name, "ThingGroups")),
            Override::Merge => {}
            Override::Replace => {
                if let Some(thing) = state.things.change(wanted.name.as_str()) {
                    thing.groups.retain(|name| groups.contains(name));
                }
            }
        }
    }
    groups
        .iter()
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

/// A certificate that waits for its first provisioning always gets the plan's status.
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
    if before == plan.status {
        return Ok(before);
    }
    if before != CertificateStatus::PendingActivation {
        match plan.status_override {
            Override::DoNothing => return Ok(before),
            Override::Fail => {
                return Err(ApiError::new(
                    ErrorName::ConflictingResourceUpdate,
                    format!("certificate {id} is {before}, and the template's Status says FAIL"),
                ));
            }
            Override::Merge | Override::Replace => {}
        }
    }
    certificate::set_status(state, id, plan.status, now);
    Ok(plan.status)
}

fn conflict(thing: &ThingName, setting: &str) -> ApiError {
    ApiError::new(
        ErrorName::ConflictingResourceUpdate,
        format!("thing {thing} is there and differs, and the template's {setting} says FAIL"),
    )
}
