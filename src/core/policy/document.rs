//! An AWS IoT policy document, parsed once; what AWS IoT calls malformed is refused with its place.

use serde_json::{Map, Value};

use super::condition::{Condition, Operator};
use super::pattern::{Pattern, Syntax};
use crate::core::json;
use crate::explain::{Explain, Kind};

/// The most characters of a document, white space not counted.
pub const MAX_CHARACTERS: usize = 2048;
/// The most characters with white space, as the API model has it.
pub const MAX_WITH_SPACE: usize = 404_600;
/// The deepest nesting read; the language itself needs six levels.
const MAX_DEPTH: usize = 16;

/// What a statement does when it matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// A parsed policy document.
#[derive(Clone, Debug)]
pub struct Document {
    statements: Vec<Statement>,
    version: Option<String>,
    characters: usize,
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its own name for itself.
    pub sid: Option<String>,
    /// What it does.
    pub effect: Effect,
    /// `Action` or `NotAction`; the patterns are in lower case and have no variables.
    pub actions: Selection,
    /// `Resource` or `NotResource`.
    pub resources: Selection,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Where it stands: `$.Statement[0]`, or `$.Statement` when there is no list.
    pub path: String,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Clone, Debug)]
pub struct Selection {
    /// What it lists, in order.
    pub patterns: Vec<Pattern>,
    /// Everything but these.
    pub inverted: bool,
    /// Where it stands: `$.Statement[0].Resource`.
    pub path: String,
    /// Whether it is written as a list.
    pub listed: bool,
}

impl Selection {
    /// Whether it takes in an action, given in lower case; for lists of actions only.
    pub fn has(&self, folded: &str) -> bool {
        let mut patterns = self.patterns.iter();
        patterns.any(|pattern| pattern.fits(folded)) != self.inverted
    }

    /// Where its pattern number `n`, from 0, stands.
    pub fn path_of(&self, n: usize) -> String {
        if self.listed {
            json::item(&self.path, n)
        } else {
            self.path.clone()
        }
    }
}

impl Document {
    /// Parses a document.
    ///
    /// # Errors
    /// `policy.*`: not JSON, over [`MAX_CHARACTERS`], or an element that is not as the policy
    /// language has it.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document = Self::parse_any_size(text)?;
        if document.characters > MAX_CHARACTERS {
            return Err(PolicyError::Size(document.characters));
        }
        Ok(document)
    }

    /// As [`Document::parse`], for documents of up to [`MAX_WITH_SPACE`] characters, which AWS IoT
    /// refuses later than its API model does.
    ///
    /// # Errors
    /// `policy.*`, as [`Document::parse`].
    pub fn parse_any_size(text: &str) -> Result<Self, PolicyError> {
        let characters = text.chars().filter(|c| !c.is_whitespace()).count();
        if text.chars().count() > MAX_WITH_SPACE {
            return Err(PolicyError::Size(characters));
        }
        let value = json::parse(text, MAX_DEPTH)?;
        let root = Element::new("policy", &value).object(&["Version", "Id", "Statement"])?;
        let version = version(root)?;
        let variables = version.as_deref() == Some("2012-10-17");
        let statements = match root.get("Statement") {
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(n, one)| statement(one, &format!("Statement[{n}]"), variables))
                .collect::<Result<_, _>>()?,
            Some(one) => vec![statement(one, "Statement", variables)?],
            None => return Err(element("Statement", "is missing")),
        };
        Ok(Self {
            statements,
            version,
            characters,
        })
    }

    /// How long it is, as AWS IoT counts: in characters that are not white space.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// `Version` as written.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The statements, in order.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

/// The version of the language; only in `2012-10-17` is `${…}` a variable.
fn version(root: &Map<String, Value>) -> Result<Option<String>, PolicyError> {
    match root.get("Version").map(Value::as_str) {
        Some(Some(version @ ("2012-10-17" | "2008-10-17"))) => Ok(Some(version.to_owned())),
        None => Ok(None),
        Some(_) => Err(element("Version", "must be `2012-10-17` (or `2008-10-17`)")),
    }
}

fn statement(value: &Value, path: &str, variables: bool) -> Result<Statement, PolicyError> {
    let known = [
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    ];
    let object = Element::new(path, value).object(&known)?;
    let sid = match object.get("Sid") {
        Some(Value::String(sid)) => Some(sid.clone()),
        Some(_) => return Err(element(format!("{path}.Sid"), "must be a string")),
        None => None,
    };
    let effect = match object.get("Effect").map(Value::as_str) {
        Some(Some("Allow")) => Effect::Allow,
        Some(Some("Deny")) => Effect::Deny,
        Some(_) => {
            return Err(element(
                format!("{path}.Effect"),
                "must be `Allow` or `Deny`",
            ));
        }
        None => return Err(element(format!("{path}.Effect"), "is missing")),
    };
    let part = Part { object, path };
    Ok(Statement {
        sid,
        effect,
        actions: part.actions()?,
        resources: part.resources(variables)?,
        conditions: part.conditions(variables)?,
        path: format!("$.{path}"),
    })
}

