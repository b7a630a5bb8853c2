//! What a plan changes of things and certificates that are there already: the override settings,
//! decided once for the sandbox, `template plan` and everybody else.
//!
//! The guide says what each setting does, and not what happens without one: then what is there
//! stays. A plan without attributes, groups or a type asks for no change of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{CertificatePlan, Override, RenderError, ThingPlan, attributes_allowed};
use crate::core::ids::ThingName;
use crate::core::status::CertificateStatus;
use crate::explain::{Explain, Kind};

/// A thing that is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExistingThing {
    /// Its type.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its groups.
    pub groups: BTreeSet<ThingName>,
    /// Its billing group.
    pub billing_group: Option<ThingName>,
}

/// What becomes of one property.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is as the plan has it.
    Same,
    /// It differs, and stays as it is.
    Kept,
    /// The plan's is added.
    Merged,
    /// The plan's takes its place.
    Replaced,
}

/// What becomes of one property, and which setting says so.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Effect {
    /// `AttributePayload`, `ThingTypeName`, `ThingGroups`, `BillingGroup`.
    pub property: &'static str,
    /// What the template says.
    pub setting: Override,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of a thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ThingChange {
    /// The thing afterwards.
    pub after: ExistingThing,
    /// Property by property.
    pub effects: Vec<Effect>,
}

/// A setting that says FAIL, and something that differs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// The thing would have more than it may.
    #[error(transparent)]
    Limit(#[from] RenderError),
    /// The certificate's status.
    #[error("the certificate is {0}, and the template's Status says FAIL")]
    Status(CertificateStatus),
    /// A property of the thing.
    #[error("thing {thing} is there and differs, and the template's {property} says FAIL")]
    Thing {
        /// The thing.
        thing: ThingName,
        /// The property.
        property: &'static str,
    },
}

impl Explain for Conflict {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Limit(error) => error.code(),
            Self::Status(_) | Self::Thing { .. } => "template.conflict",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Limit(error) => error.hint(),
            Self::Status(_) | Self::Thing { .. } => {
                Some("DO_NOTHING keeps what is there, REPLACE takes the template's".into())
            }
        }
    }
}

/// What running the plan makes of a thing that is there.
///
/// # Errors
/// `template.conflict` where a setting says FAIL and the property differs;
/// `template.attribute-count` when the thing would have more attributes than its type allows.
pub fn thing_change(wanted: &ThingPlan, there: &ExistingThing) -> Result<ThingChange, Conflict> {
    let mut after = there.clone();
    let effects = vec![
        change_type(wanted, &mut after)?,
        change_attributes(wanted, &mut after)?,
        change_groups(wanted, &mut after)?,
        change_billing_group(wanted, &mut after),
    ];
    attributes_allowed(after.attributes.len(), after.type_name.is_some())?;
    Ok(ThingChange { after, effects })
}

/// By its setting, when the plan asks for something else than what is there.
fn decide(
    wanted: &ThingPlan,
    (property, setting): (&'static str, Override),
    differs: bool,
) -> Result<Effect, Conflict> {
    let outcome = match setting {
        _ if !differs => Outcome::Same,
        Override::DoNothing => Outcome::Kept,
        Override::Merge => Outcome::Merged,
        Override::Replace => Outcome::Replaced,
        Override::Fail => {
            let thing = wanted.name.clone();
            return Err(Conflict::Thing { thing, property });
        }
    };
    Ok(Effect {
        property,
        setting,
        outcome,
    })
}

fn change_type(wanted: &ThingPlan, after: &mut ExistingThing) -> Result<Effect, Conflict> {
    let differs = wanted.type_name.is_some() && after.type_name != wanted.type_name;
    let setting = ("ThingTypeName", wanted.overrides.type_name);
    let effect = decide(wanted, setting, differs)?;
    if matches!(effect.outcome, Outcome::Merged | Outcome::Replaced) {
        after.type_name.clone_from(&wanted.type_name);
    }
    Ok(effect)
}

fn change_attributes(wanted: &ThingPlan, after: &mut ExistingThing) -> Result<Effect, Conflict> {
    let kept = kept(&wanted.attributes);
    let differs = !wanted.attributes.is_empty() && after.attributes != kept;
    let setting = ("AttributePayload", wanted.overrides.attributes);
    let effect = decide(wanted, setting, differs)?;
    match effect.outcome {
        Outcome::Merged => merge_attributes(&mut after.attributes, &wanted.attributes),
        Outcome::Replaced => after.attributes = kept,
        Outcome::Same | Outcome::Kept => {}
    }
    Ok(effect)
}

fn change_groups(wanted: &ThingPlan, after: &mut ExistingThing) -> Result<Effect, Conflict> {
    let groups: BTreeSet<ThingName> = wanted.groups.iter().cloned().collect();
    let differs = !groups.is_empty() && after.groups != groups;
    let effect = decide(wanted, ("ThingGroups", wanted.overrides.groups), differs)?;
    match effect.outcome {
        Outcome::Merged => after.groups.extend(groups),
        Outcome::Replaced => after.groups = groups,
        Outcome::Same | Outcome::Kept => {}
    }
    Ok(effect)
}

/// There is no setting for it; a thing has one billing group, and the last call wins.
fn change_billing_group(wanted: &ThingPlan, after: &mut ExistingThing) -> Effect {
    let differs = wanted.billing_group.is_some() && after.billing_group != wanted.billing_group;
    if differs {
        after.billing_group.clone_from(&wanted.billing_group);
    }
    let outcome = if differs {
        Outcome::Replaced
    } else {
        Outcome::Same
    };
    Effect {
        property: "BillingGroup",
        setting: Override::Replace,
        outcome,
    }
}

/// What becomes of a certificate's status.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub struct StatusChange {
    /// The status afterwards.
    pub after: CertificateStatus,
    /// How it came about.
    pub outcome: Outcome,
}

