//! What is kept between runs: the last time that was sure, and what time servers said of being asked.

use std::path::{Path, PathBuf};

use crate::core::bundle::Secrecy;
use crate::core::clock::kiss::{self, Memory};
use crate::core::clock::{ClockFacts, Judged, last_seen};
use crate::core::time::UtcTime;
use crate::explain::Failure;
use crate::ports::{FileError, Files, KernelClock};

/// Where things are kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The last time that was sure; survives power loss. `None`: not written.
    pub last_seen: Option<PathBuf>,
    /// What time servers said; of use until the machine starts again. `None`: not kept.
    pub servers: Option<PathBuf>,
}

/// Reads and writes it.
#[derive(Clone, Copy)]
pub struct Keep<'a> {
    /// The disk.
    pub files: &'a dyn Files,
    /// The time since the start.
    pub kernel: &'a dyn KernelClock,
}

impl Keep<'_> {
    /// What is remembered of time servers; nothing if there is no such file, or no use in it.
    pub fn servers(&self, kept: &Kept) -> Memory {
        let now = self.kernel.uptime_s().unwrap_or(0);
        let read = kept
            .servers
            .as_ref()
            .and_then(|path| self.files.read(path, kiss::MAX_BYTES).ok());
        read.map(|bytes| Memory::read(&bytes, now))
            .unwrap_or_default()
    }

    /// Keeps it. A failure costs no more than a question too early, and is told as a warning.
    pub fn keep_servers(&self, kept: &Kept, memory: &Memory) -> Option<String> {
        let path = kept.servers.as_ref()?;
        if *memory == Memory::default() {
            return None;
        }
        let bytes = serde_json::to_vec(memory).ok()?;
        self.replace(path, &bytes)
            .err()
            .map(|error| said(path, error))
    }

    /// Moves the last time that was sure forward, if the facts allow it.
    pub fn keep_time(
        &self,
        kept: &Kept,
        clock: &ClockFacts,
        judged: &Judged,
    ) -> Result<Option<UtcTime>, String> {
        let Some(path) = &kept.last_seen else {
            return Ok(None);
        };
        let before = clock.last_seen.as_ref().and_then(|seen| seen.at);
        let Some(next) = last_seen::next(before, judged) else {
            return Ok(None);
        };
        self.write_time(path, next)
            .map(|()| Some(next))
            .map_err(|error| said(path, error))
    }

    /// Writes the last time that was sure, whatever was there.
    pub(super) fn write_time(&self, path: &Path, at: UtcTime) -> Result<(), FileError> {
        self.replace(path, last_seen::write(at).as_bytes())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        if let Some(folder) = path.parent().filter(|folder| !self.files.exists(folder)) {
            self.files.create_dir(folder)?;
        }
        self.files.replace(path, bytes, Secrecy::Public)
    }
}

fn said(path: &Path, error: FileError) -> String {
    let failure = Failure::from(error);
    let mut line = format!("`{}` is not kept: {}", path.display(), failure.message);
    for cause in &failure.causes {
        line.push_str(": ");
        line.push_str(cause);
    }
    line
}
