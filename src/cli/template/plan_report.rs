//! What `template plan` says.

use std::fmt;
use std::path::PathBuf;

use super::given::Given;
use super::plan::One;
use crate::cli::report::{Report, count};
use crate::cli::wire::target::TargetReport;
use crate::core::subject::Subject;
use crate::core::template::{
    Access, CertificateSource, Effect, Foreseen, Outcome, Plan, PolicyPlan, Reason, Step, Usage,
};
use crate::flows::template_plan::{RowPlan, Summary};

/// What becomes of it.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(in crate::cli) enum Planned {
    /// One device.
    One(Box<Single>),
    /// A whole list.
    List(Box<Listed>),
}

/// One device.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Single {
    template: String,
    kind: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<TargetReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    passes: bool,
    #[serde(flatten)]
    foreseen: Foreseen,
}

/// A whole list.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Listed {
    pub(super) template: String,
    pub(super) kind: Usage,
    /// Where each row's own thing was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<TargetReport>,
    pub(super) list: PathBuf,
    /// The first line that was planned, when it is not the list's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from_line: Option<u64>,
    #[serde(flatten)]
    pub(super) summary: Summary,
    /// The first rows that fail.
    pub(super) failures: Vec<RowPlan>,
    /// How many more there are.
    pub(super) more: u64,
    pub(super) seconds: f64,
}

/// The report on one device.
pub(super) fn single(
    (given, target): (&Given, Option<TargetReport>),
    one: &One,
    foreseen: Foreseen,
) -> Planned {
    let mut foreseen = foreseen;
    if !one.signed {
        foreseen.plan = foreseen.plan.map(Plan::unsigned);
    }
    if let Some(refused) = &one.refused {
        foreseen.passes = false;
        foreseen.reason = Some(Reason::of_certificate(refused));
    }
    Planned::One(Box::new(Single {
        template: given.shown.clone(),
        kind: given.usage,
        target,
        subject: one.device.subject.as_ref().map(Subject::to_string),
        passes: foreseen.passes,
        foreseen,
    }))
}

impl Report for Planned {
    fn exit_code(&self) -> u8 {
        let passes = match self {
            Self::One(one) => one.passes,
            Self::List(list) => list.summary.fail == 0,
        };
        u8::from(!passes)
    }

    fn lines(&self) -> Option<Vec<serde_json::Value>> {
        let Self::List(list) = self else { return None };
        // The rows were streamed.
        let mut line = serde_json::to_value(list).ok()?;
        line.as_object_mut()?.remove("failures");
        line.as_object_mut()?.remove("more");
        Some(vec![line])
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(one) => one.fmt(f),
            Self::List(list) => list.fmt(f),
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            rows,
            pass,
            fail,
            duplicates,
        } = self.summary;
        let rows = count(rows, "row");
        if let Some(line) = self.from_line {
            write!(f, "from line {line}: ")?;
        }
        write!(f, "{rows} ({}): {pass} pass, {fail} fail", self.kind)?;
        if duplicates > 0 {
            write!(f, ", {duplicates} of a thing that an earlier line makes")?;
        }
        write!(f, "; in {:.1} s", self.seconds)?;
        match &self.target {
            Some(target) => write!(f, "\n  things as {target} has them"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "template      {} ({})", self.template, self.kind)?;
        if let Some(target) = &self.target {
            writeln!(f, "target        {target}")?;
        }
        if let Some(subject) = &self.subject {
            writeln!(f, "subject       {subject}")?;
        }
        if let Some(plan) = &self.foreseen.plan {
            write_plan(f, plan)?;
        }
        for effect in &self.foreseen.effects {
            write_effect(f, effect)?;
        }
        write_steps(f, &self.foreseen.steps)?;
        write_access(f, &self.foreseen.access)?;
        match &self.foreseen.reason {
            None => f.write_str("passes"),
            Some(reason) => write_reason(f, reason),
        }
    }
}

fn write_plan(f: &mut fmt::Formatter<'_>, plan: &Plan) -> fmt::Result {
    if let Some(thing) = &plan.thing {
        writeln!(f, "thing         {}", thing.name)?;
        if let Some(name) = &thing.type_name {
            writeln!(f, "  type        {name}")?;
        }
        for (name, value) in &thing.attributes {
            writeln!(f, "  attribute   {name} = {value}")?;
        }
        for name in &thing.groups {
            writeln!(f, "  group       {name}")?;
        }
        if let Some(name) = &thing.billing_group {
            writeln!(f, "  billing     {name}")?;
        }
    }
    match &plan.certificate.source {
        CertificateSource::None => {}
        CertificateSource::Id(id) => writeln!(f, "certificate   {id}")?,
        CertificateSource::Request(_) => writeln!(f, "certificate   made for the request")?,
        CertificateSource::Pem { .. } => writeln!(f, "certificate   registered from its PEM")?,
    }
    writeln!(f, "  status      {}", plan.certificate.status)?;
    for policy in &plan.policies {
        match policy {
            PolicyPlan::Named(name) => writeln!(f, "policy        {name} (must be there)")?,
            PolicyPlan::Document { name, .. } => {
                writeln!(
                    f,
                    "policy        {name} (made from the template's document)"
                )?;
            }
        }
    }
    for (name, value) in &plan.device_configuration {
        writeln!(f, "configuration {name} = {value}")?;
    }
    Ok(())
}

fn write_effect(f: &mut fmt::Formatter<'_>, effect: &Effect) -> fmt::Result {
    let outcome = match effect.outcome {
        Outcome::Same => return Ok(()),
        Outcome::Kept => "differs, and stays as it is",
        Outcome::Merged => "is merged",
        Outcome::Replaced => "is replaced",
    };
    writeln!(f, "existing      {} {outcome}", effect.property)
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    let mut label = "steps";
    for (n, step) in steps.iter().enumerate() {
        writeln!(f, "{label:<13} {} {step}", n + 1)?;
        label = "";
    }
    Ok(())
}

fn write_access(f: &mut fmt::Formatter<'_>, access: &Access) -> fmt::Result {
    match access {
        Access::Allowed => writeln!(
            f,
            "connect       allowed, with the thing's name as client id"
        ),
        Access::Unknown { policies } => {
            let names: Vec<String> = policies.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            writeln!(
                f,
                "connect       not known: give the document of {names} with --policy"
            )
        }
        Access::Denied { .. } | Access::Nothing => Ok(()),
    }
}

fn write_reason(f: &mut fmt::Formatter<'_>, reason: &Reason) -> fmt::Result {
    write!(f, "fails[{}]: {}", reason.rule, reason.message)?;
    if let (Some(resource), Some(property)) = (&reason.resource, &reason.property) {
        write!(f, "\n  resource    {resource}, property {property}")?;
    }
    for (name, value) in &reason.parameters {
        match value {
            Some(value) => write!(f, "\n  parameter   {name} = {value}")?,
            None => write!(f, "\n  parameter   {name} has no value")?,
        }
    }
    match &reason.remedy {
        Some(remedy) => write!(f, "\n  do          {remedy}"),
        None => Ok(()),
    }
}
