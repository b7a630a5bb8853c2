//! `device sign`

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::super::args_csr::{RuleArgs, at, note_unsupported};
use super::super::args_issue::{CaArgs, CaHandle};
use super::super::args_profile::{ProfileArgs, WindowArgs};
use super::super::args_template::{Chosen, TemplateArgs};
use super::super::report::{self, Report, count};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use crate::core::cert::Certificate;
use crate::core::csr::Csr;
use crate::core::csr::rule::{Settled, settle};
use crate::core::fit;
use crate::core::ids::{CertificateId, ThingName, hex};
use crate::core::key::PublicKey;
use crate::core::lifetime::Lifetime;
use crate::core::profile::Profile;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Failure, Kind};
use crate::flows::device_issue::{KeySource, Request};
use crate::flows::device_sign::{DeviceSign, Found, Signed};
use crate::ports::Clock;

/// The most wrong requests told of at once.
const MAX_PROBLEMS: usize = 20;

/// Sign the certificate requests of devices that keep their keys
///
/// Checks every request, its own signature first, before it signs any. Each device gets a folder
/// with its certificate, its chain and the CA bundle. What a request asks for is granted, or left
/// out because a flag says so, or refused; it never disappears without a word.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Requests, PEM (one or many) or DER; a folder: its *.csr and *.pem; `-` is stdin
    #[arg(value_name = "FILE|DIR|-", required = true)]
    csr: Vec<PathBuf>,
    /// What names the device
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = NameFrom::Cn)]
    name_from: NameFrom,
    #[command(flatten)]
    rules: RuleArgs,
    /// The folder that gets one folder for each device [default: devices in the project]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to do with a device that has a live identity
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = IfExists::Fail)]
    if_exists: IfExists,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    ca: CaArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum NameFrom {
    /// The request's common name
    Cn,
    /// The request's subject attribute serialNumber
    Serial,
    /// The file's name without its ending
    File,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum IfExists {
    /// Sign nothing at all
    Fail,
    /// Leave it as it is
    Skip,
}

/// What was signed.
#[derive(serde::Serialize)]
pub(super) struct SignReport {
    ca: String,
    checked_against: Option<PathBuf>,
    certificates: Vec<One>,
    #[serde(skip)]
    now: UtcTime,
}

/// One device.
#[derive(Clone, serde::Serialize)]
struct One {
    device: String,
    standing: Standing,
    id: Option<CertificateId>,
    serial: String,
    subject: String,
    key_algorithm: String,
    #[serde(flatten)]
    validity: Validity,
    folder: Option<PathBuf>,
    /// What the request asked for and did not get.
    left_out: Vec<String>,
    /// Whether the identity that was there is for the same key; `null` when it is new.
    same_key: Option<bool>,
    certificate_pem: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    Signed,
    Finished,
    Skipped,
}

/// A request that was checked.
struct Order {
    device: ThingName,
    key: PublicKey,
    settled: Settled,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<SignReport, Failure> {
        let factory = Factory::open(settings)?;
        let chosen = self.template.load(settings, &factory.files)?;
        if chosen.is_none() {
            report::note("note: no template is named, so the drafts are not checked against one");
        }
        let profile = self.profile.load(settings)?;
        let flow = DeviceSign {
            issue: factory.issue(),
            browse: &factory.files,
            keys: self.rules.keys(),
        };
        let found = flow.gather(&self.csr, &mut |path| {
            report::note(format_args!(
                "note: `{}` holds no certificate request",
                path.display()
            ));
        })?;
        let orders = self.checked(found, (&profile, chosen.as_ref()))?;
        let ca = self.ca.load(settings, &factory)?;
        let lifetime = self.window.lifetime(settings, &profile)?;
        let out = self.out_folder(settings)?;
        let request = |order: &Order| request(order, (&lifetime, &out), (&ca, chosen.as_ref()));
        let requests: Vec<Request<'_>> = orders.iter().map(request).collect();
        let signed = flow.run(&requests, self.if_exists == IfExists::Skip)?;
        let one = |(order, signed): (Order, Signed)| One::new(order, signed, &out);
        Ok(SignReport {
            certificates: orders.into_iter().zip(signed).map(one).collect(),
            ca: ca.name,
            checked_against: chosen.map(|chosen| shown(&chosen.path)),
            now: factory.clock.now(),
        })
    }

    fn out_folder(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let folder = match &self.out {
            Some(folder) => folder.clone(),
            None => settings.project()?.join("devices"),
        };
        std::path::absolute(&folder).map_err(|error| {
            Failure::new(Kind::Input, "file.write", "the folder has no path").because(error)
        })
    }

    /// All of them, or everything that is wrong with them.
    fn checked(
        &self,
        found: Vec<Found>,
        (profile, chosen): (&Profile, Option<&Chosen>),
    ) -> Result<Vec<Order>, Failure> {
        let total = found.len();
        let mut orders: Vec<Order> = Vec::with_capacity(total);
        let mut problems = Vec::new();
        let mut places: HashMap<ThingName, String> = HashMap::with_capacity(total);
        for one in found {
            let place = one.place.clone();
            let order = self.order(one, profile).and_then(|order| {
                if let Some(chosen) = chosen {
                    fit::fits(&chosen.template, &order.settled.subject)?;
                }
                match places.insert(order.device.clone(), place.clone()) {
                    Some(earlier) => Err(twice(&order.device, &earlier)),
                    None => Ok(order),
                }
            });
            match order {
                Ok(order) => orders.push(order),
                Err(failure) => problems.push(at(&place, failure)),
            }
        }
        match problems.len() {
            0 => Ok(orders),
            1 if total == 1 => Err(problems.remove(0)),
            _ => Err(all_of(problems, total)),
        }
    }

    fn order(&self, found: Found, profile: &Profile) -> Result<Order, Failure> {
        let csr = found.csr?;
        note_unsupported(&found.place, &csr);
        let device = self.name(&csr, found.stem.as_deref())?;
        let names = self.profile.names(profile, device.as_str())?;
        let settled = settle(&csr, &names.wanted(profile), self.rules.rules())?;
        Ok(Order {
            device,
            key: csr.public_key,
            settled,
        })
    }

    fn name(&self, csr: &Csr, stem: Option<&str>) -> Result<ThingName, Failure> {
        let (name, what) = match self.name_from {
            NameFrom::Cn => (csr.subject.first("CN"), "its subject has no common name"),
            NameFrom::Serial => (
                csr.subject.first("serialNumber"),
                "its subject has no serialNumber",
            ),
            NameFrom::File => (stem, "it has no file of its own"),
        };
        let hint = "choose with --name-from, or name it: `nameplate device issue NAME --csr FILE`";
        let name = name.ok_or_else(|| {
            let message = format!("nothing names the device: {what}");
            Failure::new(Kind::Input, "csr.name", message).hint(hint)
        })?;
        name.parse::<ThingName>()
            .map_err(|error| Failure::from(error).hint(hint))
    }
}

fn request<'a>(
    order: &Order,
    (lifetime, out): (&Lifetime, &Path),
    (ca, chosen): (&'a CaHandle, Option<&'a Chosen>),
) -> Request<'a> {
    let settled = order.settled.clone();
    Request {
        device: order.device.to_string(),
        subject: settled.subject,
        purpose: settled.purpose,
        alternative_names: settled.alternative_names,
        extras: settled.extras,
        lifetime: lifetime.clone(),
        key: KeySource::Elsewhere(order.key.clone(), None),
        folder: out.join(order.device.as_str()),
        issuer: ca.issuer(),
        template: chosen.map(|chosen| &chosen.template),
        replaces: None,
        flaw: None,
    }
}

