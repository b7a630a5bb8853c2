//! The checks before the first connect: facts in, verdict out.
//!
//! A clock that is known to be wrong outranks everything; a definite no outranks a clock that
//! nothing confirms; and a network that was not reached proves nothing about the identity.

mod access;
mod chain;
mod connected;
mod facts;
mod identity;
mod server;
mod shelf;
mod verdict;

pub use access::{Change, mends};
pub use facts::{
    CertificateFile, ClientAuthFacts, Ended, Facts, FileFacts, IdentityFacts, KeyFacts, MqttFacts,
    Outcome, ServerFacts, ShelfFacts, Shown,
};
pub use shelf::{Prediction, predict};
pub use verdict::{Answer, EndpointVerdict, Verdict};

use crate::core::cert::Certificate;
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
        allow_unsupported: facts.allow_unsupported,
        thing: facts.thing.clone(),
        shelf: facts.shelf,
        floor: facts.clock.floor,
        prediction: None,
    };
    if let Some(identity) = &facts.identity {
        identity::judge(identity, &mut board);
    }
    if facts.servers.is_empty() {
        board.checks.push(server::not_looked_at(facts.offline));
    }
    let own = facts.identity.as_ref().map_or_else(Vec::new, presented);
    for server in &facts.servers {
        server::judge(server, &own, &mut board);
    }
    verdict::conclude(facts, board)
}

/// The device's leaf and all that may vouch for it.
fn presented(identity: &IdentityFacts) -> Vec<Certificate> {
    let more = [&identity.chain, &identity.ca];
    let files = std::iter::once(&identity.certificate).chain(more.into_iter().flatten());
    files.flat_map(CertificateFile::all).collect()
}

/// What has been found so far.
struct Board {
    time: Time,
    checks: Vec<Check>,
    windows: Vec<Window>,
    allow_unsupported: bool,
    thing: Option<String>,
    shelf: Option<ShelfFacts>,
    floor: UtcTime,
    prediction: Option<Prediction>,
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
