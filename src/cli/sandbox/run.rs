//! `sandbox run`

use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use super::start::{Ports, StartArgs, Started};
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::explain::{Failure, Kind};
use crate::sandbox::server::RunningInfo;

/// Any free ports, so that several can run at once.
const PORTS: Ports = Ports {
    control: 0,
    mqtt: 0,
    https: 0,
};

/// Run a command beside a sandbox of its own
///
/// Starts a sandbox, sets what AWS SDKs, the AWS CLI and nameplate need to find it
/// (AWS_ENDPOINT_URL_IOT, credentials, Region, NAMEPLATE_ENDPOINT, NAMEPLATE_MQTT_HOST,
/// NAMEPLATE_MQTT_PORT, NAMEPLATE_HTTPS_PORT, NAMEPLATE_SERVER_CA), runs the command, stops the sandbox, and ends with the
/// command's exit code. Outside a project the state is temporary.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    start: StartArgs,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// How the command ended.
#[derive(serde::Serialize)]
pub(super) struct Ended {
    command: String,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    state: PathBuf,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Ended, Failure> {
        let started = self.start.start(settings, PORTS, true)?;
        let state = started.state.clone();
        let ended = run_beside(&started, &self.command);
        started.stop();
        let status = ended?;
        Ok(Ended {
            command: self.command[0].to_string_lossy().into_owned(),
            exit_code: code(status),
            signal: status.signal(),
            state,
        })
    }
}

/// Runs the command to its end. SIGINT reaches it by itself; SIGTERM is passed on.
fn run_beside(started: &Started, command: &[OsString]) -> Result<ExitStatus, Failure> {
    let name = command[0].to_string_lossy();
    let failed = |error: std::io::Error| {
        let message = format!("`{name}` cannot be run");
        Failure::new(Kind::Input, "sandbox.run", message).because(error)
    };
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .envs(environment(started.running.info(), &started.state))
        .envs(credentials(started))
        .spawn()
        .map_err(failed)?;
    let process = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let diverted = started.running.divert_signals(move || {
        if let Some(process) = process {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
    });
    let status = child.wait().map_err(failed)?;
    diverted.map_err(failed)?;
    Ok(status)
}

/// What a client needs to find the sandbox.
fn environment(info: &RunningInfo, state: &Path) -> Vec<(&'static str, OsString)> {
    let region = info.region.as_str();
    let host = info.mqtt_host.clone().unwrap_or_default();
    let port = info.mqtt_port.unwrap_or_default();
    let mut all: Vec<(&'static str, OsString)> = vec![
        ("AWS_ENDPOINT_URL_IOT", info.control_url.clone().into()),
        (
            "AWS_ENDPOINT_URL_IOT_DATA_PLANE",
            info.control_url.clone().into(),
        ),
        (
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
            info.control_url.clone().into(),
        ),
        ("AWS_REGION", region.into()),
        ("AWS_DEFAULT_REGION", region.into()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("NAMEPLATE_TARGET", "sandbox".into()),
        ("NAMEPLATE_SANDBOX_STATE", state.into()),
        ("NAMEPLATE_ENDPOINT", format!("{host}:{port}").into()),
        ("NAMEPLATE_MQTT_HOST", host.into()),
        ("NAMEPLATE_MQTT_PORT", port.to_string().into()),
    ];
    if let Some(port) = info.https_port {
        all.push(("NAMEPLATE_HTTPS_PORT", port.to_string().into()));
    }
    if let Some(ca) = &info.ca_file {
        all.push(("NAMEPLATE_SERVER_CA", ca.into()));
    }
    all
}

/// Credentials that the sandbox takes. Where it takes any, the access key names the account.
fn credentials(started: &Started) -> Vec<(&'static str, String)> {
    let account = &started.running.info().account;
    let (key, secret, token) = match started.keyring.own(account) {
        Some(own) => own,
        None => (account.as_str(), "sandbox", None),
    };
    let mut all = vec![
        ("AWS_ACCESS_KEY_ID", key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
    ];
    all.extend(token.map(|token| ("AWS_SESSION_TOKEN", token.to_owned())));
    all
}

/// As shells have it: a signal is 128 and its number.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

impl Report for Ended {
    fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Ended {
    /// Nothing: the output is the command's.
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
