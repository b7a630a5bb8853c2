//! `ca register`

use std::fmt;

use super::super::args::Target;
use super::super::args_issue::{PassphraseArgs, ca_chain, ca_flaw, load_any_ca};
use super::super::report::{Report, note};
use super::super::settings::Settings;
use super::super::wire::factory::Factory;
use super::super::wire::target::{Connected, TargetReport, connect};
use crate::core::ids::{CertificateId, TemplateName};
use crate::core::subject::Subject;
use crate::explain::{Failure, Kind};
use crate::flows::ca_register::{CaRegister, Change, Plan, Wanted};
use crate::ports::cloud::CertificateMode;

/// Register a CA at the target, so that devices with its certificates may come
///
/// In DEFAULT mode this proves that the CA's key is yours, with a verification certificate made for
/// the registration code. Run again, it changes nothing and says so; what differs is shown, and
/// changed only with --yes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The CA's name
    name: String,
    /// With proof (one account in a Region) or without (any number of accounts)
    #[arg(long, value_enum, default_value_t = Mode::Default)]
    mode: Mode,
    /// The JITP template that provisions devices at their first connect
    #[arg(long, value_name = "NAME")]
    template: Option<TemplateName>,
    /// Register it INACTIVE
    #[arg(long)]
    inactive: bool,
    /// Do not register devices at their first connect
    #[arg(long)]
    no_auto_registration: bool,
    /// Change what differs; needed for every change at AWS
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

/// How a CA is registered.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Mode {
    /// With a verification certificate
    Default,
    /// Without proof; devices must send SNI
    SniOnly,
}

/// What was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Registered,
    Changed,
    NothingToChange,
    WouldRegister,
    WouldChange,
}

/// The CA at the target.
#[derive(serde::Serialize)]
pub(super) struct Registered {
    target: TargetReport,
    outcome: Outcome,
    ca: String,
    id: CertificateId,
    subject: Subject,
    mode: CertificateMode,
    active: bool,
    auto_registration: bool,
    template: Option<TemplateName>,
    changes: Vec<Change>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Registered, Failure> {
        let factory = Factory::open(settings)?;
        let ca = ca_chain(&self.name, (settings, &factory))?.swap_remove(0);
        let wanted = self.wanted(ca);
        if let (Some(flaw), Target::Aws) = (ca_flaw(&self.name, &factory)?, settings.target) {
            let message = format!(
                "the CA `{}` is wrong on purpose: {}",
                self.name,
                flaw.what()
            );
            return Err(Failure::new(Kind::Refused, "ca.flawed", message)
                .hint("register it at the sandbox, to see what AWS IoT says of it"));
        }
        let Connected { plane, target, .. } = &connect(settings)?;
        let flow = CaRegister {
            clock: &factory.clock,
            entropy: &factory.entropy,
            keygen: &factory.keygen,
            plane: plane.as_ref(),
        };
        let plan = flow.plan(&wanted)?;
        if plan != Plan::Nothing && !self.dry_run {
            target.confirm(self.yes, &format!("register CA `{}`", self.name))?;
        }
        let outcome = match &plan {
            Plan::Nothing => Outcome::NothingToChange,
            Plan::Register if self.dry_run => Outcome::WouldRegister,
            Plan::Change(_) if self.dry_run => Outcome::WouldChange,
            Plan::Register => {
                // The key is opened only when it is needed: a second run asks no passphrase.
                let proves = wanted.mode == CertificateMode::Default;
                let open = || load_any_ca(&self.name, &self.passphrase, (settings, &factory));
                let handle = proves.then(open).transpose()?;
                flow.register(&wanted, handle.as_ref().map(|ca| &*ca.signer))?;
                Outcome::Registered
            }
            Plan::Change(changes) => {
                self.confirm_changes(changes, target)?;
                flow.change(&wanted)?;
                Outcome::Changed
            }
        };
        let view = plane.describe_ca(wanted.certificate.id())?;
        Ok(self.report(wanted, (outcome, plan), (target, view)))
    }

    fn wanted(&self, certificate: crate::core::cert::Certificate) -> Wanted {
        Wanted {
            certificate,
            mode: match self.mode {
                Mode::Default => CertificateMode::Default,
                Mode::SniOnly => CertificateMode::SniOnly,
            },
            active: !self.inactive,
            auto_registration: !self.no_auto_registration,
            template: self.template.clone(),
        }
    }

    fn confirm_changes(&self, changes: &[Change], target: &TargetReport) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        for change in changes {
            note(format_args!("  {change}"));
        }
        let message = format!(
            "CA `{}` is registered differently in the {target}",
            self.name
        );
        Err(Failure::new(Kind::Refused, "ca-register.differs", message)
            .hint("if the change shown above is wanted, run it again with --yes"))
    }

    fn report(
        self,
        wanted: Wanted,
        (outcome, plan): (Outcome, Plan),
        (target, view): (&TargetReport, Option<crate::ports::cloud::CaView>),
    ) -> Registered {
        let registered = view.filter(|_| !self.dry_run);
        let template = registered.and_then(|view| view.template);
        Registered {
            target: target.clone(),
            outcome,
            ca: self.name,
            id: wanted.certificate.id().clone(),
            subject: wanted.certificate.subject.clone(),
            mode: wanted.mode,
            active: wanted.active,
            auto_registration: wanted.auto_registration,
            template: template.or(wanted.template),
            changes: match plan {
                Plan::Change(changes) => changes,
                _ => Vec::new(),
            },
        }
    }
}

impl Report for Registered {}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.outcome {
            Outcome::Registered => "registered",
            Outcome::Changed => "changed",
            Outcome::NothingToChange => "nothing to change",
            Outcome::WouldRegister => "would be registered",
            Outcome::WouldChange => "would be changed",
        };
        writeln!(f, "CA {} in the {}: {what}", self.ca, self.target)?;
        for change in &self.changes {
            writeln!(f, "  {change}")?;
        }
        let status = if self.active { "ACTIVE" } else { "INACTIVE" };
        let registration = if self.auto_registration {
            "ENABLE"
        } else {
            "DISABLE"
        };
        let template = self.template.as_ref().map_or("none", TemplateName::as_str);
        writeln!(f, "  subject            {}", self.subject)?;
        writeln!(f, "  id                 {}", self.id)?;
        writeln!(f, "  mode               {}", self.mode)?;
        writeln!(f, "  status             {status}")?;
        writeln!(f, "  auto-registration  {registration}")?;
        write!(f, "  template           {template}")
    }
}
