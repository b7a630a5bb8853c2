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
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let symbol = |n: u32, shift: u32| char::from(ALPHABET[(n >> shift & 63) as usize]);
    let mut text = String::with_capacity(der.len() * 4 / 3 + der.len() / 48 + 2 * label.len() + 40);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(48) {
        let (whole, rest) = line.as_chunks::<3>();
        for [a, b, c] in whole {
            let n = u32::from_be_bytes([0, *a, *b, *c]);
            text.extend([symbol(n, 18), symbol(n, 12), symbol(n, 6), symbol(n, 0)]);
        }
        match rest {
            [a] => {
                let n = u32::from_be_bytes([0, *a, 0, 0]);
                text.extend([symbol(n, 18), symbol(n, 12), '=', '=']);
            }
            [a, b] => {
                let n = u32::from_be_bytes([0, *a, *b, 0]);
                text.extend([symbol(n, 18), symbol(n, 12), symbol(n, 6), '=']);
            }
            _ => {}
        }
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
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
