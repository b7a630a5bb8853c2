//! `init`

use std::fmt;
use std::path::PathBuf;

use super::report::Report;
use super::settings::Settings;
use super::wire::factory::{Factory, shown};
use crate::core::ledger_place::LedgerPlace;
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
    pub(super) fn run(self, settings: &Settings) -> Result<Initialised, Failure> {
        let mut parts = init::run(&Factory::disk(), &self.dir)?;
        for part in &mut parts {
            part.path = shown(&part.path);
        }
        let ledger = self.ledger(settings)?;
        let made = matches!(&ledger, LedgerPlace::File(path) if !path.exists());
        Factory::over(&ledger)?;
        let (path, made) = match &ledger {
            LedgerPlace::File(path) => (shown(path), made),
            LedgerPlace::Server(access) => (access.url.to_string().into(), made),
        };
        parts.push(Part {
            path,
            what: "the record of every certificate issued",
            made,
        });
        Ok(Initialised {
            folder: self.dir,
            parts,
        })
    }

    /// The ledger that is named, or that this very project has; else a file in the folder.
    fn ledger(&self, settings: &Settings) -> Result<LedgerPlace, Failure> {
        if let Some(named) = settings.ledger_named() {
            return Ok(named);
        }
        let here = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        if settings.project.as_ref() == Some(&here) {
            return settings.ledger();
        }
        Ok(LedgerPlace::File(self.dir.join("ledger.sqlite")))
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
