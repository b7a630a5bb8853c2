//! `device renew`

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::super::args_fleet::{self, FleetArgs, KeyFrom, LineArgs};
use super::super::identity::{in_project, positive};
use super::super::provision::orphans;
use super::super::report::{Output, Report, note};
use super::super::settings::Settings;
use super::super::wire;
use super::super::wire_device::Machine;
use crate::core::bundle::Secrecy;
use crate::core::renewal::Margin;
use crate::core::subject::Subject;
use crate::explain::{Failure, Kind};
use crate::flows::device_renew::{self, DeviceRenew, Done, Renewed, Request, Source};
use crate::flows::enrol::{KeyWish, Provisioning, Terms};
use crate::flows::identity::{self, Paths};
use crate::ports::hook::{Recipient, Signal};
use crate::ports::{Clock, Entropy, Files};

/// Renew this device's own identity, with a new key, when it is due
///
/// The new certificate comes from a fleet provisioning template, asked for with the present
/// identity's own connection; or by file, with --csr-out and later --cert-in. The new identity is
/// proved by connecting before it takes the old one's place, in one step. Run the same command again
/// after whatever cut it off: it goes on from there.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The identity's folder [config: device.identity]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// Renew when no more than this is left: a duration, or a share of the certificate's lifetime
    #[arg(long, value_name = "SPAN|PERCENT", default_value = "33%")]
    within: Margin,
    /// Renew whatever is left
    #[arg(long, conflicts_with = "within")]
    force: bool,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Write a certificate request here, for somebody to sign; `-` is stdout
    #[arg(long, value_name = "FILE", conflicts_with_all = ["template", "cert_in", "daemon", "rollback"])]
    csr_out: Option<PathBuf>,
    /// The certificate that was made for it: PEM, leaf first; or a folder as `device sign` writes it
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["template", "daemon", "rollback"])]
    cert_in: Option<PathBuf>,
    /// The subject of the certificate request [default: the present certificate's]
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<Subject>,
    /// The MQTT client id, of both identities [default: as in `connect`]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Run this by the shell once the new identity is in its place; when it fails, the old one comes
    /// back (repeat for more)
    #[arg(long, value_name = "CMD")]
    exec: Vec<String>,
    /// Send a signal to this process, or to the one whose number this file holds, once the new
    /// identity is in its place (repeat for more)
    #[arg(long, value_name = "PID|FILE")]
    signal: Vec<String>,
    /// Which signal
    #[arg(long, value_enum, value_name = "SIGNAL", default_value_t = SignalArg::Hup)]
    signal_name: SignalArg,
    /// Bring the identity before back into use
    #[arg(long)]
    rollback: bool,
    /// Stay, and look again after each --every
    #[arg(long, conflicts_with = "rollback")]
    daemon: bool,
    /// How long a daemon waits between two looks, give or take a quarter
    #[arg(long, value_name = "SPAN", default_value = "12h")]
    every: String,
    #[command(flatten)]
    line: LineArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SignalArg {
    /// SIGHUP
    Hup,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
    /// SIGTERM
    Term,
}

impl From<SignalArg> for Signal {
    fn from(signal: SignalArg) -> Self {
        match signal {
            SignalArg::Hup => Self::Hup,
            SignalArg::Usr1 => Self::Usr1,
            SignalArg::Usr2 => Self::Usr2,
            SignalArg::Term => Self::Term,
        }
    }
}

/// The longest wait of a daemon after a failure.
const AFTER_FAILURE: Duration = Duration::from_mins(10);

/// What was done, and the file that a request was written to.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Answer {
    #[serde(flatten)]
    renewed: Renewed,
    #[serde(skip_serializing_if = "Option::is_none")]
    csr_file: Option<PathBuf>,
    #[serde(skip)]
    on_stdout: bool,
    #[serde(skip)]
    rolled_back: bool,
}

