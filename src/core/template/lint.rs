//! What AWS IoT refuses in a template, and what it takes but was hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use super::eval::Evaluator;
use super::reason::names_in;
use super::{
    Body, CERTIFICATE_PREFIX, Located, POLICIES_PER_CERTIFICATE, RenderError, Template, Tree,
    Usage, Value,
};
use crate::core::finding::{Finding, Severity};
use crate::core::json::child;
use crate::core::subject::ATTRIBUTES;

impl Template {
    /// Everything that is wrong or doubtful when the template is used so. An error means that AWS
    /// IoT refuses the template, or that provisioning with it always fails.
    pub fn lint(&self, usage: impl Into<Usage>) -> Vec<Finding> {
        let usage = usage.into();
        let mut findings = self.notes.clone();
        self.lint_sections(usage, &mut findings);
        self.lint_parameters(usage, &mut findings);
        self.lint_counts(&mut findings);
        self.lint_resources(usage, &mut findings);
        self.lint_values(usage, &mut findings);
        self.lint_unused(usage, &mut findings);
        findings
    }

    fn lint_sections(&self, usage: Usage, findings: &mut Vec<Finding>) {
        if usage.has_functions() {
            return;
        }
        for (present, section) in [
            (self.has_mappings, "Mappings"),
            (self.has_device_configuration, "DeviceConfiguration"),
        ] {
            if present {
                let message = format!("{section} is for fleet provisioning only");
                let path = child("$", section);
                findings.push(Finding::error("template.top-level", &path, message));
            }
        }
    }

    fn lint_parameters(&self, usage: Usage, findings: &mut Vec<Finding>) {
        for (name, default) in &self.parameters {
            let path = child("$.Parameters", name);
            let part = name.strip_prefix(CERTIFICATE_PREFIX);
            let of_subject = ATTRIBUTES.iter().any(|(.., jitp)| *jitp == part);
            let rule = "template.parameter-name";
            match usage {
                Usage::Jitp if part != Some("Id") && (part.is_none() || !of_subject) => {
                    let message = format!("`{name}` is not a parameter that JITP can fill in");
                    let remedy = format!("use one of {}", jitp_names().join(", "));
                    findings.push(Finding::error(rule, &path, message).remedy(remedy));
                }
                Usage::Jitp if default.is_some() => {
                    let message = "a Default of a certificate's parameter is not documented";
                    let remedy = "give every certificate the attribute; the guide says that \
                                  provisioning fails without it";
                    let rule = "template.parameter-default";
                    findings.push(Finding::warning(rule, &path, message).remedy(remedy));
                }
                Usage::FleetProvisioning if part.is_some_and(|part| part != "Id") => {
                    let message =
                        format!("`{name}` is filled in at a first connect (JITP), not here");
                    let remedy = "let the device send it, under a name of your own";
                    findings.push(Finding::warning(rule, &path, message).remedy(remedy));
                }
                _ => {}
            }
        }
    }

    fn lint_counts(&self, findings: &mut Vec<Finding>) {
        let count = |wanted: fn(&Body) -> bool| {
            let found = self.resources.iter().filter(|r| wanted(&r.body));
            found.map(|r| &r.path[..]).collect::<Vec<_>>()
        };
        let things = count(|body| matches!(body, Body::Thing(_)));
        let certificates = count(|body| matches!(body, Body::Certificate(_)));
        let policies = count(|body| matches!(body, Body::Policy(_)));
        for (all, name) in [(&things, "Thing"), (&certificates, "Certificate")] {
            for path in all.iter().skip(1) {
                let message = format!("a second AWS::IoT::{name} in one template");
                findings.push(Finding::error("template.resource-duplicate", path, message));
            }
        }
        for (all, name, severity) in [
            (&certificates, "Certificate", Severity::Error),
            (&things, "Thing", Severity::Warning),
            (&policies, "Policy", Severity::Warning),
        ] {
            if all.is_empty() {
                let message = format!("there is no AWS::IoT::{name}");
                let rule = "template.resource-missing";
                findings.push(Finding::new(severity, rule, "$.Resources", message));
            }
        }
        for path in policies.iter().skip(POLICIES_PER_CERTIFICATE) {
            let message = "a certificate takes at most 10 policies";
            findings.push(Finding::error("template.policy-count", path, message));
        }
    }

