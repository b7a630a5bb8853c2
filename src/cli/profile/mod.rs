//! `profile …`

mod list;
mod show;

use std::process::ExitCode;

use super::report::Output;

/// Certificate profiles: what `device issue --cert-profile` puts into a certificate
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    List(list::Args),
    Show(show::Args),
}

impl Command {
    pub(super) fn run(self, output: Output) -> ExitCode {
        match self {
            Self::List(args) => output.finish(args.run()),
            Self::Show(args) => output.finish(args.run()),
        }
    }
}
