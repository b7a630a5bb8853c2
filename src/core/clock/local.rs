//! What this machine itself says: kernel, daemons, the user's word, its own memory, the
//! battery-backed clock; and, last, a TLS server's certificates.

use super::facts::{ClockFacts, Daemon, DaemonFacts, KernelState};
use super::reading::{Bounds, Part, Reading, Source, Trust};
use super::{Found, NANOS, Piece, SET_IT, offset_in_words};
use crate::core::check::{Check, Weight};
use crate::core::time::Span;

/// A kernel whose clock differs from ours by more than this speaks of another clock.
const SAME_CLOCK_NANOS: i64 = 500_000_000;
/// systemd-timesyncd tells the kernel that there is no error, while it still slews up to 0.4 s.
const KERNEL_ERROR_NANOS: i64 = 500_000_000;
/// A battery-backed clock this far from the system clock is worth a word.
const RTC_NEAR: Span = Span::seconds(120);

pub(super) fn judge(clock: &ClockFacts, found: &mut Found) {
    kernel(clock, found);
    for daemon in &clock.daemons {
        judge_daemon(clock, daemon, found);
    }
    word(clock, found);
    last_seen(clock, found);
    rtc(clock, found);
    tls(clock, found);
}

fn kernel(clock: &ClockFacts, found: &mut Found) {
    const ID: &str = "clock.kernel";
    let reading = Reading::new(Source::Kernel, "adjtimex", Trust::Daemon);
    let have_servers = found.pieces.iter().any(|piece| piece.two_sided);
    let (check, reading) = match clock.kernel {
        Some(kernel) if kernel.synchronised && speaks_of_another(kernel) => {
            let fact = "the kernel's clock is not the one this program is shown";
            let check = Check::warn(ID, fact)
                .remedy("run without libfaketime, or whatever moves the clock");
            (check, reading.part(Part::Refuted).note(fact))
        }
        Some(kernel) if kernel.synchronised => {
            let error = kernel.max_error_us.saturating_mul(1000);
            let error = error.max(KERNEL_ERROR_NANOS);
            found.add(
                Trust::Daemon,
                Source::Kernel,
                Bounds::around(clock.wall_nanos, 0, error),
            );
            let ms = error / 1_000_000;
            let fact = format!("the kernel's clock is kept right, to within {ms} ms");
            let estimate = format!("estimated error {} us", kernel.estimated_error_us);
            let reading = reading.measured(clock.wall_nanos, 0, error).note(estimate);
            (Check::pass(ID, fact), reading)
        }
        Some(_) => {
            let fact = "no daemon keeps the kernel's clock right";
            let check = Check::warn(ID, fact).remedy(if have_servers {
                "start chronyd or systemd-timesyncd, or this clock will drift"
            } else {
                "start chronyd or systemd-timesyncd"
            });
            (check, reading.note(fact))
        }
        None => {
            let fact = "the kernel does not say how good its clock is";
            (Check::skip(ID, fact), reading.note(fact))
        }
    };
    found.checks.push(check);
    found.readings.push(reading);
}

fn speaks_of_another(kernel: KernelState) -> bool {
    kernel.differs_nanos.saturating_abs() > SAME_CLOCK_NANOS
}

fn judge_daemon(clock: &ClockFacts, facts: &DaemonFacts, found: &mut Found) {
    const ID: &str = "clock.daemon";
    let source = match facts.daemon {
        Daemon::Chrony => Source::Chrony,
        Daemon::Ntpd => Source::Ntpd,
        Daemon::NtpdRs => Source::NtpdRs,
        Daemon::Timesyncd => Source::Timesyncd,
    };
    let name = facts.daemon;
    let reading = Reading::new(source, facts.place.clone(), Trust::Daemon);
    let Some(says) = facts.says.filter(|says| says.synchronised) else {
        return not_following(facts, reading, found);
    };
    if let Some(floor) = says.floor {
        found.add_floor(Trust::Daemon, source, Bounds::from(floor));
    }
    let Some(error) = says.error_nanos else {
        let fact = format!("{name} has set the clock since the start");
        found.checks.push(Check::pass(ID, fact.clone()));
        found.readings.push(reading.part(Part::Shown).note(fact));
        return;
    };
    let bounds = Bounds::around(clock.wall_nanos, says.correction_nanos, error);
    found.add(Trust::Daemon, source, bounds);
    let fact = format!(
        "{name} follows a source of time: {}, to within {} ms",
        offset_in_words(says.correction_nanos),
        error / 1_000_000
    );
    found.checks.push(Check::pass(ID, fact));
    let stratum = says
        .stratum
        .map_or_else(String::new, |n| format!("stratum {n}"));
    let reading = reading.measured(clock.wall_nanos, says.correction_nanos, error);
    found.readings.push(reading.note(stratum));
}

/// A daemon that says nothing, or knows nothing yet; what it wrote down before still is a floor.
fn not_following(facts: &DaemonFacts, reading: Reading, found: &mut Found) {
    let unsaid = facts.error.as_deref().unwrap_or("it said nothing");
    let why = facts
        .says
        .map_or(unsaid, |_| "it follows no source of time");
    let fact = format!("{} at `{}`: {why}", facts.daemon, facts.place);
    let mut check = Check::warn("clock.daemon", fact);
    if facts.says.is_some() {
        check = check.remedy("give it a source that answers");
    }
    found.checks.push(check);
    let source = reading.source;
    let reading = match facts.says.and_then(|says| says.floor) {
        Some(floor) => {
            found.add_floor(Trust::Daemon, source, Bounds::from(floor));
            reading.from(floor)
        }
        None => reading,
    };
    found.readings.push(reading.note(why));
}

