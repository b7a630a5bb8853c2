//! IoT policies: versions, and what they are attached to.

use std::sync::Arc;

use super::certificate::{certificate_of_arn, no_certificate};
use super::entities::{CertificateEntry, Dates, Policy, PolicyVersion, Thing};
use super::state::State;
use super::{ApiError, ErrorName, Registry};
use crate::core::ids::{CertificateId, Place, PolicyName, ThingName};
use crate::core::template::policy_problem;
use crate::core::time::UtcTime;

/// The most versions of one policy.
const VERSIONS: usize = 5;
/// The most policies on one certificate, and on one thing group.
const PER_CERTIFICATE: usize = 10;
const PER_GROUP: usize = 2;

/// What a policy can be attached to.
enum Target {
    Certificate(CertificateId),
    Group(ThingName),
}

impl Registry {
    /// `CreatePolicy`. The name of one that exists is refused, even with the same document.
    ///
    /// # Errors
    /// `ResourceAlreadyExistsException`, `MalformedPolicyException`.
    pub fn create_policy(
        &mut self,
        name: &PolicyName,
        document: &str,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            if state.policies.get(name.as_str()).is_some() {
                let arn = place.arn("policy", name);
                return Err(ApiError::exists("policy", name.as_str(), arn));
            }
            create(state, name, document, now)
        })
    }

    /// A policy.
    pub fn policy(&self, name: &PolicyName) -> Option<&Policy> {
        self.state.policies.get(name.as_str())
    }

    /// Every policy, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.state.policies.all()
    }

    /// `CreatePolicyVersion`. Answers its id.
    ///
    /// # Errors
    /// `VersionsLimitExceededException` for the sixth, `MalformedPolicyException`.
    pub fn create_policy_version(
        &mut self,
        name: &PolicyName,
        document: &str,
        as_default: bool,
        now: UtcTime,
    ) -> Result<u32, ApiError> {
        self.mutate(|state, _| {
            check_document(document)?;
            let policy = state.policies.change(name.as_str());
            let policy = policy.ok_or_else(|| no_policy(name))?;
            if policy.versions.len() >= VERSIONS {
                let message =
                    format!("The policy {name} already has the maximum number of versions (5)");
                return Err(ApiError::new(ErrorName::VersionsLimitExceeded, message));
            }
            let id = policy.next;
            policy.next += 1;
            policy.versions.push(PolicyVersion {
                id,
                document: Arc::from(document),
                created: now,
            });
            if as_default {
                policy.default = id;
            }
            policy.dates.modified = now;
            Ok(id)
        })
    }

    /// `SetDefaultPolicyVersion`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn set_default_policy_version(
        &mut self,
        name: &PolicyName,
        version: u32,
        now: UtcTime,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let policy = state.policies.change(name.as_str());
            let policy = policy.ok_or_else(|| no_policy(name))?;
            check_version(policy, version)?;
            policy.default = version;
            policy.dates.modified = now;
            Ok(())
        })
    }

    /// `DeletePolicyVersion`.
    ///
    /// # Errors
    /// `DeleteConflictException` for the default version.
    pub fn delete_policy_version(
        &mut self,
        name: &PolicyName,
        version: u32,
    ) -> Result<(), ApiError> {
        self.mutate(|state, _| {
            let policy = state.policies.change(name.as_str());
            let policy = policy.ok_or_else(|| no_policy(name))?;
            check_version(policy, version)?;
            if policy.default == version {
                let message = "Cannot delete the default version of a policy";
                return Err(ApiError::new(ErrorName::DeleteConflict, message));
            }
            policy.versions.retain(|v| v.id != version);
            Ok(())
        })
    }

    /// `DeletePolicy`.
    ///
    /// # Errors
    /// `DeleteConflictException` while it is attached or has a second version.
    pub fn delete_policy(&mut self, name: &PolicyName) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let policy = state.policies.get(name.as_str());
            let policy = policy.ok_or_else(|| no_policy(name))?;
            if !targets(state, place, name).is_empty() {
                let message = format!(
                    "The policy cannot be deleted as the policy is attached to one or more \
                     principals (name={name})"
                );
                return Err(ApiError::new(ErrorName::DeleteConflict, message));
            }
            if policy.versions.len() > 1 {
                let message = format!(
                    "Cannot delete the policy because it has one or more policy versions attached \
                     to it (name={name})"
                );
                return Err(ApiError::new(ErrorName::DeleteConflict, message));
            }
            state.tags.remove(&place.arn("policy", name));
            state.policies.remove(name.as_str());
            Ok(())
        })
    }

    /// `AttachPolicy` to the ARN of a certificate or thing group; the same again changes nothing.
    ///
    /// # Errors
    /// `ResourceNotFoundException`, `LimitExceededException`.
    pub fn attach_policy(&mut self, name: &PolicyName, target: &str) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            if state.policies.get(name.as_str()).is_none() {
                return Err(no_policy(name));
            }
            match target_of(target, place)? {
                Target::Certificate(id) => attach_to_certificate(state, name, &id),
                Target::Group(group) => {
                    let entry = state.groups.change(group.as_str());
                    let entry = entry.ok_or_else(|| ApiError::not_found("thing group", &group))?;
                    add(&mut entry.policies, name, PER_GROUP, "thing group")
                }
            }
        })
    }

    /// `DetachPolicy`; one that is not attached is no error.
    ///
    /// # Errors
    /// `InvalidRequestException` for a target that is none.
    pub fn detach_policy(&mut self, name: &PolicyName, target: &str) -> Result<(), ApiError> {
        self.mutate(|state, place| {
            let policies = match target_of(target, place)? {
                Target::Certificate(id) => state
                    .certificates
                    .change(id.as_str())
                    .map(|entry| &mut entry.policies),
                Target::Group(group) => state
                    .groups
                    .change(group.as_str())
                    .map(|entry| &mut entry.policies),
            };
            if let Some(policies) = policies {
                policies.retain(|one| one != name);
            }
            Ok(())
        })
    }

    /// `ListAttachedPolicies`; `recursive` adds those of the groups above a thing group.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn attached_policies(
        &self,
        target: &str,
        recursive: bool,
    ) -> Result<Vec<PolicyName>, ApiError> {
        match target_of(target, &self.place)? {
            Target::Certificate(id) => {
                let entry = self.state.certificates.get(id.as_str());
                Ok(entry.ok_or_else(|| no_certificate(&id))?.policies.clone())
            }
            Target::Group(group) => {
                let entry = self.state.groups.get(group.as_str());
                let entry = entry.ok_or_else(|| ApiError::not_found("thing group", &group))?;
                Ok(if recursive {
                    self.policies_of_group_and_above(&group)
                } else {
                    entry.policies.clone()
                })
            }
        }
    }

    /// `ListTargetsForPolicy`: ARNs.
    ///
    /// # Errors
    /// `ResourceNotFoundException`.
    pub fn targets_of_policy(&self, name: &PolicyName) -> Result<Vec<String>, ApiError> {
        if self.state.policies.get(name.as_str()).is_none() {
            return Err(no_policy(name));
        }
        Ok(targets(&self.state, &self.place, name))
    }

    /// The policies of a thing's groups and of the groups above them.
    pub(super) fn policies_of_groups(&self, thing: &Thing) -> Vec<PolicyName> {
        let mut all = Vec::new();
        for group in &thing.groups {
            all.extend(self.policies_of_group_and_above(group));
        }
        all.dedup();
        all
    }

    fn policies_of_group_and_above(&self, group: &ThingName) -> Vec<PolicyName> {
        let mut all = Vec::new();
        let mut next = Some(group);
        while let Some(entry) = next.and_then(|name| self.state.groups.get(name.as_str())) {
            all.extend(entry.policies.iter().cloned());
            next = entry.parent.as_ref();
        }
        all
    }
}

