//! The lint beyond the template itself: the certificates of a profile, the policies' documents,
//! what must be at the target.

use std::collections::{BTreeMap, BTreeSet};

use super::access::{Access, Gate};
use super::reason::names_in;
use super::{
    Body, CERTIFICATE_PREFIX, Located, Plan, PolicyPlan, Subjects, Template, Usage, Value,
    jitp_parameters,
};
use crate::core::finding::{Finding, Severity};
use crate::core::ids::{CertificateId, Place, PolicyName};
use crate::core::json::child;
use crate::core::subject::{ATTRIBUTES, Subject};

/// What stands in for a value that is not known.
const ANY: &str = "x1";

/// Something that must exist before the first device comes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
pub struct Prerequisite {
    /// What it is.
    pub kind: PrerequisiteKind,
    /// Its name.
    pub name: String,
    /// Where the template names it.
    #[serde(skip)]
    pub path: String,
}

/// What must exist.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrerequisiteKind {
    /// A billing group.
    BillingGroup,
    /// A policy.
    Policy,
    /// A thing group.
    ThingGroup,
    /// A thing type.
    ThingType,
}

impl PrerequisiteKind {
    /// In words.
    pub fn noun(self) -> &'static str {
        match self {
            Self::BillingGroup => "billing group",
            Self::Policy => "policy",
            Self::ThingGroup => "thing group",
            Self::ThingType => "thing type",
        }
    }
}

impl Plan {
    /// What must exist before this device comes.
    pub fn prerequisites(&self) -> BTreeSet<Prerequisite> {
        let mut all = BTreeSet::new();
        let mut add = |kind, name: &str, property: &str| {
            all.insert(Prerequisite {
                kind,
                name: name.to_owned(),
                path: property.to_owned(),
            });
        };
        if let Some(thing) = &self.thing {
            if let Some(name) = &thing.type_name {
                add(PrerequisiteKind::ThingType, name.as_str(), "ThingTypeName");
            }
            if let Some(name) = &thing.billing_group {
                add(
                    PrerequisiteKind::BillingGroup,
                    name.as_str(),
                    "BillingGroup",
                );
            }
            for name in &thing.groups {
                add(PrerequisiteKind::ThingGroup, name.as_str(), "ThingGroups");
            }
        }
        for policy in &self.policies {
            if let PolicyPlan::Named(name) = policy {
                add(PrerequisiteKind::Policy, name.as_str(), "PolicyName");
            }
        }
        all
    }
}

impl Template {
    /// What must exist before the first device comes, as far as it depends on no parameter.
    pub fn prerequisites(&self) -> BTreeSet<Prerequisite> {
        let mut all = BTreeSet::new();
        let mut add = |kind, place: Option<&Located>| {
            let Some(place) = place else { return };
            let Some(Ok(names)) = self.constant(&place.value) else {
                return;
            };
            all.extend(names.into_iter().map(|name| Prerequisite {
                kind,
                name,
                path: place.path.clone(),
            }));
        };
        for resource in &self.resources {
            match &resource.body {
                Body::Thing(thing) => {
                    add(PrerequisiteKind::ThingType, thing.type_name.as_ref());
                    add(PrerequisiteKind::BillingGroup, thing.billing_group.as_ref());
                    for group in &thing.groups {
                        add(PrerequisiteKind::ThingGroup, Some(group));
                    }
                }
                Body::Policy(policy) => add(PrerequisiteKind::Policy, policy.name.as_ref()),
                Body::Certificate(_) => {}
            }
        }
        all
    }

    /// What is to be said of a prerequisite: that it is not there, or, when nobody has looked
    /// (`None`), that it must be.
    pub fn lint_prerequisite(wanted: &Prerequisite, there: Option<bool>) -> Option<Finding> {
        let Prerequisite { kind, name, path } = wanted;
        let noun = kind.noun();
        match there {
            Some(true) => None,
            Some(false) => {
                let message = format!("there is no {noun} `{name}` at the target");
                let finding = Finding::error("template.prerequisite-missing", path, message);
                Some(finding.remedy(format!("create it, or name another {noun}")))
            }
            None => {
                let message = format!("the {noun} `{name}` must exist before the first device");
                let rule = "template.prerequisite";
                Some(
                    Finding::new(Severity::Note, rule, path, message)
                        .remedy("--at-target looks whether it does"),
                )
            }
        }
    }

    /// Whether a certificate with this subject, of a profile, passes.
    pub(super) fn lint_subject(&self, subject: &Subject) -> Vec<Finding> {
        let values = jitp_parameters(subject, &CertificateId::of_der(b""));
        let mut findings = Vec::new();
        for name in self.missing_parameters(&values) {
            let part = name.strip_prefix(CERTIFICATE_PREFIX);
            let short = ATTRIBUTES.iter().find(|(.., jitp)| *jitp == part);
            let Some((short, ..)) = short.filter(|_| part.is_some()) else {
                continue;
            };
            let message =
                format!("`{name}` has no value: certificates of the profile are `{subject}`");
            let path = child("$.Parameters", name);
            let finding = Finding::error("template.parameter-unfilled", &path, message);
            findings.push(finding.remedy(format!(
                "add {short}= to the profile's subject, or remove the parameter"
            )));
        }
        if !findings.is_empty() {
            return findings;
        }
        if let Err(error) = self.render(Usage::Jitp, &values) {
            let reason = self.reason(&error, &values);
            let message = format!("with `{subject}`: {}", reason.message);
            let rule = "template.profile-value";
            findings.push(Finding::error(rule, &reason.path, message));
        }
        findings
    }

