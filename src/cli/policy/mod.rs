//! `policy …`

mod generate;
mod isolate;
mod lint;
mod requests;
mod simulate;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::report::Output;
use super::settings::Settings;
use super::wire::factory::Factory;
use crate::core::ids::Region;
use crate::core::policy::MAX_WITH_SPACE;
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// AWS IoT policies: what they allow, and what is wrong in them
#[derive(clap::Subcommand, Debug)]
pub(super) enum Command {
    Generate(Box<generate::Args>),
    Isolate(Box<isolate::Args>),
    Lint(lint::Args),
    Simulate(Box<simulate::Args>),
}

impl Command {
    /// Whether its report has findings.
    pub(super) fn finds(&self) -> bool {
        matches!(self, Self::Lint(_))
    }

    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        match self {
            Self::Generate(args) => output.finish(args.run(settings)),
            Self::Isolate(args) => output.finish(args.run(settings)),
            Self::Lint(args) => output.finish(args.run(settings)),
            Self::Simulate(args) => output.finish(args.run(settings)),
        }
    }
}

/// The Region, if the command line names one: those of the environment are often another's.
pub(super) fn region_flag(settings: &Settings) -> Result<Option<Region>, Failure> {
    let source = settings.sources.get("region");
    let region = settings.region.as_ref();
    let region = region.filter(|_| source.is_some_and(|from| from == "flag"));
    Ok(region.map(|region| region.parse()).transpose()?)
}

/// The most bytes of a policy that are read: each character may be four bytes long.
const MAX_BYTES: u64 = 4 * MAX_WITH_SPACE as u64;

/// A text file, or `-` for stdin.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
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
