//! The wall clock and the passing of time.

use std::time::Duration;

use crate::core::time::UtcTime;

/// Tells the time and lets time pass. The wall clock may be wrong; `monotonic` only runs forward.
pub trait Clock {
    /// The system's wall clock, cut to whole seconds UTC.
    fn now(&self) -> UtcTime;
    /// The system's wall clock in nanoseconds since 1970-01-01T00:00:00Z; negative before it.
    fn now_nanos(&self) -> i128;
    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
    /// Blocks for this long.
    fn sleep(&self, duration: Duration);
}
