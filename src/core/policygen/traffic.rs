//! What devices do, read from a list or from what the sandbox logged.

use super::{GenerateError, Wanted};

/// A record of `logs.ndjson`, as far as it matters here (CloudWatch's AWSIotLogsV2).
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_type: String,
    status: String,
    client_id: Option<String>,
    topic_name: Option<String>,
    retain: Option<String>,
}

impl Wanted {
    /// Adds what one line or record says; `false` when it is no such deed.
    fn add(&mut self, what: &str, topic: &str) -> bool {
        let set = match what {
            "publish" => &mut self.publish,
            "retain" => &mut self.retain,
            "subscribe" => &mut self.subscribe,
            "receive" => &mut self.receive,
            _ => return false,
        };
        set.insert(topic.to_owned());
        true
    }
}

/// Reads a list: `publish TOPIC`, `retain TOPIC`, `subscribe FILTER`, `receive TOPIC`, one a line;
/// a line that begins with `#` is none.
///
/// # Errors
/// `generate.line`.
pub fn read_list(text: &str, wanted: &mut Wanted) -> Result<(), GenerateError> {
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let known = line
            .split_once(char::is_whitespace)
            .is_some_and(|(what, topic)| wanted.add(what, topic.trim()));
        if !known {
            return Err(GenerateError::Line {
                line: n + 1,
                problem: format!(
                    "is not `publish`, `retain`, `subscribe` or `receive` and a topic: `{line}`"
                ),
            });
        }
    }
    Ok(())
}

/// Reads the sandbox's log: what was allowed, with each device's own client id, where it is a level
/// of a topic, as `{thing}`.
///
/// # Errors
/// `generate.line` when a line is not a record.
pub fn read_traffic(text: &str, wanted: &mut Wanted) -> Result<(), GenerateError> {
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let record: Record = serde_json::from_str(line).map_err(|error| GenerateError::Line {
            line: n + 1,
            problem: format!("is not a record of the sandbox's log: {error}"),
        })?;
        let (Some(client), Some(topic)) = (record.client_id, record.topic_name) else {
            continue;
        };
        let what = match (&record.event_type[..], &record.status[..]) {
            ("Publish-In", "Success") if record.retain.is_some() => "retain",
            ("Publish-In", "Success") => "publish",
            ("Subscribe", "Success") => "subscribe",
            _ => continue,
        };
        let level = |level| if level == client { "{thing}" } else { level };
        let levels: Vec<&str> = topic.split('/').map(level).collect();
        wanted.add(what, &levels.join("/"));
    }
    Ok(())
}
