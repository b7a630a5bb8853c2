//! What time it is: an interval that evidence only narrows.

use super::facts::{ClockFacts, KernelState, TimeServerFacts};
use super::{Check, Status, Weight};
use crate::core::sntp::{self, Answer, Consensus, Sent, SntpError};
use crate::core::time::{Span, TimeBounds, UtcTime};

/// A clock this near to the time servers is right.
const GOOD_NANOS: i64 = 10_000_000_000;
/// A clock further off than this is wrong: AWS takes signed requests within five minutes (IAM
/// user guide, "Signature Version 4"), and certificates have no such grace.
const WRONG_NANOS: i64 = 300_000_000_000;
const NANOS: i64 = 1_000_000_000;
const SET_IT: &str = "set the clock: start chronyd or systemd-timesyncd, or `date -u -s`";

pub(super) fn judge(clock: &ClockFacts) -> (Vec<Check>, TimeBounds) {
    let floor = TimeBounds {
        earliest: clock.floor,
        latest: UtcTime::NO_EXPIRY,
    };
    let mut checks = vec![check_floor(clock)];
    let possible = checks[0].status == Status::Pass;
    let mut evidence = Vec::new();
    let asked = ask_servers(clock, &mut checks);
    if let Some(consensus) = &asked {
        evidence.push(around(clock, consensus.low_nanos, consensus.high_nanos));
    }
    check_kernel(clock.kernel, asked.is_some(), &mut checks);
    if possible {
        evidence.extend(local_evidence(clock, &mut checks));
    }
    // In order of trust: a piece that contradicts a better one is left out.
    let mut known = false;
    let bounds = evidence.into_iter().fold(floor, |bounds, piece| {
        bounds.narrow(piece).map_or(bounds, |narrower| {
            known = true;
            narrower
        })
    });
    let refuted = checks
        .iter()
        .any(|check| check.weight == Weight::ClockUnknown);
    checks.push(interval(bounds, known && !refuted));
    (checks, if known && !refuted { bounds } else { floor })
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

fn interval(bounds: TimeBounds, known: bool) -> Check {
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

/// The wall clock moved by an interval of nanoseconds, in whole seconds, outwards.
fn around(clock: &ClockFacts, low_nanos: i64, high_nanos: i64) -> TimeBounds {
    let seconds = |nanos: i64| nanos.div_euclid(NANOS);
    let latest = seconds(clock.wall_nanos.saturating_add(high_nanos));
    TimeBounds {
        earliest: UtcTime::from_unix(seconds(clock.wall_nanos.saturating_add(low_nanos))),
        latest: UtcTime::from_unix(latest.saturating_add(1)),
    }
}

/// What the machine itself says, best first: the kernel, then the user's word.
fn local_evidence(clock: &ClockFacts, checks: &mut Vec<Check>) -> Vec<TimeBounds> {
    let mut evidence = Vec::new();
    if let Some(kernel) = clock.kernel.filter(|kernel| kernel.synchronised) {
        let error = kernel.max_error_us.saturating_mul(1000);
        evidence.push(around(clock, -error, error));
    }
    if let Some(within) = clock.trusted_within_s {
        let error = within.saturating_mul(NANOS);
        evidence.push(around(clock, -error, error));
        let fact = format!("taken on your word to within {}", Span::seconds(within));
        checks.push(Check::warn("clock.trusted", fact));
    }
    evidence
}

fn check_kernel(kernel: Option<KernelState>, have_servers: bool, checks: &mut Vec<Check>) {
    const ID: &str = "clock.kernel";
    checks.push(match kernel {
        Some(kernel) if kernel.synchronised => {
            let ms = kernel.max_error_us / 1000;
            Check::pass(
                ID,
                format!("the kernel's clock is kept right, to within {ms} ms"),
            )
        }
        Some(_) => {
            Check::warn(ID, "no daemon keeps the kernel's clock right").remedy(if have_servers {
                "start chronyd or systemd-timesyncd, or this clock will drift"
            } else {
                "start chronyd or systemd-timesyncd"
            })
        }
        None => Check::skip(ID, "the kernel does not say how good its clock is"),
    });
}

/// Reads every answer, combines them, and says how far off the clock is.
fn ask_servers(clock: &ClockFacts, checks: &mut Vec<Check>) -> Option<Consensus> {
    const ID: &str = "clock.ntp";
    if clock.time_servers.is_empty() {
        checks.push(Check::skip(ID, "no time server was asked"));
        return None;
    }
    let mut answers: Vec<(&TimeServerFacts, Answer)> = Vec::new();
    for server in &clock.time_servers {
        match read(server, clock.floor) {
            Ok(answer) => answers.push((server, answer)),
            Err(why) => {
                let fact = format!("`{}`: {why}", server.server);
                checks.push(Check::warn("clock.ntp-server", fact));
            }
        }
    }
    let only: Vec<Answer> = answers.iter().map(|(_, answer)| answer.clone()).collect();
    match sntp::combine(&only) {
        Ok(consensus) => {
            checks.push(say_offset(&consensus, only.len()));
            checks.extend(name_liars(&consensus, &answers));
            Some(consensus)
        }
        Err(SntpError::NoMajority(0)) => {
            checks.push(
                Check::warn(ID, "no time server gave an answer to believe")
                    .remedy("check the server's name, and that UDP port 123 is open"),
            );
            None
        }
        Err(_) => {
            checks.push(disagreement(&answers));
            None
        }
    }
}

/// Those that the majority proves wrong.
fn name_liars<'a>(
    consensus: &'a Consensus,
    answers: &'a [(&TimeServerFacts, Answer)],
) -> impl Iterator<Item = Check> + 'a {
    let outvoted = answers
        .iter()
        .enumerate()
        .filter(|(n, _)| !consensus.agreeing.contains(n));
    outvoted.map(|(_, (server, answer))| {
        let said = offset(answer.offset_nanos);
        let fact = format!(
            "`{}` disagrees with the majority: it says {said}",
            server.server
        );
        Check::warn("clock.ntp-server", fact)
    })
}

