//! What tells us the time from outside: time servers, and the kernel's own opinion of its clock.

use std::time::Duration;

use super::Clock;
use crate::core::endpoint::Endpoint;
use crate::core::preflight::KernelState;

/// Asks time servers over UDP.
pub trait TimeSource {
    /// Sends each packet to its server, all at once, and waits for every answer at most `timeout`.
    /// The answers come in the order asked.
    fn ask(
        &self,
        questions: &[Question],
        timeout: Duration,
        clock: &(dyn Clock + Sync),
    ) -> Vec<Result<Answered, Unanswered>>;
}

/// One packet for one server.
#[derive(Clone, Debug)]
pub struct Question {
    /// The server.
    pub server: Endpoint,
    /// The packet.
    pub packet: [u8; 48],
}

/// A datagram that came back.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Who answered.
    pub address: String,
    /// Our wall clock when the packet left, in nanoseconds since 1970.
    pub sent_nanos: i128,
    /// The same clock when the answer came: `sent_nanos` plus monotonic time, so that a step of
    /// the wall clock in between does no harm.
    pub received_nanos: i128,
    /// What came, cut at 1 KiB.
    pub bytes: Vec<u8>,
}

/// Why nothing came back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// Its name has no address.
    #[error("its name cannot be looked up: {0}")]
    Dns(String),
    /// The packet could not be sent, or was turned back.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Silence.
    #[error("it did not answer in time")]
    Timeout,
}

/// The kernel's opinion of its own clock.
pub trait KernelClock {
    /// `None` where the kernel does not say.
    fn state(&self) -> Option<KernelState>;
}
