//! The ledger's promises, kept by SQLite and by PostgreSQL alike. Each handle stands for a process
//! of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Barrier;

use nameplate::core::ids::{CertificateId, hex};
use nameplate::core::ledger_file::{Entry, Writer};
use nameplate::core::ledger_place::LedgerPlace;
use nameplate::core::record::{
    CertificateState, CrlRecord, IdentityPurpose, Intent, RotationRecord, SerialKey,
};
use nameplate::core::revocation::{Revocation, RevocationReason};
use nameplate::core::time::{Span, UtcTime, Validity};
use nameplate::effects::ledger::{SqlLedger, postgres, sqlite};
use nameplate::explain::{Explain, Kind};
use nameplate::ports::ledger::{
    Checkpoint, Claim, Confirmation, Feed, Filter, Ledger, LedgerError,
};

use crate::project::{Project, quiet};
use crate::server::{run_sql, server};

/// One ledger, to be opened any number of times.
enum Base {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Base {
    fn both() -> [Self; 2] {
        [
            Self::Sqlite(tempfile::tempdir().unwrap()),
            Self::Postgres(server().database()),
        ]
    }

    fn path(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("ledger.sqlite")
    }

    fn try_open(&self) -> Result<SqlLedger, LedgerError> {
        match self {
            Self::Sqlite(folder) => sqlite::open(&Self::path(folder)),
            Self::Postgres(url) => match LedgerPlace::parse(url).unwrap() {
                LedgerPlace::Server(access) => postgres::open(&access),
                LedgerPlace::File(_) => unreachable!(),
            },
        }
    }

    fn open(&self) -> SqlLedger {
        self.try_open().unwrap()
    }

    /// Behind the ledger's back.
    fn sql(&self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(folder) => rusqlite::Connection::open(Self::path(folder))
                .unwrap()
                .execute_batch(sql)
                .map_err(|e| e.to_string()),
            Self::Postgres(url) => ::postgres::Client::connect(url, ::postgres::NoTls)
                .unwrap()
                .batch_execute(sql)
                .map_err(|e| e.as_db_error().unwrap().message().to_owned()),
        }
    }
}

fn now() -> UtcTime {
    "2026-06-01".parse().unwrap()
}

fn ca(name: &str) -> CertificateId {
    CertificateId::of_der(name.as_bytes())
}

fn intent(device: &str, serial: u32) -> Intent {
    let mut bytes = [1; 16];
    bytes[12..].copy_from_slice(&serial.to_be_bytes());
    Intent {
        key: SerialKey {
            issuer: ca("ca"),
            serial: bytes.to_vec(),
        },
        device: device.to_owned(),
        purpose: IdentityPurpose::Operational,
        subject: format!("CN={device}"),
        validity: Validity {
            not_before: now(),
            not_after: now().plus(Span::days(30)),
        },
        key_algorithm: "EC P-256".into(),
        folder: Some("devices/x".into()),
        batch: None,
        replaces: None,
        flaw: None,
    }
}

fn confirmation(intent: &Intent) -> Confirmation {
    let serial = hex(&intent.key.serial);
    let der = format!("certificate of {} {serial}", intent.device).into_bytes();
    Confirmation {
        key: intent.key.clone(),
        id: CertificateId::of_der(&der),
        der,
    }
}

fn id_of(intent: &Intent) -> CertificateId {
    CertificateId::of_der(&confirmation(intent).der)
}

/// Issues at once.
#[track_caller]
fn issue(ledger: &SqlLedger, intents: &[Intent]) {
    let run = ledger.begin_run(now()).unwrap();
    let claims = ledger.claim(&*run, intents, now()).unwrap();
    assert!(
        claims.iter().all(|one| matches!(one, Claim::Claimed)),
        "{claims:?}"
    );
    let all: Vec<_> = intents.iter().map(confirmation).collect();
    ledger.confirm_block(&*run, &all, None, now()).unwrap();
}

#[track_caller]
fn whole(ledger: &SqlLedger) -> u64 {
    let check = ledger.verify().unwrap();
    assert_eq!(check.broken, None);
    check.certificates
}

fn word(claim: &Claim) -> &'static str {
    match claim {
        Claim::Claimed => "claimed",
        Claim::Live(_) => "live",
        Claim::Busy => "busy",
        Claim::Leftover(_) => "leftover",
    }
}

