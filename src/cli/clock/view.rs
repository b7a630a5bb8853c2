//! How evidence is shown: one table for people, one object for programs.

use std::fmt;

use crate::core::check::{Check, Status};
use crate::core::clock::{Bounds, ClockFacts, Judged, Part, Reading, Trust};
use crate::core::time::{TimeBounds, UtcTime};

/// What is known of the clock.
#[derive(serde::Serialize)]
pub(super) struct View {
    clock: UtcTime,
    interval: TimeBounds,
    trust: Option<Trust>,
    offset_seconds: Option<f64>,
    uncertainty_seconds: Option<f64>,
    evidence: Vec<Reading>,
    checks: Vec<Check>,
}

impl View {
    pub(super) fn new(facts: &ClockFacts, judged: &Judged) -> Self {
        let known = judged.bounds.map(|bounds| measured(facts, bounds));
        Self {
            clock: facts.wall(),
            interval: judged.interval,
            trust: judged.trust,
            offset_seconds: known.map(|(offset, _)| offset),
            uncertainty_seconds: known.map(|(_, uncertainty)| uncertainty),
            evidence: judged.evidence.clone(),
            checks: judged.checks.clone(),
        }
    }
}

/// Offset and uncertainty of the interval, in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "seconds for people and scripts, exact to a microsecond over a century"
)]
fn measured(facts: &ClockFacts, bounds: Bounds) -> (f64, f64) {
    let middle = i128::midpoint(bounds.earliest, bounds.latest);
    let offset = middle - i128::from(facts.wall_nanos);
    let half = (bounds.latest - bounds.earliest) / 2;
    (offset as f64 / 1e9, half as f64 / 1e9)
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reading in &self.evidence {
            write_reading(f, reading)?;
        }
        let told = self.checks.iter();
        for check in told.filter(|check| !matches!(check.status, Status::Pass | Status::Skip)) {
            let word = if check.status == Status::Fail {
                "FAIL"
            } else {
                "warn"
            };
            writeln!(f, "{word:<5}{:<17} {}", check.id, check.fact)?;
            if let Some(remedy) = &check.remedy {
                writeln!(f, "     {:<17} -> {remedy}", "")?;
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "six digits after the point are shown"
)]
fn write_reading(f: &mut fmt::Formatter<'_>, reading: &Reading) -> fmt::Result {
    let part = match reading.part {
        Part::Counts => "ok",
        Part::Refuted => "NO",
        Part::Shown => "-",
        Part::Silent => "none",
    };
    let source = reading.source.to_string();
    let trust = reading.trust.to_string();
    write!(f, "{part:<5}{source:<10}{trust:<14}")?;
    match (reading.offset_nanos, reading.uncertainty_nanos) {
        (Some(offset), Some(uncertainty)) => {
            let (offset, uncertainty) = (offset as f64 / 1e9, uncertainty as f64 / 1e9);
            write!(f, "{offset:+.6} s +- {uncertainty:.6}  ")?;
        }
        _ => match (reading.earliest, reading.latest) {
            (Some(from), Some(to)) => write!(f, "{from} to {to}  ")?,
            (Some(from), None) => write!(f, "from {from}  ")?,
            _ => {}
        },
    }
    writeln!(f, "{}: {}", reading.name, reading.note)
}
