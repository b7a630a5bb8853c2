//! Which subscriptions match a topic: a tree of levels, so that a publish visits only what can
//! match, however many other subscriptions there are.

use std::collections::HashMap;
use std::sync::Arc;

use super::topics;

/// How one session has subscribed to one filter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Options {
    /// 0 or 1.
    pub(crate) qos: u8,
    /// Not for messages of the session's own.
    pub(crate) no_local: bool,
    /// The RETAIN flag stays as it was published.
    pub(crate) as_published: bool,
}

/// A subscription of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) session: u64,
    pub(crate) options: Options,
}

/// Those who share one filter, in turn.
#[derive(Debug)]
struct Group {
    name: Box<str>,
    /// The whole of it: `$share/GROUP/FILTER`.
    filter: Arc<str>,
    members: Vec<Entry>,
    next: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Box<Node>>,
    entries: Vec<Entry>,
    groups: Vec<Group>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.entries.is_empty() && self.groups.is_empty()
    }
}

/// What matches a topic.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Matches {
    /// Each gets the message. A session with several matching filters stands here once, with the
    /// highest QoS of them.
    pub(crate) each: Vec<Entry>,
    /// Of each group one gets it: the first that can.
    pub(crate) one_of: Vec<OneOf>,
}

/// The members of a shared subscription, beginning with the one whose turn it is.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct OneOf {
    /// `$share/GROUP/FILTER`.
    pub(crate) filter: Arc<str>,
    pub(crate) members: Vec<Entry>,
}

/// Every subscription.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    root: Node,
}

impl Trie {
    /// Adds a subscription, or replaces the session's own to the same filter. `group` is the name
    /// of a shared subscription.
    pub(crate) fn insert(&mut self, filter: &str, group: Option<&str>, entry: Entry) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.children.entry(level.into()).or_default();
        }
        let entries = match group {
            None => &mut node.entries,
            Some(name) => {
                let found = node.groups.iter().position(|group| &*group.name == name);
                let at = found.unwrap_or_else(|| {
                    node.groups.push(Group {
                        name: name.into(),
                        filter: format!("$share/{name}/{filter}").into(),
                        members: Vec::new(),
                        next: 0,
                    });
                    node.groups.len() - 1
                });
                &mut node.groups[at].members
            }
        };
        match entries.iter_mut().find(|one| one.session == entry.session) {
            Some(one) => *one = entry,
            None => entries.push(entry),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// Takes a session's subscription away.
    pub(crate) fn remove(&mut self, filter: &str, group: Option<&str>, session: u64) {
        let levels: Vec<&str> = filter.split('/').collect();
        remove(&mut self.root, &levels, group, session);
    }

    /// The members of the shared subscription `$share/GROUP/FILTER`; `None` when it has none.
    pub(crate) fn group(&mut self, shared: &str) -> Option<OneOf> {
        let (name, filter) = topics::shared(shared)?;
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.children.get_mut(level)?;
        }
        let mut groups = node.groups.iter_mut();
        groups.find(|group| &*group.name == name).map(in_turn)
    }

    /// What matches a topic. `a/#` does not match `a` (AWS IoT deviates from the standard here),
    /// and a leading wildcard does not match a topic that starts with `$`.
    pub(crate) fn matching(&mut self, topic: &str) -> Matches {
        let levels: Vec<&str> = topic.split('/').collect();
        let mut found = Matches::default();
        let reserved = topic.starts_with('$');
        collect(&mut self.root, &levels, !reserved, &mut found);
        once_each(&mut found.each);
        found
    }
}

fn remove(node: &mut Node, levels: &[&str], group: Option<&str>, session: u64) {
    let Some((level, rest)) = levels.split_first() else {
        match group {
            None => node.entries.retain(|one| one.session != session),
            Some(name) => {
                for one in node.groups.iter_mut().filter(|one| &*one.name == name) {
                    one.members.retain(|one| one.session != session);
                }
                node.groups.retain(|one| !one.members.is_empty());
            }
        }
        return;
    };
    if let Some(child) = node.children.get_mut(*level) {
        remove(child, rest, group, session);
        if child.is_empty() {
            node.children.remove(*level);
        }
    }
}

fn collect(node: &mut Node, levels: &[&str], wildcards: bool, found: &mut Matches) {
    let Some((level, rest)) = levels.split_first() else {
        found.each.extend(&node.entries);
        found.one_of.extend(node.groups.iter_mut().map(in_turn));
        return;
    };
    if wildcards {
        if let Some(all) = node.children.get_mut("#") {
            collect(all, &[], true, found);
        }
        if let Some(any) = node.children.get_mut("+") {
            collect(any, rest, true, found);
        }
    }
    // A topic never holds a level `+` or `#`, so that nothing is found twice.
    if let Some(same) = node.children.get_mut(*level) {
        collect(same, rest, true, found);
    }
}

