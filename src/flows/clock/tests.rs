use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use zeroize::Zeroizing;

use super::*;
use crate::core::bundle::Secrecy;
use crate::core::clock::step::Limits;
use crate::core::clock::wait::{Decision, Need};
use crate::core::clock::{KernelState, RtcFacts, Trust};
use crate::core::endpoint::Endpoint;
use crate::core::nts;
use crate::core::time::{Span, UtcTime};
use crate::ports::{
    Answered, Clock, DaemonPlace, DialError, Entropy, FileError, Files, Heard, KernelClock, Look,
    Looked, NtsKeys, NtsSession, Probe, Question, SetClock, SetError, TimeDaemons, TimeSource,
    Unanswered,
};

const NANOS: i128 = 1_000_000_000;
const HOUR: i128 = 3_600 * NANOS;

/// A machine: its clock is `behind` the true time, until somebody sets it at `fixed_at`.
struct World {
    now: Mutex<Duration>,
    behind: Mutex<i128>,
    fixed_at: Option<Duration>,
    answers: bool,
    asked: Mutex<Vec<u64>>,
    file: Mutex<Option<Vec<u8>>>,
    set: Mutex<Vec<i128>>,
}

/// 2026-11-24T00:00:00Z.
const START: i128 = 1_795_478_400 * NANOS;

impl World {
    fn new(behind: i128, fixed_at: Option<u64>, answers: bool) -> Self {
        Self {
            now: Mutex::default(),
            behind: Mutex::new(behind),
            fixed_at: fixed_at.map(Duration::from_secs),
            answers,
            asked: Mutex::default(),
            file: Mutex::default(),
            set: Mutex::default(),
        }
    }

    fn truth(&self) -> i128 {
        START + i128::try_from(self.monotonic().as_nanos()).unwrap()
    }

    fn is_fixed(&self) -> bool {
        self.fixed_at.is_some_and(|at| self.monotonic() >= at)
    }

    fn wait(&self) -> Wait<'_> {
        Wait {
            gather: self.gather(),
            keep: self.keep(),
        }
    }

    fn keep(&self) -> Keep<'_> {
        Keep {
            files: self,
            kernel: self,
        }
    }

    fn gather(&self) -> ClockGather<'_> {
        ClockGather {
            clock: self,
            kernel: self,
            time_source: self,
            nts: self,
            daemons: self,
            entropy: self,
            files: self,
            probe: self,
        }
    }

    fn asked_at(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }
}

impl Clock for World {
    fn now(&self) -> UtcTime {
        UtcTime::from_unix(i64::try_from(self.now_nanos().div_euclid(NANOS)).unwrap())
    }
    fn now_nanos(&self) -> i128 {
        let behind = if self.is_fixed() {
            0
        } else {
            *self.behind.lock().unwrap()
        };
        self.truth() - behind
    }
    fn monotonic(&self) -> Duration {
        *self.now.lock().unwrap()
    }
    fn sleep(&self, duration: Duration) {
        *self.now.lock().unwrap() += duration;
    }
}

impl KernelClock for World {
    fn state(&self) -> Option<KernelState> {
        Some(KernelState {
            synchronised: self.is_fixed(),
            max_error_us: 20_000,
            estimated_error_us: 0,
            status: 0,
            differs_nanos: 0,
        })
    }
    fn rtc(&self) -> Option<RtcFacts> {
        None
    }
    fn uptime_s(&self) -> Option<u64> {
        Some(1_000 + self.monotonic().as_secs())
    }
}

fn stamp(nanos: i128) -> [u8; 8] {
    let seconds = nanos.div_euclid(NANOS) + 2_208_988_800;
    let fraction = (nanos.rem_euclid(NANOS) << 32) / NANOS;
    u64::try_from((seconds << 32) | fraction)
        .unwrap()
        .to_be_bytes()
}

impl TimeSource for World {
    fn ask(
        &self,
        questions: &[Question],
        _timeout: Duration,
        clock: &(dyn Clock + Sync),
    ) -> Vec<Result<Answered, Unanswered>> {
        let mut asked = self.asked.lock().unwrap();
        asked.extend(questions.iter().map(|_| clock.monotonic().as_secs()));
        let answer = |question: &Question| {
            if !self.answers {
                return Err(Unanswered::Timeout);
            }
            let mut bytes = vec![0; 48];
            bytes[..2].copy_from_slice(&[0x24, 1]);
            bytes[3] = 0xec;
            bytes[24..32].copy_from_slice(&question.packet[40..48]);
            bytes[32..40].copy_from_slice(&stamp(self.truth()));
            bytes[40..48].copy_from_slice(&stamp(self.truth()));
            Ok(Answered {
                address: "192.0.2.1:123".into(),
                sent_nanos: clock.now_nanos(),
                received_nanos: clock.now_nanos(),
                bytes,
            })
        };
        questions.iter().map(answer).collect()
    }
}

impl NtsKeys for World {
    fn exchange(
        &self,
        servers: &[Endpoint],
        _trust: &nts::trust::Trust,
        _timeout: Duration,
    ) -> Vec<Result<NtsSession, String>> {
        servers.iter().map(|_| Err("no NTS here".into())).collect()
    }
}

impl TimeDaemons for World {
    fn look(
        &self,
        places: &[DaemonPlace],
        _timeout: Duration,
    ) -> Vec<Option<Result<Heard, String>>> {
        places.iter().map(|_| None).collect()
    }
}