#[test]
fn a_device_goes_to_the_run_that_claims_it_first() {
    for base in Base::both() {
        let (one, two) = (base.open(), base.open());
        let (first, second) = (one.begin_run(now()).unwrap(), two.begin_run(now()).unwrap());
        assert_ne!(first.id(), second.id());
        let wishes = [intent("a", 1), intent("b", 2), intent("a", 3)];
        let words = |claims: Vec<Claim>| claims.iter().map(word).collect::<Vec<_>>();
        let claims = one.claim(&*first, &wishes, now()).unwrap();
        assert_eq!(words(claims), ["claimed", "claimed", "busy"]);
        let again = [intent("b", 4), intent("c", 5)];
        let claims = two.claim(&*second, &again, now()).unwrap();
        assert_eq!(words(claims), ["busy", "claimed"]);
        one.confirm_block(&*first, &[confirmation(&wishes[0])], None, now())
            .unwrap();
        let claims = two.claim(&*second, &[intent("a", 6)], now()).unwrap();
        let Claim::Live(live) = &claims[0] else {
            panic!("{claims:?}")
        };
        assert_eq!(live.id, Some(id_of(&wishes[0])));
        assert_eq!(live.der, Some(confirmation(&wishes[0]).der));
        // The first run is over, its intent for b is not.
        drop(first);
        let claims = two.claim(&*second, &[intent("b", 7)], now()).unwrap();
        let Claim::Leftover(left) = &claims[0] else {
            panic!("{claims:?}")
        };
        assert_eq!(left.serial, wishes[1].key.serial);
        two.abandon(&[left.key()], now()).unwrap();
        let claims = two.claim(&*second, &[intent("b", 7)], now()).unwrap();
        assert_eq!(words(claims), ["claimed"]);
        assert_eq!(whole(&one), 4);
    }
}

#[test]
fn a_serial_number_is_used_once_by_a_ca() {
    for base in Base::both() {
        let ledger = base.open();
        let run = ledger.begin_run(now()).unwrap();
        ledger.claim(&*run, &[intent("a", 1)], now()).unwrap();
        let block = [intent("b", 2), intent("c", 1)];
        let error = ledger.claim(&*run, &block, now()).unwrap_err();
        assert_eq!(error.code(), "ledger.serial");
        // Nothing of the block is there.
        let filter = Filter::default();
        assert_eq!(ledger.certificates(&filter).unwrap().len(), 1);
        let twice = [intent("d", 9), intent("e", 9)];
        let error = ledger.claim(&*run, &twice, now()).unwrap_err();
        assert_eq!(error.code(), "ledger.serial");
        let mut other = intent("f", 1);
        other.key.issuer = ca("another");
        let claims = ledger.claim(&*run, &[other], now()).unwrap();
        assert_eq!(word(&claims[0]), "claimed");
        assert_eq!(whole(&ledger), 2);
    }
}

#[test]
fn only_what_a_run_claimed_is_confirmed_and_the_mark_goes_with_it() {
    for base in Base::both() {
        let ledger = base.open();
        let (run, other) = (
            ledger.begin_run(now()).unwrap(),
            ledger.begin_run(now()).unwrap(),
        );
        let (mine, foreign) = (intent("a", 1), intent("b", 2));
        ledger
            .claim(&*run, std::slice::from_ref(&mine), now())
            .unwrap();
        ledger
            .claim(&*other, std::slice::from_ref(&foreign), now())
            .unwrap();
        let mark = Checkpoint {
            output: "out.tar".into(),
            offset_bytes: 5 << 32,
            rows: 1,
        };
        let both = [confirmation(&mine), confirmation(&foreign)];
        let error = ledger
            .confirm_block(&*run, &both, Some(&mark), now())
            .unwrap_err();
        assert_eq!(error.code(), "ledger.no-intent");
        assert_eq!(ledger.checkpoint("out.tar").unwrap(), None);
        assert_eq!(
            ledger.certificate(&id_of(&mine)).unwrap().map(|r| r.state),
            None
        );
        ledger
            .confirm_block(&*run, &both[..1], Some(&mark), now())
            .unwrap();
        assert_eq!(ledger.checkpoint("out.tar").unwrap(), Some(mark.clone()));
        let error = ledger
            .confirm_block(&*run, &both[..1], None, now())
            .unwrap_err();
        assert_eq!(error.code(), "ledger.no-intent");
        let later = Checkpoint { rows: 2, ..mark };
        ledger
            .confirm_block(&*run, &[], Some(&later), now())
            .unwrap();
        assert_eq!(ledger.checkpoint("out.tar").unwrap(), Some(later));
        // Confirmed without its run, as a leftover is.
        ledger.confirm(&both[1..], now()).unwrap();
        assert_eq!(
            ledger
                .live(&["a", "b", "c"], IdentityPurpose::Operational)
                .unwrap()
                .len(),
            2
        );
        assert_eq!(whole(&ledger), 2);
    }
}

