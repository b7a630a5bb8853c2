//! `template lint`: the template itself, the certificates of a profile, the policies' documents, and
//! what must be at the target.

use std::collections::BTreeMap;

use crate::core::finding::{Finding, Placed};
use crate::core::ids::{Place, PolicyName};
use crate::core::json::Places;
use crate::core::template::{PrerequisiteKind, Subjects, Template, TemplateError, Usage};
use crate::explain::Explain;
use crate::ports::cloud::{CloudResult, ControlPlane};

/// What is asked.
pub struct Request<'a> {
    /// The template's text.
    pub body: &'a str,
    /// Who runs it; `None` is by what it declares.
    pub usage: Option<Usage>,
    /// The subjects that the certificates have; `None` is not known.
    pub subjects: Option<&'a Subjects>,
    /// Documents of policies that the template calls by name.
    pub documents: BTreeMap<PolicyName, String>,
    /// Account and Region that place holders stand for.
    pub place: &'a Place,
    /// Where to look whether what it names is there.
    pub plane: Option<&'a dyn ControlPlane>,
}

/// What was found.
pub struct Linted {
    /// Who runs it; `None` when the text is no template.
    pub usage: Option<Usage>,
    /// In the order they were found, each with its line and column.
    pub findings: Vec<Placed>,
}

impl Request<'_> {
    /// Lints it.
    ///
    /// # Errors
    /// `cloud.*` when the target cannot be asked.
    pub fn run(mut self) -> CloudResult<Linted> {
        let template = match Template::parse(self.body) {
            Ok(template) => template,
            Err(error) => {
                return Ok(Linted {
                    usage: None,
                    findings: grammar(&error),
                });
            }
        };
        let usage = self.usage.unwrap_or_else(|| template.usage());
        let mut findings = template.lint(usage);
        findings.extend(template.lint_hook(usage));
        let subjects = self.subjects.filter(|_| usage == Usage::Jitp);
        if let Some(subjects) = subjects {
            // What is known exactly takes the place of what may be.
            findings.retain(|finding| finding.rule != "template.value-spaces");
            findings.extend(template.lint_profile(subjects));
        }
        self.at_target(&template, &mut findings)?;
        findings.extend(self.access(&template, (usage, subjects)));
        let places = Places::of(self.body);
        let located = |finding: Finding| {
            let (line, column) = places.find(&finding.path);
            Placed {
                line: Some(line),
                column: Some(column),
                ..finding.into()
            }
        };
        Ok(Linted {
            usage: Some(usage),
            findings: findings.into_iter().map(located).collect(),
        })
    }

    /// Whether the devices may then connect.
    fn access(
        &self,
        template: &Template,
        (usage, subjects): (Usage, Option<&Subjects>),
    ) -> Option<Finding> {
        let sample = subjects.and_then(|subjects| subjects.sample().ok());
        let access = (usage, sample.as_ref());
        let first = template.lint_access(access, &self.documents, self.place);
        let open = || template.lint_access_open(subjects?, &self.documents, self.place);
        first.or_else(open)
    }

    fn at_target(&mut self, template: &Template, findings: &mut Vec<Finding>) -> CloudResult<()> {
        for wanted in template.prerequisites() {
            let brought = wanted.kind == PrerequisiteKind::Policy
                && self
                    .documents
                    .keys()
                    .any(|name| name.as_str() == wanted.name);
            let there = match (brought, self.plane) {
                (true, _) => Some(true),
                (false, None) => None,
                (false, Some(plane)) => Some(self.look(plane, wanted.kind, &wanted.name)?),
            };
            findings.extend(Template::lint_prerequisite(&wanted, there));
        }
        Ok(())
    }

    /// Whether it is there; a policy's document is kept.
    fn look(
        &mut self,
        plane: &dyn ControlPlane,
        kind: PrerequisiteKind,
        name: &str,
    ) -> CloudResult<bool> {
        let (PrerequisiteKind::Policy, Ok(policy)) = (kind, name.parse::<PolicyName>()) else {
            return plane.has(kind, name);
        };
        let Some(view) = plane.get_policy(&policy)? else {
            return Ok(false);
        };
        self.documents.insert(policy, view.document);
        Ok(true)
    }
}

/// The places where a text is no template.
fn grammar(error: &TemplateError) -> Vec<Placed> {
    let problems = error.problems();
    let placed = problems.iter().map(|problem| Placed {
        line: Some(problem.line),
        column: Some(problem.column),
        ..Finding::error(error.code(), &problem.path, &*problem.message).into()
    });
    placed.collect()
}
