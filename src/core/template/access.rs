//! Whether the policies of a plan let the device connect as the thing that it becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Plan, PolicyPlan, ThingPlan, fill_place};
use crate::core::ids::{Place, PolicyName, ThingName};
use crate::core::policy::{
    Action, Document, Facts, NamedPolicy, Outcome, Request, ThingFacts, decide,
};
use crate::core::subject::{ATTRIBUTES, Subject};

/// The answer to [`Gate::ask`].
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// It may connect, under the thing's name as its client id.
    Allowed,
    /// It may not.
    Denied {
        /// A statement denies it; otherwise none allows it.
        explicit: bool,
        /// Variables that had no value where one could have mattered.
        unresolved: BTreeSet<String>,
    },
    /// The documents of these policies are not known.
    Unknown {
        /// Their names.
        policies: BTreeSet<PolicyName>,
    },
    /// The plan has no thing, or no policy.
    Nothing,
}

/// Policies by name, parsed once, and asked for many plans.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    named: BTreeMap<PolicyName, Arc<Document>>,
    /// The last document that a template wrote out, as many plans have the same.
    written: Option<(String, Arc<Document>)>,
    prefix: String,
}

impl Gate {
    /// With the documents of policies that a template calls by name. Those that cannot be read are
    /// left out. Place holders such as `${Region}` are filled in for `place`.
    pub fn new(documents: &BTreeMap<PolicyName, String>, place: &Place) -> Self {
        let parsed = |(name, text): (&PolicyName, &String)| {
            let document = Document::parse(&fill_place(text, place)).ok()?;
            Some((name.clone(), Arc::new(document)))
        };
        Self {
            prefix: documents
                .values()
                .find_map(|text| prefix_in(&fill_place(text, place)))
                .unwrap_or_else(|| place.arn("client", "")),
            named: documents.iter().filter_map(parsed).collect(),
            written: None,
        }
    }

    /// Asks whether the device of this plan, with a certificate of this subject, may connect with
    /// its thing's name as client id.
    pub fn ask(&mut self, plan: &Plan, subject: Option<&Subject>, place: &Place) -> Access {
        let Some(thing) = plan.thing.as_ref().filter(|_| !plan.policies.is_empty()) else {
            return Access::Nothing;
        };
        let mut policies = Vec::new();
        let mut unknown = BTreeSet::new();
        for policy in &plan.policies {
            match self.document(policy, place) {
                Some(document) => policies.push(NamedPolicy {
                    name: policy.name().to_string(),
                    document,
                }),
                None => {
                    unknown.insert(policy.name().clone());
                }
            }
        }
        if policies.is_empty() {
            return Access::Unknown { policies: unknown };
        }
        let facts = facts(thing, subject);
        let resource = format!("{}{}", self.prefix, thing.name);
        let request = Request {
            action: Action::Connect,
            resource: &resource,
        };
        let decision = decide(&policies, &facts, request);
        match decision.outcome {
            Outcome::ExplicitDeny => denied(true, &decision.unresolved),
            _ if !unknown.is_empty() => Access::Unknown { policies: unknown },
            Outcome::Allowed => Access::Allowed,
            Outcome::ImplicitDeny => denied(false, &decision.unresolved),
        }
    }

    fn document(&mut self, policy: &PolicyPlan, place: &Place) -> Option<Arc<Document>> {
        let PolicyPlan::Document { document, .. } = policy else {
            return self.named.get(policy.name()).cloned();
        };
        if let Some((text, parsed)) = &self.written
            && text == document
        {
            return Some(Arc::clone(parsed));
        }
        let filled = fill_place(document, place);
        let parsed = Arc::new(Document::parse(&filled).ok()?);
        if let Some(prefix) = prefix_in(&filled) {
            self.prefix = prefix;
        }
        self.written = Some((document.clone(), Arc::clone(&parsed)));
        Some(parsed)
    }
}

