//! Instants, windows and durations in whole seconds UTC (RFC 5280 §4.1.2.5).

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::explain::{Explain, Kind};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
const YEAR: i64 = 365 * DAY;

/// Seconds since 1970-01-01T00:00:00Z. Ranges over the years 1950 to 9999, as X.509 can say.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UtcTime(i64);

impl UtcTime {
    /// `9999-12-31T23:59:59Z`: "no well-defined expiration date" (RFC 5280 §4.1.2.5).
    pub const NO_EXPIRY: Self = Self(253_402_300_799);
    /// `1950-01-01T00:00:00Z`, the first instant that `UTCTime` can express.
    pub const MIN: Self = Self(-631_152_000);

    /// From seconds since the Unix epoch, held inside 1950..=9999.
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds.clamp(Self::MIN.0, Self::NO_EXPIRY.0))
    }

    /// Seconds since the Unix epoch.
    pub fn unix(self) -> i64 {
        self.0
    }

    /// This instant moved by `span`, held inside 1950..=9999.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self::from_unix(self.0.saturating_add(span.0))
    }

    /// This instant moved back by `span`, held inside 1950..=9999.
    #[must_use]
    pub fn minus(self, span: Span) -> Self {
        Self::from_unix(self.0.saturating_sub(span.0))
    }

    /// The span from `earlier` to this instant; negative if this one is earlier.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0 - earlier.0)
    }

    /// The same instant for `time`'s own arithmetic.
    pub fn to_offset(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Reads an RFC 3339 instant, a plain date (`2027-01-31`, midnight UTC), `now`, or an offset
    /// from `now` (`+90d`, `-1h`). Fractions of a second are cut off, towards the past.
    ///
    /// # Errors
    /// `time.syntax` when it is none of these.
    pub fn parse_relative(text: &str, now: Self) -> Result<Self, TimeError> {
        if text == "now" {
            return Ok(now);
        }
        if let Some(rest) = text.strip_prefix('+') {
            return rest.parse::<Span>().map(|span| now.plus(span));
        }
        if let Some(rest) = text.strip_prefix('-') {
            return rest.parse::<Span>().map(|span| now.minus(span));
        }
        text.parse()
    }
}

impl FromStr for UtcTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let full = if text.len() == 10 {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        OffsetDateTime::parse(&full, &Rfc3339)
            .map(|at| Self(at.unix_timestamp()))
            .ok()
            .filter(|at| (Self::MIN..=Self::NO_EXPIRY).contains(at))
            .ok_or_else(|| TimeError::Instant(text.to_owned()))
    }
}

impl fmt::Display for UtcTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.to_offset();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

impl serde::Serialize for UtcTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for UtcTime {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A length of time in whole seconds; may be negative.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From whole seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// From whole days of 86 400 seconds.
    pub const fn days(days: i64) -> Self {
        Self(days.saturating_mul(DAY))
    }

    /// Whole seconds.
    pub fn as_seconds(self) -> i64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = TimeError;

    /// `90d`, `1h15m`, `30s`, `2w`, `1y` (365 days), `18mo` (30 days each), or ISO 8601 `P90D`,
    /// `PT1H15M`. A bare number has no unit and is refused.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::Span(text.to_owned());
        let seconds = match text.strip_prefix(['P', 'p']) {
            Some(iso) => iso_seconds(iso),
            None => plain_seconds(text),
        };
        seconds.map(Self).ok_or_else(wrong)
    }
}

fn plain_seconds(text: &str) -> Option<i64> {
    let units = [
        ("mo", 30 * DAY),
        ("ms", 0),
        ("y", YEAR),
        ("w", WEEK),
        ("d", DAY),
        ("h", HOUR),
        ("m", MINUTE),
        ("s", 1),
    ];
    sum_units(text, &units)
}

fn iso_seconds(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase();
    let (date, clock) = text
        .split_once('T')
        .map_or((&text[..], None), |(d, c)| (d, Some(c)));
    let date_units = [("Y", YEAR), ("M", 30 * DAY), ("W", WEEK), ("D", DAY)];
    let clock_units = [("H", HOUR), ("M", MINUTE), ("S", 1)];
    let days = if date.is_empty() {
        Some(0)
    } else {
        sum_units(date, &date_units)
    };
    let rest = clock.map_or(Some(0), |clock| sum_units(clock, &clock_units));
    if text.is_empty() {
        None
    } else {
        days?.checked_add(rest?)
    }
}

/// Adds up `<number><unit>` pairs; a unit whose factor is 0 is refused.
fn sum_units(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().ok()?;
        let (unit, factor) = units
            .iter()
            .find(|(unit, _)| rest[digits..].starts_with(unit))?;
        if *factor == 0 {
            return None;
        }
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

impl fmt::Display for Span {
    /// The two largest units: `364d 23h`, `5m 3s`. Never rounds up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.unsigned_abs();
        if left == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
        let mut written = 0;
        for (size, unit) in units {
            let count = left / size;
            left %= size;
            if count > 0 && written < 2 {
                write!(f, "{}{count}{unit}", if written == 1 { " " } else { "" })?;
                written += 1;
            } else if written == 1 {
                break;
            }
        }
        Ok(())
    }
}

/// `not_before ..= not_after`, both ends inclusive (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Validity {
    /// The first valid second.
    pub not_before: UtcTime,
    /// The last valid second.
    pub not_after: UtcTime,
}

impl Validity {
    /// Whether `at` lies inside, ends included.
    pub fn contains(&self, at: UtcTime) -> bool {
        self.not_before <= at && at <= self.not_after
    }

