//! Text with wildcards and variables, taken apart once. `*` is any run of characters including `/`,
//! `?` is exactly one; MQTT's `+` and `#` mean nothing here.

use super::vars::Facts;

/// One part of a pattern. Literals never touch each other, nor does [`Piece::Any`] itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Piece {
    /// The text itself; escapes such as `${*}` are resolved.
    Literal(String),
    /// `*`: any run of characters, none included.
    Any,
    /// `?`: exactly one character.
    One,
    /// `${key}`, by its name as written.
    Variable(String),
}

/// What is special in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    /// `*` and `?` stand for other text.
    pub(super) wildcards: bool,
    /// `${key}` stands for a value.
    pub(super) variables: bool,
}

/// A parsed pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    pieces: Vec<Piece>,
    text: String,
}

/// A variable that has no value to put in its place: its name as written in the policy.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Unresolved<'a>(pub(super) &'a str);

#[derive(Clone, Copy, Debug)]
enum Token<'a> {
    Literal(&'a str),
    Any,
    One,
}

impl Pattern {
    /// Takes a text apart. `${*}`, `${?}` and `${$}` are those characters themselves.
    pub(super) fn parse(text: &str, syntax: Syntax) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        // Behind it no variable ends, so that none is looked for.
        let last = text.rfind('}').filter(|_| syntax.variables);
        while let Some(c) = rest.chars().next() {
            let at = text.len() - rest.len();
            let variable = last.filter(|last| at < *last).and_then(|_| variable(rest));
            let (piece, length) = match (c, variable) {
                ('$', Some((name @ ("*" | "?" | "$"), length))) => {
                    (Piece::Literal(name.to_owned()), length)
                }
                ('$', Some((name, length))) => (Piece::Variable(name.to_owned()), length),
                ('*', _) if syntax.wildcards => (Piece::Any, 1),
                ('?', _) if syntax.wildcards => (Piece::One, 1),
                (c, _) => (Piece::Literal(c.to_string()), c.len_utf8()),
            };
            push(&mut pieces, piece);
            rest = &rest[length..];
        }
        Self {
            pieces,
            text: text.to_owned(),
        }
    }

    /// With another text as the one written.
    pub(super) fn written(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// What it is made of, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// As it is written in the document.
    pub fn as_written(&self) -> &str {
        &self.text
    }

    /// The variables in it, by their names as written.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(&name[..]),
            _ => None,
        })
    }

    /// Whether the whole of `text` fits.
    pub(super) fn matches<'a>(
        &'a self,
        text: &str,
        facts: &'a Facts,
    ) -> Result<bool, Unresolved<'a>> {
        // A cheap no first: a variable is only missed where its value could have mattered.
        if let Some(Piece::Literal(start)) = self.pieces.first()
            && !text.starts_with(&start[..])
        {
            return Ok(false);
        }
        let mut tokens = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => tokens.push(Token::Literal(literal)),
                Piece::Any => tokens.push(Token::Any),
                Piece::One => tokens.push(Token::One),
                Piece::Variable(key) => {
                    let value = facts.substitute(key).ok_or(Unresolved(key))?;
                    push_value(&mut tokens, value);
                }
            }
        }
        Ok(glob(|n| tokens.get(n).copied(), text))
    }

    /// Whether the whole of `text` fits a pattern that has no variables.
    pub fn fits(&self, text: &str) -> bool {
        let token = |n| {
            Some(match self.pieces.get(n)? {
                &Piece::Any => Token::Any,
                &Piece::One => Token::One,
                Piece::Literal(text) | Piece::Variable(text) => Token::Literal(text),
            })
        };
        glob(token, text)
    }

    /// The pattern with the facts put into it, once and for all.
    pub(super) fn fixed<'a>(&'a self, facts: &'a Facts) -> Result<Fixed, Unresolved<'a>> {
        let mut tokens = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => tokens.push(Token::Literal(literal)),
                Piece::Any => tokens.push(Token::Any),
                Piece::One => tokens.push(Token::One),
                Piece::Variable(key) => {
                    push_value(&mut tokens, facts.substitute(key).ok_or(Unresolved(key))?);
                }
            }
        }
        Ok(Fixed::of(&tokens))
    }

    /// The pattern as plain text, variables replaced, wildcards as they are written.
    pub(super) fn text<'a>(&'a self, facts: &'a Facts) -> Result<String, Unresolved<'a>> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Any => text.push('*'),
                Piece::One => text.push('?'),
                Piece::Variable(key) => {
                    text.push_str(facts.substitute(key).ok_or(Unresolved(key))?);
                }
            }
        }
        Ok(text)
    }
}

