//! The device's adapters: the machine's own clock, files, randomness, keys and network.

use crate::core::proxy::Proxy;
use crate::core::time::UtcTime;
use crate::effects::clock::SystemClock;
use crate::effects::daemons::LocalDaemons;
use crate::effects::dial::Network;
use crate::effects::entropy::OsEntropy;
use crate::effects::files::Disk;
use crate::effects::hook::Processes;
use crate::effects::kernel_clock::Kernel;
use crate::effects::keys::RingKeys;
use crate::effects::nts::NtsNetwork;
use crate::effects::release::build_floor;
use crate::effects::sntp::Udp;
use crate::effects::swap::FolderSwap;
use crate::flows::clock::{ClockGather, Keep, Set, Wait};
use crate::flows::preflight::Gather;
use crate::ports::Tokens;

/// What the device's commands act through.
pub(super) struct Machine {
    pub(super) clock: SystemClock,
    pub(super) daemons: LocalDaemons,
    pub(super) dial: Network,
    pub(super) entropy: OsEntropy,
    pub(super) files: Disk,
    /// The true time is not before this.
    pub(super) floor: UtcTime,
    pub(super) kernel: Kernel,
    pub(super) keygen: RingKeys,
    pub(super) nts: NtsNetwork,
    pub(super) processes: Processes,
    pub(super) swap: FolderSwap,
    pub(super) time_source: Udp,
}

impl Machine {
    /// The powers of `preflight`.
    pub(super) fn gather<'a>(&'a self, tokens: &'a dyn Tokens) -> Gather<'a> {
        Gather {
            clock: self.clock_gather(),
            files: &self.files,
            access: &self.files,
            keygen: &self.keygen,
            tokens,
            probe: &self.dial,
            dial: &self.dial,
        }
    }

    /// Evidence of the time.
    pub(super) fn clock_gather(&self) -> ClockGather<'_> {
        ClockGather {
            clock: &self.clock,
            kernel: &self.kernel,
            time_source: &self.time_source,
            nts: &self.nts,
            daemons: &self.daemons,
            entropy: &self.entropy,
            files: &self.files,
            probe: &self.dial,
        }
    }

    /// What is kept of the time between runs.
    pub(super) fn keep(&self) -> Keep<'_> {
        Keep {
            files: &self.files,
            kernel: &self.kernel,
        }
    }

    /// The powers of `clock wait`.
    pub(super) fn wait(&self) -> Wait<'_> {
        Wait {
            gather: self.clock_gather(),
            keep: self.keep(),
        }
    }

    /// The powers of `clock set`.
    pub(super) fn set(&self) -> Set<'_> {
        Set {
            gather: self.clock_gather(),
            keep: self.keep(),
            setter: &self.kernel,
        }
    }
}

impl Machine {
    /// With every connection through this proxy.
    pub(super) fn through(proxy: Option<Proxy>) -> Self {
        Self {
            dial: Network { proxy },
            ..Self::default()
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            clock: SystemClock,
            daemons: LocalDaemons,
            dial: Network::default(),
            entropy: OsEntropy::default(),
            files: Disk,
            floor: build_floor(),
            kernel: Kernel,
            keygen: RingKeys::default(),
            nts: NtsNetwork,
            processes: Processes,
            swap: FolderSwap,
            time_source: Udp,
        }
    }
}
