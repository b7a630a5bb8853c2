//! `device issue`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::args_issue::{CaArgs, Curve, LifetimeArgs};
use super::super::args_template::{Chosen, TemplateArgs};
use super::super::report::{self, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use crate::core::bundle;
use crate::core::ids::{CertificateId, ThingName};
use crate::core::pattern;
use crate::core::subject::Subject;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Failure, Kind};
use crate::flows::device_issue::{self, Request};
use crate::ports::Clock;

/// Make a device's key and a certificate signed by a CA
///
/// Writes the private key (mode 0600), the certificate, its chain and the CA bundle into one
/// folder. Nothing that exists is overwritten. A killed run is finished by the same command.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The device's name: its thing name, and its common name unless --subject says otherwise
    name: ThingName,
    /// Subject; `{name}` stands for the device's name [default: CN={name}]
    #[arg(
        long,
        value_name = "DN",
        default_value = "CN={name}",
        hide_default_value = true
    )]
    subject: String,
    /// The identity's folder [default: devices/NAME in the project]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Curve of the new key
    #[arg(long, value_enum, default_value_t = Curve::P256)]
    curve: Curve,
    #[command(flatten)]
    lifetime: LifetimeArgs,
    #[command(flatten)]
    ca: CaArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

/// What was issued.
#[derive(serde::Serialize)]
pub(super) struct Issued {
    device: ThingName,
    id: CertificateId,
    serial: String,
    subject: Subject,
    ca: String,
    not_before: UtcTime,
    not_after: UtcTime,
    folder: PathBuf,
    files: Vec<PathBuf>,
    checked_against: Option<PathBuf>,
    finished_earlier_run: bool,
    certificate_pem: String,
    #[serde(skip)]
    now: UtcTime,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Issued, Failure> {
        let factory = Factory::open(settings)?;
        let chosen = self.template.load(settings, &factory.files)?;
        if chosen.is_none() {
            report::note("note: no template is named, so the draft is not checked against one");
        }
        let subject = pattern::fill(&self.subject, &|key| {
            (key == "name").then(|| self.name.as_str())
        })?;
        let folder = self.folder(settings)?;
        let ca = self.ca.load(settings, &factory)?;
        let request = Request {
            device: self.name.to_string(),
            subject,
            lifetime: self.lifetime.for_device(settings)?,
            algorithm: self.curve.into(),
            folder: folder.clone(),
            issuer: ca.issuer(),
            template: chosen.as_ref().map(|chosen| &chosen.template),
            replaces: None,
        };
        let issued = factory.issue().run(&request)?;
        Ok(self.report(&factory, (&ca.name, &folder), (issued, chosen)))
    }

    fn folder(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => settings.project()?.join("devices").join(self.name.as_str()),
        };
        std::path::absolute(&folder).map_err(|error| {
            Failure::new(Kind::Input, "file.write", "the folder has no path").because(error)
        })
    }

    fn report(
        self,
        factory: &Factory,
        (ca, folder): (&str, &Path),
        (issued, chosen): (device_issue::Issued, Option<Chosen>),
    ) -> Issued {
        let leaf = &issued.certificate;
        let names = [
            bundle::KEY,
            bundle::CERTIFICATE,
            bundle::CHAIN,
            bundle::CA_BUNDLE,
        ];
        Issued {
            id: leaf.id().clone(),
            serial: leaf.serial_hex(),
            subject: leaf.subject.clone(),
            ca: ca.to_owned(),
            not_before: leaf.validity.not_before,
            not_after: leaf.validity.not_after,
            files: names.iter().map(|name| shown(&folder.join(name))).collect(),
            folder: shown(folder),
            checked_against: chosen.map(|chosen| shown(&chosen.path)),
            finished_earlier_run: issued.finished,
            certificate_pem: leaf.to_pem(),
            now: factory.clock.now(),
            device: self.name,
        }
    }
}

impl Report for Issued {}

impl fmt::Display for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.finished_earlier_run {
            "finished what an earlier run began:"
        } else {
            "issued"
        };
        let window = Validity {
            not_before: self.not_before,
            not_after: self.not_after,
        };
        writeln!(f, "{verb} {}", self.device)?;
        writeln!(f, "  subject  {}", self.subject)?;
        writeln!(f, "  valid    {}", window.describe(self.now))?;
        writeln!(f, "  serial   {}", self.serial)?;
        writeln!(f, "  id       {}", self.id)?;
        writeln!(f, "  CA       {}", self.ca)?;
        if let Some(path) = &self.checked_against {
            writeln!(f, "  passes   {}", path.display())?;
        }
        self.files
            .iter()
            .try_for_each(|path| writeln!(f, "  wrote    {}", path.display()))
    }
}
