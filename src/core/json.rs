//! JSON read strictly: no duplicate keys, a bound on depth, and a path for every place.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::explain::{Explain, Kind};

/// Text that is not the JSON it should be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct JsonError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1; 0 when the parser gives none.
    pub column: usize,
    /// What is wrong there.
    pub reason: String,
}

impl Explain for JsonError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "json.syntax"
    }
}

/// Reads one JSON text. A key given twice in one object, nesting deeper than `max_depth`, and
/// anything after the value are refused; keys keep their order.
///
/// # Errors
/// `json.syntax` with line and column.
pub fn parse(text: &str, max_depth: usize) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Strict { left: max_depth }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| located(&e))
}

fn located(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    JsonError {
        line: error.line(),
        column: error.column(),
        reason: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
    }
}

/// The path of `key` under `path`: `$.a.b`, or `$.a['b::c']` when the key is not a plain word.
pub fn child(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain {
        format!("{path}.{key}")
    } else {
        format!("{path}['{}']", key.replace('\'', "\\'"))
    }
}

/// The path of element `index` (from 0) of the list at `path`.
pub fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// What a value is, in words: `a string`, `an object`, …
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Where the members and items of a JSON text stand, by path.
#[derive(Debug)]
pub struct Places<'a> {
    text: &'a str,
    starts: HashMap<String, usize>,
    /// Where each line begins.
    lines: Vec<usize>,
    /// How many characters there are before each block of bytes.
    blocks: Vec<usize>,
}

/// Bytes between the places whose characters are counted once.
const BLOCK: usize = 1024;
/// The most levels of a path that are left off in looking for what holds a place.
const MAX_CUTS: usize = 256;

impl<'a> Places<'a> {
    /// Of a text that [`parse`] takes. Of another, as far as it can be read.
    pub fn of(text: &'a str) -> Self {
        let mut scanner = Scanner {
            text,
            at: 0,
            starts: HashMap::new(),
            room: PATHS_AT_LEAST + PATHS_PER_BYTE * text.len(),
        };
        scanner.starts.insert("$".to_owned(), 0);
        scanner.value(Some("$"), MAX_PLACE_DEPTH);
        let starts = scanner.starts;
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let blocks = text.as_bytes().chunks(BLOCK).scan(0, |before, block| {
            let here = *before;
            *before += characters(block);
            Some(here)
        });
        Self {
            text,
            starts,
            lines: [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect(),
            blocks: blocks.collect(),
        }
    }

    /// Line and column, in characters from 1, of the member's name or the item at `path`; where
    /// there is none, of what would hold it.
    pub fn find(&self, path: &str) -> (usize, usize) {
        let mut path = path;
        for _ in 0..MAX_CUTS {
            if let Some(start) = self.starts.get(path) {
                return self.line_and_column(*start);
            }
            let cut = path.rfind(['.', '[']).filter(|cut| *cut > 0);
            let Some(cut) = cut else { break };
            path = &path[..cut];
        }
        (1, 1)
    }

    fn line_and_column(&self, start: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|begin| *begin <= start).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or(0);
        (
            line,
            self.characters_before(start) - self.characters_before(begin) + 1,
        )
    }

    fn characters_before(&self, at: usize) -> usize {
        let block = at / BLOCK;
        let before = self.blocks.get(block).copied().unwrap_or(0);
        before
            + characters(
                self.text
                    .as_bytes()
                    .get(block * BLOCK..at)
                    .unwrap_or_default(),
            )
    }
}

/// How many characters begin in these bytes of a text.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

/// Deeper places are those of what holds them.
const MAX_PLACE_DEPTH: usize = 64;
/// The most bytes that all paths together may have, for each byte of the text and at least; places
/// beyond are those of what holds them. Long names with much inside would take the square.
const PATHS_PER_BYTE: usize = 16;
const PATHS_AT_LEAST: usize = 1 << 16;

/// Walks a text that is known to be JSON; where it is not, it stops.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    starts: HashMap<String, usize>,
    /// How many bytes of paths may still be kept.
    room: usize,
}

