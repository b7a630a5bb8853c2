//! What the sandbox costs beside others, in one run and in turn:
//!
//! - mutual TLS handshakes by rustls alone, MQTT connects to the sandbox and to mosquitto, with the same
//!   certificates and client (`sandbox.connect_ratio`, `sandbox.vs_mosquitto`);
//! - first connects of devices that just-in-time provisioning brings in (`sandbox.jitp_ratio`);
//! - publishes under policies, with 10, 1 000 and 100 000 things and as many policies
//!   (`sandbox.publish_growth`: processor time of the sandbox for one publish, most by fewest);
//! - the memory of an idle connection (`sandbox.conn_kib`), and the start (`sandbox.start_ms`).
//!
//! The client verifies the server, makes a new TLS session each time, and shares the machine with the
//! server. The last lines are `figure NAME VALUE UNIT`, medians.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and stops when it cannot"
)]

mod client;
mod fleet;
mod servers;

use std::fs;
use std::path::Path;
use std::time::Duration;

use client::{Device, Wish};
use fleet::{Fleet, Policies, Server};
use servers::Process;

/// The things of the sandboxes that publishes are measured on.
const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// How many clients publish.
const PUBLISHERS: usize = 8;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--bare") {
        return servers::serve_handshakes(arguments.next().expect("a folder").as_ref());
    }
    let lab = Lab::new();
    let mut all = Figures::default();
    for run in 1..=lab.runs {
        lab.connects(run, &mut all);
        lab.publishes(run, &mut all);
        lab.starts(run, &mut all);
    }
    drop((lab.bare, lab.sandbox, lab.mosquitto, lab.sizes));
    let idle = number("NAMEPLATE_BENCH_IDLE", 10_000);
    for run in 1..=lab.runs.min(3) {
        let kib = idle_kib(&lab.folder.path().join("main"), &lab.devices[..idle]);
        println!("idle run {run}: {kib:.1} KiB for each of {idle} connections");
        all.add("sandbox.conn_kib", kib);
    }
    all.print();
}

/// Everything that is measured, by name.
#[derive(Default)]
struct Figures(Vec<(String, Vec<f64>)>);

impl Figures {
    fn add(&mut self, name: &str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, all)) => all.push(value),
            None => self.0.push((name.to_owned(), vec![value])),
        }
    }

    fn print(mut self) {
        for (name, values) in &mut self.0 {
            values.sort_by(f64::total_cmp);
            let (median, unit) = (values[values.len() / 2], unit(name));
            match unit {
                "1/s" => println!("figure {name} {median:.0} {unit}"),
                "x" => println!("figure {name} {median:.3} {unit}"),
                _ => println!("figure {name} {median:.1} {unit}"),
            }
        }
    }
}

fn unit(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("_per_s") => "1/s",
        _ if name.ends_with("_us") => "us",
        _ if name.ends_with("_ms") => "ms",
        _ if name.ends_with("_kib") => "KiB",
        _ if name.ends_with("_early") => "connects",
        _ => "x",
    }
}

/// Servers that run, and devices for them.
struct Lab {
    folder: tempfile::TempDir,
    runs: usize,
    time: Duration,
    /// Registered ones, and behind them those that are new.
    devices: Vec<Device>,
    registered: usize,
    fresh: usize,
    bare: Process,
    sandbox: Process,
    mosquitto: Option<Process>,
    sizes: Vec<(usize, Process)>,
}

impl Lab {
    fn new() -> Self {
        let runs = number("NAMEPLATE_BENCH_RUNS", 5);
        let fresh = number("NAMEPLATE_BENCH_FIRST_CONNECTS", 1500);
        let idle = number("NAMEPLATE_BENCH_IDLE", 10_000);
        let seconds = number("NAMEPLATE_BENCH_SECONDS", 2);
        let registered = idle.max(1000);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let server = Server::new(&folder.path().join("server"));
        let most = SIZES[SIZES.len() - 1].max(registered + fresh * runs);
        let fleet = Fleet::new(most);
        write_certificates(folder.path(), &fleet, &server);
        let main = folder.path().join("main");
        fleet.register(&main, registered, Policies::Shared, &server);
        let sizes = SIZES.map(|size| {
            let state = folder.path().join(format!("things-{size}"));
            fleet.register(&state, size, Policies::Own, &server);
            (size, servers::sandbox(&state).0)
        });
        let roots = server.roots();
        let devices = fleet.devices[..registered + fresh * runs].iter();
        let devices = devices.map(|device| Device {
            name: device.name.clone(),
            tls: device.client(&roots),
        });
        Self {
            devices: devices.collect(),
            bare: servers::bare(folder.path()),
            sandbox: servers::sandbox(&main).0,
            mosquitto: servers::mosquitto(folder.path()),
            sizes: sizes.into(),
            time: Duration::from_secs(seconds as u64),
            folder,
            runs,
            registered,
            fresh,
        }
    }

