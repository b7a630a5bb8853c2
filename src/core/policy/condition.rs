//! One condition of a statement: operator, key and the values it is compared with.

use std::fmt;
use std::net::IpAddr;

use super::pattern::{Pattern, Syntax, Unresolved, wildcard};
use super::vars::Facts;
use crate::core::time::UtcTime;

/// How one value of the request is compared with one of the policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Test {
    /// `StringEquals`.
    Equal,
    /// `StringEqualsIgnoreCase`.
    EqualIgnoringCase,
    /// `StringLike`.
    Like,
    /// `ArnEquals` and `ArnLike`, which are one.
    ArnLike,
    /// `Bool`.
    Bool,
    /// `IpAddress`.
    Ip,
    /// `NumericEquals` and its kin.
    Number(Order),
    /// `DateEquals` and its kin.
    Date(Order),
}

/// Which side may be the greater one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// They are the same.
    Equal,
    /// The request's is the lesser one.
    Less,
    /// The lesser one, or the same.
    LessOrEqual,
    /// The request's is the greater one.
    Greater,
    /// The greater one, or the same.
    GreaterOrEqual,
}

/// How a key with several values is treated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quantifier {
    /// No set operator: the key has one value.
    One,
    /// `ForAllValues:`; true when there is none.
    All,
    /// `ForAnyValue:`; false when there is none.
    Any,
}

/// An operator, taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Operator {
    /// How several values are treated.
    pub quantifier: Quantifier,
    /// `…IfExists`: true when the request has no such key.
    pub if_exists: bool,
    /// What is asked.
    pub rule: Rule,
}

/// What an operator asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Whether the key is absent.
    Null,
    /// How a value compares.
    Test {
        /// With one value of the policy.
        test: Test,
        /// `…Not…`: with none of them.
        negated: bool,
    },
}

/// One operator on one key.
#[derive(Clone, Debug)]
pub struct Condition {
    /// How.
    pub operator: Operator,
    /// Which key of the request, as written.
    pub key: String,
    /// With what; one match is enough.
    pub values: Vec<Pattern>,
    /// Where it stands: `$.Statement[0].Condition.StringEquals['iot:ClientId']`.
    pub path: String,
    /// Whether the values are written as a list.
    pub listed: bool,
}

const RULES: [(&str, Test, bool); 25] = [
    ("StringEquals", Test::Equal, false),
    ("StringNotEquals", Test::Equal, true),
    ("StringEqualsIgnoreCase", Test::EqualIgnoringCase, false),
    ("StringNotEqualsIgnoreCase", Test::EqualIgnoringCase, true),
    ("StringLike", Test::Like, false),
    ("StringNotLike", Test::Like, true),
    ("ArnEquals", Test::ArnLike, false),
    ("ArnNotEquals", Test::ArnLike, true),
    ("ArnLike", Test::ArnLike, false),
    ("ArnNotLike", Test::ArnLike, true),
    ("Bool", Test::Bool, false),
    ("IpAddress", Test::Ip, false),
    ("NotIpAddress", Test::Ip, true),
    ("NumericEquals", Test::Number(Order::Equal), false),
    ("NumericNotEquals", Test::Number(Order::Equal), true),
    ("NumericLessThan", Test::Number(Order::Less), false),
    (
        "NumericLessThanEquals",
        Test::Number(Order::LessOrEqual),
        false,
    ),
    ("NumericGreaterThan", Test::Number(Order::Greater), false),
    (
        "NumericGreaterThanEquals",
        Test::Number(Order::GreaterOrEqual),
        false,
    ),
    ("DateEquals", Test::Date(Order::Equal), false),
    ("DateNotEquals", Test::Date(Order::Equal), true),
    ("DateLessThan", Test::Date(Order::Less), false),
    ("DateLessThanEquals", Test::Date(Order::LessOrEqual), false),
    ("DateGreaterThan", Test::Date(Order::Greater), false),
    (
        "DateGreaterThanEquals",
        Test::Date(Order::GreaterOrEqual),
        false,
    ),
];