/// The name inside `${…}` at the start of `rest`, and how many bytes it takes up.
fn variable(rest: &str) -> Option<(&str, usize)> {
    let inside = rest.strip_prefix("${")?;
    let end = inside.find('}')?;
    #[cfg(test)]
    tests::LOOKED_AT.set(tests::LOOKED_AT.get() + end);
    (end > 0).then(|| (&inside[..end], end + 3))
}

/// Adds a piece; literals that touch become one.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (Some(Piece::Literal(before)), Piece::Literal(more)) => before.push_str(&more),
        (Some(Piece::Any), Piece::Any) => {}
        (_, piece) => pieces.push(piece),
    }
}

/// A value put into a pattern. Only a client id can hold `*` or `?` ([`Facts::substitute`] holds
/// back the others), and there they widen the policy, as the developer guide warns.
fn push_value<'a>(tokens: &mut Vec<Token<'a>>, value: &'a str) {
    let mut rest = value;
    while let Some(at) = rest.find(['*', '?']) {
        tokens.push(Token::Literal(&rest[..at]));
        tokens.push(if rest.as_bytes()[at] == b'*' {
            Token::Any
        } else {
            Token::One
        });
        rest = &rest[at + 1..];
    }
    tokens.push(Token::Literal(rest));
}

/// Greedy, with one place to come back to: the last `*`. At most text × text steps, however many
/// tokens there are.
#[inline]
fn glob<'t>(tokens: impl Fn(usize) -> Option<Token<'t>>, text: &str) -> bool {
    let (mut token, mut rest) = (0, text);
    let mut star: Option<(usize, &str)> = None;
    loop {
        let step = match tokens(token) {
            None if rest.is_empty() => return true,
            None => None,
            Some(Token::Any) if tokens(token + 1).is_none() => return true,
            Some(Token::Any) => {
                star = Some((token + 1, rest));
                Some(rest)
            }
            Some(Token::One) => without_first(rest),
            Some(Token::Literal(literal)) => rest.strip_prefix(literal),
        };
        if let Some(after) = step {
            (token, rest) = (token + 1, after);
            continue;
        }
        // Let the last star eat at least one more character, up to where it can go on.
        let more = star.and_then(|(again, from)| {
            let from = without_first(from)?;
            match tokens(again) {
                Some(Token::Literal(next)) => Some((again, &from[from.find(next)?..])),
                _ => Some((again, from)),
            }
        });
        let Some((again, from)) = more else {
            return false;
        };
        star = Some((again, from));
        (token, rest) = (again, from);
    }
}

/// A pattern without variables, in the cheapest form that does.
#[derive(Clone, Debug)]
pub(super) enum Fixed {
    /// `*`.
    Everything,
    /// No wildcard.
    Exactly(Box<str>),
    /// One `*`, at the end.
    Begins(Box<str>),
    /// Anything else.
    Mixed(Box<[FixedToken]>),
}

/// As [`Token`], owned.
#[derive(Clone, Debug)]
pub(super) enum FixedToken {
    Literal(Box<str>),
    Any,
    One,
}

impl Fixed {
    fn of(tokens: &[Token<'_>]) -> Self {
        let mut joined: Vec<FixedToken> = Vec::with_capacity(tokens.len());
        let mut literal = String::new();
        for token in tokens {
            if let Token::Literal(text) = token {
                literal.push_str(text);
                continue;
            }
            if !literal.is_empty() {
                joined.push(FixedToken::Literal(std::mem::take(&mut literal).into()));
            }
            match (token, joined.last()) {
                (Token::Any, Some(FixedToken::Any)) => {}
                (Token::Any, _) => joined.push(FixedToken::Any),
                _ => joined.push(FixedToken::One),
            }
        }
        if !literal.is_empty() || joined.is_empty() {
            joined.push(FixedToken::Literal(literal.into()));
        }
        match &joined[..] {
            [FixedToken::Any] => Self::Everything,
            [FixedToken::Literal(text)] => Self::Exactly(text.clone()),
            [FixedToken::Literal(text), FixedToken::Any] => Self::Begins(text.clone()),
            _ => Self::Mixed(joined.into()),
        }
    }

    /// Whether the whole of `text` fits.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Exactly(literal) => text == &**literal,
            Self::Begins(literal) => text.starts_with(&**literal),
            Self::Mixed(tokens) => {
                let token = |n| {
                    Some(match tokens.get(n)? {
                        FixedToken::Literal(literal) => Token::Literal(literal),
                        FixedToken::Any => Token::Any,
                        FixedToken::One => Token::One,
                    })
                };
                glob(token, text)
            }
        }
    }
}

