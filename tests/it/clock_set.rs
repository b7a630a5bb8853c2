//! `clock set`. No test sets this machine's clock: the program runs with a library before it that takes
//! the calls and writes them down, and without the capability to set anything, should that fail.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::device_lab::{Lab, Running, Said, command};

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>
static int put(const char *what, long long seconds, long nanos) {
    FILE *log = fopen(getenv("SHIM_LOG"), "a");
    if (!log) return -1;
    fprintf(log, "%s %lld %ld\n", what, seconds, nanos);
    fclose(log);
    const char *code = getenv("SHIM_ERRNO");
    if (code) { errno = atoi(code); return -1; }
    return 0;
}
int clock_settime(clockid_t id, const struct timespec *t) {
    return put(id == CLOCK_REALTIME ? "clock_settime" : "other", t->tv_sec, t->tv_nsec);
}
int settimeofday(const struct timeval *t, const struct timezone *z) {
    (void)z;
    return put("settimeofday", t ? t->tv_sec : 0, 0);
}
int stime(const time_t *t) { return put("stime", *t, 0); }
int adjtimex(struct timex *t) {
    if (t->modes) return put("adjtimex", t->modes, 0);
    memset(t, 0, sizeof *t);
    const char *status = getenv("SHIM_STATUS");
    t->status = status ? atoi(status) : STA_UNSYNC;
    t->maxerror = 16000;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    t->time.tv_sec = now.tv_sec;
    t->time.tv_usec = now.tv_nsec / 1000;
    return t->status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}
int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    int *fields = va_arg(rest, int *);
    va_end(rest);
    (void)fd;
    if ((request & 0xffffffffUL) != 0x4024700aUL) { errno = ENOTTY; return -1; }
    return put("rtc", fields[5] + 1900, (fields[4] + 1) * 100 + fields[3]);
}
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
    va_end(rest);
    if (strcmp(path, "/dev/rtc0") == 0) {
        if (!getenv("SHIM_RTC")) { errno = ENOENT; return -1; }
        path = "/dev/null";
    }
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
"#;

fn shim() -> &'static PathBuf {
    static SHIM_FILE: OnceLock<PathBuf> = OnceLock::new();
    SHIM_FILE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("nameplate-shim-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        fs::write(&source, SHIM).unwrap();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .status()
            .expect("cc is installed");
        assert!(status.success());
        library
    })
}