impl Operator {
    /// Reads `StringEquals`, `ForAllValues:StringLike`, `BoolIfExists`, …; `None` when there is no
    /// such operator.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (quantifier, rest) = match text.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(_) => return None,
            None => (Quantifier::One, text),
        };
        let without_suffix = rest.strip_suffix("IfExists");
        let name = without_suffix.unwrap_or(rest);
        // `NullIfExists` would be a contradiction, and is none of IAM's operators.
        let rule = if rest == "Null" {
            Rule::Null
        } else {
            let &(_, kind, negated) = RULES.iter().find(|(known, ..)| *known == name)?;
            Rule::Test {
                test: kind,
                negated,
            }
        };
        Some(Self {
            quantifier,
            if_exists: without_suffix.is_some(),
            rule,
        })
    }

    /// What is special in the values it is given.
    pub(super) fn syntax(self, variables: bool) -> Syntax {
        let wildcards = matches!(
            self.rule,
            Rule::Test {
                test: Test::Like | Test::ArnLike,
                ..
            }
        );
        Syntax {
            wildcards,
            variables,
        }
    }
}

impl fmt::Display for Operator {
    /// As policies write it, but for what has two names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.quantifier {
            Quantifier::One => "",
            Quantifier::All => "ForAllValues:",
            Quantifier::Any => "ForAnyValue:",
        })?;
        let name = match self.rule {
            Rule::Null => Some("Null"),
            Rule::Test { test, negated } => {
                let row = RULES.iter().rev();
                let mut row = row.filter(|row| (row.1, row.2) == (test, negated));
                row.next().map(|row| row.0)
            }
        };
        f.write_str(name.unwrap_or_default())?;
        f.write_str(if self.if_exists { "IfExists" } else { "" })
    }
}

impl Operator {
    /// Why a value without variables can never be met by any request; `None` when it can.
    pub fn value_problem(self, value: &str) -> Option<&'static str> {
        let Rule::Test { test, .. } = self.rule else {
            return boolean(value);
        };
        match test {
            Test::Equal | Test::EqualIgnoringCase | Test::Like => None,
            Test::ArnLike => {
                let is_arn = value.splitn(6, ':').count() == 6;
                (!is_arn).then_some("is not an ARN of six parts")
            }
            Test::Bool => boolean(value),
            Test::Ip => network(value)
                .is_none()
                .then_some("is neither an address nor a network such as 203.0.113.0/24"),
            Test::Number(_) => value.parse::<f64>().err().map(|_| "is not a number"),
            Test::Date(_) => instant(value)
                .is_none()
                .then_some("is not a date such as 2027-01-31T12:00:00Z"),
        }
    }
}

fn boolean(value: &str) -> Option<&'static str> {
    let fits = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
    (!fits).then_some("is neither `true` nor `false`")
}

impl Condition {
    /// Whether what is known meets it; a variable without a value does not.
    pub fn met(&self, facts: &Facts) -> bool {
        self.holds(facts) == Ok(true)
    }

    /// Whether the request meets it.
    ///
    /// # Errors
    /// A variable in a value has nothing to be replaced with: the condition is then not met.
    pub(super) fn holds<'a>(&'a self, facts: &'a Facts) -> Result<bool, Unresolved<'a>> {
        let present = facts.values(&self.key);
        let (test, negated) = match self.operator.rule {
            Rule::Null => return self.null(present.is_empty(), facts),
            Rule::Test { test, negated } => (test, negated),
        };
        if present.is_empty() {
            return Ok(self.absent(negated));
        }
        let passes = |value: &String| {
            self.any_value(test, value, facts)
                .map(|found| found != negated)
        };
        match self.operator.quantifier {
            Quantifier::One => passes(&present[0]),
            Quantifier::All => all(present, passes),
            Quantifier::Any => all(present, |value| passes(value).map(|yes| !yes)).map(|no| !no),
        }
    }

    /// The outcome when the request has no such key.
    fn absent(&self, negated: bool) -> bool {
        match self.operator.quantifier {
            Quantifier::All => true,
            Quantifier::Any => self.operator.if_exists,
            Quantifier::One => negated || self.operator.if_exists,
        }
    }

    fn null<'a>(&'a self, absent: bool, facts: &'a Facts) -> Result<bool, Unresolved<'a>> {
        self.any(|value| {
            let wanted = value.text(facts)?;
            Ok(wanted.eq_ignore_ascii_case(if absent { "true" } else { "false" }))
        })
    }

    fn any_value<'a>(
        &'a self,
        test: Test,
        value: &str,
        facts: &'a Facts,
    ) -> Result<bool, Unresolved<'a>> {
        self.any(|wanted| match test {
            Test::Like => wanted.matches(value, facts),
            _ => wanted
                .text(facts)
                .map(|wanted| passes(test, value, &wanted)),
        })
    }

    fn any<'a>(
        &'a self,
        check: impl Fn(&'a Pattern) -> Result<bool, Unresolved<'a>>,
    ) -> Result<bool, Unresolved<'a>> {
        let mut found = false;
        for value in &self.values {
            found |= check(value)?;
        }
        Ok(found)
    }
}

