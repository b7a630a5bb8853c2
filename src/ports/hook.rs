//! What is done when an identity has changed: those who use it are told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::explain::{Explain, Kind};

/// Tells others.
pub trait Hooks {
    /// Runs a command by the shell, with more in its environment; its output goes to stderr.
    ///
    /// # Errors
    /// `hook.failed`, `hook.timeout`.
    fn exec(
        &self,
        command: &str,
        environment: &[(&str, String)],
        timeout: Duration,
    ) -> Result<(), HookError>;

    /// Sends a signal to the process that `to` names: its number, or a file that holds it.
    ///
    /// # Errors
    /// `hook.process`.
    fn signal(&self, to: &Recipient, signal: Signal) -> Result<(), HookError>;
}

/// Who gets a signal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recipient {
    /// A process.
    Process(i32),
    /// The process whose number this file holds.
    File(PathBuf),
}

impl Recipient {
    /// A number is a process, anything else a file.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(process) if process > 0 => Self::Process(process),
            _ => Self::File(Path::new(text).to_owned()),
        }
    }
}

/// Which signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGTERM.
    Term,
}

/// Somebody was not told.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The command cannot be run, or ended with a failure.
    #[error("the command `{command}` failed: {why}")]
    Failed {
        /// The command.
        command: String,
        /// How.
        why: String,
    },
    /// There is no such process.
    #[error("the process of `{to}` gets no signal: {why}")]
    Process {
        /// Who.
        to: String,
        /// Why not.
        why: String,
    },
    /// The command does not end.
    #[error("the command `{command}` does not end within {} s", .timeout.as_secs())]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        timeout: Duration,
    },
}

impl Explain for HookError {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "hook.failed",
            Self::Process { .. } => "hook.process",
            Self::Timeout { .. } => "hook.timeout",
        }
    }
}
