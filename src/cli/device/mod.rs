//! `device …`

#[cfg(feature = "operator")]
mod batch;
#[cfg(feature = "operator")]
mod export;
#[cfg(feature = "operator")]
mod handover;
#[cfg(feature = "operator")]
mod issue;
#[cfg(feature = "operator")]
mod key;
#[cfg(feature = "operator")]
mod list;
#[cfg(feature = "operator")]
mod names;
#[cfg(not(feature = "operator"))]
#[path = "no_names.rs"]
mod names;
mod needs_renewal;
#[cfg(feature = "operator")]
mod progress;
mod renew;
#[cfg(feature = "operator")]
mod revoke;
#[cfg(feature = "operator")]
mod rotate;
#[cfg(feature = "operator")]
mod show;
#[cfg(feature = "operator")]
mod sign;
#[cfg(feature = "operator")]
mod view;

use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;

/// Issue device identities and look at them
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    #[cfg(feature = "operator")]
    Batch(batch::Args),
    #[cfg(feature = "operator")]
    Export(export::Args),
    #[cfg(feature = "operator")]
    Issue(issue::Args),
    #[cfg(feature = "operator")]
    List(list::Args),
    NeedsRenewal(needs_renewal::Args),
    Renew(Box<renew::Args>),
    #[cfg(feature = "operator")]
    Revoke(revoke::Args),
    #[cfg(feature = "operator")]
    Rotate(rotate::Args),
    #[cfg(feature = "operator")]
    Show(show::Args),
    #[cfg(feature = "operator")]
    Sign(sign::Args),
}

impl Command {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            #[cfg(feature = "operator")]
            Self::Batch(args) => output.finish(args.run(settings, output)),
            #[cfg(feature = "operator")]
            Self::Export(args) => output.finish(args.run(settings, output)),
            #[cfg(feature = "operator")]
            Self::Issue(args) => output.finish(args.run(settings, output)),
            #[cfg(feature = "operator")]
            Self::List(args) => output.finish(args.run(settings, output)),
            Self::NeedsRenewal(args) => output.finish(args.run(settings)),
            Self::Renew(args) => output.finish(args.run(settings, output)),
            #[cfg(feature = "operator")]
            Self::Revoke(args) => output.finish(args.run(settings)),
            #[cfg(feature = "operator")]
            Self::Rotate(args) => output.finish(args.run(settings)),
            #[cfg(feature = "operator")]
            Self::Show(args) => output.finish(args.run(settings)),
            #[cfg(feature = "operator")]
            Self::Sign(args) => output.finish(args.run(settings)),
        }
    }
}
