//! SNTP: asking time servers, and believing only what their answers prove (RFC 4330, RFC 5905).
//!
//! All times are nanoseconds since 1970-01-01T00:00:00Z.

use crate::explain::{Explain, Kind};

/// A packet without extensions or authenticator.
pub const PACKET_BYTES: usize = 48;
const NANOS: i128 = 1_000_000_000;
/// 1900-01-01 to 1970-01-01 in seconds (RFC 5905 figure 4).
const NTP_TO_UNIX: i128 = 2_208_988_800;
/// The seconds of one NTP era.
const ERA: i128 = 1 << 32;
/// The largest root distance worth believing: RFC 5905's MAXDIST of 1 s, plus what ntpd allows for
/// growth between polls.
pub const MAX_DISTANCE_NANOS: i64 = 1_500_000_000;
/// A server's own processing may not take longer than this.
const MAX_PROCESSING_NANOS: i128 = 10 * NANOS;
/// The least that the round trip counts as: RFC 5905's MINDISP.
const MIN_DELAY_NANOS: i128 = 5_000_000;
/// How far a clock may drift in a second of waiting: RFC 5905's PHI, 15 ppm.
const DRIFT_NANOS_PER_S: i128 = 15_000;

/// The request: version 4, mode 3, everything zero but the transmit timestamp, which is a random
/// nonce, so that an answer proves that its sender saw this very packet and our clock is not told
/// to the network.
pub fn request(nonce: u64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = (4 << 3) | 3;
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// A request that went out, and what is known around it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The nonce in the request.
    pub nonce: u64,
    /// Our clock when it left.
    pub sent_nanos: i128,
    /// Our clock when the answer came.
    pub received_nanos: i128,
    /// The true time is not before this; also resolves the era, for 2036 wraps the seconds.
    pub floor_nanos: i128,
}

/// An answer that passed every check.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Answer {
    /// 1 is a reference clock, 15 the furthest from one.
    pub stratum: u8,
    /// What the server is synchronised to, as hexadecimal.
    pub reference_id: String,
    /// How much must be added to our clock.
    pub offset_nanos: i64,
    /// The round trip without the server's own processing.
    pub delay_nanos: i64,
    /// Half the delay, and the server's root distance, as RFC 5905 §11.2 adds them up: the error
    /// cannot be more, if the server is honest.
    pub uncertainty_nanos: i64,
}

/// Checks an answer and measures our clock with it.
///
/// # Errors
/// `sntp.*`: every answer that RFC 5905 §8 and RFC 4330 §5 tell us not to believe.
pub fn read(reply: &[u8], sent: &Sent) -> Result<Answer, SntpError> {
    check_length(reply)?;
    check_header(reply, sent.nonce)?;
    let at = |offset| era_time(word64(reply, offset), sent.floor_nanos);
    let (reference, receive, transmit) = (at(16), at(32), at(40));
    if word64(reply, 32) == 0 || word64(reply, 40) == 0 {
        return Err(SntpError::NoTime);
    }
    let processing = transmit - receive;
    let future = word64(reply, 16) != 0 && reference > transmit;
    if !(0..=MAX_PROCESSING_NANOS).contains(&processing) || future {
        return Err(SntpError::Impossible);
    }
    let delay = (sent.received_nanos - sent.sent_nanos) - processing;
    // A fast local network and a coarse clock may give a delay a little below nothing.
    if delay < -NANOS / 1000 {
        return Err(SntpError::Impossible);
    }
    let delay = delay.max(0);
    let waited = (sent.received_nanos - sent.sent_nanos).max(0);
    let dispersion = short_nanos(reply, 8) + precision_nanos(reply[3]);
    let there_and_back = (short_nanos(reply, 4) + delay).max(MIN_DELAY_NANOS);
    let uncertainty = there_and_back / 2 + dispersion + waited * DRIFT_NANOS_PER_S / NANOS;
    if uncertainty >= i128::from(MAX_DISTANCE_NANOS) {
        return Err(SntpError::Distance(narrow(uncertainty)));
    }
    if transmit < sent.floor_nanos {
        return Err(SntpError::BeforeFloor(narrow(transmit)));
    }
    let offset = i128::midpoint(receive - sent.sent_nanos, transmit - sent.received_nanos);
    Ok(Answer {
        stratum: reply[1],
        reference_id: crate::core::ids::hex(&reply[12..16]),
        offset_nanos: narrow(offset),
        delay_nanos: narrow(delay),
        uncertainty_nanos: narrow(uncertainty),
    })
}

