//! `template list`

use std::fmt;

use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::target::{TargetReport, connect};
use crate::core::ids::TemplateName;
use crate::core::template::{TemplateKind, shipped};
use crate::explain::Failure;

/// List the templates that we ship, and those at the target
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Only those that we ship; the target is not asked
    #[arg(long)]
    shipped: bool,
}

/// The templates.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Templates {
    shipped: Vec<Shipped>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<TargetReport>,
    registered: Vec<Registered>,
}

#[derive(serde::Serialize)]
struct Shipped {
    name: &'static str,
    kind: TemplateKind,
    description: &'static str,
}

#[derive(serde::Serialize)]
struct Registered {
    name: TemplateName,
    kind: TemplateKind,
    enabled: bool,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Templates, Failure> {
        let ours = shipped().iter().map(|one| Shipped {
            name: one.name,
            kind: one.kind,
            description: one.description,
        });
        let mut list = Templates {
            shipped: ours.collect(),
            target: None,
            registered: Vec::new(),
        };
        if self.shipped {
            return Ok(list);
        }
        let connected = connect(settings)?;
        let found = connected.plane.list_templates()?;
        list.registered = found
            .into_iter()
            .map(|one| Registered {
                name: one.name,
                kind: one.kind,
                enabled: one.enabled,
            })
            .collect();
        list.target = Some(connected.target);
        Ok(list)
    }
}

impl Report for Templates {}

impl fmt::Display for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "shipped, for `nameplate template new NAME`:")?;
        for one in &self.shipped {
            let kind = one.kind.as_str();
            writeln!(f, "  {:<20} {kind:<18} {}", one.name, one.description)?;
        }
        let Some(target) = &self.target else {
            return Ok(());
        };
        write!(f, "registered in the {target}:")?;
        if self.registered.is_empty() {
            write!(f, " none")?;
        }
        for one in &self.registered {
            let off = if one.enabled { "" } else { " (disabled)" };
            let (name, kind) = (one.name.as_str(), one.kind.as_str());
            write!(f, "\n  {name:<36} {kind}{off}")?;
        }
        Ok(())
    }
}
