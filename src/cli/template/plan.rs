//! `template plan`

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::given::{Given, Lookup};
use super::plan_list::ListArgs;
use super::plan_report::{Planned, single};
use super::{PolicyArgs, UsageArg};
use crate::cli::args_profile::ProfileArgs;
use crate::cli::report::Output;
use crate::cli::settings::Settings;
use crate::cli::wire::factory::Factory;
use crate::cli::wire::target::{Connected, connect};
use crate::core::cert::Certificate;
use crate::core::csr::Csr;
use crate::core::ids::{CertificateId, Place};
use crate::core::subject::Subject;
use crate::core::template::{Asked, ExistingThings, Gate, Template, Usage, jitp_parameters};
use crate::explain::{Failure, Kind};
use crate::flows::template_plan::{Device, at_target, check_source, check_target};
use crate::ports::Files;

/// The most bytes of a certificate, a request or a file of things that are read.
const MAX_BYTES: u64 = 16 << 20;

/// Say what a template makes of a device or of a whole list, or why it makes nothing
///
/// Give a certificate, a request, a list, a name for the profile's subject, or parameters. Exit code
/// 0 when every device would be provisioned and could connect, 1 when some would not. With --csv
/// every row that fails is told with its line; --format ndjson has one object for each row. No key
/// is needed, and nothing is changed anywhere.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The template: a file, `-` for stdin, or the name of one that we ship, of the project, or with
    /// --at-target of one there
    #[arg(long, short, value_name = "FILE|NAME")]
    template: String,
    /// Who runs it [default: by what it declares]
    #[arg(long, value_enum)]
    kind: Option<UsageArg>,
    /// A device's certificate, PEM or DER
    #[arg(long, value_name = "FILE", group = "source")]
    cert: Option<PathBuf>,
    /// A device's request: its subject is the certificate's
    #[arg(long, value_name = "FILE", group = "source")]
    csr: Option<PathBuf>,
    /// A device's name, for the subject of --subject or --cert-profile
    #[arg(long, value_name = "NAME", group = "source")]
    device: Option<String>,
    #[command(flatten)]
    list: ListArgs,
    /// A parameter's value, for fleet provisioning and `RegisterThing`
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    parameter: Vec<(String, String)>,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Things that are there: an answer of describe-thing or list-things; `-` is stdin
    #[arg(long, value_name = "FILE")]
    existing: Option<PathBuf>,
    /// Look at the target for the template, its policies, what its properties name, and each
    /// device's own thing
    #[arg(long)]
    at_target: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// One device, and why AWS IoT would refuse its certificate.
pub(super) struct One {
    pub(super) device: Device,
    /// The certificate is there, so its id is known.
    pub(super) signed: bool,
    pub(super) refused: Option<String>,
}

impl Args {
    pub(in crate::cli) fn run(
        self,
        settings: &Settings,
        output: Output,
    ) -> Result<Planned, Failure> {
        let connected = self.at_target.then(|| connect(settings)).transpose()?;
        let place = match &connected {
            Some(connected) => connected.target.place.clone(),
            None => settings.sandbox_place()?,
        };
        let lookup = Lookup {
            settings,
            place: &place,
            connected: connected.as_ref(),
        };
        let given = lookup.find(&self.template, self.kind.map(Usage::from))?;
        let gate = self.gate(&given, connected.as_ref(), &place)?;
        let existing = self.existing()?;
        if self.list.is_given() {
            self.only_device_source()?;
            if let Some(connected) = &connected {
                needs(connected, &given)?;
            }
            let shared = self.parameters();
            let work = super::plan_list::Work {
                given: &given,
                gate: &gate,
                existing: &existing,
                place: &place,
                shared: &shared,
            };
            let with = (&work, connected.as_ref());
            return self.list.run(with, (settings, &self.profile), output);
        }
        let one = self.one(settings, &given)?;
        foresee_one((&given, gate), (existing, connected.as_ref()), &one, &place)
    }

    fn only_device_source(&self) -> Result<(), Failure> {
        if self.cert.is_none() && self.csr.is_none() && self.device.is_none() {
            return Ok(());
        }
        let message = "--csv is a list of devices, and another device is named";
        Err(Failure::new(Kind::Usage, "template.plan-device", message)
            .hint("leave one of them out"))
    }

    /// Policies' documents: given, shipped with the template, or the target's.
    fn gate(
        &self,
        given: &Given,
        connected: Option<&Connected>,
        place: &Place,
    ) -> Result<Gate, Failure> {
        let mut documents = given.documents.clone();
        documents.extend(self.policy.documents(&given.body)?);
        if let Some(connected) = connected {
            for name in crate::flows::template_register::policies_named(&given.body) {
                if !documents.contains_key(&name)
                    && let Some(view) = connected.plane.get_policy(&name)?
                {
                    documents.insert(name, view.document);
                }
            }
        }
        Ok(Gate::new(&documents, place))
    }