fn twice(device: &ThingName, earlier: &str) -> Failure {
    let message = format!("it is for device `{device}`, and so is `{earlier}`");
    Failure::new(Kind::Input, "csr.twice", message).hint("keep one request for each device")
}

/// Everything that is wrong, under the code of the first.
fn all_of(problems: Vec<Failure>, total: usize) -> Failure {
    use fmt::Write as _;
    let mut message = format!(
        "{} of {total} requests cannot be signed, and none was",
        problems.len()
    );
    for problem in problems.iter().take(MAX_PROBLEMS) {
        // Writing to a string does not fail.
        let _ = write!(message, "\n  {}", problem.message);
        let _ = problem
            .causes
            .iter()
            .try_for_each(|cause| write!(message, ": {cause}"));
    }
    if problems.len() > MAX_PROBLEMS {
        let _ = write!(message, "\n  and {} more", problems.len() - MAX_PROBLEMS);
    }
    let first = problems.into_iter().next();
    let (kind, code, hint) = first.map_or((Kind::Input, "csr.none", None), |failure| {
        (failure.kind, failure.code, failure.hint)
    });
    Failure {
        hint,
        ..Failure::new(kind, code, message)
    }
}

impl One {
    fn new(order: Order, signed: Signed, out: &Path) -> Self {
        match signed {
            Signed::New {
                certificate,
                finished,
            } => Self {
                device: order.device.to_string(),
                standing: if finished {
                    Standing::Finished
                } else {
                    Standing::Signed
                },
                id: Some(certificate.id().clone()),
                serial: certificate.serial_hex(),
                subject: certificate.subject.to_string(),
                key_algorithm: certificate.key_algorithm().to_string(),
                validity: certificate.validity,
                folder: Some(shown(&out.join(order.device.as_str()))),
                left_out: order.settled.left_out,
                same_key: None,
                certificate_pem: Some(certificate.to_pem()),
            },
            Signed::Skipped(record) => {
                let there = record.der.as_deref();
                let there = there.and_then(|der| Certificate::from_der(der).ok());
                Self {
                    device: record.device.clone(),
                    standing: Standing::Skipped,
                    id: record.id.clone(),
                    serial: hex(&record.serial),
                    subject: record.subject.clone(),
                    key_algorithm: record.key_algorithm.clone(),
                    validity: record.validity,
                    folder: record.folder.as_deref().map(shown),
                    left_out: Vec::new(),
                    same_key: there
                        .as_ref()
                        .map(|leaf| leaf.public_key.bits() == order.key.bits()),
                    certificate_pem: there.as_ref().map(Certificate::to_pem),
                }
            }
        }
    }
}

