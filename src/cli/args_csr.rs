//! Flags that say whose word counts where a certificate request and the flags both speak.

use std::path::Path;

use clap::ValueEnum;

use super::report::note;
use super::wire::factory::Factory;
use crate::core::csr::rule::{Rules, Source};
use crate::core::csr::{Csr, Keys};
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
    /// Certify keys that AWS IoT refuses (Ed25519), for another server
    #[arg(long, requires = "csr")]
    allow_unsupported: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SourceArg {
    /// The request's word counts
    Csr,
    /// That of flags and profile
    Profile,
}

impl RuleArgs {
    /// Whose keys are certified.
    pub(super) fn keys(self) -> Keys {
        if self.allow_unsupported {
            Keys::Any
        } else {
            Keys::Supported
        }
    }

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

/// Says of a key that AWS IoT refuses that it was allowed.
pub(super) fn note_unsupported(place: &str, csr: &Csr) {
    if let Some(why) = csr.public_key.algorithm().unsupported() {
        note(format_args!("warning: `{place}`: {why}"));
    }
}

/// The one request in a file; `-` is stdin.
pub(super) fn read_one(path: &Path, keys: Keys, factory: &Factory) -> Result<Csr, Failure> {
    let real = if path == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        path
    };
    let bytes = factory.files.read(real, pem::MAX_BYTES as u64)?;
    let place = path.display().to_string();
    let csr = Csr::one(&bytes, keys).map_err(|error| at(&place, error))?;
    note_unsupported(&place, &csr);
    Ok(csr)
}

/// The failure with the place of the request in front.
pub(super) fn at(place: &str, failure: impl Into<Failure>) -> Failure {
    let failure = failure.into();
    let message = format!("`{place}`: {}", failure.message);
    Failure { message, ..failure }
}
