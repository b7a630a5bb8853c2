//! Topics and topic filters: what AWS IoT takes, and which filter matches which topic (MQTT 3.1.1
//! §4.7, with AWS IoT's deviations).

/// The most bytes of a topic or filter.
const MAX_BYTES: usize = 256;
/// The most forward slashes of a topic or filter.
const MAX_SLASHES: usize = 7;

/// Why AWS IoT would not take a publish to this topic; `None` when it does.
pub(super) fn topic_problem(topic: &str) -> Option<String> {
    let counted = without_rule(topic);
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Some(format!(
            "`{topic}` is not a topic: it is empty or holds a wildcard"
        ));
    }
    if topic.starts_with("$aws/events/") {
        return Some(format!(
            "`{topic}` is a topic that only AWS IoT publishes to"
        ));
    }
    size_problem(counted)
}

/// Why AWS IoT would not take a subscription to this filter; `None` when it does.
pub(super) fn filter_problem(filter: &str) -> Option<String> {
    let levels: Vec<&str> = filter.split('/').collect();
    let whole = |level: &&str| *level == "+" || *level == "#" || !level.contains(['+', '#']);
    let hash_last = levels[..levels.len() - 1].iter().all(|level| *level != "#");
    if filter.is_empty() || filter.contains('\0') || !levels.iter().all(whole) || !hash_last {
        return Some(format!("`{filter}` is not a topic filter"));
    }
    size_problem(filter)
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

/// Whether a filter matches a topic. `a/#` does not match `a` (AWS IoT deviates from the standard
/// here), and a leading wildcard does not match a topic that starts with `$`.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

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
            ("a", "A", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn limits_and_syntax() {
        let (long, deep) = ("x".repeat(257), "a/".repeat(8));
        for bad in [
            "",
            "a/+",
            "#",
            "a\0b",
            "$aws/events/presence/connected/x",
            &long,
            &deep,
        ] {
            assert!(topic_problem(bad).is_some(), "{bad}");
        }
        for bad in ["", "a#", "#/a", "a/+b", &long, &deep] {
            assert!(filter_problem(bad).is_some(), "{bad}");
        }
        let ingest = format!("$aws/rules/r/{}", "a/".repeat(7));
        for good in ["a", "a/b c/ü", &"a/".repeat(7), &ingest] {
            assert_eq!(topic_problem(good), None, "{good}");
        }
        for good in ["#", "+", "a/+/#", "$share/g/a"] {
            assert_eq!(filter_problem(good), None, "{good}");
        }
    }
}