fn without_first(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

/// Whether `text` fits a pattern of `*` and `?` without variables.
pub(super) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut tokens = Vec::new();
    push_value(&mut tokens, pattern);
    glob(|n| tokens.get(n).copied(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        /// How many bytes were looked through for the end of a variable.
        pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[test]
    fn open_variables_are_looked_through_once() {
        for text in [
            "${".repeat(200_000),
            format!("{}}}", "${".repeat(200_000)),
            format!("${{}}{}", "${".repeat(200_000)),
            "${}".repeat(130_000),
            "${a".repeat(130_000),
        ] {
            LOOKED_AT.set(0);
            Pattern::parse(
                &text,
                Syntax {
                    variables: true,
                    wildcards: true,
                },
            );
            let looked_at = LOOKED_AT.get();
            assert!(
                looked_at <= text.len(),
                "{looked_at} of {}: {}…",
                text.len(),
                &text[..9]
            );
        }
    }
    use proptest::prelude::*;

    const FULL: Syntax = Syntax {
        wildcards: true,
        variables: true,
    };

    fn fits(pattern: &str, text: &str, facts: &Facts) -> bool {
        Pattern::parse(pattern, FULL).matches(text, facts) == Ok(true)
    }

    #[test]
    fn wildcards_follow_the_guide() {
        let facts = Facts::new("pump-1");
        for (pattern, text, expected) in [
            ("a/*", "a/b/c", true),
            ("a/*", "a/", true),
            ("a/*", "a", false),
            ("a/?", "a/b", true),
            ("a?b", "a/b", true),
            ("a/?", "a/bc", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("*ab*ab", "xabyababab", true),
            ("*a*b*c", "aabbcd", false),
            ("some/+/topic", "some/+/topic", true),
            ("some/+/topic", "some/x/topic", false),
            ("some/*/topic", "some/a/b/topic", true),
            ("a/#", "a/b", false),
            ("?", "ü", true),
            ("A", "a", false),
            ("t/${iot:ClientId}/x", "t/pump-1/x", true),
            ("t/${iot:clientid}", "t/pump-1", true),
            ("t/${iot:ClientId}/x", "t/pump-2/x", false),
            ("a${*}b", "a*b", true),
            ("a${*}b", "axb", false),
            ("a${?}${$}", "a?$", true),
            ("a${", "a${", true),
            ("a${}", "a${}", true),
        ] {
            assert_eq!(fits(pattern, text, &facts), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_wildcard_client_id_widens_the_policy() {
        let filter = "f/my/${iot:ClientId}/t";
        assert!(fits(filter, "f/my/+/t", &Facts::new("+")));
        assert!(fits(filter, "f/my/other/t", &Facts::new("*")));
    }

    #[test]
    fn an_unresolved_variable_is_named_only_where_it_matters() {
        let facts = Facts::new("x");
        let pattern = Pattern::parse("t/${iot:Connection.Thing.ThingName}", FULL);
        assert_eq!(
            pattern.matches("t/a", &facts),
            Err(Unresolved("iot:Connection.Thing.ThingName"))
        );
        assert_eq!(pattern.matches("u/a", &facts), Ok(false));
    }

    #[test]
    fn repetition_takes_no_longer_than_the_text() {
        let text = "a".repeat(2000);
        for pattern in [
            "*a".repeat(100_000),
            "*ab".repeat(100_000),
            "*a?b".repeat(1000),
        ] {
            assert!(!fits(&pattern, &text, &Facts::new("x")));
        }
    }

    /// The same rules, written as directly as can be.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=text.len()).any(|n| slow(rest, &text[n..])),
            (Some(('?', p)), Some((_, t))) => slow(p, t),
            (Some((a, p)), Some((b, t))) => a == b && slow(p, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_like_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            let expected = slow(&chars(&pattern), &chars(&text));
            prop_assert_eq!(fits(&pattern, &text, &Facts::new("x")), expected);
            prop_assert_eq!(wildcard(&pattern, &text), expected);
            let facts = Facts::new("x");
            let fixed = Pattern::parse(&pattern, FULL).fixed(&facts).unwrap();
            prop_assert_eq!(fixed.matches(&text), expected);
        }
    }
}
