//! The few pieces of DER (X.690) that no crate gives us as the bytes they are.

use crate::core::time::UtcTime;

/// One element.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// The tag byte.
    pub tag: u8,
    /// What it holds.
    pub content: &'a [u8],
    /// Header and content.
    pub whole: &'a [u8],
}

/// The first element, and what follows it. `None` when the bytes end early, or for a tag number
/// above 30.
pub fn first(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let tag = *der.first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let short = *der.get(1)?;
    let (header, length) = if short < 0x80 {
        (2, usize::from(short))
    } else {
        let count = usize::from(short & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let bytes = der.get(2..2 + count)?;
        let length = bytes.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
        (2 + count, length)
    };
    let (whole, rest) = der.split_at_checked(header.checked_add(length)?)?;
    let element = Element {
        tag,
        content: &whole[header..],
        whole,
    };
    Some((element, rest))
}

/// The elements inside a constructed element. `None` when one is cut short.
pub fn children(content: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut rest = content;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (element, after) = first(rest)?;
        all.push(element);
        rest = after;
    }
    Some(all)
}

/// An `OBJECT IDENTIFIER`'s content, dotted; in hexadecimal when it is none. x509-parser has its own
/// of this, which mistakes the first two arcs from 2.48 on.
pub fn oid_text(content: &[u8]) -> String {
    let mut arcs: Vec<u128> = Vec::new();
    let mut arc = 0_u128;
    for byte in content {
        if arc >> 120 != 0 {
            return format!("#{}", crate::core::ids::hex(content));
        }
        arc = arc << 7 | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first);
                arc -= first * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    let dotted: Vec<String> = arcs.iter().map(ToString::to_string).collect();
    dotted.join(".")
}

/// One element made of `parts`.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = Vec::with_capacity(size(length));
    put_head(&mut der, tag, length);
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

/// Appends a tag and the length of what follows in bytes.
pub fn put_head(der: &mut Vec<u8>, tag: u8, length: usize) {
    let bytes = length.to_be_bytes();
    der.push(tag);
    if length <= 0x7f {
        der.push(bytes[bytes.len() - 1]);
        return;
    }
    let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    der.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
    der.extend_from_slice(significant);
}

/// How many bytes an element with `length` bytes of content has.
pub fn size(length: usize) -> usize {
    let significant = (usize::BITS - length.leading_zeros()).div_ceil(8);
    let more = if length > 0x7f { significant } else { 0 };
    2 + more as usize + length
}

/// A non-negative `INTEGER` from big-endian bytes.
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let lead = bytes.iter().take_while(|b| **b == 0).count();
    let digits = &bytes[lead..];
    match digits.first() {
        None => tlv(0x02, &[&[0]]),
        Some(b) if b & 0x80 != 0 => tlv(0x02, &[&[0], digits]),
        Some(_) => tlv(0x02, &[digits]),
    }
}

/// `Time`: UTCTime from 1950 to 2049, GeneralizedTime from 2050 (RFC 5280 §5.1.2.4).
pub fn time(at: UtcTime) -> Vec<u8> {
    let digits: String = at
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let year: u32 = digits[..4].parse().unwrap_or(9999);
    let (tag, text) = if year < 2050 {
        (0x17, format!("{}Z", &digits[2..]))
    } else {
        (0x18, format!("{digits}Z"))
    };
    tlv(tag, &[text.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest_and_read_back() {
        for length in [0_usize, 1, 127, 128, 255, 256, 65_535, 65_536, 70_000] {
            let content = vec![7; length];
            let der = tlv(0x04, &[&content]);
            let (element, rest) = first(&der).unwrap();
            assert_eq!((element.tag, element.content.len()), (4, length));
            assert!(rest.is_empty());
        }
        for bad in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 5, 1], &[0x1f, 0]] {
            assert!(first(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn object_identifiers_are_read_as_they_are_written() {
        for (content, text) in [
            (&[0x55, 0x1d, 0x13][..], "2.5.29.19"),
            (&[0x2a, 0x86, 0x48, 0xce, 0x3d], "1.2.840.10045"),
            (&[0x88, 0x37, 0x01], "2.999.1"),
            (&[0x00], "0.0"),
            (&[0xff; 20], "#ffffffffffffffffffffffffffffffffffffffff"),
        ] {
            assert_eq!(oid_text(content), text);
        }
    }

    #[test]
    fn integers_stay_positive() {
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn years_choose_the_kind_of_time() {
        let at = |text: &str| time(text.parse().unwrap());
        assert_eq!(at("2049-12-31T23:59:59Z")[2..], *b"491231235959Z");
        assert_eq!(at("2050-01-01")[2..], *b"20500101000000Z");
    }
}