/// The texts of one element.
struct Either<'a> {
    texts: Vec<&'a str>,
    inverted: bool,
    path: String,
    listed: bool,
}

/// A statement's object, and where it stands.
struct Part<'a> {
    object: &'a Map<String, Value>,
    path: &'a str,
}

impl Part<'_> {
    fn actions(&self) -> Result<Selection, PolicyError> {
        let Either {
            texts,
            inverted,
            path,
            listed,
        } = self.either("Action", "NotAction")?;
        let syntax = Syntax {
            wildcards: true,
            variables: false,
        };
        let mut patterns = Vec::new();
        for text in texts {
            if text != "*" && !text.contains(':') {
                let problem = format!("`{}` is not an action such as `iot:Connect`", shown(text));
                return Err(element(path, problem));
            }
            patterns.push(Pattern::parse(&text.to_ascii_lowercase(), syntax).written(text));
        }
        Ok(Selection {
            patterns,
            inverted,
            path: format!("$.{path}"),
            listed,
        })
    }

    fn resources(&self, variables: bool) -> Result<Selection, PolicyError> {
        let Either {
            texts,
            inverted,
            path,
            listed,
        } = self.either("Resource", "NotResource")?;
        let syntax = Syntax {
            wildcards: true,
            variables,
        };
        let patterns = texts.iter().map(|text| Pattern::parse(text, syntax));
        Ok(Selection {
            patterns: patterns.collect(),
            inverted,
            path: format!("$.{path}"),
            listed,
        })
    }

    /// The one of two elements that is there.
    fn either(&self, plain: &str, not: &str) -> Result<Either<'_>, PolicyError> {
        let (name, inverted) = match (self.object.get(plain), self.object.get(not)) {
            (Some(_), None) => (plain, false),
            (None, Some(_)) => (not, true),
            (None, None) => {
                return Err(element(format!("{}.{plain}", self.path), "is missing"));
            }
            (Some(_), Some(_)) => {
                let problem = format!("and {not} exclude each other");
                return Err(element(format!("{}.{plain}", self.path), problem));
            }
        };
        let path = format!("{}.{name}", self.path);
        let texts = texts(&self.object[name], &path)?;
        if texts.is_empty() {
            return Err(element(path, "is empty"));
        }
        Ok(Either {
            texts,
            inverted,
            path,
            listed: self.object[name].is_array(),
        })
    }

    fn conditions(&self, variables: bool) -> Result<Vec<Condition>, PolicyError> {
        let path = format!("{}.Condition", self.path);
        let Some(value) = self.object.get("Condition") else {
            return Ok(Vec::new());
        };
        let mut conditions = Vec::new();
        for (name, keys) in Element::new(&path, value).any_object()? {
            let place = json::child(&format!("$.{path}"), name);
            let path = format!("{path}.{name}");
            let operator = Operator::parse(name)
                .ok_or_else(|| element(&path, "is not a condition operator"))?;
            for (key, values) in Element::new(&path, keys).any_object()? {
                let place = json::child(&place, key);
                let listed = values.is_array();
                let values = condition_values(values, &format!("{path}.{key}"))?;
                let syntax = operator.syntax(variables);
                let values = values.iter().map(|text| Pattern::parse(text, syntax));
                conditions.push(Condition {
                    operator,
                    key: key.clone(),
                    values: values.collect(),
                    path: place,
                    listed,
                });
            }
        }
        Ok(conditions)
    }
}

/// A string or a list of strings.
fn texts<'a>(value: &'a Value, path: &str) -> Result<Vec<&'a str>, PolicyError> {
    let list = match value {
        Value::Array(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    list.iter()
        .map(|one| {
            one.as_str()
                .ok_or_else(|| element(path, "must be a string or a list of strings"))
        })
        .collect()
}

/// As [`texts`]; numbers and `true` and `false` may stand without quotes.
fn condition_values(value: &Value, path: &str) -> Result<Vec<String>, PolicyError> {
    let list = match value {
        Value::Array(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    list.iter()
        .map(|one| match one {
            Value::String(text) => Ok(text.clone()),
            Value::Bool(_) | Value::Number(_) => Ok(one.to_string()),
            _ => Err(element(path, "must be a string or a list of strings")),
        })
        .collect()
}

struct Element<'a> {
    path: &'a str,
    value: &'a Value,
}

impl<'a> Element<'a> {
    fn new(path: &'a str, value: &'a Value) -> Self {
        Self { path, value }
    }

    fn any_object(&self) -> Result<&'a Map<String, Value>, PolicyError> {
        self.value
            .as_object()
            .ok_or_else(|| element(self.path, "must be a JSON object"))
    }

    fn object(&self, known: &[&str]) -> Result<&'a Map<String, Value>, PolicyError> {
        let object = self.any_object()?;
        match object.keys().find(|key| !known.contains(&&key[..])) {
            Some(key) => Err(element(
                format!("{}.{key}", self.path),
                "is not an element of an AWS IoT policy",
            )),
            None => Ok(object),
        }
    }
}

