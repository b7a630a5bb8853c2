//! `template plan --csv`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::given::Given;
use super::plan_report::{Listed, Planned};
use crate::cli::args_profile::{Patterns, ProfileArgs};
use crate::cli::report::Output;
use crate::cli::settings::Settings;
use crate::cli::wire::factory::{Factory, threads};
use crate::cli::wire::target::Connected;
use crate::cli::wire_device::Machine;
use crate::core::batch::{ListError, ListFormat, Row, RowProblem, Rows, Slip};
use crate::core::ids::{CertificateId, Place};
use crate::core::template::{ExistingThings, Gate, Template, Usage, jitp_parameters};
use crate::explain::{Failure, Kind};
use crate::flows::device_batch::BatchError;
use crate::flows::template_plan::{Device, ListPlan, Looks, PlanError, RowPlan, Summary, why};
use crate::ports::Clock;
use crate::ports::streams::{Source, Streams};

/// Rows that fail and are kept for `--format json`.
const KEPT: usize = 1000;

/// A list of devices.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct ListArgs {
    /// A list as `device batch` reads it, CSV or NDJSON; `-` is stdin. Its columns fill in --subject
    /// or --cert-profile; for fleet provisioning they are parameters
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// How the list is written [default: by the file's extension; csv for stdin]
    #[arg(long, value_enum, value_name = "FORMAT")]
    input: Option<Input>,
    /// The column that names the device [default: name, thing, thing_name or serial; else a column
    /// that is a parameter]
    #[arg(long, value_name = "COLUMN")]
    name_column: Option<String>,
    /// Leave out the rows before this line of the list: go on where a plan with --at-target stopped
    #[arg(
        long,
        value_name = "LINE",
        requires = "csv",
        default_value_t = 1,
        hide_default_value = true
    )]
    from_line: u64,
    /// With --at-target, the most calls that are started in a second, whatever they are; AWS IoT
    /// takes 100 of the slowest kind from a whole account
    #[arg(long, value_name = "N", requires = "csv", default_value_t = CALLS_PER_SECOND)]
    calls_per_second: NonZeroU32,
}

/// Leaves room in an account's quota of 100 `ListThingGroupsForThing` a second.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(80).unwrap();

#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Input {
    /// With a header line
    Csv,
    /// One JSON object a line
    Ndjson,
}

/// What the rows are planned with.
pub(super) struct Work<'a> {
    pub(super) given: &'a Given,
    pub(super) gate: &'a Gate,
    pub(super) existing: &'a ExistingThings,
    pub(super) place: &'a Place,
    /// Values that all rows share.
    pub(super) shared: &'a BTreeMap<String, String>,
}

impl ListArgs {
    pub(super) fn is_given(&self) -> bool {
        self.csv.is_some()
    }

