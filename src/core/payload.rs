//! The two payload formats of fleet provisioning: JSON, and CBOR (RFC 8949) with the same keys.

use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder, encode};
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
                let mut encoder = Encoder::new(Vec::new());
                // Memory takes every byte.
                let _ = put(body, &mut encoder);
                encoder.into_writer()
            }
        }
    }
}

fn put(value: &Value, to: &mut Encoder<Vec<u8>>) -> Result<(), encode::Error<Infallible>> {
    match value {
        Value::Null => to.null()?,
        Value::Bool(on) => to.bool(*on)?,
        Value::String(text) => to.str(text)?,
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => to.u64(number)?,
            (_, Some(number), _) => to.i64(number)?,
            (.., number) => to.f64(number.unwrap_or_default())?,
        },
        Value::Array(all) => {
            to.array(all.len() as u64)?;
            return all.iter().try_for_each(|one| put(one, to));
        }
        Value::Object(map) => {
            to.map(map.len() as u64)?;
            return map.iter().try_for_each(|(key, one)| {
                to.str(key)?;
                put(one, to)
            });
        }
    };
    Ok(())
}

/// One CBOR item as JSON: what JSON has no form for (byte strings, tags, keys that are no text,
/// numbers beyond 64 bits) is refused, and so are bytes left over.
///
/// # Errors
/// One line about what is wrong.
pub fn decode_cbor(payload: &[u8]) -> Result<Value, String> {
    let mut from = Decoder::new(payload);
    let item = take(&mut from, MAX_DEPTH)?;
    let left = payload.len() - from.position();
    if left > 0 {
        return Err(format!("{left} bytes are left over after the map"));
    }
    Ok(item)
}

fn not_cbor(why: impl std::fmt::Display) -> String {
    format!("the payload is not CBOR: {why}")
}

fn take(from: &mut Decoder<'_>, depth: usize) -> Result<Value, String> {
    Ok(match from.datatype().map_err(not_cbor)? {
        Type::Null => from.null().map(|()| Value::Null).map_err(not_cbor)?,
        Type::Bool => from.bool().map_err(not_cbor)?.into(),
        Type::String | Type::StringIndef => text(from)?.into(),
        Type::F16 => half(from)?.into(),
        Type::F32 => from.f32().map_err(not_cbor)?.into(),
        Type::F64 => from.f64().map_err(not_cbor)?.into(),
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::I8
        | Type::I16
        | Type::I32
        | Type::I64
        | Type::Int => integer(i128::from(from.int().map_err(not_cbor)?))?,
        Type::Array | Type::ArrayIndef => array(from, inside(depth)?)?,
        Type::Map | Type::MapIndef => map(from, inside(depth)?)?,
        Type::Bytes | Type::BytesIndef | Type::Tag | Type::Undefined | Type::Simple => {
            return Err("a byte string or a tag has no place here".to_owned());
        }
        Type::Break | Type::Unknown(_) => return Err(not_cbor("an item is of no known kind")),
    })
}

fn inside(depth: usize) -> Result<usize, String> {
    let deeper = depth.checked_sub(1);
    deeper.ok_or_else(|| not_cbor(format!("it is nested deeper than {MAX_DEPTH}")))
}

fn integer(number: i128) -> Result<Value, String> {
    match (u64::try_from(number), i64::try_from(number)) {
        (Ok(number), _) => Ok(number.into()),
        (_, Ok(number)) => Ok(number.into()),
        _ => Err("a number has more than 64 bits".to_owned()),
    }
}

fn text(from: &mut Decoder<'_>) -> Result<String, String> {
    from.str_iter()
        .map_err(not_cbor)?
        .collect::<Result<String, _>>()
        .map_err(not_cbor)
}

/// Two bytes after the first: binary16 (IEEE 754), which the crate reads only with another one.
fn half(from: &mut Decoder<'_>) -> Result<f64, String> {
    let at = from.position() + 1;
    let bytes = from.input().get(at..at + 2);
    let bytes = bytes.ok_or_else(|| not_cbor("it ends inside a number"))?;
    from.set_position(at + 2);
    let bits = u16::from_be_bytes([bytes[0], bytes[1]]);
    let fraction = f64::from(bits & 0x3ff);
    let size = match bits >> 10 & 0x1f {
        0 => fraction / 16_777_216.0,
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2_f64.powi(i32::from(exponent) - 15),
    };
    Ok(if bits >> 15 == 1 { -size } else { size })
}

/// Whether another item of an array or a map follows; `left` counts those of known number.
fn more(from: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, String> {
    if let Some(left) = left {
        let more = *left > 0;
        *left = left.saturating_sub(1);
        return Ok(more);
    }
    let ends = from.datatype().map_err(not_cbor)? == Type::Break;
    if ends {
        from.set_position(from.position() + 1);
    }
    Ok(!ends)
}

fn array(from: &mut Decoder<'_>, depth: usize) -> Result<Value, String> {
    let mut left = from.array().map_err(not_cbor)?;
    let mut all = Vec::new();
    while more(from, &mut left)? {
        all.push(take(from, depth)?);
    }
    Ok(all.into())
}

fn map(from: &mut Decoder<'_>, depth: usize) -> Result<Value, String> {
    let mut left = from.map().map_err(not_cbor)?;
    let mut map = Map::new();
    while more(from, &mut left)? {
        let key = match from.datatype().map_err(not_cbor)? {
            Type::String | Type::StringIndef => text(from)?,
            _ => return Err("a key is not text".to_owned()),
        };
        if map.contains_key(&key) {
            return Err(format!("`{}` stands twice", shown(&key)));
        }
        let value = take(from, depth)?;
        map.insert(key, value);
    }
    Ok(map.into())
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
            "certificateOwnershipToken": "t", "parameters": {"SerialNumber": "ü-1"}, "n": -3, "b": true,
            "all": [null, 1.5, u64::MAX, []], "none": {}
        });
        let bytes = Format::Cbor.encode(&body);
        let map = Format::Cbor.decode(&bytes).unwrap();
        assert_eq!(Value::Object(map), body);
        assert_eq!(Format::Cbor.decode(&[]).unwrap(), Map::new());
    }

    /// RFC 8949 appendix A.
    #[test]
    fn numbers_of_half_size_and_parts_of_unknown_number_are_read() {
        for (bytes, wanted) in [
            (&[0xf9, 0x3c, 0x00][..], "1.0"),
            (&[0xf9, 0x3e, 0x00], "1.5"),
            (&[0xf9, 0x7b, 0xff], "65504.0"),
            (&[0xf9, 0x04, 0x00], "0.00006103515625"),
            (&[0xf9, 0xc4, 0x00], "-4.0"),
            (&[0xf9, 0x7c, 0x00], "null"),
            (&[0x9f, 0x01, 0x80, 0xff], "[1,[]]"),
            (&[0xbf, 0x61, b'a', 0x01, 0xff], r#"{"a":1}"#),
            (&[0x7f, 0x61, b'a', 0x61, b'b', 0xff], r#""ab""#),
        ] {
            let value = decode_cbor(bytes).unwrap();
            assert_eq!(value, wanted.parse::<Value>().unwrap(), "{bytes:x?}");
        }
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
