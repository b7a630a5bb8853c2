//! Text → [`Template`]. Grammar errors are collected, each with its JSON path; what can be
//! understood but will be refused becomes a finding of the lint.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::{
    Body, CertificateBody, Located, MAX_CHARACTERS, Override, Overrides, PolicyBody, Resource,
    Template, ThingBody, Tree, Value,
};
use crate::core::finding::Finding;
use crate::core::json::{self, JsonError, child, item, kind_of};
use crate::explain::{Explain, Kind};

/// The deepest nesting we read. AWS's own examples need 9.
const MAX_DEPTH: usize = 32;

/// One place where a template breaks the grammar.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Problem {
    /// JSON path.
    pub path: String,
    /// What is wrong there.
    pub message: String,
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
            other => vec![Problem {
                path: "$".to_owned(),
                message: other.to_string(),
            }],
        }
    }
}

fn summary(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
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
            _ => Err(TemplateError::Grammar(reader.problems)),
        }
    }
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    notes: Vec<Finding>,
}

impl Reader {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn object<'a>(&mut self, json: &'a Json, path: &str) -> Option<&'a Map<String, Json>> {
        let map = json.as_object();
        if map.is_none() {
            self.problem(path, format!("expected an object, found {}", kind_of(json)));
        }
        map
    }

    fn text(&mut self, json: &Json, path: &str) -> Option<String> {
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
            self.notes.push(finding.remedy(
                "remove it; only Parameters, Resources, and in fleet provisioning Mappings and \
                 DeviceConfiguration are known",
            ));
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
            self.parameter_members(body, &path);
            let default = body
                .get("Default")
                .and_then(|json| self.text(json, &child(&path, "Default")));
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
            .filter_map(|(name, json)| self.resource(json, &child("$.Resources", name)))
            .collect()
    }

    fn resource(&mut self, json: &Json, path: &str) -> Option<Resource> {
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
        let body = match &kind[..] {
            "AWS::IoT::Thing" => {
                let mut thing = self.thing(properties, &properties_path);
                thing.overrides = self.thing_overrides(overrides, &override_path);
                Body::Thing(Box::new(thing))
            }
            "AWS::IoT::Certificate" => {
                let mut certificate = self.certificate(properties, &properties_path);
                certificate.status_override = self.status_override(overrides, &override_path);
                Body::Certificate(Box::new(certificate))
            }
            "AWS::IoT::Policy" => {
                self.no_overrides(overrides, &override_path);
                Body::Policy(self.policy(properties, &properties_path))
            }
            other => {
                let known = "AWS::IoT::Thing, AWS::IoT::Certificate or AWS::IoT::Policy";
                self.problem(&type_path, format!("`{other}` is not {known}"));
                return None;
            }
        };
        Some(Resource {
            path: path.to_owned(),
            body,
        })
    }

    fn no_overrides(&mut self, json: Option<&Json>, path: &str) {
        if json.is_some() {
            let message = "a policy has no override settings";
            self.notes
                .push(Finding::error("template.override", path, message));
        }
    }

    fn unknown(&mut self, map: &Map<String, Json>, known: &[&str], path: &str) {
        for key in map.keys().filter(|key| !known.contains(&&key[..])) {
            let message = format!("`{key}` is not known here; known are {}", known.join(", "));
            let finding = Finding::error("template.property", &child(path, key), message);
            self.notes.push(finding);
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
            Some(other) => {
                let found = kind_of(other);
                self.problem(
                    path,
                    format!("expected a list of group names, found {found}"),
                );
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

    fn tree(&mut self, json: &Json, path: &str) -> Option<Tree> {
        match json {
            Json::String(_) => self.value(json, path).map(Tree::Value),
            Json::Object(map) if is_function(map) => self.value(json, path).map(Tree::Value),
            Json::Object(map) => map
                .iter()
                .map(|(key, json)| Some((key.clone(), self.tree(json, &child(path, key))?)))
                .collect::<Option<Vec<_>>>()
                .map(Tree::Object),
            Json::Array(all) => all
                .iter()
                .enumerate()
                .map(|(n, json)| self.tree(json, &item(path, n)))
                .collect::<Option<Vec<_>>>()
                .map(Tree::List),
            other => Some(Tree::Literal(other.clone())),
        }
    }

    fn thing_overrides(&mut self, json: Option<&Json>, path: &str) -> Overrides {
        let mut overrides = Overrides::default();
        for (key, json) in json
            .and_then(|json| self.object(json, path))
            .into_iter()
            .flatten()
        {
            let path = child(path, key);
            let (slot, merge) = match &key[..] {
                "AttributePayload" | "ATTRIBUTE_PAYLOAD" => (&mut overrides.attributes, true),
                "ThingGroups" | "THING_GROUPS" => (&mut overrides.groups, true),
                "ThingTypeName" | "THING_TYPE_NAME" => (&mut overrides.type_name, false),
                _ => {
                    let message =
                        "not a setting; known are AttributePayload, ThingTypeName, ThingGroups";
                    let finding = Finding::error("template.override", &path, message);
                    self.notes.push(finding);
                    continue;
                }
            };
            if let Some(value) = self.override_value(json, &path, merge) {
                *slot = value;
            }
            self.snake(key, &path);
        }
        overrides
    }

    fn status_override(&mut self, json: Option<&Json>, path: &str) -> Override {
        let mut status = Override::default();
        for (key, json) in json
            .and_then(|json| self.object(json, path))
            .into_iter()
            .flatten()
        {
            let path = child(path, key);
            if !["Status", "STATUS"].contains(&&key[..]) {
                let message = "not a setting; a certificate has only Status";
                let finding = Finding::error("template.override", &path, message);
                self.notes.push(finding);
                continue;
            }
            status = self.override_value(json, &path, false).unwrap_or_default();
            self.snake(key, &path);
        }
        status
    }

    fn override_value(&mut self, json: &Json, path: &str, merge: bool) -> Option<Override> {
        let text = self.text(json, path)?;
        match &text[..] {
            "DO_NOTHING" => Some(Override::DoNothing),
            "REPLACE" => Some(Override::Replace),
            "FAIL" => Some(Override::Fail),
            "MERGE" if merge => Some(Override::Merge),
            other => {
                let allowed = if merge { ", FAIL or MERGE" } else { " or FAIL" };
                let message = format!("`{other}` is not DO_NOTHING, REPLACE{allowed}");
                self.notes
                    .push(Finding::error("template.override", path, message));
                None
            }
        }
    }

    fn snake(&mut self, key: &str, path: &str) {
        if key.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            let message = format!("`{key}` is spelt as in the guide's prose, not its examples");
            self.notes.push(
                Finding::warning("template.override-key", path, message)
                    .remedy("write AttributePayload, ThingTypeName, ThingGroups or Status"),
            );
        }
    }

    /// A flat object of name → value.
    fn flat(&mut self, json: Option<&Json>, path: &str) -> Vec<(String, Located)> {
        let map = json.and_then(|json| self.object(json, path));
        let mut all = Vec::new();
        for (name, json) in map.into_iter().flatten() {
            let path = child(path, name);
            if let Some(value) = self.value(json, &path) {
                all.push((name.clone(), Located { path, value }));
            }
        }
        all
    }

    fn located(&mut self, map: &Map<String, Json>, key: &str, path: &str) -> Option<Located> {
        let path = child(path, key);
        let value = self.value(map.get(key)?, &path)?;
        Some(Located { path, value })
    }

    fn value(&mut self, json: &Json, path: &str) -> Option<Value> {
        let map = match json {
            Json::String(text) => return Some(Value::Text(text.clone())),
            Json::Object(map) if map.len() == 1 => map,
            other => {
                let found = match other {
                    Json::Object(_) => "an object that is neither",
                    other => kind_of(other),
                };
                self.problem(
                    path,
                    format!("expected a string, a Ref or a function, found {found}"),
                );
                return None;
            }
        };
        let (name, argument) = map.iter().next()?;
        self.function(name, argument, &child(path, name))
    }

    fn function(&mut self, name: &str, argument: &Json, path: &str) -> Option<Value> {
        match (name, argument) {
            ("Ref", json) => self.text(json, path).map(Value::Ref),
            ("Fn::Join", Json::Array(all)) if all.len() == 2 => {
                let delimiter = self.text(&all[0], &item(path, 0))?;
                match self.value_or_list(&all[1], &item(path, 1))? {
                    Value::List(values) => Some(Value::Join(delimiter, values)),
                    // A function that yields a list, such as Fn::Split.
                    other => Some(Value::Join(delimiter, vec![other])),
                }
            }
            ("Fn::Select", Json::Array(all)) if all.len() == 2 => {
                let index = match &all[0] {
                    Json::Number(number) => Value::Text(number.to_string()),
                    other => self.value(other, &item(path, 0))?,
                };
                let list = self.value_or_list(&all[1], &item(path, 1))?;
                Some(Value::Select(Box::new(index), Box::new(list)))
            }
            ("Fn::FindInMap", Json::Array(all)) if all.len() == 3 => {
                let map = self.text(&all[0], &item(path, 0))?;
                let first = self.value(&all[1], &item(path, 1))?;
                let second = self.value(&all[2], &item(path, 2))?;
                Some(Value::FindInMap(map, Box::new(first), Box::new(second)))
            }
            ("Fn::Split", Json::Array(all)) if all.len() == 2 => {
                let delimiter = self.text(&all[0], &item(path, 0))?;
                let source = self.value(&all[1], &item(path, 1))?;
                Some(Value::Split(delimiter, Box::new(source)))
            }
            ("Fn::Sub", Json::String(text)) => Some(Value::Sub(text.clone(), BTreeMap::new())),
            ("Fn::Sub", Json::Array(all)) if all.len() == 2 => {
                let text = self.text(&all[0], &item(path, 0))?;
                let own = self.flat(Some(&all[1]), &item(path, 1));
                let own = own.into_iter().map(|(k, v)| (k, v.value)).collect();
                Some(Value::Sub(text, own))
            }
            _ => {
                self.problem(path, wrong_function(name));
                None
            }
        }
    }

    fn value_or_list(&mut self, json: &Json, path: &str) -> Option<Value> {
        let Json::Array(all) = json else {
            return self.value(json, path);
        };
        all.iter()
            .enumerate()
            .map(|(n, json)| self.value(json, &item(path, n)))
            .collect::<Option<Vec<_>>>()
            .map(Value::List)
    }
}

fn is_function(map: &Map<String, Json>) -> bool {
    map.len() == 1
        && map
            .keys()
            .all(|key| key == "Ref" || key.starts_with("Fn::"))
}

fn wrong_function(name: &str) -> String {
    let shape = match name {
        "Fn::Join" => "[delimiter, [values]]",
        "Fn::Select" => "[index, [values]]",
        "Fn::FindInMap" => "[map, key, key]",
        "Fn::Split" => "[delimiter, value]",
        "Fn::Sub" => "a string, or [string, {name: value}]",
        other => {
            return format!(
                "`{other}` is not a function; known are Ref, Fn::Join, Fn::Select, \
                 Fn::FindInMap, Fn::Split and Fn::Sub"
            );
        }
    };
    format!("{name} takes {shape}")
}
