//! Why a plan fails, taken apart: which resource, property, parameter, value and rule.

use std::collections::BTreeMap;

use super::eval::sub_names;
use super::{RenderError, Template, Value};
use crate::core::finding::Finding;
use crate::core::json::child;
use crate::explain::Explain;

/// Why a template makes nothing for a device.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Reason {
    /// The rule that is broken: `template.name`, as `nameplate explain` knows it.
    pub rule: &'static str,
    /// One line: what is so.
    pub message: String,
    /// Where in the template.
    pub path: String,
    /// The resource's logical name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The property: `ThingName`, `AttributePayload.sn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// The parameters that the property is made of, with their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Option<String>>,
    /// The value that is refused, shortened to 80 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Reason {
    /// The caller gives the certificate in a form that AWS IoT does not take.
    pub fn of_source(why: &str) -> Self {
        Self {
            rule: "template.certificate-source",
            ..Self::of_certificate(why)
        }
    }

    /// Something that must exist is not there.
    pub fn of_missing(finding: Finding) -> Self {
        Self {
            rule: finding.rule,
            message: finding.message,
            path: finding.path,
            remedy: finding.remedy,
            ..Self::of_certificate("")
        }
    }

    /// A certificate that AWS IoT does not register.
    pub fn of_certificate(why: &str) -> Self {
        Self {
            rule: "cert.key-unsupported",
            message: format!("AWS IoT does not register the certificate: {why}"),
            path: "$".to_owned(),
            resource: None,
            property: None,
            parameters: BTreeMap::new(),
            value: None,
            remedy: Some("`nameplate cert lint` says what to do".into()),
        }
    }
}

impl Template {
    /// The full name of a parameter that AWS IoT fills in: of `Id`, `AWS::IoT::Certificate::Id`.
    pub fn certificate_parameter(name: &str) -> String {
        format!("{}{name}", super::CERTIFICATE_PREFIX)
    }

    /// Takes an error of [`Template::render`] with these values apart.
    pub fn reason(&self, error: &RenderError, values: &BTreeMap<String, String>) -> Reason {
        let path = match (error, error.path()) {
            (_, Some(path)) => path.to_owned(),
            (RenderError::NoValue { name } | RenderError::ParameterLong { name }, None) => {
                child("$.Parameters", name)
            }
            (_, None) => self.attributes_path(),
        };
        let resource = self.resources.iter().find(|one| {
            let rest = path.strip_prefix(&one.path[..]);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        let property = resource
            .and_then(|one| {
                path.strip_prefix(&one.path[..])?
                    .strip_prefix(".Properties.")
            })
            .map(str::to_owned);
        Reason {
            rule: error.code(),
            message: error.to_string(),
            parameters: self.parameters_of(error, &path, values),
            resource: resource.map(|one| one.name.clone()),
            property,
            value: match error {
                RenderError::Attribute { value, .. } | RenderError::Status { value, .. } => {
                    Some(value.clone())
                }
                RenderError::Name { problem, .. } => Some(problem.value.clone()),
                _ => None,
            },
            remedy: error.hint(),
            path,
        }
    }

    fn attributes_path(&self) -> String {
        let thing = self.resources.iter().find(|one| {
            let super::Body::Thing(thing) = &one.body else {
                return false;
            };
            !thing.attributes.is_empty()
        });
        thing.map_or_else(
            || "$.Resources".to_owned(),
            |one| format!("{}.Properties.AttributePayload", one.path),
        )
    }

    fn parameters_of(
        &self,
        error: &RenderError,
        path: &str,
        values: &BTreeMap<String, String>,
    ) -> BTreeMap<String, Option<String>> {
        let mut names: Vec<&str> = match error {
            RenderError::NoValue { name }
            | RenderError::ParameterLong { name }
            | RenderError::Undeclared { name, .. } => vec![name],
            _ => Vec::new(),
        };
        if names.is_empty() {
            self.each_value(&mut |place, value| {
                if place == path {
                    names.extend(names_in(value));
                }
            });
        }
        let short = |text: &str| text.chars().take(80).collect();
        let resolved = |name: &str| self.resolve(name, values).map(short);
        names
            .into_iter()
            .map(|name| (name.to_owned(), resolved(name)))
            .collect()
    }
}

/// The parameters that a value itself names, but for those inside it.
pub(super) fn names_in(value: &Value) -> Vec<&str> {
    match value {
        Value::Ref(name) => vec![name],
        Value::Sub(text, own) => sub_names(text)
            .into_iter()
            .filter(|name| !own.contains_key(*name))
            .collect(),
        _ => Vec::new(),
    }
}
