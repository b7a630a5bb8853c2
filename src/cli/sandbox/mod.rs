//! `sandbox`: the local stand-in for AWS IoT Core.

mod reset;
mod run;
mod serve;
mod start;
mod status;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Run a local stand-in for AWS IoT Core
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Reset(reset::Args),
    Run(run::Args),
    Serve(serve::Args),
    Status(status::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Reset(args) => output.finish(args.run(settings)),
            Self::Run(args) => output.finish(args.run(settings)),
            Self::Serve(args) => args.run(settings, output),
            Self::Status(args) => output.finish(args.run(settings)),
        }
    }
}
