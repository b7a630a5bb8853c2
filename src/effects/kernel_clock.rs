//! The kernel's opinion of its clock, by adjtimex(2): read only, needs no privilege.
//!
//! The one reviewed file with `unsafe`: no safe crate wraps adjtimex.

#![expect(
    unsafe_code,
    reason = "adjtimex(2) exists only in libc; it is called read-only on a local struct"
)]

use crate::core::preflight::KernelState;
use crate::ports::KernelClock;

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl KernelClock for Kernel {
    #[allow(
        clippy::useless_conversion,
        reason = "these fields are 32 bits wide on 32-bit machines"
    )]
    fn state(&self) -> Option<KernelState> {
        // SAFETY: `timex` is plain old data, for which all-zero bytes are a valid value; and with
        // modes = 0 the call only reads.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        timex.modes = 0;
        // SAFETY: the pointer is to a live, exclusively borrowed `timex` of the size that this
        // libc expects, and the call keeps no copy of it.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        if state < 0 {
            return None;
        }
        Some(KernelState {
            synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            max_error_us: timex.maxerror.into(),
            estimated_error_us: timex.esterror.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_without_privilege() {
        let state = Kernel.state().unwrap();
        assert!(state.max_error_us >= 0);
    }
}
