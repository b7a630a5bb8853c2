//! `ledger …`

mod export;
mod import;
mod stats;
mod verify;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Prove, count, copy and fill the record of what was issued
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Export(export::Args),
    Import(import::Args),
    Stats(stats::Args),
    Verify(verify::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Export(args) => output.finish(args.run(settings, output)),
            Self::Import(args) => output.finish(args.run(settings)),
            Self::Stats(args) => output.finish(args.run(settings)),
            Self::Verify(args) => output.finish(args.run(settings)),
        }
    }
}
