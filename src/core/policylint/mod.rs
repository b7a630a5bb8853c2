//! What is wrong or doubtful in an AWS IoT policy.
//!
//! Every rule is explained in `docs/rules/policy.md`, which also says how much it weighs. Two
//! carry the names of the AWS IoT Device Defender audit checks whose criteria they follow. What can
//! be mended with certainty comes with its `Fix`.

mod broad;
mod conditions;
mod denies;
mod edit;
mod resources;
mod shape;
mod variables;
mod whole;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use edit::{Fix, Fixed, fix};
use shape::Shape;

use crate::core::finding::{Finding, Placed, Severity};
use crate::core::ids::{AccountId, Region};
use crate::core::json::Places;
use crate::core::policy::{
    Action, Document, Effect, MAX_CHARACTERS, Pattern, Piece, PolicyError, Rule, Statement, Test,
};
use crate::core::rules;

/// Longer documents are told of, and not looked at further: AWS IoT takes none of them.
const MAX_JUDGED: usize = 4 * MAX_CHARACTERS;

/// How to judge.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The Region that the policy is for.
    pub region: Option<Region>,
    /// The account that the policy is for.
    pub account: Option<AccountId>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Linted {
    /// In order of place.
    pub findings: Vec<Placed>,
    /// What would mend some of them.
    pub fixes: Vec<Fix>,
}

/// Judges one document.
pub fn lint(text: &str, request: &Request) -> Linted {
    let places = Places::of(text);
    let mut board = Board {
        places,
        linted: Linted::default(),
    };
    match Document::parse_any_size(text) {
        Err(error) => unreadable(&error, &mut board),
        Ok(document) => judge(&document, request, &mut board),
    }
    let mut linted = board.linted;
    linted
        .findings
        .sort_by_key(|placed| (placed.line, placed.column));
    linted
}

fn judge(document: &Document, request: &Request, board: &mut Board<'_>) {
    whole::size(document, board);
    if document.characters() > MAX_JUDGED {
        return;
    }
    let cases: Vec<Case<'_>> = document.statements().iter().map(Case::new).collect();
    let variables = document.version() == Some("2012-10-17");
    for case in &cases {
        resources::judge(case, request, board);
        conditions::judge(case, board);
        if variables {
            variables::judge(case, board);
        }
        broad::judge(case, board);
    }
    denies::judge(&cases, board);
    whole::judge(document, &cases, board);
}

fn unreadable(error: &PolicyError, board: &mut Board<'_>) {
    let (rule, path) = match error {
        PolicyError::Json { .. } => ("policy.json", "$".to_owned()),
        PolicyError::Size(_) => ("policy.size", "$".to_owned()),
        PolicyError::Element { path, .. } => {
            let below = path.strip_prefix("policy").unwrap_or(path);
            let dot = if below.is_empty() || below.starts_with('.') {
                ""
            } else {
                "."
            };
            ("policy.malformed", format!("${dot}{below}"))
        }
    };
    board.add(rule, (&path, None), error.to_string());
    if let (PolicyError::Json { line, column, .. }, Some(placed)) =
        (error, board.linted.findings.last_mut())
    {
        // The parser counts columns from 0 where a line ends too early.
        (placed.line, placed.column) = (Some(*line), Some((*column).max(1)));
    }
}

/// Findings as they are made, each with its rule's severity and remedy.
struct Board<'a> {
    places: Places<'a>,
    linted: Linted,
}

/// A JSON path, and the name of the statement that it is in.
type Spot<'a> = (&'a str, Option<&'a str>);

impl Board<'_> {
    fn add(&mut self, rule: &'static str, (path, sid): Spot<'_>, message: impl Into<String>) {
        let known = rules::find(rule);
        let severity = known.map_or(Severity::Error, rules::Rule::level);
        let mut finding = Finding::new(severity, rule, path, message);
        finding.remedy = known.map(|rule| rule.remedy.clone());
        let (line, column) = self.places.find(path);
        self.linted.findings.push(Placed {
            line: Some(line),
            column: Some(column),
            subject: sid.map(str::to_owned),
            ..finding.into()
        });
    }

    /// Gives the finding that was added last another weight.
    fn weigh(&mut self, severity: Severity) {
        if let Some(placed) = self.linted.findings.last_mut() {
            placed.finding.severity = severity;
        }
    }

    /// Adds what mends the finding that was added last: another value for a string.
    fn mend(&mut self, from: &str, to: impl Into<Value>) {
        if let Some(placed) = self.linted.findings.last() {
            self.linted.fixes.push(Fix {
                rule: placed.finding.rule,
                path: placed.finding.path.clone(),
                from: from.to_owned(),
                to: to.into(),
            });
        }
    }
}

/// One statement under judgement.
struct Case<'a> {
    statement: &'a Statement,
    /// The data-plane actions that it speaks of.
    actions: Vec<Action>,
    entries: Vec<Entry<'a>>,
}

/// One of its resources.
struct Entry<'a> {
    pattern: &'a Pattern,
    path: String,
    shape: Shape,
    /// Those of the statement's actions that can be asked for on it.
    serves: Vec<Action>,
}

impl<'a> Case<'a> {
    fn new(statement: &'a Statement) -> Self {
        let actions: Vec<Action> = Action::all()
            .filter(|action| statement.actions.has(action.folded()))
            .collect();
        let resources = &statement.resources;
        let entries = resources.patterns.iter().enumerate().map(|(n, pattern)| {
            let shape = Shape::of(pattern);
            let serves = actions.iter().copied();
            Entry {
                serves: serves.filter(|action| shape.serves(*action)).collect(),
                path: resources.path_of(n),
                pattern,
                shape,
            }
        });
        Self {
            entries: entries.collect(),
            actions,
            statement,
        }
    }

    fn allows(&self) -> bool {
        self.statement.effect == Effect::Allow
    }

    fn denies(&self) -> bool {
        self.statement.effect == Effect::Deny
    }

    /// Everything but its resources is meant.
    fn inverted(&self) -> bool {
        self.statement.resources.inverted
    }

    fn sid(&self) -> Option<&'a str> {
        self.statement.sid.as_deref()
    }

    fn at<'p>(&self, path: &'p str) -> Spot<'p>
    where
        'a: 'p,
    {
        (path, self.sid())
    }

    /// Whether it holds only where the certificate is attached to the thing.
    fn wants_attached(&self) -> bool {
        let key = "iot:Connection.Thing.IsAttached";
        self.statement.conditions.iter().any(|condition| {
            let equal = matches!(
                condition.operator.rule,
                Rule::Test {
                    test: Test::Bool | Test::Equal | Test::EqualIgnoringCase,
                    negated: false
                }
            );
            let certain = equal && !condition.operator.if_exists;
            let only_true = condition.values.iter().all(|value| {
                matches!(value.pieces(), [Piece::Literal(text)] if text.eq_ignore_ascii_case("true"))
            });
            certain && only_true && condition.key.eq_ignore_ascii_case(key)
        })
    }
}

/// `iot:Publish`, `iot:Publish and iot:Receive`, `iot:Publish, iot:Receive and 3 more`.
fn names(actions: &[Action]) -> String {
    let all: Vec<&str> = actions.iter().map(|action| action.name()).collect();
    match &all[..] {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}

/// The user's text, at a length that a message can hold.
fn shown(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
