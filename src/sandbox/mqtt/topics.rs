//! Topics and topic filters: what AWS IoT takes (MQTT 3.1.1 and 5 §4.7; service quotas; developer
//! guide, "Reserved topics").

/// The most bytes of a topic or filter.
const MAX_BYTES: usize = 256;
/// The most forward slashes of a topic or filter.
const MAX_SLASHES: usize = 7;

/// Topics with a meaning to AWS IoT: the pattern, whether clients publish to it, whether they
/// subscribe to it. `+` and `#` as in filters.
const RESERVED: &[(&str, bool, bool)] = &[
    ("$aws/certificates/create/+", true, false),
    ("$aws/certificates/create/+/+", false, true),
    ("$aws/certificates/create-from-csr/+", true, false),
    ("$aws/certificates/create-from-csr/+/+", false, true),
    ("$aws/provisioning-templates/+/provision/+", true, false),
    ("$aws/provisioning-templates/+/provision/+/+", false, true),
    ("$aws/events/#", false, true),
    ("$aws/rules/#", true, false),
    ("$aws/things/#", true, true),
];

/// Whether publishes to the topic go to rules alone (developer guide, "Reducing messaging costs
/// with Basic Ingest").
pub(crate) fn is_basic_ingest(topic: &str) -> bool {
    topic.starts_with("$aws/rules/")
}

/// A shared subscription's group and its filter.
pub(crate) fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

/// Whether the filter is one topic.
pub(crate) fn is_exact(filter: &str) -> bool {
    !filter.contains(['+', '#'])
}

/// Why AWS IoT would not take a publish to this topic; `None` when it does.
pub(crate) fn topic_problem(topic: &str) -> Option<String> {
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Some(format!(
            "`{topic}` is not a topic: it is empty or holds a wildcard"
        ));
    }
    if topic.starts_with('$') && !reserved(topic, |row| row.1) {
        return Some(format!(
            "`{topic}` is not a reserved topic that clients may publish to"
        ));
    }
    size_problem(without_rule(topic))
}

/// Why AWS IoT would not take a subscription to this filter; `None` when it does.
pub(crate) fn filter_problem(filter: &str) -> Option<String> {
    let inner = match filter.strip_prefix("$share/") {
        None => filter,
        Some(rest) => match rest.split_once('/') {
            Some((group, inner)) if !group.is_empty() && !group.contains(['+', '#']) => inner,
            _ => return Some(format!("`{filter}` is not a shared subscription")),
        },
    };
    let levels: Vec<&str> = inner.split('/').collect();
    let whole = |level: &&str| *level == "+" || *level == "#" || !level.contains(['+', '#']);
    let hash_last = levels[..levels.len() - 1].iter().all(|level| *level != "#");
    if inner.is_empty() || inner.contains('\0') || !levels.iter().all(whole) || !hash_last {
        return Some(format!("`{filter}` is not a topic filter"));
    }
    if inner.starts_with('$') && !reserved(inner, |row| row.2) {
        return Some(format!(
            "`{filter}` covers no reserved topic that clients may subscribe to"
        ));
    }
    size_problem(inner)
}

/// Whether the topic or filter and one of the reserved patterns have a topic in common.
fn reserved(text: &str, wanted: impl Fn(&(&str, bool, bool)) -> bool) -> bool {
    let rows = RESERVED.iter().filter(|row| wanted(row));
    rows.into_iter().any(|row| overlap(row.0, text))
}

fn overlap(one: &str, other: &str) -> bool {
    let (mut left, mut right) = (one.split('/'), other.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some("#"), Some(_)) | (Some(_), Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn size_problem(text: &str) -> Option<String> {
    let slashes = text.matches('/').count();
    if text.len() > MAX_BYTES {
        Some(format!(
            "a topic of {} bytes is too long (at most {MAX_BYTES})",
            text.len()
        ))
    } else if slashes > MAX_SLASHES {
        Some(format!(
            "a topic with {slashes} slashes is too deep (at most {MAX_SLASHES})"
        ))
    } else {
        None
    }
}

/// A Basic Ingest topic without `$aws/rules/<rule>/`, which does not count.
fn without_rule(topic: &str) -> &str {
    topic
        .strip_prefix("$aws/rules/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(topic, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_syntax() {
        let (long, deep) = ("x".repeat(257), "a/".repeat(8));
        for bad in [
            "",
            "a/+",
            "#",
            "a\0b",
            "$aws/events/presence/connected/x",
            "$aws/certificates/create/json/accepted",
            "$aws/anything",
            "$SYS/broker",
            "$mine",
            &long,
            &deep,
        ] {
            assert!(topic_problem(bad).is_some(), "{bad}");
        }
        let shared_deep = format!("$share/g/{deep}");
        for bad in [
            "",
            "a#",
            "#/a",
            "a/+b",
            "$share/g",
            "$share//a",
            "$share/+/a",
            "$share/g/",
            "$SYS/#",
            "$aws/rules/r/#",
            "$aws/certificates/create/json",
            &long,
            &deep,
            &shared_deep,
        ] {
            assert!(filter_problem(bad).is_some(), "{bad}");
        }
        let ingest = format!("$aws/rules/r/{}", "a/".repeat(7));
        for good in [
            "a",
            "a/b c/ü",
            "$aws/things/t/shadow/get",
            "$aws/certificates/create/cbor",
            "$aws/provisioning-templates/t/provision/json",
            &"a/".repeat(7),
            &ingest,
        ] {
            assert_eq!(topic_problem(good), None, "{good}");
        }
        for good in [
            "#",
            "+",
            "a/+/#",
            "$share/g/a",
            "$share/g/#",
            "$aws/events/#",
            "$aws/#",
            "$aws/things/+/shadow/#",
            "$aws/certificates/create/json/+",
        ] {
            assert_eq!(filter_problem(good), None, "{good}");
        }
    }
}