    fn lint_values(&self, usage: Usage, findings: &mut Vec<Finding>) {
        let mut functions = Vec::new();
        self.each_value(&mut |path, value| {
            for name in names_in(value) {
                findings.extend(self.undeclared(usage, path, name));
            }
            if let Value::FindInMap(map, ..) = value
                && !self.mappings.contains_key(map)
            {
                let message = format!("there is no mapping `{map}`");
                findings.push(Finding::error("template.mapping", path, message));
            }
            if let Some(function) = value.function() {
                functions.push((path.to_owned(), function));
            }
        });
        for (path, value) in self.places() {
            if let Some(Err(error)) = self.constant(value)
                && !matches!(error, RenderError::Undeclared { .. })
            {
                findings.push(Finding::error("template.function", path, error.to_string()));
            }
        }
        if usage != Usage::FleetProvisioning {
            findings.extend(functions.iter().map(|(path, function)| {
                let message = format!("{function} is documented for fleet provisioning only");
                Finding::warning("template.function", path, message)
                    .remedy("try it on AWS IoT before you rely on it, or use Ref alone")
            }));
        }
    }

    /// What a value yields that depends on nothing; `None` when it depends on a parameter.
    pub(super) fn constant(&self, value: &Value) -> Option<Result<Vec<String>, RenderError>> {
        let mut depends = false;
        value.walk(&mut |value| depends |= !names_in(value).is_empty());
        let values = BTreeMap::new();
        let evaluator = Evaluator {
            template: self,
            values: &values,
            usage: Usage::FleetProvisioning,
        };
        (!depends).then(|| evaluator.texts(value, "it"))
    }

    /// AWS IoT fills in the certificate's id in fleet provisioning, declared or not.
    fn undeclared(&self, usage: Usage, path: &str, name: &str) -> Option<Finding> {
        let injected = usage == Usage::FleetProvisioning
            && name.strip_prefix(CERTIFICATE_PREFIX) == Some("Id");
        if injected || self.parameters.contains_key(name) {
            return None;
        }
        let message = format!("the parameter `{name}` is not declared");
        let finding = match usage {
            Usage::Jitp => Finding::error("template.ref-undeclared", path, message),
            _ => Finding::warning("template.ref-undeclared", path, message),
        };
        Some(finding.remedy(format!("add it under {}", child("$.Parameters", name))))
    }

    fn lint_unused(&self, usage: Usage, findings: &mut Vec<Finding>) {
        let mut used = BTreeSet::new();
        self.each_value(&mut |_, value| used.extend(names_in(value)));
        for name in self.parameters.keys() {
            if used.contains(&name[..]) {
                continue;
            }
            let message = match usage {
                Usage::Jitp => format!(
                    "`{name}` is used nowhere, and provisioning fails for a certificate without it"
                ),
                _ => format!("`{name}` is used nowhere"),
            };
            findings.push(
                Finding::warning(
                    "template.parameter-unused",
                    &child("$.Parameters", name),
                    message,
                )
                .remedy("remove it, or use it"),
            );
        }
    }

    /// Every value with its path, but for those inside policy documents.
    fn places(&self) -> Vec<(&str, &Value)> {
        let mut places: Vec<&Located> = Vec::new();
        for resource in &self.resources {
            match &resource.body {
                Body::Thing(thing) => {
                    let single = [&thing.name, &thing.type_name, &thing.billing_group];
                    places.extend(single.into_iter().flatten());
                    places.extend(thing.attributes.iter().map(|(_, place)| place));
                    places.extend(&thing.groups);
                }
                Body::Certificate(c) => {
                    let all = [
                        &c.id,
                        &c.csr,
                        &c.pem,
                        &c.ca_pem,
                        &c.status,
                        &c.principal_type,
                    ];
                    places.extend(all.into_iter().flatten());
                }
                Body::Policy(policy) => places.extend(&policy.name),
            }
        }
        places.extend(self.device_configuration.iter().map(|(_, place)| place));
        places
            .into_iter()
            .map(|place| (&place.path[..], &place.value))
            .collect()
    }

    pub(super) fn each_value<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a Value)) {
        for (path, value) in self.places() {
            value.walk(&mut |value| visit(path, value));
        }
        for resource in &self.resources {
            if let Body::Policy(policy) = &resource.body
                && let Some((path, tree)) = &policy.document
            {
                tree.walk(&mut |value| visit(path, value));
            }
        }
    }
}

fn jitp_names() -> Vec<String> {
    ATTRIBUTES
        .iter()
        .filter_map(|(.., jitp)| *jitp)
        .chain(["Id"])
        .map(|name| format!("{CERTIFICATE_PREFIX}{name}"))
        .collect()
}

/// The JSON of a tree without functions in it.
pub(super) fn literal(tree: &Tree) -> Option<serde_json::Value> {
    match tree {
        Tree::Value(Value::Text(text)) => Some(text.clone().into()),
        Tree::Value(_) => None,
        Tree::Literal(json) => Some(json.clone()),
        Tree::List(all) => all
            .iter()
            .map(literal)
            .collect::<Option<Vec<_>>>()
            .map(Into::into),
        Tree::Object(all) => all
            .iter()
            .map(|(key, tree)| Some((key.clone(), literal(tree)?)))
            .collect::<Option<serde_json::Map<_, _>>>()
            .map(Into::into),
    }
}