    fn existing(&self) -> Result<ExistingThings, Failure> {
        let Some(path) = &self.existing else {
            return Ok(ExistingThings::default());
        };
        let bytes = Factory::disk().read(path, MAX_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        ExistingThings::parse(&text).map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("`{}`: {}", path.display(), failure.message);
            Failure { message, ..failure }
        })
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        self.parameter.iter().cloned().collect()
    }

    fn one(&self, settings: &Settings, given: &Given) -> Result<One, Failure> {
        if let Some(path) = &self.cert {
            let certificate = read_certificate(path)?;
            let refused = certificate.unsupported_algorithm();
            let id = certificate.id().clone();
            return Ok(self.with_subject(certificate.subject, &id, (true, refused), given));
        }
        let unsigned = CertificateId::of_der(b"");
        if let Some(path) = &self.csr {
            let csr = Csr::from_pem_or_der(&Factory::disk().read(path, MAX_BYTES)?)?;
            return Ok(self.with_subject(
                csr.subject,
                &unsigned,
                (false, csr.subject_fault),
                given,
            ));
        }
        if let Some(name) = &self.device {
            let profile = self.profile.load(settings)?;
            let names = self.profile.subject_of(&profile, name)?;
            return Ok(self.with_subject(names, &unsigned, (false, None), given));
        }
        if given.usage == Usage::Jitp {
            let message = "no device is named";
            return Err(Failure::new(Kind::Usage, "template.plan-device", message)
                .hint("name one with --cert, --csr or --device, or a list with --csv"));
        }
        let mut values = self.parameters();
        let id = Template::certificate_parameter("Id");
        values.entry(id).or_insert_with(|| unsigned.to_string());
        Ok(One {
            device: Device {
                values,
                subject: None,
            },
            signed: false,
            refused: None,
        })
    }

    /// JITP takes its values from the certificate; elsewhere it gives its id alone.
    fn with_subject(
        &self,
        subject: Subject,
        id: &CertificateId,
        (signed, refused): (bool, Option<String>),
        given: &Given,
    ) -> One {
        let values = if given.usage == Usage::Jitp {
            jitp_parameters(&subject, id)
        } else {
            let mut values = self.parameters();
            values.insert(Template::certificate_parameter("Id"), id.to_string());
            values
        };
        One {
            device: Device {
                values,
                subject: Some(subject),
            },
            signed,
            refused,
        }
    }
}

/// What the template itself names is at the target, or no row passes.
fn needs(connected: &Connected, given: &Given) -> Result<(), Failure> {
    for wanted in given.template.prerequisites() {
        let there = connected.plane.has(wanted.kind, &wanted.name)?;
        if let Some(finding) = Template::lint_prerequisite(&wanted, Some(there)) {
            let message = format!("no row passes: {}", finding.message);
            let failure = Failure::new(Kind::Negative, "template.prerequisite-missing", message);
            return Err(failure.hint(finding.remedy.unwrap_or_default()));
        }
    }
    Ok(())
}

fn foresee_one(
    (given, mut gate): (&Given, Gate),
    (existing, connected): (ExistingThings, Option<&Connected>),
    one: &One,
    place: &Place,
) -> Result<Planned, Failure> {
    let asked = |existing| Asked {
        usage: given.usage,
        values: &one.device.values,
        subject: one.device.subject.as_ref(),
        existing,
        place,
    };
    let mut existing = existing;
    if let (Some(connected), Ok(plan)) = (
        connected,
        given.template.render(given.usage, &one.device.values),
    ) && let Some(thing) = plan.thing
        && existing.thing(&thing.name).is_none()
        && let Some(there) = at_target(&*connected.plane, &thing.name)?
    {
        existing = existing.with(thing.name, there);
    }
    let mut foreseen = given.template.foresee(&asked(&existing), &mut gate);
    check_source(&mut foreseen);
    if let Some(connected) = connected {
        check_target(&*connected.plane, &mut foreseen)?;
    }
    let target = connected.map(|connected| connected.target.clone());
    Ok(single((given, target), one, foreseen))
}

fn read_certificate(path: &std::path::Path) -> Result<Certificate, Failure> {
    let bytes = Factory::disk().read(path, MAX_BYTES)?;
    if let Ok(certificate) = Certificate::from_der(&bytes) {
        return Ok(certificate);
    }
    let all = Certificate::all_from_pem(&bytes).map_err(|error| {
        let failure = Failure::from(error);
        let message = format!("`{}`: {}", path.display(), failure.message);
        Failure { message, ..failure }
    })?;
    all.into_iter().next().ok_or_else(|| {
        let message = format!("`{}` holds no certificate", path.display());
        Failure::new(Kind::Input, "cert.none", message)
    })
}