/// The user's text, at a length that a message can hold.
fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn element(path: impl Into<String>, problem: impl Into<String>) -> PolicyError {
    PolicyError::Element {
        path: shown(&path.into()),
        problem: problem.into(),
    }
}

/// A policy document that AWS IoT calls malformed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// A part that is missing, unknown, or of the wrong kind.
    #[error("the policy is malformed: `{path}` {problem}")]
    Element {
        /// Where, such as `Statement[0].Effect`.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Not JSON.
    #[error("the policy is not JSON: {message}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser says, with line and column.
        message: String,
    },
    /// Too long.
    #[error(
        "the policy has {0} characters without white space; AWS IoT takes at most {MAX_CHARACTERS}"
    )]
    Size(usize),
}

impl From<json::JsonError> for PolicyError {
    fn from(error: json::JsonError) -> Self {
        Self::Json {
            line: error.line,
            column: error.column,
            message: error.to_string(),
        }
    }
}

impl Explain for PolicyError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Element { .. } => "policy.malformed",
            Self::Json { .. } => "policy.json",
            Self::Size(_) => "policy.size",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Document::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn one_statement_need_not_be_a_list() {
        let text = r#"{"Version":"2012-10-17","Statement":
            {"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}"#;
        assert_eq!(Document::parse(text).unwrap().statements().len(), 1);
    }

    #[test]
    fn malformed_documents_say_where() {
        let with = |statement: &str| {
            problem(&format!(
                r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#
            ))
        };
        for (found, expected) in [
            (problem("{"), "line 1, column 1"),
            (problem("[]"), "`policy` must be a JSON object"),
            (problem("{}"), "`Statement` is missing"),
            (
                problem(r#"{"Version":"2020","Statement":[]}"#),
                "`Version` must be",
            ),
            (
                problem(r#"{"Statement":[],"X":1}"#),
                "`policy.X` is not an element",
            ),
            (with("1"), "`Statement[0]` must be a JSON object"),
            (
                with(r#"{"Effect":"allow","Action":"iot:*","Resource":"*"}"#),
                "[0].Effect` must",
            ),
            (
                with(r#"{"Action":"iot:*","Resource":"*"}"#),
                "[0].Effect` is missing",
            ),
            (
                with(r#"{"Effect":"Allow","Resource":"*"}"#),
                "[0].Action` is missing",
            ),
            (
                with(r#"{"Effect":"Allow","Action":[],"Resource":"*"}"#),
                "[0].Action` is empty",
            ),
            (
                with(r#"{"Effect":"Allow","Action":"Connect","Resource":"*"}"#),
                "is not an action",
            ),
            (
                with(r#"{"Effect":"Allow","Action":"iot:*"}"#),
                "[0].Resource` is missing",
            ),
            (
                with(r#"{"Effect":"Allow","Action":"iot:*","Resource":"*","NotResource":"*"}"#),
                "exclude each other",
            ),
            (
                with(r#"{"Effect":"Allow","Principal":"*","Action":"iot:*","Resource":"*"}"#),
                "[0].Principal` is not an element",
            ),
            (
                with(r#"{"Effect":"Allow","Action":"iot:*","Resource":"*","Condition":{"Eq":{}}}"#),
                "Condition.Eq` is not a condition operator",
            ),
        ] {
            assert!(found.contains(expected), "{found}\n  lacks {expected}");
        }
    }

    #[test]
    fn white_space_does_not_count() {
        let body = |length: usize| {
            let bare = r#"{"Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":""}]}"#;
            let fill = "a".repeat(length - bare.len());
            bare.replace(r#""""#, &format!(r#""{fill}""#))
        };
        let spaces = " \n".repeat(3000);
        assert!(Document::parse(&format!("{spaces}{}", body(2048))).is_ok());
        assert_eq!(
            Document::parse(&body(2049)).unwrap_err(),
            PolicyError::Size(2049)
        );
    }
}
