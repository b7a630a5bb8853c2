//! A resource pattern, as far as its form says what it can match.

use crate::core::policy::{Action, Pattern, Piece};

/// What a resource pattern looks like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    /// `*`.
    All,
    /// It begins with a wildcard or variable, so that its parts cannot be told apart.
    Loose,
    /// Neither `*` nor an ARN: it matches nothing that is ever asked for.
    NotArn,
    /// An ARN.
    Arn(Arn),
}

/// `arn:PARTITION:SERVICE:REGION:ACCOUNT:KIND/NAME`, in pieces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Arn {
    pub(super) partition: Vec<Piece>,
    pub(super) service: Vec<Piece>,
    pub(super) region: Vec<Piece>,
    pub(super) account: Vec<Piece>,
    /// `None` when a wildcard or variable stands where it should.
    pub(super) kind: Option<String>,
    /// What follows `KIND/`; everything after the account when there is no kind.
    pub(super) name: Vec<Piece>,
}

/// One character of a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Symbol {
    Char(char),
    Any,
    One,
    /// In lower case.
    Variable(String),
}

impl Shape {
    pub(super) fn of(pattern: &Pattern) -> Self {
        match pattern.pieces() {
            [Piece::Any] => return Self::All,
            [Piece::Literal(_), ..] => {}
            [] => return Self::NotArn,
            _ => return Self::Loose,
        }
        let mut parts: Vec<Vec<Piece>> = vec![Vec::new()];
        for piece in pattern.pieces() {
            let Piece::Literal(text) = piece else {
                push(&mut parts, piece.clone());
                continue;
            };
            let mut rest = &text[..];
            while parts.len() < 6 {
                let Some((before, after)) = rest.split_once(':') else {
                    break;
                };
                push(&mut parts, Piece::Literal(before.to_owned()));
                parts.push(Vec::new());
                rest = after;
            }
            push(&mut parts, Piece::Literal(rest.to_owned()));
        }
        let is_arn = literal(&parts[0]) == Some("arn");
        let last_is_any = parts.last().is_some_and(|part| part[..] == [Piece::Any]);
        if is_arn && parts.len() < 6 && last_is_any {
            // `arn:aws:iot:*`: the wildcard takes in what is missing.
            parts.resize(6, vec![Piece::Any]);
        }
        let Ok([arn, partition, service, region, account, rest]) = <[_; 6]>::try_from(parts) else {
            return Self::NotArn;
        };
        if literal(&arn) != Some("arn") {
            return Self::NotArn;
        }
        let (kind, name) = kind_of(rest);
        Self::Arn(Arn {
            partition,
            service,
            region,
            account,
            kind,
            name,
        })
    }

    /// Whether a request for this action can meet it.
    pub(super) fn serves(&self, action: Action) -> bool {
        let kind = action.resource_kind();
        match self {
            Self::All => true,
            Self::NotArn => false,
            Self::Loose => kind != "*",
            Self::Arn(_) if kind == "*" => false,
            Self::Arn(arn) => match (&arn.kind, arn.name.first()) {
                (Some(own), _) => own == kind,
                (None, Some(Piece::Literal(start))) => format!("{kind}/").starts_with(&start[..]),
                (None, _) => true,
            },
        }
    }

    /// The kind of resource and its name, where it has both.
    pub(super) fn named(&self) -> Option<(&str, &[Piece])> {
        match self {
            Self::Arn(arn) => Some((arn.kind.as_deref()?, &arn.name)),
            _ => None,
        }
    }

    /// Whether nothing in it holds a name of this kind back: `*`, `…:*`, `…:client/*`.
    pub(super) fn takes_in_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::NotArn | Self::Loose => false,
            Self::Arn(arn) => {
                let wild = |piece: &Piece| matches!(piece, Piece::Any | Piece::One);
                let any = arn.name.contains(&Piece::Any);
                match (&arn.kind, arn.name.first()) {
                    (None, Some(Piece::Literal(_))) => arn.name[1..].iter().all(wild) && any,
                    _ => arn.name.iter().all(wild) && any,
                }
            }
        }
    }
}

fn push(parts: &mut [Vec<Piece>], piece: Piece) {
    let empty = matches!(&piece, Piece::Literal(text) if text.is_empty());
    if let (Some(last), false) = (parts.last_mut(), empty) {
        last.push(piece);
    }
}

/// The text of a part without wildcards and variables.
pub(super) fn literal(part: &[Piece]) -> Option<&str> {
    match part {
        [] => Some(""),
        [Piece::Literal(text)] => Some(text),
        _ => None,
    }
}

fn kind_of(mut rest: Vec<Piece>) -> (Option<String>, Vec<Piece>) {
    let Some(Piece::Literal(text)) = rest.first_mut() else {
        return (None, rest);
    };
    let Some((kind, name)) = text.split_once('/') else {
        let whole = rest.len() == 1;
        let kind = literal(&rest).filter(|_| whole).map(str::to_owned);
        return match kind {
            Some(kind) => (Some(kind), Vec::new()),
            None => (None, rest),
        };
    };
    let (kind, name) = (kind.to_owned(), name.to_owned());
    if name.is_empty() {
        rest.remove(0);
    } else {
        *text = name;
    }
    (Some(kind), rest)
}

