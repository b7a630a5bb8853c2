//! `sandbox clock`

use std::fmt;
use std::path::PathBuf;

use super::reset::state_folder;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::explain::Failure;
use crate::sandbox::admin::{Admin, Change, Now};

/// Look at the running sandbox's clock, or change it
#[derive(clap::Subcommand, Debug)]
pub(in crate::cli) enum Command {
    /// Change the clock
    Set(Set),
    /// Show the time
    Show(Show),
}

/// Change the clock
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Set {
    /// `offset=+3h`, `fixed=2030-01-01T00:00:00Z`, `rate=60`, or `real` (repeat to combine)
    #[arg(required = true, value_name = "CHANGE")]
    changes: Vec<String>,
    #[command(flatten)]
    at: Show,
}

/// Show the time
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Show {
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// What the clock shows.
#[derive(serde::Serialize)]
pub(super) struct Time {
    time: crate::core::time::UtcTime,
    rate: u32,
}

impl Command {
    pub(super) fn run(self, settings: &Settings) -> Result<Time, Failure> {
        let (changes, at) = match self {
            Self::Set(set) => (set.changes, set.at),
            Self::Show(at) => (Vec::new(), at),
        };
        let (admin, _) = Admin::of_folder(&state_folder(at.state, settings)?)?;
        for change in changes {
            admin.change(&Change::Clock(change))?;
        }
        let Now {
            time, clock_rate, ..
        } = admin.now()?;
        Ok(Time {
            time,
            rate: clock_rate,
        })
    }
}

impl Report for Time {}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sandbox's clock shows {}", self.time)?;
        match self.rate {
            0 => write!(f, " and stands still"),
            1 => Ok(()),
            rate => write!(f, " and runs {rate} times as fast"),
        }
    }
}
