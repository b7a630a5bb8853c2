//! What becomes of one device: the plan, what it changes of what is there, the steps in their order,
//! whether the device may then connect, or the exact reason why not.

use std::collections::BTreeMap;
use std::fmt;

use super::access::{Access, Gate};
use super::{
    CertificateSource, Effect, ExistingThing, ExistingThings, Outcome, Plan, PolicyPlan, Reason,
    Template, Usage, status_change, thing_change,
};
use crate::core::ids::{CertificateId, Place, PolicyName, ThingName};
use crate::core::status::CertificateStatus;
use crate::core::subject::Subject;
use crate::explain::Explain;

/// What stands for the id of a certificate that is not signed yet.
const UNKNOWN_ID: &str = "<certificate id>";

/// One device.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who runs the template.
    pub usage: Usage,
    /// The parameters' values.
    pub values: &'a BTreeMap<String, String>,
    /// The certificate's subject, if it is known.
    pub subject: Option<&'a Subject>,
    /// The things that are there already.
    pub existing: &'a ExistingThings,
    /// Account and Region.
    pub place: &'a Place,
}

/// What becomes of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Foreseen {
    /// Whether it is provisioned and may then connect.
    #[serde(skip)]
    pub passes: bool,
    /// What is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The steps, in JITP's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What the override settings make of a thing that is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
    /// Whether it may connect as its thing.
    pub access: Access,
    /// Why it does not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// One thing that AWS IoT does.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// The certificate is put into the registry, or made for a request.
    RegisterCertificate {
        /// With this status.
        status: CertificateStatus,
    },
    /// The thing is not there.
    CreateThing {
        /// Its name.
        thing: ThingName,
    },
    /// The thing is there; the override settings decide.
    KeepThing {
        /// Its name.
        thing: ThingName,
        /// Whether something of it changes.
        changes: bool,
    },
    /// A policy that the template writes out.
    CreatePolicy {
        /// Its name, a hash.
        policy: PolicyName,
    },
    /// A policy to the certificate.
    AttachPolicy {
        /// Its name; one that the template calls by name must be there.
        policy: PolicyName,
    },
    /// The certificate to the thing.
    AttachThing {
        /// The thing.
        thing: ThingName,
        /// The certificate may then belong to no other.
        exclusive: bool,
    },
    /// The certificate's status, last.
    SetStatus {
        /// The status.
        status: CertificateStatus,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegisterCertificate { status } => {
                write!(f, "register the certificate as {status}")
            }
            Self::CreateThing { thing } => write!(f, "create thing {thing}"),
            Self::KeepThing { thing, changes } => {
                let what = if *changes { "change" } else { "leave" };
                write!(f, "{what} thing {thing}, which is there")
            }
            Self::CreatePolicy { policy } => write!(f, "create policy {policy}"),
            Self::AttachPolicy { policy } => {
                write!(f, "attach policy {policy} to the certificate")
            }
            Self::AttachThing { thing, exclusive } => {
                let only = if *exclusive { ", exclusively" } else { "" };
                write!(f, "attach the certificate to thing {thing}{only}")
            }
            Self::SetStatus { status } => write!(f, "set the certificate {status}"),
        }
    }
}

impl Template {
    /// What becomes of one device. The gate knows the documents of policies called by name.
    pub fn foresee(&self, asked: &Asked<'_>, gate: &mut Gate) -> Foreseen {
        let plan = match self.render(asked.usage, asked.values) {
            Ok(plan) => plan,
            Err(error) => return failed(None, self.reason(&error, asked.values)),
        };
        let name = plan.thing.as_ref().map(|thing| &thing.name);
        let there = name.and_then(|name| asked.existing.thing(name));
        let status = name.and_then(|name| asked.existing.status(name));
        let decided = match settle(&plan, there, status) {
            Ok(decided) => decided,
            Err(conflict) => {
                let reason = self.bare_reason(&conflict);
                return failed(Some(plan), reason);
            }
        };
        let access = match decided.status {
            CertificateStatus::Active => gate.ask(&plan, asked.subject, asked.place),
            _ => Access::Nothing,
        };
        let reason = self.access_reason(&access);
        Foreseen {
            passes: reason.is_none(),
            steps: steps(&plan, asked.usage, (there.is_some(), &decided)),
            effects: decided.effects,
            plan: Some(plan),
            access,
            reason,
        }
    }

    fn bare_reason(&self, error: &dyn Explain) -> Reason {
        Reason {
            rule: error.code(),
            message: error.to_string(),
            path: self.path_of_kind(false),
            resource: None,
            property: None,
            parameters: BTreeMap::new(),
            value: None,
            remedy: error.hint(),
        }
    }

