//! Why each statement that speaks of an action matches a request, or does not.

use std::collections::BTreeSet;

use super::condition::Condition;
use super::document::{Selection, Statement};
use super::eval::{NamedPolicy, Request};
use super::pattern::Unresolved;
use super::vars::Facts;

/// One statement that speaks of the action.
#[derive(Clone, Debug)]
pub struct Examined<'a> {
    /// The number of its policy, as they were given.
    pub policy: usize,
    /// Its own number in the policy, from 0.
    pub number: usize,
    /// The statement.
    pub statement: &'a Statement,
    /// Whether its resources are those of the request.
    pub resource: bool,
    /// The conditions that do not hold.
    pub unmet: Vec<&'a Condition>,
    /// The variables that kept a part of it from matching, by name.
    pub unresolved: BTreeSet<&'a str>,
}

impl Examined<'_> {
    /// Whether it allows or denies the request.
    pub fn matches(&self) -> bool {
        self.resource && self.unmet.is_empty()
    }

    /// Every variable in it, by name as written.
    pub fn variables(&self) -> BTreeSet<&str> {
        let values = self.statement.conditions.iter().flat_map(|c| &c.values);
        let patterns = self.statement.resources.patterns.iter().chain(values);
        patterns.flat_map(super::Pattern::variables).collect()
    }
}

/// Examines every statement that speaks of the action, in order.
pub fn examine<'a>(
    policies: &'a [NamedPolicy],
    facts: &'a Facts,
    request: Request<'_>,
) -> Vec<Examined<'a>> {
    let mut all = Vec::new();
    for (policy, named) in policies.iter().enumerate() {
        for (number, statement) in named.document.statements().iter().enumerate() {
            if !statement.actions.has(request.action.folded()) {
                continue;
            }
            let mut unresolved = BTreeSet::new();
            let mut miss = |Unresolved(key): Unresolved<'a>| {
                unresolved.insert(key);
                false
            };
            let resource = selects(&statement.resources, request.resource, facts, &mut miss);
            let unmet = statement.conditions.iter();
            let unmet = unmet.filter(|condition| !condition.holds(facts).unwrap_or_else(&mut miss));
            let unmet = unmet.collect();
            all.push(Examined {
                policy,
                number,
                statement,
                resource,
                unmet,
                unresolved,
            });
        }
    }
    all
}

/// Whether a selection takes this text in.
pub(super) fn selects<'a>(
    selection: &'a Selection,
    text: &str,
    facts: &'a Facts,
    miss: &mut impl FnMut(Unresolved<'a>) -> bool,
) -> bool {
    let hit = selection.patterns.iter().any(|pattern| {
        let found = pattern.matches(text, facts);
        found.unwrap_or_else(&mut *miss)
    });
    hit != selection.inverted
}
