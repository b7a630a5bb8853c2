//! AWS IoT provisioning templates: parsed, linted, and rendered into a plan of what is made.
//!
//! The grammar is that of the AWS IoT developer guide ("Provisioning templates"). Templates are
//! small (10 240 characters), so everything is kept in memory and every place has a JSON path.

mod access;
mod eval;
mod existing;
mod existing_file;
mod foresee;
mod lint;
mod lint_device;
mod lint_profile;
mod lint_resources;
mod parse;
mod policy_text;
mod reason;
mod render;
mod settings;
mod shipped;
mod usage;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use access::{Access, Gate};
pub use existing::{
    Conflict, Effect, ExistingThing, Outcome, StatusChange, ThingChange, merge_attributes,
    status_change, thing_change,
};
pub use existing_file::ExistingThings;
pub use foresee::{Asked, Foreseen, Step};
pub use lint_device::{Prerequisite, PrerequisiteKind};
pub use lint_profile::Subjects;
pub use parse::{Problem, TemplateError};
pub use policy_text::{auto_policy_name, policy_problem};
pub use reason::Reason;
pub use render::{
    CertificatePlan, CertificateSource, GROUPS_PER_THING, Override, Overrides,
    POLICIES_PER_CERTIFICATE, Plan, PolicyPlan, RenderError, ThingPlan, attribute_problem,
    attributes_allowed,
};

pub use shipped::{DEVICE_POLICY, Shipped, ShippedPolicy, fill_place, shipped};
pub use usage::Usage;

use crate::core::finding::Finding;
use crate::core::ids::{CertificateId, IdError};
use crate::core::subject::{ATTRIBUTES, Subject};

/// The most characters of a template's body (`templateBody` in the API model).
pub const MAX_CHARACTERS: usize = 10_240;

/// The most characters of a parameter's name (`parameterKey` of the API model).
pub const MAX_PARAMETER_NAME: usize = 2048;

/// The most characters of a parameter's value (`parameterValue` of the API model).
pub const MAX_PARAMETER_VALUE: usize = 4096;

fn too_long(value: &str) -> bool {
    value.len() > MAX_PARAMETER_VALUE && value.chars().count() > MAX_PARAMETER_VALUE
}

/// What starts the name of every parameter that AWS IoT fills in from a certificate.
pub const CERTIFICATE_PREFIX: &str = "AWS::IoT::Certificate::";

/// How a template is used (`type` of a provisioning template).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TemplateKind {
    /// Run by AWS IoT when a device connects for the first time with a certificate of a
    /// registered CA.
    Jitp,
    /// Run when a device asks for it over MQTT.
    FleetProvisioning,
}

impl TemplateKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jitp => "JITP",
            Self::FleetProvisioning => "FLEET_PROVISIONING",
        }
    }
}

impl fmt::Display for TemplateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TemplateKind {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "JITP" => Ok(Self::Jitp),
            "FLEET_PROVISIONING" => Ok(Self::FleetProvisioning),
            other => Err(IdError {
                what: "template type",
                rule: "JITP or FLEET_PROVISIONING",
                value: other.chars().take(80).collect(),
            }),
        }
    }
}

/// What a resource of a template is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResourceKind {
    /// `AWS::IoT::Thing`.
    Thing,
    /// `AWS::IoT::Certificate`.
    Certificate,
    /// `AWS::IoT::Policy`.
    Policy,
}

/// A parsed template. What is wrong but understood is kept for [`Template::lint`].
#[derive(Clone, Debug)]
pub struct Template {
    parameters: BTreeMap<String, Option<String>>,
    mappings: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
    resources: Vec<Resource>,
    device_configuration: Vec<(String, Located)>,
    has_device_configuration: bool,
    has_mappings: bool,
    notes: Vec<Finding>,
}

impl Template {
    /// Every declared parameter with its default.
    pub fn parameters(&self) -> &BTreeMap<String, Option<String>> {
        &self.parameters
    }

    /// The logical names of its resources with what they are, in its order.
    pub fn resources(&self) -> impl Iterator<Item = (&str, ResourceKind)> {
        self.resources.iter().map(|resource| {
            let kind = match &resource.body {
                Body::Thing(_) => ResourceKind::Thing,
                Body::Certificate(_) => ResourceKind::Certificate,
                Body::Policy(_) => ResourceKind::Policy,
            };
            (&resource.name[..], kind)
        })
    }

