//! `template diff`

use std::fmt;
use std::path::PathBuf;

use super::KindArg;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::target::{Connected, TargetReport, connect};
use crate::core::ids::TemplateName;
use crate::core::template::Template;
use crate::explain::{Failure, Kind};
use crate::flows::template_diff::{Difference, Wanted, diff};
use crate::flows::template_register::kind_of;

/// Say what differs between a template and the one at the target
///
/// Exit code 0 when they are the same, 1 when they differ. White space and the order of keys do not
/// count. Settings that no flag names are shown and not compared, but for the kind, and that it is
/// switched on.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The template, JSON; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its name at the target [default: the file's, without .json]
    #[arg(long, value_name = "NAME")]
    name: Option<TemplateName>,
    /// Compare with this version [default: the default version]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    version: Option<i32>,
    /// What it is for [default: by the parameters that it declares]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// It should be switched off
    #[arg(long)]
    disabled: bool,
    /// The role that it should have
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// The pre-provisioning hook that it should have; empty is none
    #[arg(long, value_name = "ARN")]
    hook: Option<String>,
    /// The description that it should have
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// What differs.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Compared {
    target: TargetReport,
    template: TemplateName,
    version: i32,
    default_version: i32,
    same: bool,
    enabled: bool,
    role_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    differences: Vec<Difference>,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Compared, Failure> {
        let body = super::read_text(&self.file)?;
        let name = self.template_name()?;
        let kind = match self.kind {
            Some(kind) => kind.into(),
            None => kind_of(&Template::parse(&body)?),
        };
        let Connected { plane, target, .. } = &connect(settings)?;
        let wanted = Wanted {
            name: name.clone(),
            version: self.version,
            body,
            kind,
            enabled: Some(!self.disabled),
            role_arn: self.role_arn,
            hook: self.hook,
            description: self.description,
        };
        let found = diff(plane.as_ref(), &wanted)?;
        Ok(Compared {
            target: target.clone(),
            template: name,
            version: found.version,
            default_version: found.view.default_version,
            same: found.differences.is_empty(),
            enabled: found.view.enabled,
            role_arn: found.view.role_arn,
            hook: found.view.hook,
            description: found.view.description,
            differences: found.differences,
        })
    }

    fn template_name(&self) -> Result<TemplateName, Failure> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let stem = self.file.file_stem().and_then(|stem| stem.to_str());
        let named = stem.filter(|stem| *stem != "-").map(str::parse);
        if let Some(Ok(name)) = named {
            return Ok(name);
        }
        let message = "the template's name at the target is not known";
        Err(Failure::new(Kind::Usage, "template.name-missing", message)
            .hint("give it with --name NAME"))
    }
}

impl Report for Compared {
    fn exit_code(&self) -> u8 {
        u8::from(!self.same)
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, version) = (&self.template, self.version);
        let default = if version == self.default_version {
            ", the default"
        } else {
            ""
        };
        writeln!(
            f,
            "template {name}, version {version}{default}, in the {}",
            self.target
        )?;
        for one in &self.differences {
            match one {
                Difference::Body { lines } => {
                    writeln!(f, "body: - at the target, + in the file")?;
                    for line in lines {
                        writeln!(f, "  {line}")?;
                    }
                }
                Difference::Setting {
                    setting,
                    there,
                    wanted,
                } => writeln!(f, "{setting}: `{there}` at the target, `{wanted}` wanted")?,
            }
        }
        f.write_str(if self.same { "the same" } else { "different" })
    }
}
