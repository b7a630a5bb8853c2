//! Whether bytes are DER, and not some other BER (X.690 §10, §11).

/// How deep elements may stand in one another; no certificate needs more.
const MAX_DEPTH: usize = 24;

/// The first thing in `bytes` that is not DER, in words with its offset; `None` when all is.
///
/// Octet strings of extensions are looked into where they hold one element themselves.
pub(super) fn fault(bytes: &[u8]) -> Option<String> {
    let mut rest = Reader { bytes, at: 0 };
    rest.elements(bytes.len(), 0).err()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads elements up to `end`.
    fn elements(&mut self, end: usize, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("byte {}: nested too deeply", self.at));
        }
        while self.at < end {
            self.element(end, depth)?;
        }
        Ok(())
    }

    fn element(&mut self, end: usize, depth: usize) -> Result<(), String> {
        let start = self.at;
        let wrong = |what: &str| format!("byte {start}: {what}");
        let tag = self
            .next(end)
            .ok_or_else(|| wrong("an element is cut off"))?;
        if tag & 0x1f == 0x1f {
            while self.next(end).ok_or_else(|| wrong("a tag is cut off"))? & 0x80 != 0 {}
        }
        let length = self.length(end).map_err(|what| wrong(&what))?;
        let stop = self
            .at
            .checked_add(length)
            .filter(|stop| *stop <= end)
            .ok_or_else(|| wrong("an element is longer than what holds it"))?;
        let content = &self.bytes[self.at..stop];
        if let Some(what) = value_fault(tag, content) {
            return Err(wrong(what));
        }
        if tag & 0x20 != 0 {
            self.elements(stop, depth + 1)?;
        }
        self.at = stop;
        Ok(())
    }

    fn next(&mut self, end: usize) -> Option<u8> {
        let byte = *self.bytes.get(self.at).filter(|_| self.at < end)?;
        self.at += 1;
        Some(byte)
    }

    fn length(&mut self, end: usize) -> Result<usize, String> {
        let cut = || "a length is cut off".to_owned();
        let first = self.next(end).ok_or_else(cut)?;
        if first < 0x80 {
            return Ok(usize::from(first));
        }
        if first == 0x80 {
            return Err("an indefinite length".into());
        }
        let mut length = 0_usize;
        for n in 0..first & 0x7f {
            let byte = self.next(end).ok_or_else(cut)?;
            if n == 0 && byte == 0 {
                return Err("a length with leading zeros".into());
            }
            length = length
                .checked_mul(256)
                .and_then(|length| length.checked_add(usize::from(byte)))
                .ok_or("a length that is out of range")?;
        }
        if length < 0x80 {
            return Err("a length in the long form that fits the short".into());
        }
        Ok(length)
    }
}

/// What is wrong with a primitive value.
fn value_fault(tag: u8, content: &[u8]) -> Option<&'static str> {
    match (tag, content) {
        (0x01, [0x00 | 0xff]) => None,
        (0x01, _) => Some("a BOOLEAN that is neither 00 nor FF"),
        (0x02 | 0x0a, []) => Some("an empty INTEGER"),
        (0x02 | 0x0a, [0, next, ..]) if *next < 0x80 => Some("an INTEGER with leading zeros"),
        (0x02 | 0x0a, [0xff, next, ..]) if *next >= 0x80 => Some("an INTEGER with leading ones"),
        (0x03, []) => Some("a BIT STRING without its count of unused bits"),
        (0x03, [unused, ..]) if *unused > 7 => Some("a BIT STRING with more than 7 unused bits"),
        (0x03, [unused, .., last]) if last & ((1 << unused) - 1) != 0 => {
            Some("a BIT STRING whose unused bits are not zero")
        }
        (0x05, [_, ..]) => Some("a NULL with something in it"),
        (0x23 | 0x24 | 0x2c | 0x33 | 0x36, _) => Some("a string in parts"),
        (0x04, [0x30, ..]) => nested(content),
        _ => None,
    }
}

/// An extension's value is itself DER, when it looks like one whole SEQUENCE.
fn nested(content: &[u8]) -> Option<&'static str> {
    let mut reader = Reader {
        bytes: content,
        at: 1,
    };
    let whole = reader
        .length(content.len())
        .is_ok_and(|length| reader.at.checked_add(length) == Some(content.len()));
    (whole && fault(content).is_some()).then_some("an extension's value that is not DER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_der_passes() {
        for good in [
            &[0x30, 0x03, 0x02, 0x01, 0x00][..],
            &[0x01, 0x01, 0xff],
            &[0x03, 0x02, 0x07, 0x80],
            &[0x04, 0x02, 0x30, 0x00],
        ] {
            assert_eq!(fault(good), None, "{good:02x?}");
        }
        for (bad, word) in [
            (&[0x30, 0x80, 0x00, 0x00][..], "indefinite"),
            (&[0x30, 0x81, 0x03, 0x02, 0x01, 0x00], "long form"),
            (&[0x02, 0x02, 0x00, 0x01], "leading zeros"),
            (&[0x02, 0x02, 0xff, 0x80], "leading ones"),
            (&[0x02, 0x00], "empty"),
            (&[0x01, 0x01, 0x01], "BOOLEAN"),
            (&[0x03, 0x02, 0x07, 0x81], "unused bits are not zero"),
            (&[0x24, 0x02, 0x04, 0x00], "in parts"),
            (&[0x30, 0x05, 0x02], "longer than"),
            (&[0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0x01], "extension"),
        ] {
            let said = fault(bad).unwrap_or_default();
            assert!(said.contains(word), "{bad:02x?}: {said}");
        }
        assert!(fault(&[0x30; 4000]).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = fault(&bytes);
        }
    }
}