fn disagreement(answers: &[(&TimeServerFacts, Answer)]) -> Check {
    let said = answers
        .iter()
        .map(|(server, answer)| format!("`{}` says {}", server.server, offset(answer.offset_nanos)))
        .collect::<Vec<_>>()
        .join(", ");
    Check::fail("clock.ntp", format!("time servers disagree: {said}"))
        .weigh(Weight::ClockUnknown)
        .remedy("ask at least three servers, so that a majority can be found")
}

fn read(server: &TimeServerFacts, floor: UtcTime) -> Result<Answer, String> {
    if let Some(error) = &server.error {
        return Err(error.clone());
    }
    let sent = Sent {
        nonce: server.nonce,
        sent_nanos: server.sent_nanos.into(),
        received_nanos: server.received_nanos.into(),
        floor_nanos: i128::from(floor.unix()) * i128::from(NANOS),
    };
    sntp::read(&server.reply, &sent).map_err(|error| error.to_string())
}

fn say_offset(consensus: &Consensus, answers: usize) -> Check {
    const ID: &str = "clock.ntp";
    let middle = i64::midpoint(consensus.low_nanos, consensus.high_nanos);
    let fact = format!(
        "{} of {answers} time server{} agree: {}",
        consensus.agreeing.len(),
        if answers == 1 { "" } else { "s" },
        offset(middle)
    );
    match middle.saturating_abs() {
        ..=GOOD_NANOS => Check::pass(ID, fact),
        off if off <= WRONG_NANOS => Check::warn(ID, fact).remedy(SET_IT),
        _ => Check::fail(ID, fact)
            .weigh(Weight::ClockWrong)
            .remedy(SET_IT),
    }
}

/// `the clock is 3h behind`; under a minute in seconds with milliseconds.
fn offset(nanos: i64) -> String {
    let side = if nanos >= 0 { "behind" } else { "ahead" };
    let error = nanos.saturating_abs();
    if error < 60 * NANOS {
        let ms = error / 1_000_000;
        return format!("the clock is {}.{:03} s {side}", ms / 1000, ms % 1000);
    }
    format!("the clock is {} {side}", Span::seconds(error / NANOS))
}
