//! `template plan` for a whole list: every row on every core, in order, in memory that does not grow
//! with the list; then the thing names that come twice.

use std::collections::BTreeMap;

use crate::core::batch::{ListError, Row, RowProblem, Rows, Slip, Suspects, Twins, print};
use crate::core::cert::Certificate;
use crate::core::csr::{Csr, CsrError};
use crate::core::ids::{Place, ThingName};
use crate::core::subject::Subject;
use crate::core::template::{
    Asked, CertificateSource, ExistingThing, ExistingThings, Foreseen, Gate, Plan, Reason,
    Template, Usage,
};
use crate::ports::cloud::{CloudResult, ControlPlane};

/// Rows that one thread takes at a time.
const BLOCK: usize = 4096;

/// Opens the list at its start.
pub type OpenRows<'a, E> = &'a (dyn Fn() -> Result<Rows, E> + Sync);
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
pub struct ListPlan<'a, E> {
    /// Opens the list.
    pub rows: OpenRows<'a, E>,
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

impl<E: From<ListError> + Send> ListPlan<'_, E> {
    /// Plans every row.
    ///
    /// # Errors
    /// `list.*` when the list cannot be read to its end, or is empty.
    pub fn run(&self, hear: Hear<'_>) -> Result<Summary, E> {
        let mut summary = Summary::default();
        let mut twins = Twins::default();
        let mut gates: Vec<Gate> = (0..self.threads.max(1))
            .map(|_| self.gate.clone())
            .collect();
        self.each_block(&mut |block| {
            let plans = spread(&block, &mut gates, |row, gate| self.one(row, gate));
            for plans in plans {
                for plan in &plans {
                    summary.rows += 1;
                    *(if plan.passes {
                        &mut summary.pass
                    } else {
                        &mut summary.fail
                    }) += 1;
                    if let Some(name) = thing_of(plan) {
                        twins.add(print(name));
                    }
                }
                hear(&plans);
            }
        })?;
        if summary.rows == 0 {
            return Err(ListError::Empty.into());
        }
        self.find_twins(twins, &mut summary, hear)?;
        Ok(summary)
    }

    /// Rows as they stand in the list, some thousands at a time.
    fn each_block(&self, work: &mut dyn FnMut(Vec<Result<Row, RowPlan>>)) -> Result<(), E> {
        let mut rows = (self.rows)()?;
        let size = BLOCK * self.threads.max(1);
        loop {
            let mut block = Vec::with_capacity(size);
            while block.len() < size {
                match rows.next() {
                    None => break,
                    Some(Ok(row)) => block.push(Ok(row)),
                    Some(Err(Slip::Row(problems))) => block.push(Err(unreadable(problems))),
                    Some(Err(Slip::End(error))) => return Err(error.into()),
                }
            }
            if block.is_empty() {
                return Ok(());
            }
            work(block);
        }
    }

    fn one(&self, row: &Result<Row, RowPlan>, gate: &mut Gate) -> RowPlan {
        match row {
            Ok(row) => self.row(row, gate),
            Err(unreadable) => unreadable.clone(),
        }
    }

    fn row(&self, row: &Row, gate: &mut Gate) -> RowPlan {
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
            existing: self.existing,
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
    fn find_twins(&self, first: Twins, summary: &mut Summary, hear: Hear<'_>) -> Result<(), E> {
        let others: Vec<Twins> = first.others().collect();
        self.compare(first.repeated(), summary, hear)?;
        for mut part in others {
            self.each_thing(&mut |_, name| part.add(print(name)))?;
            self.compare(part.repeated(), summary, hear)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        groups: Vec<Suspects>,
        summary: &mut Summary,
        hear: Hear<'_>,
    ) -> Result<(), E> {
        for mut group in groups {
            let mut gate = self.gate.clone();
            self.each_thing(&mut |row, name| {
                let Some(earlier) = group.look(name, || name.to_string(), row.line) else {
                    return;
                };
                summary.duplicates += 1;
                if self.row(row, &mut gate).passes {
                    summary.pass -= 1;
                    summary.fail += 1;
                }
                hear(&[duplicate(row, name, earlier)]);
            })?;
        }
        Ok(())
    }

    /// The thing of every row that makes one, without what else becomes of it.
    fn each_thing(&self, work: &mut dyn FnMut(&Row, &ThingName)) -> Result<(), E> {
        let mut states = vec![(); self.threads.max(1)];
        self.each_block(&mut |block| {
            let names = spread(&block, &mut states, |row, ()| {
                self.thing(row.as_ref().ok()?)
            });
            for (row, name) in block.iter().zip(names.iter().flatten()) {
                if let (Ok(row), Some(name)) = (row, name) {
                    work(row, name);
                }
            }
        })
    }

    fn thing(&self, row: &Row) -> Option<ThingName> {
        let device = (self.device)(row).ok()?;
        let plan = self.template.render(self.usage, &device.values).ok()?;
        plan.thing.map(|thing| thing.name)
    }
}

/// A share of the block for each thread, with a state of its own; the answers are in order.
fn spread<S: Send, T: Send>(
    block: &[Result<Row, RowPlan>],
    states: &mut [S],
    one: impl Fn(&Result<Row, RowPlan>, &mut S) -> T + Sync,
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

/// Fails a plan for the first thing that it needs and the target does not have.
///
/// # Errors
/// `cloud.*`.
pub fn check_target(plane: &dyn ControlPlane, foreseen: &mut Foreseen) -> CloudResult<()> {
    let plan = foreseen.plan.as_ref().filter(|_| foreseen.passes);
    for wanted in plan.map(Plan::prerequisites).unwrap_or_default() {
        let there = plane.has(wanted.kind, &wanted.name)?;
        if let Some(finding) = Template::lint_prerequisite(&wanted, Some(there)) {
            foreseen.fail(Reason::of_missing(finding));
            return Ok(());
        }
    }
    Ok(())
}

/// What the target has of a thing.
///
/// # Errors
/// `cloud.*`.
pub fn at_target(plane: &dyn ControlPlane, name: &ThingName) -> CloudResult<Option<ExistingThing>> {
    let Some(view) = plane.describe_thing(name)? else {
        return Ok(None);
    };
    let named = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Ok(Some(ExistingThing {
        type_name: named(view.type_name),
        attributes: view.attributes,
        groups: plane.groups_of(name)?.into_iter().collect(),
        billing_group: named(view.billing_group),
    }))
}
