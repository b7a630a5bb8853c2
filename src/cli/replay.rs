//! Facts that a device kept, read on a desk. The device image judges only its own, and saves the code
//! that reads them.

use std::path::Path;

use super::wire_device::Machine;
use crate::core::clock::ClockFacts;
use crate::core::preflight::Facts;
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// The most of a facts file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// A saved report holds the facts under this key; a bare facts object is taken too.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OfPreflight {
    Report { facts: Facts },
    Bare(Facts),
}

/// The same of a clock; a preflight's facts hold one.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OfClock {
    Preflight { facts: Holder },
    Report { facts: ClockFacts },
    Bare(ClockFacts),
}

#[derive(serde::Deserialize)]
struct Holder {
    clock: ClockFacts,
}

/// The facts that `preflight --format json` wrote.
pub(super) fn preflight(machine: &Machine, path: &Path) -> Result<Facts, Failure> {
    let wrong = |why: String| {
        let message = format!(
            "`{}` does not hold the facts of a preflight",
            path.display()
        );
        Failure::new(Kind::Input, "preflight.facts", message)
            .because(why)
            .hint("keep them on the device with `nameplate preflight --format json`")
    };
    let text = read(machine, path)?;
    let saved: OfPreflight =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let (OfPreflight::Report { facts } | OfPreflight::Bare(facts)) = saved;
    if (1..=Facts::VERSION).contains(&facts.facts_version) {
        return Ok(facts);
    }
    Err(wrong(format!(
        "facts version {} is not known",
        facts.facts_version
    )))
}

/// The clock's facts that `clock check --format json` or `preflight --format json` wrote.
pub(super) fn clock(machine: &Machine, path: &Path) -> Result<ClockFacts, Failure> {
    let text = read(machine, path)?;
    let saved: OfClock = serde_json::from_slice(&text).map_err(|error| {
        let message = format!("`{}` does not hold the facts of a clock", path.display());
        Failure::new(Kind::Input, "clock.facts", message)
            .because(error.to_string())
            .hint("keep them on the device with `nameplate clock check --format json`")
    })?;
    Ok(match saved {
        OfClock::Preflight { facts } => facts.clock,
        OfClock::Report { facts } | OfClock::Bare(facts) => facts,
    })
}

fn read(machine: &Machine, path: &Path) -> Result<Vec<u8>, Failure> {
    let path = if path.as_os_str() == "-" {
        Path::new("/dev/stdin")
    } else {
        path
    };
    Ok(machine.files.read(path, MAX_BYTES)?.to_vec())
}
