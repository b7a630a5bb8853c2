//! The system's clocks: the one place that asks what time it is.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::UtcTime;
use crate::ports::Clock;

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

static START: OnceLock<Instant> = OnceLock::new();

impl Clock for SystemClock {
    fn now(&self) -> UtcTime {
        let nanos = self.now_nanos().div_euclid(1_000_000_000);
        UtcTime::from_unix(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn now_nanos(&self) -> i128 {
        let signed = |d: Duration| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => signed(after),
            Err(before) => -signed(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        START.get_or_init(Instant::now).elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The machine's clock, moved: it shows another time, and runs on from there.
#[derive(Clone, Copy, Debug)]
pub struct ShiftedClock {
    nanos: i128,
}

impl ShiftedClock {
    /// A clock that shows `at` now.
    pub fn starting_at(at: UtcTime) -> Self {
        Self {
            nanos: i128::from(at.unix()) * 1_000_000_000 - SystemClock.now_nanos(),
        }
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> UtcTime {
        let seconds = self.now_nanos().div_euclid(1_000_000_000);
        UtcTime::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    fn now_nanos(&self) -> i128 {
        SystemClock.now_nanos() + self.nanos
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration);
    }
}
