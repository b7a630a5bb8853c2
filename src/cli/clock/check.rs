//! `clock check`

use std::fmt;
#[cfg(feature = "sandbox")]
use std::path::PathBuf;

use super::WindowArgs;
use super::view::View;
use crate::cli::args_time::{TimeArgs, TrustArg};
use crate::cli::identity::{EndpointArgs, positive};
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::check::Weight;
use crate::core::clock::wait::{Decision, Need, decide};
use crate::core::clock::{ClockFacts, Judged, judge};
use crate::core::time::Validity;
use crate::explain::Failure;
use crate::flows::clock::TlsAsk;

/// Say what time it is, how sure that is, and by whom
///
/// Exit code 0: the clock is right, and every window named holds. 1: the clock is wrong, or a
/// certificate is not valid now. 4: it cannot be told.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    time: TimeArgs,
    /// As a last resort, take bounds for the time from the endpoint's own certificates
    #[arg(long)]
    tls: bool,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// How far evidence must be believed
    #[arg(long, value_enum, value_name = "TRUST", default_value = "word")]
    require: TrustArg,
    /// Use no network at all
    #[arg(long, conflicts_with = "tls")]
    offline: bool,
    /// Judge the facts of a `clock check --format json` or `preflight --format json` kept earlier; `-`
    /// is stdin
    #[cfg(feature = "sandbox")]
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// The most that each exchange with a server may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    timeout: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Right,
    Wrong,
    CannotTell,
}

/// The facts and what they come to.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Checked {
    answer: Answer,
    summary: String,
    windows: Vec<WindowView>,
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    facts: ClockFacts,
}

#[derive(serde::Serialize)]
struct WindowView {
    what: String,
    #[serde(flatten)]
    validity: Validity,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Checked, Failure> {
        let machine = Machine::default();
        let need = Need {
            windows: self.windows.windows(settings, &machine)?,
            require: self.require.into(),
            within: None,
        };
        let (facts, warnings) = self.facts(settings, &machine)?;
        let judged = judge(&facts);
        let decision = decide(&facts, &judged, &need);
        let answer = answer(&judged, &decision);
        Ok(Checked {
            answer,
            summary: summary(&judged, &decision),
            view: View::new(&facts, &judged),
            windows: need
                .windows
                .into_iter()
                .map(|(what, validity)| WindowView { what, validity })
                .collect(),
            warnings,
            facts,
        })
    }

    #[cfg(not(feature = "sandbox"))]
    fn facts(
        &self,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<(ClockFacts, Vec<String>), Failure> {
        self.look(settings, machine)
    }

    #[cfg(feature = "sandbox")]
    fn facts(
        &self,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<(ClockFacts, Vec<String>), Failure> {
        match &self.facts {
            Some(path) => Ok((crate::cli::replay::clock(machine, path)?, Vec::new())),
            None => self.look(settings, machine),
        }
    }

    fn look(
        &self,
        settings: &Settings,
        machine: &Machine,
    ) -> Result<(ClockFacts, Vec<String>), Failure> {
        let timeout = positive("--timeout", &self.timeout)?;
        let mut request = self
            .time
            .request(settings, machine, (self.offline, timeout))?;
        request.tls = tls(self.tls, &self.endpoint, (settings, machine))?;
        let kept = self.time.kept(machine);
        let keep = machine.keep();
        let mut memory = keep.servers(&kept);
        let facts = machine.clock_gather().run(&request, &mut memory);
        let mut warnings = Vec::new();
        warnings.extend(keep.keep_servers(&kept, &memory));
        let time = keep.keep_time(&kept, &facts, &judge(&facts));
        warnings.extend(time.err());
        Ok((facts, warnings))
    }
}

/// The endpoint as a source of time, if it is wanted as one.
pub(super) fn tls(
    wanted: bool,
    endpoint: &EndpointArgs,
    (settings, machine): (&Settings, &Machine),
) -> Result<Option<TlsAsk>, Failure> {
    if !wanted {
        return Ok(None);
    }
    let first = endpoint.required(settings)?.into_iter().next();
    let roots = endpoint.roots(settings, &machine.files)?;
    Ok(first.map(|endpoint| TlsAsk { endpoint, roots }))
}

fn answer(judged: &Judged, decision: &Decision) -> Answer {
    let wrong = judged
        .fault()
        .is_some_and(|check| check.weight == Weight::ClockWrong);
    match decision {
        Decision::Ready => Answer::Right,
        Decision::Begins(..) | Decision::Over(_) => Answer::Wrong,
        Decision::NotYet(_) if wrong => Answer::Wrong,
        Decision::NotYet(_) => Answer::CannotTell,
    }
}

fn summary(judged: &Judged, decision: &Decision) -> String {
    match decision {
        Decision::Ready => {
            let (from, to) = (judged.interval.earliest, judged.interval.latest);
            let trust = judged
                .trust
                .map_or_else(String::new, |trust| format!(" ({trust})"));
            format!("the clock is right: it is {from} to {to}{trust}")
        }
        Decision::Begins(_, why) | Decision::Over(why) | Decision::NotYet(why) => why.clone(),
    }
}

impl Report for Checked {
    fn exit_code(&self) -> u8 {
        match self.answer {
            Answer::Right => 0,
            Answer::Wrong => 1,
            Answer::CannotTell => 4,
        }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = match self.answer {
            Answer::Right => "RIGHT",
            Answer::Wrong => "WRONG",
            Answer::CannotTell => "CANNOT TELL",
        };
        writeln!(f, "{answer}: {}", self.summary)?;
        self.view.fmt(f)?;
        for warning in &self.warnings {
            writeln!(f, "warn {warning}")?;
        }
        Ok(())
    }
}