#[test]
fn threads_that_race_for_the_same_devices_get_each_once() {
    const DEVICES: u32 = 60;
    for base in Base::both() {
        for racers in [2_u32, 8] {
            let start = Barrier::new(racers as usize);
            let won = std::thread::scope(|scope| {
                let racing: Vec<_> = (0..racers)
                    .map(|racer| {
                        let (base, start) = (&base, &start);
                        scope.spawn(move || {
                            let ledger = base.open();
                            let run = ledger.begin_run(now()).unwrap();
                            start.wait();
                            let mut won = Vec::new();
                            for n in 0..DEVICES / 4 {
                                let wishes: Vec<_> = (0..4)
                                    .map(|k| {
                                        let device = format!("r{racers}-{}", n * 4 + k);
                                        let serial = (racers << 24) | (racer << 16) | (n * 4 + k);
                                        intent(&device, serial)
                                    })
                                    .collect();
                                let claims = ledger.claim(&*run, &wishes, now()).unwrap();
                                let mine: Vec<_> = wishes
                                    .iter()
                                    .zip(&claims)
                                    .filter(|(_, claim)| matches!(claim, Claim::Claimed))
                                    .map(|(wish, _)| wish)
                                    .collect();
                                let all: Vec<_> = mine.iter().map(|w| confirmation(w)).collect();
                                ledger.confirm_block(&*run, &all, None, now()).unwrap();
                                won.extend(mine.into_iter().map(|wish| wish.device.clone()));
                            }
                            won
                        })
                    })
                    .collect();
                racing
                    .into_iter()
                    .flat_map(|racer| racer.join().unwrap())
                    .collect::<Vec<_>>()
            });
            let mut count = BTreeMap::new();
            for device in &won {
                *count.entry(device).or_insert(0) += 1;
            }
            assert_eq!(count.len(), DEVICES as usize);
            assert!(count.values().all(|times| *times == 1), "{count:?}");
        }
        assert_eq!(whole(&base.open()), u64::from(DEVICES) * 2);
    }
}

#[test]
fn a_revocation_is_final_and_crl_numbers_are_given_once() {
    for base in Base::both() {
        let (ledger, other) = (base.open(), base.open());
        let (a, b) = (intent("a", 1), intent("b", 2));
        issue(&ledger, &[a.clone(), b.clone()]);
        let later = now().plus(Span::days(1));
        let stands = ledger
            .revoke(&id_of(&a), RevocationReason::KeyCompromise, now())
            .unwrap();
        let again = other
            .revoke(&id_of(&a), RevocationReason::Superseded, later)
            .unwrap();
        assert_eq!(stands, again);
        assert_eq!(
            stands,
            Revocation {
                at: now(),
                reason: RevocationReason::KeyCompromise
            }
        );
        // As it was done before reasons were kept.
        let state = CertificateState::Revoked;
        ledger
            .set_state(&id_of(&b), state, "because", later)
            .unwrap();
        let next = ledger.next_crl(&ca("ca")).unwrap();
        assert_eq!(next.number, 1);
        let revoked: Vec<_> = next.revoked.iter().map(|one| one.revocation).collect();
        assert_eq!(revoked[0], stands);
        assert_eq!(
            revoked[1],
            Revocation {
                at: later,
                reason: RevocationReason::Unspecified
            }
        );
        assert_eq!(next.revoked[0].serial, a.key.serial);
        assert!(ledger.next_crl(&ca("none")).unwrap().revoked.is_empty());
        let crl = CrlRecord {
            issuer: ca("ca"),
            number: next.number,
            this_update: now(),
            next_update: later,
            der: vec![1, 2, 3],
        };
        ledger.save_crl(&crl).unwrap();
        let error = other.save_crl(&crl).unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("ledger.crl-number", Kind::Unavailable)
        );
        assert_eq!(other.last_crl(&ca("ca")).unwrap(), Some(crl));
        assert_eq!(other.next_crl(&ca("ca")).unwrap().number, 2);
        assert!(
            ledger
                .live(&["a", "b"], IdentityPurpose::Operational)
                .unwrap()
                .is_empty()
        );
        let error = ledger
            .revoke(&ca("x"), RevocationReason::Unspecified, now())
            .unwrap_err();
        assert_eq!(error.code(), "ledger.unknown");
        whole(&ledger);
        base.sql("UPDATE crls SET number = 7").unwrap();
        assert!(ledger.verify().unwrap().broken.is_some());
    }
}

