//! `device list`

use std::fmt;

use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::view::CertificateView;
use crate::core::record::CertificateState;
use crate::explain::Failure;
use crate::ports::Clock;
use crate::ports::ledger::{Filter, Ledger};

/// List the certificates in the ledger, newest first
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Only this device's
    device: Option<String>,
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<CertificateState>,
    /// Also what is over: abandoned, superseded, deactivated, revoked, swept
    #[arg(long, conflicts_with = "state")]
    all: bool,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

fn state(word: &str) -> Result<CertificateState, String> {
    CertificateState::from_word(word).ok_or_else(|| {
        "write intended, issued, abandoned, superseded, deactivated, revoked or swept".to_owned()
    })
}

/// The certificates.
#[derive(serde::Serialize)]
pub(super) struct Listed {
    devices: Vec<CertificateView>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Listed, Failure> {
        let factory = Factory::open(settings)?;
        let now = factory.clock.now();
        let filter = Filter {
            device: self.device,
            state: self.state,
            live_only: !self.all && self.state.is_none(),
            limit: self.limit,
        };
        let all = factory.ledger.certificates(&filter)?;
        Ok(Listed {
            devices: all
                .into_iter()
                .map(|record| CertificateView::new(record, now))
                .collect(),
        })
    }
}

impl Report for Listed {}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.devices.is_empty() {
            return f.write_str("no certificates; issue one with `nameplate device issue NAME`");
        }
        self.devices
            .iter()
            .try_for_each(|device| writeln!(f, "{}", device.line().trim_end()))
    }
}
