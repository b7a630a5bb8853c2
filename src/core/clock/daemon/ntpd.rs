//! NTP control messages (mode 6) as ntpd and NTPsec answer them: the system variables (RFC 9327).

use super::{DaemonError, half, nanos};
use crate::core::clock::DaemonSays;

const HEADER: usize = 12;
/// Version 2, mode 6.
const FIRST: u8 = (2 << 3) | 6;
const READ_VARIABLES: u8 = 2;
const RESPONSE: u8 = 0x80;
const ERROR: u8 = 0x40;
const WANTED: &[u8] = b"leap,stratum,refid,rootdelay,rootdisp,offset";

/// The question; its text is padded to a multiple of four.
pub fn request(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    packet[0] = FIRST;
    packet[1] = READ_VARIABLES;
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    let count = u16::try_from(WANTED.len()).unwrap_or(0);
    packet[10..12].copy_from_slice(&count.to_be_bytes());
    packet.extend_from_slice(WANTED);
    packet.resize(packet.len().next_multiple_of(4), 0);
    packet
}

/// The answer.
///
/// # Errors
/// When it is none to this question.
pub fn read(reply: &[u8], sequence: u16) -> Result<DaemonSays, DaemonError> {
    let cut = || DaemonError::Protocol("its answer is cut off");
    if reply.len() < HEADER || reply[0] & 7 != 6 {
        return Err(DaemonError::Protocol("not an NTP control message"));
    }
    if reply[1] & (RESPONSE | 0x1f) != RESPONSE | READ_VARIABLES || half(reply, 2) != Some(sequence)
    {
        return Err(DaemonError::Protocol("an answer to another question"));
    }
    let status = half(reply, 4).ok_or_else(cut)?;
    if reply[1] & ERROR != 0 {
        return Err(DaemonError::Refused(status >> 8));
    }
    let count = usize::from(half(reply, 10).ok_or_else(cut)?);
    let text = reply.get(HEADER..HEADER + count).ok_or_else(cut)?;
    let text = String::from_utf8_lossy(text);
    let named = |name: &str| {
        let pairs = text.split([',', '\r', '\n']);
        let mut named = pairs.filter_map(|pair| pair.trim().split_once('='));
        named
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    };
    let value = |name| named(name).and_then(|value| value.parse::<f64>().ok());
    // Its own clock (LOCAL, or orphan mode) is no source of time.
    let own = named("refid").is_some_and(|id| id == "LOCAL" || id.starts_with("127."));
    let seconds = |name| value(name).and_then(|ms| nanos(ms / 1e3));
    let stratum = value("stratum").ok_or(DaemonError::Protocol("it names no stratum"))?;
    let (delay, dispersion) = (seconds("rootdelay"), seconds("rootdisp"));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and 255 is as good as any absurd stratum"
    )]
    let stratum = stratum as u8;
    Ok(DaemonSays {
        synchronised: status >> 14 != 3 && value("leap") != Some(11.0) && stratum < 16 && !own,
        stratum: Some(stratum),
        correction_nanos: seconds("offset").unwrap_or(0),
        error_nanos: delay.zip(dispersion).map(|(delay, dispersion)| {
            (delay.saturating_abs() / 2).saturating_add(dispersion.max(0))
        }),
        floor: None,
    })
}
