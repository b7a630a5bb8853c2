//! `explain`

use std::fmt;

use super::report::{Report, count};
use super::settings::Settings;
use crate::core::rules::{self, Rule};
use crate::explain::{Failure, Kind};

/// Say what a rule, check or error code means, why it matters and what to do
///
/// Without a name: all of them, by what they are about.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// As findings, checks and errors show it in brackets: `cert.eku-client-auth`
    #[arg(value_name = "RULE|CODE")]
    id: Option<String>,
}

/// What is known.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Explained {
    /// One.
    One(Rule),
    /// All.
    All {
        /// In order of topic.
        rules: &'static [Rule],
    },
}

impl Args {
    pub(super) fn run(self, _settings: &Settings) -> Result<Explained, Failure> {
        let Some(id) = self.id else {
            return Ok(Explained::All {
                rules: rules::all(),
            });
        };
        // As it is copied from a line such as `error[cert.version]: …`.
        let bare = id.trim().trim_end_matches(':');
        let bare = bare.rsplit_once('[').map_or(bare, |(_, rest)| rest);
        let bare = bare.trim_end_matches(']').to_ascii_lowercase();
        rules::find(&bare)
            .cloned()
            .map(Explained::One)
            .ok_or_else(|| unknown(&id, &bare))
    }
}

fn unknown(id: &str, bare: &str) -> Failure {
    let near = rules::nearest(bare, 4);
    let message = format!("there is no rule, check or error code `{id}`");
    let hint = if near.is_empty() {
        "`nameplate explain` lists them all".to_owned()
    } else {
        format!("did you mean {}?", near.join(", "))
    };
    Failure::new(Kind::Input, "explain.unknown", message).hint(hint)
}

impl Report for Explained {}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(rule) => write_one(f, rule),
            Self::All { rules } => write_all(f, rules),
        }
    }
}

/// Longer lines are broken between words.
const WIDTH: usize = 90;

fn write_one(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    let is_error_code = rule.severity.starts_with(|c: char| c.is_ascii_digit());
    let weight = match (rule.severity, is_error_code) {
        ("", _) => String::new(),
        (exit, true) => format!(", exit code {exit}"),
        (severity, false) => format!(", {severity}"),
    };
    writeln!(f, "{} ({}{weight})", rule.id, rule.topic)?;
    for (name, text) in [
        ("what", &rule.what[..]),
        ("why", &rule.why),
        ("do", &rule.remedy),
        ("source", rule.source),
    ] {
        let mut label = name;
        for line in broken(text) {
            writeln!(f, "  {label:<8}{line}")?;
            label = "";
        }
    }
    Ok(())
}

fn broken(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn write_all(f: &mut fmt::Formatter<'_>, rules: &[Rule]) -> fmt::Result {
    let mut topic = "";
    for rule in rules {
        if rule.topic != topic {
            topic = rule.topic;
            writeln!(f, "{topic}")?;
        }
        writeln!(f, "  {:<34}{}", rule.id, rule.what)?;
    }
    write!(
        f,
        "{}",
        count(rules.len() as u64, "entry").replace("entrys", "entries")
    )
}
