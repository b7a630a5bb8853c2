//! What every rule means: read from the pages that the documentation has, so that a finding's
//! severity and remedy, `nameplate explain` and the documentation are one text.

use std::sync::LazyLock;

use crate::core::finding::Severity;
use crate::core::near::distance;

/// One rule, check or error code, explained.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Rule {
    /// Stable, dotted: `cert.version`.
    pub id: &'static str,
    /// What it is about: `certificates`, `templates`, …
    pub topic: &'static str,
    /// `error`, `warning`, `note`, `check`; for an error code its exit code.
    pub severity: &'static str,
    /// Where it is written: an RFC's section, a page of AWS's.
    pub source: &'static str,
    /// What is so.
    pub what: String,
    /// Why it matters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Rule {
    /// How much a finding of this rule weighs; the graver where it depends.
    pub fn level(&self) -> Severity {
        match self.severity {
            "note" => Severity::Note,
            "warning" => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

/// All of them, by topic.
static BOOK: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let mut book = parse("certificates", include_str!("../../docs/rules/cert.md"));
    let template = include_str!("../../docs/rules/template.md");
    book.extend(parse("templates", template));
    let policy = include_str!("../../docs/rules/policy.md");
    book.extend(parse("policies", policy));
    let preflight = include_str!("../../docs/rules/preflight.md");
    book.extend(parse("preflight", preflight));
    book.extend(errors());
    book
});

/// Every rule, check and error code, by topic.
pub fn all() -> &'static [Rule] {
    &BOOK
}

/// What is known of this id, in whatever case. An id that is both a rule and an error code is the rule.
pub fn find(id: &str) -> Option<&'static Rule> {
    BOOK.iter().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

/// The ids that are nearest to a wrong one, nearest first; at most `most`.
pub fn nearest(wrong: &str, most: usize) -> Vec<&'static str> {
    let bound = (wrong.chars().count() / 3).clamp(2, 8);
    let within = |id: &'static str| {
        let last = id.rsplit('.').next().unwrap_or(id);
        let holds = wrong.len() > 2 && (id.contains(wrong) || last == wrong);
        let far = if holds { 1 } else { distance(wrong, id) };
        (far <= bound).then_some((far, id))
    };
    let mut near: Vec<(usize, &str)> = BOOK.iter().filter_map(|rule| within(rule.id)).collect();
    near.sort_unstable();
    near.into_iter().take(most).map(|(_, id)| id).collect()
}

/// The error codes that the reference lists, by what they are about; with what they mean where
/// the page of error codes has it.
fn errors() -> Vec<Rule> {
    let meanings = rows(include_str!("../../docs/rules/errors.md"));
    let reference = include_str!("../../docs/reference.md");
    let table = reference.split("## Error codes").nth(1).unwrap_or_default();
    let mut found = Vec::new();
    for row in rows(table.split("\n## ").next().unwrap_or_default()) {
        let [topic, codes, ..] = row[..] else {
            continue;
        };
        for code in codes.split('`').skip(1).step_by(2) {
            let is_code = code.contains('.') && !code.contains(['/', ' ', '*']);
            if !is_code || found.iter().any(|rule: &Rule| rule.id == code) {
                continue;
            }
            let meaning = meanings.iter().find(|row| row[0].trim_matches('`') == code);
            found.push(of_code(code, topic, meaning));
        }
    }
    found
}

fn of_code(id: &'static str, topic: &'static str, row: Option<&Vec<&'static str>>) -> Rule {
    let (exit, what, remedy) = match row.map(|row| &row[..]) {
        Some([_, exit, what, remedy, ..]) => (*exit, (*what).to_owned(), (*remedy).to_owned()),
        _ => (
            "",
            format!("An error about {topic}; its message and hint say more"),
            String::new(),
        ),
    };
    Rule {
        id,
        topic,
        severity: exit,
        source: "",
        what,
        why: String::new(),
        remedy,
    }
}

/// The cells of every row of the Markdown tables in a page, but for their heads.
fn rows(page: &'static str) -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| {
        let inside = line.strip_prefix("| ")?.trim_end().strip_suffix('|')?;
        Some(inside.split(" | ").map(str::trim).collect::<Vec<_>>())
    };
    page.lines()
        .filter_map(cells)
        .filter(|row| row.len() > 1)
        .collect()
}

/// One `## id` after another: a line `**severity** · source`, then paragraphs, of which `Why: …`
/// and `Do: …` are those two.
pub fn parse(topic: &'static str, page: &'static str) -> Vec<Rule> {
    page.split("\n## ")
        .skip(1)
        .map(|section| one(topic, section))
        .collect()
}

fn one(topic: &'static str, section: &'static str) -> Rule {
    let mut paragraphs = section.split("\n\n").map(str::trim);
    let id = paragraphs.next().unwrap_or_default();
    let head = paragraphs.next().unwrap_or_default();
    let (severity, source) = head.split_once(" · ").unwrap_or((head, ""));
    let mut rule = Rule {
        id,
        topic,
        severity: severity.trim_matches('*'),
        source,
        what: String::new(),
        why: String::new(),
        remedy: String::new(),
    };
    for paragraph in paragraphs {
        let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let (field, text) = match (text.strip_prefix("Why: "), text.strip_prefix("Do: ")) {
            (Some(why), _) => (&mut rule.why, why),
            (_, Some(remedy)) => (&mut rule.remedy, remedy),
            _ => (&mut rule.what, &text[..]),
        };
        field.push_str(text);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_whole() {
        let rules = all().iter().filter(|rule| !rule.source.is_empty());
        let mut count = 0;
        for rule in rules {
            assert!(!rule.what.is_empty() && !rule.why.is_empty(), "{}", rule.id);
            assert!(!rule.remedy.is_empty(), "{}", rule.id);
            let severities = ["error", "warning", "note", "check", "error or warning"];
            assert!(
                severities.contains(&rule.severity),
                "{}: {}",
                rule.id,
                rule.severity
            );
            count += 1;
        }
        assert!(count > 110, "{count}");
    }

    #[test]
    fn what_the_page_of_errors_explains_is_in_the_reference() {
        for row in rows(include_str!("../../docs/rules/errors.md"))
            .iter()
            .skip(1)
        {
            let exits = ["1", "2", "3", "4", "5", "70"];
            let code = row[0].trim_matches('`');
            let rule = find(code).unwrap_or_else(|| panic!("the reference lacks {code}"));
            assert!(
                rule.severity
                    .split(" or ")
                    .all(|exit| exits.contains(&exit)),
                "{code}"
            );
        }
        let unexplained = all().iter().filter(|rule| rule.severity.is_empty());
        let unexplained: Vec<&str> = unexplained.map(|rule| rule.id).collect();
        assert!(unexplained.len() < 60, "{unexplained:?}");
    }

    #[test]
    fn a_slip_is_met_with_what_was_meant() {
        assert_eq!(nearest("cert.verson", 3)[0], "cert.version");
        assert_eq!(nearest("eku-client-auth", 3), ["cert.eku-client-auth"]);
        assert!(nearest("something else altogether", 3).is_empty());
        assert!(nearest("", 3).is_empty());
    }
}
