//! [`Template`] + parameters → [`Plan`]: what is to be made, every name checked.

use std::collections::BTreeMap;

use super::eval::Evaluator;
use super::{Body, CertificateBody, Located, PolicyBody, Template, ThingBody, Tree, Usage};
use super::{auto_policy_name, policy_problem};
use crate::core::ids::{IdError, PolicyName, ThingName};
use crate::core::status::CertificateStatus;
use crate::explain::{Explain, Kind};

/// The most attributes of a thing without a type, and with one (AWS IoT quotas).
const ATTRIBUTES_WITHOUT_TYPE: usize = 3;
const ATTRIBUTES_WITH_TYPE: usize = 50;
/// The most static groups of one thing (AWS IoT quota).
pub const GROUPS_PER_THING: usize = 10;
/// The most policies on one certificate (AWS IoT quota).
pub const POLICIES_PER_CERTIFICATE: usize = 10;

/// What a template makes for one device.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Plan {
    /// The thing, if the template has one.
    pub thing: Option<ThingPlan>,
    /// What becomes of the certificate.
    pub certificate: CertificatePlan,
    /// The policies to attach, in the template's order.
    pub policies: Vec<PolicyPlan>,
    /// What the device is told (`DeviceConfiguration`), in fleet provisioning.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub device_configuration: BTreeMap<String, String>,
}

/// The thing to make.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct ThingPlan {
    /// Its name.
    pub name: ThingName,
    /// Its type, which must exist.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Groups to join, which must exist.
    pub groups: Vec<ThingName>,
    /// The billing group to join.
    pub billing_group: Option<ThingName>,
    /// What to do when the thing is there already.
    pub overrides: Overrides,
}

/// Which certificate it is.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSource {
    /// The template has none.
    #[default]
    None,
    /// One that is registered, by its id: the one that connects, or that was just made.
    Id(String),
    /// One that AWS IoT makes for this request (PEM).
    Request(String),
    /// One that is registered now (PEM), signed by a registered CA.
    Pem {
        /// The certificate.
        certificate: String,
        /// Its CA.
        ca: Option<String>,
    },
}

/// What becomes of the certificate.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct CertificatePlan {
    /// Which one it is.
    pub source: CertificateSource,
    /// The status to set last: ACTIVE or INACTIVE.
    pub status: CertificateStatus,
    /// What to do when the certificate has another status already.
    pub status_override: Override,
    /// Whether the thing may have no other principal (`ThingPrincipalType: EXCLUSIVE_THING`).
    pub exclusive: bool,
}

impl Default for CertificatePlan {
    fn default() -> Self {
        Self {
            source: CertificateSource::None,
            status: CertificateStatus::Active,
            status_override: Override::default(),
            exclusive: false,
        }
    }
}

/// A policy to attach.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyPlan {
    /// One that must exist.
    Named(PolicyName),
    /// One that the template writes out.
    Document {
        /// Its name: a hash of the document, see [`auto_policy_name`].
        name: PolicyName,
        /// The document; empty where it is left out.
        #[serde(skip_serializing_if = "String::is_empty")]
        document: String,
    },
}

impl PolicyPlan {
    /// The policy's name.
    pub fn name(&self) -> &PolicyName {
        match self {
            Self::Named(name) | Self::Document { name, .. } => name,
        }
    }
}

/// What to do when something is there already (`OverrideSettings`). The default is not
/// documented; keeping what is there is the choice that destroys nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Override {
    /// Keep what is there.
    #[default]
    DoNothing,
    /// Fail.
    Fail,
    /// Add to what is there.
    Merge,
    /// Replace it.
    Replace,
}

/// Override settings of a thing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Overrides {
    /// `AttributePayload`.
    pub attributes: Override,
    /// `ThingGroups`.
    pub groups: Override,
    /// `ThingTypeName`; never [`Override::Merge`].
    pub type_name: Override,
}

