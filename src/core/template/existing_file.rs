//! Things that are there, as AWS IoT describes them: the answer of `DescribeThing`, of `ListThings`,
//! or a list of such.

use std::collections::{BTreeMap, BTreeSet};

use super::ExistingThing;
use crate::core::ids::ThingName;
use crate::core::json::{self, JsonError};
use crate::core::status::CertificateStatus;

/// The deepest nesting of such a file.
const MAX_DEPTH: usize = 16;

/// Things by name.
#[derive(Clone, Debug, Default)]
pub struct ExistingThings {
    things: BTreeMap<ThingName, (ExistingThing, Option<CertificateStatus>)>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    thing_name: ThingName,
    thing_type_name: Option<ThingName>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    billing_group_name: Option<ThingName>,
    #[serde(default)]
    thing_group_names: BTreeSet<ThingName>,
    certificate_status: Option<CertificateStatus>,
}

impl ExistingThings {
    /// Reads the answer of `DescribeThing` or `ListThings`, or a list of things. To a thing may be
    /// added `thingGroupNames`, and `certificateStatus`, its certificate's.
    ///
    /// # Errors
    /// `json.syntax`.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let json = json::parse(text, MAX_DEPTH)?;
        let list = match json {
            serde_json::Value::Array(list) => list,
            serde_json::Value::Object(mut map) => match map.remove("things") {
                Some(serde_json::Value::Array(list)) => list,
                _ => vec![map.into()],
            },
            other => vec![other],
        };
        let mut things = BTreeMap::new();
        for (n, one) in list.into_iter().enumerate() {
            let described: Described = serde_json::from_value(one).map_err(|error| JsonError {
                line: 1,
                column: 1,
                reason: format!(
                    "thing number {} is not as AWS IoT describes one: {error}",
                    n + 1
                ),
            })?;
            let thing = ExistingThing {
                type_name: described.thing_type_name,
                attributes: described.attributes,
                groups: described.thing_group_names,
                billing_group: described.billing_group_name,
            };
            things.insert(described.thing_name, (thing, described.certificate_status));
        }
        Ok(Self { things })
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, name: ThingName, thing: ExistingThing) -> Self {
        self.things.insert(name, (thing, None));
        self
    }

    /// Of these things alone.
    #[must_use]
    pub fn only<'a>(&self, names: impl Iterator<Item = &'a ThingName>) -> Self {
        let known = names.filter_map(|name| self.things.get_key_value(name));
        let things = known
            .map(|(name, one)| (name.clone(), one.clone()))
            .collect();
        Self { things }
    }

    /// The thing of this name.
    pub fn thing(&self, name: &ThingName) -> Option<&ExistingThing> {
        self.things.get(name).map(|(thing, _)| thing)
    }

    /// The status of its certificate, as far as the file tells.
    pub fn status(&self, name: &ThingName) -> Option<CertificateStatus> {
        self.things.get(name)?.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awss_answers_are_read() {
        let one = r#"{"defaultClientId":"pump-1","thingName":"pump-1","thingTypeName":"pump","attributes":{"a":"1"},"version":3,"thingGroupNames":["g"],"certificateStatus":"INACTIVE"}"#;
        for text in [
            one.to_owned(),
            format!("[{one}]"),
            format!("{{\"things\":[{one}]}}"),
        ] {
            let things = ExistingThings::parse(&text).unwrap();
            let name = "pump-1".parse().unwrap();
            let thing = things.thing(&name).unwrap();
            assert_eq!(thing.attributes["a"], "1");
            assert_eq!(thing.groups.len(), 1);
            assert_eq!(things.status(&name), Some(CertificateStatus::Inactive));
        }
        for bad in ["{}", "[1]", "1", r#"{"thingName":"a b"}"#] {
            assert!(ExistingThings::parse(bad).is_err(), "{bad}");
        }
    }
}
