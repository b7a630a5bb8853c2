//! `ca show`

use std::fmt;

use super::super::args_issue::unknown_ca;
use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::view::CaView;
use crate::explain::Failure;
use crate::ports::Clock;

/// Show one CA
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The CA's name
    name: String,
    /// Print only the certificate, PEM
    #[arg(long)]
    pem: bool,
}

/// One CA.
#[derive(serde::Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    ca: CaView,
    #[serde(skip)]
    text: String,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Shown, Failure> {
        let factory = Factory::open(settings)?;
        let all = factory.ledger.authorities()?;
        let record = all
            .iter()
            .find(|ca| ca.name == self.name)
            .ok_or_else(|| unknown_ca(&self.name, &all))?;
        let ca = CaView::new(record, factory.clock.now());
        let text = if self.pem {
            record.certificate.to_pem()
        } else {
            format!("CA {}\n{ca}", self.name)
        };
        Ok(Shown { ca, text })
    }
}

impl Report for Shown {}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