    fn access_reason(&self, access: &Access) -> Option<Reason> {
        let Access::Denied {
            explicit,
            unresolved,
        } = access
        else {
            return None;
        };
        let why = match (explicit, unresolved.first()) {
            (true, _) => "a policy denies iot:Connect".to_owned(),
            (false, None) => "no policy allows iot:Connect".to_owned(),
            (false, Some(name)) => {
                format!("no policy allows iot:Connect, as `{name}` has no value")
            }
        };
        Some(Reason {
            rule: "template.policy-connect",
            message: format!("it is provisioned, and cannot connect as its thing: {why}"),
            path: self.path_of_kind(true),
            resource: None,
            property: None,
            parameters: BTreeMap::new(),
            value: None,
            remedy: Some("`nameplate policy simulate` shows the deciding statement".into()),
        })
    }

    /// The first policy, or the first thing.
    fn path_of_kind(&self, policy: bool) -> String {
        let wanted = |body: &super::Body| match body {
            super::Body::Policy(_) => policy,
            super::Body::Thing(_) => !policy,
            super::Body::Certificate(_) => false,
        };
        let found = self.resources.iter().find(|one| wanted(&one.body));
        found.map_or_else(|| "$.Resources".to_owned(), |one| one.path.clone())
    }
}

fn failed(plan: Option<Plan>, reason: Reason) -> Foreseen {
    Foreseen {
        passes: false,
        plan,
        steps: Vec::new(),
        effects: Vec::new(),
        access: Access::Nothing,
        reason: Some(reason),
    }
}

/// What the override settings decide.
struct Decided {
    effects: Vec<Effect>,
    status: CertificateStatus,
}

fn settle(
    plan: &Plan,
    there: Option<&ExistingThing>,
    status: Option<CertificateStatus>,
) -> Result<Decided, super::Conflict> {
    let effects = match (&plan.thing, there) {
        (Some(wanted), Some(there)) => thing_change(wanted, there)?.effects,
        _ => Vec::new(),
    };
    let status = match status {
        Some(before) => status_change(&plan.certificate, before)?.after,
        None => plan.certificate.status,
    };
    Ok(Decided { effects, status })
}

fn steps(plan: &Plan, usage: Usage, (exists, decided): (bool, &Decided)) -> Vec<Step> {
    let mut steps = Vec::new();
    let known = matches!(plan.certificate.source, CertificateSource::Id(_));
    // In fleet provisioning it was made before the template runs.
    if usage == Usage::Jitp || (usage == Usage::RegisterThing && !known) {
        steps.push(Step::RegisterCertificate {
            status: CertificateStatus::PendingActivation,
        });
    }
    if let Some(thing) = &plan.thing {
        let thing = thing.name.clone();
        let alters =
            |effect: &Effect| matches!(effect.outcome, Outcome::Merged | Outcome::Replaced);
        steps.push(if exists {
            let changes = decided.effects.iter().any(alters);
            Step::KeepThing { thing, changes }
        } else {
            Step::CreateThing { thing }
        });
    }
    for policy in &plan.policies {
        if let PolicyPlan::Document { name, .. } = policy {
            let policy = name.clone();
            steps.push(Step::CreatePolicy { policy });
        }
    }
    for policy in &plan.policies {
        let policy = policy.name().clone();
        steps.push(Step::AttachPolicy { policy });
    }
    if let Some(thing) = &plan.thing {
        steps.push(Step::AttachThing {
            thing: thing.name.clone(),
            exclusive: plan.certificate.exclusive,
        });
    }
    steps.push(Step::SetStatus {
        status: decided.status,
    });
    steps
}

impl Foreseen {
    /// It does not pass after all, for this reason.
    pub fn fail(&mut self, reason: Reason) {
        self.passes = false;
        self.reason = Some(reason);
    }

    /// Without what is the same for every device of a list: the steps, policies' documents, and
    /// the id of a certificate that is not signed.
    #[must_use]
    pub fn lean(mut self) -> Self {
        self.steps.clear();
        self.plan = self.plan.map(Plan::unsigned);
        for policy in self.plan.iter_mut().flat_map(|plan| &mut plan.policies) {
            if let PolicyPlan::Document { document, .. } = policy {
                document.clear();
            }
        }
        self
    }
}

impl Plan {
    /// Of a certificate that is not signed yet: its id is named instead of the stand-in's.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        let stand_in = CertificateId::of_der(b"").to_string();
        let mask = |text: &mut String| {
            if text.contains(&stand_in) {
                *text = text.replace(&stand_in, UNKNOWN_ID);
            }
        };
        if let CertificateSource::Id(id) = &mut self.certificate.source {
            mask(id);
        }
        if let Some(thing) = &mut self.thing {
            thing.attributes.values_mut().for_each(mask);
        }
        self.device_configuration.values_mut().for_each(mask);
        self
    }
}
