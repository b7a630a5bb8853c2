//! What differs between two JSON texts, as lines of their indented form.

use serde_json::Value;

/// Whether two texts are the same JSON value; white space and the order of keys do not count.
/// Texts that are not JSON are compared as they stand.
pub fn same_json(a: &str, b: &str) -> bool {
    match (
        serde_json::from_str::<Value>(a),
        serde_json::from_str::<Value>(b),
    ) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// The lines of `old` that go (`-`), the lines of `new` that come (`+`), and one line of what stays
/// around them. Both are indented first, so that only content counts.
pub fn json_lines(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (indented(old), indented(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let changed = middle(&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let before = head.checked_sub(1).map(|at| format!("  {}", old[at]));
    let after = old.get(old.len() - tail).map(|line| format!("  {line}"));
    before.into_iter().chain(changed).chain(after).collect()
}

/// Longest common subsequence by lines; texts are at most some thousand lines long.
fn middle(old: &[&str], new: &[&str]) -> Vec<String> {
    let width = new.len() + 1;
    let mut longest = vec![0_u16; (old.len() + 1) * width];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            longest[i * width + j] = if a == b {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        let left = j < new.len()
            && (i == old.len() || longest[i * width + j + 1] > longest[(i + 1) * width + j]);
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if left {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        } else {
            lines.push(format!("- {}", old[i]));
            i += 1;
        }
    }
    lines
}

fn indented(text: &str) -> String {
    serde_json::from_str::<Value>(text)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_counts() {
        assert!(same_json(
            r#"{"a":1,"b":[2]}"#,
            "{ \"b\": [ 2 ],\n \"a\": 1 }"
        ));
        assert!(!same_json("[1,2]", "[2,1]"));
        assert!(!same_json("no json", "no  json"));
        assert!(
            json_lines("[1]", "[ 1 ]")
                .iter()
                .all(|line| line.starts_with("  "))
        );
    }

    #[test]
    fn a_change_is_shown_with_its_neighbours() {
        let lines = json_lines(r#"{"a":1,"b":2,"c":3}"#, r#"{"a":1,"b":5,"x":0,"c":3}"#);
        let expected = [
            "    \"a\": 1,",
            "-   \"b\": 2,",
            "+   \"b\": 5,",
            "+   \"x\": 0,",
            "    \"c\": 3",
        ];
        assert_eq!(lines, expected);
        assert_eq!(json_lines("", "1"), ["+ 1"]);
    }
}
