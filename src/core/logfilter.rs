//! Filter patterns of CloudWatch Logs, as far as records in JSON and their text need them. Source:
//! CloudWatch Logs user guide "Filter pattern syntax".
//!
//! `{ $.reason = "DUPLICATE_CLIENT_ID" && $.sourcePort > 1024 }` looks into JSON; `ERROR "two words"
//! -quiet ?this ?that` looks for terms in the text. An empty pattern fits everything.

use serde_json::Value;

use crate::core::glob::glob;
use crate::explain::{Explain, Kind};

/// The longest pattern (API model).
const MAX_LENGTH: usize = 1024;
/// The deepest nesting of parentheses.
const MAX_DEPTH: usize = 16;

/// A filter pattern.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Terms of the text: all of `needed`, none of `unwanted`, one of `any` if there are some.
    Terms {
        /// Those that must be there.
        needed: Vec<String>,
        /// Those that must not.
        unwanted: Vec<String>,
        /// Those of which one is enough.
        any: Vec<String>,
    },
    /// A condition on JSON.
    Json(Condition),
}

/// A condition on a JSON record.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Both.
    And(Box<Condition>, Box<Condition>),
    /// Either.
    Or(Box<Condition>, Box<Condition>),
    /// One comparison of what stands at a path.
    Is(Vec<Step>, Test),
}

/// One step of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// `.name`
    Member(String),
    /// `[3]`
    Item(usize),
    /// `[*]`
    Each,
}

/// What is asked of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `= "text"`, with `*` for any run of characters.
    Text(String),
    /// `!= "text"`
    NotText(String),
    /// A number, compared.
    Number(Order, f64),
    /// `IS TRUE` or `IS FALSE`.
    Bool(bool),
    /// `IS NULL`
    Null,
    /// `NOT EXISTS`
    Absent,
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// `=`
    Same,
    /// `!=`
    Other,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

/// A filter pattern that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the filter pattern cannot be read at character {at}: {problem}")]
pub struct FilterError {
    /// Where, from 1.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl Explain for FilterError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "logs.filter"
    }
    fn hint(&self) -> Option<String> {
        Some(r#"write it as { $.reason = "DUPLICATE_CLIENT_ID" }, or as words"#.into())
    }
}

impl Filter {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `logs.filter`.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.chars().count() > MAX_LENGTH {
            return Err(FilterError {
                at: MAX_LENGTH,
                problem: "it is longer than 1024 characters",
            });
        }
        let mut reader = Reader { text, at: 0 };
        reader.space();
        if !reader.take("{") {
            return reader.terms();
        }
        let condition = reader.either(0)?;
        reader.space();
        if !reader.take("}") {
            return Err(reader.wrong("`&&`, `||` or `}` belongs here"));
        }
        reader.space();
        if reader.rest().is_empty() {
            Ok(Self::Json(condition))
        } else {
            Err(reader.wrong("nothing may follow the `}`"))
        }
    }

    /// Whether a record, given as its text, fits.
    pub fn fits(&self, text: &str) -> bool {
        match self {
            Self::Terms {
                needed,
                unwanted,
                any,
            } => {
                needed.iter().all(|term| text.contains(&term[..]))
                    && !unwanted.iter().any(|term| text.contains(&term[..]))
                    && (any.is_empty() || any.iter().any(|term| text.contains(&term[..])))
            }
            Self::Json(condition) => {
                serde_json::from_str(text).is_ok_and(|json: Value| condition.holds(&json))
            }
        }
    }
}

impl Condition {
    fn holds(&self, json: &Value) -> bool {
        match self {
            Self::And(a, b) => a.holds(json) && b.holds(json),
            Self::Or(a, b) => a.holds(json) || b.holds(json),
            Self::Is(path, test) => {
                let found = look(json, path);
                match test {
                    Test::Absent => found.is_empty(),
                    test => found.into_iter().any(|value| test.holds(value)),
                }
            }
        }
    }
}

/// What stands at a path; more than one with `[*]`.
fn look<'a>(json: &'a Value, path: &[Step]) -> Vec<&'a Value> {
    let mut found = vec![json];
    for step in path {
        found = found
            .into_iter()
            .flat_map(|value| match (step, value) {
                (Step::Member(name), value) => value.get(name).into_iter().collect(),
                (Step::Item(n), value) => value.get(n).into_iter().collect(),
                (Step::Each, Value::Array(all)) => all.iter().collect(),
                (Step::Each, _) => Vec::new(),
            })
            .collect();
    }
    found
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(wanted), Value::String(text)) => glob(wanted, text),
            (Self::NotText(wanted), Value::String(text)) => !glob(wanted, text),
            (Self::Number(order, wanted), value) => value
                .as_f64()
                .is_some_and(|number| order.holds(number, *wanted)),
            (Self::Bool(wanted), Value::Bool(is)) => wanted == is,
            (Self::Null, value) => value.is_null(),
            _ => false,
        }
    }
}