/// The members, beginning with the one whose turn it is.
fn in_turn(group: &mut Group) -> OneOf {
    let start = group.next % group.members.len().max(1);
    group.next = start + 1;
    let (before, from) = group.members.split_at(start);
    OneOf {
        filter: Arc::clone(&group.filter),
        members: from.iter().chain(before).copied().collect(),
    }
}

fn once_each(entries: &mut Vec<Entry>) {
    if entries.len() < 2 {
        return;
    }
    entries.sort_by_key(|entry| entry.session);
    entries.dedup_by(|other, kept| {
        let same = other.session == kept.session;
        if same {
            kept.options.qos = kept.options.qos.max(other.options.qos);
            kept.options.no_local &= other.options.no_local;
            kept.options.as_published |= other.options.as_published;
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(session: u64, qos: u8) -> Entry {
        let options = Options {
            qos,
            ..Options::default()
        };
        Entry { session, options }
    }

    /// The rule, level by level.
    fn matches(filter: &str, topic: &str) -> bool {
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in filter.split('/') {
            match (wanted, levels.next()) {
                ("#", Some(_)) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    #[test]
    fn filters_match_as_aws_has_it() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+", "a/", true),
            ("+/b", "a/b", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", false),
            ("#", "a/b", true),
            ("#", "$aws/x", false),
            ("+/x", "$aws/x", false),
            ("$aws/#", "$aws/x", true),
            ("$aws/+", "$aws/x", true),
            ("a", "A", false),
            ("/+", "/a", true),
            ("+", "/a", false),
        ] {
            let mut trie = Trie::default();
            trie.insert(filter, None, entry(1, 0));
            let found = !trie.matching(topic).each.is_empty();
            assert_eq!(found, expected, "{filter} {topic}");
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
            trie.remove(filter, None, 1);
            assert!(trie.root.is_empty());
        }
    }

    #[test]
    fn overlapping_filters_give_one_copy_with_the_highest_qos() {
        let mut trie = Trie::default();
        trie.insert("a/#", None, entry(1, 0));
        trie.insert("a/b", None, entry(1, 1));
        trie.insert("+/b", None, entry(2, 0));
        assert_eq!(trie.matching("a/b").each, [entry(1, 1), entry(2, 0)]);
    }

    #[test]
    fn a_group_takes_turns() {
        let mut trie = Trie::default();
        trie.insert("a", Some("g"), entry(1, 1));
        trie.insert("a", Some("g"), entry(2, 1));
        trie.insert("a", Some("h"), entry(3, 1));
        let mut first = || {
            let found = trie.matching("a").one_of;
            assert_eq!(found.len(), 2);
            found[0].members[0].session
        };
        assert_eq!([first(), first(), first()], [1, 2, 1]);
        trie.remove("a", Some("g"), 2);
        trie.remove("a", Some("g"), 1);
        let left = trie.matching("a").one_of;
        assert_eq!((left.len(), &left[0].members), (1, &vec![entry(3, 1)]));
        assert_eq!(trie.group("$share/h/a").unwrap(), left[0]);
        assert_eq!(trie.group("$share/g/a"), None);
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_the_rule_says(
            filters in prop::collection::vec("[ab+#$]{0,1}(/[ab+#]{0,1}){0,3}", 1..12),
            topic in "[ab$]{0,1}(/[ab]{0,1}){0,3}",
            gone in 0_usize..12,
        ) {
            let valid = |filter: &str| {
                let levels: Vec<&str> = filter.split('/').collect();
                levels[..levels.len() - 1].iter().all(|level| *level != "#")
            };
            let mut trie = Trie::default();
            let filters: Vec<String> = filters.into_iter().filter(|f| valid(f)).collect();
            for (n, filter) in filters.iter().enumerate() {
                trie.insert(filter, None, entry(n as u64, 0));
            }
            if let Some(filter) = filters.get(gone) {
                trie.remove(filter, None, gone as u64);
            }
            let found: Vec<u64> = trie.matching(&topic).each.iter().map(|e| e.session).collect();
            let wanted: Vec<u64> = filters
                .iter()
                .enumerate()
                .filter(|(n, filter)| *n != gone && matches(filter, &topic))
                .map(|(n, _)| n as u64)
                .collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