/// The pieces as single characters.
pub(super) fn symbols(pieces: &[Piece]) -> Vec<Symbol> {
    let mut all = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Literal(text) => all.extend(text.chars().map(Symbol::Char)),
            Piece::Any => all.push(Symbol::Any),
            Piece::One => all.push(Symbol::One),
            Piece::Variable(name) => all.push(Symbol::Variable(name.to_ascii_lowercase())),
        }
    }
    all
}

/// Whether the first pattern certainly matches all that the second matches; `false` may be wrong.
pub(super) fn covers(wide: &[Symbol], narrow: &[Symbol]) -> bool {
    let (mut w, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (wide.get(w), narrow.get(n)) {
            (None, None) => return true,
            (Some(Symbol::Any), _) => {
                star = Some((w + 1, n));
                w += 1;
                continue;
            }
            (Some(Symbol::One), Some(Symbol::Char(_) | Symbol::One)) => true,
            (Some(a), Some(b)) => a == b,
            _ => false,
        };
        if step {
            (w, n) = (w + 1, n + 1);
            continue;
        }
        match star {
            Some((again, from)) if from < narrow.len() => {
                star = Some((again, from + 1));
                (w, n) = (again, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether some text fits both; a variable may be any text.
pub(super) fn overlap(a: &[Symbol], b: &[Symbol]) -> bool {
    let wild = |symbol: &Symbol| matches!(symbol, Symbol::Any | Symbol::Variable(_));
    let mut reached = vec![false; b.len() + 1];
    reached[0] = true;
    spread(&mut reached, b, wild);
    for symbol in a {
        let mut next = vec![false; b.len() + 1];
        for n in (0..=b.len()).filter(|n| reached[*n]) {
            if wild(symbol) {
                next[n] = true;
            }
            let Some(other) = b.get(n) else { continue };
            if wild(other) {
                next[n] = true;
            }
            let fits = match (symbol, other) {
                (Symbol::Char(x), Symbol::Char(y)) => x == y,
                _ => true,
            };
            next[n + 1] |= fits;
        }
        if wild(symbol) {
            let first = next.iter().position(|there| *there);
            next.iter_mut()
                .skip(first.unwrap_or(b.len() + 1))
                .for_each(|there| *there = true);
        }
        spread(&mut next, b, wild);
        reached = next;
    }
    reached[b.len()]
}

/// A wildcard may stand for nothing.
fn spread(reached: &mut [bool], b: &[Symbol], wild: impl Fn(&Symbol) -> bool) {
    for (n, symbol) in b.iter().enumerate() {
        if reached[n] && wild(symbol) {
            reached[n + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::Document;

    fn pattern(text: &str) -> Pattern {
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"iot:*","Resource":"{text}"}}}}"#
        );
        let document = Document::parse(&document).unwrap();
        document.statements()[0].resources.patterns[0].clone()
    }

    #[test]
    fn resources_are_told_apart() {
        for (text, kind, serves, all) in [
            ("*", None, true, true),
            ("*topic/a", None, true, false),
            ("topic/a", None, false, false),
            ("", None, false, false),
            ("arn:aws:iot:*:*:topic/*", Some("topic"), true, true),
            ("arn:aws:iot:r:a:topic/a:b", Some("topic"), true, false),
            (
                "arn:aws:iot:r:a:topicfilter/a",
                Some("topicfilter"),
                false,
                false,
            ),
            ("arn:aws:iot:r:a:topic*", None, true, true),
            ("arn:aws:iot:r:a:*", None, true, true),
            ("arn:aws:iot:*", None, true, true),
            ("arn:aws:iot:r:a", None, false, false),
            (
                "arn:aws:iot:r:a:topic/${iot:ClientId}/*",
                Some("topic"),
                true,
                false,
            ),
        ] {
            let shape = Shape::of(&pattern(text));
            let found = match &shape {
                Shape::Arn(arn) => arn.kind.as_deref(),
                _ => None,
            };
            assert_eq!(found, kind, "{text}");
            assert_eq!(shape.serves(Action::Publish), serves, "{text}");
            assert_eq!(shape.takes_in_all(), all, "{text}");
        }
    }

    #[test]
    fn patterns_are_compared() {
        let of = |text: &str| symbols(pattern(text).pieces());
        for (a, b, covering, overlapping) in [
            ("a/*", "a/b/*", true, true),
            ("a/b/*", "a/*", false, true),
            ("a/*", "b/*", false, false),
            ("a/?", "a/*", false, true),
            ("*", "a", true, true),
            ("a/${iot:ClientId}", "a/${iot:clientid}", true, true),
            ("a/${iot:ClientId}", "a/x", false, true),
            ("a*b", "acc", false, false),
            ("a*c", "abb*", false, true),
            ("?", "ab", false, false),
        ] {
            assert_eq!(covers(&of(a), &of(b)), covering, "{a} covers {b}");
            assert_eq!(overlap(&of(a), &of(b)), overlapping, "{a} meets {b}");
            assert_eq!(overlap(&of(b), &of(a)), overlapping, "{b} meets {a}");
        }
    }
}
