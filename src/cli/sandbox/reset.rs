//! `sandbox reset`

use std::fmt;
use std::path::PathBuf;

use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::explain::{Failure, Kind};
use crate::sandbox::folder::Folder;

/// Remove everything the sandbox knows
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Do it
    #[arg(long, short)]
    yes: bool,
}

/// What was removed.
#[derive(serde::Serialize)]
pub(super) struct Reset {
    state: PathBuf,
    removed: Vec<PathBuf>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Reset, Failure> {
        let state = state_folder(self.state, settings)?;
        if !state.is_dir() {
            return Ok(Reset {
                state,
                removed: Vec::new(),
            });
        }
        let folder = Folder::take(&state)?;
        if !self.yes {
            let message = format!(
                "this would remove every CA, certificate, thing, policy and template of the \
                 sandbox in `{}`",
                state.display()
            );
            return Err(Failure::new(Kind::Refused, "sandbox.reset", message)
                .hint("run it again with --yes"));
        }
        Ok(Reset {
            removed: folder.erase()?,
            state,
        })
    }
}

/// The folder named, or the project's.
pub(super) fn state_folder(
    named: Option<PathBuf>,
    settings: &Settings,
) -> Result<PathBuf, Failure> {
    if let Some(state) = named.or_else(|| settings.sandbox_state()) {
        return Ok(state);
    }
    let message = "there is no project here, and no folder of a sandbox's state";
    Err(Failure::new(Kind::Input, "sandbox.no-state", message)
        .hint("run it in a project, or name the folder with --state DIR"))
}

impl Report for Reset {}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.display();
        match self.removed.len() {
            0 => write!(f, "there is no sandbox state in {state}"),
            count => write!(f, "removed {count} files of the sandbox in {state}"),
        }
    }
}
