//! `policy simulate`

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::core::policy::{Action, Document, Facts, NamedPolicy, Outcome, Request, decide};
use crate::explain::{Failure, Kind};

/// Say whether policies allow a request, and which statement decides
///
/// Exits with 1 when they do not.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// A policy document, JSON; `-` is stdin
    #[arg(long, value_name = "FILE", required = true)]
    policy: Vec<PathBuf>,
    /// The client id that the device connects with
    #[arg(long, value_name = "ID", default_value = "")]
    client_id: String,
    /// What is asked: `connect`, `publish`, `subscribe`, `receive`, `retain-publish`
    #[arg(long, value_name = "ACTION")]
    action: String,
    /// On what: a client id, topic or topic filter, or an ARN
    #[arg(long, value_name = "NAME|ARN")]
    resource: String,
}

/// What the policies say.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Simulated {
    action: &'static str,
    resource: String,
    allowed: bool,
    decision: &'static str,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Simulated, Failure> {
        let policies = self
            .policy
            .iter()
            .map(|path| {
                let document = Document::parse(&super::read_text(path)?)?;
                Ok(NamedPolicy {
                    name: path.display().to_string(),
                    document: Arc::new(document),
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let action = Action::parse(&self.action).ok_or_else(|| unknown(&self.action))?;
        let resource = if self.resource.starts_with("arn:") {
            self.resource
        } else {
            let place = settings.sandbox_place()?;
            place.arn(action.resource_kind(), &self.resource)
        };
        let facts = Facts::new(&self.client_id);
        let request = Request {
            action,
            resource: &resource,
        };
        let decision = match decide(&policies, &facts, request).outcome {
            Outcome::Allowed => "ALLOWED",
            Outcome::ExplicitDeny => "EXPLICIT_DENY",
            Outcome::ImplicitDeny => "IMPLICIT_DENY",
        };
        Ok(Simulated {
            action: action.name(),
            allowed: decision == "ALLOWED",
            resource,
            decision,
        })
    }
}

fn unknown(action: &str) -> Failure {
    let message = format!("`{action}` is not an action that a device asks for");
    Failure::new(Kind::Usage, "policy.action", message)
        .hint("one of connect, publish, subscribe, receive, retain-publish")
}

impl Report for Simulated {
    fn exit_code(&self) -> u8 {
        u8::from(!self.allowed)
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {} on {}", self.decision, self.action, self.resource)
    }
}
