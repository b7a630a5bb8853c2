//! `cert …`

mod gather;
mod inspect;
mod lint;
mod verify;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Look at certificates, wherever they come from
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Inspect(inspect::Args),
    Lint(lint::Args),
    Verify(verify::Args),
}

impl Command {
    /// Whether its report has findings.
    pub(super) fn finds(&self) -> bool {
        matches!(self, Self::Lint(_))
    }

    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Inspect(args) => output.finish(args.run(settings)),
            Self::Lint(args) => output.finish(args.run(settings)),
            Self::Verify(args) => output.finish(args.run(settings)),
        }
    }
}
