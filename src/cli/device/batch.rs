//! `device batch`

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::super::args_issue::{CaArgs, CaHandle, Curve};
use super::super::args_profile::{Patterns, ProfileArgs, WindowArgs};
use super::super::args_template::{Chosen, TemplateArgs};
use super::super::report::{self, Output, Report};
use super::super::settings::Settings;
use super::super::wire::factory::{Factory, shown, threads};
use super::handover::HandoverArgs;
use super::progress::{Watcher, rate};
use crate::core::batch::{Columns, ListError, ListFormat, Row, RowProblem, Rows};
use crate::core::draft::{self, Purpose};
use crate::core::fit;
use crate::core::ids::hex;
use crate::core::key::KeyAlgorithm;
use crate::core::lifetime::LifetimeError;
use crate::core::profile::Profile;
use crate::core::time::Validity;
use crate::explain::{Failure, Kind};
use crate::flows::device_batch::{BatchError, ListCheck, Order, Request, Tally};
use crate::ports::streams::{Source, Streams};
use crate::ports::{Clock, Entropy};

/// Issue identities for a whole list of devices
///
/// Reads CSV (with a header line) or NDJSON, checks all of it, then writes one folder for each
/// device, or all of them into one stream. Killed at any moment, the same command goes on: each
/// device gets exactly one identity. Many processes may work on one list or one ledger.
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
    #[command(flatten)]
    profile: ProfileArgs,
    /// Where identities go: a folder, or the stream's file; `-` is stdout [default: devices in the
    /// project, with the shape's extension]
    #[arg(long, short, value_name = "PATH")]
    out: Option<PathBuf>,
    #[command(flatten)]
    handover: HandoverArgs,
    /// Write down what was issued, signed by the CA [default: PATH.manifest.ndjson beside a stream]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// What to do with a device that has a live identity
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = IfExists::Skip)]
    if_exists: IfExists,
    /// The batch's name in the ledger [default: the stream's or manifest's file name; else the time
    /// and a random number]
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Curve of the new keys [default: the profile's, or p256]
    #[arg(long, value_enum)]
    curve: Option<Curve>,
    #[command(flatten)]
    window: WindowArgs,
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
    devices: u64,
    #[serde(flatten)]
    tally: Tally,
    ca: String,
    #[serde(flatten)]
    validity: Validity,
    #[serde(rename = "folder")]
    out: PathBuf,
    manifest: Option<PathBuf>,
    #[serde(skip)]
    to_stdout: bool,
    checked_against: Option<PathBuf>,
    seconds: f64,
    devices_per_second: f64,
}

/// Where it goes, and what it is called in the ledger.
struct Places {
    out: PathBuf,
    manifest: Option<PathBuf>,
    batch: String,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> Result<Batched, Failure> {
        let mut factory = Factory::open(settings)?;
        let to_stdout = self.out.as_deref() == Some(Path::new("-"));
        self.handover.check(to_stdout, output)?;
        let chosen = self.chosen(settings, &factory)?;
        let profile = self.profile.load(settings)?;
        let patterns = self.profile.patterns(&profile)?;
        let alternative_names = fixed_names(&patterns)?;
        let source = factory.streams.source(&self.file)?;
        let rows = || self.rows(&*source);
        let order = |row: &Row| order(row, &patterns, chosen.as_ref());
        let check = ListCheck {
            rows: &rows,
            order: &order,
            threads: threads(),
        };
        let total = self.checked(&check, &patterns)?;
        let places = self.places(settings, &factory)?;
        let ca = self.ca.load(settings, &factory)?;
        let validity = self.validity((settings, &profile), (&factory, &ca))?;
        let password = self.handover.password(&factory.files)?;
        let request = Request {
            rows: &rows,
            order: &order,
            total,
            out: &places.out,
            shape: self.handover.shape(),
            password: password.as_ref().map(|text| &text[..]),
            manifest: places.manifest.as_deref(),
            validity,
            algorithm: self.algorithm(&profile),
            purpose: profile.purpose.unwrap_or(Purpose::Device),
            alternative_names,
            extras: profile.extras.clone(),
            issuer: ca.issuer(),
            batch: &places.batch,
            fail_if_exists: self.if_exists == IfExists::Fail,
        };
        let done = timed(&mut factory, &request, output)?;
        let batched = Batched::new(&request, done, chosen.as_ref());
        if to_stdout {
            report::note(batched.text());
        }
        Ok(batched)
    }

