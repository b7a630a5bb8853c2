//! The lint of things, certificates and policies.

use super::lint::literal;
use super::render::planned_status;
use super::{
    Body, CERTIFICATE_PREFIX, CertificateBody, GROUPS_PER_THING, Located, PolicyBody, Template,
    ThingBody, Tree, Usage, Value, attribute_problem, attributes_allowed, policy_problem,
};
use crate::core::finding::{Finding, Severity};
use crate::core::ids::{IdError, PolicyName, ThingName};
use crate::core::policy::MAX_CHARACTERS;

/// From how many characters on a policy is near its limit.
const NEARLY_FULL: usize = MAX_CHARACTERS / 10 * 9;

/// The subject's attributes that people write with spaces.
const WORDY: [&str; 3] = ["Organization", "OrganizationalUnit", "StateName"];

impl Template {
    pub(super) fn lint_resources(&self, usage: Usage, findings: &mut Vec<Finding>) {
        for resource in &self.resources {
            match &resource.body {
                Body::Thing(thing) => self.lint_thing(thing, &resource.path, findings),
                Body::Certificate(certificate) => {
                    let properties = format!("{}.Properties", resource.path);
                    lint_source(certificate, usage, &properties, findings);
                    self.lint_certificate(certificate, findings);
                }
                Body::Policy(policy) => self.lint_policy(policy, &resource.path, findings),
            }
        }
    }

    /// Checks a name that depends on nothing.
    fn lint_name<T: std::str::FromStr<Err = IdError>>(
        &self,
        place: Option<&Located>,
        findings: &mut Vec<Finding>,
    ) {
        let Some(place) = place else { return };
        wordy(place, findings);
        let Some(Ok(texts)) = self.constant(&place.value) else {
            return;
        };
        for text in texts {
            if let Err(error) = text.parse::<T>() {
                findings.push(Finding::error(
                    "template.name",
                    &place.path,
                    error.to_string(),
                ));
            }
        }
    }

    fn lint_thing(&self, thing: &ThingBody, path: &str, findings: &mut Vec<Finding>) {
        let properties = format!("{path}.Properties");
        if thing.name.is_none() {
            let path = format!("{properties}.ThingName");
            findings.push(Finding::error("template.property", &path, "is missing"));
        }
        self.lint_name::<ThingName>(thing.name.as_ref(), findings);
        self.lint_name::<ThingName>(thing.type_name.as_ref(), findings);
        self.lint_name::<ThingName>(thing.billing_group.as_ref(), findings);
        for group in &thing.groups {
            self.lint_name::<ThingName>(Some(group), findings);
        }
        if thing.groups.len() > GROUPS_PER_THING {
            let message = format!("{} groups; a thing is in at most 10", thing.groups.len());
            let path = format!("{properties}.ThingGroups");
            findings.push(Finding::error("template.group-count", &path, message));
        }
        for (name, place) in &thing.attributes {
            wordy(place, findings);
            let value = match self.constant(&place.value) {
                Some(Ok(texts)) => texts.join(""),
                _ => String::new(),
            };
            if let Some(rule) = attribute_problem(name, &value) {
                let message = format!("`{name}` = `{value}`: {rule}");
                let path = &place.path;
                findings.push(Finding::error("template.attribute-value", path, message));
            }
        }
        lint_attribute_count(thing, &properties, findings);
    }

    fn lint_certificate(&self, certificate: &CertificateBody, findings: &mut Vec<Finding>) {
        let constant = |place: &Option<Located>| -> Option<(String, String)> {
            let place = place.as_ref()?;
            let text = self.constant(&place.value)?.ok()?.join("");
            Some((place.path.clone(), text))
        };
        if let Some((path, text)) = constant(&certificate.status) {
            if planned_status(&text).is_none() {
                let message = format!("`{text}` is neither ACTIVE nor INACTIVE");
                findings.push(Finding::error("template.status", &path, message));
            } else if text.to_ascii_uppercase() != text {
                let message = format!("`{text}` is spelt so in one of AWS's examples only");
                let rule = "template.status-case";
                let finding = Finding::new(Severity::Note, rule, &path, message);
                findings.push(finding.remedy(format!("write {}", text.to_ascii_uppercase())));
            }
        }
        if let Some((path, text)) = constant(&certificate.principal_type)
            && !["EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"].contains(&&text[..])
        {
            let message = format!("`{text}` is neither EXCLUSIVE_THING nor NON_EXCLUSIVE_THING");
            findings.push(Finding::error("template.property", &path, message));
        }
    }

