//! Policies and facts put together once for a connection, so that a decision only compares text:
//! conditions are decided, variables replaced, statements sorted by action.

use super::action::Action;
use super::document::{Effect, Statement};
use super::eval::{NamedPolicy, Outcome, Request};
use super::pattern::Fixed;
use super::vars::Facts;

/// What a connection may do. [`Compiled::decide`] answers as [`super::decide`] does with the same
/// policies and facts, and allocates nothing.
#[derive(Clone, Debug)]
pub struct Compiled {
    entries: Box<[Entry]>,
    /// For each action the numbers of its entries in `order`: denies, then allows.
    spans: [Span; Action::COUNT],
    order: Box<[usize]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    denies_end: usize,
    end: usize,
}

/// A statement whose conditions hold.
#[derive(Clone, Debug)]
struct Entry {
    place: Deciding,
    inverted: bool,
    resources: Box<[Fixed]>,
}

/// A statement by its numbers, from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deciding {
    /// Which policy, as they were given.
    pub policy: usize,
    /// Which of its statements.
    pub statement: usize,
}

/// The outcome, and the first statement that brought it about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// None for [`Outcome::ImplicitDeny`].
    pub by: Option<Deciding>,
}

impl Compiled {
    /// Puts policies and facts together.
    pub fn new(policies: &[NamedPolicy], facts: &Facts) -> Self {
        let mut entries = Vec::new();
        let mut denies: [Vec<usize>; Action::COUNT] = Default::default();
        let mut allows = denies.clone();
        for (policy, named) in policies.iter().enumerate() {
            for (statement, one) in named.document.statements().iter().enumerate() {
                let place = Deciding { policy, statement };
                let Some(entry) = entry(one, place, facts) else {
                    continue;
                };
                let lists = match one.effect {
                    Effect::Deny => &mut denies,
                    Effect::Allow => &mut allows,
                };
                for action in Action::all().filter(|action| one.actions.has(action.folded())) {
                    lists[action as usize].push(entries.len());
                }
                entries.push(entry);
            }
        }
        let mut order = Vec::new();
        let spans = std::array::from_fn(|n| {
            let start = order.len();
            order.append(&mut denies[n]);
            let denies_end = order.len();
            order.append(&mut allows[n]);
            Span {
                start,
                denies_end,
                end: order.len(),
            }
        });
        Self {
            entries: entries.into(),
            spans,
            order: order.into(),
        }
    }

    /// Decides: any `Deny` that matches wins, then any `Allow`, else no.
    pub fn decide(&self, request: Request<'_>) -> Verdict {
        let span = self.spans[request.action as usize];
        let first = |numbers: &[usize]| {
            let mut entries = numbers.iter().map(|n| &self.entries[*n]);
            let found = entries.find(|entry| entry.matches(request.resource));
            found.map(|entry| entry.place)
        };
        if let Some(by) = first(&self.order[span.start..span.denies_end]) {
            return Verdict {
                outcome: Outcome::ExplicitDeny,
                by: Some(by),
            };
        }
        let by = first(&self.order[span.denies_end..span.end]);
        let outcome = match by {
            Some(_) => Outcome::Allowed,
            None => Outcome::ImplicitDeny,
        };
        Verdict { outcome, by }
    }

    /// Whether the request is allowed.
    pub fn allows(&self, request: Request<'_>) -> bool {
        self.decide(request).outcome == Outcome::Allowed
    }
}

impl Entry {
    fn matches(&self, resource: &str) -> bool {
        let mut patterns = self.resources.iter();
        patterns.any(|pattern| pattern.matches(resource)) != self.inverted
    }
}

/// A statement with the facts put into it; `None` when it can match nothing.
fn entry(statement: &Statement, place: Deciding, facts: &Facts) -> Option<Entry> {
    let mut conditions = statement.conditions.iter();
    if !conditions.all(|condition| condition.holds(facts).unwrap_or(false)) {
        return None;
    }
    let patterns = statement.resources.patterns.iter();
    let resources: Box<[Fixed]> = patterns
        .filter_map(|pattern| pattern.fixed(facts).ok())
        .collect();
    let inverted = statement.resources.inverted;
    (inverted || !resources.is_empty()).then_some(Entry {
        place,
        inverted,
        resources,
    })
}
