//! `preflight`

mod picture;

use std::fmt;
use std::path::PathBuf;

use super::args_time::{TimeArgs, span};
use super::identity::{EndpointArgs, IdentityArgs, positive};
use super::report::Report;
use super::settings::Settings;
use super::wire_device::Machine;
use crate::core::preflight::{Answer, Check, Facts, Status, Verdict, judge};
use crate::core::time::Span;
use crate::explain::{Failure, Kind};
use crate::flows::preflight::Request;
use crate::ports::Files;

/// The most of a facts file that is read.
const MAX_FACTS_BYTES: u64 = 4 << 20;

/// Check clock, identity, chain and server before the first connect
///
/// Exit code 0: ready. 1: something must be mended. 4: it cannot be told, because the clock is not
/// right or the network was in the way.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    identity: IdentityArgs,
    /// The CAs that the device's certificate must lead to, PEM [default: ca.pem in the folder]
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_DEVICE_CA")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    time: TimeArgs,
    /// Use no network at all: neither time servers nor the endpoint
    #[arg(long)]
    offline: bool,
    /// Warn when a validity window ends within this long [default: 1d]
    #[arg(long, value_name = "SPAN")]
    margin: Option<String>,
    /// Judge the facts of a `preflight --format json` kept earlier; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identity", "cert", "chain", "key", "ca"])]
    facts: Option<PathBuf>,
    /// The most that each exchange with a server may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    timeout: String,
}

/// The facts and what they come to.
#[derive(serde::Serialize)]
pub(super) struct Preflight {
    verdict: Verdict,
    facts: Facts,
}

/// A saved report holds the facts under this key; a bare facts object is taken too.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Saved {
    Report { facts: Facts },
    Bare(Facts),
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Preflight, Failure> {
        let machine = Machine::default();
        let margin = self
            .margin
            .as_deref()
            .map(|text| span("--margin", text))
            .transpose()?;
        let facts = if let Some(path) = &self.facts {
            let kept = replay(&machine, path)?;
            Facts {
                margin_s: margin.map_or(kept.margin_s, Span::as_seconds),
                ..kept
            }
        } else {
            let request = self.request(settings, &machine, margin.unwrap_or(Span::days(1)))?;
            machine.gather().run(&request)
        };
        Ok(Preflight {
            verdict: judge(&facts),
            facts,
        })
    }

    fn request(
        &self,
        settings: &Settings,
        machine: &Machine,
        margin: Span,
    ) -> Result<Request, Failure> {
        let mut identity = self.identity.paths(settings)?;
        identity.ca = self.ca.clone().or(identity.ca);
        // An identity folder need not hold these two; a flag that names one is taken at its word.
        if self.ca.is_none() {
            identity.ca = identity.ca.filter(|path| machine.files.exists(path));
        }
        identity.chain = identity
            .chain
            .filter(|path| self.identity.names_chain() || machine.files.exists(path));
        let timeout = positive("--timeout", &self.timeout)?;
        Ok(Request {
            margin,
            clock: self
                .time
                .request(settings, machine, (self.offline, timeout))?,
            offline: self.offline,
            identity: Some(identity),
            endpoint: if self.offline {
                None
            } else {
                self.endpoint.endpoint(settings)?
            },
            server_ca: self.endpoint.server_ca(settings),
            timeout,
        })
    }
}

fn replay(machine: &Machine, path: &std::path::Path) -> Result<Facts, Failure> {
    let path = if path.as_os_str() == "-" {
        std::path::Path::new("/dev/stdin")
    } else {
        path
    };
    let text = machine.files.read(path, MAX_FACTS_BYTES)?;
    let wrong = |why: String| {
        let message = format!(
            "`{}` does not hold the facts of a preflight",
            path.display()
        );
        Failure::new(Kind::Input, "preflight.facts", message)
            .because(why)
            .hint("keep them on the device with `nameplate preflight --format json`")
    };
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let (Saved::Report { facts } | Saved::Bare(facts)) = saved;
    if facts.facts_version == Facts::VERSION {
        return Ok(facts);
    }
    Err(wrong(format!(
        "facts version {} is not known",
        facts.facts_version
    )))
}

impl Report for Preflight {
    fn exit_code(&self) -> u8 {
        match self.verdict.answer {
            Answer::Ready => 0,
            Answer::NotReady => 1,
            Answer::CannotTell => 4,
        }
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let answer = match verdict.answer {
            Answer::Ready => "READY",
            Answer::NotReady => "NOT READY",
            Answer::CannotTell => "CANNOT TELL",
        };
        writeln!(f, "{answer}: {}", verdict.summary)?;
        for check in &verdict.checks {
            write_check(f, check)?;
        }
        f.write_str(&picture::draw(verdict))
    }
}

fn write_check(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let word = match check.status {
        Status::Pass => "ok",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
        Status::Skip => "skip",
    };
    writeln!(f, "{word:<5}{:<20} {}", check.id, check.fact)?;
    match &check.remedy {
        Some(remedy) => writeln!(f, "     {:<20} -> {remedy}", ""),
        None => Ok(()),
    }
}
