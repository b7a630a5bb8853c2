//! The least policy that lets every device of a fleet do what it is said, or was seen, to do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::core::ids::Place;
use crate::core::policy::MAX_CHARACTERS;
use crate::explain::{Explain, Kind};

mod traffic;

pub use traffic::{read_list, read_traffic};

/// The variable that stands for the device, unless another is named.
pub const THING_NAME: &str = "iot:Connection.Thing.ThingName";
/// The most policies that can be attached to one certificate.
pub const MAX_POLICIES: usize = 10;

/// What devices do; `{thing}` stands for the device's name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Topics that are published to; a level `+` or a last `#` stands for any.
    pub publish: BTreeSet<String>,
    /// Topics that are published to with the RETAIN flag.
    pub retain: BTreeSet<String>,
    /// Topic filters that are subscribed to, as they stand in the packet.
    pub subscribe: BTreeSet<String>,
    /// Topics that are received; when there are none, what the filters match.
    pub receive: BTreeSet<String>,
}

/// How a device connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The account and Region of the ARNs.
    pub place: Place,
    /// The variable that holds the device's name.
    pub variable: String,
    /// Whether it may ask for a persistent session.
    pub persistent: bool,
    /// The topic of its last will, if it may have one.
    pub will: Option<String>,
}

/// One resource that one statement lists.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Grant {
    sid: &'static str,
    action: &'static str,
    resource: String,
}

/// The policy documents: one, or as many as it takes.
///
/// # Errors
/// `generate.topic`; `generate.empty`; `generate.size` when they are more than `most`.
pub fn generate(
    wanted: &Wanted,
    options: &Options,
    most: usize,
) -> Result<Vec<String>, GenerateError> {
    let grants = grants(wanted, options)?;
    let connect = connect(options)?;
    let mut documents = Vec::new();
    let mut held: Vec<Grant> = Vec::new();
    let mut first = Some(&connect);
    for grant in grants {
        held.push(grant);
        if characters(&document(first, &held)) <= MAX_CHARACTERS {
            continue;
        }
        let last = held.pop();
        if held.is_empty() && first.is_none() {
            return Err(GenerateError::Topic {
                topic: last.map(|grant| grant.resource).unwrap_or_default(),
                problem: "is too long for a policy",
            });
        }
        documents.push(document(first.take(), &held));
        held = last.into_iter().collect();
    }
    documents.push(document(first, &held));
    if documents.len() > most {
        return Err(GenerateError::Size {
            needed: documents.len(),
            most,
        });
    }
    Ok(documents)
}

/// The statement that lets a device connect: as itself, attached, with no more than is asked.
fn connect(options: &Options) -> Result<Value, GenerateError> {
    let mut features = Vec::new();
    if options.persistent {
        features.push("PersistentConnect");
    }
    let mut condition = json!({
        "Bool": { "iot:Connection.Thing.IsAttached": "true" },
    });
    if let Some(will) = &options.will {
        features.push("LastWill");
        let topic = options.arn("topic", &topic_pattern(will, options)?);
        condition["ArnEqualsIfExists"] = json!({ "iot:LastWillTopic": topic });
    }
    condition["ForAllValues:StringEquals"] = json!({ "iot:ConnectAttributes": features });
    Ok(json!({
        "Sid": "Connect",
        "Effect": "Allow",
        "Action": "iot:Connect",
        "Resource": options.arn("client", &format!("${{{}}}", options.variable)),
        "Condition": condition,
    }))
}

fn grants(wanted: &Wanted, options: &Options) -> Result<Vec<Grant>, GenerateError> {
    let mut all = Vec::new();
    let will = options.will.iter();
    let published: BTreeSet<&String> = wanted
        .publish
        .iter()
        .chain(&wanted.retain)
        .chain(will)
        .collect();
    let received = if wanted.receive.is_empty() {
        &wanted.subscribe
    } else {
        &wanted.receive
    };
    let kinds = [
        ("Publish", "iot:Publish", published),
        (
            "Retain",
            "iot:RetainPublish",
            wanted.retain.iter().collect(),
        ),
        ("Receive", "iot:Receive", received.iter().collect()),
    ];
    for (sid, action, topics) in kinds {
        let patterns: Result<BTreeSet<String>, _> = topics
            .into_iter()
            .map(|topic| topic_pattern(topic, options))
            .collect();
        let patterns = patterns?;
        // A pattern that another one covers would only take up room.
        let kept = patterns.iter().filter(|one| {
            !patterns
                .iter()
                .any(|other| other != *one && covers(other, one))
        });
        all.extend(kept.map(|pattern| Grant {
            sid,
            action,
            resource: options.arn("topic", pattern),
        }));
    }
    all.extend(filters(wanted, options)?);
    if all.is_empty() {
        return Err(GenerateError::Empty);
    }
    Ok(all)
}

fn filters(wanted: &Wanted, options: &Options) -> Result<Vec<Grant>, GenerateError> {
    let one = |filter: &String| {
        Ok(Grant {
            sid: "Subscribe",
            action: "iot:Subscribe",
            resource: options.arn("topicfilter", &filter_pattern(filter, options)?),
        })
    };
    wanted.subscribe.iter().map(one).collect()
}

