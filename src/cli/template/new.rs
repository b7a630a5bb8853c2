//! `template new`

use std::fmt;
use std::path::{Path, PathBuf};

use super::super::wire::factory::Factory;
use crate::cli::args::Target;
use crate::cli::report::Report;
use crate::cli::settings::Settings;
use crate::cli::wire::target::connect;
use crate::core::bundle::Secrecy;
use crate::core::ids::{Place, PolicyName, TemplateName};
use crate::core::template::{Shipped, shipped};
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// Write a template that we ship, filled in for the target's account and Region
///
/// Beside it goes the least-privilege policy that it names, and the claim's where devices come with
/// one. Nothing that exists is overwritten.
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
    /// The policy's name in the template [default: as `template show --shipped` has it]
    #[arg(long, value_name = "NAME")]
    policy_name: Option<PolicyName>,
    /// The template's name at the target, for the claim's policy [default: SHIPPED]
    #[arg(long, value_name = "NAME")]
    template_name: Option<TemplateName>,
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
    /// What the claim's certificate may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_policy_file: Option<PathBuf>,
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
        let policy_name = self.policy_name(one)?;
        let out = self.out.clone();
        let out = out.unwrap_or_else(|| format!("{}.json", one.name).into());
        let paths = self.paths(one, &out);
        let mut written = Written {
            template: one.name,
            file: None,
            policy_file: None,
            claim_policy_file: None,
            policy_name: one.policy.map(|_| policy_name.clone()),
            body: None,
            place,
        };
        let body = one.body_for(&written.place, &policy_name);
        if out == Path::new("-") {
            written.body = Some(body);
        } else {
            refuse_existing(&[Some(&out), paths.policy.as_ref(), paths.claim.as_ref()])?;
            Factory::disk().write_new(&out, body.as_bytes(), Secrecy::Public)?;
            written.file = Some(out);
        }
        written.policy_file = write(one.policy_for(&written.place), paths.policy)?;
        let template = match &self.template_name {
            Some(name) => name.clone(),
            None => one.name.parse()?,
        };
        let claim = one.claim_policy_for(&written.place, &template);
        written.claim_policy_file = write(claim, paths.claim)?;
        Ok(written)
    }

    fn policy_name(&self, one: &Shipped) -> Result<PolicyName, Failure> {
        match (&self.policy_name, one.policy) {
            (Some(name), _) => Ok(name.clone()),
            (None, Some(own)) => Ok(own.name.parse()?),
            // It is used nowhere.
            (None, None) => Ok(one.name.parse()?),
        }
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

    /// Where the policies go: beside the template, which has no place on stdout.
    fn paths(&self, one: &Shipped, template: &Path) -> Paths {
        let on_stdout = template == Path::new("-");
        let beside = |suffix: &str| {
            let stem = template.file_stem()?.to_str()?;
            let path = template.with_file_name(format!("{stem}-{suffix}.json"));
            (!on_stdout).then_some(path)
        };
        let policy = self.policy_out.clone().or_else(|| beside("policy"));
        Paths {
            policy: policy.filter(|_| one.policy.is_some()),
            claim: beside("claim-policy").filter(|_| one.claim_policy.is_some()),
        }
    }
}

/// Where policies go.
struct Paths {
    policy: Option<PathBuf>,
    claim: Option<PathBuf>,
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

fn write(document: Option<String>, path: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    let (Some(document), Some(path)) = (document, path) else {
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
        if let Some(claim) = &self.claim_policy_file {
            let claim = claim.display();
            write!(f, "\n  claim     {claim} (for the claim's certificate)")?;
        }
        write!(f, "\nnext: {register}")
    }
}
