//! What AWS IoT refuses in a template, and what it takes but was hardly meant.

use super::eval::sub_names;
use super::render::planned_status;
use super::{
    Body, CERTIFICATE_PREFIX, CertificateBody, Located, PolicyBody, Template, TemplateKind,
    ThingBody, Tree, Value, attribute_problem, policy_problem,
};
use crate::core::finding::Finding;
use crate::core::ids::{IdError, PolicyName, ThingName};
use crate::core::json::child;
use crate::core::subject::ATTRIBUTES;

/// The most attributes of a thing without a type, and with one (AWS IoT quotas).
const ATTRIBUTES_WITHOUT_TYPE: usize = 3;
const ATTRIBUTES_WITH_TYPE: usize = 50;
/// The most policies on one certificate (AWS IoT quota).
const POLICIES_PER_CERTIFICATE: usize = 10;

impl Template {
    /// Everything that is wrong or doubtful when the template is used as `kind`. An error means
    /// that AWS IoT refuses the template, or that provisioning with it always fails.
    pub fn lint(&self, kind: TemplateKind) -> Vec<Finding> {
        let mut findings = self.notes.clone();
        self.lint_sections(kind, &mut findings);
        self.lint_counts(&mut findings);
        for resource in &self.resources {
            match &resource.body {
                Body::Thing(thing) => lint_thing(thing, &resource.path, &mut findings),
                Body::Certificate(certificate) => {
                    lint_certificate(certificate, kind, &resource.path, &mut findings);
                }
                Body::Policy(policy) => lint_policy(policy, &resource.path, &mut findings),
            }
        }
        self.lint_values(kind, &mut findings);
        findings
    }

