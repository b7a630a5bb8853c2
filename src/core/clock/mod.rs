//! What time it is: an interval that evidence only narrows.
//!
//! Evidence is taken in order of trust; what contradicts better evidence is left out and named.

/// What time daemons say, read from their own protocols.
pub mod daemon;
mod facts;
/// How often a server may be asked.
pub mod kiss;
/// The latest time a device was sure of, kept in a file.
pub mod last_seen;
mod local;
mod reading;
/// Truechimers and falsetickers.
pub mod select;
mod servers;
/// Whether and how far to step the clock.
pub mod step;
/// Whether the time suffices for certain windows.
pub mod wait;

pub use facts::{
    ClockFacts, Daemon, DaemonFacts, DaemonSays, KernelState, LastSeenFacts, NtsProof, RtcFacts,
    TimeServerFacts, TlsFacts,
};
pub use reading::{Bounds, Part, Reading, Source, Trust};

use crate::core::check::{Check, Weight};
use crate::core::time::{Span, TimeBounds, UtcTime};

const NANOS: i64 = 1_000_000_000;
const SET_IT: &str = "set the clock: start chronyd or systemd-timesyncd, or `nameplate clock set`";

/// What the facts come to.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Every check, in order.
    pub checks: Vec<Check>,
    /// Every piece of evidence, in order.
    pub evidence: Vec<Reading>,
    /// Where the true time lies, in whole seconds outwards; from the floor on without end when
    /// nothing is known.
    pub interval: TimeBounds,
    /// The same in nanoseconds, if anything is known.
    pub bounds: Option<Bounds>,
    /// How far the best piece that bounds it from both sides is believed; `None` when nothing is
    /// known.
    pub trust: Option<Trust>,
}

impl Judged {
    /// The gravest thing that is wrong with the clock, if any.
    pub fn fault(&self) -> Option<&Check> {
        [Weight::ClockWrong, Weight::ClockUnknown]
            .iter()
            .find_map(|weight| self.checks.iter().find(|check| check.weight == *weight))
    }
}

/// A piece of evidence that can narrow the interval.
struct Piece {
    trust: Trust,
    source: Source,
    bounds: Bounds,
    /// Whether it bounds the time from both sides.
    two_sided: bool,
}

impl Piece {
    /// Servers and daemons first, then what this device wrote down itself, then the rest; a majority
    /// and NTS may overrule what was written down.
    fn rank(&self) -> u8 {
        match (self.source, self.trust) {
            (_, Trust::Certain) => 0,
            (_, Trust::Authenticated) => 1,
            (_, Trust::Majority) => 2,
            (Source::LastSeen, _) => 3,
            (_, Trust::Network) => 4,
            (_, Trust::Daemon) => 5,
            (_, Trust::Word) => 6,
            (_, Trust::Hint | Trust::None) => 7,
        }
    }
}

/// Judges; the same facts give the same answer on any machine at any time.
pub fn judge(clock: &ClockFacts) -> Judged {
    let servers = servers::judge(clock);
    let mut found = Found {
        checks: vec![check_floor(clock)],
        readings: vec![
            Reading::new(Source::Build, "build or --time-floor", Trust::Certain)
                .from(clock.floor)
                .note("the time is not before it"),
        ],
        pieces: servers.pieces,
    };
    found.checks.extend(servers.checks);
    found.readings.extend(servers.readings);
    local::judge(clock, &mut found);
    let (bounds, trust) = found.fold(clock);
    check_ceiling(clock, bounds, trust, &mut found.checks);
    let refuted = found
        .checks
        .iter()
        .any(|check| check.weight == Weight::ClockUnknown);
    let known = trust.is_some() && !refuted;
    let open = Bounds::from(clock.floor).whole_seconds();
    let interval = if known { bounds.whole_seconds() } else { open };
    found.checks.push(interval_check(interval, known));
    Judged {
        checks: found.checks,
        evidence: found.readings,
        interval,
        bounds: known.then_some(bounds),
        trust: trust.filter(|_| known),
    }
}

/// What has been found so far.
struct Found {
    checks: Vec<Check>,
    readings: Vec<Reading>,
    pieces: Vec<Piece>,
}

