//! Runs thing registration tasks: reads the input, registers line by line, reports. Source:
//! developer guide "Bulk registration".

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Shared;
use super::registry::{ApiError, Registry, TaskReport, TaskStatus};
use crate::core::json;

/// The longest line, in bytes, and the largest input that is read.
const MAX_LINE: usize = 256 * 1024;
const MAX_INPUT: u64 = 256 * 1024 * 1024;
/// How long a server may take to send the input.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Where the buckets are that tasks name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Buckets {
    /// Nowhere.
    #[default]
    None,
    /// A folder with a folder for each bucket.
    Folder(PathBuf),
    /// A server of S3's path style: `http://HOST:PORT/BUCKET/KEY`.
    Url(String),
}

impl FromStr for Buckets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") {
            return Ok(Self::Url(text.trim_end_matches('/').to_owned()));
        }
        if text.contains("://") || text.is_empty() {
            return Err(format!("`{text}` is neither a folder nor an http:// URL"));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

impl Buckets {
    /// An object's content. An error is one line.
    fn read(&self, bucket: &str, key: &str) -> Result<Vec<u8>, String> {
        let plain = Path::new(bucket).components().count() == 1;
        let below = Path::new(key)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let is_bucket = plain && !matches!(bucket, "." | "..");
        if !is_bucket || !below || key.is_empty() {
            return Err(format!("`{bucket}` / `{key}` is not a bucket and a key"));
        }
        let content = match self {
            Self::None => {
                return Err("the sandbox has no buckets; start it with --s3".to_owned());
            }
            Self::Folder(folder) => {
                let path = folder.join(bucket).join(key);
                let read = |path: &Path| {
                    let file = std::fs::File::open(path)?;
                    let mut content = Vec::new();
                    file.take(MAX_INPUT + 1).read_to_end(&mut content)?;
                    Ok::<_, std::io::Error>(content)
                };
                read(&path).map_err(|error| format!("`{}`: {error}", path.display()))?
            }
            Self::Url(base) => fetch(&format!("{base}/{bucket}/{key}"))?,
        };
        if content.len() as u64 > MAX_INPUT {
            return Err(format!("the input is larger than {MAX_INPUT} bytes"));
        }
        Ok(content)
    }
}

fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .proxy(None)
        .build()
        .into();
    let failed = |error: ureq::Error| format!("`{url}`: {error}");
    let mut response = agent.get(url).call().map_err(failed)?;
    let body = response.body_mut().with_config().limit(MAX_INPUT + 1);
    body.read_to_vec().map_err(failed)
}

/// Runs a task that has been noted, on a thread of its own.
pub(super) fn run_beside(shared: Shared, id: String) {
    let run = Run { shared, id };
    let named = thread::Builder::new().name("registration-task".into());
    // Without a thread the task stays in progress, and can be stopped.
    let _ = named.spawn(move || run.run());
}

struct Run {
    shared: Shared,
    id: String,
}