/// Makes a policy with its first version, inside a mutation.
pub(super) fn create(
    state: &mut State,
    name: &PolicyName,
    document: &str,
    now: UtcTime,
) -> Result<(), ApiError> {
    check_document(document)?;
    let version = PolicyVersion {
        id: 1,
        document: Arc::from(document),
        created: now,
    };
    let policy = Policy {
        name: name.clone(),
        versions: vec![version],
        default: 1,
        next: 2,
        dates: Dates::new(now),
    };
    state.policies.put(name.as_str(), policy);
    Ok(())
}

/// Attaches a policy that exists to a certificate, inside a mutation.
pub(super) fn attach_to_certificate(
    state: &mut State,
    name: &PolicyName,
    id: &CertificateId,
) -> Result<(), ApiError> {
    let entry: Option<&mut CertificateEntry> = state.certificates.change(id.as_str());
    let entry = entry.ok_or_else(|| no_certificate(id))?;
    add(&mut entry.policies, name, PER_CERTIFICATE, "certificate")
}

pub(super) fn no_policy(name: &PolicyName) -> ApiError {
    ApiError::not_found("policy", name)
}

fn add(
    policies: &mut Vec<PolicyName>,
    name: &PolicyName,
    most: usize,
    what: &str,
) -> Result<(), ApiError> {
    if policies.contains(name) {
        return Ok(());
    }
    if policies.len() >= most {
        let message = format!("a {what} takes at most {most} policies");
        return Err(ApiError::new(ErrorName::LimitExceeded, message));
    }
    policies.push(name.clone());
    Ok(())
}

fn check_document(document: &str) -> Result<(), ApiError> {
    match policy_problem(document) {
        Some(problem) => Err(ApiError::new(ErrorName::MalformedPolicy, problem)),
        None => Ok(()),
    }
}

fn check_version(policy: &Policy, version: u32) -> Result<(), ApiError> {
    if policy.versions.iter().any(|v| v.id == version) {
        return Ok(());
    }
    let what = format!("version {version} of policy");
    Err(ApiError::not_found(&what, &policy.name))
}

fn target_of(target: &str, place: &Place) -> Result<Target, ApiError> {
    if let Some(id) = certificate_of_arn(target, place) {
        return Ok(Target::Certificate(id));
    }
    if let Some(name) = target.strip_prefix(&place.arn("thinggroup", "")) {
        return Ok(Target::Group(name.parse()?));
    }
    let shown: String = target.chars().take(120).collect();
    Err(ApiError::invalid(format!(
        "`{shown}` is not the ARN of a certificate or thing group of this account and Region"
    )))
}

fn targets(state: &State, place: &Place, name: &PolicyName) -> Vec<String> {
    let certificates = state
        .certificates
        .all()
        .filter(|entry| entry.policies.contains(name))
        .map(|entry| place.arn("cert", &entry.id));
    let groups = state
        .groups
        .all()
        .filter(|entry| entry.policies.contains(name))
        .map(|entry| place.arn("thinggroup", &entry.name));
    certificates.chain(groups).collect()
}
