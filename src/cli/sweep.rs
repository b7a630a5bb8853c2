//! `sweep`

use std::fmt;

use super::report::{Report, count};
use super::settings::Settings;
use super::wire::factory::{Factory, shown};
use super::wire::target::{self, TargetReport};
use crate::core::time::Span;
use crate::explain::Failure;
use crate::flows::sweep::{Removal, Scope, Sweep, Swept};

/// Remove what has expired: its files, its certificate at the target; the ledger's row stays
///
/// Only certificates that this project's ledger knows. Of an identity's folder, only the files that
/// nameplate wrote, and only while the certificate among them is the expired one. At the target the
/// certificate is switched off, detached from its things and policies, and deleted. It can be
/// stopped and run again at any moment.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Only what expired at least this long ago
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    expired_for: Span,
    /// Only short-lived identities, as CI jobs have: whole lifetime of a day or less
    #[arg(long, conflicts_with = "lifetime")]
    ci: bool,
    /// Only identities whose whole lifetime is at most this
    #[arg(long, value_name = "SPAN")]
    lifetime: Option<Span>,
    /// Only those of this batch
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Also delete the device's thing, unless another certificate is attached to it
    #[arg(long, conflicts_with = "local")]
    things: bool,
    /// Only the files; a later sweep without --local goes on at the target
    #[arg(long)]
    local: bool,
    /// Show what would go; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Confirm deleting at AWS
    #[arg(long)]
    yes: bool,
}

/// What went.
#[derive(serde::Serialize)]
pub(super) struct SweepReport {
    target: Option<TargetReport>,
    dry_run: bool,
    swept: Vec<Swept>,
}

/// The longest whole lifetime that `--ci` takes: a day, and the hour of backdating.
const CI_LIFETIME: Span = Span::seconds(25 * 3_600);

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<SweepReport, Failure> {
        let factory = Factory::open(settings)?;
        let connected = if self.local {
            None
        } else {
            Some(target::connect(settings)?)
        };
        if let Some(connected) = connected.as_ref().filter(|_| !self.dry_run) {
            let what = "delete the certificates that have expired";
            connected.target.confirm(self.yes, what)?;
        }
        let flow = Sweep {
            clock: &factory.clock,
            files: &factory.files,
            tidy: &factory.files,
            ledger: &*factory.ledger,
            plane: connected.as_ref().map(|connected| &*connected.plane),
        };
        let swept = flow.run(&Scope {
            expired_for: self.expired_for,
            batch: self.batch,
            lifetime: self.lifetime.or(self.ci.then_some(CI_LIFETIME)),
            things: self.things,
            dry_run: self.dry_run,
        })?;
        Ok(SweepReport {
            target: connected.map(|connected| connected.target),
            dry_run: self.dry_run,
            swept,
        })
    }
}

impl Report for SweepReport {}

impl fmt::Display for SweepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would sweep" } else { "swept" };
        let all = count(self.swept.len() as u64, "certificate");
        writeln!(f, "{verb} {all}")?;
        if let Some(target) = &self.target {
            writeln!(f, "  target   {target}")?;
        }
        for one in &self.swept {
            write!(f, "  {}  expired at {}", one.device, one.not_after)?;
            write!(f, ": target {}", word(one.target))?;
            if one.thing != Removal::Skipped {
                write!(f, ", thing {}", word(one.thing))?;
            }
            write!(f, ", files {}", word(one.local))?;
            match &one.folder {
                Some(folder) => writeln!(f, " ({})", shown(folder).display())?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn word(removal: Removal) -> &'static str {
    match removal {
        Removal::Removed => "removed",
        Removal::Absent => "not there",
        Removal::Kept => "kept",
        Removal::Skipped => "left alone",
    }
}
