//! The device's adapters: the machine's own clock, files, randomness, keys and network.

use crate::effects::clock::SystemClock;
use crate::effects::dial::Network;
use crate::effects::entropy::OsEntropy;
use crate::effects::files::Disk;

/// What the device's commands act through.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) clock: SystemClock,
    pub(super) dial: Network,
    pub(super) entropy: OsEntropy,
    pub(super) files: Disk,
}