impl Entropy for World {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Files for World {
    fn read(&self, path: &Path, _max_bytes: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let file = self.file.lock().unwrap().clone();
        let there = file.filter(|_| path.ends_with("last-seen"));
        there
            .map(Zeroizing::new)
            .ok_or_else(|| FileError::Missing(path.to_owned()))
    }
    fn write_new(&self, path: &Path, _bytes: &[u8], _secrecy: Secrecy) -> Result<(), FileError> {
        Err(FileError::Exists(path.to_owned()))
    }
    fn replace(&self, path: &Path, bytes: &[u8], _secrecy: Secrecy) -> Result<(), FileError> {
        if path.ends_with("last-seen") {
            *self.file.lock().unwrap() = Some(bytes.to_vec());
        }
        Ok(())
    }
    fn create_dir(&self, _path: &Path) -> Result<(), FileError> {
        Ok(())
    }
    fn exists(&self, _path: &Path) -> bool {
        true
    }
    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

impl Probe for World {
    fn look(&self, look: &Look<'_>) -> Looked {
        Looked {
            error: Some(DialError::NotTls(look.endpoint.clone())),
            ..Looked::default()
        }
    }
}

impl SetClock for World {
    fn set_wall(&self, nanos: i128) -> Result<(), SetError> {
        self.set.lock().unwrap().push(nanos);
        *self.behind.lock().unwrap() = self.truth() - nanos;
        Ok(())
    }
    fn set_rtc(&self, _at: UtcTime) -> Result<(), SetError> {
        Err(SetError::NoRtc("rtc0"))
    }
}

fn request(servers: usize) -> ClockRequest {
    let server = |n| Endpoint::parse(&format!("time{n}.example"), 123).unwrap();
    ClockRequest {
        floor: "2026-11-01".parse().unwrap(),
        ceiling: None,
        trust_clock: None,
        time_servers: (0..servers).map(server).collect(),
        nts_servers: Vec::new(),
        nts_roots: Vec::new(),
        daemons: Vec::new(),
        last_seen: Some(PathBuf::from("/state/last-seen")),
        tls: None,
        timeout: Duration::from_secs(1),
    }
}

fn kept() -> Kept {
    Kept {
        last_seen: Some("/state/last-seen".into()),
        servers: None,
    }
}

fn wait_for(world: &World, servers: usize, timeout: u64) -> Waited {
    world.wait().run(&WaitRequest {
        clock: request(servers),
        need: Need {
            windows: Vec::new(),
            require: Trust::Daemon,
            within: Some(Span::seconds(60)),
        },
        timeout: Duration::from_secs(timeout),
        kept: kept(),
    })
}

#[test]
fn a_clock_that_is_set_meanwhile_is_right_by_the_answers_of_before() {
    let world = World::new(3 * HOUR, Some(5), true);
    let waited = wait_for(&world, 1, 60);
    assert_eq!(
        waited.decision,
        Decision::Ready,
        "{:?}",
        waited.judged.checks
    );
    assert_eq!(waited.waited, Duration::from_secs(5));
    assert_eq!(world.asked_at(), [0], "nobody is asked again before 16 s");
}

#[test]
fn servers_are_asked_less_and_less_often() {
    let silent = World::new(0, None, false);
    let waited = wait_for(&silent, 1, 100);
    assert!(matches!(waited.decision, Decision::NotYet(_)));
    assert_eq!(silent.asked_at(), [0, 2, 6, 14, 30, 62]);
    assert_eq!(waited.waited, Duration::from_secs(100));
    let wrong = World::new(3 * HOUR, None, true);
    let waited = wait_for(&wrong, 1, 200);
    assert!(matches!(waited.decision, Decision::NotYet(why) if why.contains("behind")));
    assert_eq!(wrong.asked_at(), [0, 16, 48, 112, 176]);
}

#[test]
fn what_is_sure_is_kept_from_a_majority_only() {
    let world = World::new(0, None, true);
    assert_eq!(wait_for(&world, 2, 0).decision, Decision::Ready);
    assert_eq!(*world.file.lock().unwrap(), None);
    assert_eq!(wait_for(&world, 3, 0).decision, Decision::Ready);
    let line = world.file.lock().unwrap().clone().unwrap();
    assert_eq!(line, b"2026-11-23T23:59:59Z 1795478399\n");
}

#[test]
fn the_clock_is_set_to_the_middle_and_then_needs_no_step() {
    let world = World::new(3 * HOUR, None, true);
    let set = Set {
        gather: world.gather(),
        keep: world.keep(),
        setter: &world,
    };
    let request = |rtc, forget_last_seen| SetRequest {
        clock: request(3),
        target: Target::Servers,
        limits: Limits {
            max_step: None,
            require: Trust::Network,
        },
        rtc,
        dry_run: false,
        despite_daemon: false,
        forget_last_seen,
        kept: kept(),
    };
    let done = set.run(&request(false, false)).unwrap();
    assert!(done.stepped && !done.step.needless);
    assert!((world.now_nanos() - world.truth()).abs() < NANOS / 100);
    world.sleep(Duration::from_secs(3));
    let again = set.run(&request(false, false)).unwrap();
    assert!(!again.stepped && again.step.needless);
    assert_eq!(world.set.lock().unwrap().len(), 1);
    world.sleep(Duration::from_secs(3));
    let error = set.run(&request(true, false)).unwrap_err();
    assert!(matches!(error, SetFailure::Rtc { stepped: false, .. }));
    // A floor that a lie left behind goes only when told to.
    *world.file.lock().unwrap() = Some(b"2036-11-03T00:00:00Z 2109283200\n".to_vec());
    world.sleep(Duration::from_secs(3));
    set.run(&request(false, false)).unwrap();
    assert!(
        world
            .file
            .lock()
            .unwrap()
            .clone()
            .unwrap()
            .starts_with(b"2036")
    );
    world.sleep(Duration::from_secs(3));
    set.run(&request(false, true)).unwrap();
    assert!(
        world
            .file
            .lock()
            .unwrap()
            .clone()
            .unwrap()
            .starts_with(b"2026")
    );
}
