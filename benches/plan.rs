//! What planning a list costs: the whole process `template plan --csv` over a million rows, with a
//! subject's pattern of three placeholders and a policy that decides whether each device may connect.
//! No key is made.
//!
//! `NAMEPLATE_BENCH_ROWS` and `NAMEPLATE_BENCH_RUNS` change how much. The last lines are
//! `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and stops when it cannot"
)]

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let rows = number("NAMEPLATE_BENCH_ROWS", 1_000_000);
    let runs = number("NAMEPLATE_BENCH_RUNS", 5);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{rows} rows, {runs} runs, {threads} cores");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    write_list(&dir.path().join("list.csv"), rows);
    let mut seconds = Vec::new();
    let mut peak = 0.0_f64;
    for run in 1..=runs {
        let (took, kib) = plan(dir.path());
        let million = took.as_secs_f64() / as_float(rows) * 1e6;
        println!(
            "run {run}: {million:.1} s a million, {:.1} MiB",
            kib / 1024.0
        );
        seconds.push(million);
        peak = peak.max(kib / 1024.0);
    }
    seconds.sort_by(f64::total_cmp);
    println!("figure plan.million_s {:.1} s", seconds[seconds.len() / 2]);
    println!("figure plan.rss_mib {peak:.1} MiB");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn as_float(count: usize) -> f64 {
    count as f64
}

/// One row in a thousand fails, and one in ten thousand names a thing that was named before.
fn write_list(path: &Path, rows: usize) {
    let mut list = BufWriter::new(fs::File::create(path).unwrap());
    writeln!(list, "name,serial,model").unwrap();
    for n in 0..rows {
        let space = if n % 1000 == 999 { " " } else { "" };
        let name = if n % 10_000 == 9_998 { n - 1 } else { n };
        writeln!(list, "NP-{name:08},SN{space}{n:08},Mark-{}", n % 7).unwrap();
    }
    list.flush().unwrap();
}

/// How long the process took, and its peak memory in KiB.
fn plan(dir: &Path) -> (Duration, f64) {
    let begun = Instant::now();
    let mut child = nameplate(dir);
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    let exit = loop {
        peak = peak.max(peak_kib(&status));
        if let Some(exit) = child.try_wait().unwrap() {
            break exit;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = begun.elapsed();
    assert_eq!(exit.code(), Some(1), "some rows fail");
    (took, peak)
}

fn nameplate(dir: &Path) -> Child {
    let program = std::env::var_os("NAMEPLATE_BENCH_PROGRAM");
    Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_nameplate").into()))
        .args(["template", "plan", "-t", "jitp-groups", "--csv", "list.csv"])
        .args([
            "--subject",
            "CN={name},serialNumber={serial},O=Example,OU={model}",
        ])
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
