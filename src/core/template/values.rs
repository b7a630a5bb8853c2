//! JSON → values of the template language, and policy documents with values inside.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::parse::Reader;
use super::{Located, Tree, Value};
use crate::core::json::{child, item, kind_of};
use crate::core::near::meant;

impl Reader {
    pub(super) fn tree(&mut self, json: &Json, path: &str) -> Option<Tree> {
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

    /// A flat object of name → value.
    pub(super) fn flat(&mut self, json: Option<&Json>, path: &str) -> Vec<(String, Located)> {
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

    pub(super) fn located(
        &mut self,
        map: &Map<String, Json>,
        key: &str,
        path: &str,
    ) -> Option<Located> {
        let path = child(path, key);
        let value = self.value(map.get(key)?, &path)?;
        Some(Located { path, value })
    }

    pub(super) fn value(&mut self, json: &Json, path: &str) -> Option<Value> {
        let map = match json {
            Json::String(text) => return Some(Value::Text(text.clone())),
            Json::Object(map) if map.len() == 1 => map,
            other => {
                let found = match other {
                    Json::Object(map) if map.is_empty() => "an empty object",
                    Json::Object(_) => "an object of several members",
                    Json::Number(_) | Json::Bool(_) => "a number or boolean without quotes",
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
            .map(|(n, json)| match json {
                // AWS IoT looks at it only when Fn::Select asks for it, and fails then.
                Json::Null => Some(Value::Null),
                json => self.value(json, &item(path, n)),
            })
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
            let known = [
                "Ref",
                "Fn::Join",
                "Fn::Select",
                "Fn::FindInMap",
                "Fn::Split",
                "Fn::Sub",
            ];
            let meant = meant(other, &known)
                .map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
            return format!(
                "`{other}` is not a function; known are {}{meant}",
                known.join(", ")
            );
        }
    };
    format!("{name} takes {shape}")
}
