//! Variables: whether there are such, whether they can have a value, and how they are written.

use super::{Board, Case, shown};
use crate::core::near;
use crate::core::policy::{Action, Family, Known, Pattern, all_names, find_variable, successor};

/// The most values of one certificate attribute that AWS IoT keeps.
const KEPT: usize = 5;

pub(super) fn judge(case: &Case<'_>, board: &mut Board<'_>) {
    for entry in &case.entries {
        let serves = if case.inverted() {
            &case.actions
        } else {
            &entry.serves
        };
        let text = Text {
            pattern: entry.pattern,
            path: &entry.path,
            serves,
        };
        text.judge(case, board);
    }
    for condition in &case.statement.conditions {
        for (n, pattern) in condition.values.iter().enumerate() {
            let path = if condition.listed {
                crate::core::json::item(&condition.path, n)
            } else {
                condition.path.clone()
            };
            let text = Text {
                pattern,
                path: &path,
                serves: &case.actions,
            };
            text.judge(case, board);
        }
    }
}

/// A text that may hold variables, and the actions that it is read for.
struct Text<'a> {
    pattern: &'a Pattern,
    path: &'a str,
    serves: &'a [Action],
}

impl Text<'_> {
    fn judge(&self, case: &Case<'_>, board: &mut Board<'_>) {
        self.syntax(case, board);
        for name in self.pattern.variables() {
            match (find_variable(name), successor(name)) {
                (Some(known), _) => self.known(name, known, case, board),
                (None, Some(now)) => {
                    let message = format!("${{{name}}} is an old name; today it is ${{{now}}}");
                    board.add("policy.variable-stale", case.at(self.path), message);
                    self.rename(name, &now, board);
                }
                (None, None) => {
                    let all: Vec<&str> = all_names().collect();
                    let meant = near::meant(name, &all)
                        .map_or_else(String::new, |meant| format!("; did you mean ${{{meant}}}?"));
                    let message = format!("there is no variable ${{{}}}{meant}", shown(name));
                    board.add("policy.variable-unknown", case.at(self.path), message);
                }
            }
        }
    }

    fn rename(&self, from: &str, to: &str, board: &mut Board<'_>) {
        let text = self.pattern.as_written();
        let now = text.replace(&format!("${{{from}}}"), &format!("${{{to}}}"));
        board.mend(text, now);
    }

    fn known(&self, name: &str, known: Known, case: &Case<'_>, board: &mut Board<'_>) {
        let spot = case.at(self.path);
        if known.many {
            let message = format!("${{{name}}} is a list, and nothing can be put in its place");
            board.add("policy.variable-list", spot, message);
        } else if known.family == Family::Connect && !self.serves.contains(&Action::Connect) {
            let message = format!("${{{name}}} is known for iot:Connect only");
            board.add("policy.variable-here", spot, message);
        } else if matches!(known.family, Family::Thing | Family::Connection)
            && !self.serves.is_empty()
            && !self.serves.iter().any(|action| action.is_mqtt())
        {
            let asked = super::names(self.serves);
            let message = format!(
                "${{{name}}} has no value for {asked}, which is asked over HTTPS without a connection"
            );
            board.add("policy.variable-here", spot, message);
        }
        self.index(name, case, board);
        let canonical = canonical(name, known);
        if canonical != name {
            let message = format!("${{{name}}} is documented as ${{{canonical}}}");
            board.add("policy.variable-case", case.at(self.path), message);
            self.rename(name, &canonical, board);
        }
    }

    fn index(&self, name: &str, case: &Case<'_>, board: &mut Board<'_>) {
        let last = name.rsplit('.').next().unwrap_or_default();
        let Ok(index) = last.parse::<usize>() else {
            return;
        };
        if index >= KEPT {
            let message =
                format!("${{{name}}} has never a value: AWS IoT keeps the first {KEPT} only");
            board.add("policy.variable-index", case.at(self.path), message);
        }
    }

    /// Text that looks like a variable and is none.
    fn syntax(&self, case: &Case<'_>, board: &mut Board<'_>) {
        let text = self.pattern.as_written();
        let mut rest = text;
        let mut open = false;
        while let Some(start) = rest.find("${") {
            match rest[start..].split_once('}') {
                Some((inside, after)) if inside.len() > 2 => rest = after,
                _ => {
                    open = true;
                    break;
                }
            }
        }
        let round = ["$(*)", "$(?)", "$($)"]
            .iter()
            .any(|form| text.contains(form));
        let bare = text.contains("{iot:")
            && text.matches("{iot:").count() > text.matches("${iot:").count();
        if open || round || bare {
            let message = format!("`{}` holds no whole variable: write ${{name}}", shown(text));
            board.add("policy.variable-syntax", case.at(self.path), message);
            if round && !open && !bare {
                let now = text
                    .replace("$(*)", "${*}")
                    .replace("$(?)", "${?}")
                    .replace("$($)", "${$}");
                board.mend(text, now);
            }
        }
    }
}

/// The name as documented, with the index or `.List` as it should be.
fn canonical(name: &str, known: Known) -> String {
    if let Some((_, attribute)) = name.split_once('[') {
        return format!("iot:Connection.Thing.Attributes[{attribute}");
    }
    let suffix = name.get(known.name.len()..).unwrap_or_default();
    if suffix.eq_ignore_ascii_case(".list") {
        return format!("{}.List", known.name);
    }
    format!("{}{suffix}", known.name)
}
