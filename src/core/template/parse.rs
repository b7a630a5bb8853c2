//! Text → [`Template`]. Grammar errors are collected, each with its JSON path; what can be
//! understood but will be refused becomes a finding of the lint.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value as Json};

use super::{
    Body, CertificateBody, Located, MAX_CHARACTERS, MAX_PARAMETER_NAME, Override, Overrides,
    PolicyBody, Resource, Template, ThingBody, too_long,
};
use crate::core::finding::Finding;
use crate::core::json::{self, JsonError, Places, child, item, kind_of};
use crate::core::near::meant;
use crate::explain::{Explain, Kind};

/// The deepest nesting we read. AWS's own examples need 9.
const MAX_DEPTH: usize = 32;

/// One place where a template breaks the grammar.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Problem {
    /// JSON path.
    pub path: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its column, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path, line, column, ..
        } = self;
        write!(f, "line {line}, column {column}: {path}: {}", self.message)
    }
}

/// Text that is not a provisioning template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// JSON that is not in the grammar.
    #[error("{}", summary(.0))]
    Grammar(Vec<Problem>),
    /// Not JSON.
    #[error("the template is not JSON: {0}")]
    Json(#[from] JsonError),
    /// More than [`MAX_CHARACTERS`].
    #[error("the template has {0} characters; AWS IoT takes at most 10240")]
    Size(usize),
}

impl TemplateError {
    /// Every place that is wrong; one at `$` when the text as a whole is.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Grammar(problems) => problems.clone(),
            Self::Json(error) => vec![Problem {
                path: "$".to_owned(),
                line: error.line,
                column: error.column,
                message: self.to_string(),
            }],
            Self::Size(_) => vec![Problem {
                path: "$".to_owned(),
                line: 1,
                column: 1,
                message: self.to_string(),
            }],
        }
    }
}

fn summary(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl Explain for TemplateError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Grammar(_) => "template.grammar",
            Self::Json(_) => "template.json",
            Self::Size(_) => "template.size",
        }
    }
    fn hint(&self) -> Option<String> {
        Some("nameplate template new writes a template that is right".into())
    }
}

impl Template {
    /// Reads a template's body.
    ///
    /// # Errors
    /// `template.size`, `template.json`, or `template.grammar` with every place that is wrong.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let characters = text.chars().count();
        if characters > MAX_CHARACTERS {
            return Err(TemplateError::Size(characters));
        }
        let json = json::parse(text, MAX_DEPTH)?;
        let mut reader = Reader::default();
        let template = reader.template(&json);
        match template {
            Some(template) if reader.problems.is_empty() => Ok(template),
            _ => Err(TemplateError::Grammar(placed(reader.problems, text))),
        }
    }
}

/// Problems as the reader meets them, with their lines and columns.
fn placed(problems: Vec<(String, String)>, text: &str) -> Vec<Problem> {
    let places = Places::of(text);
    let place = |(path, message): (String, String)| {
        let (line, column) = places.find(&path);
        Problem {
            path,
            line,
            column,
            message,
        }
    };
    problems.into_iter().map(place).collect()
}

#[derive(Default)]
pub(super) struct Reader {
    /// Path and message.
    problems: Vec<(String, String)>,
    pub(super) notes: Vec<Finding>,
}

