//! What time daemons say of the clock, read from their own protocols. Each reader takes any bytes.

/// chronyd's command protocol.
pub mod chrony;
/// NTP control messages of ntpd and NTPsec.
pub mod ntpd;
/// The observation socket of ntpd-rs.
pub mod ntpd_rs;

/// Bytes that are not what the daemon should have said.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DaemonError {
    /// Not its protocol.
    #[error("what answers does not speak its protocol: {0}")]
    Protocol(&'static str),
    /// It refuses.
    #[error("it refuses the question (status {0})")]
    Refused(u16),
}

/// Seconds as nanoseconds, cut to what fits; `None` for what is not a number.
fn nanos(seconds: f64) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, which is what is wanted of absurd values"
    )]
    seconds.is_finite().then_some((seconds * 1e9) as i64)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
