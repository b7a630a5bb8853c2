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

/// An endpoint where nothing answers, or something that is not TLS.
fn unreachable(host: &str, code: &str) -> ServerFacts {
    ServerFacts {
        endpoint: crate::core::endpoint::Endpoint::parse(host, 8883).unwrap(),
        server_ca: None,
        proxy: None,
        addresses: Vec::new(),
        alpn: None,
        elapsed_ms: 1,
        outcome: Outcome::Failed(Ended {
            code: code.to_owned(),
            message: format!("{host}: {code}"),
            hint: None,
        }),
        mqtt: None,
    }
}

#[test]
fn of_endpoints_that_fail_the_one_that_may_come_back_decides() {
    let refused = || unreachable("a.example", "dial.refused");
    let plain = || unreachable("b.example", "dial.not-tls");
    for (servers, answer, cause) in [
        (vec![plain(), refused()], Answer::CannotTell, "server.reach"),
        (vec![refused(), plain()], Answer::CannotTell, "server.reach"),
        (vec![plain(), plain()], Answer::NotReady, "server.tls"),
    ] {
        let clock = clock::ClockFacts {
            wall_nanos: at("2026-11-24").unix() * 1_000_000_000,
            floor: at("2026-11-01"),
            ceiling: None,
            trusted_within_s: Some(60),
            kernel: None,
            time_servers: Vec::new(),
            daemons: Vec::new(),
            rtc: None,
            last_seen: None,
            tls: None,
        };
        let verdict = judge(&Facts {
            facts_version: Facts::VERSION,
            margin_s: 86_400,
            offline: false,
            clock,
            identity: None,
            allow_unsupported: false,
            thing: None,
            shelf: None,
            servers,
        });
        assert_eq!((verdict.answer, verdict.cause), (answer, Some(cause)));
        assert_eq!(verdict.endpoints.len(), 2);
        assert_eq!(verdict.endpoint, None);
    }
}
