//! NTP packets with NTS extension fields (RFC 8915 §5; the fields' form: RFC 7822).

use aes_siv::KeyInit;
use aes_siv::siv::Aes128Siv;

use super::{KEY_BYTES, NtsError};
use crate::core::sntp::{self, PACKET_BYTES};

/// The identifier of a request, echoed in its answer.
pub const ID_BYTES: usize = 32;
/// The nonce of our authenticator.
pub const NONCE_BYTES: usize = 16;
/// The shortest extension field (RFC 7822 §3).
const MIN_FIELD: usize = 16;

const UNIQUE_ID: u16 = 0x0104;
const COOKIE: u16 = 0x0204;
const AUTHENTICATOR: u16 = 0x0404;
/// The refusal of a server that has forgotten the key of its cookies.
const NAK: &[u8] = b"NTSN";

/// The random parts of one request.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// In the packet's transmit timestamp.
    pub origin: u64,
    /// The identifier.
    pub id: [u8; ID_BYTES],
    /// For the authenticator.
    pub nonce: [u8; NONCE_BYTES],
}

/// A request with one cookie, sealed.
///
/// # Errors
/// Only if the packet were longer than the cipher takes.
pub fn request(fresh: &Fresh, cookie: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, NtsError> {
    let mut packet = sntp::request(fresh.origin).to_vec();
    field(&mut packet, UNIQUE_ID, &fresh.id);
    field(&mut packet, COOKIE, cookie);
    let mut siv = Aes128Siv::new(&(*key).into());
    let headers: [&[u8]; 2] = [&packet, &fresh.nonce];
    let sealed = siv
        .encrypt(headers, b"")
        .map_err(|_| NtsError::Authenticator)?;
    let mut body = Vec::new();
    body.extend(length_of(&fresh.nonce));
    body.extend(length_of(&sealed));
    body.extend(fresh.nonce);
    body.extend(sealed);
    field(&mut packet, AUTHENTICATOR, &body);
    Ok(packet)
}

/// Verifies an answer: it echoes our identifier, and its authenticator is made with our key over
/// everything before it. What stands behind the authenticator proves nothing and is not read. Gives
/// the 48 bytes of the header.
///
/// # Errors
/// When it is forged, changed, cut off, longer than the question, or a refusal.
pub fn verify(
    reply: &[u8],
    request: &[u8],
    id: &[u8; ID_BYTES],
    key: &[u8; KEY_BYTES],
) -> Result<[u8; PACKET_BYTES], NtsError> {
    let short = NtsError::Malformed("fewer than 48 bytes");
    let header = *reply.first_chunk::<PACKET_BYTES>().ok_or(short)?;
    if reply.len() > request.len() {
        return Err(NtsError::Malformed("longer than the question"));
    }
    let mut identified = false;
    let mut at = PACKET_BYTES;
    while at < reply.len() {
        let (kind, body, next) = read_field(reply, at)?;
        match kind {
            UNIQUE_ID if body == id => identified = true,
            UNIQUE_ID => return Err(NtsError::Identifier),
            AUTHENTICATOR if !identified => return Err(NtsError::Identifier),
            AUTHENTICATOR => {
                open(&reply[..at], body, key)?;
                return Ok(header);
            }
            _ => {}
        }
        at = next;
    }
    // A refusal cannot be sealed: the server has no key. It is no reason to believe anything.
    if identified && header[1] == 0 && header[12..16] == *NAK {
        return Err(NtsError::Nak);
    }
    Err(if identified {
        NtsError::Authenticator
    } else {
        NtsError::Identifier
    })
}

fn open(before: &[u8], body: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, NtsError> {
    let cut = NtsError::Malformed("the authenticator is cut off");
    let (lengths, rest) = body.split_first_chunk::<4>().ok_or(cut.clone())?;
    let length = |at| usize::from(u16::from_be_bytes([lengths[at], lengths[at + 1]]));
    let (nonce_bytes, sealed_bytes) = (length(0), length(2));
    let nonce = rest.get(..nonce_bytes).ok_or(cut.clone())?;
    let padded = nonce_bytes.next_multiple_of(4);
    let sealed = rest.get(padded..padded + sealed_bytes).ok_or(cut)?;
    let mut siv = Aes128Siv::new(&(*key).into());
    let headers: [&[u8]; 2] = [before, nonce];
    siv.decrypt(headers, sealed)
        .map_err(|_| NtsError::Authenticator)
}

/// Kind and body of the field at `at`, and where the next begins.
fn read_field(packet: &[u8], at: usize) -> Result<(u16, &[u8], usize), NtsError> {
    let cut = NtsError::Malformed("an extension field is cut off");
    let head = packet.get(at..at + 4).ok_or(cut.clone())?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if length < MIN_FIELD || length % 4 != 0 {
        return Err(NtsError::Malformed("an extension field of a wrong length"));
    }
    let body = packet.get(at + 4..at + length).ok_or(cut)?;
    Ok((u16::from_be_bytes([head[0], head[1]]), body, at + length))
}

fn field(packet: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let length = (4 + body.len()).next_multiple_of(4).max(MIN_FIELD);
    packet.extend(kind.to_be_bytes());
    packet.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    packet.extend(body);
    packet.extend(std::iter::repeat_n(0, length - 4 - body.len()));
}

fn length_of(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}
