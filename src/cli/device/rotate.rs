//! `device rotate`

use std::fmt;
use std::path::PathBuf;

use super::super::args_issue::{CaArgs, LifetimeArgs};
use super::super::identity::{EndpointArgs, positive};
use super::super::report::{self, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use super::super::wire::target::{self, Reached, TargetReport, running_endpoint};
use super::super::wire_device::Machine;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::ids::{CertificateId, ThingName};
use crate::core::record::{CertificateRecord, IdentityPurpose};
use crate::core::time::{Span, UtcTime, Validity};
use crate::explain::{Failure, Kind};
use crate::flows::device_rotate::{DeviceRotate, Request, Rotated};
use crate::flows::identity;
use crate::ports::Clock;

/// Give a device a new key and certificate, proved before the old is given up
///
/// Issues the new identity beside the old one, registers it and attaches the same policies and
/// things, connects with it, swaps the folders in one step, and only then deactivates the old
/// certificate. The old identity works until the new one has connected; its files are kept in
/// NAME.old. A killed run is finished by the same command.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device
    name: ThingName,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// How long the new identity may take to connect
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: String,
    #[command(flatten)]
    lifetime: LifetimeArgs,
    #[command(flatten)]
    ca: CaArgs,
    /// Do it without asking when the target is AWS
    #[arg(long)]
    yes: bool,
}

/// What was rotated.
#[derive(serde::Serialize)]
pub(super) struct RotateReport {
    device: ThingName,
    target: TargetReport,
    endpoint: Endpoint,
    resumed: bool,
    old_id: CertificateId,
    new_id: CertificateId,
    serial: String,
    validity: Validity,
    steps: Vec<&'static str>,
    folder: PathBuf,
    old_folder: PathBuf,
    #[serde(skip)]
    now: UtcTime,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<RotateReport, Failure> {
        let factory = Factory::open(settings)?;
        let machine = Machine::default();
        let timeout = positive("--timeout", &self.timeout)?;
        let current = self.current(&factory)?;
        let connected = target::connect(settings)?;
        if connected.target.reached == Reached::InProcess {
            return Err(not_running());
        }
        let (endpoint, server_roots) = self.where_to_prove(settings, &machine)?;
        let lifetime = self.lifetime.lifetime(settings, span_of(&current))?;
        let ca = self.ca_of(&current, &factory)?.load(settings, &factory)?;
        connected.target.confirm(
            self.yes,
            &format!("rotate the certificate of `{}`", self.name),
        )?;
        let flow = DeviceRotate {
            issue: factory.issue(),
            plane: &*connected.plane,
            dial: &machine.dial,
            swap: &factory.swap,
        };
        let request = Request {
            device: self.name.to_string(),
            issuer: ca.issuer(),
            lifetime,
            endpoint: endpoint.clone(),
            server_roots,
            timeout,
        };
        let rotated = flow.run(&request, &mut |step| report::note(step.past()))?;
        let now = factory.clock.now();
        Ok(RotateReport::new(
            self.name,
            connected.target,
            (endpoint, now),
            rotated,
        ))
    }

    /// The endpoint named, or the running sandbox's.
    fn where_to_prove(
        &self,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<(Endpoint, Vec<Certificate>), Failure> {
        let files = &machine.files;
        let named = self.endpoint.all(settings)?.into_iter().next();
        if let (None, Some((text, ca_file))) = (&named, running_endpoint(settings)) {
            let endpoint = Endpoint::parse(&text, Endpoint::MQTT_PORT)?;
            let ca_file = self.endpoint.server_ca(settings).unwrap_or(ca_file);
            return Ok((endpoint, identity::certificates(files, &ca_file)?));
        }
        Ok((
            self.endpoint.required(settings)?.swap_remove(0),
            self.endpoint.roots(settings, files)?,
        ))
    }

    fn current(&self, factory: &Factory) -> Result<CertificateRecord, Failure> {
        let begun = factory.ledger.rotation(self.name.as_str())?;
        let record = match begun {
            Some(rotation) => factory.ledger.certificate(&rotation.old)?,
            None => factory
                .ledger
                .live(&[self.name.as_str()], IdentityPurpose::Operational)?
                .pop(),
        };
        record.ok_or_else(|| {
            let message = format!("device `{}` has no live identity in the ledger", self.name);
            Failure::new(Kind::Input, "rotate.no-identity", message).hint(format!(
                "issue one with `nameplate device issue {}`",
                self.name
            ))
        })
    }

    /// The CA that issued the old certificate, unless another is named.
    fn ca_of(&self, old: &CertificateRecord, factory: &Factory) -> Result<CaArgs, Failure> {
        let mut ca = self.ca.clone();
        if ca.ca.is_none() {
            let all = factory.ledger.authorities()?;
            let issuer = all
                .into_iter()
                .find(|one| *one.certificate.id() == old.issuer);
            ca.ca = issuer.map(|one| one.name);
        }
        Ok(ca)
    }
}

/// A new identity is proved by connecting, and nothing listens in a sandbox of one command.
fn not_running() -> Failure {
    let message = "no sandbox is running, so a new identity could not be proved; nothing was done";
    Failure::new(Kind::Unavailable, "rotate.not-running", message)
        .hint("start it with `nameplate sandbox serve`, then run the same command")
}

/// As long as the old certificate, without the part that lay in the past when it was made.
fn span_of(old: &CertificateRecord) -> Span {
    let Validity {
        not_before,
        not_after,
    } = old.validity;
    not_after.since(not_before.max(old.created))
}

impl RotateReport {
    fn new(
        device: ThingName,
        target: TargetReport,
        (endpoint, now): (Endpoint, UtcTime),
        rotated: Rotated,
    ) -> Self {
        Self {
            device,
            target,
            endpoint,
            resumed: rotated.resumed,
            old_id: rotated.old,
            new_id: rotated.new.id().clone(),
            serial: rotated.new.serial_hex(),
            validity: rotated.new.validity,
            steps: rotated.steps.iter().map(|step| step.past()).collect(),
            folder: shown(&rotated.folder),
            old_folder: shown(&rotated.old_folder),
            now,
        }
    }
}

impl Report for RotateReport {}

impl fmt::Display for RotateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.resumed {
            " (finishing an earlier run)"
        } else {
            ""
        };
        writeln!(f, "rotated {}{how}", self.device)?;
        writeln!(f, "  target   {}", self.target)?;
        writeln!(f, "  proved   by connecting to {}", self.endpoint)?;
        writeln!(f, "  new      {}", self.new_id)?;
        writeln!(f, "  valid    {}", self.validity.describe(self.now))?;
        writeln!(f, "  old      {} (inactive)", self.old_id)?;
        writeln!(f, "  folder   {}", self.folder.display())?;
        write!(
            f,
            "  kept     {} (delete it when nobody needs it)",
            self.old_folder.display()
        )
    }
}
