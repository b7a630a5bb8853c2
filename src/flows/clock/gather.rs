//! Gathers what is known of the time; judges nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::ask::narrow;
use crate::core::cert::Certificate;
use crate::core::clock::daemon::{chrony, ntpd, ntpd_rs};
use crate::core::clock::kiss::Memory;
use crate::core::clock::{
    ClockFacts, Daemon, DaemonFacts, DaemonSays, LastSeenFacts, TlsFacts, last_seen,
};
use crate::core::endpoint::Endpoint;
use crate::core::nts::trust::Trust;
use crate::core::time::{Span, UtcTime};
use crate::ports::{
    Clock, DaemonPlace, Entropy, FileError, Files, Heard, KernelClock, Look, NtsKeys, Probe,
    TimeDaemons, TimeSource,
};

/// A daemon of this machine answers at once, or not at all.
const DAEMON_WAIT: Duration = Duration::from_millis(250);
/// A clock that moved by more than this while it was measured was set meanwhile.
const STEPPED_NANOS: i128 = 100_000_000;

/// The powers needed.
#[derive(Clone, Copy)]
pub struct ClockGather<'a> {
    /// The system clock.
    pub clock: &'a (dyn Clock + Sync),
    /// The kernel's opinion of it.
    pub kernel: &'a dyn KernelClock,
    /// Time servers.
    pub time_source: &'a dyn TimeSource,
    /// Keys for those that speak NTS.
    pub nts: &'a dyn NtsKeys,
    /// Time daemons.
    pub daemons: &'a dyn TimeDaemons,
    /// Nonces.
    pub entropy: &'a dyn Entropy,
    /// What was kept.
    pub files: &'a dyn Files,
    /// A TLS server, as the last resort.
    pub probe: &'a dyn Probe,
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct ClockRequest {
    /// The true time is not before this.
    pub floor: UtcTime,
    /// One source alone is not believed after this; 20 years after the floor when left out.
    pub ceiling: Option<UtcTime>,
    /// The user's word for the clock.
    pub trust_clock: Option<Span>,
    /// Time servers to ask without authentication.
    pub time_servers: Vec<Endpoint>,
    /// Key exchange servers of NTS.
    pub nts_servers: Vec<Endpoint>,
    /// Who may vouch for those.
    pub nts_roots: Vec<Certificate>,
    /// Where time daemons are looked for, and whether silence there is worth telling.
    pub daemons: Vec<(DaemonPlace, bool)>,
    /// The file with the last time that was sure.
    pub last_seen: Option<PathBuf>,
    /// A TLS server to take bounds from.
    pub tls: Option<TlsAsk>,
    /// The most that each exchange may take.
    pub timeout: Duration,
}

/// A TLS server, and who may vouch for it.
#[derive(Clone, Debug)]
pub struct TlsAsk {
    /// The server.
    pub endpoint: Endpoint,
    /// Its roots.
    pub roots: Vec<Certificate>,
}

