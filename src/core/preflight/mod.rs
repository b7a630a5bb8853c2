//! The checks before the first connect: facts in, verdict out.
//!
//! A clock that is known to be wrong outranks everything; a definite no outranks a clock that
//! nothing confirms; and a network that was not reached proves nothing about the identity.

mod facts;
mod identity;
mod server;

pub use facts::{CertificateFile, Facts, IdentityFacts, KeyFacts, Outcome, ServerFacts, Shown};

pub use crate::core::check::{Check, Status, Weight};
use crate::core::clock;
use crate::core::time::{Span, Standing, TimeBounds, UtcTime, Validity};

/// A validity window, for the picture.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Window {
    /// `CA`, `device` or `server`.
    pub label: &'static str,
    /// From and to.
    pub validity: Validity,
}

/// The answer as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Connect.
    Ready,
    /// Something must be mended first.
    NotReady,
    /// It cannot be told: the clock or the network comes first.
    CannotTell,
}

/// What the facts come to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// The check that decided it; `None` when ready.
    pub cause: Option<&'static str>,
    /// One line.
    pub summary: String,
    /// What the system clock says.
    pub clock: UtcTime,
    /// Where the true time lies.
    pub interval: TimeBounds,
    /// The windows that were held against it.
    pub windows: Vec<Window>,
    /// Every check, in order.
    pub checks: Vec<Check>,
}

/// Judges; the same facts give the same verdict on any machine at any time.
pub fn judge(facts: &Facts) -> Verdict {
    let clock = clock::judge(&facts.clock);
    let bounds = clock.interval;
    let mut board = Board {
        time: Time {
            bounds,
            margin: Span::seconds(facts.margin_s),
        },
        checks: clock.checks,
        windows: Vec::new(),
    };
    if let Some(identity) = &facts.identity {
        identity::judge(identity, &mut board);
    }
    match &facts.server {
        Some(server) => server::judge(server, &mut board),
        None => board.checks.push(server::not_looked_at(facts.offline)),
    }
    let Board {
        checks, windows, ..
    } = board;
    let ranked = [
        Weight::ClockWrong,
        Weight::Definite,
        Weight::ClockUnknown,
        Weight::Network,
    ];
    let cause = ranked
        .iter()
        .find_map(|weight| checks.iter().find(|check| check.weight == *weight));
    let (answer, summary) = summarise(cause, &checks);
    Verdict {
        answer,
        cause: cause.map(|check| check.id),
        summary,
        clock: facts.clock.wall(),
        interval: bounds,
        windows,
        checks,
    }
}

fn summarise(cause: Option<&Check>, checks: &[Check]) -> (Answer, String) {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let Some(cause) = cause else {
        let warned = match count(Status::Warn) {
            0 => String::new(),
            1 => ", 1 warning".to_owned(),
            n => format!(", {n} warnings"),
        };
        let passed = count(Status::Pass);
        return (Answer::Ready, format!("{passed} checks passed{warned}"));
    };
    let fact = &cause.fact;
    match cause.weight {
        Weight::ClockWrong | Weight::ClockUnknown => {
            (Answer::CannotTell, format!("fix the clock first: {fact}"))
        }
        Weight::Network => (Answer::CannotTell, fact.clone()),
        Weight::Definite | Weight::None => (Answer::NotReady, fact.clone()),
    }
}

/// What has been found so far.
struct Board {
    time: Time,
    checks: Vec<Check>,
    windows: Vec<Window>,
}

/// What windows are held against.
#[derive(Clone, Copy)]
struct Time {
    bounds: TimeBounds,
    margin: Span,
}

impl Time {
    fn check(self, id: &'static str, what: &str, window: &Validity) -> Check {
        let Self { bounds, margin } = self;
        let said = |at| format!("{what}: {}", window.describe(at));
        match bounds.against(window) {
            Standing::Valid if bounds.latest.plus(margin) > window.not_after => {
                Check::warn(id, said(bounds.latest))
                    .remedy(format!("renew it: less than {margin} is left"))
            }
            Standing::Valid => Check::pass(id, said(bounds.latest)),
            Standing::Expired => Check::fail(id, said(bounds.earliest))
                .remedy("issue a new certificate: `nameplate device rotate`, or `device issue`"),
            Standing::NotYetValid => Check::fail(id, said(bounds.latest))
                .remedy("wait, or issue it again with an earlier --not-before"),
            Standing::CannotTell => Check::skip(
                id,
                format!(
                    "{what}: {} to {}; cannot tell whether that is now",
                    window.not_before, window.not_after
                ),
            )
            .weigh(Weight::ClockUnknown)
            .remedy("fix the clock first"),
        }
    }
}

#[cfg(test)]
mod tests;