impl Args {
    pub(in crate::cli) fn run(
        self,
        settings: &Settings,
        output: Output,
    ) -> Result<Answer, Failure> {
        let machine = Machine::default();
        if !self.daemon {
            return self.once(settings, &machine);
        }
        let every = positive("--every", &self.every)?;
        let mut failures = 0;
        loop {
            let wait = match self.once(settings, &machine) {
                Ok(answer) => {
                    failures = 0;
                    if matches!(answer.renewed, Renewed::Renewed(_)) {
                        note(&answer);
                    }
                    every
                }
                // What the command line says will not mend itself.
                Err(failure) if failure.kind == Kind::Usage => return Err(failure),
                Err(failure) => {
                    failures = (failures + 1).min(16);
                    output.fail(&failure);
                    every.min(AFTER_FAILURE)
                }
            };
            machine.clock.sleep(jittered(wait, &machine));
        }
    }

    fn once(&self, settings: &Settings, machine: &Machine) -> Result<Answer, Failure> {
        let flow = DeviceRenew {
            enrol: args_fleet::enrol(machine),
            swap: &machine.swap,
            hooks: &machine.processes,
        };
        let request = self.request(settings, machine, &flow)?;
        if self.rollback {
            let done = flow.roll_back(&request)?;
            return Ok(Answer {
                renewed: Renewed::Renewed(Box::new(done)),
                csr_file: None,
                on_stdout: false,
                rolled_back: true,
            });
        }
        let mut witness = match &request.line {
            Some(line) => wire::witness(settings, std::slice::from_ref(&line.endpoint)),
            None => None,
        };
        let renewed = flow.run(&request, &mut |text| note(text), &mut witness)?;
        self.answer(renewed, machine)
    }

    fn answer(&self, renewed: Renewed, machine: &Machine) -> Result<Answer, Failure> {
        let mut answer = Answer {
            renewed,
            csr_file: None,
            on_stdout: false,
            rolled_back: false,
        };
        if let (Renewed::Waiting { csr_pem, .. }, Some(path)) = (&answer.renewed, &self.csr_out) {
            answer.on_stdout = path.as_os_str() == "-";
            if !answer.on_stdout {
                machine
                    .files
                    .replace(path, csr_pem.as_bytes(), Secrecy::Public)?;
                answer.csr_file = Some(path.clone());
            }
        }
        Ok(answer)
    }

    fn folder(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let configured = || {
            let folder = settings.file.device.identity.clone()?;
            Some(in_project(settings, folder))
        };
        self.identity.clone().or_else(configured).ok_or_else(|| {
            Failure::new(Kind::Usage, "device.missing-input", "no identity was named").hint(
                "name it with --identity DIR, NAMEPLATE_IDENTITY, or `identity` under [device]",
            )
        })
    }

    fn request(
        &self,
        settings: &Settings,
        machine: &Machine,
        flow: &DeviceRenew<'_>,
    ) -> Result<Request, Failure> {
        let folder = self.folder(settings)?;
        flow.mend(&folder)?;
        let needs_none = self.csr_out.is_some() || self.rollback;
        let line = if needs_none && self.line.endpoint.all(settings)?.is_empty() {
            None
        } else {
            Some(self.line.line(settings, machine)?)
        };
        let (subject, client_id) = self.names(machine, &folder);
        let source = if self.rollback || self.csr_out.is_some() {
            Source::CsrOut
        } else if let Some(path) = &self.cert_in {
            Source::CertIn(device_renew::brought(flow, path)?)
        } else {
            self.template(machine, &folder, client_id.clone(), line.clone())?
        };
        // Who asks for a request, or brings its certificate, has decided that it is time.
        let by_file = self.csr_out.is_some() || self.cert_in.is_some();
        let signal = self.signal.iter().map(|to| Recipient::parse(to));
        Ok(Request {
            key: match self.fleet.key_from {
                KeyFrom::Cloud if self.csr_out.is_none() => KeyWish::Service,
                _ => KeyWish::Here {
                    algorithm: self.fleet.curve.into(),
                    subject,
                },
            },
            folder,
            source,
            line,
            client_id,
            within: (!self.force && !by_file).then_some(self.within),
            exec: self.exec.clone(),
            signal: signal.map(|to| (to, self.signal_name.into())).collect(),
            start_over: self.fleet.start_over,
        })
    }