/// Whether `a/*` makes `a/b` needless.
fn covers(wide: &str, narrow: &str) -> bool {
    wide.strip_suffix('*').is_some_and(|start| {
        start.ends_with('/') && !start.contains('*') && narrow.starts_with(start)
    })
}

fn document(connect: Option<&Value>, grants: &[Grant]) -> String {
    let mut statements: Vec<Value> = connect.into_iter().cloned().collect();
    for group in grants.chunk_by(|a, b| a.sid == b.sid) {
        let resources: Vec<&str> = group.iter().map(|grant| &grant.resource[..]).collect();
        statements.push(json!({
            "Sid": group[0].sid,
            "Effect": "Allow",
            "Action": group[0].action,
            "Resource": resources,
        }));
    }
    let whole = json!({ "Version": "2012-10-17", "Statement": statements });
    let mut text = format!("{whole:#}");
    text.push('\n');
    text
}

/// As AWS IoT counts: white space is free.
fn characters(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

impl Options {
    fn arn(&self, kind: &str, name: &str) -> String {
        self.place.arn(kind, name)
    }
}

/// A topic as a policy's pattern: what MQTT's wildcards match, the policy's `*` does.
fn topic_pattern(topic: &str, options: &Options) -> Result<String, GenerateError> {
    let topic = shared_filter(topic);
    let levels = valid(topic)?.into_iter().map(|level| match level {
        "+" | "#" => "*".to_owned(),
        level => pattern(level, options),
    });
    Ok(levels.collect::<Vec<_>>().join("/"))
}

/// The filter that a shared subscription is to.
fn shared_filter(filter: &str) -> &str {
    let rest = filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'));
    rest.map_or(filter, |(_, filter)| filter)
}

/// A filter as a policy's pattern: there `+` and `#` are themselves.
fn filter_pattern(filter: &str, options: &Options) -> Result<String, GenerateError> {
    let levels = valid(filter)?
        .into_iter()
        .map(|level| pattern(level, options));
    Ok(levels.collect::<Vec<_>>().join("/"))
}

/// One level: placeholders become the variable, what a policy reads otherwise is escaped.
fn pattern(level: &str, options: &Options) -> String {
    let mut text = String::new();
    let mut rest = level;
    let variable = format!("${{{}}}", options.variable);
    while let Some(c) = rest.chars().next() {
        let named = format!("${{{THING_NAME}}}");
        let used = if rest.starts_with("{thing}") {
            text.push_str(&variable);
            "{thing}".len()
        } else if rest.starts_with(&named) {
            text.push_str(&variable);
            named.len()
        } else if let (true, Some(end)) = (rest.starts_with("${iot:"), rest.find('}')) {
            text.push_str(&rest[..=end]);
            end + 1
        } else {
            match c {
                '*' | '?' => text.extend(["${", rest.get(..1).unwrap_or_default(), "}"]),
                '$' if rest.starts_with("${") => text.push_str("${$}"),
                c => text.push(c),
            }
            c.len_utf8()
        };
        rest = &rest[used..];
    }
    text
}

/// The levels of a topic or filter that MQTT takes.
fn valid(topic: &str) -> Result<Vec<&str>, GenerateError> {
    let levels: Vec<&str> = topic.split('/').collect();
    let last = levels.len() - 1;
    let problem = if topic.is_empty() {
        Some("is empty")
    } else if topic.contains('\0') {
        Some("holds a NUL character")
    } else if levels
        .iter()
        .any(|level| level.len() > 1 && level.contains(['+', '#']))
    {
        Some("has a `+` or `#` that is not a whole level")
    } else if levels[..last].contains(&"#") {
        Some("goes on after its `#`")
    } else {
        None
    };
    match problem {
        None => Ok(levels),
        Some(problem) => Err(GenerateError::Topic {
            topic: topic.to_owned(),
            problem,
        }),
    }
}

/// A policy that cannot be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// Nothing to allow.
    #[error("no topic was named, so there is nothing to allow")]
    Empty,
    /// A line of a list or a log.
    #[error("line {line} {problem}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// More documents than wanted.
    #[error(
        "the policy takes {needed} documents of {MAX_CHARACTERS} characters, and {most} may be written"
    )]
    Size {
        /// How many it takes.
        needed: usize,
        /// How many there may be.
        most: usize,
    },
    /// Not a topic or filter.
    #[error("`{topic}` {problem}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Explain for GenerateError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "generate.empty",
            Self::Line { .. } => "generate.line",
            Self::Size { .. } => "generate.size",
            Self::Topic { .. } => "generate.topic",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Empty => Some("name topics with --publish and --subscribe".into()),
            Self::Size { needed, .. } if *needed <= MAX_POLICIES => Some(format!(
                "--split writes {needed} documents; all can be attached to one certificate"
            )),
            Self::Size { .. } => Some(format!(
                "name fewer topics, or wider ones: a certificate holds {MAX_POLICIES} policies"
            )),
            Self::Line { .. } | Self::Topic { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