impl Scanner<'_> {
    /// Keeps a place under the path that `make` gives, of `length` bytes or somewhat more; `None`
    /// when there is no room.
    fn keep(
        &mut self,
        length: usize,
        make: impl FnOnce() -> String,
        start: usize,
    ) -> Option<String> {
        self.room = self.room.checked_sub(length)?;
        let path = make();
        self.starts.insert(path.clone(), start);
        Some(path)
    }

    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn value(&mut self, path: Option<&str>, depth: usize) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        match self.peek()? {
            b'{' => self.object(path, deeper),
            b'[' => self.array(path, deeper),
            b'"' => self.string().map(drop),
            _ => {
                let rest = &self.text.as_bytes()[self.at..];
                let ends = |b: &u8| b.is_ascii_whitespace() || b",]}".contains(b);
                self.at += rest.iter().take_while(|b| !ends(b)).count();
                Some(())
            }
        }
    }

    fn object(&mut self, path: Option<&str>, depth: usize) -> Option<()> {
        self.take(b'{')?;
        while self.peek()? == b'"' {
            let start = self.at;
            let key = self.string()?;
            let path = path.and_then(|path| {
                let length = path.len() + key.len();
                self.keep(length, || child(path, &key), start)
            });
            self.take(b':')?;
            self.value(path.as_deref(), depth)?;
            if self.take(b',').is_none() {
                break;
            }
        }
        self.take(b'}')
    }

    fn array(&mut self, path: Option<&str>, depth: usize) -> Option<()> {
        self.take(b'[')?;
        let mut index = 0;
        while self.peek()? != b']' {
            let start = self.at;
            let path = path.and_then(|path| self.keep(path.len(), || item(path, index), start));
            self.value(path.as_deref(), depth)?;
            index += 1;
            if self.take(b',').is_none() {
                break;
            }
        }
        self.take(b']')
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        let mut escaped = false;
        let rest = self.text.as_bytes()[start + 1..].iter();
        let length = rest.take_while(|byte| {
            let ends = **byte == b'"' && !escaped;
            escaped = **byte == b'\\' && !escaped;
            !ends
        });
        self.at = start + length.count() + 2;
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }
}

#[derive(Clone, Copy)]
struct Strict {
    left: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        self.left
            .checked_sub(1)
            .map(|left| Self { left })
            .ok_or_else(|| E::custom("the nesting is too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                let reason = format!("the key `{key}` is given twice in one object");
                return Err(A::Error::custom(reason));
            }
            map.insert(key, access.next_value_seed(inner)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_json_is_refused_with_its_place() {
        for (text, line, reason) in [
            ("{\"a\":1,\n\"a\":2}", 2, "given twice"),
            ("[[[[[1]]]]]", 1, "too deep"),
            ("{} x", 1, "trailing"),
            ("{\"a\":}", 1, "expected value"),
        ] {
            let error = parse(text, 4).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        let value = parse(r#"{"b":[1,-2,0.5,null,true],"a":"x"}"#, 4).unwrap();
        assert_eq!(value.to_string(), r#"{"b":[1,-2,0.5,null,true],"a":"x"}"#);
    }

    #[test]
    fn every_place_has_a_line_and_a_column() {
        let text =
            "{\n  \"a\": {\"b::c\": [1, \"]}\\\"\", {\"d\": null}]},\n \"é\": 2, \"f\": true}";
        let places = Places::of(text);
        for (path, place) in [
            ("$", (1, 1)),
            ("$.a", (2, 3)),
            ("$.a['b::c']", (2, 9)),
            ("$.a['b::c'][1]", (2, 21)),
            ("$.a['b::c'][2].d", (2, 30)),
            ("$.a['b::c'][2].gone.away", (2, 29)),
            ("$['é']", (3, 2)),
            ("$.f", (3, 10)),
            ("$.gone", (1, 1)),
        ] {
            assert_eq!(places.find(path), place, "{path}");
        }
        for broken in [
            "",
            "{\"a",
            "{\"a\":",
            "[1,",
            "{\"a\":1 2}",
            &"[".repeat(9000),
        ] {
            Places::of(broken).find("$.a[0]");
        }
    }

    #[test]
    fn places_take_no_more_than_the_text_allows() {
        let key = "k".repeat(100_000);
        let items = vec!["1"; 50_000].join(",");
        for text in [
            format!(r#"{{"{key}":[{items}]}}"#),
            format!(r#"{{"{key}":{{"{key}":{{"a":[{items}]}}}}}}"#),
            format!("[{}]", vec!["{}"; 60_000].join(",")),
        ] {
            let places = Places::of(&text);
            let kept: usize = places.starts.keys().map(String::len).sum();
            assert!(
                kept <= 2 * (PATHS_AT_LEAST + PATHS_PER_BYTE * text.len()),
                "{kept}"
            );
            assert_eq!(places.find(&format!("$.{key}[49999]")).0, 1);
            places.find(&".".repeat(400_000));
        }
        let long = format!("[{},\n\n é, 7]", vec!["\"é\""; 3_000].join(","));
        let found = Places::of(&long).find("$[3001]");
        assert_eq!(found, (3, 5), "after a broken item");
    }

    #[test]
    fn paths_quote_what_is_not_a_word() {
        assert_eq!(child("$", "Resources"), "$.Resources");
        assert_eq!(child("$.P", "AWS::X"), "$.P['AWS::X']");
        assert_eq!(item("$.a", 2), "$.a[2]");
    }
}
