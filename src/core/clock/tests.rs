use super::*;
use crate::core::check::Status;
use crate::core::endpoint::Endpoint;
use crate::core::time::Validity;

fn at(text: &str) -> UtcTime {
    text.parse().unwrap()
}

fn clock(wall: &str) -> ClockFacts {
    ClockFacts {
        wall_nanos: at(wall).unix() * NANOS,
        floor: at("2026-11-01"),
        ceiling: None,
        trusted_within_s: None,
        kernel: None,
        time_servers: Vec::new(),
        daemons: Vec::new(),
        rtc: None,
        last_seen: None,
        tls: None,
    }
}

fn kernel(synchronised: bool) -> KernelState {
    KernelState {
        synchronised,
        max_error_us: 20_000,
        estimated_error_us: 100,
        status: 0,
        differs_nanos: 0,
    }
}

/// A server at stratum 1 that is right at `truth`, asked when our clock says `wall`.
fn server(wall: &str, truth: &str) -> TimeServerFacts {
    let seconds = at(truth).unix() + 2_208_988_800;
    let seconds = u32::try_from(seconds.rem_euclid(1 << 32)).unwrap();
    let sent_nanos = at(wall).unix() * NANOS;
    let mut reply = vec![0; 48];
    reply[0] = 0x24;
    reply[1] = 1;
    reply[3] = 0xec;
    reply[24..32].copy_from_slice(&42_u64.to_be_bytes());
    reply[32..36].copy_from_slice(&seconds.to_be_bytes());
    reply[40..44].copy_from_slice(&seconds.to_be_bytes());
    TimeServerFacts {
        server: Endpoint::parse("time.example", 123).unwrap(),
        nonce: 42,
        sent_nanos,
        received_nanos: sent_nanos + NANOS / 100,
        reply,
        error: None,
        address: None,
        by_nts: false,
        nts: None,
    }
}

/// The same by NTS, with a certificate for 2026 and 2027.
fn proven(wall: &str, truth: &str) -> TimeServerFacts {
    TimeServerFacts {
        by_nts: true,
        nts: Some(NtsProof {
            certificate: Validity {
                not_before: at("2026-01-01"),
                not_after: at("2027-12-31"),
            },
            clock_waived: false,
        }),
        ..server(wall, truth)
    }
}

fn seen(time: &str) -> LastSeenFacts {
    LastSeenFacts {
        path: "/var/lib/nameplate/last-seen".into(),
        at: Some(at(time)),
        error: None,
    }
}

fn chronyd(correction_ms: i64) -> DaemonFacts {
    DaemonFacts {
        daemon: Daemon::Chrony,
        place: "127.0.0.1:323".into(),
        says: Some(DaemonSays {
            synchronised: true,
            stratum: Some(3),
            correction_nanos: correction_ms * 1_000_000,
            error_nanos: Some(15_000_000),
            floor: None,
        }),
        error: None,
    }
}

const NOW: &str = "2026-11-24T12:00:00Z";
const THREE_HOURS_ON: &str = "2026-11-24T15:00:00Z";

fn with(wall: &str, change: impl FnOnce(&mut ClockFacts)) -> Judged {
    let mut facts = clock(wall);
    change(&mut facts);
    judge(&facts)
}

fn cause(judged: &Judged) -> Option<&'static str> {
    judged.fault().map(|check| check.id)
}

fn status(judged: &Judged, id: &str) -> Option<Status> {
    let check = judged.checks.iter().find(|check| check.id == id)?;
    Some(check.status)
}

#[test]
fn the_clock_is_believed_only_as_far_as_evidence_goes() {
    let cases = [
        ("nothing", with(NOW, |_| {}), Some("clock.interval"), None),
        (
            "unsynchronised",
            with(NOW, |c| c.kernel = Some(kernel(false))),
            Some("clock.interval"),
            None,
        ),
        (
            "kernel",
            with(NOW, |c| c.kernel = Some(kernel(true))),
            None,
            Some(Trust::Daemon),
        ),
        (
            "chronyd",
            with(NOW, |c| c.daemons = vec![chronyd(3)]),
            None,
            Some(Trust::Daemon),
        ),
        (
            "word",
            with(NOW, |c| c.trusted_within_s = Some(60)),
            None,
            Some(Trust::Word),
        ),
        (
            "1970, whatever the kernel says",
            with("1970-01-02", |c| {
                c.kernel = Some(kernel(true));
                c.trusted_within_s = Some(60);
            }),
            Some("clock.floor"),
            None,
        ),
    ];
    hold(cases);
}