    fn lint_policy(&self, policy: &PolicyBody, path: &str, findings: &mut Vec<Finding>) {
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
        self.lint_name::<PolicyName>(policy.name.as_ref(), findings);
        let Some((path, tree)) = &policy.document else {
            return;
        };
        let text = match tree {
            Tree::Value(Value::Text(text)) => Some(text.clone()),
            tree => literal(tree).map(|json| json.to_string()),
        };
        let Some(text) = text else { return };
        let counted = text.chars().filter(|c| !c.is_whitespace()).count();
        if let Some(problem) = policy_problem(&text) {
            findings.push(Finding::error("template.policy-document", path, problem));
        } else if counted > NEARLY_FULL {
            let message = format!("{counted} of {MAX_CHARACTERS} characters are used");
            let remedy = "split it into two policies before it is full";
            findings.push(Finding::warning("template.policy-size", path, message).remedy(remedy));
        }
    }
}

/// Names and attributes have no spaces; organizations and places often have.
fn wordy(place: &Located, findings: &mut Vec<Finding>) {
    let Value::Ref(name) = &place.value else {
        return;
    };
    let part = name.strip_prefix(CERTIFICATE_PREFIX).unwrap_or_default();
    if WORDY.contains(&part) {
        let message = format!("{part} may hold spaces, and a value with one fails here");
        findings.push(
            Finding::new(
                Severity::Note,
                "template.value-spaces",
                &place.path,
                message,
            )
            .remedy("check your certificates with `template plan --csv` or --cert-profile"),
        );
    }
}

fn lint_attribute_count(thing: &ThingBody, properties: &str, findings: &mut Vec<Finding>) {
    let count = thing.attributes.len();
    let path = format!("{properties}.AttributePayload");
    let rule = "template.attribute-count";
    if let Err(error) = attributes_allowed(count, true) {
        findings.push(Finding::error(rule, &path, error.to_string()));
    } else if thing.type_name.is_none()
        && let Err(error) = attributes_allowed(count, false)
    {
        findings.push(
            Finding::warning(rule, &path, error.to_string())
                .remedy("give the thing a ThingTypeName, or leave attributes out"),
        );
    }
}

/// Which certificate it is: the one that connects or was just made; for `RegisterThing` exactly one
/// of three ways to name it.
fn lint_source(
    certificate: &CertificateBody,
    usage: Usage,
    properties: &str,
    findings: &mut Vec<Finding>,
) {
    let rule = "template.certificate-source";
    let others = [&certificate.csr, &certificate.pem, &certificate.ca_pem];
    if usage != Usage::RegisterThing {
        lint_id(certificate, usage, properties, findings);
        for place in others.into_iter().flatten() {
            let message = format!("a {usage} template takes CertificateId only");
            findings.push(Finding::error(rule, &place.path, message));
        }
        return;
    }
    let ways = [&certificate.id, &certificate.csr, &certificate.pem];
    let given = ways.into_iter().flatten().count();
    if given != 1 {
        let message = format!(
            "{given} of CertificateId, CertificateSigningRequest and CertificatePem are given; \
             exactly one is needed"
        );
        findings.push(Finding::error(rule, properties, message));
    }
    if let (Some(place), None) = (&certificate.ca_pem, &certificate.pem) {
        let message = "CACertificatePem goes with CertificatePem";
        findings.push(Finding::warning(rule, &place.path, message));
    }
}

fn lint_id(
    certificate: &CertificateBody,
    usage: Usage,
    properties: &str,
    findings: &mut Vec<Finding>,
) {
    let wanted = Value::Ref(format!("{CERTIFICATE_PREFIX}Id"));
    let path = format!("{properties}.CertificateId");
    let message = match &certificate.id {
        None => "is missing",
        Some(place) if usage == Usage::Jitp && place.value != wanted => {
            "is not the connecting certificate"
        }
        Some(_) => return,
    };
    findings.push(
        Finding::error("template.certificate-id", &path, message)
            .remedy("write {\"Ref\":\"AWS::IoT::Certificate::Id\"}"),
    );
}
