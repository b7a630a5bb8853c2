//! `template plan` for a whole list: every row on every core, in order, in memory that does not grow
//! with the list; then the thing names that come twice.

/// What the target has.
mod target;

use std::collections::BTreeMap;

use crate::core::batch::{ListError, Row, RowProblem, Rows, Slip, Suspects, Twins, print};
use crate::core::cert::Certificate;
use crate::core::csr::{Csr, CsrError};
use crate::core::ids::{Place, ThingName};
use crate::core::subject::Subject;
use crate::core::template::{
    Asked, CertificateSource, ExistingThings, Foreseen, Gate, Reason, Template, ThingPlan, Usage,
};
use crate::explain::{Explain, Kind};
use crate::flows::device_batch::BatchError;
use crate::ports::cloud::CloudError;
pub use target::{Looks, at_target, check_target};

/// Rows that one thread takes at a time.
const BLOCK: usize = 4096;
/// The same where each row is looked for at a target: a run that stops has told almost all it found.
const BLOCK_AT_TARGET: usize = 64;

/// Opens the list at its start.
pub type OpenRows<'a> = &'a (dyn Fn() -> Result<Rows, BatchError> + Sync);
/// What a row gives: the parameters' values, and the subject where there is one.
pub type DeviceOf<'a> = &'a (dyn Fn(&Row) -> Result<Device, RowProblem> + Sync);

/// One device's values.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The parameters' values.
    pub values: BTreeMap<String, String>,
    /// Its certificate's subject, if it is known.
    pub subject: Option<Subject>,
}

/// What is asked.
pub struct ListPlan<'a> {
    /// Opens the list.
    pub rows: OpenRows<'a>,
    /// What a row gives.
    pub device: DeviceOf<'a>,
    /// The template.
    pub template: &'a Template,
    /// Who runs it.
    pub usage: Usage,
    /// What is there.
    pub existing: &'a ExistingThings,
    /// Account and Region.
    pub place: &'a Place,
    /// The documents of policies called by name.
    pub gate: &'a Gate,
    /// How many threads work.
    pub threads: usize,
    /// The first line that is planned; those before it only count as things that are made earlier.
    pub from_line: u64,
}

/// What becomes of a row.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RowPlan {
    /// Its line in the list, from 1.
    pub line: u64,
    /// The device's name in the list, as far as it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is provisioned and may then connect.
    pub passes: bool,
    /// What becomes of it; `None` when the row could not be read.
    #[serde(flatten)]
    pub foreseen: Option<Foreseen>,
    /// Its thing is already made by this line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<u64>,
    /// What is wrong with the row itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<RowProblem>,
}

/// How many rows there are of each kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Summary {
    /// All.
    pub rows: u64,
    /// Those that pass.
    pub pass: u64,
    /// Those that do not.
    pub fail: u64,
    /// Of those, the ones whose thing an earlier line makes.
    pub duplicates: u64,
}

/// Hears of every row, in order; of those that come twice, at the end.
pub type Hear<'a> = &'a mut dyn FnMut(&[RowPlan]);

