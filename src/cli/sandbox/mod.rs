//! `sandbox`: the local stand-in for AWS IoT Core.

mod clock;
mod fault;
mod logs;
mod reset;
mod restore;
mod run;
mod serve;
mod snapshot;
mod start;
mod status;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Run a local stand-in for AWS IoT Core
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    #[command(subcommand)]
    Clock(clock::Command),
    #[command(subcommand)]
    Fault(fault::Command),
    Logs(logs::Args),
    Reset(reset::Args),
    Restore(restore::Args),
    Run(run::Args),
    Serve(serve::Args),
    Snapshot(snapshot::Args),
    Status(status::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Clock(command) => output.finish(command.run(settings)),
            Self::Fault(command) => output.finish(command.run(settings)),
            Self::Logs(args) => args.run(settings, output),
            Self::Reset(args) => output.finish(args.run(settings)),
            Self::Restore(args) => output.finish(args.run(settings)),
            Self::Run(args) => output.finish(args.run(settings)),
            Self::Serve(args) => args.run(settings, output),
            Self::Snapshot(args) => output.finish(args.run(settings)),
            Self::Status(args) => output.finish(args.run(settings)),
        }
    }
}
