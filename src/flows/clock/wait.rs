//! Waits until the clock can be trusted for certain windows.

use std::time::Duration;

use super::gather::{ClockGather, ClockRequest};
use super::memory::{Keep, Kept};
use crate::core::clock::kiss::Memory;
use crate::core::clock::wait::{Decision, Need, decide};
use crate::core::clock::{ClockFacts, Judged, TimeServerFacts, judge};
use crate::core::time::Span;

/// How often this machine itself is looked at: it costs next to nothing.
const LOCAL_WAIT: Duration = Duration::from_secs(1);
/// The first wait between questions to servers that answered, and the longest (RFC 4330 §10: never
/// less than 15 s).
const SERVER_WAIT: Duration = Duration::from_secs(16);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// The first wait when none answered: often the network is not there yet.
const SILENT_WAIT: Duration = Duration::from_secs(2);

/// The powers needed.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// Evidence.
    pub gather: ClockGather<'a>,
    /// What is kept.
    pub keep: Keep<'a>,
}

/// How long, and for what.
#[derive(Clone, Debug)]
pub struct WaitRequest {
    /// Whom to ask.
    pub clock: ClockRequest,
    /// What is wanted of the clock.
    pub need: Need,
    /// The most that waiting may take; the last look may take a time-out longer.
    pub timeout: Duration,
    /// Where things are kept.
    pub kept: Kept,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Waited {
    /// The last decision.
    pub decision: Decision,
    /// The last facts.
    pub facts: ClockFacts,
    /// What they come to.
    pub judged: Judged,
    /// How long it took.
    pub waited: Duration,
    /// How often time servers were asked.
    pub rounds: u32,
    /// What could not be kept.
    pub warnings: Vec<String>,
}

/// What time servers said last, and when.
struct Heard {
    servers: Vec<TimeServerFacts>,
    wall_since_start: i128,
    next: Duration,
    wait: Duration,
}

impl Wait<'_> {
    /// Looks until the decision is final or the time is over. Servers are asked at once, and then less
    /// and less often; their answers count in between, moved along when the clock is set.
    pub fn run(&self, request: &WaitRequest) -> Waited {
        let clock = self.gather.clock;
        let start = clock.monotonic();
        let mut memory = self.keep.servers(&request.kept);
        let mut heard: Option<Heard> = None;
        let mut rounds = 0;
        loop {
            let now = clock.monotonic();
            let due = heard.as_ref().is_none_or(|heard| now >= heard.next);
            let facts = if due {
                rounds += 1;
                self.ask(request, &mut memory, &mut heard)
            } else {
                self.look(request, heard.as_ref())
            };
            let judged = judge(&facts);
            let decision = decide(&facts, &judged, &request.need);
            let passed = clock.monotonic().saturating_sub(start);
            let left = request.timeout.saturating_sub(passed);
            if is_final(&decision, &judged, left) {
                let mut warnings: Vec<String> = Vec::new();
                warnings.extend(self.keep.keep_servers(&request.kept, &memory));
                let kept = self.keep.keep_time(&request.kept, &facts, &judged);
                warnings.extend(kept.err());
                return Waited {
                    decision,
                    facts,
                    judged,
                    waited: passed,
                    rounds,
                    warnings,
                };
            }
            clock.sleep(left.min(LOCAL_WAIT));
        }
    }

    fn ask(
        &self,
        request: &WaitRequest,
        memory: &mut Memory,
        heard: &mut Option<Heard>,
    ) -> ClockFacts {
        let facts = self.gather.run(&request.clock, memory);
        let answered = facts
            .time_servers
            .iter()
            .any(|server| server.error.is_none());
        let first = if answered { SERVER_WAIT } else { SILENT_WAIT };
        let wait = heard.as_ref().map_or(first, |heard| {
            heard.wait.saturating_mul(2).clamp(first, LONGEST_WAIT)
        });
        *heard = Some(Heard {
            servers: facts.time_servers.clone(),
            wall_since_start: self.gather.wall_since_start(),
            next: self.gather.clock.monotonic() + wait,
            wait,
        });
        facts
    }

    /// This machine only, with what servers said before.
    fn look(&self, request: &WaitRequest, heard: Option<&Heard>) -> ClockFacts {
        let local = ClockRequest {
            time_servers: Vec::new(),
            nts_servers: Vec::new(),
            tls: None,
            ..request.clock.clone()
        };
        let mut facts = self.gather.run(&local, &mut Memory::default());
        if let Some(heard) = heard {
            let moved = self.gather.wall_since_start() - heard.wall_since_start;
            let moved = i64::try_from(moved).unwrap_or(i64::MAX);
            facts.time_servers = heard
                .servers
                .iter()
                .map(|server| shifted(server, moved))
                .collect();
        }
        facts
    }
}

/// An answer as it would have been, had the clock been moved before.
fn shifted(server: &TimeServerFacts, nanos: i64) -> TimeServerFacts {
    TimeServerFacts {
        sent_nanos: server.sent_nanos.saturating_add(nanos),
        received_nanos: server.received_nanos.saturating_add(nanos),
        ..server.clone()
    }
}

fn is_final(decision: &Decision, judged: &Judged, left: Duration) -> bool {
    match decision {
        Decision::Ready | Decision::Over(_) => true,
        Decision::NotYet(_) => left.is_zero(),
        Decision::Begins(at, _) => {
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            *at > judged.interval.latest.plus(Span::seconds(seconds)) || left.is_zero()
        }
    }
}
