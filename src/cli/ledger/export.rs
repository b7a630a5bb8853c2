//! `ledger export`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::report::{Output, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use super::import::transfer;
use crate::explain::{Failure, Kind};

/// Write the whole ledger as NDJSON, with its journal, as of one moment
///
/// `ledger import` makes a ledger of it again, in either database. It holds certificates and names,
/// no keys.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// A file that is not there yet; `-` is stdout
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

/// What was written.
#[derive(serde::Serialize)]
pub(super) struct Exported {
    file: PathBuf,
    entries: u64,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Exported, Failure> {
        if self.file == Path::new("-") && !output.is_text() {
            let message = "the ledger and the report would both go to stdout";
            return Err(Failure::new(Kind::Usage, "output.shape", message)
                .hint("name a file, or leave --format out"));
        }
        let factory = Factory::open(settings)?;
        let entries = transfer(&factory).export(&self.file)?;
        Ok(Exported {
            file: shown(&self.file),
            entries,
        })
    }
}

impl Report for Exported {}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Stdout holds the ledger itself.
        if self.file == Path::new("-") {
            return Ok(());
        }
        write!(
            f,
            "{}: {} rows and events",
            self.file.display(),
            self.entries
        )
    }
}
