//! Whether a device that lies on a shelf can still judge its certificate when it first gets power.
//!
//! A real-time clock that runs on a battery is off by its drift then. So the time that it may show
//! is an interval around the true one, and the certificate's window is held against that.

use super::facts::ShelfFacts;
use super::{Check, Weight};
use crate::core::time::{Span, TimeBounds, UtcTime, Validity};

/// A time that is known no better than this is no ground for a prediction.
const KNOWN: Span = Span::days(30);

/// What will be, and why.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// Whether the clock alone will be able to tell that the certificate is valid, and it is.
    pub judgeable: bool,
    /// What the clock may show at the first power-up.
    pub clock: TimeBounds,
    /// How far the clock may be off by then, in seconds, either way.
    pub drift_s: i64,
    /// The longest storage for which the answer is yes, in seconds; `None` when there is none.
    pub longest_s: Option<i64>,
    /// The same in words.
    pub because: String,
    /// What becomes of a clock whose battery is empty, in words.
    pub without_battery: String,
}

/// Predicts. `now` is where the true time lies today, `window` when leaf and issuers are all valid,
/// `floor` what a clock that lost its power begins at, `margin` what must be left at the power-up.
/// Returns `None` when the time is not known today.
pub fn predict(
    shelf: &ShelfFacts,
    (now, floor): (TimeBounds, UtcTime),
    window: &Validity,
    margin: Span,
) -> Option<Prediction> {
    if now.latest.since(now.earliest) > KNOWN {
        return None;
    }
    let storage = Span::seconds(shelf.storage_s);
    let drift_s = drift(shelf.storage_s, shelf.drift_ppm);
    let drift = Span::seconds(drift_s);
    let clock = TimeBounds {
        earliest: now.earliest.plus(storage).minus(drift),
        latest: now.latest.plus(storage).plus(drift),
    };
    let over = now.earliest.plus(storage) > window.not_after;
    let judgeable = clock.earliest >= window.not_before
        && (window.not_after == UtcTime::NO_EXPIRY
            || clock.latest.plus(margin) <= window.not_after);
    let longest = longest(now, window, (shelf.drift_ppm, margin));
    let after = format!(
        "after {storage} at {} ppm the clock may show {} to {}",
        shelf.drift_ppm, clock.earliest, clock.latest
    );
    let verdict = if judgeable {
        format!("all within the window, which ends at {}", window.not_after)
    } else if over {
        format!("the certificate is over since {}", window.not_after)
    } else if clock.earliest < window.not_before {
        format!("the window begins only at {}", window.not_before)
    } else {
        format!(
            "the window ends at {}: less than {margin} is left, or the clock cannot tell",
            window.not_after
        )
    };
    Some(Prediction {
        judgeable,
        clock,
        drift_s,
        longest_s: longest.map(Span::as_seconds),
        because: format!("{after}; {verdict}"),
        without_battery: without_battery(floor, window),
    })
}

/// A clock whose battery is empty begins anew, and no drift bounds it.
fn without_battery(floor: UtcTime, window: &Validity) -> String {
    let shown = if floor < window.not_before {
        "before the window: a program that believes it finds the certificate not valid yet"
    } else if floor > window.not_after {
        "after the window"
    } else {
        "inside the window, which proves nothing"
    };
    format!("without a battery the clock begins at {floor} at best, {shown}")
}

/// Seconds that a clock may be off after `storage_s`, rounded up.
fn drift(storage_s: i64, ppm: u32) -> i64 {
    let millionths = i128::from(storage_s.max(0)) * i128::from(ppm);
    i64::try_from((millionths + 999_999) / 1_000_000).unwrap_or(i64::MAX)
}

/// The longest storage with the answer yes: it must end before the window does, and the drift must
/// not lead back before its beginning.
fn longest(now: TimeBounds, window: &Validity, (ppm, margin): (u32, Span)) -> Option<Span> {
    if now.earliest < window.not_before {
        return None;
    }
    if window.not_after == UtcTime::NO_EXPIRY {
        return Some(UtcTime::NO_EXPIRY.since(now.latest));
    }
    let room = window.not_after.since(now.latest).as_seconds() - margin.as_seconds();
    let parts = 1_000_000 + i128::from(ppm);
    let mut storage = i64::try_from(i128::from(room) * 1_000_000 / parts).unwrap_or(0);
    // The drift is rounded up.
    while storage > 0 && storage + drift(storage, ppm) > room {
        storage -= 1;
    }
    (room >= 0).then(|| Span::seconds(storage.max(0)))
}