    fn places(&self, settings: &Settings, factory: &Factory) -> Result<Places, Failure> {
        let out = self.out_path(settings)?;
        let manifest = self.manifest_path(&out)?;
        Ok(Places {
            batch: self.batch_name(factory, (&out, manifest.as_deref())),
            out,
            manifest,
        })
    }

    fn chosen(&self, settings: &Settings, factory: &Factory) -> Result<Option<Chosen>, Failure> {
        self.refuse_overwriting()?;
        let chosen = self.template.load(settings, &factory.files)?;
        if chosen.is_none() {
            report::note("note: no template is named, so the drafts are not checked against one");
        }
        Ok(chosen)
    }

    fn refuse_overwriting(&self) -> Result<(), Failure> {
        if self.if_exists != IfExists::Overwrite {
            return Ok(());
        }
        let message = "keys are never overwritten, so --if-exists overwrite is refused";
        Err(Failure::new(Kind::Refused, "file.exists", message)
            .hint("replace an identity with `nameplate device rotate NAME`"))
    }

    fn validity(
        &self,
        (settings, profile): (&Settings, &Profile),
        (factory, ca): (&Factory, &CaHandle),
    ) -> Result<Validity, Failure> {
        let now = factory.clock.now();
        let window = ca.issuer().window(now)?;
        let lifetime = self.window.lifetime(settings, profile)?;
        let validity = lifetime.resolve(now, Some(&window))?;
        if validity.not_after < now {
            return Err(LifetimeError::Over(validity.not_after).into());
        }
        Ok(validity)
    }

    fn algorithm(&self, profile: &Profile) -> KeyAlgorithm {
        let asked = self.curve.map(KeyAlgorithm::from);
        asked.or(profile.key).unwrap_or(KeyAlgorithm::EcP256)
    }

    fn out_path(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        let shape = self.handover.shape();
        let out = match &self.out {
            Some(path) if path == Path::new("-") => return Ok(path.clone()),
            Some(path) => path.clone(),
            None => settings
                .project()?
                .join(self.handover.default_name("devices")),
        };
        let out = absolute(&out)?;
        if shape.is_stream() && out.is_dir() {
            let message = format!("`{}` is a folder; a stream needs a file", out.display());
            return Err(Failure::new(Kind::Usage, "output.shape", message)
                .hint("name the file with --out FILE"));
        }
        Ok(out)
    }

    fn manifest_path(&self, out: &Path) -> Result<Option<PathBuf>, Failure> {
        match &self.manifest {
            Some(path) => absolute(path).map(Some),
            None if self.handover.shape().is_stream() && out != Path::new("-") => {
                let mut name = out.as_os_str().to_owned();
                name.push(".manifest.ndjson");
                Ok(Some(name.into()))
            }
            None => Ok(None),
        }
    }

    /// What resumes must be called the same again, so its name comes from the output's.
    fn batch_name(&self, factory: &Factory, (out, manifest): (&Path, Option<&Path>)) -> String {
        if let Some(name) = &self.batch {
            return name.clone();
        }
        let stream = Some(out).filter(|_| self.handover.shape().is_stream());
        let named = stream
            .filter(|out| *out != Path::new("-"))
            .or(manifest)
            .and_then(Path::file_name);
        if let Some(name) = named {
            return name.to_string_lossy().into_owned();
        }
        let mut random = [0; 4];
        factory.entropy.fill(&mut random);
        let at = factory.clock.now().to_string().replace([':', '-'], "");
        format!("{at}-{}", hex(&random))
    }

    fn rows(&self, source: &dyn Source) -> Result<Rows, BatchError> {
        let input = source.open()?;
        Ok(Rows::open(
            input,
            self.written(),
            self.name_column.as_deref(),
        )?)
    }

    /// Reads the whole list: every subject filled in and checked before anything is issued.
    fn checked(&self, check: &ListCheck<'_>, patterns: &Patterns<'_>) -> Result<u64, Failure> {
        let named = |failure: Failure| {
            let message = format!("`{}`: {}", self.file.display(), failure.message);
            Failure { message, ..failure }
        };
        let checked = match check.run() {
            Ok(checked) => checked,
            Err(error @ BatchError::List(_)) => return Err(named(error.into())),
            Err(error) => return Err(error.into()),
        };
        known_placeholders(patterns, &checked.columns)?;
        if checked.problems.is_empty() {
            Ok(checked.devices)
        } else {
            Err(named(ListError::Rows(checked.problems).into()))
        }
    }