impl Run {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        let registry = &self.shared.registry;
        registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let now = self.shared.clock.now();
        let Some((template, bucket, key)) = self.registry().task(&self.id).map(|task| {
            let task = task.clone();
            (task.template, task.bucket, task.key)
        }) else {
            return;
        };
        let input = self.shared.buckets.read(&bucket, &key);
        let done = match input {
            Ok(input) => self.lines(&template, &input),
            Err(why) => self.registry().advance_task(&self.id, now, |task| {
                task.status = TaskStatus::Failed;
                task.message = Some(why);
            }),
        };
        if let Err(error) = done {
            let _ = self.registry().advance_task(&self.id, now, |task| {
                task.status = TaskStatus::Failed;
                task.message = Some(error.message);
            });
        }
    }

    fn lines(&self, template: &str, input: &[u8]) -> Result<(), ApiError> {
        let lines: Vec<(usize, &[u8])> = input
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .map(|(n, line)| (n + 1, line))
            .collect();
        let count = lines.len();
        let now = self.shared.clock.now();
        self.registry()
            .advance_task(&self.id, now, |task| task.lines = count)?;
        let mut report = TaskReport::default();
        let mut stopped = false;
        for (number, line) in lines {
            stopped = self.stopped();
            if stopped {
                break;
            }
            self.line(template, number, line, &mut report)?;
        }
        let now = self.shared.clock.now();
        let mut registry = self.registry();
        registry.together(|registry| {
            registry.keep_report(&self.id, report)?;
            registry.advance_task(&self.id, now, |task| {
                task.status = if stopped {
                    TaskStatus::Cancelled
                } else {
                    TaskStatus::Completed
                };
            })
        })
    }

    fn stopped(&self) -> bool {
        let registry = self.registry();
        let task = registry.task(&self.id);
        task.is_none_or(|task| task.status == TaskStatus::Cancelling)
    }

    fn line(
        &self,
        template: &str,
        number: usize,
        line: &[u8],
        report: &mut TaskReport,
    ) -> Result<(), ApiError> {
        let now = self.shared.clock.now();
        let parameters = parameters(line);
        let mut registry = self.registry();
        let done =
            parameters.and_then(|given| registry.register_by_template(template, &given, now));
        let failed = done.is_err();
        let (into, response) = match done {
            Ok(made) => {
                let mut response = json!({ "ResourceArns": made.arns });
                if let Some(pem) = made.certificate {
                    response["CertificatePem"] = pem.into();
                }
                (&mut report.results, response)
            }
            Err(error) => {
                let code = error.name.as_str();
                let body = json!({ "errorCode": code, "message": error.message });
                let response = json!({ "Status": error.name.status(), "Body": body.to_string() });
                (&mut report.errors, response)
            }
        };
        let said = json!({ "lineNumber": number, "response": response });
        into.push_str(&said.to_string());
        into.push('\n');
        registry.advance_task(&self.id, now, |task| {
            if failed {
                task.failures += 1;
            } else {
                task.successes += 1;
            }
        })
    }
}

/// The parameters of one line.
fn parameters(line: &[u8]) -> Result<BTreeMap<String, String>, ApiError> {
    if line.len() > MAX_LINE {
        let message = format!("the line is longer than {MAX_LINE} bytes");
        return Err(ApiError::invalid(message));
    }
    let text = std::str::from_utf8(line).map_err(|_| ApiError::invalid("the line is not UTF-8"))?;
    let value = json::parse(text, 4)
        .map_err(|error| ApiError::invalid(format!("the line is not JSON: {error}")))?;
    let Value::Object(map) = value else {
        return Err(ApiError::invalid("the line is not a JSON object"));
    };
    let one = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        _ => Err(ApiError::invalid(format!("{name} is not a string"))),
    };
    map.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_read_and_nothing_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("s3/bulk/in")).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::fs::write(folder.path().join("s3/bulk/in/a.json"), "{}").unwrap();
        let buckets = Buckets::Folder(folder.path().join("s3"));
        assert_eq!(buckets.read("bulk", "in/a.json").unwrap(), b"{}");
        for (bucket, key) in [
            ("bulk", "../../secret"),
            ("..", "secret"),
            ("bulk/..", "x"),
            ("bulk", "/etc/passwd"),
            ("bulk", ""),
            ("", "a"),
        ] {
            assert!(buckets.read(bucket, key).is_err(), "{bucket} {key}");
        }
        assert!(
            Buckets::None
                .read("bulk", "a")
                .unwrap_err()
                .contains("--s3")
        );
        assert!("https://x".parse::<Buckets>().is_err());
    }

    #[test]
    fn a_line_is_an_object_of_texts() {
        assert_eq!(
            parameters(br#"{"ThingName":"a"}"#).unwrap()["ThingName"],
            "a"
        );
        for bad in [&b"[]"[..], b"{", b"\xff", br#"{"a":1}"#] {
            assert!(parameters(bad).is_err());
        }
    }
}
