//! `policy simulate`

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::requests::RequestArgs;
use crate::cli::args_policy::{DeviceArgs, Gathered, Loaded, PolicyArgs, gather};
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::target::TargetReport;
use crate::core::ids::Place;
use crate::core::policy::simulate::{Answer, Considered, Unmet, simulate};
use crate::core::policy::{Effect, NamedPolicy, Outcome};
use crate::explain::Failure;

/// Say whether policies allow what a device asks, which statement decides, and why
///
/// Exit code 0 when everything is allowed, 1 when something is denied. JSON has the shape of AWS's
/// TestAuthorization, with a `detail` of ours. A CONNECT with a last will and a retained PUBLISH
/// ask for more than one action; each is answered.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    policies: PolicyArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    request: RequestArgs,
}

/// What the policies say.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Simulated {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<TargetReport>,
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(rename = "authResults")]
    results: Vec<AuthResult>,
}

/// One check, as TestAuthorization answers it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthResult {
    auth_info: AuthInfo,
    allowed: Policies,
    denied: Denied,
    auth_decision: &'static str,
    missing_context_values: Vec<String>,
    detail: Detail,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthInfo {
    action_type: String,
    resources: [String; 1],
}

#[derive(Default, serde::Serialize)]
struct Policies {
    policies: Vec<PolicyRef>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Denied {
    implicit_deny: Policies,
    explicit_deny: Policies,
}

#[derive(Clone, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyRef {
    policy_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_arn: Option<String>,
}

/// What AWS does not tell.
#[derive(serde::Serialize)]
struct Detail {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thing: Option<String>,
    /// Those that decided first.
    statements: Vec<Said>,
    variables: BTreeMap<String, Variable>,
}

#[derive(serde::Serialize)]
struct Said {
    policy: String,
    statement: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    effect: &'static str,
    path: String,
    line: usize,
    column: usize,
    decided: bool,
    resource_matches: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmet_conditions: Vec<Unmet>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Variable {
    Value(String),
    Missing(String),
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Simulated, Failure> {
        let gathered = gather(&self.policies, &self.device, settings)?;
        let client_id = gathered.device.client_id.as_deref();
        let questions = self.request.questions(client_id)?;
        let named: Vec<NamedPolicy> = gathered
            .policies
            .iter()
            .map(|one| one.policy.clone())
            .collect();
        let (device, place) = (&gathered.device, &gathered.place);
        let results: Vec<AuthResult> = questions
            .iter()
            .flat_map(|question| simulate(&named, device, question, place))
            .map(|answer| result(answer, &gathered))
            .collect();
        let certificate = gathered.device.certificate.as_ref();
        Ok(Simulated {
            allowed: results.iter().all(AuthResult::is_allowed),
            principal: certificate.map(|one| gathered.place.arn("cert", one.id())),
            target: gathered.target,
            place: gathered.place,
            results,
        })
    }
}

fn result(answer: Answer, gathered: &Gathered) -> AuthResult {
    let all = || gathered.policies.iter().chain(&gathered.of_groups);
    let of = |one: &Considered| {
        let name = &answer.policies[one.policy];
        all().find(|loaded| loaded.policy.name == *name)
    };
    let mut deciding: Vec<PolicyRef> = Vec::new();
    for one in answer.statements.iter().filter(|one| one.decided) {
        let policy = PolicyRef {
            policy_name: answer.policies[one.policy].clone(),
            policy_arn: of(one).and_then(|loaded| loaded.arn.clone()),
        };
        if !deciding.contains(&policy) {
            deciding.push(policy);
        }
    }
    let statements = answer.statements.iter();
    let statements = statements.map(|one| said(one, &answer.policies[one.policy], of(one)));
    let detail = Detail {
        action: answer.action.name(),
        statements: statements.collect(),
        client_id: answer.client_id,
        thing: answer.thing,
        variables: answer.variables.into_iter().map(variable).collect(),
    };
    let (allowed, explicit_deny) = match answer.outcome {
        Outcome::Allowed => (deciding, Vec::new()),
        _ => (Vec::new(), deciding),
    };
    AuthResult {
        allowed: Policies { policies: allowed },
        denied: Denied {
            implicit_deny: Policies::default(),
            explicit_deny: Policies {
                policies: explicit_deny,
            },
        },
        auth_decision: decision(answer.outcome),
        auth_info: AuthInfo {
            action_type: action_type(answer.action.name()),
            resources: [answer.resource],
        },
        missing_context_values: answer.missing,
        detail,
    }
}

fn variable((name, value): (String, Result<String, String>)) -> (String, Variable) {
    match value {
        Ok(value) => (name, Variable::Value(value)),
        Err(why) => (name, Variable::Missing(why)),
    }
}

fn decision(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "ALLOWED",
        Outcome::ExplicitDeny => "EXPLICIT_DENY",
        Outcome::ImplicitDeny => "IMPLICIT_DENY",
    }
}

