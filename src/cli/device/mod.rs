//! `device …`

mod batch;
mod issue;
mod list;
mod revoke;
mod rotate;
mod show;
mod view;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Issue device identities and look at them
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Batch(batch::Args),
    Issue(issue::Args),
    List(list::Args),
    Revoke(revoke::Args),
    Rotate(rotate::Args),
    Show(show::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Batch(args) => output.finish(args.run(settings, output)),
            Self::Issue(args) => output.finish(args.run(settings)),
            Self::List(args) => output.finish(args.run(settings)),
            Self::Revoke(args) => output.finish(args.run(settings)),
            Self::Rotate(args) => output.finish(args.run(settings)),
            Self::Show(args) => output.finish(args.run(settings)),
        }
    }
}
