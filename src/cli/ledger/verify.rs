//! `ledger verify`

use std::fmt;

use super::super::report::{Report, count};
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use crate::core::record::LedgerCheck;
use crate::explain::Failure;

/// Recompute the journal's hashes and compare every row with its last event
///
/// Exit code 1 when something was changed behind the ledger's back. The head printed at the end
/// stands for everything before it: keep it elsewhere to notice a journal that was cut short.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {}

/// What was found.
#[derive(serde::Serialize)]
pub(super) struct Verified(LedgerCheck);

impl Args {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(super) fn run(self, settings: &Settings) -> Result<Verified, Failure> {
        Ok(Verified(Factory::open(settings)?.ledger.verify()?))
    }
}

impl Report for Verified {
    fn exit_code(&self) -> u8 {
        u8::from(self.0.broken.is_some())
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = &self.0;
        if let Some(flaw) = &check.broken {
            let event = flaw
                .event
                .map_or("no event".to_owned(), |seq| format!("event {seq}"));
            write!(
                f,
                "the ledger was changed: {event}, {}: {}",
                flaw.subject, flaw.problem
            )?;
            return write!(f, "\n{} events before it are whole", check.events);
        }
        write!(
            f,
            "the ledger is whole: {}, {}, {}\nhead {}",
            count(check.events, "event"),
            count(check.certificates, "certificate"),
            count(check.authorities, "CA"),
            check.head
        )
    }
}