/// What running the plan makes of a certificate's status. One that waits for its first
/// provisioning always gets the plan's.
///
/// # Errors
/// `template.conflict` where the setting says FAIL and the status differs.
pub fn status_change(
    plan: &CertificatePlan,
    before: CertificateStatus,
) -> Result<StatusChange, Conflict> {
    let change = |after, outcome| Ok(StatusChange { after, outcome });
    if before == plan.status {
        return change(before, Outcome::Same);
    }
    if before == CertificateStatus::PendingActivation {
        return change(plan.status, Outcome::Replaced);
    }
    match plan.status_override {
        Override::DoNothing => change(before, Outcome::Kept),
        Override::Fail => Err(Conflict::Status(before)),
        Override::Merge | Override::Replace => change(plan.status, Outcome::Replaced),
    }
}

/// Adds attributes; an empty value removes (`attributePayload` with `merge`).
pub fn merge_attributes(
    into: &mut BTreeMap<String, String>,
    attributes: &BTreeMap<String, String>,
) {
    for (name, value) in attributes {
        if value.is_empty() {
            into.remove(name);
        } else {
            into.insert(name.clone(), value.clone());
        }
    }
}

/// Without those that have no value: a thing does not keep them.
fn kept(attributes: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut kept = attributes.clone();
    kept.retain(|_, value| !value.is_empty());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(own).collect()
    }

    fn names(all: &[&str]) -> Vec<ThingName> {
        all.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn wanted(setting: Override) -> ThingPlan {
        ThingPlan {
            name: "pump-1".parse().unwrap(),
            type_name: Some("pump".parse().unwrap()),
            attributes: map(&[("a", "new"), ("gone", ""), ("b", "2")]),
            groups: names(&["site-b"]),
            billing_group: Some("bg".parse().unwrap()),
            overrides: super::super::Overrides {
                attributes: setting,
                groups: setting,
                type_name: if setting == Override::Merge {
                    Override::Replace
                } else {
                    setting
                },
            },
        }
    }

    fn there() -> ExistingThing {
        ExistingThing {
            type_name: Some("valve".parse().unwrap()),
            attributes: map(&[("a", "old"), ("gone", "1"), ("c", "3")]),
            groups: names(&["site-a"]).into_iter().collect(),
            billing_group: None,
        }
    }

    #[test]
    fn each_setting_does_what_the_guide_says() {
        let change = |setting| thing_change(&wanted(setting), &there()).unwrap().after;
        let kept = change(Override::DoNothing);
        assert_eq!(
            (&kept.attributes, &kept.groups),
            (&there().attributes, &there().groups)
        );
        assert_eq!(kept.type_name, there().type_name);
        assert_eq!(kept.billing_group, Some("bg".parse().unwrap()));
        let merged = change(Override::Merge);
        assert_eq!(
            merged.attributes,
            map(&[("a", "new"), ("b", "2"), ("c", "3")])
        );
        assert_eq!(
            merged.groups,
            names(&["site-a", "site-b"]).into_iter().collect()
        );
        let replaced = change(Override::Replace);
        assert_eq!(replaced.attributes, map(&[("a", "new"), ("b", "2")]));
        assert_eq!(replaced.groups, names(&["site-b"]).into_iter().collect());
        assert_eq!(replaced.type_name, Some("pump".parse().unwrap()));
        let conflict = thing_change(&wanted(Override::Fail), &there()).unwrap_err();
        assert_eq!(conflict.code(), "template.conflict");
        assert!(
            conflict.to_string().contains("ThingTypeName says FAIL"),
            "{conflict}"
        );
    }

    #[test]
    fn what_is_the_same_or_not_asked_for_never_conflicts() {
        let mut plan = wanted(Override::Fail);
        let mut thing = there();
        thing.attributes = map(&[("a", "new"), ("b", "2")]);
        thing.groups = names(&["site-b"]).into_iter().collect();
        thing.type_name.clone_from(&plan.type_name);
        let change = thing_change(&plan, &thing).unwrap();
        assert!(
            change.effects[..3]
                .iter()
                .all(|e| e.outcome == Outcome::Same)
        );
        plan.attributes.clear();
        plan.groups.clear();
        plan.type_name = None;
        assert_eq!(
            thing_change(&plan, &there()).unwrap().after.attributes,
            there().attributes
        );
    }

    #[test]
    fn too_many_attributes_are_counted_after_the_change() {
        let mut plan = wanted(Override::Merge);
        plan.type_name = None;
        plan.attributes = map(&[("d", "4"), ("e", "5")]);
        let mut thing = there();
        assert!(thing_change(&plan, &thing).is_ok());
        thing.type_name = None;
        let error = thing_change(&plan, &thing).unwrap_err();
        assert_eq!(error.code(), "template.attribute-count");
    }

    #[test]
    fn a_status_follows_its_setting() {
        use CertificateStatus::{Active, Inactive, PendingActivation};
        let plan = |status_override| CertificatePlan {
            status: Active,
            status_override,
            ..CertificatePlan::default()
        };
        for (before, setting, after) in [
            (PendingActivation, Override::Fail, Some(Active)),
            (Active, Override::Fail, Some(Active)),
            (Inactive, Override::DoNothing, Some(Inactive)),
            (Inactive, Override::Replace, Some(Active)),
            (Inactive, Override::Fail, None),
        ] {
            let change = status_change(&plan(setting), before);
            assert_eq!(
                change.ok().map(|change| change.after),
                after,
                "{before} {setting:?}"
            );
        }
    }
}
