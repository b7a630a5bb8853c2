//! Policies and a request in, a decision with its reasons out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::action::Action;
use super::document::{Document, Effect, Statement};
use super::pattern::Unresolved;
use super::trace::selects;
use super::vars::Facts;

/// One thing asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What.
    pub action: Action,
    /// On what: a full ARN.
    pub resource: &'a str,
}

/// A document under the name it is attached by.
#[derive(Clone, Debug)]
pub struct NamedPolicy {
    /// The policy's name.
    pub name: String,
    /// What it says; shared by all that are attached to it.
    pub document: Arc<Document>,
}

/// What the policies say together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A statement allows and none denies.
    Allowed,
    /// A statement denies.
    ExplicitDeny,
    /// No statement says anything.
    ImplicitDeny,
}

/// A statement that brought the outcome about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The statement, from 0.
    pub statement: usize,
    /// Its own name for itself.
    pub sid: Option<&'a str>,
}

/// The outcome, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// The statements that allow, or those that deny; none for [`Outcome::ImplicitDeny`].
    pub because: Vec<Reason<'a>>,
    /// Variables that had no value where one could have mattered, by their names as written.
    pub unresolved: BTreeSet<&'a str>,
}

impl Decision<'_> {
    /// Whether the request is allowed.
    pub fn allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}

/// Decides: any `Deny` that matches wins, then any `Allow`, else no. A part that holds an
/// unresolved variable matches nothing, in `Allow` and in `Deny`.
pub fn decide<'a>(
    policies: &'a [NamedPolicy],
    facts: &'a Facts,
    request: Request<'_>,
) -> Decision<'a> {
    let mut unresolved = BTreeSet::new();
    let (mut allows, mut denies) = (Vec::new(), Vec::new());
    for policy in policies {
        for (n, statement) in policy.document.statements().iter().enumerate() {
            if !applies(statement, facts, request, &mut unresolved) {
                continue;
            }
            let reason = Reason {
                policy: &policy.name,
                statement: n,
                sid: statement.sid.as_deref(),
            };
            match statement.effect {
                Effect::Allow => allows.push(reason),
                Effect::Deny => denies.push(reason),
            }
        }
    }
    let (outcome, because) = if !denies.is_empty() {
        (Outcome::ExplicitDeny, denies)
    } else if !allows.is_empty() {
        (Outcome::Allowed, allows)
    } else {
        (Outcome::ImplicitDeny, Vec::new())
    };
    Decision {
        outcome,
        because,
        unresolved,
    }
}

