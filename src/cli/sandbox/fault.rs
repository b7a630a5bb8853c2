//! `sandbox fault`

use std::fmt;
use std::path::PathBuf;

use super::reset::state_folder;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::explain::{Failure, Kind};
use crate::sandbox::admin::{Admin, Change};
use crate::sandbox::faults::FaultName;

/// Let something go wrong in the running sandbox, and mend it again
#[derive(clap::Subcommand, Debug)]
pub(in crate::cli) enum Command {
    /// End faults
    Clear(Clear),
    /// Show the faults that are set
    List(List),
    /// Let something go wrong
    Set(Set),
}

/// Let something go wrong
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Set {
    /// The fault, such as `template-delay=5s` (repeat for more)
    #[arg(required = true, value_name = "NAME[=VALUE]")]
    faults: Vec<String>,
    #[command(flatten)]
    at: At,
}

/// End faults
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Clear {
    /// The faults' names
    #[arg(value_name = "NAME", required_unless_present = "all")]
    faults: Vec<String>,
    /// Every one
    #[arg(long, conflicts_with = "faults")]
    all: bool,
    #[command(flatten)]
    at: At,
}

/// Show the faults that are set
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct List {
    /// Show every fault there is, whether a sandbox runs or not
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    at: At,
}

#[derive(clap::Args, Debug)]
struct At {
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// The faults that are set, or all that there are.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Listed {
    /// Those that are set.
    Set { faults: Vec<String> },
    /// All.
    Known { known: Vec<Known> },
}

#[derive(serde::Serialize)]
pub(super) struct Known {
    name: &'static str,
    about: &'static str,
}

impl Command {
    pub(super) fn run(self, settings: &Settings) -> Result<Listed, Failure> {
        let (changes, at) = match self {
            Self::List(List { all: true, .. }) => return Ok(known()),
            Self::List(list) => (Vec::new(), list.at),
            Self::Set(set) => (
                set.faults.into_iter().map(Change::SetFault).collect(),
                set.at,
            ),
            Self::Clear(clear) if clear.all => (vec![Change::ClearFaults], clear.at),
            Self::Clear(clear) => {
                let changes = clear.faults.into_iter().map(Change::ClearFault);
                (changes.collect(), clear.at)
            }
        };
        let (admin, _) = Admin::of_folder(&state_folder(at.state, settings)?)?;
        // All or none: what is wrong is said before anything is changed.
        for change in &changes {
            check(change)?;
        }
        for change in &changes {
            admin.change(change)?;
        }
        let faults = admin.now()?.faults;
        Ok(Listed::Set { faults })
    }
}

fn check(change: &Change) -> Result<(), Failure> {
    let checked = match change {
        Change::SetFault(text) => text.parse::<crate::sandbox::faults::Fault>().map(drop),
        Change::ClearFault(text) => text.parse::<FaultName>().map(drop),
        Change::ClearFaults | Change::Clock(_) => Ok(()),
    };
    checked.map_err(|error| {
        Failure::new(Kind::Input, "sandbox.change", error)
            .hint("`nameplate sandbox fault list --all` says what each does")
    })
}

fn known() -> Listed {
    let known = FaultName::ALL.iter().map(|fault| Known {
        name: fault.as_str(),
        about: fault.about().trim(),
    });
    Listed::Known {
        known: known.collect(),
    }
}

impl Report for Listed {}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { faults } if faults.is_empty() => f.write_str("no fault is set"),
            Self::Set { faults } => f.write_str(&faults.join("\n")),
            Self::Known { known } => known
                .iter()
                .try_for_each(|fault| writeln!(f, "{:<26} {}", fault.name, fault.about)),
        }
    }
}
