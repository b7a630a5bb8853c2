//! Distinguished names as RFC 5280 §7.1 compares them: text without regard to case, to runs of
//! spaces, and to the kind of string it is in; anything else byte by byte.

use crate::core::der::{self, Element};

/// A name, ready for comparison.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Dn(Vec<Rdn>);

/// One relative distinguished name: type and value of each attribute, sorted.
type Rdn = Vec<(Vec<u8>, Vec<u8>)>;

impl Dn {
    /// From the DER of a `Name`; `None` when it is none.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let (sequence, rest) = der::first(name)?;
        if sequence.tag != 0x30 || !rest.is_empty() {
            return None;
        }
        let sets = der::children(sequence.content)?;
        let all = sets.iter().map(|set| {
            let set = (set.tag == 0x31).then_some(set.content);
            set.and_then(rdn)
        });
        all.collect::<Option<_>>().map(Self)
    }

    /// This name with one more relative name at its end: the content of its `SET`.
    pub fn child(&self, attributes: &[u8]) -> Option<Self> {
        let mut all = self.0.clone();
        all.push(rdn(attributes)?);
        Some(Self(all))
    }

    /// Whether it has no attribute at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it lies in the subtree of `base` (RFC 5280 §4.2.1.10).
    pub fn is_within(&self, base: &Self) -> bool {
        self.0.starts_with(&base.0)
    }
}

fn rdn(set: &[u8]) -> Option<Rdn> {
    let mut attributes: Rdn = der::children(set)?
        .iter()
        .map(attribute)
        .collect::<Option<_>>()?;
    attributes.sort();
    (!attributes.is_empty()).then_some(attributes)
}

fn attribute(element: &Element<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let parts = der::children(element.content)?;
    let [oid, value] = parts[..] else {
        return None;
    };
    (element.tag == 0x30 && oid.tag == 0x06).then(|| (oid.content.to_vec(), comparable(value)))
}

/// Text begins with a zero byte here, which no DER element does.
fn comparable(value: Element<'_>) -> Vec<u8> {
    let Some(text) = text(value) else {
        return value.whole.to_vec();
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    [&[0], words.join(" ").to_lowercase().as_bytes()].concat()
}

fn text(value: Element<'_>) -> Option<String> {
    let bytes = value.content;
    match value.tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString.
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => std::str::from_utf8(bytes).ok().map(str::to_owned),
        // TeletexString, taken for Latin-1 as everybody does.
        0x14 => Some(bytes.iter().copied().map(char::from).collect()),
        // BMPString.
        0x1e => {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().copied().map(u16::from_be_bytes).collect();
            rest.is_empty()
                .then(|| String::from_utf16(&units).ok())
                .flatten()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::der::tlv;

    fn name(attributes: &[(u8, u8, &[u8])]) -> Dn {
        let rdn = |(kind, tag, value): &(u8, u8, &[u8])| {
            let oid = tlv(0x06, &[&[0x55, 0x04, *kind]]);
            tlv(0x31, &[&tlv(0x30, &[&oid, &tlv(*tag, &[value])])])
        };
        let all: Vec<u8> = attributes.iter().flat_map(rdn).collect();
        Dn::parse(&tlv(0x30, &[&all])).unwrap()
    }

    #[test]
    fn case_spaces_and_kinds_of_string_do_not_matter() {
        let plain = name(&[(3, 0x13, b"Pump CA")]);
        for (tag, same) in [
            (0x0c, &b"pump ca"[..]),
            (0x13, b"  PUMP   CA "),
            (0x14, b"Pump CA"),
            (0x1e, b"\0P\0u\0m\0p\0 \0C\0A"),
        ] {
            assert_eq!(plain, name(&[(3, tag, same)]), "{tag}");
        }
        for (kind, tag, other) in [
            (10, 0x13, &b"Pump CA"[..]),
            (3, 0x13, b"PumpCA"),
            (3, 0x04, b"Pump CA"),
        ] {
            assert_ne!(plain, name(&[(kind, tag, other)]));
        }
    }

    #[test]
    fn a_subtree_is_a_common_beginning() {
        let base = name(&[(10, 0x13, b"Example")]);
        let inside = name(&[(10, 0x0c, b"EXAMPLE"), (3, 0x13, b"pump")]);
        assert!(inside.is_within(&base) && base.is_within(&Dn::default()));
        assert!(!base.is_within(&inside));
        assert!(!name(&[(3, 0x13, b"pump"), (10, 0x13, b"Example")]).is_within(&base));
    }

    #[test]
    fn rubbish_is_no_name() {
        for bad in [&[][..], &[0x31, 0], &[0x30, 2, 0x31, 0], &[0x30, 1, 5]] {
            assert_eq!(Dn::parse(bad), None, "{bad:?}");
        }
        assert!(Dn::parse(&[0x30, 0]).unwrap().is_empty());
    }
}
