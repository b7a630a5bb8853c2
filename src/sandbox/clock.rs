//! The sandbox's clock: the machine's, moved, stopped or hurried. Certificates are judged by it and
//! records are stamped with it; waiting takes real time.

use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::core::time::{Span, UtcTime};
use crate::ports::Clock;

/// The fastest rate: a day in under a second.
const MOST_RATE: u32 = 100_000;

/// A change of the clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClockChange {
    /// Shows the machine's time again.
    Real,
    /// Shows the machine's time and this much more (or less), from there at the present rate.
    Offset(Span),
    /// Stands still at this time.
    Fixed(UtcTime),
    /// Runs this many times as fast, from what it shows now.
    Rate(u32),
}

impl FromStr for ClockChange {
    type Err = String;

    /// `real`, `offset=+3h`, `fixed=2030-01-01T00:00:00Z`, `rate=60`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |error: String| format!("`{text}`: {error}");
        match text.split_once('=') {
            None if text == "real" => Ok(Self::Real),
            Some(("offset", span)) => {
                let (sign, bare) = match span.strip_prefix('-') {
                    Some(bare) => (-1, bare),
                    None => (1, span.strip_prefix('+').unwrap_or(span)),
                };
                let span: Span = bare.parse().map_err(|error| wrong(format!("{error}")))?;
                Ok(Self::Offset(Span::seconds(sign * span.as_seconds())))
            }
            Some(("fixed", at)) => {
                let at = at.parse().map_err(|error| wrong(format!("{error}")))?;
                Ok(Self::Fixed(at))
            }
            Some(("rate", rate)) => match rate.parse() {
                Ok(rate) if rate <= MOST_RATE => Ok(Self::Rate(rate)),
                _ => Err(wrong(format!("a rate is a number from 0 to {MOST_RATE}"))),
            },
            _ => Err(wrong(
                "say `offset=+3h`, `fixed=2030-01-01T00:00:00Z`, `rate=60` or `real`".into(),
            )),
        }
    }
}

/// What the clock showed at one moment of the machine's, and how fast it runs since; nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Setting {
    shown: i128,
    since: i128,
    rate: u32,
}

impl Setting {
    fn at(self, machine: i128) -> i128 {
        self.shown + (machine - self.since) * i128::from(self.rate)
    }

    fn changed(self, machine: i128, change: ClockChange) -> Self {
        let (shown, rate) = match change {
            ClockChange::Real => (machine, 1),
            ClockChange::Offset(span) => {
                let offset = i128::from(span.as_seconds()) * 1_000_000_000;
                (machine + offset, self.rate.max(1))
            }
            ClockChange::Fixed(at) => (i128::from(at.unix()) * 1_000_000_000, 0),
            ClockChange::Rate(rate) => (self.at(machine), rate),
        };
        Self {
            shown,
            since: machine,
            rate,
        }
    }
}

/// The clock of one sandbox.
pub struct SandboxClock {
    machine: Arc<dyn Clock + Send + Sync>,
    setting: RwLock<Setting>,
}

impl SandboxClock {
    /// Shows the machine's time until it is changed.
    pub fn new(machine: Arc<dyn Clock + Send + Sync>) -> Self {
        let now = machine.now_nanos();
        Self {
            machine,
            setting: RwLock::new(Setting {
                shown: now,
                since: now,
                rate: 1,
            }),
        }
    }

    /// Changes it.
    pub fn change(&self, change: ClockChange) {
        let machine = self.machine.now_nanos();
        let mut setting = self.setting.write().unwrap_or_else(PoisonError::into_inner);
        *setting = setting.changed(machine, change);
    }

    /// How fast it runs; 0 stands still.
    pub fn rate(&self) -> u32 {
        self.setting
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .rate
    }
}

impl Clock for SandboxClock {
    fn now(&self) -> UtcTime {
        let seconds = self.now_nanos().div_euclid(1_000_000_000);
        UtcTime::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn now_nanos(&self) -> i128 {
        let setting = *self.setting.read().unwrap_or_else(PoisonError::into_inner);
        setting.at(self.machine.now_nanos())
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        self.machine.sleep(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_moved_stopped_and_hurried() {
        const S: i128 = 1_000_000_000;
        let real = Setting {
            shown: 0,
            since: 0,
            rate: 1,
        };
        let parse = |text: &str| text.parse::<ClockChange>().unwrap();
        assert_eq!(real.at(5 * S), 5 * S);
        let moved = real.changed(10 * S, parse("offset=-3h"));
        assert_eq!(moved.at(11 * S), (11 - 10_800) * S);
        let hurried = moved.changed(11 * S, parse("rate=60"));
        assert_eq!(hurried.at(12 * S), (11 - 10_800 + 60) * S);
        let fixed = hurried.changed(20 * S, parse("fixed=1970-01-01T01:00:00Z"));
        assert_eq!((fixed.at(20 * S), fixed.at(99 * S)), (3600 * S, 3600 * S));
        // An offset sets a clock that stands still going again.
        assert_eq!(
            fixed.changed(30 * S, parse("offset=+1s")).at(31 * S),
            32 * S
        );
        assert_eq!(fixed.changed(30 * S, parse("real")).at(31 * S), 31 * S);
    }

    #[test]
    fn what_is_no_change_is_refused_with_the_forms_there_are() {
        for bad in [
            "",
            "offset",
            "offset=x",
            "fixed=tomorrow",
            "rate=-1",
            "rate=100001",
            "x=1",
        ] {
            let error = bad.parse::<ClockChange>().unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }
}