/// `RETAIN_PUBLISH` for `iot:RetainPublish`.
fn action_type(name: &str) -> String {
    let mut out = String::new();
    for (n, c) in name.trim_start_matches("iot:").chars().enumerate() {
        if n > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

fn said(one: &Considered, policy: &str, loaded: Option<&Loaded>) -> Said {
    let (line, column) = loaded.map_or((1, 1), |loaded| loaded.place_of(&one.path));
    Said {
        policy: policy.to_owned(),
        statement: one.number,
        sid: one.sid.clone(),
        effect: match one.effect {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        },
        path: one.path.clone(),
        line,
        column,
        decided: one.decided,
        resource_matches: one.resource,
        unmet_conditions: one.unmet.clone(),
    }
}

impl AuthResult {
    fn is_allowed(&self) -> bool {
        self.auth_decision == "ALLOWED"
    }
}

impl Report for Simulated {
    fn exit_code(&self) -> u8 {
        u8::from(!self.allowed)
    }

    fn lines(&self) -> Option<Vec<Value>> {
        let results = self.results.iter();
        Some(results.map(|result| serde_json::json!(result)).collect())
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for result in &self.results {
            write!(f, "{result}")?;
        }
        let allowed = self.results.iter().filter(|one| one.is_allowed()).count();
        match (allowed, self.results.len()) {
            (1, 1) => f.write_str("allowed"),
            (0, 1) => f.write_str("denied"),
            (allowed, all) => write!(f, "{allowed} of {all} allowed"),
        }
    }
}

impl fmt::Display for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [resource] = &self.auth_info.resources;
        writeln!(
            f,
            "{}  {} on {resource}",
            self.auth_decision, self.detail.action
        )?;
        if self.detail.statements.is_empty() {
            writeln!(f, "  no statement speaks of {}", self.detail.action)?;
        }
        for one in &self.detail.statements {
            writeln!(f, "  {one}")?;
        }
        for (name, variable) in &self.detail.variables {
            match variable {
                Variable::Value(value) => writeln!(f, "  ${{{name}}} = {value}")?,
                Variable::Missing(why) => writeln!(f, "  ${{{name}}} has no value: {why}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            policy,
            line,
            column,
            statement,
            ..
        } = self;
        write!(f, "{policy}:{line}:{column}: statement {statement}")?;
        if let Some(sid) = &self.sid {
            write!(f, " ({sid})")?;
        }
        let verb = if self.effect == "Allow" {
            "allow"
        } else {
            "deny"
        };
        if self.decided {
            return match verb {
                "allow" => f.write_str(" allows it"),
                _ => f.write_str(" denies it"),
            };
        }
        match (self.resource_matches, &self.unmet_conditions[..]) {
            (true, []) => write!(f, " would {verb} it"),
            (true, unmet) => {
                write!(f, " would {verb} it, but ")?;
                let unmet: Vec<String> = unmet.iter().map(unmet_text).collect();
                f.write_str(&unmet.join(", and "))
            }
            (false, _) => write!(f, " would {verb} other resources"),
        }
    }
}

fn unmet_text(unmet: &Unmet) -> String {
    let Unmet { key, values, path } = unmet;
    match &values[..] {
        [] => format!("`{key}` is absent ({path})"),
        values => format!("`{key}` is {} ({path})", values.join(", ")),
    }
}