fn applies<'a>(
    statement: &'a Statement,
    facts: &'a Facts,
    request: Request<'_>,
    unresolved: &mut BTreeSet<&'a str>,
) -> bool {
    let mut miss = |Unresolved(key): Unresolved<'a>| {
        unresolved.insert(key);
        false
    };
    statement.actions.has(request.action.folded())
        && selects(&statement.resources, request.resource, facts, &mut miss)
        && statement
            .conditions
            .iter()
            .all(|condition| condition.holds(facts).unwrap_or_else(&mut miss))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::vars::ThingFacts;
    use super::*;

    const ARN: &str = "arn:aws:iot:eu-west-1:123456789012:";

    fn policy(statements: &str) -> NamedPolicy {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        NamedPolicy {
            name: "p".into(),
            document: Arc::new(Document::parse(&text.replace("ARN:", ARN)).unwrap()),
        }
    }

    fn outcome(statements: &str, facts: &Facts, action: Action, name: &str) -> Outcome {
        let resource = format!("{ARN}{}/{name}", action.resource_kind());
        let policies = [policy(statements)];
        let request = Request {
            action,
            resource: &resource,
        };
        decide(&policies, facts, request).outcome
    }

    fn attached(client_id: &str) -> Facts {
        Facts::new(client_id).thing(ThingFacts {
            name: client_id,
            type_name: None,
            attributes: &BTreeMap::new(),
        })
    }

    const DEVICE: &str = r#"
        {"Effect":"Allow","Action":"iot:Connect",
         "Resource":"ARN:client/${iot:Connection.Thing.ThingName}",
         "Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}},
        {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],
         "Resource":"ARN:topic/devices/${iot:Connection.Thing.ThingName}/*"},
        {"Effect":"Allow","Action":"iot:Subscribe",
         "Resource":"ARN:topicfilter/devices/${iot:Connection.Thing.ThingName}/*"}"#;

    #[test]
    fn a_device_policy_keeps_a_device_to_itself() {
        use Outcome::{Allowed, ImplicitDeny};
        let (own, stranger) = (attached("pump-1"), Facts::new("pump-1"));
        for (facts, action, name, expected) in [
            (&own, Action::Connect, "pump-1", Allowed),
            (&own, Action::Connect, "pump-2", ImplicitDeny),
            (&own, Action::Publish, "devices/pump-1/t", Allowed),
            (&own, Action::Publish, "devices/pump-2/t", ImplicitDeny),
            (&own, Action::Publish, "devices/pump-1", ImplicitDeny),
            (
                &own,
                Action::RetainPublish,
                "devices/pump-1/t",
                ImplicitDeny,
            ),
            (&own, Action::Subscribe, "devices/pump-1/#", Allowed),
            (&own, Action::Subscribe, "devices/+/t", ImplicitDeny),
            (&own, Action::Receive, "devices/pump-1/t", Allowed),
            (&stranger, Action::Connect, "pump-1", ImplicitDeny),
            (&stranger, Action::Publish, "devices/pump-1/t", ImplicitDeny),
        ] {
            let found = outcome(DEVICE, facts, action, name);
            assert_eq!(found, expected, "{action:?} {name}");
        }
    }

    #[test]
    fn deny_wins_and_says_so() {
        let statements = r#"{"Effect":"Allow","Action":"iot:*","Resource":"*"},
            {"Sid":"No","Effect":"Deny","Action":"iot:pub*","Resource":"ARN:topic/secret/*"}"#;
        let policies = [policy(statements)];
        let resource = format!("{ARN}topic/secret/a");
        let request = Request {
            action: Action::Publish,
            resource: &resource,
        };
        let facts = Facts::new("x");
        let decision = decide(&policies, &facts, request);
        assert_eq!(decision.outcome, Outcome::ExplicitDeny);
        assert_eq!(
            decision.because,
            [Reason {
                policy: "p",
                statement: 1,
                sid: Some("No")
            }]
        );
        for (action, name, expected) in [
            (Action::Publish, "open", Outcome::Allowed),
            (Action::Receive, "secret/a", Outcome::Allowed),
        ] {
            assert_eq!(outcome(statements, &facts, action, name), expected);
        }
    }

    #[test]
    fn an_unresolved_variable_matches_nothing_even_in_a_deny() {
        let statements = r#"{"Effect":"Allow","Action":"*","Resource":"*"},
            {"Effect":"Deny","Action":"iot:Publish",
             "Resource":"ARN:topic/${iot:Connection.Thing.ThingName}"}"#;
        let policies = [policy(statements)];
        let resource = format!("{ARN}topic/x");
        let facts = Facts::new("x");
        let request = Request {
            action: Action::Publish,
            resource: &resource,
        };
        let decision = decide(&policies, &facts, request);
        assert!(decision.allowed());
        assert!(
            decision
                .unresolved
                .contains("iot:Connection.Thing.ThingName")
        );
    }

    #[test]
    fn not_action_and_not_resource_invert() {
        let statements = r#"{"Effect":"Allow","NotAction":"iot:Publish",
             "NotResource":"ARN:topicfilter/secret/*"}"#;
        let facts = Facts::new("x");
        for (action, name, expected) in [
            (Action::Publish, "a", Outcome::ImplicitDeny),
            (Action::Subscribe, "a", Outcome::Allowed),
            (Action::Subscribe, "secret/a", Outcome::ImplicitDeny),
        ] {
            assert_eq!(outcome(statements, &facts, action, name), expected);
        }
    }

    #[test]
    fn the_old_language_has_no_variables() {
        let text = format!(
            r#"{{"Version":"2008-10-17","Statement":{{"Effect":"Allow","Action":"iot:Connect",
               "Resource":"{ARN}client/${{iot:ClientId}}"}}}}"#
        );
        let policies = [NamedPolicy {
            name: "p".into(),
            document: Arc::new(Document::parse(&text).unwrap()),
        }];
        let resource = format!("{ARN}client/x");
        let facts = Facts::new("x");
        let request = Request {
            action: Action::Connect,
            resource: &resource,
        };
        assert!(!decide(&policies, &facts, request).allowed());
    }

    #[test]
    fn no_policy_is_no() {
        let facts = Facts::new("x");
        let request = Request {
            action: Action::Connect,
            resource: "arn:aws:iot:eu-west-1:1:client/x",
        };
        assert_eq!(decide(&[], &facts, request).outcome, Outcome::ImplicitDeny);
    }
}
