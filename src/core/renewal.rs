//! Whether a certificate is due for renewal: its window against the clock and a margin.

use std::fmt;
use std::str::FromStr;

use crate::core::time::{Span, UtcTime, Validity};
use crate::explain::{Explain, Kind};

/// How early before its end a certificate is to be renewed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Margin {
    /// When no more than this is left.
    Left(Span),
    /// When no more than this many percent of its whole lifetime is left: 1 to 100.
    Percent(u8),
}

impl Margin {
    /// The first second at which renewal is due; held inside the window's years.
    pub fn opens(self, window: &Validity) -> UtcTime {
        let span = match self {
            Self::Left(span) => span,
            Self::Percent(percent) => {
                let lifetime = window.not_after.since(window.not_before).as_seconds();
                let share = i128::from(lifetime) * i128::from(percent) / 100;
                Span::seconds(i64::try_from(share).unwrap_or(i64::MAX))
            }
        };
        window.not_after.minus(span)
    }
}

impl FromStr for Margin {
    type Err = MarginError;

    fn from_str(text: &str) -> Result<Self, MarginError> {
        let wrong = || MarginError(text.chars().take(80).collect());
        let Some(digits) = text.strip_suffix('%') else {
            return text.parse().map(Self::Left).map_err(|_| wrong());
        };
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        match digits.parse() {
            Ok(percent @ 1..=100) if plain => Ok(Self::Percent(percent)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left(span) => span.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl serde::Serialize for Margin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RenewalState {
    /// Its window has not begun: the clock may be wrong.
    NotYetValid,
    /// More is left than the margin.
    Early,
    /// No more is left than the margin.
    Due,
    /// Its window is over.
    Expired,
    /// `99991231235959Z`: it has no well-defined end (RFC 5280 §4.1.2.5).
    NoExpiry,
}

/// The answer for one certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Renewal {
    /// How it stands.
    pub state: RenewalState,
    /// The first second at which renewal is due; `None` when it never is.
    pub opens: Option<UtcTime>,
    /// What is left; negative when it is over.
    pub left: Span,
}

impl Renewal {
    /// How a window stands at `now`.
    pub fn of(window: &Validity, margin: Margin, now: UtcTime) -> Self {
        let left = window.not_after.since(now);
        if window.not_after == UtcTime::NO_EXPIRY {
            return Self {
                state: RenewalState::NoExpiry,
                opens: None,
                left,
            };
        }
        let opens = margin.opens(window);
        let state = if now > window.not_after {
            RenewalState::Expired
        } else if now >= opens {
            RenewalState::Due
        } else if now < window.not_before {
            RenewalState::NotYetValid
        } else {
            RenewalState::Early
        };
        Self {
            state,
            opens: Some(opens),
            left,
        }
    }

    /// Whether it is to be renewed now.
    pub fn needed(&self) -> bool {
        matches!(self.state, RenewalState::Due | RenewalState::Expired)
    }
}

/// Not a margin.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a duration (30d, 12h, P30D) nor a share of the lifetime (1% to 100%)")]
pub struct MarginError(String);

impl Explain for MarginError {
    fn kind(&self) -> Kind {
        Kind::Usage
    }
    fn code(&self) -> &'static str {
        "renewal.margin"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UtcTime {
        text.parse().unwrap()
    }

    fn window() -> Validity {
        Validity {
            not_before: at("2026-01-01"),
            not_after: at("2026-04-11"),
        }
    }

    #[test]
    fn margins_are_durations_or_shares() {
        let good = [
            ("30d", Margin::Left(Span::days(30))),
            ("P30D", Margin::Left(Span::days(30))),
            ("0s", Margin::Left(Span::ZERO)),
            ("33%", Margin::Percent(33)),
            ("100%", Margin::Percent(100)),
        ];
        for (text, margin) in good {
            assert_eq!(text.parse::<Margin>().unwrap(), margin, "{text}");
        }
        for text in [
            "", "%", "0%", "101%", "-5%", "+5%", "3.5%", "30", "30 d", "d",
        ] {
            let error = text.parse::<Margin>().unwrap_err();
            assert_eq!(error.code(), "renewal.margin", "{text}");
        }
    }

    #[test]
    fn both_ends_of_every_state() {
        use RenewalState::{Due, Early, Expired, NotYetValid};
        let month = Margin::Left(Span::days(30));
        let third = Margin::Percent(33);
        let cases = [
            (month, "2025-12-31T23:59:59Z", NotYetValid),
            (month, "2026-01-01T00:00:00Z", Early),
            (month, "2026-03-11T23:59:59Z", Early),
            (month, "2026-03-12T00:00:00Z", Due),
            (month, "2026-04-11T00:00:00Z", Due),
            (month, "2026-04-11T00:00:01Z", Expired),
            // 100 days, of which 33 are left at the start of 9 March.
            (third, "2026-03-08T23:59:59Z", Early),
            (third, "2026-03-09T00:00:00Z", Due),
            // Longer than the whole lifetime: always.
            (Margin::Left(Span::days(365)), "2026-01-01T00:00:00Z", Due),
            (Margin::Percent(100), "2026-01-01T00:00:00Z", Due),
        ];
        for (margin, now, state) in cases {
            let renewal = Renewal::of(&window(), margin, at(now));
            assert_eq!(renewal.state, state, "{margin} at {now}");
            assert_eq!(renewal.needed(), matches!(state, Due | Expired));
        }
    }

    #[test]
    fn what_never_ends_is_never_due() {
        let forever = Validity {
            not_before: at("2026-01-01"),
            not_after: UtcTime::NO_EXPIRY,
        };
        let renewal = Renewal::of(&forever, Margin::Percent(100), at("2030-01-01"));
        assert_eq!(renewal.state, RenewalState::NoExpiry);
        assert!(!renewal.needed());
    }

    proptest! {
        /// Once due, always due; and due exactly from `opens` on.
        #[test]
        fn due_is_a_threshold(
            begin in 0_i64..4_000_000_000,
            length in 0_i64..4_000_000_000,
            percent in 1_u8..=100,
            now in 0_i64..9_000_000_000,
        ) {
            let not_before = UtcTime::from_unix(begin);
            let window = Validity { not_before, not_after: not_before.plus(Span::seconds(length)) };
            let now = UtcTime::from_unix(now);
            let renewal = Renewal::of(&window, Margin::Percent(percent), now);
            let opens = renewal.opens.unwrap();
            prop_assert!(window.not_before <= opens && opens <= window.not_after);
            prop_assert_eq!(renewal.needed(), now >= opens);
        }
    }
}