/// A plain answer is as long as the question. A shorter one is cut off; a longer one carries what
/// nobody asked for.
fn check_length(reply: &[u8]) -> Result<(), SntpError> {
    match reply.len() {
        ..PACKET_BYTES => Err(SntpError::Short(reply.len())),
        PACKET_BYTES => Ok(()),
        _ => Err(SntpError::Long(reply.len())),
    }
}

/// The kiss code of a refusal that is certainly for us: it echoes our nonce.
pub fn kiss(reply: &[u8], nonce: u64) -> Option<String> {
    check_length(reply).ok()?;
    match check_header(reply, nonce) {
        Err(SntpError::Kiss(code)) => Some(code),
        _ => None,
    }
}

fn check_header(reply: &[u8], nonce: u64) -> Result<(), SntpError> {
    let (leap, version, mode) = (reply[0] >> 6, (reply[0] >> 3) & 7, reply[0] & 7);
    // First of all: without this an attacker who sees nothing could say anything below.
    if word64(reply, 24) != nonce {
        return Err(SntpError::Origin);
    }
    if mode != 4 {
        return Err(SntpError::Mode(mode));
    }
    if !(3..=4).contains(&version) {
        return Err(SntpError::Version(version));
    }
    match reply[1] {
        0 => {
            let code = reply[12..16].iter().map(|b| match b {
                b' '..=b'~' => char::from(*b),
                _ => '.',
            });
            Err(SntpError::Kiss(code.collect()))
        }
        _ if leap == 3 => Err(SntpError::Unsynchronised),
        1..=15 => Ok(()),
        _ => Err(SntpError::Unsynchronised),
    }
}

