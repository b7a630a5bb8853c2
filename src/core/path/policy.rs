//! Certificate policies along a path: RFC 5280 §6.1 in the shape of RFC 9618, whose graph of
//! policies grows with the path where the older tree could grow beyond bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::PolicyRequest;
use super::fault::{Fault, Reason};
use super::link::{ANY_POLICY, Link};

/// The most policies of one certificate, and mappings; far above any real one.
const MAX_POLICIES: usize = 256;

/// A policy at one depth: what it is called one certificate lower, and who is above it.
struct Node {
    expected: BTreeSet<String>,
    parents: BTreeSet<String>,
}

type Level = BTreeMap<String, Node>;

struct State {
    /// By depth, the root's first; empty when no policy is good any more.
    levels: Vec<Level>,
    explicit: usize,
    mapping: usize,
    any: usize,
}

/// Walks the path (leaf first) from the root down. The root's own policies do not count
/// (RFC 5280 §6.1.1 (d)).
pub(super) fn fault(request: &PolicyRequest, path: &[&Link<'_>]) -> Option<Fault> {
    let count = path.len() - 1;
    let first = |now: bool| if now { 0 } else { count + 1 };
    let root = Node {
        expected: BTreeSet::from([ANY_POLICY.to_owned()]),
        parents: BTreeSet::new(),
    };
    let mut state = State {
        levels: vec![Level::from([(ANY_POLICY.to_owned(), root)])],
        explicit: first(request.require_explicit),
        mapping: first(request.inhibit_mapping),
        any: first(request.inhibit_any),
    };
    for (at, link) in path.iter().enumerate().take(count).rev() {
        let wrong = |why| {
            let reason = Reason::Policy(why);
            Some(Fault { at, reason })
        };
        let policies = &link.policies;
        let many = policies
            .own
            .as_ref()
            .map_or(0, Vec::len)
            .max(policies.mappings.len());
        if many > MAX_POLICIES {
            return wrong("it has more than 256 certificate policies or mappings");
        }
        state.take(link, at == 0);
        if state.explicit == 0 && state.levels.is_empty() {
            return wrong("a policy is required, and none is good from the root to here");
        }
        if at == 0 {
            return state.finish(request, link).and_then(wrong);
        }
        if let Some(why) = state.prepare(link) {
            return wrong(why);
        }
    }
    None
}

impl State {
    /// RFC 9618 §5.4 (d) and (e).
    fn take(&mut self, link: &Link<'_>, last: bool) {
        let Some(own) = &link.policies.own else {
            self.levels.clear();
            return;
        };
        let Some(above) = self.levels.last() else {
            return;
        };
        let parents_of = |policy: &str| -> BTreeSet<String> {
            let expecting = above
                .iter()
                .filter(|(_, node)| node.expected.contains(policy));
            expecting.map(|(name, _)| name.clone()).collect()
        };
        let node = |policy: &str, parents: BTreeSet<String>| {
            let expected = BTreeSet::from([policy.to_owned()]);
            (policy.to_owned(), Node { expected, parents })
        };
        let mut level = Level::new();
        for policy in own.iter().filter(|policy| *policy != ANY_POLICY) {
            let mut parents = parents_of(policy);
            if parents.is_empty() && above.contains_key(ANY_POLICY) {
                parents.insert(ANY_POLICY.to_owned());
            }
            if !parents.is_empty() {
                level.extend([node(policy, parents)]);
            }
        }
        let any_counts = self.any > 0 || (!last && link.is_self_issued());
        if any_counts && own.iter().any(|policy| policy == ANY_POLICY) {
            let expected: BTreeSet<&String> = above.values().flat_map(|n| &n.expected).collect();
            for policy in expected {
                if !level.contains_key(policy) {
                    level.extend([node(policy, parents_of(policy))]);
                }
            }
        }
        self.levels.push(level);
        self.prune();
    }

    /// Takes out what has nobody below it; nothing is left when the last level is empty.
    fn prune(&mut self) {
        for depth in (1..self.levels.len()).rev() {
            let (above, here) = self.levels.split_at_mut(depth);
            let used: BTreeSet<&String> = here[0].values().flat_map(|n| &n.parents).collect();
            above[depth - 1].retain(|name, _| used.contains(name));
        }
        if self.levels.last().is_none_or(Level::is_empty) {
            self.levels.clear();
        }
    }

    /// Between one certificate and the next: RFC 9618 §5.5, RFC 5280 §6.1.4 (a), (b), (h) to (j).
    fn prepare(&mut self, link: &Link<'_>) -> Option<&'static str> {
        let policies = &link.policies;
        let any = |(from, to): &(String, String)| from == ANY_POLICY || to == ANY_POLICY;
        if policies.mappings.iter().any(any) {
            return Some("it maps a policy from or to anyPolicy");
        }
        self.map(&policies.mappings);
        if !link.is_self_issued() {
            for counter in [&mut self.explicit, &mut self.mapping, &mut self.any] {
                *counter = counter.saturating_sub(1);
            }
        }
        let limits = [
            (&mut self.explicit, policies.require_explicit),
            (&mut self.mapping, policies.inhibit_mapping),
            (&mut self.any, policies.inhibit_any),
        ];
        for (counter, limit) in limits {
            if let Some(limit) = limit {
                *counter = (*counter).min(limit as usize);
            }
        }
        None
    }

    fn map(&mut self, mappings: &[(String, String)]) {
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        let mut by_issuer: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in mappings {
            by_issuer.entry(from).or_default().insert(to.clone());
        }
        for (from, expected) in by_issuer {
            if self.mapping == 0 {
                level.remove(from);
            } else if let Some(node) = level.get_mut(from) {
                node.expected = expected;
            } else if level.contains_key(ANY_POLICY) {
                let parents = BTreeSet::from([ANY_POLICY.to_owned()]);
                level.insert(from.clone(), Node { expected, parents });
            }
        }
        self.prune();
    }

    /// RFC 9618 §5.6.
    fn finish(&mut self, request: &PolicyRequest, leaf: &Link<'_>) -> Option<&'static str> {
        let explicit = self.explicit.saturating_sub(1);
        if explicit > 0 && leaf.policies.require_explicit != Some(0) {
            return None;
        }
        if self.levels.is_empty() {
            return Some("a policy is required, and none is good for the whole path");
        }
        let asked = &request.acceptable;
        if asked.is_empty() || asked.iter().any(|one| one == ANY_POLICY) {
            return None;
        }
        let good = self.authority_constrained();
        let fits = good.contains(ANY_POLICY) || asked.iter().any(|one| good.contains(&one[..]));
        (!fits).then_some("none of the policies asked for is good for the whole path")
    }

    /// The policies by the root's own names: those right below anyPolicy.
    fn authority_constrained(&self) -> BTreeSet<&str> {
        let below_any = self.levels.iter().skip(1).flatten();
        let mut good: BTreeSet<&str> = below_any
            .filter(|(name, node)| *name != ANY_POLICY && node.parents.contains(ANY_POLICY))
            .map(|(name, _)| &name[..])
            .collect();
        if self
            .levels
            .last()
            .is_some_and(|last| last.contains_key(ANY_POLICY))
        {
            good.insert(ANY_POLICY);
        }
        good
    }
}
