//! How many bytes a second a connection says and hears, where AWS IoT's quota is enforced ("Throughput
//! per second per connection"): what is over it comes later.

use std::time::Duration;

/// 512 KiB.
const BYTES: f64 = 512.0 * 1024.0;

/// What is left of a second.
#[derive(Debug)]
pub(super) struct Pace {
    left: f64,
    at: Duration,
}

impl Pace {
    /// A whole second, from now on.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            left: BYTES,
            at: now,
        }
    }

    /// So many bytes have passed; how long to wait before more may. `now` only runs forward.
    pub(super) fn spend(&mut self, bytes: usize, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.left = (self.left + passed * BYTES).min(BYTES) - f64::from(bytes);
        self.at = now;
        Duration::from_secs_f64((-self.left).max(0.0) / BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_a_second_waits() {
        let at = Duration::from_millis;
        let mut pace = Pace::new(at(1000));
        assert_eq!(pace.spend(512 * 1024, at(1000)), at(0));
        assert_eq!(pace.spend(256 * 1024, at(1000)), at(500));
        assert_eq!(pace.spend(0, at(1500)), at(0));
        assert_eq!(pace.spend(512 * 1024, at(9000)), at(0));
        assert_eq!(pace.spend(512 * 1024, at(9500)), at(500));
    }
}
