//! `device list`

use std::fmt;
use std::ops::ControlFlow;

use super::super::report::{Output, Report};
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::view::CertificateView;
use crate::core::ids::CertificateId;
use crate::core::record::CertificateState;
use crate::core::time::UtcTime;
use crate::explain::Failure;
use crate::ports::Clock;
use crate::ports::ledger::{Filter, Ledger};

/// List the certificates in the ledger, newest first
///
/// With `--format ndjson` one certificate a line, each as it is read, however many there are.
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
    /// Only those signed by this CA of the project
    #[arg(long, value_name = "NAME")]
    ca: Option<String>,
    /// Only those of this batch
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Only those whose validity ends before this time: RFC 3339, a date, or relative as +90d
    #[arg(long, value_name = "TIME")]
    expiring_before: Option<String>,
    /// Only those made with this deliberate flaw
    #[arg(long, value_name = "FLAW")]
    flaw: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

fn state(word: &str) -> Result<CertificateState, String> {
    CertificateState::from_word(word).ok_or_else(|| {
        "write intended, issued, abandoned, superseded, deactivated, revoked or swept".to_owned()
    })
}

fn authority_id(ledger: &dyn Ledger, name: &str) -> Result<CertificateId, Failure> {
    let all = ledger.authorities()?;
    let named = all.iter().find(|authority| authority.name == name);
    named
        .map(|authority| authority.certificate.id().clone())
        .ok_or_else(|| super::super::args_issue::unknown_ca(name, &all))
}

/// The certificates.
#[derive(serde::Serialize)]
pub(super) struct Listed {
    devices: Vec<CertificateView>,
    /// They were printed one by one already.
    #[serde(skip)]
    streamed: bool,
}

/// How many lines are printed at once.
const LINES: usize = 256;

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Listed, Failure> {
        let factory = Factory::open(settings)?;
        let now = factory.clock.now();
        let issuer = self
            .ca
            .map(|name| authority_id(&*factory.ledger, &name))
            .transpose()?;
        let expiring_before = self
            .expiring_before
            .map(|text| UtcTime::parse_relative(&text, now))
            .transpose()?;
        let filter = Filter {
            device: self.device,
            state: self.state,
            live_only: !self.all && self.state.is_none(),
            issuer,
            batch: self.batch,
            expiring_before,
            flaw: self.flaw,
            limit: self.limit,
        };
        let mut devices = Vec::new();
        factory
            .ledger
            .for_each_certificate(&filter, &mut |record| {
                devices.push(CertificateView::new(record, now));
                if output.streams() && devices.len() == LINES {
                    output.stream(&devices);
                    devices.clear();
                }
                ControlFlow::Continue(())
            })?;
        output.stream(&devices);
        Ok(Listed {
            devices,
            streamed: output.streams(),
        })
    }
}

impl Report for Listed {
    fn silent(&self) -> bool {
        self.streamed
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.devices.is_empty() {
            return f.write_str("no such certificates; `nameplate device issue NAME` makes one");
        }
        self.devices
            .iter()
            .try_for_each(|device| writeln!(f, "{}", device.line().trim_end()))
    }
}
