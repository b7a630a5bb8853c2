//! Flags that say whose word counts where a certificate request and the flags both speak.

use std::path::Path;

use clap::ValueEnum;

use super::wire::factory::Factory;
use crate::core::csr::Csr;
use crate::core::csr::rule::{Rules, Source};
use crate::core::pem;
use crate::explain::Failure;
use crate::ports::Files;

/// Whose word counts. Left out, they must agree.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct RuleArgs {
    /// Take the subject from the request, or from flags and profile whatever the request says
    #[arg(long, value_enum, value_name = "WHOSE", requires = "csr")]
    subject_from: Option<SourceArg>,
    /// Take alternative names and usages from the request, or leave out what it asks for
    #[arg(long, value_enum, value_name = "WHOSE", requires = "csr")]
    extensions_from: Option<SourceArg>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SourceArg {
    /// The request's word counts
    Csr,
    /// That of flags and profile
    Profile,
}

impl RuleArgs {
    /// As the core takes them.
    pub(super) fn rules(self) -> Rules {
        let source = |arg: SourceArg| match arg {
            SourceArg::Csr => Source::Csr,
            SourceArg::Profile => Source::Profile,
        };
        Rules {
            subject: self.subject_from.map(source),
            extensions: self.extensions_from.map(source),
        }
    }
}

/// The one request in a file; `-` is stdin.
pub(super) fn read_one(path: &Path, factory: &Factory) -> Result<Csr, Failure> {
    let real = if path == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        path
    };
    let bytes = factory.files.read(real, pem::MAX_BYTES as u64)?;
    Csr::from_pem_or_der(&bytes).map_err(|error| at(&path.display().to_string(), error))
}

/// The failure with the place of the request in front.
pub(super) fn at(place: &str, failure: impl Into<Failure>) -> Failure {
    let failure = failure.into();
    let message = format!("`{place}`: {}", failure.message);
    Failure { message, ..failure }
}