impl Order {
    fn holds(self, number: f64, wanted: f64) -> bool {
        let order = number.partial_cmp(&wanted);
        order.is_some_and(|order| match self {
            Self::Same => order.is_eq(),
            Self::Other => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, problem: &'static str) -> FilterError {
        FilterError {
            at: self.text[..self.at].chars().count() + 1,
            problem,
        }
    }

    fn space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn terms(&mut self) -> Result<Filter, FilterError> {
        let (mut needed, mut unwanted, mut any) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.space();
            if self.rest().is_empty() {
                return Ok(Filter::Terms {
                    needed,
                    unwanted,
                    any,
                });
            }
            let list = match (self.take("-"), self.take("?")) {
                (true, _) => &mut unwanted,
                (_, true) => &mut any,
                _ => &mut needed,
            };
            let term = if self.rest().starts_with('"') {
                self.quoted()?
            } else {
                self.word(|c| !c.is_whitespace())?
            };
            list.push(term);
        }
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Result<String, FilterError> {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.wrong("a word belongs here"));
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    /// `"…"` with `\"` and `\\` inside.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        let mut escaped = false;
        for (n, c) in self.rest().char_indices() {
            match c {
                _ if escaped => {
                    out.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += n + 1;
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        self.at = start;
        Err(self.wrong("the text has no end"))
    }

    fn either(&mut self, depth: usize) -> Result<Condition, FilterError> {
        let mut left = self.both(depth)?;
        loop {
            self.space();
            if !self.take("||") {
                return Ok(left);
            }
            left = Condition::Or(Box::new(left), Box::new(self.both(depth)?));
        }
    }

    fn both(&mut self, depth: usize) -> Result<Condition, FilterError> {
        let mut left = self.one(depth)?;
        loop {
            self.space();
            if !self.take("&&") {
                return Ok(left);
            }
            left = Condition::And(Box::new(left), Box::new(self.one(depth)?));
        }
    }

    fn one(&mut self, depth: usize) -> Result<Condition, FilterError> {
        self.space();
        if !self.take("(") {
            let path = self.path()?;
            return Ok(Condition::Is(path, self.test()?));
        }
        if depth >= MAX_DEPTH {
            return Err(self.wrong("parentheses are nested too deep"));
        }
        let inner = self.either(depth + 1)?;
        self.space();
        if self.take(")") {
            Ok(inner)
        } else {
            Err(self.wrong("`)` belongs here"))
        }
    }

    /// `$.a.b[0].c`
    fn path(&mut self) -> Result<Vec<Step>, FilterError> {
        if !self.take("$") {
            return Err(self.wrong("a path such as `$.reason` belongs here"));
        }
        let mut path = Vec::new();
        loop {
            if self.take(".") {
                let name = self.word(|c| c.is_alphanumeric() || c == '_' || c == '-')?;
                path.push(Step::Member(name));
            } else if self.take("[") {
                path.push(self.index()?);
            } else if path.is_empty() {
                return Err(self.wrong("`.` and a name belong here"));
            } else {
                return Ok(path);
            }
        }
    }

    fn index(&mut self) -> Result<Step, FilterError> {
        let step = if self.take("*") {
            Step::Each
        } else {
            let digits = self.word(|c| c.is_ascii_digit())?;
            let number = digits
                .parse()
                .map_err(|_| self.wrong("the number is too large"))?;
            Step::Item(number)
        };
        if self.take("]") {
            Ok(step)
        } else {
            Err(self.wrong("`]` belongs here"))
        }
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        self.space();
        for (words, test) in [
            (&["NOT", "EXISTS"][..], Test::Absent),
            (&["IS", "NULL"], Test::Null),
            (&["IS", "TRUE"], Test::Bool(true)),
            (&["IS", "FALSE"], Test::Bool(false)),
        ] {
            if self.keywords(words) {
                return Ok(test);
            }
        }
        // The longer first: `<=` begins as `<` does.
        let orders = [
            ("!=", Order::Other),
            ("<=", Order::AtMost),
            (">=", Order::AtLeast),
            ("=", Order::Same),
            ("<", Order::Less),
            (">", Order::More),
        ];
        let order = orders.into_iter().find(|(token, _)| self.take(token));
        let Some((_, order)) = order else {
            return Err(self.wrong("a comparison such as `=` belongs here"));
        };
        self.space();
        self.value(order)
    }

    fn value(&mut self, order: Order) -> Result<Test, FilterError> {
        let start = self.at;
        let quoted = self.rest().starts_with('"');
        let text = if quoted {
            self.quoted()?
        } else {
            self.word(|c| !c.is_whitespace() && !")}&|".contains(c))?
        };
        match (order, text.parse::<f64>()) {
            (order, Ok(number)) if !quoted => Ok(Test::Number(order, number)),
            (Order::Same, _) => Ok(Test::Text(text)),
            (Order::Other, _) => Ok(Test::NotText(text)),
            _ => {
                self.at = start;
                Err(self.wrong("a number belongs here"))
            }
        }
    }

    /// Words in a row, in any case; nothing is taken unless all are there.
    fn keywords(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        for word in words {
            self.space();
            let rest = self.rest().get(..word.len());
            if !rest.is_some_and(|rest| rest.eq_ignore_ascii_case(word)) {
                self.at = start;
                return false;
            }
            self.at += word.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RECORD: &str = r#"{"logLevel":"ERROR","reason":"DUPLICATE_CLIENT_ID","sourcePort":21335,
        "ok":true,"none":null,"topics":["a","b"],"in":{"deep":"x y"}}"#;

    #[test]
    fn patterns_fit_what_they_say() {
        for (pattern, expected) in [
            ("", true),
            (r#"{$.reason = "DUPLICATE_CLIENT_ID"}"#, true),
            (r#"{ $.reason = "DUPLICATE_CLIENTID" }"#, false),
            ("{ $.reason = DUPLICATE* }", true),
            ("{ $.reason = *CLIENT* && $.logLevel != INFO }", true),
            (
                "{ $.reason = X || ($.sourcePort >= 21335 && $.sourcePort < 3e4) }",
                true,
            ),
            ("{ $.sourcePort != 21335 }", false),
            ("{ $.ok IS TRUE }", true),
            ("{ $.ok is false }", false),
            ("{ $.none IS NULL }", true),
            ("{ $.clientId NOT EXISTS }", true),
            ("{ $.reason NOT EXISTS }", false),
            ("{ $.topics[1] = b }", true),
            ("{ $.topics[*] = c }", false),
            (r#"{ $.in.deep = "x y" }"#, true),
            (
                "{ $.reason = DUPLICATE && $.ok IS TRUE || $.sourcePort = 21335 }",
                true,
            ),
            ("ERROR", true),
            ("ERROR -DUPLICATE_CLIENT_ID", false),
            ("?INFO ?ERROR", true),
            (r#""x y""#, true),
            ("ERROR nothing", false),
        ] {
            let filter = Filter::parse(pattern).unwrap();
            assert_eq!(filter.fits(RECORD), expected, "{pattern}");
        }
        assert!(!Filter::parse("{ $.a = 1 }").unwrap().fits("not JSON"));
    }

    #[test]
    fn what_cannot_be_read_is_shown() {
        for (pattern, at) in [
            ("{ $.a = ", 9),
            ("{ $.a = 1", 10),
            ("{ reason = 1 }", 3),
            ("{ $ = 1 }", 4),
            ("{ $.a ~ 1 }", 7),
            ("{ $.a < \"x\" }", 9),
            ("{ $.a = \"x }", 9),
            ("{ ($.a = 1 }", 12),
            ("{ $.a[x] = 1 }", 7),
            ("{ $.a = 1 } x", 13),
            ("\"x", 1),
        ] {
            let error = Filter::parse(pattern).unwrap_err();
            assert_eq!(error.at, at, "{pattern}: {error}");
        }
        let deep = format!("{{ {}$.a = 1 }}", "(".repeat(5000));
        assert!(Filter::parse(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"[{}$.a-z\[\]*0-9=<>!&|"\\() ü-]{0,40}"#) {
            if let Ok(filter) = Filter::parse(&text) {
                filter.fits(RECORD);
            }
        }

        #[test]
        fn a_star_is_any_run(a in "[a-c]{0,4}", b in "[a-c]{0,4}", c in "[a-c]{0,4}") {
            let pattern = format!("{a}*{c}");
            let text = format!("{a}{b}{c}");
            prop_assert!(glob(&pattern, &text));
        }
    }
}
