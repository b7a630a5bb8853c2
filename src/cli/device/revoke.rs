//! `device revoke`

use std::fmt;

use super::super::report::Report;
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::super::wire::target::{self, TargetReport};
use crate::core::ids::ThingName;
use crate::core::revocation::{Revocation, RevocationReason};
use crate::explain::{Failure, Kind};
use crate::flows::device_revoke::{DeviceRevoke, RevokedCertificate};

/// Revoke every certificate of a device, in the ledger and at the target
///
/// AWS IoT treats REVOKED as final: the certificate never connects again, and open connections end
/// within minutes. To replace a certificate that is still trusted, use `device rotate`. A CA's next
/// `ca crl` names the certificates that are revoked here.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device
    name: ThingName,
    /// Why, for the CRL: an RFC 5280 reason such as keyCompromise, superseded or
    /// cessationOfOperation
    #[arg(long, value_name = "REASON", default_value_t)]
    reason: RevocationReason,
    /// In the ledger alone; a later run without --local goes on at the target
    #[arg(long)]
    local: bool,
    /// Do it: revoking cannot be undone
    #[arg(long)]
    yes: bool,
}

/// What was revoked.
#[derive(serde::Serialize)]
pub(super) struct Revoked {
    device: ThingName,
    target: Option<TargetReport>,
    certificates: Vec<RevokedCertificate>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Revoked, Failure> {
        let factory = Factory::open(settings)?;
        let connected = if self.local {
            None
        } else {
            Some(target::connect(settings)?)
        };
        if !self.yes {
            let place = connected
                .as_ref()
                .map_or_else(|| "the ledger".to_owned(), |one| one.target.to_string());
            let message = format!(
                "this would revoke every certificate of `{}` in {place}, which cannot be undone",
                self.name
            );
            return Err(Failure::new(Kind::Refused, "revoke.confirm", message)
                .hint("if that is what you want, run it again with --yes"));
        }
        let flow = DeviceRevoke {
            clock: &factory.clock,
            ledger: &*factory.ledger,
            plane: connected.as_ref().map(|connected| &*connected.plane),
        };
        let certificates = flow.run(self.name.as_str(), self.reason)?;
        Ok(Revoked {
            device: self.name,
            target: connected.map(|connected| connected.target),
            certificates,
        })
    }
}

impl Report for Revoked {}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "revoked {}", self.device)?;
        if let Some(target) = &self.target {
            writeln!(f, "  target   {target}")?;
        }
        for one in &self.certificates {
            let Revocation { at, reason } = one.revocation;
            let there = match one.at_target {
                Some(true) => ", REVOKED at the target",
                Some(false) => ", unknown to the target",
                None => "",
            };
            let here = if one.was_revoked_here { "before, " } else { "" };
            writeln!(f, "  {}  {here}at {at}: {reason}{there}", one.id)?;
        }
        Ok(())
    }
}