fn all<'a>(
    values: &[String],
    check: impl Fn(&String) -> Result<bool, Unresolved<'a>>,
) -> Result<bool, Unresolved<'a>> {
    for value in values {
        if !check(value)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn passes(test: Test, value: &str, wanted: &str) -> bool {
    match test {
        Test::Equal => value == wanted,
        Test::EqualIgnoringCase | Test::Bool => value.eq_ignore_ascii_case(wanted),
        Test::Like => wildcard(wanted, value),
        Test::ArnLike => arn_like(value, wanted),
        Test::Ip => ip_in(value, wanted),
        Test::Number(order) => compare(value.parse::<f64>().ok(), wanted.parse().ok(), order),
        Test::Date(order) => compare(instant(value), instant(wanted), order),
    }
}

/// Each of an ARN's six parts by itself, so that a `*` does not reach over a colon before the
/// resource.
fn arn_like(value: &str, wanted: &str) -> bool {
    let parts = |text: &str| -> Vec<String> { text.splitn(6, ':').map(str::to_owned).collect() };
    let (value, wanted) = (parts(value), parts(wanted));
    let fits = |(wanted, value): (&String, &String)| wildcard(wanted, value);
    value.len() == 6 && wanted.len() == 6 && wanted.iter().zip(&value).all(fits)
}

/// Whether an address lies in `203.0.113.0/24` or is the one named.
fn ip_in(value: &str, wanted: &str) -> bool {
    let (Ok(value), Some((network, bits))) = (value.parse::<IpAddr>(), network(wanted)) else {
        return false;
    };
    let within = |value: u128, network: u128, width: u32| {
        let shift = width - bits;
        shift == width || value >> shift == network >> shift
    };
    match (value, network) {
        (IpAddr::V4(v), IpAddr::V4(n)) => within(v.to_bits().into(), n.to_bits().into(), 32),
        (IpAddr::V6(v), IpAddr::V6(n)) => within(v.to_bits(), n.to_bits(), 128),
        _ => false,
    }
}

/// An address and the number of its bits that count; `None` when the text is neither `203.0.113.9`
/// nor `203.0.113.0/24`, of either family.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    (bits <= width).then_some((address, bits))
}

/// An instant as IAM writes it: RFC 3339, or seconds since 1970.
fn instant(text: &str) -> Option<UtcTime> {
    match text.parse::<i64>() {
        Ok(seconds) if text.len() > 4 => Some(UtcTime::from_unix(seconds)),
        _ => text.parse().ok(),
    }
}