fn word64(packet: &[u8], offset: usize) -> u64 {
    packet[offset..offset + 8]
        .iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// An NTP short: 16 bits of seconds, 16 of fraction; root delay may be negative in NTPv3 only.
fn short_nanos(packet: &[u8], offset: usize) -> i128 {
    let word = packet[offset..offset + 4]
        .iter()
        .fold(0_i128, |word, byte| word << 8 | i128::from(*byte));
    (word * NANOS) >> 16
}

/// A clock's precision, log2 seconds: 2^-20 is a microsecond (RFC 5905 §7.3).
fn precision_nanos(byte: u8) -> i128 {
    match i8::from_be_bytes([byte]) {
        exponent @ ..0 => NANOS >> exponent.unsigned_abs().min(63),
        exponent => NANOS << exponent.min(40),
    }
}

/// An NTP timestamp in the era that puts it nearest to the floor: from 68 years before it to 68
/// years after (RFC 5905 §6, RFC 4330 §3).
fn era_time(timestamp: u64, floor_nanos: i128) -> i128 {
    let seconds = i128::from(timestamp >> 32) - NTP_TO_UNIX;
    let fraction = (i128::from(timestamp & 0xffff_ffff) * NANOS) >> 32;
    let floor = floor_nanos.div_euclid(NANOS);
    let eras = (floor - seconds + ERA / 2).div_euclid(ERA);
    (seconds + eras * ERA) * NANOS + fraction
}

fn narrow(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// An answer that is not to be believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SntpError {
    /// Earlier than the program.
    #[error("it says a time before this program was built")]
    BeforeFloor(i64),
    /// Too far from a reference clock.
    #[error("its error may be {} ms, too much to believe", .0 / 1_000_000)]
    Distance(i64),
    /// Times in an order that cannot be.
    #[error("its timestamps cannot be true together")]
    Impossible,
    /// Kiss-o'-death.
    #[error("it refuses service: kiss-o'-death `{0}`")]
    Kiss(String),
    /// Not from a server.
    #[error("it answered in mode {0}, not as a server (4)")]
    Mode(u8),
    /// Longer than the question.
    #[error("its answer has {0} bytes to a question of 48")]
    Long(usize),
    /// Empty timestamps.
    #[error("its answer has no time in it")]
    NoTime,
    /// Not an answer to our packet.
    #[error("its answer carries another request's origin timestamp: forged, or late")]
    Origin,
    /// Too short.
    #[error("its answer has {0} bytes, fewer than 48")]
    Short(usize),
    /// Stratum 16, or leap indicator 3.
    #[error("it is not synchronised itself")]
    Unsynchronised,
    /// A version we do not know.
    #[error("it speaks NTP version {0}; 3 and 4 are known")]
    Version(u8),
}

impl Explain for SntpError {
    fn kind(&self) -> Kind {
        Kind::Unavailable
    }
    fn code(&self) -> &'static str {
        match self {
            Self::BeforeFloor(_) => "sntp.before-floor",
            Self::Distance(_) => "sntp.distance",
            Self::Impossible => "sntp.impossible",
            Self::Kiss(_) => "sntp.kiss-of-death",
            Self::Mode(_) => "sntp.mode",
            Self::Long(_) => "sntp.long",
            Self::NoTime => "sntp.no-time",
            Self::Origin => "sntp.origin",
            Self::Short(_) => "sntp.short",
            Self::Unsynchronised => "sntp.unsynchronised",
            Self::Version(_) => "sntp.version",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;
    /// 2026-11-24T00:00:00Z.
    const NOW: i128 = 1_795_478_400 * NANOS;

    fn stamp(nanos: i128) -> [u8; 8] {
        let seconds = (nanos.div_euclid(NANOS) + NTP_TO_UNIX).rem_euclid(ERA);
        let fraction = (nanos.rem_euclid(NANOS) << 32) / NANOS;
        u64::try_from((seconds << 32) | fraction)
            .unwrap()
            .to_be_bytes()
    }

    fn reply(receive: i128, transmit: i128) -> [u8; 48] {
        let mut reply = [0; 48];
        reply[0] = (4 << 3) | 4;
        reply[1] = 2;
        reply[3] = 0xec;
        reply[16..24].copy_from_slice(&stamp(receive - 60 * NANOS));
        reply[24..32].copy_from_slice(&NONCE.to_be_bytes());
        reply[32..40].copy_from_slice(&stamp(receive));
        reply[40..].copy_from_slice(&stamp(transmit));
        reply
    }

    fn sent(local: i128) -> Sent {
        Sent {
            nonce: NONCE,
            sent_nanos: local,
            received_nanos: local + 20_000_000,
            floor_nanos: NOW - 86_400 * NANOS,
        }
    }

    #[test]
    fn a_good_answer_measures_the_clock_within_its_uncertainty() {
        for error in [
            0,
            3 * 3600 * NANOS,
            -3 * 3600 * NANOS,
            -56 * 365 * 86_400 * NANOS,
        ] {
            let local = NOW + error;
            let answer = read(&reply(NOW + 8_000_000, NOW + 9_000_000), &sent(local)).unwrap();
            let wrong = i128::from(answer.offset_nanos) + error;
            assert!(
                wrong.abs() <= i128::from(answer.uncertainty_nanos),
                "{error}: {answer:?}"
            );
            assert_eq!(answer.delay_nanos, 19_000_000, "{error}");
        }
    }

    #[test]
    fn the_era_after_2036_is_read_right() {
        for seconds in [
            2_085_978_495,
            2_085_978_497,
            2_085_978_560,
            3_000_000_000_i128,
        ] {
            let now = seconds * NANOS;
            let answer = read(
                &reply(now, now),
                &Sent {
                    floor_nanos: NOW,
                    ..sent(now)
                },
            )
            .unwrap();
            assert!(
                answer.offset_nanos.abs() <= 10_000_000,
                "{seconds}: {answer:?}"
            );
        }
    }

    #[test]
    fn hostile_answers_are_refused_each_for_its_reason() {
        type Spoil = fn(&mut [u8; 48]);
        let cases: [(Spoil, &str); 14] = [
            (|p| p[31] ^= 1, "sntp.origin"),
            (|p| p[0] = (4 << 3) | 3, "sntp.mode"),
            (|p| p[0] = (4 << 3) | 5, "sntp.mode"),
            (|p| p[0] = (2 << 3) | 4, "sntp.version"),
            (|p| p[0] = (7 << 3) | 4, "sntp.version"),
            (|p| p[0] |= 3 << 6, "sntp.unsynchronised"),
            (|p| p[1] = 16, "sntp.unsynchronised"),
            (|p| p[1] = 0, "sntp.kiss-of-death"),
            (|p| p[4..8].copy_from_slice(&[0, 3, 0, 0]), "sntp.distance"),
            (|p| p[8..12].copy_from_slice(&[0xff; 4]), "sntp.distance"),
            (|p| p[40..].fill(0), "sntp.no-time"),
            (
                |p| p[40..].copy_from_slice(&stamp(NOW - NANOS)),
                "sntp.impossible",
            ),
            (
                |p| p[40..].copy_from_slice(&stamp(NOW + 60 * NANOS)),
                "sntp.impossible",
            ),
            (
                |p| p[16..24].copy_from_slice(&stamp(NOW + 99 * NANOS)),
                "sntp.impossible",
            ),
        ];
        for (n, (spoil, code)) in cases.into_iter().enumerate() {
            let mut packet = reply(NOW, NOW);
            spoil(&mut packet);
            assert_eq!(
                read(&packet, &sent(NOW)).unwrap_err().code(),
                code,
                "case {n}"
            );
        }
        let past = NOW - 56 * 365 * 86_400 * NANOS;
        let error = read(&reply(past, past), &sent(NOW)).unwrap_err();
        assert_eq!(error.code(), "sntp.before-floor");
        assert_eq!(read(&[0; 47], &sent(NOW)).unwrap_err().code(), "sntp.short");
        for more in [1, 4, 20, 420] {
            let long = [&reply(NOW, NOW)[..], &vec![0; more]].concat();
            assert_eq!(read(&long, &sent(NOW)).unwrap_err().code(), "sntp.long");
        }
    }

    #[test]
    fn the_uncertainty_is_at_least_what_the_protocol_cannot_see() {
        let mut packet = reply(NOW, NOW);
        packet[3] = 0xf6;
        let quick = Sent {
            received_nanos: NOW + 1_000,
            ..sent(NOW)
        };
        let answer = read(&packet, &quick).unwrap();
        // Half of MINDISP, and a precision of 2^-10 s.
        assert_eq!(answer.uncertainty_nanos, 2_500_000 + 976_562);
        packet[3] = 3;
        assert_eq!(read(&packet, &quick).unwrap_err().code(), "sntp.distance");
    }

    #[test]
    fn a_kiss_is_taken_from_the_asked_server_only() {
        let mut packet = reply(NOW, NOW);
        packet[1] = 0;
        packet[12..16].copy_from_slice(b"RATE");
        assert_eq!(kiss(&packet, NONCE).as_deref(), Some("RATE"));
        assert_eq!(kiss(&packet, NONCE + 1), None);
        assert_eq!(kiss(&reply(NOW, NOW), NONCE), None);
        assert_eq!(kiss(&[&packet[..], &[0; 4]].concat(), NONCE), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1_u64;
        for length in 0..2_000_usize {
            let bytes: Vec<u8> = (0..length % 70)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    state.to_be_bytes()[0]
                })
                .collect();
            let mut bytes = bytes;
            if bytes.len() >= 32 {
                bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
                bytes[0] = (4 << 3) | 4;
            }
            let _ = read(&bytes, &sent(NOW));
        }
    }
}
