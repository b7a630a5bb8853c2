//! `template new`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::wire::factory::Factory;
use crate::cli::args::Target;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::target::connect;
use crate::core::bundle::Secrecy;
use crate::core::ids::{Place, PolicyName};
use crate::core::template::{DEFAULT_POLICY_NAME, Shipped, shipped};
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// Write a template that we ship, filled in for the target's account and Region
///
/// Beside it goes the least-privilege policy that it names. Nothing that exists is overwritten.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Which: see `template list --shipped`
    #[arg(value_name = "SHIPPED")]
    name: String,
    /// The template's file; `-` is stdout [default: SHIPPED.json]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The policy's file [default: beside the template, NAME-policy.json]
    #[arg(long, value_name = "FILE")]
    policy_out: Option<PathBuf>,
    /// The policy's name in the template
    #[arg(long, value_name = "NAME", default_value = DEFAULT_POLICY_NAME)]
    policy_name: PolicyName,
    /// The account [default: the target's]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
}

/// What was written.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Written {
    template: &'static str,
    #[serde(flatten)]
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_name: Option<PolicyName>,
    /// On stdout only.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// That there is no such template among ours.
pub(super) fn unknown(name: &str) -> Failure {
    let names: Vec<_> = shipped().iter().map(|one| one.name).collect();
    let message = format!("we ship no template named `{name}`");
    Failure::new(Kind::Usage, "template.not-shipped", message)
        .hint(format!("one of: {}", names.join(", ")))
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Written, Failure> {
        let one = shipped().iter().find(|one| one.name == self.name);
        let one = one.ok_or_else(|| unknown(&self.name))?;
        let place = self.place(settings)?;
        let out = self.out.clone();
        let out = out.unwrap_or_else(|| format!("{}.json", one.name).into());
        let policy_out = self.policy_path(&out);
        let mut written = Written {
            template: one.name,
            file: None,
            policy_file: None,
            policy_name: one.policy.map(|_| self.policy_name.clone()),
            body: None,
            place,
        };
        let body = one.body_for(&written.place, &self.policy_name);
        if out == Path::new("-") {
            written.body = Some(body);
        } else {
            refuse_existing(&[Some(&out), one.policy.and(policy_out.as_ref())])?;
            Factory::disk().write_new(&out, body.as_bytes(), Secrecy::Public)?;
            written.file = Some(out);
        }
        written.policy_file = write_policy(one, &written.place, policy_out)?;
        Ok(written)
    }

    fn place(&self, settings: &Settings) -> Result<Place, Failure> {
        match (&self.account, settings.target) {
            (Some(account), _) => Ok(Place {
                account: account.parse()?,
                ..settings.sandbox_place()?
            }),
            (None, Target::Sandbox) => settings.sandbox_place(),
            (None, Target::Aws) => Ok(connect(settings)?.target.place),
        }
    }

    fn policy_path(&self, template: &Path) -> Option<PathBuf> {
        let beside = || {
            let stem = template.file_stem()?.to_str()?;
            Some(template.with_file_name(format!("{stem}-policy.json")))
        };
        match (&self.policy_out, template == Path::new("-")) {
            (Some(path), _) => Some(path.clone()),
            (None, true) => None,
            (None, false) => beside(),
        }
    }
}

/// Before the first file is written, so that a refusal leaves nothing.
fn refuse_existing(paths: &[Option<&PathBuf>]) -> Result<(), Failure> {
    match paths
        .iter()
        .flatten()
        .find(|path| Factory::disk().exists(path))
    {
        None => Ok(()),
        Some(path) => {
            let message = format!("`{}` already exists", path.display());
            Err(Failure::new(Kind::Refused, "file.exists", message)
                .hint("choose another place with --out and --policy-out"))
        }
    }
}

fn write_policy(
    one: &Shipped,
    place: &Place,
    path: Option<PathBuf>,
) -> Result<Option<PathBuf>, Failure> {
    let (Some(document), Some(path)) = (one.policy_for(place), path) else {
        return Ok(None);
    };
    Factory::disk().write_new(&path, document.as_bytes(), Secrecy::Public)?;
    Ok(Some(path))
}

impl Report for Written {}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(body) = &self.body {
            return f.write_str(body);
        }
        let Place { account, region } = &self.place;
        writeln!(f, "for account {account}, Region {region}:")?;
        let file = self.file.as_deref().unwrap_or(Path::new("-")).display();
        write!(f, "  template  {file}")?;
        let mut register = format!(
            "nameplate template register {file} --name {}",
            self.template
        );
        if let (Some(policy), Some(name)) = (&self.policy_file, &self.policy_name) {
            let policy = policy.display();
            write!(f, "\n  policy    {policy} ({name})")?;
            register = format!("{register} --policy {policy}");
        }
        write!(f, "\nnext: {register}")
    }
}