    /// What a parameter resolves to: the caller's value, else its default.
    pub(crate) fn resolve<'a>(
        &'a self,
        name: &str,
        values: &'a BTreeMap<String, String>,
    ) -> Option<&'a str> {
        let default = || self.parameters.get(name)?.as_ref();
        let value = values.get(name).or_else(default);
        value.map(|value| &value[..])
    }

    /// The declared parameters that `values` leaves without a value and that have no default.
    pub fn missing_parameters(&self, values: &BTreeMap<String, String>) -> Vec<&str> {
        self.parameters
            .iter()
            .filter(|(name, default)| default.is_none() && !values.contains_key(*name))
            .map(|(name, _)| &name[..])
            .collect()
    }
}

/// The parameters that JITP gives a template: those of the subject that have a value (the first
/// one when an attribute is repeated), and the certificate's id.
pub fn jitp_parameters(subject: &Subject, id: &CertificateId) -> BTreeMap<String, String> {
    let of_subject = ATTRIBUTES
        .iter()
        .filter_map(|(.., jitp)| *jitp)
        .filter_map(|name| Some((name, subject.jitp(name)?.to_owned())));
    of_subject
        .chain([("Id", id.to_string())])
        .map(|(name, value)| (format!("{CERTIFICATE_PREFIX}{name}"), value))
        .collect()
}

/// A value of the template language.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    Text(String),
    /// In a list only; choosing it fails.
    Null,
    List(Vec<Value>),
    Ref(String),
    Join(String, Vec<Value>),
    Select(Box<Value>, Box<Value>),
    FindInMap(String, Box<Value>, Box<Value>),
    Split(String, Box<Value>),
    Sub(String, BTreeMap<String, Value>),
}

impl Value {
    /// `Fn::Join` and so on; `None` for text, a list and `Ref`.
    fn function(&self) -> Option<&'static str> {
        match self {
            Self::Text(_) | Self::Null | Self::List(_) | Self::Ref(_) => None,
            Self::Join(..) => Some("Fn::Join"),
            Self::Select(..) => Some("Fn::Select"),
            Self::FindInMap(..) => Some("Fn::FindInMap"),
            Self::Split(..) => Some("Fn::Split"),
            Self::Sub(..) => Some("Fn::Sub"),
        }
    }

    /// This value and all inside it.
    fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Value)) {
        visit(self);
        match self {
            Self::Text(_) | Self::Null | Self::Ref(_) => {}
            Self::List(all) | Self::Join(_, all) => all.iter().for_each(|v| v.walk(visit)),
            Self::Select(a, b) | Self::FindInMap(_, a, b) => {
                a.walk(visit);
                b.walk(visit);
            }
            Self::Split(_, inner) => inner.walk(visit),
            Self::Sub(_, own) => own.values().for_each(|v| v.walk(visit)),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
struct Located {
    path: String,
    value: Value,
}

#[derive(Clone, Debug)]
struct Resource {
    /// Its logical name.
    name: String,
    path: String,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Thing(Box<ThingBody>),
    Certificate(Box<CertificateBody>),
    Policy(PolicyBody),
}

#[derive(Clone, Debug, Default)]
struct ThingBody {
    name: Option<Located>,
    type_name: Option<Located>,
    attributes: Vec<(String, Located)>,
    groups: Vec<Located>,
    billing_group: Option<Located>,
    overrides: Overrides,
}

#[derive(Clone, Debug, Default)]
struct CertificateBody {
    id: Option<Located>,
    csr: Option<Located>,
    pem: Option<Located>,
    ca_pem: Option<Located>,
    status: Option<Located>,
    principal_type: Option<Located>,
    status_override: Override,
}

#[derive(Clone, Debug, Default)]
struct PolicyBody {
    name: Option<Located>,
    document: Option<(String, Tree)>,
}

/// A policy document: one value that yields text, or JSON with values inside.
#[derive(Clone, Debug)]
enum Tree {
    Value(Value),
    Literal(serde_json::Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Each outermost value.
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a Value)) {
        match self {
            Self::Value(value) => visit(value),
            Self::Literal(_) => {}
            Self::List(all) => all.iter().for_each(|tree| tree.each(visit)),
            Self::Object(all) => all.iter().for_each(|(_, tree)| tree.each(visit)),
        }
    }

    fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Value)) {
        match self {
            Self::Value(value) => value.walk(visit),
            Self::Literal(_) => {}
            Self::List(all) => all.iter().for_each(|tree| tree.walk(visit)),
            Self::Object(all) => all.iter().for_each(|(_, tree)| tree.walk(visit)),
        }
    }
}

#[cfg(test)]
mod tests;