fn compare<T: PartialOrd>(value: Option<T>, wanted: Option<T>, order: Order) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (Some(value), Some(wanted)) = (value, wanted) else {
        return false;
    };
    let Some(found) = value.partial_cmp(&wanted) else {
        return false;
    };
    match order {
        Order::Equal => found == Equal,
        Order::Less => found == Less,
        Order::LessOrEqual => found != Greater,
        Order::Greater => found == Greater,
        Order::GreaterOrEqual => found != Less,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(operator: &str, key: &str, values: &[&str], facts: &Facts) -> bool {
        let operator = Operator::parse(operator).unwrap();
        let syntax = operator.syntax(true);
        let condition = Condition {
            operator,
            key: key.into(),
            values: values.iter().map(|v| Pattern::parse(v, syntax)).collect(),
            path: String::new(),
            listed: true,
        };
        condition.holds(facts) == Ok(true)
    }

    /// The truth table of §"Connect attributes" in the developer guide.
    #[test]
    fn connect_attributes() {
        let sets: [&[&str]; 4] = [
            &[],
            &["PersistentConnect"],
            &["LastWill"],
            &["PersistentConnect", "LastWill"],
        ];
        for (operator, values, expected) in [
            (
                "ForAllValues:StringEquals",
                vec![],
                [true, false, false, false],
            ),
            (
                "ForAllValues:StringEquals",
                vec!["PersistentConnect"],
                [true, true, false, false],
            ),
            (
                "ForAllValues:StringEquals",
                vec!["LastWill"],
                [true, false, true, false],
            ),
            (
                "ForAllValues:StringEquals",
                vec!["PersistentConnect", "LastWill"],
                [true, true, true, true],
            ),
            (
                "ForAnyValue:StringEquals",
                vec!["PersistentConnect"],
                [false, true, false, true],
            ),
            (
                "ForAllValues:StringNotEquals",
                vec!["PersistentConnect"],
                [true, false, true, false],
            ),
        ] {
            for (set, expected) in sets.iter().zip(expected) {
                let facts = Facts::new("x").connect_attributes(set);
                let found = holds(operator, "iot:ConnectAttributes", &values, &facts);
                assert_eq!(found, expected, "{operator} {values:?} {set:?}");
            }
        }
    }

    #[test]
    fn operators_and_absent_keys() {
        let facts = Facts::new("pump-1")
            .with("k", vec!["Value".into()])
            .with("n", vec!["7".into()])
            .with("t", vec!["2026-01-01T00:00:00Z".into()])
            .with("ip", vec!["203.0.113.9".into()])
            .with("arn", vec!["arn:aws:iot:eu-west-1:1:topic/a/b".into()]);
        for (operator, key, values, expected) in [
            ("StringEquals", "k", vec!["Value"], true),
            ("StringEquals", "k", vec!["value", "Value"], true),
            ("StringEquals", "k", vec!["V*"], false),
            ("StringNotEquals", "k", vec!["a", "Value"], false),
            ("StringNotEquals", "k", vec!["a", "b"], true),
            ("StringEqualsIgnoreCase", "k", vec!["vALUE"], true),
            ("StringLike", "k", vec!["V*e"], true),
            ("StringNotLike", "k", vec!["V*"], false),
            ("StringEquals", "none", vec!["x"], false),
            ("StringNotEquals", "none", vec!["x"], true),
            ("StringEqualsIfExists", "none", vec!["x"], true),
            ("StringEqualsIfExists", "k", vec!["x"], false),
            ("ForAllValues:StringEquals", "none", vec!["x"], true),
            ("ForAnyValue:StringEquals", "none", vec!["x"], false),
            ("Null", "none", vec!["true"], true),
            ("Null", "k", vec!["true"], false),
            ("Null", "k", vec!["false"], true),
            (
                "Bool",
                "iot:Connection.Thing.IsAttached",
                vec!["false"],
                true,
            ),
            (
                "Bool",
                "iot:Connection.Thing.IsAttached",
                vec!["true"],
                false,
            ),
            ("IpAddress", "ip", vec!["203.0.113.0/24"], true),
            ("IpAddress", "ip", vec!["203.0.113.8"], false),
            ("IpAddress", "ip", vec!["0.0.0.0/0"], true),
            ("IpAddress", "ip", vec!["nonsense"], false),
            ("IpAddress", "ip", vec!["203.0.113.9/33"], false),
            ("IpAddress", "ip", vec!["::/0"], false),
            ("NotIpAddress", "ip", vec!["203.0.113.0/24"], false),
            ("ArnLike", "arn", vec!["arn:aws:iot:*:1:topic/a/*"], true),
            ("ArnEquals", "arn", vec!["arn:aws:iot:*:2:topic/a/*"], false),
            ("ArnLike", "arn", vec!["*"], false),
            ("NumericLessThan", "n", vec!["8"], true),
            ("NumericGreaterThanEquals", "n", vec!["8"], false),
            ("DateLessThan", "t", vec!["2027-01-01T00:00:00Z"], true),
            ("DateLessThanEquals", "t", vec!["1767225600"], true),
            ("DateGreaterThanEquals", "t", vec!["1767225601"], false),
            ("DateNotEquals", "t", vec!["2026-01-01T00:00:00Z"], false),
            (
                "StringEquals",
                "iot:ClientId",
                vec!["${iot:ClientId}"],
                true,
            ),
            (
                "StringEquals",
                "k",
                vec!["${iot:Connection.Thing.ThingName}"],
                false,
            ),
            (
                "StringNotEquals",
                "k",
                vec!["${iot:Connection.Thing.ThingName}"],
                false,
            ),
        ] {
            let found = holds(operator, key, &values, &facts);
            assert_eq!(found, expected, "{operator} {key} {values:?}");
        }
    }

    #[test]
    fn unknown_operators_are_refused() {
        for bad in [
            "StringEqual",
            "ForSomeValues:StringEquals",
            "",
            "stringequals",
            "NullIfExists",
        ] {
            assert_eq!(Operator::parse(bad), None, "{bad}");
        }
    }
}