    /// Whether `inner` lies wholly inside.
    pub fn covers(&self, inner: &Self) -> bool {
        self.not_before <= inner.not_before && inner.not_after <= self.not_after
    }

    /// The part that both windows share; `None` if there is none.
    pub fn overlap(&self, other: &Self) -> Option<Self> {
        let both = Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        };
        (both.not_before <= both.not_after).then_some(both)
    }

    /// `… until …Z (364d 23h left)`, as seen at `now`.
    pub fn describe(&self, now: UtcTime) -> String {
        let state = if now < self.not_before {
            format!("starts in {}", self.not_before.since(now))
        } else if self.not_after == UtcTime::NO_EXPIRY {
            "no expiry".to_owned()
        } else if now > self.not_after {
            format!("expired {} ago", now.since(self.not_after))
        } else {
            format!("{} left", self.not_after.since(now))
        };
        format!("{} to {} ({state})", self.not_before, self.not_after)
    }
}

/// Where the true time lies: `earliest ..= latest`. Evidence only ever narrows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct TimeBounds {
    /// The true time is not before this.
    pub earliest: UtcTime,
    /// The true time is not after this.
    pub latest: UtcTime,
}

impl TimeBounds {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        earliest: UtcTime::MIN,
        latest: UtcTime::NO_EXPIRY,
    };

    /// Known to within `uncertainty` either way.
    pub fn around(at: UtcTime, uncertainty: Span) -> Self {
        Self {
            earliest: at.minus(uncertainty),
            latest: at.plus(uncertainty),
        }
    }

    /// What both pieces of evidence allow; `None` when they contradict each other.
    #[must_use]
    pub fn narrow(self, other: Self) -> Option<Self> {
        let both = Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.min(other.latest),
        };
        (both.earliest <= both.latest).then_some(both)
    }

    /// How the interval lies against a validity window.
    pub fn against(self, window: &Validity) -> Standing {
        if self.latest < window.not_before {
            Standing::NotYetValid
        } else if self.earliest > window.not_after {
            Standing::Expired
        } else if window.contains(self.earliest) && window.contains(self.latest) {
            Standing::Valid
        } else {
            Standing::CannotTell
        }
    }
}

/// A window against an interval: three answers and an honest fourth.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Valid at every instant the clock may mean.
    Valid,
    /// The window has not begun at any of them.
    NotYetValid,
    /// The window is over at every one of them.
    Expired,
    /// It depends on where in the interval the true time lies: mend the clock first.
    CannotTell,
}

/// Text that is not a time.
#[derive(Debug, thiserror::Error)]
pub enum TimeError {
    /// Not an instant.
    #[error("`{0}` is not a time; write RFC 3339 (2027-01-31T12:00:00Z), a date, or +90d / -1h")]
    Instant(String),
    /// Not a duration.
    #[error("`{0}` is not a duration; write 90d, 12h, 1h15m or P90D")]
    Span(String),
}

impl Explain for TimeError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "time.syntax"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UtcTime {
        text.parse().unwrap()
    }

    #[test]
    fn instants_are_read_and_printed_in_whole_seconds_utc() {
        assert_eq!(
            at("2027-01-31T12:00:00.999+02:00").to_string(),
            "2027-01-31T10:00:00Z"
        );
        assert_eq!(at("2027-01-31").to_string(), "2027-01-31T00:00:00Z");
        assert_eq!(UtcTime::NO_EXPIRY.to_string(), "9999-12-31T23:59:59Z");
        let now = at("2026-01-01");
        assert_eq!(
            UtcTime::parse_relative("+90d", now).unwrap(),
            at("2026-04-01")
        );
        assert_eq!(
            UtcTime::parse_relative("-1h", now).unwrap(),
            at("2025-12-31T23:00:00Z")
        );
        for bad in [
            "",
            "tomorrow",
            "2027-13-01",
            "+",
            "+9",
            "1949-12-31T23:59:59Z",
            "é123456789",
        ] {
            assert!(UtcTime::parse_relative(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let seconds = |text: &str| text.parse::<Span>().map(Span::as_seconds).ok();
        assert_eq!(seconds("90d"), Some(90 * DAY));
        assert_eq!(seconds("1h15m"), Some(4_500));
        assert_eq!(seconds("P90D"), Some(90 * DAY));
        assert_eq!(seconds("PT1H15M"), Some(4_500));
        assert_eq!(seconds("18mo"), Some(540 * DAY));
        for bad in ["", "90", "d", "1x", "P", "5ms", "99999999999999y", "1é"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_interval_answers_only_what_it_can() {
        let window = Validity {
            not_before: at("2026-01-01"),
            not_after: at("2026-12-31"),
        };
        let bounds = |a, b| TimeBounds {
            earliest: at(a),
            latest: at(b),
        };
        assert_eq!(
            bounds("2026-02-01", "2026-03-01").against(&window),
            Standing::Valid
        );
        assert_eq!(
            bounds("2025-02-01", "2025-03-01").against(&window),
            Standing::NotYetValid
        );
        assert_eq!(
            bounds("2027-02-01", "2027-03-01").against(&window),
            Standing::Expired
        );
        assert_eq!(
            bounds("2025-02-01", "2026-03-01").against(&window),
            Standing::CannotTell
        );
        assert_eq!(
            bounds("2025-01-01", "2028-01-01").against(&window),
            Standing::CannotTell
        );
    }

    #[test]
    fn spans_print_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (3_661, "1h 1m"),
            (86_401, "1d"),
            (-90, "-1m 30s"),
        ] {
            assert_eq!(Span::seconds(seconds).to_string(), text);
        }
    }
}
