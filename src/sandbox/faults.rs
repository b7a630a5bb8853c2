//! Faults that are made on purpose: what goes wrong is set by name, at the start or while the
//! sandbox runs, and looked up where it is to go wrong.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::core::time::Span;

/// What the number of a fault means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unit {
    /// There is none.
    None,
    /// A time, in milliseconds.
    Span,
    /// A percentage, or a count each second; the least and the most it may be, and what it is when
    /// it is left out.
    Number(u64, u64, Option<u64>),
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $unit:expr;)*) => {
        /// Something that can be made to go wrong.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum FaultName { $($(#[doc = $doc])* $name,)* }

        impl FaultName {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it does.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)*),)* }
            }

            fn unit(self) -> Unit {
                match self { $(Self::$name => $unit,)* }
            }
        }
    };
}

faults! {
    /// The server's certificate has expired.
    CertExpired = "server-cert-expired", Unit::None;
    /// The server's certificate is not valid yet.
    CertNotYetValid = "server-cert-not-yet-valid", Unit::None;
    /// The server's certificate is for another name.
    CertWrongName = "server-cert-wrong-name", Unit::None;
    /// The server's certificate is signed by a CA that nobody trusts.
    CertUntrusted = "server-cert-untrusted", Unit::None;
    /// The server's certificate is over 16 KiB, so that it comes in TLS records of the largest size.
    CertOversized = "server-cert-oversized", Unit::None;
    /// The handshake and all data come in TLS records of at most so many bytes.
    TlsFragments = "tls-fragments", Unit::Number(64, 16_384, Some(64));
    /// A template runs so much later.
    TemplateDelay = "template-delay", Unit::Span;
    /// A template's run ends with a server error.
    TemplateFail = "template-fail", Unit::None;
    /// So many of 100 connections are closed as soon as they are accepted.
    ConnectionDrop = "connection-drop", Unit::Number(1, 100, Some(100));
    /// A connection is answered so much later.
    ConnectionDelay = "connection-delay", Unit::Span;
    /// A connection is accepted and never answered.
    ConnectionHalfOpen = "connection-half-open", Unit::None;
    /// A connection breaks off after so long.
    ConnectionCut = "connection-cut", Unit::Span;
    /// More connects in a second than this are refused (THROTTLED).
    ConnectThrottle = "connect-throttle", Unit::Number(0, 1_000_000, Some(0));
    /// More calls of the control plane in a second than this get ThrottlingException.
    RestThrottle = "rest-throttle", Unit::Number(0, 1_000_000, Some(0));
    /// The control plane answers so much later.
    RestDelay = "rest-delay", Unit::Span;
    /// A change of a policy, an attachment or a status reaches connections so much later.
    PropagationDelay = "propagation-delay", Unit::Span;
}

/// A fault with its number: milliseconds, a percentage, a count, or 0 when it has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Which.
    pub name: FaultName,
    /// How much.
    pub value: u64,
}

impl FromStr for FaultName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|name| name.as_str() == text);
        found.copied().ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|name| name.as_str()).collect();
            format!("there is no fault `{text}`; there are {}", all.join(", "))
        })
    }
}

impl FromStr for Fault {
    type Err = String;

    /// `NAME` or `NAME=VALUE`; spans as `500ms`, `3s`, `1m`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let name: FaultName = name.parse()?;
        let shown = name.as_str();
        let value = match (name.unit(), value) {
            (Unit::None, None) => 0,
            (Unit::None, Some(_)) => return Err(format!("`{shown}` has no value")),
            (Unit::Span, None) => return Err(format!("say how long: `{shown}=3s`")),
            (Unit::Span, Some(text)) => millis(text)?,
            (Unit::Number(_, _, default), None) => {
                default.ok_or_else(|| format!("`{shown}` needs a value"))?
            }
            (Unit::Number(least, most, _), Some(text)) => match text.parse() {
                Ok(number) if (least..=most).contains(&number) => number,
                _ => {
                    return Err(format!(
                        "`{shown}` is a number from {least} to {most}, not `{text}`"
                    ));
                }
            },
        };
        Ok(Self { name, value })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.as_str();
        match self.name.unit() {
            Unit::None => f.write_str(name),
            Unit::Span => write!(f, "{name}={}ms", self.value),
            Unit::Number(..) => write!(f, "{name}={}", self.value),
        }
    }
}

fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration such as `500ms` or `3s`");
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().map_err(|_| wrong());
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let seconds = u64::try_from(span.as_seconds()).map_err(|_| wrong())?;
    Ok(seconds.saturating_mul(1000))
}

/// The faults that are set.
#[derive(Debug, Default)]
pub struct Faults {
    set: RwLock<BTreeMap<FaultName, u64>>,
    connects: Window,
    calls: Window,
    /// Connections accepted, for the percentage to drop.
    accepted: AtomicU64,
}

impl Faults {
    /// With these set.
    pub fn new(faults: &[Fault]) -> Self {
        let all = Self::default();
        for fault in faults {
            all.set(*fault);
        }
        all
    }

    /// Sets one.
    pub fn set(&self, fault: Fault) {
        self.write().insert(fault.name, fault.value);
    }

    /// Ends one.
    pub fn clear(&self, name: FaultName) {
        self.write().remove(&name);
    }

    /// Ends all.
    pub fn clear_all(&self) {
        self.write().clear();
    }

    /// Those that are set, by name.
    pub fn all(&self) -> Vec<Fault> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        set.iter()
            .map(|(name, value)| Fault {
                name: *name,
                value: *value,
            })
            .collect()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<FaultName, u64>> {
        self.set.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number, if it is set.
    pub fn get(&self, name: FaultName) -> Option<u64> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        set.get(&name).copied()
    }

    /// Whether it is set.
    pub fn has(&self, name: FaultName) -> bool {
        self.get(name).is_some()
    }

    /// Its time; zero when it is not set.
    pub fn span(&self, name: FaultName) -> Duration {
        Duration::from_millis(self.get(name).unwrap_or(0))
    }

    /// Whether the connection that was just accepted is to be closed at once. Of 100 in a row as
    /// many are as was said, spread evenly.
    pub(super) fn drops(&self) -> bool {
        let Some(percent) = self.get(FaultName::ConnectionDrop) else {
            return false;
        };
        let n = self.accepted.fetch_add(1, Ordering::Relaxed);
        (n + 1) * percent / 100 > n * percent / 100
    }

    /// Whether a connect at this time is over the rate.
    pub(super) fn throttles_connect(&self, now: Duration) -> bool {
        let rate = self.get(FaultName::ConnectThrottle);
        rate.is_some_and(|rate| self.connects.is_over(rate, now))
    }

    /// Whether a call of the control plane at this time is over the rate.
    pub(super) fn throttles_call(&self, now: Duration) -> bool {
        let rate = self.get(FaultName::RestThrottle);
        rate.is_some_and(|rate| self.calls.is_over(rate, now))
    }
}

/// How many there were in the present second.
#[derive(Debug, Default)]
struct Window(Mutex<(u64, u64)>);

impl Window {
    fn is_over(&self, rate: u64, now: Duration) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.0 != now.as_secs() {
            *window = (now.as_secs(), 0);
        }
        window.1 += 1;
        window.1 > rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written_alike() {
        for (text, shown) in [
            ("server-cert-expired", "server-cert-expired"),
            ("template-delay=3s", "template-delay=3000ms"),
            ("template-delay=20ms", "template-delay=20ms"),
            ("connection-drop", "connection-drop=100"),
            ("connection-drop=30", "connection-drop=30"),
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), shown);
            assert_eq!(shown.parse::<Fault>().unwrap(), fault);
        }
        for (bad, part) in [
            ("no-such", "there are server-cert-expired"),
            ("server-cert-expired=1", "has no value"),
            ("template-delay", "say how long"),
            ("template-delay=soon", "`soon`"),
            ("connection-drop=101", "from 1 to 100"),
        ] {
            let error = bad.parse::<Fault>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_percentage_is_dropped_and_a_rate_is_kept() {
        let faults = Faults::new(&["connection-drop=30".parse().unwrap()]);
        assert_eq!((0..200).filter(|_| faults.drops()).count(), 60);
        faults.clear_all();
        assert!(!faults.drops());
        faults.set("connect-throttle=2".parse().unwrap());
        let over = |millis| faults.throttles_connect(Duration::from_millis(millis));
        assert_eq!([0, 1, 2, 3].map(over), [false, false, true, true]);
        assert!(!over(1000));
        faults.clear(FaultName::ConnectThrottle);
        assert!(!over(1001));
    }
}
