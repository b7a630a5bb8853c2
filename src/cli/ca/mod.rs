//! `ca …`

mod create;
mod crl;
mod import;
mod list;
mod register;
mod show;
mod view;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Make, import and look at certificate authorities
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Create(create::Args),
    Crl(crl::Args),
    Import(import::Args),
    List(list::Args),
    Register(register::Args),
    Show(show::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Create(args) => output.finish(args.run(settings)),
            Self::Crl(args) => output.finish(args.run(settings, output)),
            Self::Import(args) => output.finish(args.run(settings)),
            Self::List(args) => output.finish(args.run(settings)),
            Self::Register(args) => output.finish(args.run(settings)),
            Self::Show(args) => output.finish(args.run(settings)),
        }
    }
}
