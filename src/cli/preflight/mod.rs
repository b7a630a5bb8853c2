//! `preflight`

mod picture;

use std::fmt;
use std::path::PathBuf;

use super::args_time::{TimeArgs, span};
use super::identity::{EndpointArgs, IdentityArgs, positive};
use super::report::Report;
use super::settings::Settings;
use super::wire_device::Machine;
use super::wire_token::TokenArgs;
#[cfg(feature = "sandbox")]
use crate::cli::replay;
use crate::core::bundle;
use crate::core::endpoint::Endpoint;
use crate::core::preflight::{Answer, Check, Facts, ShelfFacts, Status, Verdict, judge};
use crate::core::time::Span;
use crate::explain::Failure;
use crate::flows::preflight::{Fixed, Request};
use crate::ports::Files;

/// The most of a file with a key's URI that is read.
const MAX_URI_BYTES: u64 = 4096;

/// Check clock, identity, chain and server before the first connect
///
/// Exit code 0: ready. 1: something must be mended. 4: it cannot be told, because the clock is not
/// right or the network was in the way.
#[derive(clap::Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
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
    /// Foretell whether a device that lies without power for this long can still judge its
    /// certificate when it starts
    #[arg(long, value_name = "SPAN")]
    shelf: Option<String>,
    /// How far its real-time clock may drift meanwhile, in millionths (50 is 4.3 s a day)
    #[arg(long, value_name = "PPM", requires = "shelf", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    drift_ppm: u32,
    /// The thing name that the certificate's common name must be
    #[arg(long, value_name = "NAME", env = "NAMEPLATE_THING")]
    thing: Option<String>,
    /// Only warn of keys and signatures that AWS IoT refuses, for another server
    #[arg(long)]
    allow_unsupported: bool,
    /// Connect to the endpoint by MQTT too: this is then the first connect
    #[arg(long, conflicts_with = "offline")]
    connect: bool,
    /// The MQTT client id that the policy allows [default: the certificate's common name]
    #[arg(long, value_name = "ID", requires = "connect")]
    client_id: Option<String>,
    /// Take away what others may do with key, folder and certificates, where that is certainly right
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    token: TokenArgs,
    /// Judge the facts of a `preflight --format json` kept earlier; `-` is stdin
    #[cfg(feature = "sandbox")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["identity", "cert", "chain", "key", "ca", "fix", "connect"])]
    facts: Option<PathBuf>,
    /// The most that each exchange with a server may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    timeout: String,
}

/// The facts and what they come to.
#[derive(serde::Serialize)]
pub(super) struct Preflight {
    verdict: Verdict,
    /// What `--fix` did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixed: Vec<Fixed>,
    facts: Facts,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Preflight, Failure> {
        let endpoints = if self.offline {
            Vec::new()
        } else {
            self.endpoint.all(settings)?
        };
        let machine = Machine::through(self.endpoint.proxy(&endpoints)?);
        #[cfg(feature = "sandbox")]
        if let Some(path) = &self.facts {
            let facts = self.asked_again(replay::preflight(&machine, path)?)?;
            return Ok(Preflight {
                verdict: judge(&facts),
                fixed: Vec::new(),
                facts,
            });
        }
        let request = self.request(settings, &machine, endpoints)?;
        let tokens = self.token.tokens(settings);
        let gather = machine.gather(&tokens);
        let fixed = if self.fix {
            gather.fix(&request)
        } else {
            Vec::new()
        };
        let facts = gather.run(&request);
        Ok(Preflight {
            verdict: judge(&facts),
            fixed,
            facts,
        })
    }

    /// Kept facts, and what is asked of them now.
    #[cfg(feature = "sandbox")]
    fn asked_again(&self, kept: Facts) -> Result<Facts, Failure> {
        Ok(Facts {
            facts_version: Facts::VERSION,
            margin_s: self.margin()?.map_or(kept.margin_s, Span::as_seconds),
            shelf: self.shelf()?.or(kept.shelf),
            thing: self.thing.clone().or_else(|| kept.thing.clone()),
            allow_unsupported: self.allow_unsupported || kept.allow_unsupported,
            ..kept
        })
    }