impl Reader {
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push((path.to_owned(), message.into()));
    }

    pub(super) fn object<'a>(
        &mut self,
        json: &'a Json,
        path: &str,
    ) -> Option<&'a Map<String, Json>> {
        let map = json.as_object();
        if map.is_none() {
            self.problem(path, format!("expected an object, found {}", kind_of(json)));
        }
        map
    }

    pub(super) fn text(&mut self, json: &Json, path: &str) -> Option<String> {
        let text = json.as_str();
        if text.is_none() {
            self.problem(path, format!("expected a string, found {}", kind_of(json)));
        }
        text.map(str::to_owned)
    }

    fn template(&mut self, json: &Json) -> Option<Template> {
        let map = self.object(json, "$")?;
        let known = ["Parameters", "Mappings", "Resources", "DeviceConfiguration"];
        for key in map.keys().filter(|key| !known.contains(&&key[..])) {
            let finding = Finding::error(
                "template.top-level",
                &child("$", key),
                format!("`{key}` is not part of a provisioning template"),
            );
            self.notes.push(
                finding.remedy(match meant(key, &known) {
                    Some(word) => format!("write `{word}`, if that was meant"),
                    None => "remove it; only Parameters, Resources, and in fleet provisioning \
                         Mappings and DeviceConfiguration are known"
                        .to_owned(),
                }),
            );
        }
        let parameters = self.parameters(map.get("Parameters"));
        let mappings = self.mappings(map.get("Mappings"));
        let resources = self.resources(map.get("Resources"));
        let device_configuration =
            self.flat(map.get("DeviceConfiguration"), "$.DeviceConfiguration");
        Some(Template {
            parameters,
            mappings,
            resources,
            device_configuration,
            has_device_configuration: map.contains_key("DeviceConfiguration"),
            has_mappings: map.contains_key("Mappings"),
            notes: std::mem::take(&mut self.notes),
        })
    }

    fn parameters(&mut self, json: Option<&Json>) -> BTreeMap<String, Option<String>> {
        let Some(map) = json.and_then(|json| self.object(json, "$.Parameters")) else {
            return BTreeMap::new();
        };
        let mut parameters = BTreeMap::new();
        for (name, json) in map {
            let path = child("$.Parameters", name);
            let Some(body) = self.object(json, &path) else {
                continue;
            };
            if name.chars().count() > MAX_PARAMETER_NAME {
                self.problem(&path, "the name has more than 2048 characters");
            }
            self.parameter_members(body, &path);
            let default = body
                .get("Default")
                .and_then(|json| self.text(json, &child(&path, "Default")));
            if default.as_ref().is_some_and(|text| too_long(text)) {
                let message = "the value has more than 4096 characters";
                self.problem(&child(&path, "Default"), message);
            }
            parameters.insert(name.clone(), default);
        }
        parameters
    }

    fn parameter_members(&mut self, body: &Map<String, Json>, path: &str) {
        if body.get("Type").and_then(Json::as_str) != Some("String") {
            self.problem(&child(path, "Type"), "must be \"String\", the only type");
        }
        for key in body
            .keys()
            .filter(|key| !["Type", "Default"].contains(&&key[..]))
        {
            let message = "a parameter has only Type and Default";
            let finding = Finding::error("template.parameter-key", &child(path, key), message);
            self.notes.push(finding);
        }
    }

    fn mappings(
        &mut self,
        json: Option<&Json>,
    ) -> BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>> {
        let mut mappings = BTreeMap::new();
        let maps = json.and_then(|json| self.object(json, "$.Mappings"));
        for (name, json) in maps.into_iter().flatten() {
            let path = child("$.Mappings", name);
            let mut keys = BTreeMap::new();
            for (key, json) in self.object(json, &path).into_iter().flatten() {
                let path = child(&path, key);
                let mut values = BTreeMap::new();
                for (second, json) in self.object(json, &path).into_iter().flatten() {
                    if let Some(text) = self.text(json, &child(&path, second)) {
                        values.insert(second.clone(), text);
                    }
                }
                keys.insert(key.clone(), values);
            }
            mappings.insert(name.clone(), keys);
        }
        mappings
    }

    fn resources(&mut self, json: Option<&Json>) -> Vec<Resource> {
        let Some(json) = json else {
            self.problem("$.Resources", "is missing");
            return Vec::new();
        };
        let map = self.object(json, "$.Resources");
        map.into_iter()
            .flatten()
            .filter_map(|(name, json)| self.resource(name, json))
            .collect()
    }

    fn resource(&mut self, name: &str, json: &Json) -> Option<Resource> {
        let path = &child("$.Resources", name)[..];
        let map = self.object(json, path)?;
        let known = ["Type", "Properties", "OverrideSettings"];
        self.unknown(map, &known, path);
        let type_path = child(path, "Type");
        let Some(kind) = map.get("Type") else {
            self.problem(&type_path, "is missing");
            return None;
        };
        let kind = self.text(kind, &type_path)?;
        let properties_path = child(path, "Properties");
        let empty = Map::new();
        let properties = match map.get("Properties") {
            Some(json) => self.object(json, &properties_path)?,
            None => &empty,
        };
        let overrides = map.get("OverrideSettings");
        let override_path = child(path, "OverrideSettings");
        let overrides = (overrides, &override_path[..]);
        let body = self.body(&kind, (properties, &properties_path), overrides);
        if body.is_none() {
            self.no_type(&kind, &type_path);
        }
        let body = body?;
        Some(Resource {
            name: name.to_owned(),
            path: path.to_owned(),
            body,
        })
    }

    /// By the resource's type; `None` when it is none.
    fn body(
        &mut self,
        kind: &str,
        (properties, path): (&Map<String, Json>, &str),
        (overrides, override_path): (Option<&Json>, &str),
    ) -> Option<Body> {
        match kind {
            "AWS::IoT::Thing" => {
                let mut thing = self.thing(properties, path);
                thing.overrides = self.thing_overrides(overrides, override_path);
                Some(Body::Thing(Box::new(thing)))
            }
            "AWS::IoT::Certificate" => {
                let mut certificate = self.certificate(properties, path);
                certificate.status_override = self.status_override(overrides, override_path);
                Some(Body::Certificate(Box::new(certificate)))
            }
            "AWS::IoT::Policy" => {
                self.no_overrides(overrides, override_path);
                Some(Body::Policy(self.policy(properties, path)))
            }
            _ => None,
        }
    }

    fn no_type(&mut self, kind: &str, path: &str) {
        let known = [
            "AWS::IoT::Thing",
            "AWS::IoT::Certificate",
            "AWS::IoT::Policy",
        ];
        let meant = meant(kind, &known)
            .map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
        let known = known.join(", ");
        self.problem(path, format!("`{kind}` is not one of {known}{meant}"));
    }

    fn unknown(&mut self, map: &Map<String, Json>, known: &[&str], path: &str) {
        for key in map.keys().filter(|key| !known.contains(&&key[..])) {
            let message = format!("`{key}` is not known here; known are {}", known.join(", "));
            let finding = Finding::error("template.property", &child(path, key), message);
            self.notes.push(match meant(key, known) {
                Some(word) => finding.remedy(format!("write `{word}`, if that was meant")),
                None => finding,
            });
        }
    }

    fn thing(&mut self, map: &Map<String, Json>, path: &str) -> ThingBody {
        let known = [
            "ThingName",
            "AttributePayload",
            "ThingTypeName",
            "ThingGroups",
            "BillingGroup",
        ];
        self.unknown(map, &known, path);
        let groups_path = child(path, "ThingGroups");
        ThingBody {
            name: self.located(map, "ThingName", path),
            type_name: self.located(map, "ThingTypeName", path),
            attributes: self.flat(
                map.get("AttributePayload"),
                &child(path, "AttributePayload"),
            ),
            groups: self.groups(map.get("ThingGroups"), &groups_path),
            billing_group: self.located(map, "BillingGroup", path),
            overrides: Overrides::default(),
        }
    }

    fn groups(&mut self, json: Option<&Json>, path: &str) -> Vec<Located> {
        match json {
            None => Vec::new(),
            Some(Json::Array(all)) => all
                .iter()
                .enumerate()
                .filter_map(|(n, json)| {
                    let path = item(path, n);
                    let value = self.value(json, &path)?;
                    Some(Located { path, value })
                })
                .collect(),
            // A function that yields a list.
            Some(Json::Object(_)) => json
                .and_then(|json| self.value(json, path))
                .map(|value| Located {
                    path: path.to_owned(),
                    value,
                })
                .into_iter()
                .collect(),
            Some(other) => {
                let found = kind_of(other);
                let message = format!("expected a list of group names, found {found}");
                self.problem(path, message);
                Vec::new()
            }
        }
    }

    fn certificate(&mut self, map: &Map<String, Json>, path: &str) -> CertificateBody {
        let known = [
            "CertificateId",
            "CertificateSigningRequest",
            "CertificatePem",
            "CACertificatePem",
            "Status",
            "ThingPrincipalType",
        ];
        self.unknown(map, &known, path);
        CertificateBody {
            id: self.located(map, "CertificateId", path),
            csr: self.located(map, "CertificateSigningRequest", path),
            pem: self.located(map, "CertificatePem", path),
            ca_pem: self.located(map, "CACertificatePem", path),
            status: self.located(map, "Status", path),
            principal_type: self.located(map, "ThingPrincipalType", path),
            status_override: Override::default(),
        }
    }

    fn policy(&mut self, map: &Map<String, Json>, path: &str) -> PolicyBody {
        self.unknown(map, &["PolicyName", "PolicyDocument"], path);
        let document_path = child(path, "PolicyDocument");
        let document = map
            .get("PolicyDocument")
            .and_then(|json| self.tree(json, &document_path));
        PolicyBody {
            name: self.located(map, "PolicyName", path),
            document: document.map(|tree| (document_path, tree)),
        }
    }
}
