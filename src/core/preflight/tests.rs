use super::*;

fn at(text: &str) -> UtcTime {
    text.parse().unwrap()
}

#[test]
fn a_window_is_judged_only_where_the_interval_answers() {
    let window = Validity {
        not_before: at("2026-01-01"),
        not_after: at("2026-12-01"),
    };
    for (earliest, latest, status, weight) in [
        ("2026-11-24", "2026-11-24", Status::Pass, Weight::None),
        (
            "2026-11-30T12:00:00Z",
            "2026-11-30T12:00:00Z",
            Status::Warn,
            Weight::None,
        ),
        (
            "2026-11-24",
            "2027-11-24",
            Status::Skip,
            Weight::ClockUnknown,
        ),
        ("2027-11-24", "2028-11-24", Status::Fail, Weight::Definite),
        ("2025-11-24", "2025-11-25", Status::Fail, Weight::Definite),
    ] {
        let bounds = TimeBounds {
            earliest: at(earliest),
            latest: at(latest),
        };
        let margin = Span::days(1);
        let check = Time { bounds, margin }.check("x", "it", &window);
        assert_eq!((check.status, check.weight), (status, weight), "{earliest}");
    }
}