impl ListPlan<'_> {
    /// Plans every row; with a target, also with what that has of the row's own thing.
    ///
    /// # Errors
    /// `list.*` when the list cannot be read to its end, or is empty; `cloud.*` with the line to go
    /// on from.
    pub fn run(
        &self,
        mut target: Option<&mut Looks<'_>>,
        hear: Hear<'_>,
    ) -> Result<Summary, PlanError> {
        let mut summary = Summary::default();
        let mut twins = Twins::default();
        let mut gates: Vec<Gate> = (0..self.threads.max(1))
            .map(|_| self.gate.clone())
            .collect();
        let mut any = false;
        let share = match target {
            Some(_) => BLOCK_AT_TARGET,
            None => BLOCK,
        };
        self.each_block(share, &mut |block| {
            any |= !block.is_empty();
            let (before, block) = self.split(&block);
            for name in self.things_of(before).into_iter().flatten() {
                twins.add(print(&name));
            }
            let plans = self.block(block, target.as_deref_mut(), &mut gates)?;
            for plan in &plans {
                summary.count(plan);
                if let Some(name) = thing_of(plan) {
                    twins.add(print(name));
                }
            }
            hear(&plans);
            Ok(())
        })?;
        if !any {
            return Err(BatchError::from(ListError::Empty).into());
        }
        self.find_twins(
            twins,
            &mut Late {
                target,
                summary: &mut summary,
                hear,
            },
        )?;
        Ok(summary)
    }

    /// The rows that come before the first line that is planned, and the others.
    fn split<'b>(&self, block: &'b [Input]) -> (&'b [Input], &'b [Input]) {
        let before = |row: &Input| line_of(row) < self.from_line;
        block.split_at(block.partition_point(before))
    }

    /// Plans some rows.
    fn block(
        &self,
        block: &[Input],
        target: Option<&mut Looks<'_>>,
        gates: &mut [Gate],
    ) -> Result<Vec<RowPlan>, PlanError> {
        let Some(target) = target else {
            let plans = spread(block, gates, |row, gate| self.one(row, self.existing, gate));
            return Ok(plans.into_iter().flatten().collect());
        };
        let stopped = |line| {
            move |source: CloudError| PlanError::Target {
                line,
                source: Box::new(source),
            }
        };
        let first = block.first().map_or(self.from_line, line_of);
        let mut wanted = BTreeMap::new();
        for (name, groups) in self.rendered(block, |thing| !thing.groups.is_empty()) {
            *wanted.entry(name).or_default() |= groups;
        }
        let there = target
            .things(&wanted, self.existing)
            .map_err(stopped(first))?;
        let plans = spread(block, gates, |row, gate| self.one(row, &there, gate));
        let mut plans: Vec<RowPlan> = plans.into_iter().flatten().collect();
        for plan in &mut plans {
            if let Some(foreseen) = &mut plan.foreseen {
                // The rows of this block are told all together, or not at all.
                target.check(foreseen).map_err(stopped(first))?;
                plan.passes = foreseen.passes;
            }
        }
        Ok(plans)
    }

    /// Rows as they stand in the list, `share` for each thread at a time.
    fn each_block(
        &self,
        share: usize,
        work: &mut dyn FnMut(Vec<Input>) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        let mut rows = (self.rows)()?;
        let size = share * self.threads.max(1);
        loop {
            let mut block = Vec::with_capacity(size);
            while block.len() < size {
                match rows.next() {
                    None => break,
                    Some(Ok(row)) => block.push(Ok(row)),
                    Some(Err(Slip::Row(problems))) => block.push(Err(unreadable(problems))),
                    Some(Err(Slip::End(error))) => return Err(BatchError::from(error).into()),
                }
            }
            if block.is_empty() {
                return Ok(());
            }
            work(block)?;
        }
    }

    fn one(&self, row: &Input, existing: &ExistingThings, gate: &mut Gate) -> RowPlan {
        match row {
            Ok(row) => self.row(row, existing, gate),
            Err(unreadable) => unreadable.clone(),
        }
    }

    fn row(&self, row: &Row, existing: &ExistingThings, gate: &mut Gate) -> RowPlan {
        let name = Some(row.name.to_string());
        let device = match (self.device)(row) {
            Ok(device) => device,
            Err(problem) => {
                return RowPlan {
                    name,
                    ..unreadable(vec![problem])
                };
            }
        };
        let asked = Asked {
            usage: self.usage,
            values: &device.values,
            subject: device.subject.as_ref(),
            existing,
            place: self.place,
        };
        let mut foreseen = self.template.foresee(&asked, gate);
        check_source(&mut foreseen);
        let foreseen = foreseen.lean();
        RowPlan {
            line: row.line,
            name,
            passes: foreseen.passes,
            foreseen: Some(foreseen),
            duplicate_of: None,
            problems: Vec::new(),
        }
    }

    /// Names that may come twice are compared in readings of their own.
    fn find_twins(&self, first: Twins, late: &mut Late<'_, '_>) -> Result<(), PlanError> {
        let others: Vec<Twins> = first.others().collect();
        self.compare(first.repeated(), late)?;
        for mut part in others {
            self.each_thing(&mut |_, name| {
                part.add(print(name));
                Ok(())
            })?;
            self.compare(part.repeated(), late)?;
        }
        Ok(())
    }

    fn compare(&self, groups: Vec<Suspects>, late: &mut Late<'_, '_>) -> Result<(), PlanError> {
        for mut group in groups {
            let mut gates = [self.gate.clone()];
            self.each_thing(&mut |row, name| {
                let Some(earlier) = group.look(name, || name.to_string(), row.line) else {
                    return Ok(());
                };
                if row.line < self.from_line {
                    return Ok(());
                }
                let target = late.target.as_deref_mut();
                let again = self.block(&[Ok(row.clone())], target, &mut gates)?;
                late.summary.duplicates += 1;
                if again.iter().all(|plan| plan.passes) {
                    late.summary.pass -= 1;
                    late.summary.fail += 1;
                }
                (late.hear)(&[duplicate(row, name, earlier)]);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The thing of every row that makes one, without what else becomes of it.
    fn each_thing(
        &self,
        work: &mut dyn FnMut(&Row, &ThingName) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        self.each_block(BLOCK, &mut |block| {
            for (row, name) in block.iter().zip(self.things_of(&block)) {
                if let (Ok(row), Some(name)) = (row, name) {
                    work(row, &name)?;
                }
            }
            Ok(())
        })
    }

    /// The name of each row's thing, in order.
    fn things_of(&self, block: &[Input]) -> Vec<Option<ThingName>> {
        let mut states = vec![(); self.threads.max(1)];
        let names = spread(block, &mut states, |row, ()| {
            self.thing(row).map(|thing| thing.name)
        });
        names.into_iter().flatten().collect()
    }

    /// Each row's thing, with something about it.
    fn rendered<T: Send>(
        &self,
        block: &[Input],
        about: impl Fn(&ThingPlan) -> T + Sync,
    ) -> Vec<(ThingName, T)> {
        let mut states = vec![(); self.threads.max(1)];
        let things = spread(block, &mut states, |row, ()| {
            let thing = self.thing(row)?;
            let about = about(&thing);
            Some((thing.name, about))
        });
        things.into_iter().flatten().flatten().collect()
    }

    fn thing(&self, row: &Input) -> Option<ThingPlan> {
        let device = (self.device)(row.as_ref().ok()?).ok()?;
        self.template.render(self.usage, &device.values).ok()?.thing
    }
}

/// A row, or what is told of one that could not be read.
type Input = Result<Row, RowPlan>;

fn line_of(row: &Input) -> u64 {
    match row {
        Ok(row) => row.line,
        Err(unreadable) => unreadable.line,
    }
}

/// What the last readings, those for things that come twice, still change.
struct Late<'a, 'b> {
    target: Option<&'a mut Looks<'b>>,
    summary: &'a mut Summary,
    hear: Hear<'a>,
}

impl Summary {
    fn count(&mut self, plan: &RowPlan) {
        self.rows += 1;
        *(if plan.passes {
            &mut self.pass
        } else {
            &mut self.fail
        }) += 1;
    }
}

/// Why a list was not planned to its end.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The list cannot be used.
    #[error(transparent)]
    List(#[from] BatchError),
    /// The target failed.
    #[error("stopped before line {line}; the rows before it are told")]
    Target {
        /// The first line that was not told.
        line: u64,
        /// Why.
        #[source]
        source: Box<CloudError>,
    },
}

impl Explain for PlanError {
    fn kind(&self) -> Kind {
        match self {
            Self::List(error) => error.kind(),
            Self::Target { source, .. } => source.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::List(error) => error.code(),
            Self::Target { source, .. } => source.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::List(error) => error.hint(),
            Self::Target { line, .. } => Some(format!("go on with --from-line {line}")),
        }
    }
}

/// A share of the block for each thread, with a state of its own; the answers are in order.
fn spread<S: Send, T: Send>(
    block: &[Input],
    states: &mut [S],
    one: impl Fn(&Input, &mut S) -> T + Sync,
) -> Vec<Vec<T>> {
    let share = block.len().div_ceil(states.len()).max(1);
    let one = &one;
    std::thread::scope(|scope| {
        let shares = block.chunks(share).zip(states);
        let workers: Vec<_> = shares
            .map(|(rows, state)| {
                scope.spawn(move || rows.iter().map(|row| one(row, state)).collect())
            })
            .collect();
        let joined = workers.into_iter().map(|worker| match worker.join() {
            Ok(answers) => answers,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

/// The thing that a row makes.
fn thing_of(plan: &RowPlan) -> Option<&ThingName> {
    let plan = plan.foreseen.as_ref()?.plan.as_ref()?;
    plan.thing.as_ref().map(|thing| &thing.name)
}

fn unreadable(problems: Vec<RowProblem>) -> RowPlan {
    RowPlan {
        line: problems.first().map_or(0, |problem| problem.line),
        name: None,
        passes: false,
        foreseen: None,
        duplicate_of: None,
        problems,
    }
}

fn duplicate(row: &Row, thing: &ThingName, earlier: u64) -> RowPlan {
    let what = format!("line {earlier} makes thing `{thing}`, too");
    RowPlan {
        name: Some(row.name.to_string()),
        duplicate_of: Some(earlier),
        ..unreadable(vec![RowProblem::new(row.line, None, what)])
    }
}

/// Why a row does not pass, in one line.
pub fn why(plan: &RowPlan) -> String {
    let reason = plan.foreseen.as_ref().and_then(|one| one.reason.as_ref());
    if let Some(reason) = reason {
        return told(reason);
    }
    let problems: Vec<&str> = plan.problems.iter().map(|one| &one.what[..]).collect();
    problems.join("; ")
}

/// The message with the parameters that it comes from.
fn told(reason: &Reason) -> String {
    let from: Vec<String> = reason
        .parameters
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name} is `{value}`"),
            None => format!("{name} has no value"),
        })
        .collect();
    let from = match (from.is_empty(), reason.property.is_some()) {
        (false, true) => format!(" ({})", from.join(", ")),
        _ => String::new(),
    };
    format!("{}: {}{from}", reason.rule, reason.message)
}

/// Fails a plan whose certificate is a request or a PEM that cannot be read. A request for a key
/// that AWS IoT takes and we do not is left to it.
pub fn check_source(foreseen: &mut Foreseen) {
    let plan = foreseen.plan.as_ref().filter(|_| foreseen.passes);
    let problem = match plan.map(|plan| &plan.certificate.source) {
        Some(CertificateSource::Request(text)) => match Csr::from_pem_or_der(text.as_bytes()) {
            Err(error) if !matches!(error, CsrError::Key(_)) => Some(error.to_string()),
            _ => None,
        },
        Some(CertificateSource::Pem { certificate, .. }) => {
            match Certificate::all_from_pem(certificate.as_bytes()) {
                Err(error) => Some(error.to_string()),
                Ok(all) => all.first().and_then(Certificate::unsupported_algorithm),
            }
        }
        _ => None,
    };
    if let Some(problem) = problem {
        foreseen.fail(Reason::of_source(&problem));
    }
}

#[cfg(test)]
mod tests;
