//! TestAuthorization: what the policies of a principal, and others on trial, say to a request.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::routing::MethodFilter;
use serde_json::{Value, json};

use super::call::{Call, Members, missing};
use super::{Operation, operation};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place, PolicyName};
use crate::core::policy::simulate::{Answer, Device, DeviceThing, Question, simulate};
use crate::core::policy::{Action, Document, Effect, NamedPolicy, Outcome};
use crate::sandbox::registry::{ApiError, Registry, ThingView};

pub(super) const OPERATIONS: &[Operation] = &[operation(
    "TestAuthorization",
    MethodFilter::POST,
    "/test-authorization",
    test_authorization,
)];

/// The most questions of one call (API model).
const MAX_QUESTIONS: usize = 10;

fn test_authorization(registry: &mut Registry, call: &Call) -> Result<Value, ApiError> {
    if call.text("cognitoIdentityPoolId")?.is_some() {
        return Err(ApiError::invalid("the sandbox has no Cognito identities"));
    }
    let id = registry.principal_of_arn(call.need("principal")?)?;
    let (device, policies) = subject(registry, call, &id)?;
    let infos = call.body().objects("authInfos")?;
    if !(1..=MAX_QUESTIONS).contains(&infos.len()) {
        let message = format!("authInfos has not 1 to {MAX_QUESTIONS} entries");
        return Err(ApiError::invalid(message));
    }
    let place = registry.place();
    let results: Result<Vec<Value>, ApiError> = infos
        .into_iter()
        .map(|info| examine(place, &device, &policies, info))
        .collect();
    Ok(json!({ "authResults": results? }))
}

/// Who asks, and by which policies.
fn subject(
    registry: &Registry,
    call: &Call,
    id: &CertificateId,
) -> Result<(Device, Vec<NamedPolicy>), ApiError> {
    let entry = registry
        .certificate(id)
        .ok_or_else(|| ApiError::not_found("certificate", id))?;
    let principal = registry.principal(id);
    let skipped: BTreeSet<String> = call.body().list("policyNamesToSkip")?.into_iter().collect();
    let mut all = principal.policies;
    for name in call.body().list("policyNamesToAdd")? {
        let name: PolicyName = name.parse()?;
        let policy = registry.policy(&name);
        let policy = policy.ok_or_else(|| ApiError::not_found("policy", &name))?;
        if let Some(version) = policy.default_version() {
            all.push((name, Arc::clone(&version.document)));
        }
    }
    all.retain(|(name, _)| !skipped.contains(name.as_str()));
    let certificate = Certificate::all_from_pem(entry.pem.as_bytes());
    let device = Device {
        client_id: call.query("clientId").map(str::to_owned),
        certificate: certificate.ok().and_then(|all| all.into_iter().next()),
        things: principal.things.into_iter().map(thing).collect(),
        source_ip: None,
        context: Vec::new(),
    };
    Ok((device, compiled(all)))
}

fn thing(view: ThingView) -> DeviceThing {
    DeviceThing {
        name: view.name.to_string(),
        type_name: view.type_name.map(|name| name.to_string()),
        attributes: view.attributes,
        exclusive: view.exclusive,
        policies: compiled(view.group_policies),
    }
}

/// The registry takes only documents that parse.
fn compiled(all: Vec<(PolicyName, Arc<str>)>) -> Vec<NamedPolicy> {
    let one = |(name, text): (PolicyName, Arc<str>)| {
        let document = Document::parse(&text).ok()?;
        Some(NamedPolicy {
            name: name.to_string(),
            document: Arc::new(document),
        })
    };
    all.into_iter().filter_map(one).collect()
}

fn action(word: &str) -> Result<Action, ApiError> {
    match word {
        "CONNECT" => Ok(Action::Connect),
        "PUBLISH" => Ok(Action::Publish),
        "RECEIVE" => Ok(Action::Receive),
        "SUBSCRIBE" => Ok(Action::Subscribe),
        _ => Err(ApiError::invalid(
            "actionType is none of CONNECT, PUBLISH, RECEIVE and SUBSCRIBE",
        )),
    }
}

/// One entry of `authInfos`: all of its resources must be allowed.
fn examine(
    place: &Place,
    device: &Device,
    policies: &[NamedPolicy],
    info: Members<'_>,
) -> Result<Value, ApiError> {
    let word = info
        .text("actionType")?
        .ok_or_else(|| missing("actionType"))?;
    let action = action(word)?;
    let resources = info.list("resources")?;
    if resources.is_empty() {
        return Err(missing("resources"));
    }
    let answers = resources.iter().flat_map(|resource| {
        let question = Question {
            action,
            resource: resource.clone(),
            client_id: None,
            retain: false,
            persistent: false,
            will_topic: None,
            will_retain: false,
        };
        simulate(policies, device, &question, place)
    });
    let answers: Vec<Answer> = answers.collect();
    let missing: BTreeSet<&String> = answers.iter().flat_map(|a| &a.missing).collect();
    let worst = if answers.iter().any(|a| a.outcome == Outcome::ExplicitDeny) {
        "EXPLICIT_DENY"
    } else if answers.iter().any(|a| a.outcome == Outcome::ImplicitDeny) {
        "IMPLICIT_DENY"
    } else {
        "ALLOWED"
    };
    let silent = answers
        .iter()
        .filter(|answer| answer.outcome == Outcome::ImplicitDeny)
        .flat_map(|answer| answer.policies.iter().map(|name| &name[..]));
    Ok(json!({
        "authInfo": { "actionType": word, "resources": resources },
        "allowed": { "policies": show(place, deciding(&answers, Effect::Allow)) },
        "denied": {
            "implicitDeny": { "policies": show(place, silent.collect()) },
            "explicitDeny": { "policies": show(place, deciding(&answers, Effect::Deny)) },
        },
        "authDecision": worst,
        "missingContextValues": missing,
    }))
}

/// The policies whose statements of this effect have decided.
fn deciding(answers: &[Answer], effect: Effect) -> BTreeSet<&str> {
    let decided = answers.iter().flat_map(|answer| {
        let statements = answer.statements.iter();
        let statements = statements.filter(move |one| one.decided && one.effect == effect);
        statements.filter_map(|one| answer.policies.get(one.policy).map(|name| &name[..]))
    });
    decided.collect()
}

fn show(place: &Place, names: BTreeSet<&str>) -> Vec<Value> {
    let one = |name: &str| json!({ "policyName": name, "policyArn": place.arn("policy", name) });
    names.into_iter().map(one).collect()
}