#[test]
fn a_successor_takes_over_at_once_and_holds_keep_others_out() {
    for base in Base::both() {
        let (ledger, other) = (base.open(), base.open());
        let (old, mut new) = (intent("a", 1), intent("a", 2));
        issue(&ledger, std::slice::from_ref(&old));
        new.replaces = Some(id_of(&old));
        issue(&ledger, std::slice::from_ref(&new));
        let run = other.begin_run(now()).unwrap();
        let third = Intent {
            key: intent("a", 3).key,
            ..new.clone()
        };
        let claims = other.claim(&*run, &[third], now()).unwrap();
        assert_eq!(word(&claims[0]), "live", "one successor waits at most");
        let step = RotationRecord {
            device: "a".into(),
            old: id_of(&old),
            new: Some(id_of(&new)),
            step: "proved".into(),
            started: now(),
            updated: now(),
        };
        ledger.save_rotation(&step).unwrap();
        assert_eq!(other.rotation("a").unwrap(), Some(step));
        ledger.promote(&id_of(&old), &id_of(&new), now()).unwrap();
        ledger.promote(&id_of(&old), &id_of(&new), now()).unwrap();
        ledger
            .set_folder(&id_of(&new), "elsewhere".as_ref(), now())
            .unwrap();
        ledger.end_rotation("a", "done", now()).unwrap();
        assert_eq!(other.rotation("a").unwrap(), None);
        let live = other.live(&["a"], IdentityPurpose::Operational).unwrap();
        assert_eq!(live[0].id, Some(id_of(&new)));
        assert_eq!(live[0].folder, Some("elsewhere".into()));
        let before = other.certificate(&id_of(&old)).unwrap().unwrap();
        assert_eq!(
            (before.state, before.live),
            (CertificateState::Superseded, false)
        );

        let (held, rotating) = (ledger.hold().unwrap(), ledger.hold_rotations().unwrap());
        for again in [&ledger, &other] {
            let error = again.hold().unwrap_err();
            assert_eq!(
                (error.code(), error.kind()),
                ("ledger.held", Kind::Unavailable)
            );
            assert_eq!(again.hold_rotations().unwrap_err().code(), "ledger.held");
        }
        drop((held, rotating));
        // A child that another test just started may have the lock until it becomes its program.
        let soon = |hold: &dyn Fn() -> bool| {
            (0..100).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                hold()
            })
        };
        assert!(soon(&|| other.hold().is_ok()));
        assert!(soon(&|| other.hold_rotations().is_ok()));
        whole(&ledger);
    }
}

