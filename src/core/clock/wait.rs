//! Whether the time is known well enough for certain windows, and the clock agrees with it.

use super::{ClockFacts, Judged, Trust, wall_lies_within};
use crate::core::check::Weight;
use crate::core::time::{Span, Standing, UtcTime, Validity};

/// A clock this near to the true time is right; as in `clock.ntp`.
const SLACK: Span = Span::seconds(10);

/// What is wanted of the clock.
#[derive(Clone, Debug)]
pub struct Need {
    /// The windows that the true time must be in, each with what it is.
    pub windows: Vec<(String, Validity)>,
    /// Evidence must be believed at least as far.
    pub require: Trust,
    /// The interval may not be wider than this to either side.
    pub within: Option<Span>,
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Go on.
    Ready,
    /// Not now; why. Better evidence may change it.
    NotYet(String),
    /// A window begins only then.
    Begins(UtcTime, String),
    /// A window is over; waiting does not help.
    Over(String),
}

/// Decides. A clock that is known to be wrong comes first, for whatever checks a certificate next goes
/// by that clock; then the trust, then the windows.
pub fn decide(clock: &ClockFacts, judged: &Judged, need: &Need) -> Decision {
    let wrong = judged
        .fault()
        .filter(|check| check.weight == Weight::ClockWrong);
    if let Some(check) = wrong {
        return Decision::NotYet(check.fact.clone());
    }
    let Some(trust) = judged.trust.filter(|trust| *trust >= need.require) else {
        return Decision::NotYet(untrusted(judged, need.require));
    };
    let interval = judged.interval;
    if let Some(over) = need.windows.iter().find_map(|window| ended(window, judged)) {
        return over;
    }
    let width = interval.latest.since(interval.earliest);
    if let Some(within) = need.within
        && width.as_seconds() > within.as_seconds().saturating_mul(2).saturating_add(1)
    {
        let fact = format!("the time is known to within {width} only (trust: {trust})");
        return Decision::NotYet(fact);
    }
    if !wall_lies_within(clock, interval, SLACK) {
        let wall = clock.wall();
        let (from, to) = (interval.earliest, interval.latest);
        return Decision::NotYet(format!("the clock says {wall}, the time is {from} to {to}"));
    }
    let open = need.windows.iter().find(|(_, window)| {
        interval.against(window) != Standing::Valid || !window.contains(clock.wall())
    });
    match open {
        None => Decision::Ready,
        Some((what, window)) => Decision::NotYet(format!(
            "cannot tell whether {what} ({} to {}) is valid at {} to {}",
            window.not_before, window.not_after, interval.earliest, interval.latest
        )),
    }
}

fn untrusted(judged: &Judged, require: Trust) -> String {
    match (judged.fault(), judged.trust) {
        (Some(check), _) => check.fact.clone(),
        (None, Some(trust)) => {
            format!("the time is known by `{trust}` only; `{require}` is wanted")
        }
        (None, None) => "nothing confirms the clock".into(),
    }
}

fn ended((what, window): &(String, Validity), judged: &Judged) -> Option<Decision> {
    let said = |at| format!("{what}: {}", window.describe(at));
    match judged.interval.against(window) {
        Standing::Expired => Some(Decision::Over(said(judged.interval.earliest))),
        Standing::NotYetValid => Some(Decision::Begins(
            window.not_before,
            said(judged.interval.latest),
        )),
        Standing::Valid | Standing::CannotTell => None,
    }
}