#[test]
fn servers_are_believed_as_far_as_they_agree() {
    let liar = server(NOW, THREE_HOURS_ON);
    let right = server(NOW, NOW);
    let cases = [
        (
            "server",
            with(NOW, |c| c.time_servers = vec![server(NOW, NOW)]),
            None,
            Some(Trust::Network),
        ),
        (
            "three servers",
            with(NOW, |c| c.time_servers = vec![server(NOW, NOW); 3]),
            None,
            Some(Trust::Majority),
        ),
        (
            "NTS",
            with(NOW, |c| c.time_servers = vec![proven(NOW, NOW)]),
            None,
            Some(Trust::Authenticated),
        ),
        (
            "server, three hours off",
            with(NOW, |c| c.time_servers = vec![server(NOW, THREE_HOURS_ON)]),
            Some("clock.ntp"),
            Some(Trust::Network),
        ),
        (
            "two servers disagree, whatever the kernel says",
            with(NOW, |c| {
                c.kernel = Some(kernel(true));
                c.time_servers = vec![server(NOW, NOW), server(NOW, THREE_HOURS_ON)];
            }),
            Some("clock.ntp"),
            None,
        ),
        (
            "two liars of five",
            with(NOW, |c| {
                c.time_servers = vec![right.clone(); 3];
                c.time_servers.extend([liar.clone(), liar.clone()]);
            }),
            None,
            Some(Trust::Majority),
        ),
    ];
    hold(cases);
}

fn hold<const N: usize>(cases: [(&str, Judged, Option<&str>, Option<Trust>); N]) {
    for (name, judged, wanted, trust) in cases {
        assert_eq!(cause(&judged), wanted, "{name}: {:?}", judged.checks);
        assert_eq!(judged.trust, trust, "{name}");
    }
}

#[test]
fn the_true_time_counts_and_not_the_clocks() {
    let judged = with("2060-01-01", |c| {
        c.time_servers = vec![server("2060-01-01", "2026-11-24")];
    });
    assert_eq!(cause(&judged), Some("clock.ntp"));
    assert_eq!(judged.interval.earliest, at("2026-11-23T23:59:59Z"));
    assert_eq!(judged.interval.latest, at("2026-11-24T00:00:01Z"));
}

#[test]
fn nts_outranks_plain_servers_however_many() {
    let judged = with(NOW, |c| {
        c.time_servers = vec![server(NOW, THREE_HOURS_ON); 4];
        c.time_servers.push(proven(NOW, NOW));
    });
    assert_eq!(cause(&judged), None, "{:?}", judged.checks);
    assert_eq!(judged.trust, Some(Trust::Authenticated));
    assert_eq!(status(&judged, "clock.ntp"), Some(Status::Warn));
    let liars = judged
        .evidence
        .iter()
        .filter(|one| one.source == Source::Ntp);
    assert!(liars.clone().all(|one| one.part == Part::Refuted));
    assert_eq!(liars.count(), 4);
}

#[test]
fn an_nts_answer_without_proof_or_outside_its_own_certificate_counts_for_nothing() {
    for spoil in [
        (|facts| facts.nts = None) as fn(&mut TimeServerFacts),
        |facts| *facts = proven(NOW, "2028-06-01"),
    ] {
        let mut facts = proven(NOW, NOW);
        spoil(&mut facts);
        let judged = with(NOW, |c| c.time_servers = vec![facts]);
        assert_eq!(judged.trust, None, "{:?}", judged.checks);
        assert_eq!(status(&judged, "clock.nts"), Some(Status::Warn));
    }
}