impl Found {
    /// Narrows, best evidence first. What contradicts what is known by then is left out; and so is
    /// a single source that says a time too far after the build.
    fn fold(&mut self, clock: &ClockFacts) -> (Bounds, Option<Trust>) {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.sort_by_key(Piece::rank);
        let mut bounds = Bounds::from(clock.floor);
        let mut trust = None;
        for piece in pieces {
            let beyond = piece.trust < Trust::Majority
                && piece.bounds.whole_seconds().earliest > clock.ceiling();
            match bounds.narrow(piece.bounds) {
                Some(narrower) if !beyond => {
                    bounds = narrower;
                    if piece.two_sided {
                        trust = trust.max(Some(piece.trust));
                    }
                }
                _ => self.refute(piece.source, piece.trust, beyond),
            }
        }
        (bounds, trust)
    }

    fn refute(&mut self, source: Source, trust: Trust, beyond: bool) {
        let why = if beyond {
            "too long after the build to believe it"
        } else {
            "better evidence contradicts it"
        };
        let of_it = |reading: &&mut Reading| reading.source == source && reading.trust == trust;
        for reading in self.readings.iter_mut().filter(of_it) {
            if reading.part == Part::Counts {
                reading.part = Part::Refuted;
                let and = if reading.note.is_empty() { "" } else { "; " };
                reading.note = format!("{}{and}{why}", reading.note);
            }
        }
        if source == Source::LastSeen {
            let fact = "the time this device was sure of before is contradicted by better evidence";
            let remedy = "if the time servers are right, remove the file, or run `nameplate clock \
                          set --forget-last-seen`";
            self.checks.retain(|check| check.id != "clock.last-seen");
            let check = Check::warn("clock.last-seen", fact).remedy(remedy);
            self.checks.push(check);
        }
    }
}

fn check_floor(clock: &ClockFacts) -> Check {
    let (wall, floor) = (clock.wall(), clock.floor);
    if wall >= floor {
        return Check::pass("clock.floor", format!("the clock says {wall}"));
    }
    let fact = format!("the clock says {wall}, but it cannot be before {floor}");
    Check::fail("clock.floor", fact)
        .weigh(Weight::ClockWrong)
        .remedy(SET_IT)
}

/// A clock far in the future is believed only if servers prove it.
fn check_ceiling(
    clock: &ClockFacts,
    bounds: Bounds,
    trust: Option<Trust>,
    checks: &mut Vec<Check>,
) {
    let wall = clock.wall();
    let proven = trust.is_some() && bounds.whole_seconds().earliest > clock.ceiling();
    if wall <= clock.ceiling() || proven {
        return;
    }
    let fact = format!(
        "the clock says {wall}, more than {} after this program was built",
        clock.ceiling().since(clock.floor)
    );
    checks.push(
        Check::fail("clock.ceiling", fact)
            .weigh(if trust.is_some() {
                Weight::ClockWrong
            } else {
                Weight::ClockUnknown
            })
            .remedy("ask three time servers or one with NTS; or raise --time-ceiling"),
    );
}

fn interval_check(bounds: TimeBounds, known: bool) -> Check {
    const ID: &str = "clock.interval";
    if !known {
        let fact = format!(
            "nothing confirms the clock: the time may be anything after {}",
            bounds.earliest
        );
        return Check::fail(ID, fact).weigh(Weight::ClockUnknown).remedy(
            "keep the clock right with chronyd; or name a time server with --ntp, NAMEPLATE_NTP or \
             `ntp` under [device]; or vouch for the clock with --trust-clock 1m",
        );
    }
    let width = bounds.latest.since(bounds.earliest);
    let fact = format!(
        "the time is {} to {} ({width})",
        bounds.earliest, bounds.latest
    );
    Check::pass(ID, fact)
}

/// `the clock is 3h behind`; under a minute in seconds with milliseconds.
pub fn offset_in_words(nanos: i64) -> String {
    let side = if nanos >= 0 { "behind" } else { "ahead" };
    let error = nanos.saturating_abs();
    if error < 60 * NANOS {
        let ms = error / 1_000_000;
        return format!("the clock is {}.{:03} s {side}", ms / 1000, ms % 1000);
    }
    format!("the clock is {} {side}", Span::seconds(error / NANOS))
}

/// The system clock as a bound of its own: used where a decision is about the clock, not the time.
pub fn wall_lies_within(clock: &ClockFacts, interval: TimeBounds, slack: Span) -> bool {
    let wall: UtcTime = clock.wall();
    interval.earliest.minus(slack) <= wall && wall <= interval.latest.plus(slack)
}

#[cfg(test)]
mod tests;