    /// The new request's subject, and the client id of both identities.
    fn names(&self, machine: &Machine, folder: &std::path::Path) -> (Subject, Option<String>) {
        let paths = Paths::in_folder(folder);
        let present = identity::certificates(&machine.files, &paths.certificate).ok();
        let present = present.and_then(|all| all.into_iter().next());
        let common_name = present
            .as_ref()
            .and_then(|leaf| leaf.subject.first("CN").map(str::to_owned));
        let client_id = self
            .client_id
            .clone()
            .or_else(|| identity::client_id_of(&machine.files, &paths))
            .or(common_name);
        let subject = self.subject.clone().or(present.map(|leaf| leaf.subject));
        let subject = subject.unwrap_or_else(|| Subject::common_name("device"));
        (subject, client_id)
    }

    /// The template that is named, or the one that the present identity came from.
    fn template(
        &self,
        machine: &Machine,
        folder: &std::path::Path,
        client_id: Option<String>,
        line: Option<crate::flows::enrol::Line>,
    ) -> Result<Source, Failure> {
        let asker = identity::load(&machine.files, &Paths::in_folder(folder))?;
        let kept = Provisioning::read(&machine.files, folder);
        let named = self.fleet.template.clone();
        let template = named.or_else(|| kept.template.as_ref()?.parse().ok());
        let (Some(template), Some(line)) = (template, line) else {
            return Err(Failure::new(
                Kind::Usage,
                "device.missing-input",
                "nothing says where the new certificate comes from",
            )
            .hint("name a fleet provisioning template with --template, or use --csr-out FILE"));
        };
        let mut parameters = kept.parameters;
        parameters.extend(self.fleet.parameters()?);
        Ok(Source::Template(Box::new(Terms {
            line,
            asker,
            template,
            parameters,
            format: self.fleet.payload.into(),
            client_id,
        })))
    }
}

/// A quarter less to a quarter more.
fn jittered(wait: Duration, machine: &Machine) -> Duration {
    let mut bytes = [0; 4];
    machine.entropy.fill(&mut bytes);
    let share = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    wait.mul_f64(0.75 + share / 2.0)
}

impl Report for Answer {}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.renewed {
            Renewed::NotDue {
                certificate_id,
                due_from,
            } => {
                write!(f, "not due: certificate {}", certificate_id.short())?;
                match due_from {
                    Some(at) => write!(f, " is renewed from {at} on"),
                    None => f.write_str(" never ends"),
                }
            }
            Renewed::Waiting { csr_pem, .. } if self.on_stdout => f.write_str(csr_pem.trim_end()),
            Renewed::Waiting { since, .. } => {
                write!(f, "a request waits for its certificate since {since}")?;
                if let Some(path) = &self.csr_file {
                    write!(f, "\n  wrote {}", path.display())?;
                }
                f.write_str("\n  bring it with `nameplate device renew --cert-in FILE`")
            }
            Renewed::Renewed(done) => renewed(f, done, self.rolled_back),
        }
    }
}

fn renewed(f: &mut fmt::Formatter<'_>, done: &Done, rolled_back: bool) -> fmt::Result {
    let word = if rolled_back {
        "rolled back"
    } else {
        "renewed"
    };
    writeln!(f, "{word}: the identity in {}", done.folder.display())?;
    write!(f, "  certificate  {}", done.certificate_id)?;
    write!(f, "\n  valid until  {}", done.not_after)?;
    if let Some(old) = &done.old_certificate_id {
        let folder = done.old_folder.display();
        write!(f, "\n  before       {} in {folder}", old.short())?;
    }
    orphans(f, done.unanswered, done.given_up.len())
}
