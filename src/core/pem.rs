//! PEM in, PEM out (RFC 7468).

use x509_parser::pem::Pem;

use crate::explain::{Explain, Kind};

/// The most bytes read as one PEM text: 1 MiB, far above any chain.
pub const MAX_BYTES: usize = 1 << 20;

/// One block: its label (`CERTIFICATE`, `PRIVATE KEY`, …) and its DER.
#[derive(Debug, Eq, PartialEq)]
pub struct Block {
    /// What stands after `BEGIN`.
    pub label: String,
    /// The decoded bytes.
    pub der: Vec<u8>,
}

/// Reads every block of a PEM text, in order; text between blocks is skipped.
///
/// # Errors
/// `pem.none` when there is no block at all, `pem.syntax` when a block is broken, `pem.size` over
/// [`MAX_BYTES`].
pub fn parse(text: &[u8]) -> Result<Vec<Block>, PemError> {
    parse_within(text, MAX_BYTES)
}

/// [`parse`] for what may be larger: at most `max` bytes.
///
/// # Errors
/// As [`parse`].
pub fn parse_within(text: &[u8], max: usize) -> Result<Vec<Block>, PemError> {
    if text.len() > max {
        let size = text.len();
        return Err(PemError::Size { size, max });
    }
    let blocks: Vec<Block> = Pem::iter_from_buffer(text)
        .map(|block| {
            block.map(|pem| Block {
                label: pem.label,
                der: pem.contents,
            })
        })
        .collect::<Result<_, _>>()
        .map_err(|error| PemError::Syntax(error.to_string()))?;
    if blocks.is_empty() {
        Err(PemError::None)
    } else {
        Ok(blocks)
    }
}

/// One block with 64-character lines and a closing newline.
pub fn encode(label: &str, der: &[u8]) -> String {
    // Full size from the start: where it grew, it would leave parts of a key behind.
    let size = der.len() * 4 / 3 + der.len() / 48 + 2 * label.len() + 40;
    let mut text = Vec::with_capacity(size);
    for part in ["-----BEGIN ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    for line in der.chunks(48) {
        let (whole, rest) = line.as_chunks::<3>();
        for [a, b, c] in whole {
            text.extend_from_slice(&symbols([*a, *b, *c]));
        }
        match rest {
            [a] => {
                let [first, second, ..] = symbols([*a, 0, 0]);
                text.extend_from_slice(&[first, second, b'=', b'=']);
            }
            [a, b] => {
                let [first, second, third, _] = symbols([*a, *b, 0]);
                text.extend_from_slice(&[first, second, third, b'=']);
            }
            _ => {}
        }
        text.push(b'\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    // The label is text, and symbols are ASCII.
    String::from_utf8(text).unwrap_or_default()
}

/// Three bytes in base64 (RFC 4648 §4).
fn symbols([a, b, c]: [u8; 3]) -> [u8; 4] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let n = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(n >> shift & 63) as usize])
}

/// Bytes that are not the PEM they should be.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// Nothing between BEGIN and END anywhere.
    #[error("no PEM block (-----BEGIN …-----) was found")]
    None,
    /// Too large.
    #[error("{size} bytes are too many for this PEM file (at most {} MiB)", max >> 20)]
    Size {
        /// Bytes.
        size: usize,
        /// The most.
        max: usize,
    },
    /// A block that does not decode.
    #[error("a PEM block is broken: {0}")]
    Syntax(String),
}

impl Explain for PemError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::None => "pem.none",
            Self::Size { .. } => "pem.size",
            Self::Syntax(_) => "pem.syntax",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for length in [0_usize, 1, 2, 3, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length)
                .map(|n| u8::try_from(n * 7 % 251).unwrap())
                .collect();
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            let blocks = parse(text.as_bytes()).unwrap();
            assert_eq!(
                blocks,
                [Block {
                    label: "CERTIFICATE".into(),
                    der
                }],
                "{length}"
            );
        }
    }

    #[test]
    fn rubbish_is_refused_in_words() {
        assert!(matches!(parse(b"hello"), Err(PemError::None)));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(parse(cut), Err(PemError::Syntax(_))));
        assert!(matches!(
            parse(&vec![b'x'; MAX_BYTES + 1]),
            Err(PemError::Size { .. })
        ));
    }
}