/// Runs `clock set` shimmed and without CAP_SYS_TIME; gives what it said and which calls it made.
fn set(lab: &Lab, fake_time: Option<&str>, more: &[&str], env: &[(&str, &str)]) -> (Said, String) {
    let (state, run, log) = (lab.text("state"), lab.text("run"), lab.text("calls"));
    let mut args = vec!["clock", "set", "--format", "json", "--timeout", "1s"];
    args.extend(["--state-dir", &state, "--run-dir", &run]);
    if !more.contains(&"--daemon") {
        args.extend(["--daemon", "none"]);
    }
    args.extend(more);
    let plain = command(fake_time, &args);
    let mut guarded = Command::new("setpriv");
    guarded
        .args([
            "--bounding-set",
            "-sys_time",
            "--inh-caps",
            "-sys_time",
            "--",
        ])
        .arg("/usr/bin/env");
    let preload = plain
        .get_envs()
        .find(|(name, _)| *name == "LD_PRELOAD")
        .and_then(|(_, value)| value)
        .map_or(String::new(), |value| {
            format!(":{}", value.to_str().unwrap())
        });
    guarded.arg(format!("LD_PRELOAD={}{preload}", shim().display()));
    guarded.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs().filter(|(name, _)| *name != "LD_PRELOAD") {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    let _ = fs::remove_file(&log);
    guarded.env("SHIM_LOG", &log).envs(env.iter().copied());
    guarded.current_dir(std::env::temp_dir());
    let said = Said::from(guarded.output().expect("setpriv is installed"));
    (said, fs::read_to_string(&log).unwrap_or_default())
}

fn at(server: &Running) -> String {
    format!("127.0.0.1:{}", server.port)
}

/// The guard itself: with the shim gone, the kernel refuses.
#[test]
fn without_the_shim_the_guard_refuses() {
    let output = Command::new("setpriv")
        .args([
            "--bounding-set",
            "-sys_time",
            "--inh-caps",
            "-sys_time",
            "--",
        ])
        .args(["grep", "CapEff", "/proc/self/status"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mask = text.split_whitespace().nth(1).unwrap();
    let mask = u64::from_str_radix(mask, 16).unwrap();
    assert_eq!(mask >> 25 & 1, 0, "CAP_SYS_TIME is still there: {text}");
}

#[test]
fn a_clock_three_hours_behind_is_stepped() {
    let lab = Lab::new();
    let server = lab.chronyd(Some("+3h"));
    let (said, calls) = set(&lab, None, &["--server", &at(&server)], &[]);
    assert_eq!(said.code, 0, "{said}");
    let json = said.json();
    assert_eq!(json["stepped"], true, "{said}");
    let step = json["step_seconds"].as_f64().unwrap();
    assert!((step - 10_800.0).abs() < 60.0, "{said}");
    let words: Vec<&str> = calls.split_whitespace().collect();
    assert_eq!(
        (words[0], calls.lines().count()),
        ("clock_settime", 1),
        "{calls}"
    );
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let set_to: u64 = words[1].parse().unwrap();
    assert!(set_to.abs_diff(now + 10_800) < 60, "{calls}");
}

#[test]
fn a_board_at_1970_is_stepped_whatever_the_limit_built_in() {
    let lab = Lab::new();
    let server = lab.chronyd(None);
    let wall = Some("@1970-01-01 00:00:10");
    let (said, calls) = set(&lab, wall, &["--server", &at(&server)], &[]);
    assert_eq!(said.code, 0, "{said}");
    assert!(calls.starts_with("clock_settime 1"), "{calls}");
    assert!(
        !lab.path("state").exists(),
        "one server's word is not kept as seen"
    );
}

#[test]
fn a_dry_run_and_a_clock_that_is_right_call_nothing() {
    let lab = Lab::new();
    let (right, wrong) = (lab.chronyd(None), lab.chronyd(Some("+3h")));
    let (said, calls) = set(&lab, None, &["--server", &at(&wrong), "--dry-run"], &[]);
    assert_eq!((said.code, &calls[..]), (0, ""), "{said}");
    assert_eq!(said.json()["stepped"], false);
    let (said, calls) = set(&lab, None, &["--server", &at(&right)], &[]);
    assert_eq!((said.code, &calls[..]), (0, ""), "{said}");
    assert_eq!(said.json()["needless"], true, "{said}");
}

#[test]
fn limits_floors_and_daemons_refuse() {
    let lab = Lab::new();
    let far = lab.chronyd(Some("@2027-11-20 12:00:00"));
    let server = at(&far);
    let nobody = format!("127.0.0.1:{}", crate::device_lab::free_port());
    for (more, code, error) in [
        (&["--server", &server][..], 5, "clock.step-limit"),
        (&["--at", "+2h", "--max-step", "1h"], 5, "clock.step-limit"),
        (&["--at", "+2d"], 5, "clock.step-limit"),
        (&["--at", "2026-10-01"], 5, "clock.before-floor"),
        (&["--at", "2060-01-01"], 5, "clock.after-ceiling"),
        (&["--server", &nobody], 4, "clock.unconfirmed"),
        (
            &["--server", &server, "--require", "majority"],
            4,
            "clock.unconfirmed",
        ),
        (&[], 4, "clock.unconfirmed"),
        (&["--at", "soon"], 3, "time.syntax"),
        (
            &["--at", "+1h", "--server", &server],
            2,
            "cannot be used with",
        ),
    ] {
        let (said, calls) = set(&lab, None, more, &[]);
        assert_eq!((said.code, &calls[..]), (code, ""), "{more:?}: {said}");
        assert!(said.stderr.contains(error), "{more:?}: {said}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let synchronised = [("SHIM_STATUS", "1")];
    let (said, calls) = set(&lab, None, &["--at", "+2h"], &synchronised);
    assert_eq!((said.code, &calls[..]), (5, ""), "{said}");
    assert!(said.stderr.contains("clock.daemon-runs"), "{said}");
    let (said, calls) = set(
        &lab,
        None,
        &["--at", "+2h", "--despite-daemon"],
        &synchronised,
    );
    assert_eq!((said.code, calls.lines().count()), (0, 1), "{said}");
}

#[test]
fn the_time_that_is_named_is_set() {
    let lab = Lab::new();
    let (said, calls) = set(
        &lab,
        None,
        &["--at", "2027-01-31T12:00:00Z", "--max-step", "1y"],
        &[],
    );
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(calls, "clock_settime 1801396800 0\n");
    assert!(
        !lab.path("state").exists(),
        "somebody's word is not kept as seen"
    );
}

#[test]
fn want_of_the_capability_is_told() {
    let lab = Lab::new();
    let (said, calls) = set(&lab, None, &["--at", "+2h"], &[("SHIM_ERRNO", "1")]);
    assert_eq!((said.code, calls.lines().count()), (5, 1), "{said}");
    assert!(said.stderr.contains("clock.privilege"), "{said}");
    assert!(said.stderr.contains("CAP_SYS_TIME"), "{said}");
}

#[test]
fn what_was_seen_is_forgotten_only_when_told() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("state")).unwrap();
    let file = lab.path("state/last-seen");
    fs::write(&file, "2036-11-03T00:00:00Z 2109283200\n").unwrap();
    let (said, calls) = set(&lab, None, &["--at", "+2h"], &[]);
    assert_eq!((said.code, &calls[..]), (5, ""), "{said}");
    assert!(said.stderr.contains("--forget-last-seen"), "{said}");
    let server = lab.chronyd(Some("+3h"));
    let more = ["--server", &at(&server), "--forget-last-seen"];
    let (said, calls) = set(&lab, None, &more, &[]);
    assert_eq!((said.code, calls.lines().count()), (0, 1), "{said}");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(
        kept.starts_with("2026") || kept.starts_with("2027"),
        "{kept}"
    );
}

#[test]
fn the_battery_backed_clock_is_set_too_if_there_is_one() {
    let lab = Lab::new();
    let more = ["--at", "2027-01-31T12:00:00Z", "--max-step", "1y", "--rtc"];
    let (said, calls) = set(&lab, None, &more, &[("SHIM_RTC", "1")]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(calls, "clock_settime 1801396800 0\nrtc 2027 131\n");
    assert_eq!(said.json()["rtc_set"], true, "{said}");
    let (said, calls) = set(&lab, None, &more, &[]);
    assert_eq!((said.code, calls.lines().count()), (3, 1), "{said}");
    assert!(said.stderr.contains("clock.no-rtc"), "{said}");
    assert!(said.stderr.contains("the system clock was set"), "{said}");
}
