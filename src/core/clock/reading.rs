//! One piece of evidence, and how far it is believed.

use crate::core::time::{TimeBounds, UtcTime};

/// How far a piece of evidence is believed, least first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Shown, never believed: a battery-backed clock may have stood still.
    None,
    /// Better than nothing: a TLS certificate bounds the time to a year or so.
    Hint,
    /// The user's word.
    Word,
    /// A daemon on this machine, which has it from a network that we do not see.
    Daemon,
    /// One or two time servers without authentication: whoever controls the network is believed.
    Network,
    /// Three or more time servers without authentication, most of which agree.
    Majority,
    /// Time servers that prove by NTS who they are.
    Authenticated,
    /// Not to be doubted: the program was built before it runs.
    Certain,
}

impl std::fmt::Display for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Hint => "hint",
            Self::Word => "word",
            Self::Daemon => "daemon",
            Self::Network => "network",
            Self::Majority => "majority",
            Self::Authenticated => "authenticated",
            Self::Certain => "certain",
        })
    }
}

/// Where a piece of evidence is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The program's build date.
    Build,
    /// The latest time this device was sure of before.
    LastSeen,
    /// NTP with NTS.
    Nts,
    /// NTP without.
    Ntp,
    /// The kernel.
    Kernel,
    /// chronyd.
    Chrony,
    /// ntpd or NTPsec.
    Ntpd,
    /// ntpd-rs.
    NtpdRs,
    /// systemd-timesyncd.
    Timesyncd,
    /// The user.
    Word,
    /// A TLS server's certificates.
    Tls,
    /// The battery-backed clock.
    Rtc,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::LastSeen => "last-seen",
            Self::Nts => "nts",
            Self::Ntp => "ntp",
            Self::Kernel => "kernel",
            Self::Chrony => "chrony",
            Self::Ntpd => "ntpd",
            Self::NtpdRs => "ntpd-rs",
            Self::Timesyncd => "timesyncd",
            Self::Word => "word",
            Self::Tls => "tls",
            Self::Rtc => "rtc",
        })
    }
}

/// What became of a piece of evidence.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// It bounds the interval.
    Counts,
    /// Better evidence contradicts it, or it contradicts itself.
    Refuted,
    /// It is shown and bounds nothing.
    Shown,
    /// It says nothing.
    Silent,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Reading {
    /// Where it is from.
    pub source: Source,
    /// Which of them: a server, a path, a device.
    pub name: String,
    /// How far it is believed.
    pub trust: Trust,
    /// What became of it.
    pub part: Part,
    /// What must be added to the system clock by it, in seconds.
    #[serde(rename = "offset_seconds", serialize_with = "as_seconds")]
    pub offset_nanos: Option<i64>,
    /// How far off that may be, in seconds.
    #[serde(rename = "uncertainty_seconds", serialize_with = "as_seconds")]
    pub uncertainty_nanos: Option<i64>,
    /// The true time is not before this by it.
    pub earliest: Option<UtcTime>,
    /// Nor after this.
    pub latest: Option<UtcTime>,
    /// What there is to say.
    pub note: String,
}

impl Reading {
    /// A piece of evidence that says nothing yet.
    pub(super) fn new(source: Source, name: impl Into<String>, trust: Trust) -> Self {
        Self {
            source,
            name: name.into(),
            trust,
            part: Part::Silent,
            offset_nanos: None,
            uncertainty_nanos: None,
            earliest: None,
            latest: None,
            note: String::new(),
        }
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(super) fn part(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    /// The clock moved by `offset`, give or take `uncertainty`.
    pub(super) fn measured(mut self, wall_nanos: i64, offset: i64, uncertainty: i64) -> Self {
        let bounds = Bounds::around(wall_nanos, offset, uncertainty).whole_seconds();
        self.offset_nanos = Some(offset);
        self.uncertainty_nanos = Some(uncertainty);
        self.earliest = Some(bounds.earliest);
        self.latest = Some(bounds.latest);
        self.part = Part::Counts;
        self
    }

    /// No earlier than.
    pub(super) fn from(mut self, earliest: UtcTime) -> Self {
        self.earliest = Some(earliest);
        self.part = Part::Counts;
        self
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::ref_option,
    reason = "seconds for people and scripts, exact to a microsecond over a century; serde's form"
)]
fn as_seconds<S: serde::Serializer>(nanos: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match nanos {
        Some(nanos) => serializer.serialize_some(&(*nanos as f64 / 1e9)),
        None => serializer.serialize_none(),
    }
}

/// Where the true time lies, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Not before.
    pub earliest: i128,
    /// Not after.
    pub latest: i128,
}

const NANOS: i128 = 1_000_000_000;

impl Bounds {
    /// From these whole seconds on, without end.
    pub(super) fn from(earliest: UtcTime) -> Self {
        Self {
            earliest: i128::from(earliest.unix()) * NANOS,
            latest: i128::from(UtcTime::NO_EXPIRY.unix()) * NANOS,
        }
    }

    /// Up to the end of this second too.
    pub(super) fn until(self, latest: UtcTime) -> Self {
        Self {
            latest: (i128::from(latest.unix()) + 1) * NANOS,
            ..self
        }
    }

    /// The clock moved by `offset`, give or take.
    pub(super) fn around(wall_nanos: i64, offset: i64, uncertainty: i64) -> Self {
        let middle = i128::from(wall_nanos) + i128::from(offset);
        Self {
            earliest: middle - i128::from(uncertainty),
            latest: middle + i128::from(uncertainty),
        }
    }

    pub(super) fn narrow(self, other: Self) -> Option<Self> {
        let both = Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.min(other.latest),
        };
        (both.earliest <= both.latest).then_some(both)
    }

    /// In whole seconds, outwards.
    pub(super) fn whole_seconds(self) -> TimeBounds {
        let second = |nanos: i128| {
            let seconds = nanos.div_euclid(NANOS);
            i64::try_from(seconds).unwrap_or(if seconds < 0 { i64::MIN } else { i64::MAX })
        };
        TimeBounds {
            earliest: UtcTime::from_unix(second(self.earliest)),
            latest: UtcTime::from_unix(second(self.latest + NANOS - 1)),
        }
    }
}
