//! What issuing costs beside what ring itself can do, in one run and in turn:
//!
//! - raw: a key pair and a signature for each device, on all cores, kept nowhere;
//! - memory: the same with the certificate encoded and both put into PEM (`issue.ratio`);
//! - durable: the whole process `device batch --output tar`, with its ledger, its list and a stream
//!   that is safe against kill -9 (`issue.durable_ratio`), and its peak memory (`issue.rss_mib`).
//!
//! The last lines are `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and stops when it cannot"
)]

use std::fs;
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nameplate::core::draft::stamp::Stamp;
use nameplate::core::draft::{DraftSpec, Extras, IssuerView, Purpose};
use nameplate::core::ids::CertificateId;
use nameplate::core::key::KeyAlgorithm;
use nameplate::core::pem;
use nameplate::core::subject::Subject;
use nameplate::core::time::Validity;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::ports::{Keygen, Signer};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

/// What a certificate's to-be-signed part measures.
const TBS_BYTES: usize = 400;

fn main() {
    let devices = number("NAMEPLATE_BENCH_DEVICES", 100_000);
    let runs = number("NAMEPLATE_BENCH_RUNS", 5);
    let shape = std::env::var("NAMEPLATE_BENCH_OUTPUT").unwrap_or_else(|_| "tar".into());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{devices} devices, {runs} alternating runs, {threads} cores, --output {shape}");
    let (mut raw, mut memory, mut batch) = (Vec::new(), Vec::new(), Vec::new());
    let mut rss = Vec::new();
    let quick = devices.min(200_000);
    for run in 1..=runs {
        raw.push(rate(quick, raw_issue(quick, threads)));
        memory.push(rate(quick, memory_issue(quick, threads)));
        let (took, kib) = batch_issue(devices, &shape);
        batch.push(rate(devices, took));
        rss.push(kib / 1024.0);
        let at = run - 1;
        println!(
            "run {run}: raw {:.0}/s, in memory {:.0}/s, batch {:.0}/s, {:.1} MiB",
            raw[at], memory[at], batch[at], rss[at]
        );
    }
    // Ratios of one run each, so that what else the machine does weighs on both sides.
    let each = |ours: &[f64]| median(ours.iter().zip(&raw).map(|(a, b)| a / b).collect());
    let (ratio, durable) = (each(&memory), each(&batch));
    let peak = rss.iter().copied().fold(0.0, f64::max);
    println!("figure issue.devices {devices} devices");
    println!("figure issue.raw_per_s {:.0} 1/s", median(raw.clone()));
    println!("figure issue.memory_per_s {:.0} 1/s", median(memory));
    println!("figure issue.batch_per_s {:.0} 1/s", median(batch));
    println!("figure issue.ratio {ratio:.3} x");
    println!("figure issue.durable_ratio {durable:.3} x");
    println!("figure issue.rss_mib {peak:.1} MiB");
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

/// Runs `share` on every thread, with its part of the devices.
fn on_all_cores(devices: usize, threads: usize, share: &(dyn Fn(usize) + Sync)) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..threads {
            let count = devices / threads + usize::from(n < devices % threads);
            scope.spawn(move || share(count));
        }
    });
    begun.elapsed()
}

/// Keys and signatures alone, in even shares.
fn raw_issue(devices: usize, threads: usize) -> Duration {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let ca = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random);
    let ca = ca.unwrap();
    on_all_cores(devices, threads, &|count| {
        let random = SystemRandom::new();
        for _ in 0..count {
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
            black_box(key.unwrap());
            black_box(ca.sign(&random, &[7; TBS_BYTES]).unwrap());
        }
    })
}

/// Keys, certificates by the batch's stamp, ids, and both as PEM; kept nowhere.
fn memory_issue(devices: usize, threads: usize) -> Duration {
    let keys = RingKeys::default();
    let (ca_key, ca) = keys.generate(KeyAlgorithm::EcP256).unwrap();
    let name: Subject = "CN=Line 1,O=Example Pumps".parse().unwrap();
    let view = IssuerView::self_signed(&name, &ca).unwrap();
    let (_, public) = keys.generate(KeyAlgorithm::EcP256).unwrap();
    let spec = DraftSpec {
        subject: Subject::common_name("device"),
        serial: [1; 16],
        validity: Validity {
            not_before: "2026-01-01".parse().unwrap(),
            not_after: "2027-01-01".parse().unwrap(),
        },
        public_key: &public,
        purpose: Purpose::Device,
        alternative_names: Vec::new(),
        extras: Extras::default(),
    };
    let stamp = Stamp::new(&spec, &view).unwrap();
    let signer = LocalSigner::new(&ca_key).unwrap();
    on_all_cores(devices, threads, &|count| {
        let random = SystemRandom::new();
        for n in 0..count {
            let (key, public) = keys.generate(KeyAlgorithm::EcP256).unwrap();
            let mut serial = [0; 16];
            random.fill(&mut serial).unwrap();
            let subject = Subject::common_name(&format!("NP-{n:08}"));
            let tbs = stamp.tbs(serial, &subject, &public).unwrap();
            let der = stamp.seal(&tbs, &signer.sign(&tbs).unwrap());
            black_box(CertificateId::of_der(&der));
            black_box(key.to_pem());
            black_box(pem::encode("CERTIFICATE", &der));
        }
    })
}

/// A fresh project and one batch: how long the process took, and its peak memory in KiB.
fn batch_issue(devices: usize, shape: &str) -> (Duration, f64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for args in [
        &["init"][..],
        &["ca", "create", "root", "--unencrypted"],
        &["ca", "create", "line", "--parent", "root", "--unencrypted"],
    ] {
        assert!(nameplate(dir.path(), args).wait().unwrap().success());
    }
    let file = fs::File::create(dir.path().join("list.csv")).unwrap();
    let mut list = BufWriter::new(file);
    writeln!(list, "serial").unwrap();
    for n in 0..devices {
        writeln!(list, "NP-{n:08}").unwrap();
    }
    list.into_inner().unwrap().sync_all().unwrap();
    let begun = Instant::now();
    let args = [
        "device", "batch", "list.csv", "--output", shape, "--out", "out",
    ];
    let mut child = nameplate(dir.path(), &args);
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
    (took, peak)
}

fn nameplate(dir: &Path, args: &[&str]) -> Child {
    let program = std::env::var_os("NAMEPLATE_BENCH_PROGRAM");
    Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_nameplate").into()))
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
