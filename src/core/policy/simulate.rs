//! Questions that a device might put, and the answers of its policies with all their reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::action::Action;
use super::document::Effect;
use super::eval::{NamedPolicy, Outcome, Request, decide};
use super::scene::{Check, Connect, Packet, Scene, Will};
use super::trace::{Examined, examine};
use super::vars::{Facts, ThingFacts, stands_for};
use crate::core::cert::Certificate;
use crate::core::ids::Place;

/// A device, as far as policies can tell.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The client id, unless a question brings its own.
    pub client_id: Option<String>,
    /// Its certificate.
    pub certificate: Option<Certificate>,
    /// The things that the certificate is attached to.
    pub things: Vec<DeviceThing>,
    /// Where it connects from.
    pub source_ip: Option<IpAddr>,
    /// Keys of the caller's own, with their values.
    pub context: Vec<(String, Vec<String>)>,
}

/// A thing that a certificate is attached to.
#[derive(Clone, Debug)]
pub struct DeviceThing {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_name: Option<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Attached as `EXCLUSIVE_THING`.
    pub exclusive: bool,
    /// The policies that it brings through its groups.
    pub policies: Vec<NamedPolicy>,
}

/// What a device wants to do.
#[derive(Clone, Debug)]
pub struct Question {
    /// What.
    pub action: Action,
    /// On what: a client id, topic, filter or other name, or an ARN.
    pub resource: String,
    /// The client id, if this question has its own.
    pub client_id: Option<String>,
    /// For Publish: with the RETAIN flag.
    pub retain: bool,
    /// For Connect: with a persistent session.
    pub persistent: bool,
    /// For Connect: the topic of the last will.
    pub will_topic: Option<String>,
    /// For Connect: the last will has the RETAIN flag.
    pub will_retain: bool,
}

/// What the policies say to one check.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub action: Action,
    /// On what: an ARN, or `*`.
    pub resource: String,
    /// With which client id.
    pub client_id: Option<String>,
    /// The thing that the connection stood for.
    pub thing: Option<String>,
    /// The outcome.
    pub outcome: Outcome,
    /// The names of the policies that were asked, those of the thing's groups included.
    pub policies: Vec<String>,
    /// The statements that speak of the action, those that decided first.
    pub statements: Vec<Considered>,
    /// The variables in them, by name, with their values or the reason why they have none.
    pub variables: BTreeMap<String, Result<String, String>>,
    /// The variables whose value could have mattered and is missing.
    pub missing: Vec<String>,
}

/// A statement that speaks of the action.
#[derive(Clone, Debug)]
pub struct Considered {
    /// Its policy: a number in [`Answer::policies`].
    pub policy: usize,
    /// Its number in the policy, from 0.
    pub number: usize,
    /// Its JSON path.
    pub path: String,
    /// Its name for itself.
    pub sid: Option<String>,
    /// What it does.
    pub effect: Effect,
    /// Whether it brought the outcome about.
    pub decided: bool,
    /// Whether its resources are those asked for.
    pub resource: bool,
    /// Its conditions that are not met.
    pub unmet: Vec<Unmet>,
}

/// A condition that is not met.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Unmet {
    /// Its JSON path.
    pub path: String,
    /// The key that it asks for.
    pub key: String,
    /// What the request brings under that key.
    pub values: Vec<String>,
}

/// Puts a question and every question that belongs to it, such as the one for a last will.
pub fn simulate(
    policies: &[NamedPolicy],
    device: &Device,
    question: &Question,
    place: &Place,
) -> Vec<Answer> {
    let name = question.name();
    let own = question.client_id.clone().or(device.client_id.clone());
    let connecting = (question.action == Action::Connect).then(|| name.to_owned());
    let client_id = own.or(connecting);
    let id = client_id.as_deref().unwrap_or_default();
    let things = device.things.iter();
    let thing = stands_for(id, things.map(|thing| (&thing.name[..], thing.exclusive)));
    let thing = thing.map(|n| &device.things[n]);
    let scene = device.scene(id, thing);
    let mut policies = policies.to_vec();
    policies.extend(
        thing
            .iter()
            .flat_map(|thing| thing.policies.iter().cloned()),
    );
    let asker = Asker {
        policies: &policies,
        client_id: client_id.as_deref(),
        thing: thing.map(|thing| &thing.name[..]),
    };
    let checks = question.checks(name);
    let answers = checks.into_iter().enumerate().map(|(n, check)| {
        let resource = if n == 0 && question.resource.starts_with("arn:") {
            question.resource.clone()
        } else {
            check.action.resource(place, check.name)
        };
        let facts = match check.action {
            Action::Connect => scene.connect_facts(&question.connect(name), place),
            action if action.is_mqtt() => scene.facts(),
            _ => scene.facts().over_https(),
        };
        asker.ask(check.action, resource, &facts)
    });
    answers.collect()
}

