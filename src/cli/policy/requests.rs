//! Requests for `policy simulate`, from flags or a file.

use std::path::{Path, PathBuf};

use super::read_text;
use crate::core::policy::Action;
use crate::core::policy::simulate::Question;
use crate::explain::{Failure, Kind};

/// What is asked.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct RequestArgs {
    /// What the device wants: connect, publish, subscribe, receive, retain-publish, or the name of
    /// another action of the data plane, such as GetThingShadow
    #[arg(long, value_name = "ACTION", required_unless_present = "requests")]
    action: Option<String>,
    /// On what: client id, topic, filter, thing or role alias, or an ARN; may be given several
    /// times [default for connect: the client id]
    #[arg(long, value_name = "NAME|ARN")]
    resource: Vec<String>,
    /// connect: with a persistent session
    #[arg(long)]
    persistent: bool,
    /// connect: the topic of the last will
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// connect: the last will is retained
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    /// publish: with the RETAIN flag
    #[arg(long)]
    retain: bool,
    /// Requests, JSON or one a line: `{"action": "publish", "resource": "a/b"}`; or the body of a
    /// TestAuthorization call; `-` is stdin
    #[arg(long, value_name = "FILE|-", conflicts_with = "action")]
    requests: Option<PathBuf>,
}

/// One request of a file.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    action: String,
    resource: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    retain: bool,
    #[serde(default)]
    persistent: bool,
    will_topic: Option<String>,
    #[serde(default)]
    will_retain: bool,
}

/// The body of a TestAuthorization call, as far as it says what is asked.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    auth_infos: Vec<Info>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Info {
    action_type: String,
    resources: Vec<String>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Whole {
    Call(Call),
    Lines(Vec<Line>),
}

impl RequestArgs {
    /// The questions, in order.
    pub(super) fn questions(&self, client_id: Option<&str>) -> Result<Vec<Question>, Failure> {
        if let Some(path) = &self.requests {
            return read(path, client_id);
        }
        let action = self.action.as_deref().unwrap_or_default();
        let line = |resource: Option<&String>| Line {
            action: action.to_owned(),
            resource: resource.cloned(),
            client_id: None,
            retain: self.retain,
            persistent: self.persistent,
            will_topic: self.will_topic.clone(),
            will_retain: self.will_retain,
        };
        if self.resource.is_empty() {
            return Ok(vec![line(None).question(client_id)?]);
        }
        let all = self.resource.iter();
        all.map(|resource| line(Some(resource)).question(client_id))
            .collect()
    }
}

impl Line {
    fn question(self, client_id: Option<&str>) -> Result<Question, Failure> {
        let Some(action) = Action::parse(&self.action) else {
            return Err(unknown(&self.action));
        };
        let own = self.client_id.as_deref().or(client_id);
        let resource = match (self.resource, action.resource_kind()) {
            (Some(resource), _) => resource,
            (None, "*") => "*".to_owned(),
            (None, "client") if own.is_some() => own.unwrap_or_default().to_owned(),
            (None, _) => {
                let message = format!("{} needs a resource", action.name());
                return Err(Failure::new(Kind::Usage, "policy.resource", message).hint(
                    "name it with --resource: a topic, filter, client id or thing, or an ARN; for \
                     connect --client-id is enough",
                ));
            }
        };
        if resource.is_empty() || resource.chars().count() > MAX_RESOURCE {
            let message = format!("a resource has 1 to {MAX_RESOURCE} characters");
            return Err(Failure::new(Kind::Usage, "policy.resource", message));
        }
        Ok(Question {
            action,
            resource,
            client_id: self.client_id,
            retain: self.retain,
            persistent: self.persistent,
            will_topic: self.will_topic,
            will_retain: self.will_retain,
        })
    }
}

/// The longest resource of a TestAuthorization call, in characters.
const MAX_RESOURCE: usize = 2048;

fn read(path: &Path, client_id: Option<&str>) -> Result<Vec<Question>, Failure> {
    let text = read_text(path)?;
    let shown = path.display();
    let lines = lines_of(&text).map_err(|(line, why)| {
        let at = line.map_or_else(String::new, |line| format!(", line {line}"));
        let message = format!("`{shown}`{at} is not a request");
        Failure::new(Kind::Input, "policy.requests", message)
            .because(why)
            .hint("write one JSON object a line: {\"action\": \"publish\", \"resource\": \"a/b\"}")
    })?;
    let mut questions = Vec::new();
    for (n, line) in lines.into_iter().enumerate() {
        let question = line.question(client_id).map_err(|failure| {
            let message = format!("`{shown}`, request {}: {}", n + 1, failure.message);
            let kind = Kind::Input;
            Failure {
                kind,
                message,
                ..failure
            }
        });
        questions.push(question?);
    }
    Ok(questions)
}

/// The requests of a text in any of its three shapes; else on which line it is wrong, and why.
fn lines_of(text: &str) -> Result<Vec<Line>, (Option<usize>, String)> {
    let lines = match serde_json::from_str(text) {
        Ok(Whole::Lines(lines)) => lines,
        Ok(Whole::Call(call)) => call.lines(),
        Err(_) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).map_err(|error| (None, error.to_string()))?
        }
        Err(_) => {
            let lines = text.lines().enumerate();
            let lines = lines.filter(|(_, line)| !line.trim().is_empty());
            let parsed = lines.map(|(n, line)| {
                serde_json::from_str(line).map_err(|error| (Some(n + 1), error.to_string()))
            });
            parsed.collect::<Result<_, _>>()?
        }
    };
    if lines.is_empty() {
        return Err((None, "it is empty".to_owned()));
    }
    Ok(lines)
}

impl Call {
    fn lines(self) -> Vec<Line> {
        let of = |info: Info| {
            let action = info.action_type;
            let line = move |resource| Line {
                action: action.clone(),
                resource: Some(resource),
                client_id: None,
                retain: false,
                persistent: false,
                will_topic: None,
                will_retain: false,
            };
            info.resources.into_iter().map(line).collect::<Vec<_>>()
        };
        self.auth_infos.into_iter().flat_map(of).collect()
    }
}

fn unknown(action: &str) -> Failure {
    let message = format!("`{action}` is not an action of the data plane");
    let bare = action.trim_start_matches("iot:");
    let known: Vec<&str> = Action::all()
        .map(|action| action.name().trim_start_matches("iot:"))
        .collect();
    let hint = match crate::core::near::meant(bare, &known) {
        Some(name) => format!("did you mean iot:{name}?"),
        None => "one of connect, publish, subscribe, receive, retain-publish, or a name such as \
                 iot:GetThingShadow"
            .to_owned(),
    };
    Failure::new(Kind::Usage, "policy.action", message).hint(hint)
}
