//! `init`

use std::fmt;
use std::path::PathBuf;

use super::report::Report;
use super::settings::Settings;
use super::wire::factory::{Factory, shown};
use crate::explain::Failure;
use crate::flows::init::{self, Part};

/// Make a project folder: nameplate.toml, the ledger, ca/
///
/// Running it again changes nothing and says so.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The folder
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// What is there now.
#[derive(serde::Serialize)]
pub(super) struct Initialised {
    folder: PathBuf,
    parts: Vec<Part>,
}

impl Args {
    pub(super) fn run(self, _settings: &Settings) -> Result<Initialised, Failure> {
        let mut parts = init::run(&Factory::disk(), &self.dir)?;
        let ledger = self.dir.join("ledger.sqlite");
        let made = !ledger.exists();
        Factory::over(&ledger)?;
        parts.push(Part {
            path: ledger,
            what: "the record of every certificate issued",
            made,
        });
        for part in &mut parts {
            part.path = shown(&part.path);
        }
        Ok(Initialised {
            folder: self.dir,
            parts,
        })
    }
}

impl Report for Initialised {}

impl fmt::Display for Initialised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let verb = if part.made { "made " } else { "kept " };
            writeln!(f, "{verb} {}  {}", part.path.display(), part.what)?;
        }
        if self.parts.iter().any(|part| part.made) {
            f.write_str("next: nameplate ca create root")
        } else {
            f.write_str("nothing changed: this is a project already")
        }
    }
}