impl Device {
    /// What is known of it with this client id, standing for this thing.
    fn scene<'a>(&'a self, client_id: &'a str, thing: Option<&'a DeviceThing>) -> Scene<'a> {
        Scene {
            client_id,
            certificate: self.certificate.as_ref(),
            thing: thing.map(|thing| ThingFacts {
                name: &thing.name,
                type_name: thing.type_name.as_deref(),
                attributes: &thing.attributes,
            }),
            source_ip: self.source_ip,
            context: &self.context,
        }
    }
}

impl Question {
    /// The resource without `arn:…:KIND/`.
    fn name(&self) -> &str {
        let kind = self.action.resource_kind();
        let rest = self
            .resource
            .strip_prefix("arn:")
            .map_or("", |arn| arn.splitn(5, ':').nth(4).unwrap_or_default());
        let name = rest
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix('/'));
        name.unwrap_or(&self.resource)
    }

    fn connect<'a>(&'a self, client_id: &'a str) -> Connect<'a> {
        Connect {
            client_id,
            persistent: self.persistent,
            will: self.will_topic.as_deref().map(|topic| Will {
                topic,
                retain: self.will_retain,
            }),
        }
    }

    fn checks<'a>(&'a self, name: &'a str) -> Vec<Check<'a>> {
        match self.action {
            Action::Connect => Packet::Connect(self.connect(name)).checks(),
            Action::Publish => Packet::Publish {
                topic: name,
                retain: self.retain,
            }
            .checks(),
            action => vec![Check { action, name }],
        }
    }
}

struct Asker<'a> {
    policies: &'a [NamedPolicy],
    client_id: Option<&'a str>,
    thing: Option<&'a str>,
}

impl Asker<'_> {
    fn ask(&self, action: Action, resource: String, facts: &Facts) -> Answer {
        let request = Request {
            action,
            resource: &resource,
        };
        let decision = decide(self.policies, facts, request);
        let outcome = decision.outcome;
        let missing: Vec<String> = decision
            .unresolved
            .iter()
            .map(ToString::to_string)
            .collect();
        let examined = examine(self.policies, facts, request);
        let names: BTreeSet<&str> = examined.iter().flat_map(Examined::variables).collect();
        let variables = names.into_iter().map(|name| {
            let value = facts.look_up(name);
            let value = value.map(str::to_owned).map_err(|why| why.to_string());
            (name.to_owned(), value)
        });
        let variables = variables.collect();
        let mut statements: Vec<Considered> = examined
            .iter()
            .map(|one| considered(one, outcome, facts))
            .collect();
        statements.sort_by_key(|one| !one.decided);
        Answer {
            action,
            client_id: self.client_id.map(str::to_owned),
            thing: self.thing.map(str::to_owned),
            outcome,
            policies: self.policies.iter().map(|one| one.name.clone()).collect(),
            statements,
            variables,
            missing,
            resource,
        }
    }
}

fn considered(one: &Examined<'_>, outcome: Outcome, facts: &Facts) -> Considered {
    let deciding = match outcome {
        Outcome::Allowed => Some(Effect::Allow),
        Outcome::ExplicitDeny => Some(Effect::Deny),
        Outcome::ImplicitDeny => None,
    };
    Considered {
        policy: one.policy,
        number: one.number,
        path: one.statement.path.clone(),
        sid: one.statement.sid.clone(),
        effect: one.statement.effect,
        decided: one.matches() && deciding == Some(one.statement.effect),
        resource: one.resource,
        unmet: one
            .unmet
            .iter()
            .map(|condition| Unmet {
                path: condition.path.clone(),
                key: condition.key.clone(),
                values: facts.values(&condition.key).to_vec(),
            })
            .collect(),
    }
}
