//! Pre-provisioning hooks: what AWS IoT asks of an AWS Lambda function before it runs a fleet
//! provisioning template, asked of an HTTP URL or a program on this machine. Source: developer guide
//! "Pre-provisioning hooks": the event, the answer, five seconds.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::core::json;

/// How long a hook may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// How long a program may take to end once it has closed its output, in steps.
const ENDING: (u32, Duration) = (100, Duration::from_millis(10));

/// Where a hook runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HookTarget {
    /// `http://…`: the event is POSTed, the answer is the body of a 200.
    Url(String),
    /// A program: the event on its standard input, the answer on its standard output, exit code 0.
    Program(PathBuf),
}

impl FromStr for HookTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") {
            return Ok(Self::Url(text.to_owned()));
        }
        if text.contains("://") {
            return Err(format!("`{text}` is not an http:// URL"));
        }
        if text.is_empty() {
            return Err("neither an http:// URL nor a program".to_owned());
        }
        Ok(Self::Program(PathBuf::from(text)))
    }
}

/// Where the functions that templates name run, by function name or ARN.
#[derive(Clone, Debug, Default)]
pub struct Hooks(BTreeMap<String, HookTarget>);

impl Hooks {
    /// From pairs of a function's name or ARN, and where it runs.
    pub fn new(all: impl IntoIterator<Item = (String, HookTarget)>) -> Self {
        Self(all.into_iter().collect())
    }

    fn target(&self, arn: &str) -> Option<&HookTarget> {
        // arn:aws:lambda:REGION:ACCOUNT:function:NAME, perhaps with :VERSION
        let name = arn.split(':').nth(6).unwrap_or_default();
        self.0.get(arn).or_else(|| self.0.get(name))
    }

    /// Asks a template's hook (`preProvisioningHook`). Answers the parameters that it overrides; an
    /// error says why provisioning is not allowed.
    pub(super) fn ask(
        &self,
        hook: &Value,
        event: &Value,
    ) -> Result<BTreeMap<String, String>, String> {
        let arn = hook["targetArn"].as_str().unwrap_or_default();
        let target = self.target(arn).ok_or_else(|| {
            format!("the pre-provisioning hook `{arn}` runs nowhere; start the sandbox with --hook")
        })?;
        let event = event.to_string().into_bytes();
        let answer = match target {
            HookTarget::Url(url) => post(url, &event),
            HookTarget::Program(path) => run(path, event),
        };
        let answer = answer.map_err(|why| format!("the pre-provisioning hook failed: {why}"))?;
        understand(&answer)
    }
}

fn post(url: &str, event: &[u8]) -> Result<Vec<u8>, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let request = agent.post(url).header("content-type", "application/json");
    let mut response = request.send(event).map_err(|error| match error {
        ureq::Error::Timeout(_) => slow(),
        other => other.to_string(),
    })?;
    let body = response.body_mut().with_config().limit(MAX_ANSWER);
    body.read_to_vec().map_err(|error| match error {
        ureq::Error::Timeout(_) => slow(),
        other => other.to_string(),
    })
}

fn slow() -> String {
    format!("it gave no answer in {} seconds", TIMEOUT.as_secs())
}

fn run(path: &std::path::Path, event: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut child = Command::new(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("`{}` cannot be run: {error}", path.display()))?;
    let answer = converse(&mut child, event);
    let ended = match &answer {
        Ok(_) => ending(&mut child),
        Err(_) => None,
    };
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let answer = answer?;
    match ended {
        Some(true) => Ok(answer),
        Some(false) => Err("it ended with a failure".to_owned()),
        None => Err("it does not end".to_owned()),
    }
}

/// Writes the event and reads the answer, beside each other: a program may read late.
fn converse(child: &mut Child, event: Vec<u8>) -> Result<Vec<u8>, String> {
    let (sender, answer) = mpsc::channel();
    if let Some(mut input) = child.stdin.take() {
        // One that does not read its event may still answer.
        thread::spawn(move || {
            let _ = input.write_all(&event);
        });
    }
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(MAX_ANSWER + 1).read_to_end(&mut bytes);
            let _ = sender.send(read.map(|_| bytes));
        });
    }
    match answer.recv_timeout(TIMEOUT) {
        Ok(Ok(bytes)) if bytes.len() as u64 > MAX_ANSWER => {
            Err(format!("its answer is longer than {MAX_ANSWER} bytes"))
        }
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(slow()),
    }
}

/// Whether it ended well; `None` when it does not end.
fn ending(child: &mut Child) -> Option<bool> {
    let (steps, pause) = ENDING;
    for _ in 0..steps {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) => thread::sleep(pause),
            Err(_) => return None,
        }
    }
    None
}

/// `{"allowProvisioning": true, "parameterOverrides": {…}}`.
fn understand(answer: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let garbage = |why: &str| format!("the pre-provisioning hook's answer {why}");
    let text = std::str::from_utf8(answer).map_err(|_| garbage("is not UTF-8"))?;
    let value = json::parse(text, 16).map_err(|error| garbage(&format!("is not JSON: {error}")))?;
    if value.get("allowProvisioning") != Some(&Value::Bool(true)) {
        return Err("the pre-provisioning hook does not allow it".to_owned());
    }
    match value.get("parameterOverrides") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(name, value)| {
                let text = value.as_str().map(str::to_owned);
                let wrong = || garbage("has a parameterOverrides value that is not a string");
                Ok((name.clone(), text.ok_or_else(wrong)?))
            })
            .collect(),
        Some(_) => Err(garbage("has parameterOverrides that are not an object")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:allow";

    fn program(folder: &std::path::Path, script: &str) -> Hooks {
        let path = folder.join("hook.sh");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Hooks::new([("allow".to_owned(), HookTarget::Program(path))])
    }

    fn ask(hooks: &Hooks) -> Result<BTreeMap<String, String>, String> {
        let hook = serde_json::json!({ "targetArn": ARN });
        hooks.ask(
            &hook,
            &serde_json::json!({ "parameters": {"SerialNumber": "7"} }),
        )
    }

    #[test]
    fn a_program_allows_overrides_denies_or_talks_rubbish() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = program(
            folder.path(),
            r#"grep -q SerialNumber && echo '{"allowProvisioning":true,"parameterOverrides":{"a":"b"}}'"#,
        );
        assert_eq!(ask(&hooks).unwrap()["a"], "b");
        for (script, wanted) in [
            (r#"echo '{"allowProvisioning":false}'"#, "does not allow"),
            (r#"echo '{"allowProvisioning":"true"}'"#, "does not allow"),
            ("echo nonsense", "not JSON"),
            (
                r#"echo '{"allowProvisioning":true,"parameterOverrides":{"a":1}}'"#,
                "not a string",
            ),
            (
                r#"echo '{"allowProvisioning":true}'; exit 3"#,
                "ended with a failure",
            ),
            ("head -c 70000 /dev/zero", "longer than 65536"),
            ("exec sleep 60", "no answer in 5 seconds"),
        ] {
            let said = ask(&program(folder.path(), script)).unwrap_err();
            assert!(said.contains(wanted), "{script}: {said}");
        }
    }

    #[test]
    fn a_function_that_runs_nowhere_denies() {
        let said = ask(&Hooks::default()).unwrap_err();
        assert!(said.contains("runs nowhere"), "{said}");
        assert!("https://x".parse::<HookTarget>().is_err());
        assert!("".parse::<HookTarget>().is_err());
    }
}