    /// Whether the policies let the device connect as its thing, tried with the subject, or with
    /// any values when there is none. `documents` are those of policies called by name.
    pub fn lint_access(
        &self,
        (usage, subject): (Usage, Option<&Subject>),
        documents: &BTreeMap<PolicyName, String>,
        place: &Place,
    ) -> Option<Finding> {
        let any = any_subject();
        let subject = subject.unwrap_or(&any);
        let values = self.any_values(usage, subject);
        let plan = self.render(usage, &values).ok()?;
        let subject = (usage == Usage::Jitp).then_some(subject);
        let answer = Gate::new(documents, place).ask(&plan, subject, place);
        let Access::Denied {
            explicit,
            unresolved,
        } = answer
        else {
            return None;
        };
        Some(self.not_admitted(&plan, explicit, &unresolved))
    }

    /// Whether policies that let one certificate of a profile connect let every one: a value with
    /// a character that AWS IoT never puts in the place of a variable.
    pub fn lint_access_open(
        &self,
        subjects: &Subjects,
        documents: &BTreeMap<PolicyName, String>,
        place: &Place,
    ) -> Option<Finding> {
        subjects.unsubstituted().into_iter().find_map(|(name, subject)| {
            let access = (Usage::Jitp, Some(&subject));
            let finding = self.lint_access(access, documents, place)?;
            let message = format!(
                "a value of {{{name}}} with one of `* $ + ? #` in it is never put in the place of \
                 a policy variable: {}",
                finding.message
            );
            Some(Finding { message, ..finding }.remedy("keep such values out of the list"))
        })
    }

    fn not_admitted(&self, plan: &Plan, explicit: bool, unresolved: &BTreeSet<String>) -> Finding {
        let thing = plan.thing.as_ref().map_or("", |thing| thing.name.as_str());
        let why = if explicit {
            "a statement denies it".to_owned()
        } else if unresolved.is_empty() {
            "no statement allows it".to_owned()
        } else {
            let names: Vec<&str> = unresolved.iter().map(|name| &name[..]).collect();
            format!("no value for {}", names.join(", "))
        };
        let message = format!(
            "no iot:Connect for the thing that the device becomes, such as `{thing}`: {why}"
        );
        let policy = self.resources.iter().find_map(|one| match &one.body {
            Body::Policy(_) => Some(&one.path[..]),
            _ => None,
        });
        Finding::warning(
            "template.policy-connect",
            policy.unwrap_or("$.Resources"),
            message,
        )
        .remedy("allow iot:Connect on client/${iot:Connection.Thing.ThingName}")
    }

    /// A value for every parameter: the subject's, a default, a mapping's first key where one is
    /// looked up, else any.
    fn any_values(&self, usage: Usage, subject: &Subject) -> BTreeMap<String, String> {
        let mut values = jitp_parameters(subject, &CertificateId::of_der(b""));
        if usage == Usage::Jitp {
            return values;
        }
        values.retain(|name, _| name.strip_prefix(CERTIFICATE_PREFIX) == Some("Id"));
        let mut keys = BTreeMap::new();
        let mut used = BTreeSet::new();
        self.each_value(&mut |_, value| {
            used.extend(names_in(value));
            if let Value::FindInMap(map, first, _) = value
                && let Value::Ref(name) = &**first
                && let Some(key) = self.mappings.get(map).and_then(|map| map.keys().next())
            {
                keys.insert(&name[..], &key[..]);
            }
        });
        for name in used {
            if self.resolve(name, &values).is_none() {
                let value = keys.get(name).copied().unwrap_or(ANY);
                values.insert(name.to_owned(), value.to_owned());
            }
        }
        values
    }

    /// What a template cannot do by itself, said once.
    pub fn lint_hook(&self, usage: Usage) -> Option<Finding> {
        let thing = self.resources.iter().find_map(|one| match &one.body {
            Body::Thing(thing) => thing.name.as_ref(),
            _ => None,
        })?;
        let mut named_by_device = false;
        thing.value.walk(&mut |value| {
            named_by_device |= names_in(value)
                .iter()
                .any(|name| !name.starts_with(CERTIFICATE_PREFIX));
        });
        if usage != Usage::FleetProvisioning || !named_by_device {
            return None;
        }
        let message = "whoever holds a claim chooses the thing's name";
        let rule = "template.hook";
        Some(
            Finding::new(Severity::Note, rule, &thing.path, message).remedy(
                "check serial numbers against a list in a pre-provisioning hook (it has 5 seconds)",
            ),
        )
    }
}

/// A subject that has everything JITP looks for.
fn any_subject() -> Subject {
    let named = ATTRIBUTES.iter().filter(|(.., jitp)| jitp.is_some());
    named.fold(Subject::default(), |subject, (short, ..)| {
        subject.with(short, if *short == "C" { "DE" } else { ANY })
    })
}
