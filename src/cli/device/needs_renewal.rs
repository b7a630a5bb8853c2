//! `device needs-renewal`

use std::fmt;
use std::path::PathBuf;

use super::super::report::{Report, count};
use super::super::settings::Settings;
use super::super::wire_device::Machine;
use super::names::{self, Named};
use crate::cli::identity::in_project;
use crate::core::renewal::{Margin, Renewal, RenewalState};
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Failure, Kind};
use crate::flows::needs_renewal::{Finder, Found};
use crate::ports::Clock;

/// Tell whether a certificate is due for renewal: exit code 0 if it is, 1 if not
///
/// With several, 0 when any of them is due. What has expired is due. As systemd's ExecCondition=
/// wants it; an error is 2 or 3, which systemd takes for "not due": see docs/device.md.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Devices of the ledger, or what --cert takes when there is a `/` or `.` in it, or `-`
    /// [default: this device's own, --identity]
    #[arg(value_name = "NAME|FILE|DIR")]
    names: Vec<String>,
    /// A certificate, PEM or DER; an identity folder, or a folder of those; `-` is stdin
    #[arg(long = "cert", value_name = "FILE|DIR")]
    certificates: Vec<PathBuf>,
    /// This device's identity folder, asked about when nothing else is named
    /// [config: device.identity]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// Every live certificate in the ledger
    #[arg(long, conflicts_with_all = ["names", "certificates"])]
    all: bool,
    /// Due when no more than this is left: a duration, or a share of the certificate's lifetime
    #[arg(
        long,
        value_name = "SPAN|PERCENT",
        default_value = "33%",
        alias = "expires-in"
    )]
    within: Margin,
    /// As if it were this time (RFC 3339, or `+90d`)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Every certificate of a file, rather than the first alone
    #[arg(long)]
    bundle: bool,
    /// Print nothing; the exit code says it
    #[arg(long, short)]
    quiet: bool,
}

/// The answer.
#[derive(serde::Serialize)]
pub(super) struct Answer {
    needs_renewal: bool,
    within: Margin,
    at: UtcTime,
    certificates: Vec<One>,
    #[serde(skip)]
    quiet: bool,
}

/// The answer for one certificate.
#[derive(serde::Serialize)]
struct One {
    name: String,
    id: Option<String>,
    subject: String,
    not_before: UtcTime,
    not_after: UtcTime,
    state: RenewalState,
    needs_renewal: bool,
    renew_from: Option<UtcTime>,
    remaining_seconds: i64,
    #[serde(skip)]
    renewal: Renewal,
    #[serde(skip)]
    at: UtcTime,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Answer, Failure> {
        let machine = Machine::default();
        let at = self.time(machine.clock.now())?;
        let certificates: Vec<One> = self
            .candidates(settings, &machine)?
            .into_iter()
            .map(|named| One::new(named, self.within, at))
            .collect();
        Ok(Answer {
            needs_renewal: certificates.iter().any(|one| one.needs_renewal),
            within: self.within,
            at,
            certificates,
            quiet: self.quiet,
        })
    }

    fn time(&self, now: UtcTime) -> Result<UtcTime, Failure> {
        let Some(text) = &self.at else {
            return Ok(now);
        };
        UtcTime::parse_relative(text, now)
            .map_err(|error| Failure::new(Kind::Usage, error.code(), format!("--at: {error}")))
    }

    fn candidates(&self, settings: &Settings, machine: &Machine) -> Result<Vec<Named>, Failure> {
        if self.all {
            return names::live(settings, None);
        }
        let is_path = |text: &&String| *text == "-" || text.contains(['/', '.']);
        let (paths, names): (Vec<&String>, Vec<&String>) = self.names.iter().partition(is_path);
        let mut places: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
        places.extend(self.certificates.iter().cloned());
        if places.is_empty() && names.is_empty() {
            places.push(self.own(settings)?);
        }
        let finder = Finder {
            files: &machine.files,
            browse: &machine.files,
            bundle: self.bundle,
        };
        let mut all: Vec<Named> = Vec::new();
        if !names.is_empty() {
            let names: Vec<String> = names.into_iter().cloned().collect();
            all.extend(names::live(settings, Some(&names))?);
        }
        all.extend(finder.find(&places)?.into_iter().map(named));
        Ok(all)
    }

    fn own(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let configured = || {
            let folder = settings.file.device.identity.clone()?;
            Some(in_project(settings, folder))
        };
        self.identity.clone().or_else(configured).ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                "device.missing-input",
                "no certificate was named",
            )
            .hint(
                "name a device, a file or a folder, or NAMEPLATE_IDENTITY, \
                 or `identity` under [device] in nameplate.toml",
            )
        })
    }
}

fn named(found: Found) -> Named {
    Named {
        name: found.path.display().to_string(),
        id: Some(found.certificate.id().to_string()),
        subject: found.certificate.subject.to_string(),
        validity: found.certificate.validity,
    }
}

impl One {
    fn new(named: Named, margin: Margin, at: UtcTime) -> Self {
        let Validity {
            not_before,
            not_after,
        } = named.validity;
        let renewal = Renewal::of(&named.validity, margin, at);
        Self {
            name: named.name,
            id: named.id,
            subject: named.subject,
            not_before,
            not_after,
            state: renewal.state,
            needs_renewal: renewal.needed(),
            renew_from: renewal.opens,
            remaining_seconds: renewal.left.as_seconds(),
            renewal,
            at,
        }
    }
}

impl fmt::Display for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, end, left) = (&self.name, self.not_after, self.renewal.left);
        let opens = self.renewal.opens.unwrap_or(end);
        match self.state {
            RenewalState::Expired => {
                let ago = self.at.since(end);
                write!(f, "{name}: due: expired at {end} ({ago} ago)")
            }
            RenewalState::Due => {
                write!(f, "{name}: due since {opens}: ends at {end} ({left} left)")
            }
            RenewalState::Early => {
                let wait = opens.since(self.at);
                write!(
                    f,
                    "{name}: due from {opens} on (in {wait}): ends at {end} ({left} left)"
                )
            }
            RenewalState::NotYetValid => write!(
                f,
                "{name}: not due: valid only from {} on (it is {}); is the clock right?",
                self.not_before, self.at
            ),
            RenewalState::NoExpiry => write!(f, "{name}: not due: it has no expiry"),
        }
    }
}

impl Report for Answer {
    fn exit_code(&self) -> u8 {
        u8::from(!self.needs_renewal)
    }

    fn silent(&self) -> bool {
        self.quiet
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.certificates {
            writeln!(f, "{one}")?;
        }
        let due = self.certificates.iter().filter(|one| one.needs_renewal);
        match self.certificates.len() {
            0 => f.write_str("no certificates"),
            1 => Ok(()),
            all => write!(
                f,
                "{} of {} due within {}",
                due.count(),
                count(all as u64, "certificate"),
                self.within
            ),
        }
    }
}
