//! `OverrideSettings`: what to do when something is there already.

use serde_json::Value as Json;

use super::parse::Reader;
use super::{Override, Overrides};
use crate::core::finding::Finding;
use crate::core::json::child;
use crate::core::near::meant;

impl Reader {
    pub(super) fn no_overrides(&mut self, json: Option<&Json>, path: &str) {
        if json.is_some() {
            let message = "a policy has no override settings";
            self.notes
                .push(Finding::error("template.override", path, message));
        }
    }

    pub(super) fn thing_overrides(&mut self, json: Option<&Json>, path: &str) -> Overrides {
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
                    self.no_setting(
                        key,
                        &path,
                        &["AttributePayload", "ThingTypeName", "ThingGroups"],
                    );
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

    pub(super) fn status_override(&mut self, json: Option<&Json>, path: &str) -> Override {
        let mut status = Override::default();
        for (key, json) in json
            .and_then(|json| self.object(json, path))
            .into_iter()
            .flatten()
        {
            let path = child(path, key);
            if !["Status", "STATUS"].contains(&&key[..]) {
                self.no_setting(key, &path, &["Status"]);
                continue;
            }
            status = self.override_value(json, &path, false).unwrap_or_default();
            self.snake(key, &path);
        }
        status
    }

    /// A key that is none of the settings; of another case, it is not read either.
    fn no_setting(&mut self, key: &str, path: &str, known: &[&str]) {
        let message = format!("`{key}` is not a setting; known here: {}", known.join(", "));
        let finding = Finding::error("template.override", path, message);
        self.notes.push(match meant(key, known) {
            Some(word) => finding.remedy(format!("write `{word}`, if that was meant")),
            None => finding,
        });
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
                let finding = Finding::error("template.override", path, message);
                let known = ["DO_NOTHING", "REPLACE", "FAIL", "MERGE"];
                let known = &known[..if merge { 4 } else { 3 }];
                self.notes.push(match meant(other, known) {
                    Some(word) => finding.remedy(format!("write `{word}`, if that was meant")),
                    None => finding,
                });
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
}
