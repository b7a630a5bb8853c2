//! The kernel's clocks: its opinion of the system clock by adjtimex(2), read only and without
//! privilege; setting the system clock by clock_settime(2) and the battery-backed one by ioctl(2).
//!
//! The one reviewed file with `unsafe`: no safe crate wraps adjtimex and RTC_SET_TIME. All go through
//! the C library, so that tests can put themselves between.

#![expect(
    unsafe_code,
    reason = "adjtimex(2), clock_settime(2) and RTC_SET_TIME are called on local structs"
)]

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use super::clock::SystemClock;
use crate::core::clock::{KernelState, RtcFacts};
use crate::core::time::UtcTime;
use crate::ports::{Clock, KernelClock, SetClock, SetError};

const NANOS: i128 = 1_000_000_000;
const SYSTEM: &str = "the system clock";
const RTC: &str = "the battery-backed clock";
const RTC_DEVICE: &str = "/dev/rtc0";
const RTC_SHOWS: &str = "/sys/class/rtc/rtc0/since_epoch";
/// `_IOW('p', 0x0a, struct rtc_time)`, rtc(4): direction and size, type, number.
const RTC_SET_TIME: libc::Ioctl = (1 << 30) | (36 << 16) | (0x70 << 8) | 0x0a;

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl KernelClock for Kernel {
    #[allow(
        clippy::useless_conversion,
        reason = "these fields are 32 bits wide on 32-bit machines"
    )]
    fn state(&self) -> Option<KernelState> {
        // SAFETY: `timex` is plain old data, for which all-zero bytes are a valid value; and with
        // modes = 0 the call only reads.
        let mut timex: libc::timex = unsafe { std::mem::zeroed() };
        timex.modes = 0;
        // SAFETY: the pointer is to a live, exclusively borrowed `timex` of the size that this
        // libc expects, and the call keeps no copy of it.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        let ours = SystemClock.now_nanos();
        if state < 0 {
            return None;
        }
        // The fraction is in nanoseconds when the daemon asked for it, else in microseconds.
        let fraction: i128 = timex.time.tv_usec.into();
        let in_nanos = timex.status & libc::STA_NANO != 0;
        let scale = if in_nanos { 1 } else { 1000 };
        let theirs = i128::from(timex.time.tv_sec) * NANOS + fraction * scale;
        Some(KernelState {
            synchronised: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
            max_error_us: timex.maxerror.into(),
            estimated_error_us: timex.esterror.into(),
            status: timex.status,
            differs_nanos: i64::try_from(theirs - ours).unwrap_or(i64::MAX),
        })
    }

    fn rtc(&self) -> Option<RtcFacts> {
        let device = "rtc0".to_owned();
        match fs::read_to_string(RTC_SHOWS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(RtcFacts {
                device,
                shows: None,
                error: Some(error.to_string()),
            }),
            Ok(text) => {
                let shows = text.trim().parse().ok().map(UtcTime::from_unix);
                let error = shows.is_none().then(|| "it shows no time".to_owned());
                Some(RtcFacts {
                    device,
                    shows,
                    error,
                })
            }
        }
    }

    fn uptime_s(&self) -> Option<u64> {
        let text = fs::read_to_string("/proc/uptime").ok()?;
        text.split('.').next()?.parse().ok()
    }
}

impl SetClock for Kernel {
    fn set_wall(&self, nanos: i128) -> Result<(), SetError> {
        let out_of_range = || failed(SYSTEM, io::ErrorKind::InvalidInput.into());
        let seconds = nanos.div_euclid(NANOS);
        let fraction = nanos.rem_euclid(NANOS);
        // SAFETY: `timespec` is plain old data, for which all-zero bytes are a valid value.
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        time.tv_sec = seconds.try_into().map_err(|_| out_of_range())?;
        time.tv_nsec = fraction.try_into().map_err(|_| out_of_range())?;
        // SAFETY: the pointer is to a live `timespec` that the call only reads.
        let code = unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) };
        if code == 0 {
            return Ok(());
        }
        Err(failed(SYSTEM, io::Error::last_os_error()))
    }

    fn set_rtc(&self, at: UtcTime) -> Result<(), SetError> {
        let device = OpenOptions::new().read(true).open(RTC_DEVICE);
        let device = device.map_err(|error| failed(RTC, error))?;
        let time = at.to_offset();
        // struct rtc_time: second, minute, hour, day, month from 0, year from 1900, and three that
        // are not used.
        let fields: [libc::c_int; 9] = [
            time.second().into(),
            time.minute().into(),
            time.hour().into(),
            time.day().into(),
            libc::c_int::from(u8::from(time.month())) - 1,
            time.year() - 1900,
            0,
            0,
            0,
        ];
        // SAFETY: the descriptor is open, and RTC_SET_TIME reads nine ints from the pointer.
        let code = unsafe { libc::ioctl(device.as_raw_fd(), RTC_SET_TIME, fields.as_ptr()) };
        if code == 0 {
            return Ok(());
        }
        Err(failed(RTC, io::Error::last_os_error()))
    }
}

fn failed(what: &'static str, source: io::Error) -> SetError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => SetError::Privilege(what),
        io::ErrorKind::NotFound if what == RTC => SetError::NoRtc(RTC_DEVICE),
        _ => SetError::System { what, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_without_privilege() {
        let state = Kernel.state().unwrap();
        assert!(state.max_error_us >= 0);
        assert!(state.differs_nanos.abs() < 1_000_000_000, "{state:?}");
        assert!(Kernel.uptime_s().unwrap() > 0);
    }
}
