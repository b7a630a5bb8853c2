//! `template show`

use std::fmt;

use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::target::{TargetReport, connect};
use crate::core::ids::TemplateName;
use crate::core::template::{TemplateKind, shipped};
use crate::explain::{Failure, Kind};

/// Print one template: of the target, or as we ship it
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// The one that we ship, with its place holders; the target is not asked
    #[arg(long)]
    shipped: bool,
}

/// One template.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Shown {
    name: String,
    kind: TemplateKind,
    #[serde(flatten)]
    registered: Option<Registered>,
    body: serde_json::Value,
}

#[derive(serde::Serialize)]
struct Registered {
    target: TargetReport,
    arn: String,
    enabled: bool,
    role_arn: String,
    default_version: i32,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Shown, Failure> {
        if self.shipped {
            return self.ours();
        }
        let name: TemplateName = self.name.parse()?;
        let connected = connect(settings)?;
        let target = connected.target;
        let Some(view) = connected.plane.describe_template(&name)? else {
            let message = format!("there is no template `{name}` in the {target}");
            return Err(Failure::new(Kind::Input, "template.unknown", message)
                .hint("nameplate template list shows what is there; --shipped prints ours"));
        };
        Ok(Shown {
            name: view.name.to_string(),
            kind: view.kind,
            body: as_json(&view.body),
            registered: Some(Registered {
                target,
                arn: view.arn,
                enabled: view.enabled,
                role_arn: view.role_arn,
                default_version: view.default_version,
            }),
        })
    }

    fn ours(self) -> Result<Shown, Failure> {
        let Some(one) = shipped().iter().find(|one| one.name == self.name) else {
            return Err(super::new::unknown(&self.name));
        };
        Ok(Shown {
            name: self.name,
            kind: one.kind,
            registered: None,
            body: as_json(one.body),
        })
    }
}

fn as_json(body: &str) -> serde_json::Value {
    serde_json::from_str(body).unwrap_or_else(|_| body.into())
}

impl Report for Shown {}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.registered {
            writeln!(f, "template  {} ({})", self.name, self.kind)?;
            writeln!(f, "target    {}", at.target)?;
            writeln!(f, "arn       {}", at.arn)?;
            writeln!(f, "role      {}", at.role_arn)?;
            let off = if at.enabled { "" } else { ", disabled" };
            writeln!(f, "version   {}{off}", at.default_version)?;
        }
        write!(f, "{:#}", self.body)
    }
}
