//! `device show`

use std::fmt;

use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use super::view::CertificateView;
use crate::core::record::RotationRecord;
use crate::explain::{Failure, Kind};
use crate::ports::Clock;
use crate::ports::ledger::Filter;

/// Show a device: its live identity, and every certificate it had
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device's name
    device: String,
}

/// One device.
#[derive(serde::Serialize)]
pub(super) struct Shown {
    device: String,
    certificates: Vec<CertificateView>,
    rotation: Option<RotationRecord>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Shown, Failure> {
        let factory = Factory::open(settings)?;
        let now = factory.clock.now();
        let filter = Filter {
            device: Some(self.device.clone()),
            ..Filter::default()
        };
        let all = factory.ledger.certificates(&filter)?;
        if all.is_empty() {
            let message = format!("the ledger knows no device `{}`", self.device);
            return Err(Failure::new(Kind::Input, "device.unknown", message)
                .hint("`nameplate device list` shows those it knows"));
        }
        Ok(Shown {
            rotation: factory.ledger.rotation(&self.device)?,
            certificates: all
                .into_iter()
                .map(|record| CertificateView::new(record, now))
                .collect(),
            device: self.device,
        })
    }
}

impl Report for Shown {}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}", self.device)?;
        for view in &self.certificates {
            let record = &view.record;
            let live = if record.live { ", live" } else { "" };
            write!(f, "\n\n{}{live} ({})", record.state, record.purpose)?;
            if let Some(id) = &record.id {
                write!(f, "\n  id       {id}")?;
            }
            if let Some(flaw) = &record.flaw {
                write!(f, "\n  FLAW     {flaw}, made wrong on purpose")?;
            }
            if let Some(revocation) = &record.revocation {
                write!(f, "\n  revoked  {}: {}", revocation.at, revocation.reason)?;
            }
            write!(f, "\n  subject  {}", record.subject)?;
            write!(f, "\n  valid    {}", view.window())?;
            write!(f, "\n  key      {}", record.key_algorithm)?;
            write!(f, "\n  serial   {}", crate::core::ids::hex(&record.serial))?;
            if let Some(folder) = &record.folder {
                write!(f, "\n  folder   {}", shown(folder).display())?;
            }
            if let Some(batch) = &record.batch {
                write!(f, "\n  batch    {batch}")?;
            }
        }
        match &self.rotation {
            Some(rotation) => write!(
                f,
                "\n\nrotation under way since {}: {}; `nameplate device rotate {}` goes on with it",
                rotation.started, rotation.step, self.device
            ),
            None => Ok(()),
        }
    }
}
