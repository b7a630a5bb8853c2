//! The rate of `nameplate device batch`, whole process, durable, against what ring itself can do:
//! a key and a signature for each device on all cores, kept nowhere. Both in turn, in one run, on
//! the disk that holds the build. The last lines are `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and stops when it cannot"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

/// What a certificate's to-be-signed part measures.
const TBS_BYTES: usize = 400;

fn main() {
    let devices = number("NAMEPLATE_BENCH_DEVICES", 10_000);
    let runs = number("NAMEPLATE_BENCH_RUNS", 5);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{devices} devices, {runs} alternating runs, {threads} cores");
    let (mut raw, mut batch, mut rss) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=runs {
        raw.push(rate(devices, raw_issue(devices, threads)));
        let (took, kib) = batch_issue(devices);
        batch.push(rate(devices, took));
        rss.push(kib / 1024.0);
        let at = run - 1;
        println!(
            "run {run}: raw {:.0}/s, batch {:.0}/s, {:.1} MiB",
            raw[at], batch[at], rss[at]
        );
    }
    let (raw, batch, rss) = (median(raw), median(batch), median(rss));
    println!("figure issue.raw_per_s {raw:.0} 1/s");
    println!("figure issue.batch_per_s {batch:.0} 1/s");
    println!("figure issue.durable_ratio {:.3} x", batch / raw);
    println!("figure issue.rss_mib {rss:.1} MiB");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(devices: usize, took: Duration) -> f64 {
    devices as f64 / took.as_secs_f64()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Keys and signatures alone, in even shares.
fn raw_issue(devices: usize, threads: usize) -> Duration {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let ca = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random);
    let ca = ca.unwrap();
    let share = |count: usize| {
        let random = SystemRandom::new();
        for _ in 0..count {
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
            std::hint::black_box(key.unwrap());
            std::hint::black_box(ca.sign(&random, &[7; TBS_BYTES]).unwrap());
        }
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..threads {
            let count = devices / threads + usize::from(n < devices % threads);
            let share = &share;
            scope.spawn(move || share(count));
        }
    });
    begun.elapsed()
}

/// A fresh project and one batch: how long the process took, and its peak memory in KiB.
fn batch_issue(devices: usize) -> (Duration, f64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for args in [
        &["init"][..],
        &["ca", "create", "root", "--unencrypted"],
        &["ca", "create", "line", "--parent", "root", "--unencrypted"],
    ] {
        assert!(nameplate(dir.path(), args).wait().unwrap().success());
    }
    let mut list = "serial\n".to_owned();
    for n in 0..devices {
        writeln!(list, "NP-{n:08}").unwrap();
    }
    fs::write(dir.path().join("list.csv"), list).unwrap();
    let begun = Instant::now();
    let mut child = nameplate(dir.path(), &["device", "batch", "list.csv"]);
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    let exit = loop {
        peak = peak.max(peak_kib(&status));
        if let Some(exit) = child.try_wait().unwrap() {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let took = begun.elapsed();
    assert!(exit.success(), "{exit}");
    let folders = fs::read_dir(dir.path().join("devices")).unwrap().count();
    assert_eq!(folders, devices);
    (took, peak)
}

fn nameplate(dir: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_nameplate"))
        .args(args)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The kernel's high-water mark of resident memory.
fn peak_kib(status: &str) -> f64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0.0)
}
