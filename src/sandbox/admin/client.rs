//! Talks to a running sandbox's own interface.

use std::path::Path;
use std::time::Duration;

use super::{Change, Now, TOKEN};
use crate::explain::{Explain, Kind};
use crate::sandbox::folder::{RunningInfo, find_running};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The interface of a sandbox that runs.
pub struct Admin {
    url: String,
    token: String,
}

impl Admin {
    /// Of the sandbox that runs over this state folder.
    ///
    /// # Errors
    /// `sandbox.not-running`, `sandbox.admin` when its token cannot be read.
    pub fn of_folder(state: &Path) -> Result<(Self, RunningInfo), AdminError> {
        let not_running = || AdminError::NotRunning(state.display().to_string());
        let info = find_running(state).ok_or_else(not_running)?;
        let url = info.admin_url.clone().ok_or_else(not_running)?;
        let token = std::fs::read_to_string(state.join(TOKEN))
            .map_err(|error| AdminError::Answer(format!("its token cannot be read: {error}")))?;
        let token = token.trim().to_owned();
        Ok((Self { url, token }, info))
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// `sandbox.admin`.
    pub fn now(&self) -> Result<Now, AdminError> {
        let request = agent().get(format!("{}/now", self.url));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        read(request.call())
    }

    /// Changes it.
    ///
    /// # Errors
    /// `sandbox.admin`; `sandbox.change` when it does not take the change.
    pub fn change(&self, change: &Change) -> Result<Now, AdminError> {
        let body = serde_json::to_vec(change).unwrap_or_default();
        let request = agent().post(format!("{}/change", self.url));
        let request = request
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        read(request.send(&body[..]))
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .http_status_as_error(false)
        .build()
        .into()
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Now, AdminError> {
    let failed = |error: String| AdminError::Answer(error);
    let mut answer = answer.map_err(|error| failed(error.to_string()))?;
    let status = answer.status().as_u16();
    let bytes = answer.body_mut().read_to_vec();
    let bytes = bytes.map_err(|error| failed(error.to_string()))?;
    if status == 200 {
        return serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()));
    }
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = body["message"].as_str().unwrap_or("no reason given");
    Err(match status {
        400 => AdminError::Refused(message.to_owned()),
        _ => failed(format!("HTTP {status}: {message}")),
    })
}

/// A sandbox that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It does not answer as it should.
    #[error("the running sandbox cannot be asked: {0}")]
    Answer(String),
    /// None runs.
    #[error("no sandbox runs over `{0}`")]
    NotRunning(String),
    /// It does not take the change.
    #[error("{0}")]
    Refused(String),
}

impl Explain for AdminError {
    fn kind(&self) -> Kind {
        match self {
            Self::Answer(_) | Self::NotRunning(_) => Kind::Unavailable,
            Self::Refused(_) => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Answer(_) => "sandbox.admin",
            Self::NotRunning(_) => "sandbox.not-running",
            Self::Refused(_) => "sandbox.change",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning(_) => Some(
                "start it with `nameplate sandbox serve`, or name its folder with --state DIR"
                    .into(),
            ),
            Self::Answer(_) | Self::Refused(_) => None,
        }
    }
}
