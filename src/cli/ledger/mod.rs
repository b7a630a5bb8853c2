//! `ledger …`

mod verify;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Prove that the record of what was issued is whole
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Verify(verify::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Verify(args) => output.finish(args.run(settings)),
        }
    }
}
