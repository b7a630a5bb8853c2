//! What time it is: gathers evidence, waits for it, and sets the clock by it.

mod ask;
mod gather;
mod memory;
mod set;
mod wait;

pub use gather::{ClockGather, ClockRequest, TlsAsk};
pub use memory::{Keep, Kept};
pub use set::{Set, SetDone, SetFailure, SetRequest, Target};
pub use wait::{Wait, WaitRequest, Waited};

#[cfg(test)]
mod tests;
