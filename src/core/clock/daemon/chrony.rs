//! chronyd's command protocol, version 6: the one question `tracking` (chrony's candm.h). It may be
//! asked over UDP port 323 of the loopback by anybody, and over the Unix socket by root.

use super::{DaemonError, half, nanos, word};
use crate::core::clock::DaemonSays;

const VERSION: u8 = 6;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const TRACKING: u16 = 33;
const TRACKING_REPLY: u16 = 5;
/// Header and body of the answer; the question is padded to it, or chronyd does not answer.
const BYTES: usize = 28 + 76;
/// Where the answer's body begins.
const BODY: usize = 28;
/// The reference of a chronyd that follows nothing but its own clock (`local`): 127.127.1.1.
const OWN_CLOCK: u32 = 0x7f7f_0101;
/// The leap status of a clock that is not synchronised.
const UNSYNCHRONISED: u16 = 3;

/// The question.
pub fn request(sequence: u32) -> Vec<u8> {
    let mut packet = vec![0; BYTES];
    packet[0] = VERSION;
    packet[1] = REQUEST;
    packet[4..6].copy_from_slice(&TRACKING.to_be_bytes());
    packet[8..12].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// The answer.
///
/// # Errors
/// When it is none to this question.
pub fn read(reply: &[u8], sequence: u32) -> Result<DaemonSays, DaemonError> {
    let cut = || DaemonError::Protocol("its answer is cut off");
    if reply.first() != Some(&VERSION) || reply.get(1) != Some(&REPLY) {
        return Err(DaemonError::Protocol("not chrony's version 6"));
    }
    if half(reply, 4) != Some(TRACKING) || word(reply, 16) != Some(sequence) {
        return Err(DaemonError::Protocol("an answer to another question"));
    }
    match half(reply, 8).ok_or_else(cut)? {
        0 => {}
        status => return Err(DaemonError::Refused(status)),
    }
    if half(reply, 6) != Some(TRACKING_REPLY) || reply.len() < BYTES {
        return Err(cut());
    }
    let float = |at| word(reply, BODY + at).and_then(float).ok_or_else(cut);
    let short = |at| half(reply, BODY + at).ok_or_else(cut);
    let (stratum, leap) = (short(24)?, short(26)?);
    let correction = float(40)?;
    let bound = float(64)?.abs() / 2.0 + float(68)?.abs();
    Ok(DaemonSays {
        synchronised: leap != UNSYNCHRONISED
            && stratum < 16
            && word(reply, BODY) != Some(OWN_CLOCK),
        stratum: u8::try_from(stratum).ok(),
        // As ours: positive is what the clock is slow by.
        correction_nanos: nanos(correction).ok_or_else(cut)?,
        error_nanos: nanos(bound),
        floor: None,
    })
}

/// Seven bits of exponent, 25 of coefficient, both signed.
fn float(word: u32) -> Option<f64> {
    const COEFFICIENT_BITS: u32 = 25;
    let signed = word.cast_signed();
    let exponent = signed >> COEFFICIENT_BITS;
    let coefficient = (signed << (32 - COEFFICIENT_BITS)) >> (32 - COEFFICIENT_BITS);
    let value = f64::from(coefficient) * 2_f64.powi(exponent - 25);
    value.is_finite().then_some(value)
}