fn denied(explicit: bool, unresolved: &BTreeSet<&str>) -> Access {
    Access::Denied {
        explicit,
        unresolved: unresolved.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// What a document's ARNs of clients begin with; whether the account is the right one is another
/// question.
fn prefix_in(document: &str) -> Option<String> {
    let end = document.find(":client/")?;
    let start = document[..end].rfind("arn:")?;
    let arn = &document[start..end];
    let plain = |part: &str| !part.is_empty() && !part.contains(['*', '?', '$', '"']);
    let parts: Vec<&str> = arn.split(':').collect();
    (parts.len() == 5 && parts.iter().all(|part| plain(part))).then(|| format!("{arn}:client/"))
}

fn facts(thing: &ThingPlan, subject: Option<&Subject>) -> Facts {
    let mut facts = Facts::new(thing.name.as_str()).thing(ThingFacts {
        name: thing.name.as_str(),
        type_name: thing.type_name.as_ref().map(ThingName::as_str),
        attributes: &thing.attributes,
    });
    let Some(subject) = subject else {
        return facts;
    };
    for (short, .., jitp) in ATTRIBUTES {
        let name = match *jitp {
            Some("StateName") => "State",
            Some(name) => name,
            None => continue,
        };
        if let Some(value) = subject.first(short) {
            let key = format!("iot:Certificate.Subject.{name}");
            facts = facts.with(&key, vec![value.to_owned()]);
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        }
    }

    fn plan(policies: Vec<PolicyPlan>) -> Plan {
        Plan {
            thing: Some(ThingPlan {
                name: "pump-1".parse().unwrap(),
                type_name: None,
                attributes: BTreeMap::new(),
                groups: Vec::new(),
                billing_group: None,
                overrides: super::super::Overrides::default(),
            }),
            certificate: super::super::CertificatePlan::default(),
            policies,
            device_configuration: BTreeMap::new(),
        }
    }

    fn ask(resource: &str, effect: &str) -> Access {
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":"iot:Connect","Resource":"{resource}"}}}}"#
        );
        let named = BTreeMap::from([("p".parse().unwrap(), document.clone())]);
        let by_name = plan(vec![PolicyPlan::Named("p".parse().unwrap())]);
        let written = plan(vec![PolicyPlan::Document {
            name: "W".parse().unwrap(),
            document,
        }]);
        let subject: Subject = "CN=pump-1,O=Example".parse().unwrap();
        let mut gate = Gate::new(&named, &place());
        let answer = gate.ask(&by_name, Some(&subject), &place());
        let mut gate = Gate::new(&BTreeMap::new(), &place());
        assert_eq!(gate.ask(&written, Some(&subject), &place()), answer);
        answer
    }

    #[test]
    fn the_thing_decides() {
        let arn = "arn:aws:iot:us-east-1:111122223333:client/";
        for resource in [
            "*".to_owned(),
            format!("{arn}${{iot:Connection.Thing.ThingName}}"),
            format!("{arn}pump-?"),
            format!("{arn}${{iot:Certificate.Subject.CommonName}}"),
            "arn:${Partition}:iot:${Region}:${AccountId}:client/pump-1".to_owned(),
        ] {
            assert_eq!(ask(&resource, "Allow"), Access::Allowed, "{resource}");
            let Access::Denied { explicit, .. } = ask(&resource, "Deny") else {
                panic!("{resource}")
            };
            assert!(explicit);
        }
        let other = ask(&format!("{arn}${{iot:Certificate.Subject.Title}}"), "Allow");
        let Access::Denied {
            explicit: false,
            unresolved,
        } = other
        else {
            panic!("{other:?}")
        };
        assert!(unresolved.iter().any(|name| name.contains("Title")));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let mut gate = Gate::new(&BTreeMap::new(), &place());
        let policies = BTreeSet::from(["p".parse().unwrap()]);
        let named = plan(vec![PolicyPlan::Named("p".parse().unwrap())]);
        assert_eq!(
            gate.ask(&named, None, &place()),
            Access::Unknown { policies }
        );
        assert_eq!(gate.ask(&plan(vec![]), None, &place()), Access::Nothing);
    }
}