impl Report for SignReport {
    fn lines(&self) -> Option<Vec<serde_json::Value>> {
        let line = |one: &One| serde_json::to_value(one).unwrap_or_default();
        Some(self.certificates.iter().map(line).collect())
    }
}

impl fmt::Display for SignReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = |one: &&One| one.standing == Standing::Skipped;
        let skips = self.certificates.iter().filter(skipped).count();
        let signed = self.certificates.len() - skips;
        writeln!(
            f,
            "signed {} with CA {}",
            count(signed as u64, "certificate"),
            self.ca
        )?;
        for one in &self.certificates {
            one.write(f, self.now)?;
        }
        if let Some(path) = &self.checked_against {
            writeln!(f, "all pass {}", path.display())?;
        }
        Ok(())
    }
}

impl One {
    fn write(&self, f: &mut fmt::Formatter<'_>, now: UtcTime) -> fmt::Result {
        let how = match (self.standing, self.same_key) {
            (Standing::Signed, _) => "",
            (Standing::Finished, _) => " (finishing an earlier run)",
            (Standing::Skipped, Some(false)) => " has an identity for ANOTHER key, left as it is",
            (Standing::Skipped, _) => " has its identity, left as it is",
        };
        writeln!(f, "{}{how}", self.device)?;
        writeln!(f, "  subject  {}", self.subject)?;
        writeln!(f, "  valid    {}", self.validity.describe(now))?;
        writeln!(f, "  key      {}", self.key_algorithm)?;
        if let Some(id) = &self.id {
            writeln!(f, "  id       {id}")?;
        }
        for what in &self.left_out {
            writeln!(f, "  left out {what}, which the request asked for")?;
        }
        match &self.folder {
            Some(folder) => writeln!(f, "  folder   {}", folder.display()),
            None => Ok(()),
        }
    }
}
