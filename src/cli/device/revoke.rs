//! `device revoke`

use std::fmt;

use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::super::wire::target::{self, TargetReport};
use crate::core::ids::ThingName;
use crate::explain::{Failure, Kind};
use crate::flows::device_revoke::{DeviceRevoke, RevokedCertificate};

/// Revoke every certificate of a device, in the ledger and at the target
///
/// AWS IoT treats REVOKED as final: the certificate never connects again, and open connections end
/// within minutes. To replace a certificate that is still trusted, use `device rotate`.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device
    name: ThingName,
    /// Why, for the ledger's journal
    #[arg(long, value_name = "TEXT", default_value = "unspecified")]
    reason: String,
    /// Do it: revoking cannot be undone
    #[arg(long)]
    yes: bool,
}

/// What was revoked.
#[derive(serde::Serialize)]
pub(super) struct Revoked {
    device: ThingName,
    target: TargetReport,
    reason: String,
    certificates: Vec<RevokedCertificate>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Revoked, Failure> {
        let factory = Factory::open(settings)?;
        let connected = target::connect(settings)?;
        if !self.yes {
            let message = format!(
                "this would revoke every certificate of `{}` in {}, which cannot be undone",
                self.name, connected.target
            );
            return Err(Failure::new(Kind::Refused, "revoke.confirm", message)
                .hint("if that is what you want, run it again with --yes"));
        }
        let flow = DeviceRevoke {
            clock: &factory.clock,
            ledger: &*factory.ledger,
            plane: &*connected.plane,
        };
        let certificates = flow.run(self.name.as_str(), &self.reason)?;
        Ok(Revoked {
            device: self.name,
            target: connected.target,
            reason: self.reason,
            certificates,
        })
    }
}

impl Report for Revoked {}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "revoked {}: {}", self.device, self.reason)?;
        writeln!(f, "  target   {}", self.target)?;
        for one in &self.certificates {
            let here = if one.was_revoked_here {
                "before"
            } else {
                "now"
            };
            let there = if one.at_target {
                "REVOKED at the target"
            } else {
                "unknown to the target"
            };
            writeln!(f, "  {}  in the ledger {here}, {there}", one.id)?;
        }
        Ok(())
    }
}
