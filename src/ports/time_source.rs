//! What tells us the time from outside: time servers, time daemons, and the kernel's own opinion of
//! its clock; and what sets it.

use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::Clock;
use crate::core::clock::{Daemon, KernelState, RtcFacts};
use crate::core::endpoint::Endpoint;
use crate::core::nts::trust::{Accepted, Trust};
use crate::core::nts::{KEY_BYTES, ke};
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};

/// Asks time servers over UDP.
pub trait TimeSource {
    /// Sends each packet to its server, all at once, and waits for every answer at most `timeout`.
    /// The answers come in the order asked.
    fn ask(
        &self,
        questions: &[Question],
        timeout: Duration,
        clock: &(dyn Clock + Sync),
    ) -> Vec<Result<Answered, Unanswered>>;
}

/// One packet for one server.
#[derive(Clone, Debug)]
pub struct Question {
    /// The server.
    pub server: Endpoint,
    /// The packet, of at least 48 bytes; an answer echoes the last eight of those.
    pub packet: Vec<u8>,
}

/// A datagram that came back.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Who answered.
    pub address: String,
    /// Our wall clock when the packet left, in nanoseconds since 1970.
    pub sent_nanos: i128,
    /// The same clock when the answer came: `sent_nanos` plus monotonic time, so that a step of
    /// the wall clock in between does no harm.
    pub received_nanos: i128,
    /// What came, cut at 2 KiB.
    pub bytes: Vec<u8>,
}

/// Why nothing came back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// Its name has no address.
    #[error("its name cannot be looked up: {0}")]
    Dns(String),
    /// The packet could not be sent, or was turned back.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Silence.
    #[error("it did not answer in time")]
    Timeout,
}

/// Exchanges keys with NTS servers (RFC 8915 §4).
pub trait NtsKeys {
    /// Connects to each server, all at once, each within `timeout`. The outcomes come in the order
    /// asked; an error is one line.
    fn exchange(
        &self,
        servers: &[Endpoint],
        trust: &Trust,
        timeout: Duration,
    ) -> Vec<Result<NtsSession, String>>;
}

/// What a key exchange brought.
#[derive(Clone, Debug)]
pub struct NtsSession {
    /// The address of the key exchange, where NTP is asked too unless the offer names another.
    pub address: std::net::IpAddr,
    /// Cookies, and perhaps another server.
    pub offer: ke::Offer,
    /// How the server's certificate was judged.
    pub accepted: Accepted,
    /// The key of our packets.
    pub to_server: Zeroizing<[u8; KEY_BYTES]>,
    /// The key of its packets.
    pub to_client: Zeroizing<[u8; KEY_BYTES]>,
}

/// Asks the time daemons of this machine.
pub trait TimeDaemons {
    /// Asks each, and waits for its answer at most `timeout`. `None`: it does not run there.
    fn look(&self, places: &[DaemonPlace], timeout: Duration)
    -> Vec<Option<Result<Heard, String>>>;
}

/// Where a daemon can be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DaemonPlace {
    /// Which.
    pub daemon: Daemon,
    /// Where.
    pub at: Place,
    /// What to send, where something is to be sent.
    pub question: Vec<u8>,
}

/// A socket or a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A UDP port.
    Udp(Endpoint),
    /// A socket, or a folder of files, in the file system.
    Path(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Udp(endpoint) => endpoint.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// What a daemon left or sent.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Its answer.
    Bytes(Vec<u8>),
    /// What systemd-timesyncd keeps: whether it has synchronised since the start, and the last time
    /// that it wrote down.
    Files {
        /// `synchronized` is there.
        synchronised: bool,
        /// When `clock` was last touched.
        saved: Option<UtcTime>,
    },
}

/// The kernel's opinion of its own clock.
pub trait KernelClock {
    /// `None` where the kernel does not say.
    fn state(&self) -> Option<KernelState>;

    /// The battery-backed clock; `None` where there is none.
    fn rtc(&self) -> Option<RtcFacts>;

    /// Seconds since the machine started, sleep included; `None` where the kernel does not say.
    fn uptime_s(&self) -> Option<u64>;
}

/// Sets clocks.
pub trait SetClock {
    /// Steps the system clock to this many nanoseconds since 1970.
    ///
    /// # Errors
    /// `clock.privilege`, `clock.set`.
    fn set_wall(&self, nanos: i128) -> Result<(), SetError>;

    /// Sets the battery-backed clock, in UTC.
    ///
    /// # Errors
    /// `clock.privilege`, `clock.no-rtc`, `clock.set`.
    fn set_rtc(&self, at: UtcTime) -> Result<(), SetError>;
}

/// A clock that could not be set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// There is none.
    #[error("this machine has no battery-backed clock ({0})")]
    NoRtc(&'static str),
    /// Not allowed.
    #[error("setting {0} needs the capability CAP_SYS_TIME, which this process does not have")]
    Privilege(&'static str),
    /// The system says no.
    #[error("{what} cannot be set")]
    System {
        /// Which clock.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Explain for SetError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoRtc(_) => Kind::Input,
            Self::Privilege(_) => Kind::Refused,
            Self::System { .. } => Kind::Unavailable,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::NoRtc(_) => "clock.no-rtc",
            Self::Privilege(_) => "clock.privilege",
            Self::System { .. } => "clock.set",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoRtc(_) => Some("leave --rtc out".into()),
            Self::Privilege(_) => Some(
                "run it as root, or in a systemd service with AmbientCapabilities=CAP_SYS_TIME; in a \
                 container the capability must be granted"
                    .into(),
            ),
            Self::System { .. } => None,
        }
    }
}