/// Why a template cannot be run with these parameters.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// An attribute that AWS IoT refuses.
    #[error("{path}: the attribute value `{value}` is refused: {rule}")]
    Attribute {
        /// JSON path.
        path: String,
        /// The value, shortened to 80 characters.
        value: String,
        /// The rule, in words.
        rule: &'static str,
    },
    /// More attributes than a thing may have.
    #[error("{count} attributes; a thing {} a type takes at most {most}", if *most > ATTRIBUTES_WITHOUT_TYPE { "with" } else { "without" })]
    AttributeCount {
        /// How many.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// A function that cannot be evaluated, or yields the wrong kind of value.
    #[error("{path}: {problem}")]
    Function {
        /// JSON path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A name that AWS IoT refuses.
    #[error("{path}: {problem}")]
    Name {
        /// JSON path.
        path: String,
        /// The rule and the value.
        problem: NameProblem,
    },
    /// A parameter is declared, but has neither a value nor a default.
    #[error("the parameter `{name}` is declared, but has no value")]
    NoValue {
        /// The parameter.
        name: String,
    },
    /// A parameter's value that the API does not take.
    #[error("the value of parameter `{name}` has more than 4096 characters")]
    ParameterLong {
        /// The parameter.
        name: String,
    },
    /// A policy document that AWS IoT refuses.
    #[error("{path}: {problem}")]
    Policy {
        /// JSON path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A property that is missing, or has a value that is not one of its own.
    #[error("{path}: {problem}")]
    Property {
        /// JSON path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A status that a template cannot set.
    #[error("{path}: the status `{value}` is neither ACTIVE nor INACTIVE")]
    Status {
        /// JSON path.
        path: String,
        /// The value, shortened to 80 characters.
        value: String,
    },
    /// `Ref` to a parameter that is not declared.
    #[error("{path}: the parameter `{name}` is not declared")]
    Undeclared {
        /// JSON path.
        path: String,
        /// The parameter.
        name: String,
    },
}

/// A value that is not a good name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{value}` is not a {what}: {rule}")]
pub struct NameProblem {
    /// What it was meant to be.
    pub what: &'static str,
    /// The rule, in words.
    pub rule: &'static str,
    /// The value, shortened to 80 characters.
    pub value: String,
}

impl Explain for RenderError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Attribute { .. } => "template.attribute-value",
            Self::AttributeCount { .. } => "template.attribute-count",
            Self::Function { .. } => "template.function",
            Self::Name { .. } => "template.name",
            Self::NoValue { .. } => "template.no-value",
            Self::ParameterLong { .. } => "template.parameter-size",
            Self::Policy { .. } => "template.policy-document",
            Self::Property { .. } => "template.property",
            Self::Status { .. } => "template.status",
            Self::Undeclared { .. } => "template.ref-undeclared",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoValue { name } => match name.strip_prefix(super::CERTIFICATE_PREFIX) {
                Some(part) => Some(format!(
                    "give the certificate's subject a {part}, or remove the parameter from the \
                     template"
                )),
                None => Some(format!(
                    "give it with --parameter {name}=VALUE, or a Default in the template"
                )),
            },
            Self::AttributeCount { .. } => {
                Some("give the thing a ThingTypeName, or leave attributes out".into())
            }
            _ => None,
        }
    }
}

impl RenderError {
    /// Where in the template, when it is at one place.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Attribute { path, .. }
            | Self::Function { path, .. }
            | Self::Name { path, .. }
            | Self::Policy { path, .. }
            | Self::Property { path, .. }
            | Self::Status { path, .. }
            | Self::Undeclared { path, .. } => Some(path),
            Self::AttributeCount { .. } | Self::NoValue { .. } | Self::ParameterLong { .. } => None,
        }
    }
}

