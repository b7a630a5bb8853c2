//! `sandbox status`

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::reset::state_folder;
use super::start::write_places;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::core::ids::{Place, ThingName};
use crate::explain::Failure;
use crate::sandbox::admin::{Admin, Now};
use crate::sandbox::folder::{find_running, last_failures};
use crate::sandbox::logs::Record;
use crate::sandbox::registry::{Registry, RegistryError};
use crate::sandbox::server::{RunningInfo, ServerError, read_registry};

/// How many refusals are shown.
const REFUSALS: usize = 5;
/// How many things the text names; the JSON names all.
const THINGS: usize = 20;

/// Show whether the sandbox runs, what is registered in it, and whom it refused last
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How many refusals to show
    #[arg(long, value_name = "N", default_value_t = REFUSALS)]
    last: usize,
}

/// What a sandbox is doing, and what it knows.
#[derive(serde::Serialize)]
pub(super) struct Status {
    running: Option<RunningInfo>,
    state: PathBuf,
    #[serde(flatten)]
    place: Place,
    /// Kind → status → how many; kinds without a status have `total` only.
    registered: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// The names of all things, in order.
    things: Vec<ThingName>,
    last_refusals: Vec<Record>,
    /// Clock, faults, counters and connections of the one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Now>,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Status, Failure> {
        let state = state_folder(self.state, settings)?;
        let running = find_running(&state);
        let place = match &running {
            Some(info) => Place {
                account: info.account.clone(),
                region: info.region.clone(),
            },
            None => settings.sandbox_place()?,
        };
        let now = running.as_ref().and_then(|_| {
            let (admin, _) = Admin::of_folder(&state).ok()?;
            admin.now().ok()
        });
        let (place, registry) = read(&state, place)?;
        Ok(Status {
            running,
            place,
            registered: registry.as_ref().map(count).unwrap_or_default(),
            things: registry.as_ref().map(thing_names).unwrap_or_default(),
            last_refusals: last_failures(&state, self.last),
            now,
            state,
        })
    }
}

/// The registry of whatever place the state belongs to.
fn read(state: &Path, place: Place) -> Result<(Place, Option<Registry>), ServerError> {
    match read_registry(state, place.clone()) {
        Err(ServerError::Registry(RegistryError::Place { account, region })) => {
            let place = Place { account, region };
            Ok((place.clone(), read_registry(state, place)?))
        }
        other => Ok((place, other?)),
    }
}

fn count(registry: &Registry) -> BTreeMap<&'static str, BTreeMap<String, usize>> {
    let mut all: BTreeMap<&'static str, BTreeMap<String, usize>> = BTreeMap::new();
    let mut add = |kind, status: &str| {
        let kind = all.entry(kind).or_default();
        *kind.entry(status.to_owned()).or_default() += 1;
    };
    for ca in registry.cas() {
        add("cas", if ca.active { "ACTIVE" } else { "INACTIVE" });
    }
    for certificate in registry.certificates() {
        add("certificates", certificate.status.as_str());
    }
    registry.policies().for_each(|_| add("policies", TOTAL));
    registry.templates().for_each(|_| add("templates", TOTAL));
    registry.things().for_each(|_| add("things", TOTAL));
    all
}

fn thing_names(registry: &Registry) -> Vec<ThingName> {
    registry.things().map(|thing| thing.name.clone()).collect()
}

/// The status of kinds that have none.
const TOTAL: &str = "total";

impl Report for Status {}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.running {
            Some(info) => {
                writeln!(
                    f,
                    "the sandbox runs since {} (process {})",
                    info.started, info.pid
                )?;
                write_places(f, info)?;
            }
            None => writeln!(f, "the sandbox does not run")?,
        }
        writeln!(f, "  state          {}", self.state.display())?;
        self.write_now(f)?;
        self.write_registered(f)?;
        self.write_things(f)?;
        if !self.last_refusals.is_empty() {
            f.write_str("\nlast refusals")?;
        }
        let mut refusals = self.last_refusals.iter();
        refusals.try_for_each(|record| write_refusal(f, record))
    }
}

impl Status {
    /// What only the one that runs knows.
    fn write_now(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(now) = &self.now else { return Ok(()) };
        write!(f, "  clock          {}", now.time)?;
        match now.clock_rate {
            0 => writeln!(f, ", standing still")?,
            1 => writeln!(f)?,
            rate => writeln!(f, ", {rate} times as fast")?,
        }
        writeln!(f, "  connections    {}", now.connections.len())?;
        for fault in &now.faults {
            writeln!(f, "  fault          {fault}")?;
        }
        if !now.metrics.is_empty() {
            writeln!(f, "counted since its start")?;
        }
        let mut metrics = now.metrics.iter();
        metrics.try_for_each(|(name, count)| writeln!(f, "  {name:<28} {count}"))
    }

    fn write_registered(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { account, region } = &self.place;
        write!(f, "registered in account {account}, {region}")?;
        if self.registered.is_empty() {
            f.write_str("\n  nothing")?;
        }
        for (kind, by_status) in &self.registered {
            let counts = by_status.iter().map(|(status, count)| match &status[..] {
                TOTAL => count.to_string(),
                status => format!("{count} {status}"),
            });
            let counts = counts.collect::<Vec<_>>().join(", ");
            write!(f, "\n  {kind:<13}  {counts}")?;
        }
        Ok(())
    }

    fn write_things(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.things.is_empty() {
            f.write_str("\nthings")?;
        }
        for name in self.things.iter().take(THINGS) {
            write!(f, "\n  {name}")?;
        }
        match self.things.len().saturating_sub(THINGS) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

fn write_refusal(f: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let who = record
        .client_id
        .as_deref()
        .or(record.device_certificate_id.as_deref());
    let who = who.unwrap_or("unknown client");
    let (event, reason) = (&record.event_type, record.reason.as_deref().unwrap_or(""));
    write!(f, "\n  {} {event} {who}: {reason}", record.timestamp)?;
    if let Some(details) = &record.details {
        write!(f, "\n    {details}")?;
    }
    match record.why.as_deref() {
        Some(why) if !why.remedy.is_empty() => write!(f, "\n    to mend it: {}", why.remedy),
        _ => Ok(()),
    }
}
