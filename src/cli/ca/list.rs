//! `ca list`

use std::fmt;

use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::view::CaView;
use crate::explain::Failure;
use crate::ports::Clock;

/// List the project's CAs with their windows
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {}

/// Every CA.
#[derive(serde::Serialize)]
pub(super) struct Listed {
    cas: Vec<CaView>,
}

impl Args {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(super) fn run(self, settings: &Settings) -> Result<Listed, Failure> {
        let factory = Factory::open(settings)?;
        let now = factory.clock.now();
        let all = factory.ledger.authorities()?;
        Ok(Listed {
            cas: all.iter().map(|ca| CaView::new(ca, now)).collect(),
        })
    }
}

impl Report for Listed {}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cas.is_empty() {
            return f.write_str("no CAs; make one with `nameplate ca create NAME`");
        }
        self.cas
            .iter()
            .try_for_each(|ca| writeln!(f, "{}", ca.line()))
    }
}