impl Template {
    /// What the template makes, given the parameters' values. Values of parameters that are not
    /// declared are ignored. In JITP every declared parameter must have a value; elsewhere every
    /// one that is used.
    ///
    /// # Errors
    /// `template.*`: a parameter without a value, a function that fails, or a name, attribute or
    /// policy document that AWS IoT refuses; each names its JSON path.
    pub fn render(
        &self,
        usage: impl Into<Usage>,
        values: &BTreeMap<String, String>,
    ) -> Result<Plan, RenderError> {
        let usage = usage.into();
        if usage == Usage::Jitp
            && let Some(name) = self.missing_parameters(values).first()
        {
            return Err(RenderError::NoValue {
                name: (*name).to_owned(),
            });
        }
        let renderer = Renderer(Evaluator {
            template: self,
            values,
            usage,
        });
        let mut plan = Plan {
            thing: None,
            certificate: CertificatePlan::default(),
            policies: Vec::new(),
            device_configuration: BTreeMap::new(),
        };
        for resource in &self.resources {
            match &resource.body {
                Body::Thing(thing) => plan.thing = Some(renderer.thing(thing, &resource.path)?),
                Body::Certificate(body) => plan.certificate = renderer.certificate(body)?,
                Body::Policy(body) => plan.policies.push(renderer.policy(body, &resource.path)?),
            }
        }
        for (key, place) in &self.device_configuration {
            let value = renderer.text(place)?;
            plan.device_configuration.insert(key.clone(), value);
        }
        Ok(plan)
    }
}

struct Renderer<'a>(Evaluator<'a>);

impl Renderer<'_> {
    fn text(&self, place: &Located) -> Result<String, RenderError> {
        self.0.text(&place.value, &place.path)
    }

    fn name(&self, place: &Located) -> Result<ThingName, RenderError> {
        parse_name(&self.text(place)?, &place.path)
    }

    fn thing(&self, body: &ThingBody, path: &str) -> Result<ThingPlan, RenderError> {
        let Some(name) = &body.name else {
            return Err(RenderError::Property {
                path: format!("{path}.Properties.ThingName"),
                problem: "is missing".into(),
            });
        };
        let name = self.name(name)?;
        let attributes = self.attributes(body)?;
        let type_name = body.type_name.as_ref().map(|p| self.name(p)).transpose()?;
        let filled = attributes.values().filter(|value| !value.is_empty());
        attributes_allowed(filled.count(), type_name.is_some())?;
        let billing_group = body.billing_group.as_ref();
        Ok(ThingPlan {
            name,
            type_name,
            attributes,
            groups: self.groups(body, path)?,
            billing_group: billing_group.map(|p| self.name(p)).transpose()?,
            overrides: body.overrides,
        })
    }

    fn attributes(&self, body: &ThingBody) -> Result<BTreeMap<String, String>, RenderError> {
        let mut attributes = BTreeMap::new();
        for (key, place) in &body.attributes {
            let value = self.text(place)?;
            if let Some(rule) = attribute_problem(key, &value) {
                return Err(RenderError::Attribute {
                    path: place.path.clone(),
                    value: value.chars().take(80).collect(),
                    rule,
                });
            }
            attributes.insert(key.clone(), value);
        }
        Ok(attributes)
    }

    fn groups(&self, body: &ThingBody, path: &str) -> Result<Vec<ThingName>, RenderError> {
        let mut groups = Vec::new();
        for place in &body.groups {
            for text in self.0.texts(&place.value, &place.path)? {
                groups.push(parse_name(&text, &place.path)?);
            }
        }
        if groups.len() > GROUPS_PER_THING {
            return Err(RenderError::Property {
                path: format!("{path}.Properties.ThingGroups"),
                problem: format!("{} groups; a thing is in at most 10", groups.len()),
            });
        }
        Ok(groups)
    }

    fn certificate(&self, body: &CertificateBody) -> Result<CertificatePlan, RenderError> {
        let status = match &body.status {
            None => CertificateStatus::Active,
            Some(place) => {
                let text = self.text(place)?;
                planned_status(&text).ok_or_else(|| RenderError::Status {
                    path: place.path.clone(),
                    value: text.chars().take(80).collect(),
                })?
            }
        };
        Ok(CertificatePlan {
            source: self.source(body)?,
            status,
            status_override: body.status_override,
            exclusive: self.exclusive(body)?,
        })
    }

    fn exclusive(&self, body: &CertificateBody) -> Result<bool, RenderError> {
        let Some(place) = &body.principal_type else {
            return Ok(false);
        };
        match &self.text(place)?[..] {
            "EXCLUSIVE_THING" => Ok(true),
            "NON_EXCLUSIVE_THING" => Ok(false),
            other => {
                let other: String = other.chars().take(80).collect();
                Err(RenderError::Property {
                    path: place.path.clone(),
                    problem: format!(
                        "`{other}` is neither EXCLUSIVE_THING nor NON_EXCLUSIVE_THING"
                    ),
                })
            }
        }
    }

    fn source(&self, body: &CertificateBody) -> Result<CertificateSource, RenderError> {
        if let Some(place) = &body.id {
            return self.text(place).map(CertificateSource::Id);
        }
        if let Some(place) = &body.csr {
            return self.text(place).map(CertificateSource::Request);
        }
        let Some(place) = &body.pem else {
            return Ok(CertificateSource::None);
        };
        let ca = body.ca_pem.as_ref().map(|place| self.text(place));
        Ok(CertificateSource::Pem {
            certificate: self.text(place)?,
            ca: ca.transpose()?,
        })
    }

    fn policy(&self, body: &PolicyBody, path: &str) -> Result<PolicyPlan, RenderError> {
        if let Some(place) = &body.name {
            return parse_name(&self.text(place)?, &place.path).map(PolicyPlan::Named);
        }
        let Some((path, tree)) = &body.document else {
            return Err(RenderError::Policy {
                path: format!("{path}.Properties"),
                problem: "neither PolicyName nor PolicyDocument is given".into(),
            });
        };
        let document = match tree {
            Tree::Value(value) => self.0.text(value, path)?,
            tree => self.0.tree(tree, path)?.to_string(),
        };
        if let Some(problem) = policy_problem(&document) {
            return Err(RenderError::Policy {
                path: path.clone(),
                problem,
            });
        }
        Ok(PolicyPlan::Document {
            name: parse_name(&auto_policy_name(&document), path)?,
            document,
        })
    }
}

