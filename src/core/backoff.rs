//! How long to wait before trying again.

use std::time::Duration;

/// Exponential back-off with full jitter and a ceiling: each wait is uniform between nothing and
/// `base · 2ⁿ`, so that a fleet that lost its server together does not come back together (AWS
/// Architecture Blog, "Exponential Backoff And Jitter").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The most that the first wait may be.
    pub base: Duration,
    /// The most that any wait may be.
    pub ceiling: Duration,
}

impl Default for Backoff {
    /// 1 s, for AWS IoT takes one CONNECT a second for each client id; at most 30 s.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            ceiling: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The wait after failure number `failures` (from 1), with `random` uniform over all of `u64`.
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let most = self.base.saturating_mul(1 << doublings).min(self.ceiling);
        let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let share = u128::from(most_us) * u128::from(random) / u128::from(u64::MAX);
        Duration::from_micros(u64::try_from(share).unwrap_or(most_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_are_spread_from_nothing() {
        let backoff = Backoff::default();
        for (failures, most_s) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1_000, 30)] {
            assert_eq!(
                backoff.wait(failures, u64::MAX),
                Duration::from_secs(most_s)
            );
            assert_eq!(backoff.wait(failures, 0), Duration::ZERO);
        }
        assert_eq!(backoff.wait(1, u64::MAX / 2).as_millis(), 499);
    }
}
