//! A refusal explained: the stage it happened at, the rule that decided, and what mends it.

use std::collections::BTreeMap;

use super::Record;
use crate::core::cert::Certificate;
use crate::core::jitp::Refusal;
use crate::core::policy::{Decision, NamedPolicy, Outcome, Request};
use crate::core::status::CertificateStatus;
use crate::explain::Explain;

/// How far a client came before it was refused.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The TCP connection.
    #[default]
    Tcp,
    /// The TLS handshake.
    Tls,
    /// The certificate itself: its dates, purpose, version, status.
    Certificate,
    /// The registration of an unknown certificate.
    Registration,
    /// The run of a provisioning template.
    Provisioning,
    /// CONNECT.
    Connect,
    /// The will in a CONNECT.
    Will,
    /// PUBLISH.
    Publish,
    /// PUBLISH of a retained message.
    Retain,
    /// SUBSCRIBE or UNSUBSCRIBE.
    Subscribe,
    /// The delivery of a message.
    Receive,
    /// Another connection took the client id.
    Takeover,
    /// The control plane.
    Rest,
}

impl Stage {
    /// Its name, as in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Registration => "registration",
            Self::Provisioning => "provisioning",
            Self::Connect => "connect",
            Self::Will => "will",
            Self::Publish => "publish",
            Self::Retain => "retain",
            Self::Subscribe => "subscribe",
            Self::Receive => "receive",
            Self::Takeover => "takeover",
            Self::Rest => "rest",
        }
    }
}

/// Why, beside what AWS's fields say. Members that do not apply are left out.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Why {
    /// How far the client came.
    pub stage: Stage,
    /// The rule that decided, by a stable name: `policy.implicit-deny`, `connect.unknown-ca`,
    /// `tls.no-client-certificate`.
    pub rule: String,
    /// The account and Region, when it is not the sandbox's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The certificate's subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The certificate's issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What was asked of the policies: `iot:Publish`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Every policy that was asked, as `name` or, with the version that was in force, `name:version`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The policy that denies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_version: Option<String>,
    /// The statement that denies, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<usize>,
    /// The statement's `Sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Policy variables that had no value where one could have mattered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<String>,
    /// The TLS alert that was sent or received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<String>,
    /// The provisioning template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The template's parameter that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The place in the template, or the registry's entity, that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Why {
    /// A refusal at this stage by this rule, and what mends it.
    pub fn new(stage: Stage, rule: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            stage,
            rule: rule.into(),
            remedy: remedy.into(),
            ..Self::default()
        }
    }

    /// Of the client with this certificate.
    #[must_use]
    pub fn of(mut self, certificate: &Certificate) -> Self {
        self.subject = Some(certificate.subject.to_string());
        self.issuer = Some(certificate.issuer.to_string());
        self
    }
}

impl Record {
    /// At which stage it was refused, if it was.
    pub fn stage(&self) -> Option<Stage> {
        self.why.as_ref().map(|why| why.stage)
    }
}

/// A policy's no: the sentence for the record's `details`, and the explanation.
#[derive(Debug)]
pub(in crate::sandbox) struct Denial {
    pub(in crate::sandbox) details: String,
    pub(in crate::sandbox) why: Box<Why>,
}

/// Who was denied: what decides about a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::sandbox) struct Holder<'a> {
    /// The client id it connected with.
    pub(in crate::sandbox) client_id: &'a str,
    /// The policies that were asked.
    pub(in crate::sandbox) policies: &'a [NamedPolicy],
    /// The version of each that was in force.
    pub(in crate::sandbox) versions: &'a BTreeMap<String, u32>,
    /// The things that the certificate is attached to.
    pub(in crate::sandbox) things: &'a [&'a str],
}

/// Explains a decision that is not "allowed".
pub(in crate::sandbox) fn denied(
    stage: Stage,
    holder: Holder<'_>,
    request: &Request<'_>,
    decision: &Decision<'_>,
) -> Denial {
    let (action, resource) = (request.action.name(), request.resource);
    let asked = format!("{action} on `{resource}`");
    let mut why = Why {
        action: Some(action.to_owned()),
        resource: Some(resource.to_owned()),
        policies: holder.policy_names(),
        unresolved: decision
            .unresolved
            .iter()
            .map(|v| (*v).to_owned())
            .collect(),
        ..Why::new(stage, "policy.implicit-deny", "")
    };
    let denying = decision.because.first();
    let details = match (decision.outcome, denying) {
        (Outcome::ExplicitDeny, Some(reason)) => {
            let version = holder.versions.get(reason.policy);
            why.rule = "policy.explicit-deny".into();
            why.policy = Some(reason.policy.to_owned());
            why.policy_version = version.map(ToString::to_string);
            why.statement = Some(reason.statement);
            why.sid = reason.sid.map(str::to_owned);
            why.remedy = format!(
                "narrow the Deny statement {} of the policy `{}`, or do not ask for it",
                reason.statement, reason.policy
            );
            format!(
                "{asked} is denied by statement {} of the policy `{}`",
                reason.statement, reason.policy
            )
        }
        _ if holder.policies.is_empty() => {
            why.rule = "policy.none".into();
            why.remedy = format!(
                "attach a policy that allows {asked} to the certificate \
                 (`aws iot attach-policy`), or name one in the provisioning template"
            );
            format!("{asked} is not allowed: no policy is attached to the certificate")
        }
        _ => {
            let names = holder.policies.iter().map(|policy| &policy.name[..]);
            let names = names.collect::<Vec<_>>().join("`, `");
            why.remedy = format!(
                "if it should be allowed, add it to an Allow statement of `{names}`; `nameplate \
                 policy simulate` shows what each statement says"
            );
            format!("{asked} is not allowed by any statement of `{names}`")
        }
    };
    Denial {
        details: holder.with_unresolved(details, &mut why),
        why: Box::new(why),
    }
}