fn word(clock: &ClockFacts, found: &mut Found) {
    let Some(within) = clock.trusted_within_s else {
        return;
    };
    let error = within.saturating_mul(NANOS);
    let fact = format!("taken on your word to within {}", Span::seconds(within));
    if clock.wall() >= clock.floor {
        found.add(
            Trust::Word,
            Source::Word,
            Bounds::around(clock.wall_nanos, 0, error),
        );
    }
    let reading = Reading::new(Source::Word, "--trust-clock", Trust::Word);
    let reading = reading.measured(clock.wall_nanos, 0, error);
    found.readings.push(reading.note(fact.clone()));
    found.checks.push(Check::warn("clock.trusted", fact));
}

fn last_seen(clock: &ClockFacts, found: &mut Found) {
    const ID: &str = "clock.last-seen";
    let Some(facts) = &clock.last_seen else {
        return;
    };
    // Its rank comes from the source; the trust says that it is this device's own writing.
    let reading = Reading::new(Source::LastSeen, facts.path.clone(), Trust::Daemon);
    let Some(at) = facts.at else {
        let why = facts
            .error
            .as_deref()
            .unwrap_or("nothing is written there yet");
        if facts.error.is_some() {
            let fact = format!("`{}`: {why}", facts.path);
            found.checks.push(Check::warn(ID, fact));
        }
        found.readings.push(reading.note(why));
        return;
    };
    found.add_floor(Trust::Daemon, Source::LastSeen, Bounds::from(at));
    let reading = reading
        .from(at)
        .note("this device was sure of that time before");
    found.readings.push(reading);
    let wall = clock.wall();
    found.checks.push(if wall >= at {
        Check::pass(
            ID,
            format!("the clock is not before {at}, which was sure before"),
        )
    } else {
        let fact = format!("the clock says {wall}, but this device has seen {at} already");
        Check::fail(ID, fact)
            .weigh(Weight::ClockWrong)
            .remedy(SET_IT)
    });
}

fn rtc(clock: &ClockFacts, found: &mut Found) {
    const ID: &str = "clock.rtc";
    let Some(facts) = &clock.rtc else {
        return;
    };
    let reading = Reading::new(Source::Rtc, facts.device.clone(), Trust::None);
    let Some(shows) = facts.shows else {
        let why = facts.error.as_deref().unwrap_or("it cannot be read");
        found
            .checks
            .push(Check::warn(ID, format!("{}: {why}", facts.device)));
        found.readings.push(reading.note(why));
        return;
    };
    let off = shows.since(clock.wall());
    let offset = off.as_seconds().saturating_mul(NANOS);
    let mut reading = reading
        .measured(clock.wall_nanos, offset, NANOS)
        .part(Part::Shown);
    (reading.earliest, reading.latest) = (Some(shows), Some(shows));
    let check = if shows < clock.floor {
        let fact = format!(
            "{} shows {shows}, before this program was built",
            facts.device
        );
        Check::warn(ID, fact).remedy("its battery is empty or missing: `nameplate clock set --rtc`")
    } else if off.as_seconds().abs() > RTC_NEAR.as_seconds() {
        let fact = format!(
            "{} shows {shows}, the system clock {}",
            facts.device,
            clock.wall()
        );
        Check::warn(ID, fact).remedy("when the clock is right: `nameplate clock set --rtc`")
    } else {
        Check::pass(ID, format!("{} shows {shows}", facts.device))
    };
    found.readings.push(reading.note(check.fact.clone()));
    found.checks.push(check);
}

fn tls(clock: &ClockFacts, found: &mut Found) {
    const ID: &str = "clock.tls";
    let Some(facts) = &clock.tls else {
        return;
    };
    let reading = Reading::new(Source::Tls, facts.endpoint.to_string(), Trust::Hint);
    let Some(window) = facts.window else {
        let why = facts
            .error
            .as_deref()
            .unwrap_or("it shows no certificate to believe");
        found
            .checks
            .push(Check::warn(ID, format!("`{}`: {why}", facts.endpoint)));
        found.readings.push(reading.note(why));
        return;
    };
    let bounds = Bounds::from(window.not_before).until(window.not_after);
    found.add(Trust::Hint, Source::Tls, bounds);
    let mut reading = reading
        .from(window.not_before)
        .note("last resort: an honest server shows certificates that are valid now");
    reading.latest = Some(window.not_after);
    found.readings.push(reading);
    let fact = format!(
        "`{}` shows certificates for {} to {}",
        facts.endpoint, window.not_before, window.not_after
    );
    found.checks.push(if window.contains(clock.wall()) {
        Check::pass(ID, fact)
    } else {
        Check::warn(ID, format!("{fact}; the clock is outside")).remedy(SET_IT)
    });
}

impl Found {
    fn add(&mut self, trust: Trust, source: Source, bounds: Bounds) {
        self.pieces.push(Piece {
            trust,
            source,
            bounds,
            two_sided: true,
        });
    }

    fn add_floor(&mut self, trust: Trust, source: Source, bounds: Bounds) {
        self.pieces.push(Piece {
            trust,
            source,
            bounds,
            two_sided: false,
        });
    }
}