#[test]
fn a_far_future_is_not_believed_of_one_source() {
    let far = "2060-01-01T00:00:00Z";
    for (name, judged) in [
        ("kernel", with(far, |c| c.kernel = Some(kernel(true)))),
        ("chronyd", with(far, |c| c.daemons = vec![chronyd(0)])),
        ("word", with(far, |c| c.trusted_within_s = Some(60))),
        (
            "server",
            with(far, |c| c.time_servers = vec![server(far, far)]),
        ),
    ] {
        assert_eq!(judged.trust, None, "{name}");
        assert_eq!(
            cause(&judged),
            Some("clock.ceiling"),
            "{name}: {:?}",
            judged.checks
        );
    }
    let three = with(far, |c| c.time_servers = vec![server(far, far); 3]);
    assert_eq!((cause(&three), three.trust), (None, Some(Trust::Majority)));
    let within = with("2038-01-20", |c| c.kernel = Some(kernel(true)));
    assert_eq!((cause(&within), within.trust), (None, Some(Trust::Daemon)));
}

#[test]
fn a_kernel_that_speaks_of_another_clock_proves_nothing() {
    let judged = with(NOW, |c| {
        c.kernel = Some(KernelState {
            differs_nanos: NANOS,
            ..kernel(true)
        });
    });
    assert_eq!(judged.trust, None);
    assert_eq!(status(&judged, "clock.kernel"), Some(Status::Warn));
}

#[test]
fn what_was_seen_is_a_floor_that_a_single_server_cannot_lower() {
    let earlier = "2026-11-10T00:00:00Z";
    let judged = with(earlier, |c| {
        c.last_seen = Some(seen(NOW));
        c.kernel = Some(kernel(true));
        c.time_servers = vec![server(earlier, earlier); 2];
    });
    assert_eq!(cause(&judged), Some("clock.last-seen"));
    assert_eq!(judged.trust, None, "{:?}", judged.evidence);
    for count in [1, 3] {
        let judged = with(earlier, |c| {
            c.last_seen = Some(seen(NOW));
            c.time_servers = if count == 1 {
                vec![proven(earlier, earlier)]
            } else {
                vec![server(earlier, earlier); 3]
            };
        });
        assert_eq!(cause(&judged), None, "{:?}", judged.checks);
        assert_eq!(status(&judged, "clock.last-seen"), Some(Status::Warn));
    }
}

#[test]
fn what_is_seen_is_kept_from_good_evidence_only_and_never_falls() {
    let next = |judged: &Judged, before: Option<&str>| last_seen::next(before.map(at), judged);
    let good = with(NOW, |c| c.time_servers = vec![server(NOW, NOW); 3]);
    assert_eq!(next(&good, None), Some(at("2026-11-24T11:59:59Z")));
    let proven = with(NOW, |c| c.time_servers = vec![proven(NOW, NOW)]);
    assert_eq!(next(&proven, None), Some(at("2026-11-24T11:59:59Z")));
    assert_eq!(next(&good, Some("2026-11-24T11:30:00Z")), None);
    assert_eq!(next(&good, Some("2027-01-01")), None);
    assert!(next(&good, Some("2026-11-20")).is_some());
    for judged in [
        with(NOW, |_| {}),
        with(NOW, |c| c.trusted_within_s = Some(60)),
        with(NOW, |c| c.kernel = Some(kernel(true))),
        with(NOW, |c| {
            c.time_servers = vec![server(NOW, THREE_HOURS_ON); 2];
        }),
        with("2060-01-01", |c| c.kernel = Some(kernel(true))),
        with(NOW, |c| {
            c.tls = Some(TlsFacts {
                endpoint: Endpoint::parse("a.example", 8883).unwrap(),
                window: Some(Validity {
                    not_before: at("2026-11-02"),
                    not_after: at("2027-11-02"),
                }),
                error: None,
            });
        }),
    ] {
        assert_eq!(next(&judged, None), None);
    }
}

#[test]
fn a_certificate_of_a_server_is_the_last_resort_and_marked_so() {
    let judged = with("1970-01-01", |c| {
        c.tls = Some(TlsFacts {
            endpoint: Endpoint::parse("a.example", 8883).unwrap(),
            window: Some(Validity {
                not_before: at("2026-11-02"),
                not_after: at("2027-11-02"),
            }),
            error: None,
        });
    });
    assert_eq!(judged.trust, Some(Trust::Hint));
    assert_eq!(judged.interval.earliest, at("2026-11-02"));
    let need = wait::Need {
        windows: Vec::new(),
        require: Trust::Word,
        within: None,
    };
    let facts = clock(NOW);
    assert!(matches!(
        wait::decide(&facts, &judged, &need),
        wait::Decision::NotYet(_)
    ));
}