impl ClockGather<'_> {
    /// Looks. What cannot be looked at is itself a fact, so this cannot fail. A clock that is set
    /// meanwhile is looked at once more, for offsets to the clock of before mean nothing.
    pub fn run(&self, request: &ClockRequest, memory: &mut Memory) -> ClockFacts {
        let start = self.wall_since_start();
        let facts = self.look(request, memory);
        if (self.wall_since_start() - start).abs() <= STEPPED_NANOS {
            return facts;
        }
        self.look(request, memory)
    }

    /// The wall clock by the monotonic one: changes only when somebody sets the wall clock.
    pub(super) fn wall_since_start(&self) -> i128 {
        let passed = i128::try_from(self.clock.monotonic().as_nanos()).unwrap_or(i128::MAX);
        self.clock.now_nanos().saturating_sub(passed)
    }

    fn look(&self, request: &ClockRequest, memory: &mut Memory) -> ClockFacts {
        let last_seen = request.last_seen.as_ref().map(|path| self.last_seen(path));
        let seen = last_seen.as_ref().and_then(|seen| seen.at);
        let trust = |roots: &[Certificate]| Trust {
            roots: roots.to_vec(),
            floor: seen.map_or(request.floor, |seen| seen.max(request.floor)),
            wall: self.clock.now(),
        };
        let time_servers = self.ask(request, &trust(&request.nts_roots), memory);
        let tls = request
            .tls
            .as_ref()
            .map(|ask| self.tls(ask, &trust(&ask.roots), request.timeout));
        let daemons = self.daemons(&request.daemons);
        ClockFacts {
            wall_nanos: narrow(self.clock.now_nanos()),
            floor: request.floor,
            ceiling: request.ceiling,
            trusted_within_s: request.trust_clock.map(Span::as_seconds),
            kernel: self.kernel.state(),
            time_servers,
            daemons,
            rtc: self.kernel.rtc(),
            last_seen,
            tls,
        }
    }

    fn last_seen(&self, path: &std::path::Path) -> LastSeenFacts {
        let (at, error) = match self.files.read(path, last_seen::MAX_BYTES) {
            Ok(bytes) => match last_seen::read(&bytes) {
                Ok(at) => (Some(at), None),
                Err(why) => (None, Some(why.to_owned())),
            },
            Err(FileError::Missing(_)) => (None, None),
            Err(error) => (None, Some(error.to_string())),
        };
        LastSeenFacts {
            path: path.display().to_string(),
            at,
            error,
        }
    }

    /// The window of a server's chain, if it leads to a trusted root by the rule that NTS servers are
    /// judged by: the clock that would judge its dates is what is asked for.
    fn tls(&self, ask: &TlsAsk, trust: &Trust, timeout: Duration) -> TlsFacts {
        let seen = self.probe.look(&Look {
            endpoint: &ask.endpoint,
            trust: None,
            timeout,
        });
        // A chain that is public proves nothing of who shows it; only its key does.
        let window = if seen.possession == Some(true) {
            let accepted = trust.accept(seen.chain, &ask.endpoint.host);
            accepted.map_err(|fault| fault.to_string())
        } else {
            let unproved = || "it did not prove that it holds its certificate's key".into();
            Err(seen.error.map_or_else(unproved, |error| error.to_string()))
        };
        TlsFacts {
            endpoint: ask.endpoint.clone(),
            window: window.as_ref().ok().map(|accepted| accepted.window),
            error: window.err(),
        }
    }

    /// ntpd is asked last and only if no other daemon answers: at its port a chronyd that serves NTP
    /// would let the question time out.
    fn daemons(&self, wanted: &[(DaemonPlace, bool)]) -> Vec<DaemonFacts> {
        let at_once =
            |(place, named): &&(DaemonPlace, bool)| *named || place.daemon != Daemon::Ntpd;
        let (first, last): (Vec<_>, Vec<_>) = wanted.iter().partition(at_once);
        let found = self.daemons_at(&first);
        if last.is_empty() || found.iter().any(|facts| facts.says.is_some()) {
            return found;
        }
        self.daemons_at(&last).into_iter().chain(found).collect()
    }

    fn daemons_at(&self, wanted: &[&(DaemonPlace, bool)]) -> Vec<DaemonFacts> {
        let sequence = self.sequence();
        let places: Vec<DaemonPlace> = wanted
            .iter()
            .map(|(place, _)| DaemonPlace {
                question: question(place.daemon, sequence),
                ..place.clone()
            })
            .collect();
        let heard = self.daemons.look(&places, DAEMON_WAIT);
        let mut found: Vec<DaemonFacts> = Vec::new();
        for ((place, named), heard) in wanted.iter().zip(heard) {
            let says = match heard {
                Some(Ok(heard)) => read(place.daemon, sequence, &heard),
                Some(Err(error)) => Err(error),
                None => Err("it does not run there".into()),
            };
            // At its usual places, whoever does not speak the protocol is somebody else.
            let known = found.iter().any(|facts| facts.daemon == place.daemon);
            if *named || (says.is_ok() && !known) {
                found.push(DaemonFacts {
                    daemon: place.daemon,
                    place: place.at.to_string(),
                    says: says.as_ref().ok().copied(),
                    error: says.err(),
                });
            }
        }
        found
    }

    fn sequence(&self) -> u32 {
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }
}

fn question(daemon: Daemon, sequence: u32) -> Vec<u8> {
    match daemon {
        Daemon::Chrony => chrony::request(sequence),
        Daemon::Ntpd => ntpd::request(short(sequence)),
        Daemon::NtpdRs | Daemon::Timesyncd => Vec::new(),
    }
}

fn read(daemon: Daemon, sequence: u32, heard: &Heard) -> Result<DaemonSays, String> {
    let read = match (heard, daemon) {
        (
            Heard::Files {
                synchronised,
                saved,
            },
            _,
        ) => {
            return Ok(DaemonSays {
                synchronised: *synchronised,
                floor: *saved,
                ..DaemonSays::default()
            });
        }
        (Heard::Bytes(bytes), Daemon::Chrony) => chrony::read(bytes, sequence),
        (Heard::Bytes(bytes), Daemon::NtpdRs) => ntpd_rs::read(bytes),
        (Heard::Bytes(bytes), _) => ntpd::read(bytes, short(sequence)),
    };
    read.map_err(|error| error.to_string())
}

fn short(sequence: u32) -> u16 {
    u16::try_from(sequence & 0xffff).unwrap_or(0)
}
