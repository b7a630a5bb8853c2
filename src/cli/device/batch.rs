//! `device batch`

use std::collections::HashSet;
use std::fmt;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;

use super::super::args_issue::{CaArgs, Curve, LifetimeArgs};
use super::super::args_template::{Chosen, TemplateArgs};
use super::super::report::{self, Output, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown};
use crate::core::batch::{List, ListError, ListFormat, MAX_BYTES, Row, RowProblem};
use crate::core::fit;
use crate::core::ids::hex;
use crate::core::pattern;
use crate::core::time::Validity;
use crate::explain::{Failure, Kind};
use crate::flows::device_batch::{Done, Order, Request, Tally, Watch};
use crate::ports::{Clock, Entropy, FileError, Files};

/// Issue identities for a whole list of devices
///
/// Reads CSV (with a header line) or NDJSON, checks all of it, then writes one folder for each
/// device. Killed at any moment, the same command goes on: each device gets exactly one identity.
/// With --format ndjson each device is a line of its own, as it is done; the summary is the last.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The list, CSV or NDJSON; `-` is stdin
    file: PathBuf,
    /// How the list is written [default: by the file's extension; csv for stdin]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input: Option<Input>,
    /// The column that names the device [default: name, thing, thing_name or serial]
    #[arg(long, value_name = "COLUMN")]
    name_column: Option<String>,
    /// Subject; `{name}` is the device's name, `{COLUMN}` a column's value [default: CN={name}]
    #[arg(
        long,
        value_name = "DN",
        default_value = "CN={name}",
        hide_default_value = true
    )]
    subject: String,
    /// The folder that gets one folder for each device [default: devices in the project]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What to do with a device that has a live identity
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = IfExists::Skip)]
    if_exists: IfExists,
    /// The batch's name in the ledger [default: the time and a random number]
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Curve of the new keys
    #[arg(long, value_enum, default_value_t = Curve::P256)]
    curve: Curve,
    #[command(flatten)]
    lifetime: LifetimeArgs,
    #[command(flatten)]
    ca: CaArgs,
    #[command(flatten)]
    template: TemplateArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Input {
    /// With a header line
    Csv,
    /// One JSON object a line
    Ndjson,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum IfExists {
    /// Leave it as it is
    Skip,
    /// Issue nothing at all
    Fail,
    /// Refused: keys are never overwritten
    Overwrite,
}

/// What was issued.
#[derive(serde::Serialize)]
pub(super) struct Batched {
    batch: String,
    devices: usize,
    #[serde(flatten)]
    tally: Tally,
    ca: String,
    #[serde(flatten)]
    validity: Validity,
    folder: PathBuf,
    checked_against: Option<PathBuf>,
    seconds: f64,
    devices_per_second: f64,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Batched, Failure> {
        if self.if_exists == IfExists::Overwrite {
            let message = "keys are never overwritten, so --if-exists overwrite is refused";
            return Err(Failure::new(Kind::Refused, "file.exists", message)
                .hint("replace an identity with `nameplate device rotate NAME`"));
        }
        let mut factory = Factory::open(settings)?;
        let chosen = self.template.load(settings, &factory.files)?;
        if chosen.is_none() {
            report::note("note: no template is named, so the drafts are not checked against one");
        }
        let orders = self.orders(&factory, chosen.as_ref())?;
        let out = self.out_folder(settings)?;
        let ca = self.ca.load(settings, &factory)?;
        let now = factory.clock.now();
        let window = ca.issuer().window(now)?;
        let validity = self
            .lifetime
            .for_device(settings)?
            .resolve(now, Some(&window))?;
        let batch = self.batch.clone().unwrap_or_else(|| batch_name(&factory));
        let request = Request {
            orders: &orders,
            out: &out,
            validity,
            algorithm: self.curve.into(),
            issuer: ca.issuer(),
            batch: &batch,
            fail_if_exists: self.if_exists == IfExists::Fail,
        };
        let (tally, seconds) = timed(&mut factory, &request, output)?;
        Ok(Batched {
            batch: request.batch.to_owned(),
            devices: orders.len(),
            tally,
            ca: ca.name.clone(),
            validity,
            folder: shown(&out),
            checked_against: chosen.map(|chosen| shown(&chosen.path)),
            seconds,
            devices_per_second: rate(tally.issued, seconds),
        })
    }

    fn out_folder(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let out = match &self.out {
            Some(folder) => folder.clone(),
            None => settings.project()?.join("devices"),
        };
        std::path::absolute(&out).map_err(|error| {
            Failure::new(Kind::Input, "file.write", "the folder has no path").because(error)
        })
    }

    /// The whole list as orders: every subject filled in and checked before anything is issued.
    fn orders(&self, factory: &Factory, chosen: Option<&Chosen>) -> Result<Vec<Order>, Failure> {
        let bytes = self.read(&factory.files)?;
        let named = |error: ListError| {
            let failure = Failure::from(error);
            let message = format!("`{}`: {}", self.file.display(), failure.message);
            Failure { message, ..failure }
        };
        let list =
            List::parse(&bytes, self.written(), self.name_column.as_deref()).map_err(named)?;
        self.known_placeholders(&list)?;
        let mut problems = Vec::new();
        let mut orders = Vec::with_capacity(list.rows.len());
        for row in &list.rows {
            match self.order(&list, row, chosen) {
                Ok(order) => orders.push(order),
                Err(failure) => {
                    let because = failure.causes.iter().map(|cause| format!(": {cause}"));
                    let what = because.fold(failure.message, |text, more| text + &more);
                    problems.push(RowProblem::new(row.line, None, what));
                }
            }
            if problems.len() >= 20 {
                break;
            }
        }
        if problems.is_empty() {
            Ok(orders)
        } else {
            Err(named(ListError::Rows(problems)))
        }
    }

    fn known_placeholders(&self, list: &List) -> Result<(), Failure> {
        let columns: HashSet<&str> = list.columns.iter().map(String::as_str).collect();
        let unknown = pattern::placeholders(&self.subject)?
            .into_iter()
            .find(|name| *name != "name" && !columns.contains(name));
        match unknown {
            None => Ok(()),
            Some(name) => {
                let message = format!(
                    "--subject names `{{{name}}}`, but the list has no such column; there are: {}",
                    list.columns.join(", ")
                );
                Err(Failure::new(Kind::Input, "pattern.unknown", message))
            }
        }
    }

    fn order(&self, list: &List, row: &Row, chosen: Option<&Chosen>) -> Result<Order, Failure> {
        let subject = pattern::fill(&self.subject, &|key| match key {
            "name" => Some(row.name.as_str()),
            column => list.value(row, column),
        })?;
        if let Some(chosen) = chosen {
            fit::fits(&chosen.template, &subject)?;
        }
        Ok(Order {
            device: row.name.to_string(),
            subject,
        })
    }

    fn written(&self) -> ListFormat {
        let extension = self.file.extension().and_then(|e| e.to_str());
        match (self.input, extension) {
            (Some(Input::Ndjson), _) | (None, Some("ndjson" | "jsonl")) => ListFormat::Ndjson,
            _ => ListFormat::Csv,
        }
    }

    fn read(&self, files: &dyn Files) -> Result<Vec<u8>, Failure> {
        if self.file != Path::new("-") {
            return Ok(files.read(&self.file, MAX_BYTES)?.to_vec());
        }
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| FileError::Read {
            path: "-".into(),
            source,
        })?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileError::Size {
                path: "-".into(),
                max_bytes: MAX_BYTES,
            }
            .into());
        }
        Ok(bytes)
    }
}

