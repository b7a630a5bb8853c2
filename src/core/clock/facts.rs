//! What was found about the time: plain data, so that it can be kept and judged elsewhere.

use serde::{Deserialize, Serialize};

use crate::core::endpoint::Endpoint;
use crate::core::time::{Span, UtcTime, Validity};

/// A program is not believed to run this long after it was built, unless time servers prove it.
const PLAUSIBLE_LIFE: Span = Span::days(20 * 365);

/// What is known of the time.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClockFacts {
    /// The system clock, in nanoseconds since 1970.
    pub wall_nanos: i64,
    /// The true time is not before this: the program's build date, or later evidence.
    pub floor: UtcTime,
    /// Later than this is believed of a majority of time servers and of NTS only; 20 years after
    /// the floor when left out.
    #[serde(default)]
    pub ceiling: Option<UtcTime>,
    /// The user's word that the clock is right to within so many seconds.
    pub trusted_within_s: Option<i64>,
    /// The kernel's opinion; `None` where it does not say.
    pub kernel: Option<KernelState>,
    /// What each time server answered.
    pub time_servers: Vec<TimeServerFacts>,
    /// What each time daemon on this machine says.
    #[serde(default)]
    pub daemons: Vec<DaemonFacts>,
    /// The battery-backed clock; `None` where there is none.
    #[serde(default)]
    pub rtc: Option<RtcFacts>,
    /// The latest time that this device was sure of before.
    #[serde(default)]
    pub last_seen: Option<LastSeenFacts>,
    /// What a TLS server's certificate tells about the time.
    #[serde(default)]
    pub tls: Option<TlsFacts>,
}

impl ClockFacts {
    /// The system clock in whole seconds.
    pub fn wall(&self) -> UtcTime {
        UtcTime::from_unix(self.wall_nanos.div_euclid(1_000_000_000))
    }

    /// The last second that a single unauthenticated source is believed.
    pub fn ceiling(&self) -> UtcTime {
        self.ceiling
            .unwrap_or_else(|| self.floor.plus(PLAUSIBLE_LIFE))
    }
}

/// adjtimex(2), read only.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct KernelState {
    /// Whether some daemon keeps the clock right.
    pub synchronised: bool,
    /// The kernel's bound on the clock's error, in microseconds.
    pub max_error_us: i64,
    /// Its estimate of the error, in microseconds.
    pub estimated_error_us: i64,
    /// The `STA_*` bits.
    #[serde(default)]
    pub status: i32,
    /// By how much the kernel's clock differs from the one that this process is shown, in
    /// nanoseconds: more than nothing when somebody moves the clock for this process only.
    #[serde(default)]
    pub differs_nanos: i64,
}

/// One question to one time server.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TimeServerFacts {
    /// Whom we asked.
    pub server: Endpoint,
    /// The nonce in our packet.
    pub nonce: u64,
    /// Our clock when the packet left, in nanoseconds since 1970.
    pub sent_nanos: i64,
    /// Our clock when the answer came.
    pub received_nanos: i64,
    /// The answer's bytes; empty when there was none. Of an NTS answer the 48 bytes of its header.
    pub reply: Vec<u8>,
    /// Why there was none.
    pub error: Option<String>,
    /// The address that answered.
    #[serde(default)]
    pub address: Option<String>,
    /// Whether it was asked by NTS. An answer without proof then counts for nothing.
    #[serde(default)]
    pub by_nts: bool,
    /// What proves the answer to be this server's own; `None` for plain NTP.
    #[serde(default)]
    pub nts: Option<NtsProof>,
}

/// An answer whose NTS authenticator was verified on the device (RFC 8915).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NtsProof {
    /// When every certificate of the NTS key exchange's server is valid.
    pub certificate: Validity,
    /// Whether this device's clock stood outside of that window, so that the certificate was held
    /// against what else is known of the time.
    pub clock_waived: bool,
}

/// A program that keeps the clock right.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// chronyd, asked over its command protocol.
    Chrony,
    /// ntpd or NTPsec, asked by NTP control messages (mode 6).
    Ntpd,
    /// ntpd-rs, asked over its observation socket.
    NtpdRs,
    /// systemd-timesyncd, by the files it keeps.
    Timesyncd,
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chrony => "chronyd",
            Self::Ntpd => "ntpd",
            Self::NtpdRs => "ntpd-rs",
            Self::Timesyncd => "systemd-timesyncd",
        })
    }
}

/// One daemon.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DaemonFacts {
    /// Which.
    pub daemon: Daemon,
    /// Where it was asked.
    pub place: String,
    /// What it said.
    pub says: Option<DaemonSays>,
    /// Why it said nothing.
    pub error: Option<String>,
}

/// A daemon's own account of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DaemonSays {
    /// Whether it follows a source of time.
    pub synchronised: bool,
    /// How far it is from a reference clock.
    pub stratum: Option<u8>,
    /// What it would add to the clock, in nanoseconds.
    pub correction_nanos: i64,
    /// Its bound on the error of that; `None` where it gives none.
    pub error_nanos: Option<i64>,
    /// The true time is not before this, by what it wrote down.
    pub floor: Option<UtcTime>,
}

/// The battery-backed clock.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RtcFacts {
    /// Its name, such as `rtc0`.
    pub device: String,
    /// What it shows, taken as UTC.
    pub shows: Option<UtcTime>,
    /// Why it could not be read.
    pub error: Option<String>,
}

/// The latest time that this device was sure of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LastSeenFacts {
    /// The file.
    pub path: String,
    /// The time in it.
    pub at: Option<UtcTime>,
    /// Why there is none.
    pub error: Option<String>,
}

/// The time as a TLS server's certificates bound it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TlsFacts {
    /// The server.
    pub endpoint: Endpoint,
    /// When all certificates that it showed are valid, if they lead to a trusted root.
    pub window: Option<Validity>,
    /// Why there is no window.
    pub error: Option<String>,
}
