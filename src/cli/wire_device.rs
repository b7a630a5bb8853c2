//! The device's adapters: the machine's own clock, files, randomness, keys and network.

use crate::core::time::UtcTime;
use crate::effects::clock::SystemClock;
use crate::effects::dial::Network;
use crate::effects::entropy::OsEntropy;
use crate::effects::files::Disk;
use crate::effects::kernel_clock::Kernel;
use crate::effects::keys::RingKeys;
use crate::effects::release::build_floor;
use crate::effects::sntp::Udp;
use crate::flows::preflight::Gather;

/// What the device's commands act through.
pub(super) struct Machine {
    pub(super) clock: SystemClock,
    pub(super) dial: Network,
    pub(super) entropy: OsEntropy,
    pub(super) files: Disk,
    /// The true time is not before this.
    pub(super) floor: UtcTime,
    pub(super) kernel: Kernel,
    pub(super) keygen: RingKeys,
    pub(super) time_source: Udp,
}

impl Machine {
    /// The powers of `preflight`.
    pub(super) fn gather(&self) -> Gather<'_> {
        Gather {
            clock: &self.clock,
            kernel: &self.kernel,
            time_source: &self.time_source,
            entropy: &self.entropy,
            files: &self.files,
            keygen: &self.keygen,
            dial: &self.dial,
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            clock: SystemClock,
            dial: Network,
            entropy: OsEntropy::default(),
            files: Disk,
            floor: build_floor(),
            kernel: Kernel,
            keygen: RingKeys::default(),
            time_source: Udp,
        }
    }
}
