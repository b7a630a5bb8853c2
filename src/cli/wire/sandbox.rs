//! The sandbox's adapters: the machine's clock (or one set to another time), its randomness.

use std::sync::Arc;

use crate::core::ids::Place;
use crate::core::time::UtcTime;
use crate::effects::clock::{ShiftedClock, SystemClock};
use crate::effects::entropy::OsEntropy;
use crate::ports::{Clock, Entropy};
use crate::sandbox::server::{ServerConfig, StatePlace};

/// A sandbox's configuration on this machine. With `at`, its clock starts at that time.
pub(in crate::cli) fn config(state: StatePlace, place: Place, at: Option<UtcTime>) -> ServerConfig {
    let clock: Arc<dyn Clock + Send + Sync> = match at {
        Some(at) => Arc::new(ShiftedClock::starting_at(at)),
        None => Arc::new(SystemClock),
    };
    let mut config = ServerConfig::new(state, place, clock, Arc::new(OsEntropy::default()));
    config.machine = Arc::new(SystemClock);
    config
}

/// A name that nobody can guess: 8 random bytes in hexadecimal.
pub(in crate::cli) fn random_name() -> String {
    let mut bytes = [0; 8];
    OsEntropy::default().fill(&mut bytes);
    crate::core::ids::hex(&bytes)
}

/// Waits.
pub(in crate::cli) fn sleep(span: std::time::Duration) {
    SystemClock.sleep(span);
}

/// The machine's time now.
pub(in crate::cli) fn now() -> UtcTime {
    SystemClock.now()
}