    pub(super) fn run(
        &self,
        (work, target): (&Work<'_>, Option<&Connected>),
        (settings, profile_args): (&Settings, &ProfileArgs),
        output: Output,
    ) -> Result<Planned, Failure> {
        let profile = profile_args.load(settings)?;
        let patterns = profile_args.patterns(&profile)?;
        let path = self.csv.clone().unwrap_or_default();
        let source = Factory::lists().source(&path)?;
        let column = self.name_column(&*source, &work.given.template)?;
        let rows = || self.open(&*source, column.as_deref());
        known_columns(&rows()?, &patterns, work)?;
        let device = |row: &Row| device(row, &patterns, work);
        let plan = ListPlan {
            rows: &rows,
            device: &device,
            template: &work.given.template,
            usage: work.given.usage,
            existing: work.existing,
            place: work.place,
            gate: work.gate,
            threads: threads(),
            from_line: self.from_line,
        };
        let clock = Machine::default().clock;
        let begun = clock.monotonic();
        let looks = target.map(|at| Looks::new(&*at.plane, &clock, self.calls_per_second));
        let (outcome, failures) = heard(&plan, looks, output);
        let summary = outcome.map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("`{}`: {}", path.display(), failure.message);
            Failure { message, ..failure }
        })?;
        let seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
        Ok(Planned::List(Box::new(Listed {
            template: work.given.shown.clone(),
            kind: work.given.usage,
            target: target.map(|connected| connected.target.clone()),
            from_line: (self.from_line > 1).then_some(self.from_line),
            list: path,
            summary,
            more: summary.fail.saturating_sub(failures.len() as u64),
            failures,
            seconds,
        })))
    }

    fn open(&self, source: &dyn Source, column: Option<&str>) -> Result<Rows, BatchError> {
        Ok(Rows::open(source.open()?, self.written(), column)?)
    }

    /// The column that names the device; when none of the usual ones is there, one that is a
    /// parameter of the template.
    fn name_column(
        &self,
        source: &dyn Source,
        template: &Template,
    ) -> Result<Option<String>, Failure> {
        if self.name_column.is_some() {
            return Ok(self.name_column.clone());
        }
        let columns = match self.open(source, None) {
            Err(BatchError::List(ListError::NameColumn(columns))) => columns,
            Err(error) => return Err(error.into()),
            Ok(mut rows) => match rows.next() {
                Some(Err(Slip::End(ListError::NameColumn(columns)))) => columns,
                _ => return Ok(None),
            },
        };
        let is_parameter = |column: &&String| template.parameters().contains_key(*column);
        let likely = |column: &&String| column.ends_with("Name") || column.contains("Serial");
        let mut parameters = columns.iter().filter(is_parameter);
        let chosen = parameters
            .clone()
            .find(likely)
            .or_else(|| parameters.next());
        match chosen {
            Some(column) => Ok(Some(column.clone())),
            None => Err(BatchError::List(ListError::NameColumn(columns)).into()),
        }
    }

    fn written(&self) -> ListFormat {
        let path = self.csv.as_deref();
        let extension = path.and_then(|path| path.extension()?.to_str());
        match (self.input, extension) {
            (Some(Input::Ndjson), _) | (None, Some("ndjson" | "jsonl")) => ListFormat::Ndjson,
            _ => ListFormat::Csv,
        }
    }
}

/// Plans the list, and prints rows as they come; keeps the first that fail.
fn heard(
    plan: &ListPlan<'_>,
    mut looks: Option<Looks<'_>>,
    output: Output,
) -> (Result<Summary, PlanError>, Vec<RowPlan>) {
    let mut failures = Vec::new();
    let mut hear = |plans: &[RowPlan]| {
        output.stream(plans);
        let failing = || plans.iter().filter(|plan| !plan.passes);
        output.say(&failing().fold(String::new(), |mut text, plan| {
            let _ = writeln!(text, "line {}{}: {}", plan.line, named(plan), why(plan));
            text
        }));
        let room = KEPT - failures.len();
        failures.extend(failing().take(room).cloned());
    };
    let outcome = plan.run(looks.as_mut(), &mut hear);
    (outcome, failures)
}

fn named(plan: &RowPlan) -> String {
    let name = plan.name.as_ref();
    name.map_or_else(String::new, |name| format!(", {name}"))
}

/// Every placeholder of the subject has a column, as far as the columns are known.
fn known_columns(rows: &Rows, patterns: &Patterns<'_>, work: &Work<'_>) -> Result<(), Failure> {
    let columns = rows.columns().names();
    if columns.is_empty() || work.given.usage != Usage::Jitp {
        return Ok(());
    }
    for name in patterns.placeholders()? {
        let known = name == "name" || patterns.set(name).is_some();
        if !known && !columns.iter().any(|column| column == name) {
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

/// A row's subject in JITP, its parameters elsewhere.
fn device(row: &Row, patterns: &Patterns<'_>, work: &Work<'_>) -> Result<Device, RowProblem> {
    let id = CertificateId::of_der(b"");
    if work.given.usage == Usage::Jitp {
        let value_of = |key: &str| match key {
            "name" => Some(row.name.as_str()),
            column => row.value(column).or_else(|| patterns.set(column)),
        };
        let subject = patterns
            .subject(&value_of)
            .map_err(|error| RowProblem::new(row.line, None, error.to_string()))?;
        return Ok(Device {
            values: jitp_parameters(&subject, &id),
            subject: Some(subject),
        });
    }
    let mut values = work.shared.clone();
    values.insert(Template::certificate_parameter("Id"), id.to_string());
    for column in row.columns().names() {
        // An empty cell is no value, so that a default counts.
        if let Some(value) = row.value(column).filter(|value| !value.is_empty()) {
            values.insert(column.clone(), value.to_owned());
        }
    }
    Ok(Device {
        values,
        subject: None,
    })
}