/// `ACTIVE` and `INACTIVE` in any case: AWS's own examples write `Active`.
pub(super) fn planned_status(text: &str) -> Option<CertificateStatus> {
    match text.to_ascii_uppercase().as_str() {
        "ACTIVE" => Some(CertificateStatus::Active),
        "INACTIVE" => Some(CertificateStatus::Inactive),
        _ => None,
    }
}

fn parse_name<T: std::str::FromStr<Err = IdError>>(
    text: &str,
    path: &str,
) -> Result<T, RenderError> {
    text.parse().map_err(|error: IdError| RenderError::Name {
        path: path.to_owned(),
        problem: NameProblem {
            what: error.what,
            rule: error.rule,
            value: error.value,
        },
    })
}

/// Whether a thing may have this many attributes.
///
/// # Errors
/// `template.attribute-count`.
pub fn attributes_allowed(count: usize, typed: bool) -> Result<(), RenderError> {
    let most = if typed {
        ATTRIBUTES_WITH_TYPE
    } else {
        ATTRIBUTES_WITHOUT_TYPE
    };
    if count > most {
        return Err(RenderError::AttributeCount { count, most });
    }
    Ok(())
}

/// The rule that a thing attribute breaks; `None` when AWS IoT takes it (patterns of the API
/// model: name up to 128, value up to 800 characters, no spaces in either).
pub fn attribute_problem(name: &str, value: &str) -> Option<&'static str> {
    let fits = |text: &str, extra: &[u8]| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.,@/:#-".contains(&b) || extra.contains(&b))
    };
    if name.is_empty() || name.len() > 128 || !fits(name, b"") {
        return Some("an attribute name has 1 to 128 letters, digits or `_.,@/:#-`");
    }
    if value.len() > 800 || !fits(value, b"=[]") {
        return Some(
            "an attribute value has up to 800 letters, digits or `_.,@/:#=[]-`, and no spaces",
        );
    }
    None
}