pub(super) fn check(
    shelf: &ShelfFacts,
    time: (TimeBounds, UtcTime),
    window: &Validity,
    margin: Span,
) -> (Vec<Check>, Option<Prediction>) {
    const ID: &str = "shelf.window";
    let Some(prediction) = predict(shelf, time, window, margin) else {
        let fact =
            "how long the certificate lasts on the shelf cannot be told: the time is not known";
        let check = Check::skip(ID, fact)
            .weigh(Weight::ClockUnknown)
            .remedy("fix the clock first");
        return (vec![check], None);
    };
    let check = if prediction.judgeable {
        Check::pass(ID, prediction.because.clone())
    } else {
        let remedy = match prediction.longest_s {
            Some(longest) if longest > 0 => format!(
                "issue a longer certificate (--days), or let it lie no longer than {}",
                Span::seconds(longest)
            ),
            _ => "issue another certificate (--not-before, --days)".to_owned(),
        };
        Check::fail(ID, prediction.because.clone()).remedy(remedy)
    };
    let battery = Check::warn("shelf.battery", prediction.without_battery.clone())
        .remedy("set it from a time server before anything is judged by it");
    (vec![check, battery], Some(prediction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> UtcTime {
        text.parse().unwrap()
    }

    fn year() -> Validity {
        Validity {
            not_before: at("2026-11-01"),
            not_after: at("2027-11-01"),
        }
    }

    fn now() -> TimeBounds {
        TimeBounds::around(at("2026-11-24"), Span::seconds(1))
    }

    fn shelf(days: i64, drift_ppm: u32) -> ShelfFacts {
        ShelfFacts {
            storage_s: days * 86_400,
            drift_ppm,
        }
    }

    #[test]
    fn a_year_long_certificate_on_a_shelf() {
        let floor = at("2026-10-01");
        for (days, ppm, judgeable, words) in [
            (180, 50, true, "all within the window"),
            (340, 50, true, "all within the window"),
            (341, 50, false, "less than 1d is left"),
            (342, 50, false, "less than 1d is left"),
            (540, 50, false, "is over since 2027-11-01"),
            // 30 % off: what the clock shows cannot be told from before the window.
            (180, 300_000, true, "all within"),
            (300, 300_000, false, "cannot tell"),
            (30, 2_000_000, false, "begins only at"),
        ] {
            let shelf = shelf(days, ppm);
            let said = predict(&shelf, (now(), floor), &year(), Span::days(1)).unwrap();
            assert_eq!(said.judgeable, judgeable, "{days} {ppm}: {said:?}");
            assert!(said.because.contains(words), "{days} {ppm}: {said:?}");
            assert!(
                said.without_battery.contains("begins at 2026-10-01"),
                "{said:?}"
            );
        }
        // 180 days at 50 ppm are 777.6 s.
        let half = predict(&shelf(180, 50), (now(), floor), &year(), Span::ZERO).unwrap();
        assert_eq!(half.drift_s, 778);
    }

    #[test]
    fn without_a_time_today_nothing_is_foretold() {
        let unknown = TimeBounds {
            earliest: at("2026-11-01"),
            latest: UtcTime::NO_EXPIRY,
        };
        let floor = at("2026-11-01");
        assert_eq!(
            predict(&shelf(1, 50), (unknown, floor), &year(), Span::ZERO),
            None
        );
    }

    #[test]
    fn a_certificate_without_an_end_lasts_on_any_shelf() {
        let window = Validity {
            not_after: UtcTime::NO_EXPIRY,
            ..year()
        };
        let said = predict(
            &shelf(36_500, 50),
            (now(), at("2026-11-01")),
            &window,
            Span::days(1),
        );
        assert!(said.unwrap().judgeable);
    }

    proptest! {
        /// The longest storage is judgeable, a second more is not, and more drift never helps.
        #[test]
        fn the_longest_storage_is_the_longest(
            days in 1_i64..4000, ppm in 0_u32..1000, margin in 0_i64..40,
        ) {
            let margin = Span::days(margin);
            let time = (now(), at("2026-11-01"));
            let window = Validity { not_after: now().latest.plus(Span::days(days)), ..year() };
            let probe = |storage_s, drift_ppm| {
                predict(&ShelfFacts { storage_s, drift_ppm }, time, &window, margin).unwrap()
            };
            let first = probe(0, ppm);
            match first.longest_s {
                Some(longest) => {
                    prop_assert!(probe(longest, ppm).judgeable);
                    prop_assert!(!probe(longest + 1, ppm).judgeable);
                    prop_assert!(probe(longest, ppm + 1).longest_s <= Some(longest));
                }
                None => prop_assert!(!first.judgeable),
            }
        }
    }
}
