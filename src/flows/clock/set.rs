//! Sets the clock: evidence, plan, step.

use std::path::Path;

use super::gather::{ClockGather, ClockRequest};
use super::memory::{Keep, Kept};
use crate::core::clock::step::{Limits, Step, StepError, plan, plan_at};
use crate::core::clock::{ClockFacts, Judged, Trust, judge, last_seen};
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};
use crate::ports::{FileError, SetClock, SetError};

/// The powers needed.
#[derive(Clone, Copy)]
pub struct Set<'a> {
    /// Evidence.
    pub gather: ClockGather<'a>,
    /// What is kept.
    pub keep: Keep<'a>,
    /// The clocks.
    pub setter: &'a dyn SetClock,
}

/// From where the time comes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Time servers.
    Servers,
    /// The user.
    At(UtcTime),
}

/// What to do.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, and they do not depend on one another"
)]
pub struct SetRequest {
    /// Whom to ask.
    pub clock: ClockRequest,
    /// From where the time comes.
    pub target: Target,
    /// What bounds the step.
    pub limits: Limits,
    /// The battery-backed clock too.
    pub rtc: bool,
    /// Say what would be done.
    pub dry_run: bool,
    /// Though a daemon keeps the clock right.
    pub despite_daemon: bool,
    /// What was kept as the last sure time is wrong.
    pub forget_last_seen: bool,
    /// Where things are kept.
    pub kept: Kept,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct SetDone {
    /// The step that was planned.
    pub step: Step,
    /// The clock before.
    pub from: UtcTime,
    /// The clock afterwards.
    pub to: UtcTime,
    /// Whether the system clock was stepped.
    pub stepped: bool,
    /// Whether the battery-backed clock was set.
    pub rtc_set: bool,
    /// The facts.
    pub facts: ClockFacts,
    /// What they come to.
    pub judged: Judged,
    /// What could not be kept.
    pub warnings: Vec<String>,
}

impl Set<'_> {
    /// Gathers, plans, steps; then the battery-backed clock; then what is kept.
    ///
    /// # Errors
    /// `clock.*`. Nothing was changed, unless the battery-backed clock was what failed.
    pub fn run(&self, request: &SetRequest) -> Result<SetDone, SetFailure> {
        let mut memory = self.keep.servers(&request.kept);
        let mut facts = self.gather.run(&request.clock, &mut memory);
        let mut warnings = Vec::new();
        warnings.extend(self.keep.keep_servers(&request.kept, &memory));
        if request.forget_last_seen {
            facts.last_seen = None;
        }
        let judged = judge(&facts);
        let step = match request.target {
            Target::Servers => plan(&facts, &judged, request.limits)?,
            Target::At(at) => plan_at(&facts, at, request.limits)?,
        };
        if let Some(daemon) = steered(&facts).filter(|_| !request.despite_daemon && !step.needless)
        {
            return Err(SetFailure::Daemon(daemon));
        }
        let mut done = SetDone {
            step,
            from: facts.wall(),
            to: self.target(request.target, step),
            stepped: false,
            rtc_set: false,
            facts,
            judged,
            warnings,
        };
        if request.dry_run {
            return Ok(done);
        }
        if !step.needless {
            self.setter
                .set_wall(self.target_nanos(request.target, step))?;
            done.stepped = true;
        }
        if request.rtc {
            let rtc = self.setter.set_rtc(self.target(request.target, step));
            rtc.map_err(|source| SetFailure::Rtc {
                stepped: done.stepped,
                source,
            })?;
            done.rtc_set = true;
        }
        self.remember(request, &mut done);
        Ok(done)
    }

    /// A time that the user names is that time whenever it is set; an offset goes along with the
    /// clock.
    fn target_nanos(&self, target: Target, step: Step) -> i128 {
        match target {
            Target::At(at) => i128::from(at.unix()) * 1_000_000_000,
            Target::Servers => self.gather.clock.now_nanos() + i128::from(step.offset_nanos),
        }
    }

    fn target(&self, target: Target, step: Step) -> UtcTime {
        let seconds = self.target_nanos(target, step).div_euclid(1_000_000_000);
        UtcTime::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn remember(&self, request: &SetRequest, done: &mut SetDone) {
        let kept = match (&request.kept.last_seen, request.forget_last_seen) {
            (Some(path), true) if done.judged.trust >= Some(Trust::Majority) => {
                let written = self.keep.write_time(path, done.judged.interval.earliest);
                written.map_err(|error| error.to_string())
            }
            (Some(path), true) => self
                .forget(path, request.clock.floor)
                .map_err(|error| error.to_string()),
            _ => self
                .keep
                .keep_time(&request.kept, &done.facts, &done.judged)
                .map(drop),
        };
        done.warnings.extend(kept.err());
    }

    /// Back to the build's date; a file that says nothing would do as well, but looks broken.
    fn forget(&self, path: &Path, floor: UtcTime) -> Result<(), FileError> {
        let held = self.keep.files.read(path, last_seen::MAX_BYTES);
        match held {
            Err(FileError::Missing(_)) => Ok(()),
            _ => self.keep.write_time(path, floor),
        }
    }
}

/// Who keeps the clock right already.
fn steered(facts: &ClockFacts) -> Option<String> {
    let says = facts
        .daemons
        .iter()
        .filter(|daemon| daemon.says.is_some_and(|says| says.synchronised));
    let mut names = says.map(|daemon| daemon.daemon.to_string());
    let kernel = facts.kernel.filter(|kernel| kernel.synchronised);
    names
        .next()
        .or_else(|| kernel.map(|_| "a time daemon".to_owned()))
}

/// Why the clock was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetFailure {
    /// Two would pull at one clock.
    #[error("{0} keeps this clock already, and would pull it back")]
    Daemon(String),
    /// By its limits.
    #[error(transparent)]
    Plan(#[from] StepError),
    /// By the system.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The second clock.
    #[error("the system clock was {}, the battery-backed clock was not", if *.stepped { "set" } else { "right" })]
    Rtc {
        /// Whether the system clock was stepped.
        stepped: bool,
        /// Why.
        #[source]
        source: SetError,
    },
}

impl Explain for SetFailure {
    fn kind(&self) -> Kind {
        match self {
            Self::Daemon(_) => Kind::Refused,
            Self::Plan(error) => error.kind(),
            Self::Set(source) | Self::Rtc { source, .. } => source.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Daemon(_) => "clock.daemon-runs",
            Self::Plan(error) => error.code(),
            Self::Set(source) | Self::Rtc { source, .. } => source.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Daemon(_) => Some(
                "let it step (`chronyc makestep`), stop it, or insist with --despite-daemon".into(),
            ),
            Self::Plan(error) => error.hint(),
            Self::Set(source) | Self::Rtc { source, .. } => source.hint(),
        }
    }
}
