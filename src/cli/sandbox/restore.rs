//! `sandbox restore`

use std::fmt;
use std::path::PathBuf;

use super::reset::state_folder;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::explain::{Failure, Kind};
use crate::sandbox::folder::{Folder, STATE};
use crate::sandbox::snapshot::restore;

/// Put a snapshot in the place of what the sandbox knows
///
/// The sandbox must not run. What is there is replaced, which needs --yes.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The file that `sandbox snapshot` wrote
    file: PathBuf,
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Replace what is there
    #[arg(long, short)]
    yes: bool,
}

/// What was put back.
#[derive(serde::Serialize)]
pub(super) struct Restored {
    file: PathBuf,
    state: PathBuf,
    parts: Vec<&'static str>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Restored, Failure> {
        let state = state_folder(self.state, settings)?;
        let folder = Folder::take(&state)?;
        if !self.yes && folder.file(STATE).exists() {
            let message = format!(
                "this would replace everything the sandbox in `{}` knows",
                state.display()
            );
            return Err(Failure::new(Kind::Refused, "sandbox.reset", message)
                .hint("save it first (`nameplate sandbox snapshot FILE`), then use --yes"));
        }
        Ok(Restored {
            parts: restore(&self.file, folder)?,
            file: self.file,
            state,
        })
    }
}

impl Report for Restored {}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, file) = (self.state.display(), self.file.display());
        write!(f, "restored the sandbox in {state} from {file}")
    }
}