impl Holder<'_> {
    fn policy_names(self) -> Vec<String> {
        let named = |policy: &NamedPolicy| match self.versions.get(&policy.name) {
            Some(version) => format!("{}:{version}", policy.name),
            None => policy.name.clone(),
        };
        self.policies.iter().map(named).collect()
    }

    /// Adds the variables without a value, which are the likelier reason.
    fn with_unresolved(self, details: String, why: &mut Why) -> String {
        if why.unresolved.is_empty() || why.rule == "policy.explicit-deny" {
            return details;
        }
        why.rule = "policy.unresolved-variable".into();
        let of_thing = |name: &String| {
            name.to_ascii_lowercase()
                .starts_with("iot:connection.thing.")
        };
        let things = match self.things.join("`, `") {
            none if none.is_empty() => "no thing".to_owned(),
            some => format!("`{some}`"),
        };
        if why.unresolved.iter().any(of_thing) {
            why.remedy = match self.things {
                [] => format!(
                    "attach the certificate to its thing (`aws iot attach-thing-principal`), and \
                     connect with the thing's name as client id; it is `{}` now",
                    self.client_id
                ),
                [thing, ..] if *thing != self.client_id => format!(
                    "connect with the client id `{thing}`: only under the name of a thing that the \
                     certificate is attached to do ${{iot:Connection.Thing.…}} variables have values"
                ),
                [thing, ..] => format!("give the thing `{thing}` what the policy asks for"),
            };
        }
        let unresolved = why.unresolved.join("}, ${");
        format!(
            "{details}; ${{{unresolved}}} has no value (the certificate is attached to {things})"
        )
    }
}

/// Explains why a certificate may not connect.
pub(in crate::sandbox) fn of_refusal(refusal: &Refusal, leaf: &Certificate) -> Why {
    let stage = match refusal {
        Refusal::Expired(_)
        | Refusal::NotYetValid(_)
        | Refusal::Purpose(_)
        | Refusal::Status(_)
        | Refusal::Version(_) => Stage::Certificate,
        Refusal::NoServerName => Stage::Tls,
        _ => Stage::Registration,
    };
    let remedy = match refusal {
        Refusal::Status(CertificateStatus::Inactive) => format!(
            "make it ACTIVE (`aws iot update-certificate --certificate-id {} --new-status ACTIVE`)",
            leaf.id()
        ),
        Refusal::Status(CertificateStatus::Revoked) => {
            "a revoked certificate stays revoked: give the device a new one".to_owned()
        }
        other => other.hint().unwrap_or_default(),
    };
    Why::new(stage, refusal.code(), remedy).of(leaf)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::policy::{Action, Document, Facts, decide};

    const ARN: &str = "arn:aws:iot:eu-west-1:123456789012:topic/a";

    fn explain(statement: Option<&str>, things: &[&str]) -> Denial {
        let policies: Vec<NamedPolicy> = statement
            .into_iter()
            .map(|statement| NamedPolicy {
                name: "p".into(),
                document: Arc::new(
                    Document::parse(&format!(
                        r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#
                    ))
                    .unwrap(),
                ),
            })
            .collect();
        let facts = Facts::new("pump-2");
        let request = Request {
            action: Action::Publish,
            resource: ARN,
        };
        let decision = decide(&policies, &facts, request);
        let holder = Holder {
            client_id: "pump-2",
            policies: &policies,
            versions: &BTreeMap::from([("p".to_owned(), 3)]),
            things,
        };
        denied(Stage::Publish, holder, &request, &decision)
    }

    #[test]
    fn a_denial_names_policy_version_statement_and_variable() {
        let none = explain(None, &[]);
        assert_eq!(none.why.rule, "policy.none");
        assert!(none.why.remedy.contains("attach a policy"), "{none:?}");

        let deny = explain(
            Some(r#"{"Sid":"No","Effect":"Deny","Action":"iot:*","Resource":"*"}"#),
            &[],
        );
        let why = &deny.why;
        assert_eq!(why.rule, "policy.explicit-deny");
        assert_eq!(why.policy.as_deref(), Some("p"));
        assert_eq!(why.policy_version.as_deref(), Some("3"));
        assert_eq!((why.statement, why.sid.as_deref()), (Some(0), Some("No")));

        let other = explain(
            Some(r#"{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}"#),
            &[],
        );
        assert_eq!(other.why.rule, "policy.implicit-deny");
        assert_eq!(other.why.policies, ["p:3"]);

        let thing = r#"{"Effect":"Allow","Action":"iot:Publish",
            "Resource":"arn:aws:iot:eu-west-1:123456789012:topic/${iot:Connection.Thing.ThingName}"}"#;
        let unresolved = explain(Some(thing), &["pump-1"]);
        assert_eq!(unresolved.why.rule, "policy.unresolved-variable");
        assert_eq!(
            unresolved.why.unresolved,
            ["iot:Connection.Thing.ThingName"]
        );
        assert!(unresolved.why.remedy.contains("client id `pump-1`"));
        assert!(unresolved.details.contains("attached to `pump-1`"));
        assert!(
            explain(Some(thing), &[])
                .why
                .remedy
                .contains("attach the certificate")
        );
    }
}
