//! `ledger stats`

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;

use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use crate::core::ids::CertificateId;
use crate::core::ledger_stats::LedgerStats;
use crate::explain::Failure;
use crate::ports::Clock;
use crate::ports::ledger::Filter;

/// Count what is in the ledger: by state, CA, key, and how soon it ends
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {}

/// The numbers.
#[derive(serde::Serialize)]
pub(super) struct Counted(LedgerStats);

impl Args {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(super) fn run(self, settings: &Settings) -> Result<Counted, Failure> {
        let factory = Factory::open(settings)?;
        let authorities = factory.ledger.authorities()?;
        let names: HashMap<CertificateId, &str> = authorities
            .iter()
            .map(|one| (one.certificate.id().clone(), one.name.as_str()))
            .collect();
        let mut stats = LedgerStats::new(&authorities, factory.clock.now());
        factory
            .ledger
            .for_each_certificate(&Filter::default(), &mut |record| {
                let name = names.get(&record.issuer).copied();
                stats.add(&record, name.unwrap_or_else(|| record.issuer.short()));
                ControlFlow::Continue(())
            })?;
        Ok(Counted(stats))
    }
}

impl Report for Counted {}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.0;
        writeln!(f, "{:>9}  certificates", stats.certificates)?;
        for (state, number) in &stats.states {
            writeln!(f, "{number:>9}    {state}")?;
        }
        writeln!(f, "{:>9}  live identities", stats.live)?;
        for (key, number) in &stats.key_algorithms {
            writeln!(f, "{number:>9}    {key}")?;
        }
        for (number, what) in [
            (stats.expired, "expired"),
            (stats.ends_within_30_days, "end within 30 days"),
            (stats.ends_within_90_days, "end within 90 days"),
            (stats.flawed, "flawed on purpose"),
        ] {
            if number > 0 {
                writeln!(f, "{number:>9}    {what}")?;
            }
        }
        for (reason, number) in &stats.revoked {
            writeln!(f, "{number:>9}  revoked: {reason}")?;
        }
        for (name, own) in &stats.authorities {
            writeln!(
                f,
                "{:>9}  by CA {name}, {} live",
                own.certificates, own.live
            )?;
        }
        write!(f, "{:>9}  batches", stats.batches)?;
        if let (Some(first), Some(last)) = (stats.first, stats.last) {
            write!(f, "\nfirst {first}, last {last}")?;
        }
        Ok(())
    }
}
