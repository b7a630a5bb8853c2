//! NTS key exchange records (RFC 8915 §4).

use super::{AES_SIV_CMAC_256, NtsError};

/// The most that a server's records may take together.
pub const MAX_BYTES: usize = 16 << 10;
/// The most cookies that are kept; servers give eight (RFC 8915 §4.1.6).
const MAX_COOKIES: usize = 8;
/// The longest cookie that still fits into a packet with everything else.
const MAX_COOKIE_BYTES: usize = 640;

const CRITICAL: u16 = 0x8000;
const END: u16 = 0;
const NEXT_PROTOCOL: u16 = 1;
const ERROR: u16 = 2;
const WARNING: u16 = 3;
const ALGORITHM: u16 = 4;
const COOKIE: u16 = 5;
const SERVER: u16 = 6;
const PORT: u16 = 7;

/// What a server hands out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// At least one cookie.
    pub cookies: Vec<Vec<u8>>,
    /// The NTP server to ask, unless it is the same machine.
    pub server: Option<String>,
    /// Its port, unless it is 123.
    pub port: Option<u16>,
}

/// The question: NTP version 4 with AES-SIV-CMAC-256.
pub fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = |kind: u16, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap_or(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
    };
    record(NEXT_PROTOCOL | CRITICAL, &[0, 0]);
    record(ALGORITHM | CRITICAL, &AES_SIV_CMAC_256.to_be_bytes());
    record(END | CRITICAL, &[]);
    bytes
}

/// Whether the last record has come.
pub fn is_complete(bytes: &[u8]) -> bool {
    records(bytes).any(|record| record.is_ok_and(|(kind, _)| kind & !CRITICAL == END))
}

/// Reads the answer up to its end record.
///
/// # Errors
/// When it refuses, is cut off, or lacks what is needed.
pub fn read(bytes: &[u8]) -> Result<Offer, NtsError> {
    let mut offer = Offer::default();
    let (mut speaks_ntp, mut has_algorithm, mut ended) = (false, false, false);
    for record in records(bytes) {
        let (kind, body) = record?;
        match kind & !CRITICAL {
            END => {
                ended = true;
                break;
            }
            NEXT_PROTOCOL => speaks_ntp |= holds(body, 0),
            ALGORITHM => has_algorithm |= holds(body, AES_SIV_CMAC_256),
            ERROR => return Err(NtsError::Refused(number(body)?)),
            WARNING => return Err(NtsError::Malformed("a warning that nobody knows")),
            COOKIE if offer.cookies.len() < MAX_COOKIES => offer.cookies.push(cookie(body)?),
            COOKIE => {}
            SERVER => offer.server = Some(name(body)?),
            PORT => offer.port = Some(number(body)?),
            _ if kind & CRITICAL != 0 => {
                return Err(NtsError::Malformed("a critical record that nobody knows"));
            }
            _ => {}
        }
    }
    match (ended, speaks_ntp && has_algorithm, offer.cookies.is_empty()) {
        (false, ..) => Err(NtsError::Malformed("there is no end record")),
        (_, false, _) => Err(NtsError::Unsupported),
        (.., true) => Err(NtsError::NoCookie),
        _ => Ok(offer),
    }
}

/// Kind and body of each record; a cut one is an error, and the last.
fn records(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), NtsError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = NtsError::Malformed("a record is cut off");
        let Some((head, after)) = rest.split_first_chunk::<4>() else {
            rest = &[];
            return Some(Err(cut));
        };
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let Some((body, after)) = after.split_at_checked(length) else {
            rest = &[];
            return Some(Err(cut));
        };
        rest = after;
        Some(Ok((u16::from_be_bytes([head[0], head[1]]), body)))
    })
}

fn holds(body: &[u8], wanted: u16) -> bool {
    body.chunks_exact(2)
        .any(|pair| pair == wanted.to_be_bytes())
}

fn number(body: &[u8]) -> Result<u16, NtsError> {
    let pair = body.try_into().map(u16::from_be_bytes);
    pair.map_err(|_| NtsError::Malformed("a number that is not two bytes"))
}

fn cookie(body: &[u8]) -> Result<Vec<u8>, NtsError> {
    if (1..=MAX_COOKIE_BYTES).contains(&body.len()) {
        return Ok(body.to_vec());
    }
    Err(NtsError::Malformed("a cookie of no bytes, or of too many"))
}

/// A host name or address in ASCII.
fn name(body: &[u8]) -> Result<String, NtsError> {
    let written = |b: &u8| b.is_ascii_alphanumeric() || b".-_:".contains(b);
    if (1..=253).contains(&body.len()) && body.iter().all(written) {
        return Ok(body.iter().map(|b| char::from(*b)).collect());
    }
    Err(NtsError::Malformed("a server name that is none"))
}
