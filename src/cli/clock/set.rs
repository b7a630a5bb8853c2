//! `clock set`

use std::fmt;

use super::view::View;
use crate::cli::args_time::{TimeArgs, TrustArg, span};
use crate::cli::identity::positive;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::clock::step::Limits;
use crate::core::clock::{Trust, offset_in_words};
use crate::core::time::UtcTime;
use crate::explain::Failure;
use crate::flows::clock::{SetDone, SetRequest, Target};
use crate::ports::Clock;

/// Step the system clock to what time servers say, or to a time that you name
///
/// Needs the capability CAP_SYS_TIME. Exit code 0: the clock is right now. 4: no time server says what
/// time it is. 5: refused, by a limit, for want of the capability, or because a daemon keeps the clock.
#[derive(clap::Args, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own, and they do not depend on one another"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    time: TimeArgs,
    /// Set it to this time, and ask no server
    #[arg(long, value_name = "TIME", conflicts_with_all = ["ntp", "nts_server", "require"])]
    at: Option<String>,
    /// The longest step [default: 1d, unless a majority of three servers or NTS says so, or the clock is
    /// before the build's date]
    #[arg(long, value_name = "SPAN")]
    max_step: Option<String>,
    /// How far evidence must be believed
    #[arg(long, value_enum, value_name = "TRUST", default_value = "network")]
    require: TrustArg,
    /// Set the battery-backed clock too
    #[arg(long)]
    rtc: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Set the clock though a time daemon keeps it
    #[arg(long)]
    despite_daemon: bool,
    /// What was kept as the last sure time is wrong: replace it
    #[arg(long)]
    forget_last_seen: bool,
    /// The most that each exchange with a server may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    timeout: String,
}

/// What was done.
#[derive(serde::Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own to a script"
)]
pub(in crate::cli) struct SetReport {
    stepped: bool,
    rtc_set: bool,
    dry_run: bool,
    needless: bool,
    from: UtcTime,
    to: UtcTime,
    step_seconds: f64,
    step_uncertainty_seconds: f64,
    step_trust: Trust,
    #[serde(skip)]
    words: String,
    #[serde(flatten)]
    view: View,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<SetReport, Failure> {
        let machine = Machine::default();
        let timeout = positive("--timeout", &self.timeout)?;
        let now = machine.clock.now();
        let target = match &self.at {
            Some(text) => Target::At(UtcTime::parse_relative(text, now)?),
            None => Target::Servers,
        };
        let offline = self.at.is_some();
        let max_step = self.max_step.as_deref();
        let request = SetRequest {
            clock: self.time.request(settings, &machine, (offline, timeout))?,
            target,
            limits: Limits {
                max_step: max_step.map(|text| span("--max-step", text)).transpose()?,
                require: self.require.into(),
            },
            rtc: self.rtc,
            dry_run: self.dry_run,
            despite_daemon: self.despite_daemon,
            forget_last_seen: self.forget_last_seen,
            kept: self.time.kept(&machine),
        };
        let done = machine.set().run(&request)?;
        Ok(report(done, self.dry_run))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds for people and scripts, exact to a microsecond over a century"
)]
fn report(done: SetDone, dry_run: bool) -> SetReport {
    let step = done.step;
    SetReport {
        stepped: done.stepped,
        rtc_set: done.rtc_set,
        dry_run,
        needless: step.needless,
        from: done.from,
        to: done.to,
        step_seconds: step.offset_nanos as f64 / 1e9,
        step_uncertainty_seconds: step.uncertainty_nanos as f64 / 1e9,
        step_trust: step.trust,
        words: offset_in_words(step.offset_nanos),
        view: View::new(&done.facts, &done.judged),
        warnings: done.warnings,
    }
}

impl Report for SetReport {}

impl fmt::Display for SetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to, words) = (self.from, self.to, &self.words);
        match (self.stepped, self.needless) {
            (true, _) => writeln!(f, "SET from {from} to {to}: {words} before")?,
            (_, true) => writeln!(f, "RIGHT already: {words}, less than what is known of it")?,
            _ => writeln!(f, "WOULD SET from {from} to {to}: {words}")?,
        }
        if self.rtc_set {
            writeln!(f, "SET the battery-backed clock to {to}")?;
        }
        self.view.fmt(f)?;
        for warning in &self.warnings {
            writeln!(f, "warn {warning}")?;
        }
        Ok(())
    }
}