#[test]
fn lists_are_narrowed_and_of_any_length() {
    const COUNT: u32 = 2_500;
    for base in Base::both() {
        let ledger = base.open();
        let all: Vec<_> = (0..COUNT)
            .map(|n| Intent {
                batch: Some(if n % 2 == 0 { "even" } else { "odd" }.into()),
                flaw: (n == 7).then(|| "expired".into()),
                validity: Validity {
                    not_before: now(),
                    not_after: now().plus(Span::days(i64::from(n % 100) + 1)),
                },
                ..intent(&format!("d{n}"), n)
            })
            .collect();
        issue(&ledger, &all);
        let devices = |filter: &Filter| -> Vec<String> {
            let records = ledger.certificates(filter).unwrap();
            records.into_iter().map(|record| record.device).collect()
        };
        let any = Filter::default;
        let newest: Vec<_> = (0..COUNT).rev().map(|n| format!("d{n}")).collect();
        assert_eq!(devices(&any()), newest);
        assert_eq!(
            devices(&Filter {
                limit: Some(2),
                ..any()
            }),
            ["d2499", "d2498"]
        );
        let even = Filter {
            batch: Some("even".into()),
            live_only: true,
            ..any()
        };
        assert_eq!(devices(&even).len(), 1_250);
        let bad = Filter {
            flaw: Some("expired".into()),
            ..any()
        };
        assert_eq!(devices(&bad), ["d7"]);
        let soon = now().plus(Span::days(50)).plus(Span::seconds(1));
        let soon = devices(&Filter {
            expiring_before: Some(soon),
            ..any()
        });
        assert_eq!(soon.len(), 1_250);
        assert_eq!(soon[..2], ["d0", "d100"], "the soonest first");
        let one = Filter {
            device: Some("d5".into()),
            ..any()
        };
        assert_eq!(devices(&one), ["d5"]);
        ledger
            .set_state(&id_of(&all[5]), CertificateState::Deactivated, "", now())
            .unwrap();
        assert_eq!(devices(&one), ["d5"]);
        assert!(
            devices(&Filter {
                live_only: true,
                ..one
            })
            .is_empty()
        );
        let off = Filter {
            state: Some(CertificateState::Deactivated),
            ..any()
        };
        assert_eq!(devices(&off), ["d5"]);
        let ours = Filter {
            issuer: Some(ca("ca")),
            limit: Some(1_500),
            ..any()
        };
        assert_eq!(devices(&ours).len(), 1_500);
        let theirs = Filter {
            issuer: Some(ca("another")),
            ..any()
        };
        assert!(devices(&theirs).is_empty());
        // The visitor may use the ledger, and may stop.
        let mut seen = 0;
        ledger
            .for_each_certificate(&any(), &mut |record| {
                assert!(ledger.certificate(&record.id.unwrap()).unwrap().is_some());
                seen += 1;
                if seen == 3 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        assert_eq!(seen, 3);
        assert_eq!(whole(&ledger), u64::from(COUNT));
    }
}

#[test]
fn every_change_behind_the_ledgers_back_is_found() {
    for (sql, named) in [
        (
            "UPDATE entries SET device = 'evil' WHERE device = 'a'",
            "differs",
        ),
        ("UPDATE entries SET live = 0 WHERE device = 'b'", "differs"),
        (
            "UPDATE entries SET flaw = 'x' WHERE device = 'b'",
            "differs",
        ),
        (
            "UPDATE entries SET revoked = 1, reason = 'superseded' WHERE device = 'c'",
            "differs",
        ),
        ("UPDATE seals SET der = id", "not the one of its id"),
        ("DELETE FROM seals", "differs"),
        ("DELETE FROM entries WHERE device = 'c'", "is gone"),
    ] {
        for base in Base::both() {
            let ledger = base.open();
            issue(&ledger, &[intent("a", 1), intent("b", 2)]);
            let run = ledger.begin_run(now()).unwrap();
            ledger.claim(&*run, &[intent("c", 3)], now()).unwrap();
            assert_eq!(whole(&ledger), 3);
            base.sql(sql).unwrap();
            let flaw = ledger.verify().unwrap().broken.expect(sql);
            assert!(flaw.problem.contains(named), "{sql}: {flaw:?}");
            assert!(flaw.subject.starts_with("certificate:"), "{sql}: {flaw:?}");
            let error = base.sql("UPDATE events SET at = 0").unwrap_err();
            assert!(error.contains("append-only"), "{error}");
            let error = base.sql("DELETE FROM events").unwrap_err();
            assert!(error.contains("append-only"), "{error}");
        }
    }
}

#[test]
fn a_ledger_of_version_3_goes_on_and_still_verifies() {
    for base in Base::both() {
        let ledger = base.open();
        issue(&ledger, &[intent("a", 1), intent("b", 2)]);
        let run = ledger.begin_run(now()).unwrap();
        ledger.claim(&*run, &[intent("c", 3)], now()).unwrap();
        drop((run, ledger));
        // As version 3 had it: what is issued says so itself, seals say no time.
        let version = match &base {
            Base::Sqlite(_) => {
                "CREATE VIEW certificates AS SELECT nr FROM entries; PRAGMA user_version = 3"
            }
            Base::Postgres(_) => "UPDATE nameplate_schema SET version = 3",
        };
        base.sql(&format!(
            "UPDATE entries SET state = 'issued' WHERE nr IN (SELECT nr FROM seals); \
             DROP VIEW certificates; ALTER TABLE seals DROP COLUMN sealed; DROP TABLE ids; \
             DROP TABLE indexed; CREATE INDEX by_id ON seals (substr(id, 1, 8)); {version}"
        ))
        .unwrap();
        let ledger = base.open();
        assert_eq!(whole(&ledger), 3);
        issue(&ledger, &[intent("d", 4)]);
        assert_eq!(whole(&ledger), 4);
        for one in [intent("a", 1), intent("d", 4)] {
            let found = ledger.certificate(&id_of(&one)).unwrap();
            assert_eq!(found.unwrap().device, one.device);
        }
        let of = |state| {
            let filter = Filter {
                state: Some(state),
                ..Filter::default()
            };
            let all = ledger.certificates(&filter).unwrap();
            all.into_iter()
                .map(|record| record.device)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(CertificateState::Issued), ["d", "b", "a"]);
        assert_eq!(of(CertificateState::Intended), ["c"]);
        drop(ledger);
        let seen = "CREATE TEMP TABLE seen (issued INTEGER CHECK (issued = 3)); \
                    INSERT INTO seen SELECT count(*) FROM certificates WHERE state = 'issued'";
        base.sql(seen).unwrap();
    }
}

/// Ids are indexed many at a time: before, after, and for a row that the index had passed.
#[test]
fn a_certificate_is_found_by_its_id_whenever_it_was_issued() {
    for base in Base::both() {
        let (ledger, other) = (base.open(), base.open());
        let run = ledger.begin_run(now()).unwrap();
        let late = intent("late", 1);
        let leftover = intent("leftover", 2);
        let claims = [late.clone(), leftover.clone()];
        ledger.claim(&*run, &claims, now()).unwrap();
        assert!(other.certificate(&id_of(&late)).unwrap().is_none());
        let many: Vec<Intent> = (10..2_510).map(|n| intent(&format!("d{n}"), n)).collect();
        issue(&other, &many);
        for one in [&many[0], &many[2_499]] {
            let found = ledger.certificate(&id_of(one)).unwrap();
            assert_eq!(found.unwrap().device, one.device);
        }
        let rows = "CREATE TABLE seen (n INTEGER CHECK (n = 2500)); \
                    INSERT INTO seen SELECT count(*) FROM ids";
        base.sql(rows).unwrap();
        ledger
            .confirm_block(&*run, &[confirmation(&late)], None, now())
            .unwrap();
        ledger.confirm(&[confirmation(&leftover)], now()).unwrap();
        issue(&ledger, &[intent("last", 3)]);
        for one in [&late, &leftover, &intent("last", 3)] {
            let found = other.certificate(&id_of(one)).unwrap();
            assert_eq!(found.unwrap().device, one.device);
            let set = other.set_state(&id_of(one), CertificateState::Swept, "", now());
            set.unwrap();
        }
        assert!(
            other
                .certificate(&id_of(&intent("x", 9)))
                .unwrap()
                .is_none()
        );
        assert_eq!(whole(&other), 2_503);
    }
}

#[test]
fn a_newer_ledger_is_left_alone() {
    for base in Base::both() {
        base.open();
        match &base {
            Base::Sqlite(_) => base.sql("PRAGMA user_version = 9"),
            Base::Postgres(_) => base.sql("UPDATE nameplate_schema SET version = 9"),
        }
        .unwrap();
        assert_eq!(base.try_open().err().unwrap().code(), "ledger.schema");
    }
}

/// A project whose ledger is on the server.
fn project() -> (Project, String) {
    let url = server().database();
    let project = Project::new();
    std::fs::write(
        project.path("nameplate.toml"),
        format!("ledger = \"{url}\"\n"),
    )
    .unwrap();
    project.ok(&["ca", "create", "factory"]);
    (project, url)
}

#[test]
fn processes_share_a_server() {
    const COUNT: usize = 400;
    let (project, _) = project();
    for racers in [2, 8] {
        let names: Vec<_> = (0..COUNT).map(|n| format!("D{racers}-{n:04}")).collect();
        let list = names.join("\n");
        std::fs::write(project.path("list.csv"), format!("serial\n{list}")).unwrap();
        let batch = |n: usize| {
            let args = ["device", "batch", "list.csv", "--output", "ndjson", "--out"];
            let out = format!("{racers}-{n}.ndjson");
            let mut command = project.command(&[&args[..], &[&out]].concat());
            quiet(&mut command).spawn().unwrap()
        };
        let mut all: Vec<_> = (0..racers).map(batch).collect();
        // The server notices that this one is gone, and the others take over.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let _ = all[0].kill();
        for (n, racer) in all.iter_mut().enumerate() {
            let status = racer.wait().unwrap();
            assert!(n == 0 || status.success(), "{racers} {n}: {status}");
        }
        assert!(batch(0).wait().unwrap().success());
        let mut lines: Vec<_> = (0..racers)
            .map(|n| std::fs::read_to_string(project.path(&format!("{racers}-{n}.ndjson"))))
            .flat_map(|text| text.unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap())
            .map(|one| {
                one["name"]
                    .as_str()
                    .or(one["device"].as_str())
                    .unwrap()
                    .to_owned()
            })
            .collect();
        lines.sort();
        assert_eq!(lines, names);
    }
    let check = project.ok(&["ledger", "verify"]);
    assert_eq!(check["broken"], serde_json::Value::Null);
    let listed = project.ok(&["device", "list"]);
    assert_eq!(listed["devices"].as_array().unwrap().len(), 2 * COUNT);
    project.ok(&["device", "issue", "single"]);
    let args = ["device", "issue", "single"];
    assert_eq!(project.fails(&args), (5, "ledger.live".into()));
    assert!(!project.path("ledger.sqlite.runs").exists());
}

#[test]
fn a_server_is_reached_by_password_and_by_tls_and_refusals_are_clear() {
    let (project, url) = project();
    let server = server();
    let name = url.rsplit_once('/').unwrap().1;
    // One role for the whole server.
    run_sql(
        &url,
        "DO $$ BEGIN CREATE ROLE locked SUPERUSER LOGIN PASSWORD 's3cret:pw'; \
         EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    );
    let socket = server.socket();
    let port = server.port;
    let locked = format!("postgres://locked@{socket}:{port}/{name}");
    let run = |vars: &[(&str, &str)], args: &[&str]| {
        let args = [&["--format", "json"], args].concat();
        let mut command = project.command(&args);
        command.envs(vars.iter().copied());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!said.contains("s3cret"), "{said}");
        (output.status.code().unwrap(), said)
    };
    let with = |place: &str, vars: &[(&str, &str)]| {
        run(
            &[&[("NAMEPLATE_LEDGER", place)], vars].concat(),
            &["ledger", "verify"],
        )
    };
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = project.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (code, said) = with(&locked, &[]);
    assert!(code == 3 && said.contains("password"), "{said}");
    assert_eq!(with(&locked, &[("PGPASSWORD", "s3cret:pw")]).0, 0);
    let wrong = with(&locked, &[("PGPASSWORD", "s3cret")]);
    assert!(
        wrong.0 == 3 && wrong.1.contains("password authentication failed"),
        "{}",
        wrong.1
    );
    let secret = file("secret", "s3cret:pw\n", 0o600);
    assert_eq!(
        with(&locked, &[("NAMEPLATE_LEDGER_PASSWORD_FILE", &secret)]).0,
        0
    );
    let open = file("open", "s3cret:pw\n", 0o644);
    let (code, said) = with(&locked, &[("NAMEPLATE_LEDGER_PASSWORD_FILE", &open)]);
    assert!(code == 3 && said.contains("chmod 600"), "{said}");
    let line = format!("localhost:{port}:{name}:locked:s3cret\\:pw\n");
    let pass = file("pgpass", &line, 0o600);
    assert_eq!(with(&locked, &[("PGPASSFILE", &pass)]).0, 0);
    let inside = locked.replace("locked@", "locked:s3cret%3Apw@");
    assert_eq!(with(&inside, &[]).0, 0);
    let (code, said) = run(&[], &["--ledger", &inside, "ledger", "verify"]);
    assert!(code == 3 && said.contains("ledger.url"), "{said}");
    let (code, said) = with(&locked.replace("locked@", "locked:s3cret@x@"), &[]);
    assert!(code == 3 && said.contains("%40"), "{said}");

    // TLS: the certificate is for localhost, and known only when its root is named.
    let over = |host: &str, more: &str| format!("postgres://keeper@{host}:{port}/{name}{more}");
    let roots = format!("?sslmode=verify-full&sslrootcert={}", server.roots());
    assert_eq!(with(&over("localhost", &roots), &[]).0, 0);
    let (code, said) = with(&over("127.0.0.1", &roots), &[]);
    assert!(code != 0 && said.contains("certificate"), "{said}");
    let (code, said) = with(&over("localhost", "?sslmode=require"), &[]);
    assert!(code != 0 && said.contains("certificate"), "{said}");
    let (code, said) = with(&over("localhost", ""), &[]);
    assert!(code == 3 && said.contains("no encryption"), "{said}");

    let (code, said) = with("postgres://keeper@127.0.0.1:1/x", &[]);
    assert!(code == 4 && said.contains("ledger.database"), "{said}");
    let (code, said) = with(&format!("postgres://keeper@{socket}:{port}/nothing"), &[]);
    assert!(code == 3 && said.contains("does not exist"), "{said}");
    let (code, said) = with("postgres://h/d?nonsense=1", &[]);
    assert!(code == 3 && said.contains("nonsense"), "{said}");
}

/// Everything in it, as `ledger export` writes it, but for the head line's time.
fn text(ledger: &SqlLedger) -> String {
    let (mut writer, mut all) = Writer::begin(now());
    ledger
        .export(&mut |entry| {
            all.push('\n');
            all.push_str(&writer.entry(entry));
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn entries(ledger: &SqlLedger) -> Vec<Entry> {
    let mut all = Vec::new();
    ledger
        .export(&mut |entry| {
            all.push(entry);
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn feed(all: Vec<Entry>, last: fn() -> Feed) -> impl FnMut() -> Feed {
    let mut all = all.into_iter();
    move || all.next().map_or_else(last, Feed::Entry)
}

/// A bit of everything.
fn lived_in(ledger: &SqlLedger) {
    let all = [intent("a", 1), intent("b", 2), intent("c", 3)];
    issue(ledger, &all);
    ledger
        .revoke(&id_of(&all[0]), RevocationReason::KeyCompromise, now())
        .unwrap();
    ledger
        .save_crl(&CrlRecord {
            issuer: ca("ca"),
            number: 1,
            this_update: now(),
            next_update: now().plus(Span::days(7)),
            der: vec![1, 2, 3],
        })
        .unwrap();
    ledger
        .save_rotation(&RotationRecord {
            device: "b".into(),
            old: id_of(&all[1]),
            new: None,
            step: "begun".into(),
            started: now(),
            updated: now(),
        })
        .unwrap();
    let run = ledger.begin_run(now()).unwrap();
    ledger.claim(&*run, &[intent("d", 4)], now()).unwrap();
    let mark = Checkpoint {
        output: "devices.tar".into(),
        offset_bytes: 7,
        rows: 3,
    };
    ledger
        .confirm_block(&*run, &[], Some(&mark), now())
        .unwrap();
}

#[test]
fn a_ledger_moves_to_either_database_and_goes_on() {
    for from in Base::both() {
        let old = from.open();
        lived_in(&old);
        for to in Base::both() {
            let new = to.open();
            let check = new
                .import(&mut feed(entries(&old), || Feed::End))
                .unwrap()
                .unwrap();
            assert_eq!(check.head, old.verify().unwrap().head);
            assert_eq!(text(&new), text(&old));
            let again = new.import(&mut feed(entries(&old), || Feed::End));
            assert_eq!(again.unwrap_err().code(), "ledger.not-empty");
            // The run that stood in a row is dead here, and no new one is taken for it.
            let run = new.begin_run(now()).unwrap();
            let claims = new
                .claim(
                    &*run,
                    &[intent("d", 5), intent("e", 6), intent("a", 7)],
                    now(),
                )
                .unwrap();
            let words: Vec<_> = claims.iter().map(word).collect();
            assert_eq!(words, ["leftover", "claimed", "claimed"]);
            assert_eq!(new.next_crl(&ca("ca")).unwrap().number, 2);
            assert_eq!(whole(&new), 6);
        }
    }
}

#[test]
fn a_flawed_or_broken_off_import_leaves_nothing() {
    let from = tempfile::tempdir().unwrap();
    let old = sqlite::open(&from.path().join("ledger.sqlite")).unwrap();
    lived_in(&old);
    for to in Base::both() {
        let new = to.open();
        let stopped = new.import(&mut feed(entries(&old), || Feed::Stop)).unwrap();
        assert!(stopped.is_none());
        let mut changed = entries(&old);
        for entry in &mut changed {
            if let Entry::Certificate(one) = entry {
                one.device.push('x');
            }
        }
        let check = new
            .import(&mut feed(changed, || Feed::End))
            .unwrap()
            .unwrap();
        assert!(check.broken.is_some());
        assert_eq!(whole(&new), 0);
        assert_eq!(entries(&new).len(), 0);
        // It can still be filled.
        new.import(&mut feed(entries(&old), || Feed::End)).unwrap();
        assert_eq!(whole(&new), 4);
    }
}

#[test]
fn a_project_moves_from_a_file_to_a_server_and_back() {
    let project = Project::with_ca();
    std::fs::write(project.path("list.csv"), "name\np1\np2\np3\n").unwrap();
    project.ok(&["device", "batch", "list.csv"]);
    let before = project.ok(&["ledger", "verify"]);
    project.ok(&["ledger", "export", "whole.ndjson"]);
    let about = std::fs::metadata(project.path("whole.ndjson")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777,
        0o600
    );
    let url = server().database();
    let there = ["--ledger", &url];
    let moved = project.ok(&[&["ledger", "import", "whole.ndjson"][..], &there].concat());
    assert_eq!(moved["head"], before["head"]);
    // It goes on there: nobody is issued for twice.
    let again = project.ok(&[&["device", "batch", "list.csv"][..], &there].concat());
    assert_eq!(again["issued"], 0, "{again}");
    std::fs::write(project.path("more.csv"), "name\np3\np4\n").unwrap();
    let more = project.ok(&[&["device", "batch", "more.csv"][..], &there].concat());
    assert_eq!(more["issued"], 1, "{more}");
    project.ok(&[&["ledger", "export", "back.ndjson"][..], &there].concat());
    let back = ["--ledger", "back.sqlite"];
    let last = project.ok(&[&["ledger", "import", "back.ndjson"][..], &back].concat());
    assert_eq!(last["certificates"], 4);
    let stats = project.ok(&[&["ledger", "stats"][..], &back].concat());
    assert_eq!(
        (&stats["live"], &stats["authorities"]["factory"]["live"]),
        (&4.into(), &4.into())
    );
}
