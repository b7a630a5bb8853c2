//! The observation socket of ntpd-rs: a length in eight bytes, then JSON. Version 1 writes lengths of
//! time as seconds, version 2 as whole seconds and a fraction of 2⁶⁴.

use serde_json::Value;

use super::{DaemonError, nanos};
use crate::core::clock::DaemonSays;

/// The most that is read.
pub const MAX_BYTES: usize = 1 << 20;
/// Its variance is taken as it will be by the next poll at the latest.
const AGE_S: f64 = 1024.0;
/// It gives a standard deviation; this many of them are its bound.
const SIGMAS: f64 = 4.0;

/// The answer; older versions leave the length out.
///
/// # Errors
/// When it is not ntpd-rs's.
pub fn read(reply: &[u8]) -> Result<DaemonSays, DaemonError> {
    let other = || DaemonError::Protocol("not the observation socket of ntpd-rs");
    let json = match reply.first() {
        Some(b'{') => reply,
        _ => reply.get(8..).ok_or_else(other)?,
    };
    let state: Value = serde_json::from_slice(json).map_err(|_| other())?;
    let system = state.get("system").ok_or_else(other)?;
    // Before 1.2 these stood in a part of their own.
    let times = system.get("time_snapshot").unwrap_or(system);
    let stratum = system
        .get("stratum")
        .and_then(Value::as_u64)
        .ok_or_else(other)?;
    let leap = times.get("leap_indicator").and_then(Value::as_str);
    let synchronised = stratum < 16 && leap.is_some_and(|leap| !leap.starts_with("Un"));
    let delay = times.get("root_delay").and_then(seconds);
    let bound = delay.zip(dispersion(times));
    Ok(DaemonSays {
        synchronised,
        stratum: u8::try_from(stratum).ok(),
        correction_nanos: 0,
        error_nanos: bound.and_then(|(delay, sigma)| nanos(delay.abs() / 2.0 + SIGMAS * sigma)),
        floor: None,
    })
}

fn dispersion(times: &Value) -> Option<f64> {
    if let Some(given) = times.get("root_dispersion") {
        return seconds(given);
    }
    let part = |name| times.get(name).and_then(Value::as_f64);
    let variance = part("root_variance_base")?
        + part("root_variance_linear").unwrap_or(0.0) * AGE_S
        + part("root_variance_quadratic").unwrap_or(0.0) * AGE_S.powi(2)
        + part("root_variance_cubic").unwrap_or(0.0) * AGE_S.powi(3);
    (variance >= 0.0).then(|| variance.sqrt())
}

fn seconds(value: &Value) -> Option<f64> {
    if let Some(seconds) = value.as_f64() {
        return Some(seconds);
    }
    let upper = value.get("upper")?.as_f64()?;
    let lower = value.get("lower")?.as_f64()?;
    Some(upper + lower / 2_f64.powi(64))
}
