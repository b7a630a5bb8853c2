//! The latest time that a device was sure of: a floor that survives power loss.
//!
//! One line, the time twice: `2026-11-24T12:00:00Z 1795521600`. A file of which a bit has turned says
//! two different times, and is not believed.

use super::{Judged, Trust};
use crate::core::time::{Span, UtcTime};

/// The most of a file that is read.
pub const MAX_BYTES: u64 = 256;
/// Written again only when it gains this much: flash wears out.
const STEP: Span = Span::seconds(3600);

/// The line for a time.
pub fn write(at: UtcTime) -> String {
    format!("{at} {}\n", at.unix())
}

/// The time in a file.
///
/// # Errors
/// Why it is not believed.
pub fn read(bytes: &[u8]) -> Result<UtcTime, &'static str> {
    const WRONG: &str = "it does not hold a time that nameplate wrote; it is ignored";
    let text = std::str::from_utf8(bytes).map_err(|_| WRONG)?;
    let (words, unix) = text.trim_end().split_once(' ').ok_or(WRONG)?;
    let at: UtcTime = words.parse().map_err(|_| WRONG)?;
    let unix: i64 = unix.parse().map_err(|_| WRONG)?;
    if at.unix() == unix {
        Ok(at)
    } else {
        Err(WRONG)
    }
}

/// What to write next, if anything: the beginning of the interval, and so never a time that may be in
/// the future; never backwards; and only from a majority of time servers or from NTS. Weaker evidence
/// can come from a network that lies for an hour, and a floor in the future would outlive the lie.
pub fn next(before: Option<UtcTime>, judged: &Judged) -> Option<UtcTime> {
    let sure = judged.trust.is_some_and(|trust| trust >= Trust::Majority);
    let now = judged.interval.earliest;
    let gains = before.is_none_or(|before| now >= before.plus(STEP));
    (sure && gains).then_some(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_and_one_turned_bit_is_noticed() {
        let at: UtcTime = "2026-11-24T12:00:00Z".parse().unwrap();
        let line = write(at);
        assert_eq!(read(line.as_bytes()), Ok(at));
        for byte in 0..line.len() - 1 {
            for bit in 0..8 {
                let mut bytes = line.clone().into_bytes();
                bytes[byte] ^= 1 << bit;
                assert!(
                    read(&bytes).is_err() || read(&bytes) == Ok(at),
                    "{byte} {bit}"
                );
            }
        }
        for cut in 0..line.len() - 1 {
            assert!(read(&line.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }
    }
}
