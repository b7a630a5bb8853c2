//! The two payload formats of fleet provisioning: JSON, and CBOR (RFC 8949) with the same keys.

use serde_json::{Map, Value};

use crate::core::json;

/// The deepest nesting of a payload.
const MAX_DEPTH: usize = 16;

/// A payload's format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// JSON.
    Json,
    /// CBOR.
    Cbor,
}

impl Format {
    /// By the last part of a topic.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "cbor" => Some(Self::Cbor),
            _ => None,
        }
    }

    /// The last part of a topic.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    /// The members of a payload; an empty one has none.
    ///
    /// # Errors
    /// One line about what is wrong.
    pub fn decode(self, payload: &[u8]) -> Result<Map<String, Value>, String> {
        if payload.is_empty() {
            return Ok(Map::new());
        }
        let value = match self {
            Self::Json => {
                let text = std::str::from_utf8(payload)
                    .map_err(|_| "the payload is not UTF-8".to_owned())?;
                json::parse(text, MAX_DEPTH)
                    .map_err(|error| format!("the payload is not JSON: {error}"))?
            }
            Self::Cbor => decode_cbor(payload)?,
        };
        match value {
            Value::Object(map) => Ok(map),
            _ => Err("the payload is not a map".to_owned()),
        }
    }

    /// A payload that says this.
    pub fn encode(self, body: &Value) -> Vec<u8> {
        match self {
            Self::Json => body.to_string().into_bytes(),
            Self::Cbor => {
                let mut bytes = Vec::new();
                // Nothing of JSON is without its form in CBOR, and memory takes every byte.
                let _ = ciborium::into_writer(body, &mut bytes);
                bytes
            }
        }
    }
}

/// One CBOR item as JSON: what JSON has no form for (byte strings, tags, keys that are no text,
/// numbers beyond 64 bits) is refused, and so are bytes left over.
///
/// # Errors
/// One line about what is wrong.
pub fn decode_cbor(payload: &[u8]) -> Result<Value, String> {
    let mut rest = payload;
    let item: ciborium::Value =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH)
            .map_err(|error| format!("the payload is not CBOR: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes are left over after the map", rest.len()));
    }
    to_json(item)
}

fn to_json(item: ciborium::Value) -> Result<Value, String> {
    use ciborium::Value as Cbor;
    Ok(match item {
        Cbor::Null => Value::Null,
        Cbor::Bool(on) => on.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Float(number) => number.into(),
        Cbor::Integer(number) => {
            let number = i128::from(number);
            match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => number.into(),
                (_, Ok(number)) => number.into(),
                _ => return Err("a number has more than 64 bits".to_owned()),
            }
        }
        Cbor::Array(all) => {
            let all: Result<Vec<Value>, String> = all.into_iter().map(to_json).collect();
            all?.into()
        }
        Cbor::Map(all) => {
            let mut map = Map::new();
            for (key, value) in all {
                let Cbor::Text(key) = key else {
                    return Err("a key is not text".to_owned());
                };
                if map.contains_key(&key) {
                    return Err(format!("`{}` stands twice", shown(&key)));
                }
                map.insert(key, to_json(value)?);
            }
            map.into()
        }
        _ => return Err("a byte string or a tag has no place here".to_owned()),
    })
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cbor_says_what_json_says() {
        let body = serde_json::json!({
            "certificateOwnershipToken": "t", "parameters": {"SerialNumber": "ü-1"}, "n": -3, "b": true
        });
        let bytes = Format::Cbor.encode(&body);
        let map = Format::Cbor.decode(&bytes).unwrap();
        assert_eq!(Value::Object(map), body);
        assert_eq!(Format::Cbor.decode(&[]).unwrap(), Map::new());
    }

    #[test]
    fn cbor_that_is_none_is_refused() {
        let deep = [vec![0x81; 5000], vec![0x00]].concat();
        for (bytes, wanted) in [
            (&[0xa1, 0x61][..], "not CBOR"),
            (&[0xa1, 0x01, 0x02], "a key is not text"),
            (&[0xa1, 0x61, b'a', 0x41, 0x00], "byte string"),
            (&[0x01], "not a map"),
            (&[0xa0, 0x00], "left over"),
            (&[0xa2, 0x61, b'a', 0x00, 0x61, b'a', 0x00], "stands twice"),
            (
                &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "not CBOR",
            ),
            (
                &[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "not CBOR",
            ),
            (&deep, "not CBOR"),
        ] {
            let said = Format::Cbor.decode(bytes).unwrap_err();
            assert!(said.contains(wanted), "{bytes:x?}: {said}");
        }
    }
}
