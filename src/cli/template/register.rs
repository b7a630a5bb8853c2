//! `template register`

use std::fmt;
use std::path::PathBuf;

use super::super::wire::factory::Factory;
use super::KindArg;
use crate::cli::args::Target;
use crate::cli::report::{Report, note};
use crate::cli::settings::Settings;
use crate::cli::wire::target::{Connected, TargetReport, connect};
use crate::core::bundle::Secrecy;
use crate::core::diff::same_json;
use crate::core::ids::{Place, PolicyName, TemplateName};
use crate::core::template::{Template, TemplateKind};
use crate::explain::{Failure, Kind};
use crate::flows::template_register::{
    Step, Wanted, apply, kind_of, missing_policies, plan, policies_named,
};
use crate::ports::Files;

/// Register a provisioning template, and the policy that it names, at the target
///
/// What AWS IoT would refuse is refused first. Run again, it changes nothing and says so; what
/// differs is shown, and changed only with --yes. A copy is kept in the project's templates/, for
/// `device issue` to check drafts against.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// The template, JSON; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its name at the target
    #[arg(long, value_name = "NAME")]
    name: TemplateName,
    /// What it is for [default: by the parameters that it declares]
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// The role that AWS IoT takes on to provision; the sandbox needs none
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Create or update the policy that the template names from this document; `-` is stdin
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The policy's name [default: the one policy that the template names]
    #[arg(long, value_name = "NAME", requires = "policy")]
    policy_name: Option<PolicyName>,
    /// Change what differs; needed for every change at AWS
    #[arg(long)]
    yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was done.
#[derive(serde::Serialize)]
pub(in crate::cli) struct Registered {
    target: TargetReport,
    template: TemplateName,
    kind: TemplateKind,
    done: bool,
    steps: Vec<Step>,
    /// Policies that the template names and the target lacks.
    missing_policies: Vec<PolicyName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<PathBuf>,
}

impl Args {
    pub(in crate::cli) fn run(self, settings: &Settings) -> Result<Registered, Failure> {
        let body = super::read_text(&self.file)?;
        let policy = self.policy_to_bring(&body)?;
        let kind = match self.kind {
            Some(kind) => kind.into(),
            None => kind_of(&Template::parse(&body)?),
        };
        let Connected { plane, target, .. } = &connect(settings)?;
        let wanted = Wanted {
            name: self.name.clone(),
            kind,
            role_arn: self.role(target),
            body,
            policy,
        };
        let plane = plane.as_ref();
        let steps = plan(plane, &wanted)?;
        let missing_policies = missing_policies(plane, &wanted)?;
        self.confirm(target, &steps)?;
        let copy = self.copy(settings, &wanted.body)?;
        if !self.dry_run {
            apply(plane, &wanted, &steps)?;
        }
        if let Some((path, true)) = &copy {
            Factory::disk().create_dir(path.parent().unwrap_or(path))?;
            Factory::disk().replace(path, wanted.body.as_bytes(), Secrecy::Public)?;
        }
        Ok(Registered {
            target: target.clone(),
            template: wanted.name.clone(),
            kind,
            done: !self.dry_run,
            steps,
            missing_policies,
            copy: copy.map(|(path, _)| path),
        })
    }

    fn policy_to_bring(&self, body: &str) -> Result<Option<(PolicyName, String)>, Failure> {
        let Some(path) = &self.policy else {
            return Ok(None);
        };
        let document = super::read_text(path)?;
        let named = policies_named(body);
        let name = match (&self.policy_name, &named[..]) {
            (Some(name), _) => name.clone(),
            (None, [one]) => one.clone(),
            (None, others) => {
                let message = format!("the template names {} policies", others.len());
                return Err(
                    Failure::new(Kind::Usage, "template-register.policy-name", message)
                        .hint("say which one the document is for with --policy-name"),
                );
            }
        };
        Ok(Some((name, document)))
    }

    /// AWS needs a real role; the sandbox provisions by itself and only keeps the name.
    fn role(&self, target: &TargetReport) -> Option<String> {
        let Place { account, .. } = &target.place;
        let partition = target.place.partition();
        let ours = || format!("arn:{partition}:iam::{account}:role/nameplate-provisioning");
        let sandbox = target.kind == Target::Sandbox;
        self.role_arn.clone().or_else(|| sandbox.then(ours))
    }

    fn confirm(&self, target: &TargetReport, steps: &[Step]) -> Result<(), Failure> {
        if self.dry_run || steps.is_empty() {
            return Ok(());
        }
        target.confirm(self.yes, &format!("register template `{}`", self.name))?;
        if self.yes || !steps.iter().any(Step::alters) {
            return Ok(());
        }
        for step in steps {
            note(step);
        }
        let message = format!(
            "template `{}` stands differently in the {target}",
            self.name
        );
        Err(
            Failure::new(Kind::Refused, "template-register.differs", message)
                .hint("if the change shown above is wanted, run it again with --yes"),
        )
    }

    /// Where the copy goes, and whether it has to be written. Drafts are linted against it without
    /// asking the target. A file that says something else is somebody's work.
    fn copy(&self, settings: &Settings, body: &str) -> Result<Option<(PathBuf, bool)>, Failure> {
        let Some(project) = settings.project.as_ref().filter(|_| !self.dry_run) else {
            return Ok(None);
        };
        let path = project
            .join("templates")
            .join(format!("{}.json", self.name));
        if !Factory::disk().exists(&path) {
            return Ok(Some((path, true)));
        }
        let same = same_json(&super::read_text(&path)?, body);
        if same || self.yes {
            return Ok(Some((path, !same)));
        }
        let message = format!("`{}` holds another template", path.display());
        Err(
            Failure::new(Kind::Refused, "template-register.copy", message)
                .hint("the copy of what is registered goes there; --yes overwrites it"),
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |f: &mut fmt::Formatter<'_>, diff: &[String]| {
            diff.iter().try_for_each(|line| write!(f, "\n    {line}"))
        };
        match self {
            Self::CreatePolicy { policy } => write!(f, "  create policy {policy}"),
            Self::UpdatePolicy { policy, diff } => {
                write!(f, "  policy {policy}: a new default version")?;
                lines(f, diff)
            }
            Self::CreateTemplate => f.write_str("  create the template"),
            Self::NewVersion { replaces, diff } => {
                write!(f, "  a new default version in place of version {replaces}")?;
                lines(f, diff)
            }
            Self::ChangeRole { from, to } => write!(f, "  role: {from} -> {to}"),
            Self::Enable => f.write_str("  enable the template"),
        }
    }
}

impl Report for Registered {}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, kind, target) = (&self.template, self.kind, &self.target);
        let what = match (self.steps.is_empty(), self.done) {
            (true, _) => "nothing to change",
            (false, true) => "registered",
            (false, false) => "would do",
        };
        write!(f, "template {name} ({kind}) in the {target}: {what}")?;
        for step in &self.steps {
            write!(f, "\n{step}")?;
        }
        for policy in &self.missing_policies {
            write!(
                f,
                "\nwarning: the template names policy `{policy}`, which is not there: \
                 provisioning will fail until it is (bring it with --policy FILE)"
            )?;
        }
        Ok(())
    }
}
