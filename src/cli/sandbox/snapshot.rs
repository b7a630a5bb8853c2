//! `sandbox snapshot`

use std::fmt;
use std::path::PathBuf;

use super::reset::state_folder;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::explain::Failure;
use crate::sandbox::snapshot::save;

/// Save everything the sandbox knows in one file
///
/// The file is a tar archive of mode 0600: it holds the registry and the key of the server's CA. A
/// sandbox that runs may go on; the snapshot is of one moment. `sandbox restore` puts it back.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The new file
    file: PathBuf,
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// What was saved.
#[derive(serde::Serialize)]
pub(super) struct Saved {
    file: PathBuf,
    state: PathBuf,
    parts: Vec<&'static str>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Saved, Failure> {
        let state = state_folder(self.state, settings)?;
        Ok(Saved {
            parts: save(&state, &self.file)?,
            file: self.file,
            state,
        })
    }
}

impl Report for Saved {}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, file) = (self.state.display(), self.file.display());
        write!(f, "saved the sandbox in {state} to {file}")
    }
}
