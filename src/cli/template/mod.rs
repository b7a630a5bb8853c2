//! `template …`

mod diff;
mod given;
mod lint;
mod list;
mod new;
mod plan;
mod plan_list;
mod plan_report;
mod policies;
mod register;
mod show;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;
use super::wire::factory::Factory;
use crate::core::template::{MAX_CHARACTERS, TemplateKind, Usage};
use crate::explain::{Failure, Kind};
use crate::ports::Files;
use policies::PolicyArgs;

/// Provisioning templates: what we ship, what is at the target, and what AWS IoT would refuse
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Diff(diff::Args),
    Lint(lint::Args),
    List(list::Args),
    New(new::Args),
    Plan(Box<plan::Args>),
    Register(register::Args),
    Show(show::Args),
}

impl Command {
    /// Whether its report has findings.
    pub(super) fn finds(&self) -> bool {
        matches!(self, Self::Lint(_))
    }

    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Diff(args) => output.finish(args.run(settings)),
            Self::Lint(args) => output.finish(args.run(settings)),
            Self::List(args) => output.finish(args.run(settings)),
            Self::New(args) => output.finish(args.run(settings)),
            Self::Plan(args) => output.finish(args.run(settings, output)),
            Self::Register(args) => output.finish(args.run(settings)),
            Self::Show(args) => output.finish(args.run(settings)),
        }
    }
}

/// What a template is for, as a flag.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KindArg {
    /// Just-in-time provisioning, at a device's first connect
    Jitp,
    /// Fleet provisioning, by claim
    Fleet,
}

impl From<KindArg> for TemplateKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Jitp => Self::Jitp,
            KindArg::Fleet => Self::FleetProvisioning,
        }
    }
}

/// Who runs a template, as a flag.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum UsageArg {
    /// Just-in-time provisioning, at a device's first connect
    Jitp,
    /// Fleet provisioning, by claim
    Fleet,
    /// `RegisterThing` and bulk registration
    Bulk,
}

impl From<UsageArg> for Usage {
    fn from(usage: UsageArg) -> Self {
        match usage {
            UsageArg::Jitp => Self::Jitp,
            UsageArg::Fleet => Self::FleetProvisioning,
            UsageArg::Bulk => Self::RegisterThing,
        }
    }
}

/// The most bytes of a template or policy we read: each character may be four bytes long.
const MAX_BYTES: u64 = 4 * MAX_CHARACTERS as u64 + 4096;

/// A text file, or `-` for stdin.
fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| Failure::new(Kind::Input, "file.read", "cannot read stdin").because(e))?;
        bytes
    } else {
        Factory::disk().read(path, MAX_BYTES)?.to_vec()
    };
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("`{}` is not UTF-8 text: byte {at} is bad", path.display());
        Failure::new(Kind::Input, "file.utf8", message)
    })
}
