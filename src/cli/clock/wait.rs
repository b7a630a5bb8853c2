//! `clock wait`

use std::fmt;

use super::WindowArgs;
use super::check::tls;
use super::view::View;
use crate::cli::args_time::{TimeArgs, TrustArg, span};
use crate::cli::identity::{EndpointArgs, duration, positive};
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::clock::wait::{Decision, Need};
use crate::explain::Failure;
use crate::flows::clock::{WaitRequest, Waited};

/// Wait until the clock can be trusted for a certificate's windows
///
/// Exit code 0: it can. 1: a certificate is not valid at the true time, and waiting does not help. 4:
/// not in this time.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten)]
    time: TimeArgs,
    /// The most that waiting may take; `0s` looks once
    #[arg(long, value_name = "SPAN", default_value = "5m")]
    timeout: String,
    /// How far evidence must be believed
    #[arg(long, value_enum, value_name = "TRUST", default_value = "daemon")]
    require: TrustArg,
    /// How far off the time may be, either way
    #[arg(long, value_name = "SPAN", default_value = "1m")]
    within: String,
    /// As a last resort, take bounds for the time from the endpoint's own certificates; needs
    /// --require hint and a --within as long as those are valid
    #[arg(long)]
    tls: bool,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// The most that each exchange with a server may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    server_timeout: String,
    /// Use no network at all: wait for this machine's time daemon
    #[arg(long, conflicts_with = "tls")]
    offline: bool,
}

#[derive(serde::Serialize)]
pub(in crate::cli) struct WaitReport {
    answer: &'static str,
    summary: String,
    waited_seconds: f64,
    rounds: u32,
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    facts: crate::core::clock::ClockFacts,
    #[serde(skip)]
    code: u8,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<WaitReport, Failure> {
        let machine = Machine::default();
        let each = positive("--server-timeout", &self.server_timeout)?;
        let mut clock = self
            .time
            .request(settings, &machine, (self.offline, each))?;
        clock.tls = tls(self.tls, &self.endpoint, (settings, &machine))?;
        let request = WaitRequest {
            clock,
            need: Need {
                windows: self.windows.windows(settings, &machine)?,
                require: self.require.into(),
                within: Some(span("--within", &self.within)?),
            },
            timeout: duration("--timeout", &self.timeout)?,
            kept: self.time.kept(&machine),
        };
        Ok(report(machine.wait().run(&request)))
    }
}

fn report(waited: Waited) -> WaitReport {
    let view = View::new(&waited.facts, &waited.judged);
    let (answer, summary, code) = match waited.decision {
        Decision::Ready => {
            let interval = waited.judged.interval;
            let (from, to) = (interval.earliest, interval.latest);
            let fact = format!("the clock can be trusted: it is {from} to {to}");
            ("trusted", fact, 0)
        }
        Decision::Over(why) | Decision::Begins(_, why) => ("never", why, 1),
        Decision::NotYet(why) => ("not-yet", why, 4),
    };
    WaitReport {
        answer,
        summary,
        waited_seconds: waited.waited.as_secs_f64(),
        rounds: waited.rounds,
        view,
        warnings: waited.warnings,
        facts: waited.facts,
        code,
    }
}

impl Report for WaitReport {
    fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for WaitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = match self.code {
            0 => "TRUSTED",
            1 => "NEVER",
            _ => "NOT YET",
        };
        let seconds = self.waited_seconds;
        writeln!(f, "{answer} after {seconds:.1} s: {}", self.summary)?;
        self.view.fmt(f)?;
        for warning in &self.warnings {
            writeln!(f, "warn {warning}")?;
        }
        Ok(())
    }
}
