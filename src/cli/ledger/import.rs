//! `ledger import`

use std::fmt;
use std::path::PathBuf;

use super::super::report::{Report, count};
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::super::wire_device::Machine;
use crate::core::record::LedgerCheck;
use crate::core::time::Span;
use crate::explain::{Failure, Kind};
use crate::flows::cert_gather::{Gather, Place};
use crate::flows::ledger_adopt::{Adopt, Outcome, Taken};
use crate::flows::ledger_transfer::Transfer;
use crate::ports::Browse;

/// Fill an empty ledger from an export, or take certificates into this one
///
/// What `ledger export` wrote becomes a ledger again, checked as a whole before anything stays. With
/// --certificates, device certificates that a CA of this ledger signed are written down as issued;
/// run it again, and it goes on. Import CAs first, with `ca import`.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// An export (`-` is stdin); with --certificates, files and folders of certificates
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The paths hold certificates, not an export
    #[arg(long)]
    certificates: bool,
    /// A name for what is taken in, as `device list --batch` finds it
    #[arg(long, value_name = "NAME", requires = "certificates")]
    batch: Option<String>,
}

/// The powers of `ledger export` and `ledger import`.
pub(super) fn transfer(factory: &Factory) -> Transfer<'_> {
    Transfer {
        clock: &factory.clock,
        files: &factory.files,
        streams: &factory.streams,
        swap: &factory.swap,
        tidy: &factory.files,
        ledger: &*factory.ledger,
    }
}

/// What is there now.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Imported {
    Whole(LedgerCheck),
    Certificates {
        adopted: usize,
        known: usize,
        left: usize,
        certificates: Vec<Outcome>,
    },
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Imported, Failure> {
        let factory = Factory::open(settings)?;
        if self.certificates {
            return self.adopt(&factory);
        }
        let [path] = &self.paths[..] else {
            let message = "an export is one file";
            return Err(Failure::new(Kind::Usage, "ledger-file.many", message)
                .hint("name one file; or give --certificates, if these hold certificates"));
        };
        if factory.files.is_folder(path) {
            let message = format!("`{}` is a folder, not an export", path.display());
            return Err(Failure::new(Kind::Input, "ledger-file.folder", message)
                .hint("give --certificates, if it holds certificates"));
        }
        Ok(Imported::Whole(transfer(&factory).import(path)?))
    }

    fn adopt(&self, factory: &Factory) -> Result<Imported, Failure> {
        let machine = Machine::default();
        let gather = Gather {
            files: &machine.files,
            browse: &machine.files,
            probe: &machine.dial,
            timeout: std::time::Duration::from_secs(Span::seconds(5).as_seconds().unsigned_abs()),
        };
        let place = |path: &PathBuf| {
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Place::Path(if path.as_os_str() == "-" {
                path.clone()
            } else {
                absolute
            })
        };
        let places: Vec<Place> = self.paths.iter().map(place).collect();
        let artifacts = gather.run(&places)?;
        let flow = Adopt {
            clock: &factory.clock,
            ledger: &*factory.ledger,
        };
        let certificates = flow.run(&artifacts, self.batch.as_deref())?;
        let of = |wanted: &Taken| {
            certificates
                .iter()
                .filter(|one| one.taken == *wanted)
                .count()
        };
        let (adopted, known) = (of(&Taken::Adopted), of(&Taken::Known));
        Ok(Imported::Certificates {
            adopted,
            known,
            left: certificates.len() - adopted - known,
            certificates,
        })
    }
}

impl Report for Imported {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Whole(_) => 0,
            Self::Certificates { left, .. } => u8::from(*left > 0),
        }
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(check) => write!(
                f,
                "the ledger is whole: {}, {}, {}\nhead {}",
                count(check.events, "event"),
                count(check.certificates, "certificate"),
                count(check.authorities, "CA"),
                check.head
            ),
            Self::Certificates {
                adopted,
                known,
                left,
                certificates,
            } => {
                for one in certificates {
                    if let Taken::Left(why) = &one.taken {
                        writeln!(f, "left out: {}: {why}", one.source)?;
                    }
                }
                write!(
                    f,
                    "{adopted} taken in, {known} known before, {left} left out"
                )
            }
        }
    }
}