    fn lint_sections(&self, kind: TemplateKind, findings: &mut Vec<Finding>) {
        if kind != TemplateKind::Jitp {
            return;
        }
        for (present, section) in [
            (self.has_mappings, "Mappings"),
            (self.has_device_configuration, "DeviceConfiguration"),
        ] {
            if present {
                let message = format!("{section} is for fleet provisioning only");
                findings.push(Finding::error(
                    "template.top-level",
                    &child("$", section),
                    message,
                ));
            }
        }
        for name in self.parameters.keys() {
            let part = name.strip_prefix(CERTIFICATE_PREFIX);
            let known = ATTRIBUTES.iter().any(|(.., jitp)| *jitp == part);
            if part.is_none() || !(known || part == Some("Id")) {
                let message = format!("`{name}` is not a parameter that JITP can fill in");
                findings.push(
                    Finding::error(
                        "template.parameter-name",
                        &child("$.Parameters", name),
                        message,
                    )
                    .remedy(format!("use one of {}", jitp_names().join(", "))),
                );
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
        if certificates.is_empty() {
            let message = "there is no AWS::IoT::Certificate";
            findings.push(Finding::error(
                "template.resource-missing",
                "$.Resources",
                message,
            ));
        }
        for (all, name) in [(&things, "Thing"), (&policies, "Policy")] {
            if all.is_empty() {
                let message = format!("there is no AWS::IoT::{name}");
                findings.push(Finding::warning(
                    "template.resource-missing",
                    "$.Resources",
                    message,
                ));
            }
        }
        for path in policies.iter().skip(POLICIES_PER_CERTIFICATE) {
            let message = "a certificate takes at most 10 policies";
            findings.push(Finding::error("template.policy-count", path, message));
        }
    }

    fn lint_values(&self, kind: TemplateKind, findings: &mut Vec<Finding>) {
        let mut functions = Vec::new();
        self.each_value(&mut |path, value| {
            let names: Vec<&str> = match value {
                Value::Ref(name) => vec![name],
                Value::Sub(text, own) => sub_names(text)
                    .into_iter()
                    .filter(|name| !own.contains_key(*name))
                    .collect(),
                _ => Vec::new(),
            };
            for name in names {
                if !self.parameters.contains_key(name) {
                    let message = format!("the parameter `{name}` is not declared");
                    findings.push(
                        Finding::error("template.ref-undeclared", path, message)
                            .remedy(format!("add it under {}", child("$.Parameters", name))),
                    );
                }
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
        if kind == TemplateKind::Jitp {
            findings.extend(functions.iter().map(|(path, function)| {
                let message = format!("{function} is documented for fleet provisioning only");
                Finding::warning("template.function", path, message)
                    .remedy("try it on AWS IoT before you rely on it, or use Ref alone")
            }));
        }
    }

    fn each_value<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a Value)) {
        let mut places: Vec<&Located> = Vec::new();
        let mut trees: Vec<(&str, &Tree)> = Vec::new();
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
                Body::Policy(policy) => {
                    places.extend(&policy.name);
                    trees.extend(
                        policy
                            .document
                            .as_ref()
                            .map(|(path, tree)| (&path[..], tree)),
                    );
                }
            }
        }
        places.extend(self.device_configuration.iter().map(|(_, place)| place));
        for place in places {
            place.value.walk(&mut |value| visit(&place.path, value));
        }
        for (path, tree) in trees {
            tree.walk(&mut |value| visit(path, value));
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

/// Checks a name that stands there as plain text.
fn lint_name<T: std::str::FromStr<Err = IdError>>(
    place: Option<&Located>,
    findings: &mut Vec<Finding>,
) {
    if let Some(place) = place
        && let Value::Text(text) = &place.value
        && let Err(error) = text.parse::<T>()
    {
        findings.push(Finding::error(
            "template.name",
            &place.path,
            error.to_string(),
        ));
    }
}

fn lint_thing(thing: &ThingBody, path: &str, findings: &mut Vec<Finding>) {
    if thing.name.is_none() {
        let path = format!("{path}.Properties.ThingName");
        findings.push(Finding::error("template.property", &path, "is missing"));
    }
    lint_name::<ThingName>(thing.name.as_ref(), findings);
    lint_name::<ThingName>(thing.type_name.as_ref(), findings);
    lint_name::<ThingName>(thing.billing_group.as_ref(), findings);
    for group in &thing.groups {
        lint_name::<ThingName>(Some(group), findings);
    }
    for (name, place) in &thing.attributes {
        let value = match &place.value {
            Value::Text(text) => text,
            _ => "",
        };
        if let Some(rule) = attribute_problem(name, value) {
            let message = format!("`{name}` = `{value}`: {rule}");
            findings.push(Finding::error(
                "template.attribute-value",
                &place.path,
                message,
            ));
        }
    }
    lint_attribute_count(thing, path, findings);
}

fn lint_attribute_count(thing: &ThingBody, path: &str, findings: &mut Vec<Finding>) {
    let count = thing.attributes.len();
    let path = format!("{path}.Properties.AttributePayload");
    if count > ATTRIBUTES_WITH_TYPE {
        let message = format!("{count} attributes; a thing takes at most 50");
        findings.push(Finding::error("template.attribute-count", &path, message));
    } else if count > ATTRIBUTES_WITHOUT_TYPE && thing.type_name.is_none() {
        let message = format!("{count} attributes; a thing without a type takes at most 3");
        findings.push(
            Finding::warning("template.attribute-count", &path, message)
                .remedy("give the thing a ThingTypeName, or leave attributes out"),
        );
    }
}

fn lint_certificate(
    certificate: &CertificateBody,
    kind: TemplateKind,
    path: &str,
    findings: &mut Vec<Finding>,
) {
    lint_certificate_id(certificate, kind, path, findings);
    for place in [&certificate.csr, &certificate.pem, &certificate.ca_pem]
        .into_iter()
        .flatten()
    {
        let message = format!("a {kind} template takes CertificateId only");
        findings.push(Finding::error(
            "template.certificate-source",
            &place.path,
            message,
        ));
    }
    if let Some(place) = &certificate.status
        && let Value::Text(text) = &place.value
        && planned_status(text).is_none()
    {
        let message = format!("`{text}` is neither ACTIVE nor INACTIVE");
        findings.push(Finding::error("template.status", &place.path, message));
    }
    if let Some(place) = &certificate.principal_type
        && let Value::Text(text) = &place.value
        && !["EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"].contains(&&text[..])
    {
        let message = format!("`{text}` is neither EXCLUSIVE_THING nor NON_EXCLUSIVE_THING");
        findings.push(Finding::error("template.property", &place.path, message));
    }
}

fn lint_certificate_id(
    certificate: &CertificateBody,
    kind: TemplateKind,
    path: &str,
    findings: &mut Vec<Finding>,
) {
    let properties = format!("{path}.Properties");
    let wanted = Value::Ref(format!("{CERTIFICATE_PREFIX}Id"));
    let id_path = format!("{properties}.CertificateId");
    match &certificate.id {
        None => findings.push(
            Finding::error("template.certificate-id", &id_path, "is missing")
                .remedy("write {\"Ref\":\"AWS::IoT::Certificate::Id\"}"),
        ),
        Some(place) if kind == TemplateKind::Jitp && place.value != wanted => {
            findings.push(
                Finding::error(
                    "template.certificate-id",
                    &place.path,
                    "is not the connecting certificate",
                )
                .remedy("write {\"Ref\":\"AWS::IoT::Certificate::Id\"}"),
            );
        }
        Some(_) => {}
    }
}

fn lint_policy(policy: &PolicyBody, path: &str, findings: &mut Vec<Finding>) {
    let path = format!("{path}.Properties");
    match (&policy.name, &policy.document) {
        (Some(_), Some(_)) => findings.push(Finding::error(
            "template.policy-both",
            &path,
            "has both PolicyName and PolicyDocument; exactly one is allowed",
        )),
        (None, None) => findings.push(Finding::error(
            "template.policy-none",
            &path,
            "has neither PolicyName nor PolicyDocument; exactly one is needed",
        )),
        _ => {}
    }
    lint_name::<PolicyName>(policy.name.as_ref(), findings);
    let Some((path, tree)) = &policy.document else {
        return;
    };
    let text = match tree {
        Tree::Value(Value::Text(text)) => Some(text.clone()),
        tree => literal(tree).map(|json| json.to_string()),
    };
    if let Some(problem) = text.and_then(|text| policy_problem(&text)) {
        findings.push(Finding::error("template.policy-document", path, problem));
    }
}

/// The JSON of a tree without functions in it.
fn literal(tree: &Tree) -> Option<serde_json::Value> {
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