/// Runs the flow with progress on stderr; how far it got, and in how many seconds.
fn timed(
    factory: &mut Factory,
    request: &Request<'_>,
    output: Output,
) -> Result<(Tally, f64), Failure> {
    let flow = factory.batch();
    let clock = flow.clock;
    let started = clock.monotonic();
    let watcher = Watcher {
        progress: Mutex::new(Progress::new(clock, request.orders.len())),
        output,
    };
    let outcome = flow.run(request, &watcher);
    watcher.progress().end();
    let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    Ok((outcome?, seconds))
}

fn batch_name(factory: &Factory) -> String {
    let mut random = [0; 4];
    factory.entropy.fill(&mut random);
    let at = factory.clock.now().to_string().replace([':', '-'], "");
    format!("{at}-{}", hex(&random))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people; no list has 2^52 devices"
)]
fn rate(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

/// Shows progress, and streams each device when the format is NDJSON.
struct Watcher<'a> {
    progress: Mutex<Progress<'a>>,
    output: Output,
}

impl<'a> Watcher<'a> {
    fn progress(&self) -> MutexGuard<'_, Progress<'a>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Watcher<'_> {
    fn done(&self, devices: &[Done]) {
        self.output.stream(devices);
    }

    fn progress(&self, tally: Tally) {
        Watcher::progress(self).tell(tally);
    }
}

/// A bar on a terminal, a line every few seconds elsewhere; both on stderr.
struct Progress<'a> {
    clock: &'a (dyn Clock + Sync),
    total: usize,
    started: Duration,
    last: Duration,
    terminal: bool,
}

impl<'a> Progress<'a> {
    fn new(clock: &'a (dyn Clock + Sync), total: usize) -> Self {
        let started = clock.monotonic();
        Self {
            clock,
            total,
            started,
            last: started,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, tally: Tally) {
        let now = self.clock.monotonic();
        let pause = if self.terminal {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(3)
        };
        if now.saturating_sub(self.last) < pause {
            return;
        }
        self.last = now;
        let done = tally.done();
        let per_second = rate(tally.issued, now.saturating_sub(self.started).as_secs_f64());
        let left = if tally.issued > 0 {
            let seconds = rate(self.total.saturating_sub(done), per_second);
            format!(", {seconds:.0} s left")
        } else {
            String::new()
        };
        let total = self.total;
        let text = format!("{done} of {total} devices, {per_second:.0} a second{left}");
        if self.terminal {
            let filled = done * 30 / self.total.max(1);
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(30 - filled));
            let _ = write!(std::io::stderr(), "\r[{bar}] {text}  ");
        } else {
            report::note(text);
        }
    }

    fn end(&self) {
        if self.terminal && self.last > self.started {
            report::note("");
        }
    }
}

impl Report for Batched {}

impl fmt::Display for Batched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            issued,
            finished,
            skipped,
            moved,
        } = self.tally;
        writeln!(f, "{} devices: {issued} issued", self.devices)?;
        if finished > 0 {
            writeln!(
                f,
                "  {finished} that an earlier run had begun were finished"
            )?;
        }
        if skipped > 0 {
            writeln!(
                f,
                "  {skipped} had an identity already and were left as they are"
            )?;
        }
        if moved > 0 {
            writeln!(
                f,
                "  {moved} of those have no key in the folder where it was put"
            )?;
        }
        let Validity {
            not_before,
            not_after,
        } = self.validity;
        writeln!(f, "  valid    {not_before} to {not_after}")?;
        writeln!(f, "  CA       {}", self.ca)?;
        if let Some(path) = &self.checked_against {
            writeln!(f, "  pass     {}", path.display())?;
        }
        writeln!(f, "  folder   {}", self.folder.display())?;
        writeln!(f, "  batch    {}", self.batch)?;
        write!(
            f,
            "  in {:.1} s, {:.0} a second",
            self.seconds, self.devices_per_second
        )
    }
}