#[test]
fn waiting_ends_when_the_windows_are_certain() {
    let window = |from: &str, to: &str| {
        let validity = Validity {
            not_before: at(from),
            not_after: at(to),
        };
        ("the certificate".to_owned(), validity)
    };
    let decide = |facts: &ClockFacts, windows: Vec<(String, Validity)>, require| {
        let need = wait::Need {
            windows,
            require,
            within: Some(Span::seconds(60)),
        };
        wait::decide(facts, &judge(facts), &need)
    };
    let mut facts = clock(NOW);
    let year = || vec![window("2026-11-02", "2027-11-02")];
    assert!(matches!(
        decide(&facts, year(), Trust::Word),
        wait::Decision::NotYet(_)
    ));
    facts.kernel = Some(kernel(true));
    assert_eq!(decide(&facts, year(), Trust::Word), wait::Decision::Ready);
    assert!(matches!(
        decide(&facts, year(), Trust::Majority),
        wait::Decision::NotYet(_)
    ));
    let over = vec![window("2025-11-02", "2026-11-02")];
    assert!(matches!(
        decide(&facts, over, Trust::Word),
        wait::Decision::Over(_)
    ));
    let later = vec![window("2026-12-01", "2027-11-02")];
    assert!(matches!(
        decide(&facts, later, Trust::Word),
        wait::Decision::Begins(when, _) if when == at("2026-12-01")
    ));
    facts.time_servers = vec![server(NOW, THREE_HOURS_ON)];
    let wrong = decide(&facts, year(), Trust::Word);
    assert!(matches!(wrong, wait::Decision::NotYet(why) if why.contains("behind")));
}

#[test]
fn a_step_has_a_floor_and_a_limit() {
    let limits = |max_step: Option<i64>| step::Limits {
        max_step: max_step.map(Span::seconds),
        require: Trust::Network,
    };
    let plan = |facts: &ClockFacts, max| step::plan(facts, &judge(facts), limits(max));
    let mut facts = clock(NOW);
    assert!(matches!(
        plan(&facts, None),
        Err(step::StepError::Unconfirmed { .. })
    ));
    facts.time_servers = vec![server(NOW, THREE_HOURS_ON)];
    let found = plan(&facts, None).unwrap();
    assert!(
        (found.offset_nanos - 10_800 * NANOS).abs() < NANOS / 10,
        "{found:?}"
    );
    assert!(matches!(
        plan(&facts, Some(60)),
        Err(step::StepError::Limit { .. })
    ));
    let far = "2027-11-24T12:00:00Z";
    facts.time_servers = vec![server(NOW, far)];
    assert!(matches!(
        plan(&facts, None),
        Err(step::StepError::Limit { .. })
    ));
    facts.time_servers = vec![server(NOW, far); 3];
    assert!(plan(&facts, None).is_ok(), "a majority needs no limit");
    let mut facts = clock("1970-01-01");
    facts.time_servers = vec![server("1970-01-01", NOW)];
    assert!(plan(&facts, None).is_ok(), "1970 is wrong for certain");
    facts.last_seen = Some(seen(NOW));
    let at_time = |time| step::plan_at(&facts, at(time), limits(None));
    assert!(at_time("2026-11-25").is_ok());
    assert!(matches!(
        at_time("2026-11-20"),
        Err(step::StepError::BeforeFloor { .. })
    ));
    assert!(matches!(
        at_time("2060-01-01"),
        Err(step::StepError::AfterCeiling { .. })
    ));
}

#[test]
fn a_battery_that_is_empty_is_noticed_and_never_believed() {
    for (shows, wanted) in [
        ("2000-01-01", Status::Warn),
        ("2026-11-23", Status::Warn),
        (NOW, Status::Pass),
    ] {
        let judged = with(NOW, |c| {
            c.rtc = Some(RtcFacts {
                device: "rtc0".into(),
                shows: Some(at(shows)),
                error: None,
            });
        });
        assert_eq!(status(&judged, "clock.rtc"), Some(wanted), "{shows}");
        assert_eq!(judged.trust, None);
    }
}