    fn connects(&self, run: usize, all: &mut Figures) {
        let known = &self.devices[..self.registered];
        let mut rate = |name: &str, process: &Process, wish| {
            let before = process.cpu();
            let rate = client::connects(process.port, known, self.time, wish);
            let spent = process.cpu() - before;
            all.add(&format!("sandbox.{name}_per_s"), rate);
            all.add(
                &format!("sandbox.{name}_cpu_us"),
                spent * 1e6 / (rate * self.time.as_secs_f64()),
            );
            rate
        };
        let bare = rate("handshake", &self.bare, Wish::Handshake);
        let ours = rate("connect", &self.sandbox, Wish::Connect);
        let mosquitto = self.mosquitto.as_ref();
        let theirs = mosquitto.map(|process| rate("mosquitto", process, Wish::Connect));
        let from = self.registered + (run - 1) * self.fresh;
        let new = &self.devices[from..from + self.fresh];
        let (jitp, early) = client::first_connects(self.sandbox.port, new);
        all.add("sandbox.jitp_per_s", jitp);
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        all.add("sandbox.jitp_early", early as f64);
        // Ratios of one run each, so that what else the machine does weighs on both sides.
        all.add("sandbox.connect_ratio", ours / bare);
        all.add("sandbox.jitp_ratio", jitp / ours);
        if let Some(theirs) = theirs {
            all.add("sandbox.vs_mosquitto", ours / theirs);
        }
        println!(
            "run {run}: {bare:.0} handshakes/s, {ours:.0} connects/s, mosquitto {:.0}/s, {jitp:.0} first \
             connects/s ({early} too early)",
            theirs.unwrap_or(f64::NAN)
        );
    }

    fn publishes(&self, run: usize, all: &mut Figures) {
        let mut costs = Vec::new();
        for (size, process) in &self.sizes {
            let before = process.cpu();
            let rate = client::publishes(process.port, &self.devices[..PUBLISHERS], self.time);
            let cost = (process.cpu() - before) * 1e6 / (rate * self.time.as_secs_f64());
            println!("run {run}: {rate:.0} publishes/s among {size} things, {cost:.1} us each");
            all.add(&format!("sandbox.publish_{size}_per_s"), rate);
            all.add(&format!("sandbox.publish_{size}_us"), cost);
            costs.push(cost);
        }
        all.add("sandbox.publish_growth", costs[costs.len() - 1] / costs[0]);
        if let Some(process) = &self.mosquitto {
            let rate = client::publishes(process.port, &self.devices[..PUBLISHERS], self.time);
            println!("run {run}: {rate:.0} publishes/s to mosquitto");
            all.add("sandbox.publish_mosquitto_per_s", rate);
        }
    }

    /// From the start to listening, with fresh state and with the state of a run before.
    fn starts(&self, run: usize, all: &mut Figures) {
        let state = self.folder.path().join(format!("start-{run}"));
        let millis = |(_, took): (Process, Duration)| took.as_secs_f64() * 1000.0;
        let first = millis(servers::sandbox(&state));
        let again = millis(servers::sandbox(&state));
        println!("run {run}: {first:.1} ms to start with fresh state, {again:.1} ms with its own");
        all.add("sandbox.start_fresh_ms", first);
        all.add("sandbox.start_ms", again);
    }
}

/// For the servers that are told by files.
fn write_certificates(folder: &Path, fleet: &Fleet, server: &Server) {
    for (name, text) in [
        ("devices.pem", fleet.ca_pem()),
        ("server.pem", server.certificate.clone()),
        ("server.key", server.key.clone()),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// What a sandbox that has just started grows by for each connection that does nothing.
#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn idle_kib(state: &Path, devices: &[Device]) -> f64 {
    let (process, _) = servers::sandbox(state);
    std::thread::sleep(Duration::from_secs(1));
    let before = process.rss_kib();
    let streams = client::idle(process.port, devices);
    std::thread::sleep(Duration::from_secs(2));
    let grown = process.rss_kib() - before;
    grown / streams.len() as f64
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}
