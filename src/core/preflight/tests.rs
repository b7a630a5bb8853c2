use super::*;

const NANOS: i64 = 1_000_000_000;

fn at(text: &str) -> UtcTime {
    text.parse().unwrap()
}

fn clock(wall: &str) -> ClockFacts {
    ClockFacts {
        wall_nanos: at(wall).unix() * NANOS,
        floor: at("2026-11-01"),
        trusted_within_s: None,
        kernel: None,
        time_servers: Vec::new(),
    }
}

fn kernel(synchronised: bool) -> KernelState {
    KernelState {
        synchronised,
        max_error_us: 20_000,
        estimated_error_us: 100,
    }
}

/// A server at stratum 1 that is right at `truth`, asked when our clock says `wall`.
fn server(wall: &str, truth: &str) -> TimeServerFacts {
    let seconds = u32::try_from(at(truth).unix() + 2_208_988_800).unwrap();
    let sent_nanos = at(wall).unix() * NANOS;
    let mut reply = vec![0; 48];
    reply[0] = 0x24;
    reply[1] = 1;
    reply[24..32].copy_from_slice(&42_u64.to_be_bytes());
    reply[32..36].copy_from_slice(&seconds.to_be_bytes());
    reply[40..44].copy_from_slice(&seconds.to_be_bytes());
    TimeServerFacts {
        server: crate::core::endpoint::Endpoint::parse("time.example", 123).unwrap(),
        nonce: 42,
        sent_nanos,
        received_nanos: sent_nanos + NANOS / 100,
        reply,
        error: None,
    }
}

fn verdict(clock: ClockFacts) -> Verdict {
    judge(&Facts {
        facts_version: Facts::VERSION,
        margin_s: 86_400,
        offline: true,
        clock,
        identity: None,
        server: None,
    })
}

const NOW: &str = "2026-11-24T12:00:00Z";
const THREE_HOURS_ON: &str = "2026-11-24T15:00:00Z";

fn with(wall: &str, change: fn(&mut ClockFacts)) -> Verdict {
    let mut facts = clock(wall);
    change(&mut facts);
    verdict(facts)
}

#[test]
fn the_clock_is_believed_only_as_far_as_evidence_goes() {
    let cases = [
        ("nothing", with(NOW, |_| {}), Some("clock.interval")),
        (
            "unsynchronised",
            with(NOW, |c| c.kernel = Some(kernel(false))),
            Some("clock.interval"),
        ),
        ("kernel", with(NOW, |c| c.kernel = Some(kernel(true))), None),
        ("word", with(NOW, |c| c.trusted_within_s = Some(60)), None),
        (
            "1970, whatever the kernel says",
            with("1970-01-02", |c| {
                c.kernel = Some(kernel(true));
                c.trusted_within_s = Some(60);
            }),
            Some("clock.floor"),
        ),
        (
            "server",
            with(NOW, |c| c.time_servers = vec![server(NOW, NOW)]),
            None,
        ),
        (
            "server, three hours off",
            with(NOW, |c| c.time_servers = vec![server(NOW, THREE_HOURS_ON)]),
            Some("clock.ntp"),
        ),
        (
            "two servers disagree, whatever the kernel says",
            with(NOW, |c| {
                c.kernel = Some(kernel(true));
                c.time_servers = vec![server(NOW, NOW), server(NOW, THREE_HOURS_ON)];
            }),
            Some("clock.ntp"),
        ),
    ];
    for (name, verdict, cause) in cases {
        assert_eq!(verdict.cause, cause, "{name}: {:?}", verdict.checks);
        let answer = if cause.is_some() {
            Answer::CannotTell
        } else {
            Answer::Ready
        };
        assert_eq!(verdict.answer, answer, "{name}");
    }
}

#[test]
fn the_true_time_counts_and_not_the_clocks() {
    let mut facts = clock("2060-01-01");
    facts.time_servers = vec![server("2060-01-01", "2026-11-24")];
    let verdict = verdict(facts);
    assert_eq!(verdict.cause, Some("clock.ntp"));
    assert!(
        verdict.interval.earliest >= at("2026-11-23T23:59:59Z"),
        "{:?}",
        verdict.interval
    );
    assert!(
        verdict.interval.latest <= at("2026-11-24T00:00:02Z"),
        "{:?}",
        verdict.interval
    );
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