    fn margin(&self) -> Result<Option<Span>, Failure> {
        let margin = self.margin.as_deref();
        margin.map(|text| span("--margin", text)).transpose()
    }

    fn shelf(&self) -> Result<Option<ShelfFacts>, Failure> {
        let Some(text) = &self.shelf else {
            return Ok(None);
        };
        let storage = positive("--shelf", text)?;
        Ok(Some(ShelfFacts {
            storage_s: i64::try_from(storage.as_secs()).unwrap_or(i64::MAX),
            drift_ppm: self.drift_ppm,
        }))
    }

    fn request(
        &self,
        settings: &Settings,
        machine: &Machine,
        endpoints: Vec<Endpoint>,
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
        identity.key = key_in_token(&machine.files, identity.key)?;
        let timeout = positive("--timeout", &self.timeout)?;
        Ok(Request {
            margin: self.margin()?.unwrap_or(Span::days(1)),
            clock: self
                .time
                .request(settings, machine, (self.offline, timeout))?,
            offline: self.offline,
            allow_unsupported: self.allow_unsupported,
            thing: self.thing.clone(),
            shelf: self.shelf()?,
            identity: Some(identity),
            endpoints,
            connect: self.connect.then(|| self.client_id.clone()),
            server_ca: self.endpoint.server_ca(settings),
            timeout,
        })
    }
}

/// An identity folder holds a key, or the URI of one in a token.
fn key_in_token(files: &dyn Files, key: PathBuf) -> Result<PathBuf, Failure> {
    let uri = key.with_file_name(bundle::KEY_URI);
    let named = key.file_name().is_some_and(|name| name == bundle::KEY);
    if !named || files.exists(&key) || !files.exists(&uri) {
        return Ok(key);
    }
    let text = files.read(&uri, MAX_URI_BYTES)?;
    Ok(PathBuf::from(String::from_utf8_lossy(&text).trim()))
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
        let answer = word(verdict.answer);
        writeln!(f, "{answer}: {}", verdict.summary)?;
        if let Some(remedy) = &verdict.remedy {
            writeln!(f, "  -> {remedy}")?;
        }
        for fixed in &self.fixed {
            write_fixed(f, fixed)?;
        }
        let mut about = None;
        for check in &verdict.checks {
            if about != check.endpoint.as_ref() && verdict.endpoints.len() > 1 {
                about = check.endpoint.as_ref();
                write_endpoint(f, verdict, about)?;
            }
            write_check(f, check)?;
        }
        f.write_str(&picture::draw(verdict))
    }
}

fn write_fixed(f: &mut fmt::Formatter<'_>, fixed: &Fixed) -> fmt::Result {
    let Fixed { path, from, to, .. } = fixed;
    match &fixed.error {
        None => writeln!(f, "fixed {path}: mode {from} is {to} now"),
        Some(error) => writeln!(f, "NOT fixed {path}: mode is still {from}: {error}"),
    }
}

fn write_endpoint(
    f: &mut fmt::Formatter<'_>,
    verdict: &Verdict,
    endpoint: Option<&String>,
) -> fmt::Result {
    let found = verdict
        .endpoints
        .iter()
        .find(|one| Some(&one.endpoint) == endpoint);
    let Some(one) = found else {
        return Ok(());
    };
    let answer = word(one.answer);
    writeln!(f, "\n{}: {answer}: {}", one.endpoint, one.summary)
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Ready => "READY",
        Answer::NotReady => "NOT READY",
        Answer::CannotTell => "CANNOT TELL",
    }
}

fn write_check(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let word = match check.status {
        Status::Pass => "ok",
        Status::Warn => "warn",
        Status::Fail => "FAIL",
        Status::Skip => "skip",
    };
    let because = check
        .because
        .map_or_else(String::new, |id| format!(" (because of {id})"));
    writeln!(f, "{word:<5}{:<20} {}{because}", check.id, check.fact)?;
    match &check.remedy {
        Some(remedy) => writeln!(f, "     {:<20} -> {remedy}", ""),
        None => Ok(()),
    }
}
