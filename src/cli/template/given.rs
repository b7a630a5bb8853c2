//! Which template is meant: a file, the project's copy, one that we ship, or one at the target.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::wire::factory::Factory;
use crate::cli::settings::Settings;
use crate::cli::wire::target::Connected;
use crate::core::finding::Severity;
use crate::core::ids::{Place, PolicyName, TemplateName};
use crate::core::template::{Template, Usage, fill_place, shipped};
use crate::explain::{Failure, Kind};
use crate::ports::Files;

/// A template and what is known with it.
pub(super) struct Given {
    /// As reports name it.
    pub(super) shown: String,
    pub(super) body: String,
    pub(super) template: Template,
    pub(super) usage: Usage,
    /// The policy that a shipped template calls by name.
    pub(super) documents: BTreeMap<PolicyName, String>,
}

/// Where to look.
pub(super) struct Lookup<'a> {
    pub(super) settings: &'a Settings,
    pub(super) place: &'a Place,
    pub(super) connected: Option<&'a Connected>,
}

impl Lookup<'_> {
    /// Finds the template, and refuses one that AWS IoT would refuse.
    pub(super) fn find(&self, wanted: &str, usage: Option<Usage>) -> Result<Given, Failure> {
        let (body, kind, documents) = self.read(wanted)?;
        let named = |failure: Failure| {
            let message = format!("`{wanted}`: {}", failure.message);
            Failure { message, ..failure }
        };
        let template = Template::parse(&body).map_err(|error| named(error.into()))?;
        let usage = usage.or(kind).unwrap_or_else(|| template.usage());
        let findings = template.lint(usage);
        let error = findings.iter().find(|one| one.severity == Severity::Error);
        if let Some(finding) = error {
            let message = format!("`{wanted}` would be refused: {finding}");
            return Err(
                Failure::new(Kind::Input, "template.lint", message).hint(format!(
                    "`nameplate template lint {wanted}` shows everything"
                )),
            );
        }
        Ok(Given {
            shown: wanted.to_owned(),
            body,
            template,
            usage,
            documents,
        })
    }

    fn read(&self, wanted: &str) -> Result<Found, Failure> {
        let path = Path::new(wanted);
        if wanted == "-" || Factory::disk().exists(path) {
            return Ok((super::read_text(path)?, None, BTreeMap::new()));
        }
        if let (Some(connected), Ok(name)) = (self.connected, wanted.parse::<TemplateName>())
            && let Some(view) = connected.plane.describe_template(&name)?
        {
            return Ok((view.body, Some(view.kind.into()), BTreeMap::new()));
        }
        let copy = self.settings.project.as_deref();
        let copy = copy.map(|project| project.join("templates").join(format!("{wanted}.json")));
        if let Some(copy) = copy.filter(|copy| Factory::disk().exists(copy)) {
            return Ok((super::read_text(&copy)?, None, BTreeMap::new()));
        }
        let Some(one) = shipped().iter().find(|one| one.name == wanted) else {
            let message = format!("`{wanted}` is neither a file nor a template that we ship");
            return Err(Failure::new(Kind::Input, "template.unknown", message).hint(
                "nameplate template list shows what is there; --at-target looks there, too",
            ));
        };
        let policy = one.policy_for(self.place);
        let named = one.policy.zip(policy);
        let documents = named.map(|(own, text)| Ok::<_, Failure>((own.name.parse()?, text)));
        let documents = documents.transpose()?.into_iter().collect();
        Ok((
            fill_place(one.body, self.place),
            Some(one.kind.into()),
            documents,
        ))
    }
}

/// Body, kind, documents.
type Found = (String, Option<Usage>, BTreeMap<PolicyName, String>);