    fn written(&self) -> ListFormat {
        let extension = self.file.extension().and_then(|e| e.to_str());
        match (self.input, extension) {
            (Some(Input::Ndjson), _) | (None, Some("ndjson" | "jsonl")) => ListFormat::Ndjson,
            _ => ListFormat::Csv,
        }
    }
}

/// Every placeholder has a value: the name, a column's, or one that --set gives.
fn known_placeholders(patterns: &Patterns<'_>, columns: &Columns) -> Result<(), Failure> {
    let columns = columns.names();
    for name in patterns.placeholders()? {
        let is_column = columns.iter().any(|column| column == name);
        if is_column && patterns.set(name).is_some() {
            let message = format!("`{name}` is a column of the list, and --set gives it too");
            return Err(
                Failure::new(Kind::Usage, "profile.set", message).hint("leave one of them out")
            );
        }
        if name != "name" && !is_column && patterns.set(name).is_none() {
            let message = format!(
                "a pattern names `{{{name}}}`, but the list has no such column; there are: {}",
                columns.join(", ")
            );
            return Err(Failure::new(Kind::Input, "pattern.unknown", message)
                .hint("add the column, or give one value for all with --set KEY=VALUE"));
        }
    }
    Ok(())
}

/// The alternative names that all devices share; none when they vary.
fn fixed_names(patterns: &Patterns<'_>) -> Result<Vec<String>, Failure> {
    if patterns.names_vary() {
        return Ok(Vec::new());
    }
    let names = patterns.names(&|key| patterns.set(key))?;
    for name in &names {
        draft::check_alternative_name(name)?;
    }
    Ok(names)
}

/// What a row asks for, checked.
fn order(row: &Row, patterns: &Patterns<'_>, chosen: Option<&Chosen>) -> Result<Order, RowProblem> {
    let slip = |failure: Failure| {
        let because = failure.causes.iter().map(|cause| format!(": {cause}"));
        let what = because.fold(failure.message, |text, more| text + &more);
        RowProblem::new(row.line, None, what)
    };
    let value_of = |key: &str| match key {
        "name" => Some(row.name.as_str()),
        column => row.value(column).or_else(|| patterns.set(column)),
    };
    let subject = patterns
        .subject(&value_of)
        .map_err(|error| slip(error.into()))?;
    if let Some(chosen) = chosen {
        fit::fits(&chosen.template, &subject).map_err(|error| slip(error.into()))?;
    }
    let mut alternative_names = Vec::new();
    if patterns.names_vary() {
        alternative_names = patterns
            .names(&value_of)
            .map_err(|error| slip(error.into()))?;
        for name in &alternative_names {
            draft::check_alternative_name(name).map_err(|error| slip(error.into()))?;
        }
    }
    Ok(Order {
        device: row.name.to_string(),
        subject,
        alternative_names,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::new(Kind::Input, "file.write", "the output has no path").because(error)
    })
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
    let watcher = Watcher::new(clock, request.total, output);
    let outcome = flow.run(request, &watcher);
    watcher.end();
    let seconds = clock.monotonic().saturating_sub(started).as_secs_f64();
    Ok((outcome?, seconds))
}

impl Batched {
    fn new(request: &Request<'_>, (tally, seconds): (Tally, f64), chosen: Option<&Chosen>) -> Self {
        Self {
            batch: request.batch.to_owned(),
            devices: request.total,
            tally,
            ca: request.issuer.name.to_owned(),
            validity: request.validity,
            out: shown(request.out),
            manifest: request.manifest.map(shown),
            to_stdout: request.out == Path::new("-"),
            checked_against: chosen.map(|chosen| shown(&chosen.path)),
            seconds,
            devices_per_second: rate(tally.issued, seconds),
        }
    }
}

impl Report for Batched {}

impl fmt::Display for Batched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Stdout holds the identities; the summary went to stderr.
        if self.to_stdout {
            return Ok(());
        }
        f.write_str(&self.text())
    }
}

impl Batched {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, f: &mut String) -> fmt::Result {
        use fmt::Write as _;
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
        if !self.to_stdout {
            writeln!(f, "  output   {}", self.out.display())?;
        }
        if let Some(path) = &self.manifest {
            writeln!(f, "  manifest {}", path.display())?;
        }
        writeln!(f, "  batch    {}", self.batch)?;
        write!(
            f,
            "  in {:.1} s, {:.0} a second",
            self.seconds, self.devices_per_second
        )
    }
}
