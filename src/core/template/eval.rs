//! The template language: what a value is, given the parameters.

use std::collections::BTreeMap;

use super::{RenderError, Template, Tree, Usage, Value};

/// What a value turns out to be.
enum Outcome {
    Text(String),
    /// `None` is a null.
    List(Vec<Option<String>>),
}

/// The most characters one value may grow to: the API model's bound of a parameter's value times
/// the template's size would be far more than any name or document can use.
const MAX_TEXT: usize = 65_536;

/// Evaluates values of one template with one set of parameters.
pub(super) struct Evaluator<'a> {
    pub(super) template: &'a Template,
    pub(super) values: &'a BTreeMap<String, String>,
    pub(super) usage: Usage,
}

impl Evaluator<'_> {
    /// The text of the value at `path`.
    pub(super) fn text(&self, value: &Value, path: &str) -> Result<String, RenderError> {
        match self.outcome(value, path, &BTreeMap::new())? {
            Outcome::Text(text) => Ok(text),
            Outcome::List(_) => Err(wrong(path, "is a list where a string belongs")),
        }
    }

    /// The texts of the values at `path`, where a list is wanted.
    pub(super) fn texts(&self, value: &Value, path: &str) -> Result<Vec<String>, RenderError> {
        whole(self.list(value, path, &BTreeMap::new())?, path)
    }

    /// The JSON of a policy document given as an object.
    pub(super) fn tree(&self, tree: &Tree, path: &str) -> Result<serde_json::Value, RenderError> {
        Ok(match tree {
            Tree::Value(value) => match self.outcome(value, path, &BTreeMap::new())? {
                Outcome::Text(text) => text.into(),
                Outcome::List(list) => whole(list, path)?.into(),
            },
            Tree::Literal(json) => json.clone(),
            Tree::List(all) => all
                .iter()
                .map(|tree| self.tree(tree, path))
                .collect::<Result<Vec<_>, _>>()?
                .into(),
            Tree::Object(all) => all
                .iter()
                .map(|(key, tree)| Ok((key.clone(), self.tree(tree, path)?)))
                .collect::<Result<serde_json::Map<_, _>, RenderError>>()?
                .into(),
        })
    }

    fn parameter(&self, name: &str, path: &str) -> Result<String, RenderError> {
        let value = match self.template.parameters.get(name) {
            Some(default) => {
                let value = self.values.get(name).or(default.as_ref());
                value.ok_or_else(|| RenderError::NoValue {
                    name: name.to_owned(),
                })?
            }
            // The guide's fleet template uses AWS::IoT::Certificate::Id without declaring it, and
            // the AWS CLI's example a parameter of the device's. JITP fills in what is declared.
            None if self.usage != Usage::Jitp && self.values.contains_key(name) => {
                &self.values[name]
            }
            None => {
                return Err(RenderError::Undeclared {
                    path: path.to_owned(),
                    name: name.to_owned(),
                });
            }
        };
        if super::too_long(value) {
            return Err(RenderError::ParameterLong {
                name: name.to_owned(),
            });
        }
        Ok(value.clone())
    }

    fn outcome(
        &self,
        value: &Value,
        path: &str,
        own: &BTreeMap<String, String>,
    ) -> Result<Outcome, RenderError> {
        let text = |value: &Value| match self.outcome(value, path, own)? {
            Outcome::Text(text) => Ok(text),
            Outcome::List(_) => Err(wrong(path, "has a list where a string belongs")),
        };
        let result = match value {
            Value::Text(literal) => literal.clone(),
            Value::Null => return Err(wrong(path, "is null where a string belongs")),
            Value::Ref(name) => self.parameter(name, path)?,
            Value::List(_) => return self.list(value, path, own).map(Outcome::List),
            Value::Join(delimiter, values) => {
                let mut parts = Vec::new();
                for value in values {
                    parts.extend(whole(self.list(value, path, own)?, path)?);
                }
                joined(&parts, delimiter, path)?
            }
            Value::Split(delimiter, source) => {
                let source = text(source)?;
                return Ok(Outcome::List(split(&source, delimiter)));
            }
            Value::Select(index, list) => {
                let index = text(index)?;
                let list = self.list(list, path, own)?;
                select(&index, list, path)?
            }
            Value::FindInMap(map, first, second) => {
                self.find(map, &text(first)?, &text(second)?, path)?
            }
            Value::Sub(template, inner) => {
                let inner = inner
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), text(value)?)))
                    .collect::<Result<BTreeMap<_, _>, RenderError>>()?;
                self.substitute(template, &inner, path)?
            }
        };
        Ok(Outcome::Text(result))
    }

    fn list(
        &self,
        value: &Value,
        path: &str,
        own: &BTreeMap<String, String>,
    ) -> Result<Vec<Option<String>>, RenderError> {
        let all = match value {
            Value::Null => return Ok(vec![None]),
            Value::List(all) => all,
            value => {
                return self.outcome(value, path, own).map(|outcome| match outcome {
                    Outcome::Text(text) => vec![Some(text)],
                    Outcome::List(list) => list,
                });
            }
        };
        let mut list = Vec::new();
        for value in all {
            list.extend(self.list(value, path, own)?);
        }
        Ok(list)
    }

    fn find(
        &self,
        map: &str,
        first: &str,
        second: &str,
        path: &str,
    ) -> Result<String, RenderError> {
        self.template
            .mappings
            .get(map)
            .and_then(|keys| keys.get(first)?.get(second))
            .cloned()
            .ok_or_else(|| {
                wrong(
                    path,
                    &format!("Fn::FindInMap finds no `{map}` / `{first}` / `{second}`"),
                )
            })
    }

    fn substitute(
        &self,
        text: &str,
        own: &BTreeMap<String, String>,
        path: &str,
    ) -> Result<String, RenderError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let Some(length) = rest[start..].find('}') else {
                return Err(wrong(path, "has `${` without `}` in Fn::Sub"));
            };
            let name = &rest[start + 2..start + length];
            match name.strip_prefix('!') {
                // `${!x}` stands for the text `${x}`, as in AWS CloudFormation.
                Some(literal) => out.extend(["${", literal, "}"]),
                None => match own.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&self.parameter(name, path)?),
                },
            }
            bounded(&out, path)?;
            rest = &rest[start + length + 1..];
        }
        out.push_str(rest);
        bounded(&out, path)?;
        Ok(out)
    }
}

/// Refuses what grows beyond all use, while it grows.
fn bounded(text: &str, path: &str) -> Result<(), RenderError> {
    if text.len() > MAX_TEXT {
        return Err(wrong(path, "grows beyond 65536 bytes"));
    }
    Ok(())
}

fn joined(parts: &[String], delimiter: &str, path: &str) -> Result<String, RenderError> {
    let mut out = String::new();
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            out.push_str(delimiter);
        }
        out.push_str(part);
        bounded(&out, path)?;
    }
    Ok(out)
}

/// A list without nulls.
fn whole(list: Vec<Option<String>>, path: &str) -> Result<Vec<String>, RenderError> {
    let list: Option<Vec<String>> = list.into_iter().collect();
    list.ok_or_else(|| wrong(path, "has a null where a string belongs"))
}

/// The names that `${…}` in a `Fn::Sub` text stands for, `${!…}` left out.
pub(super) fn sub_names(text: &str) -> Vec<&str> {
    text.split("${")
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|(name, _)| name))
        .filter(|name| !name.starts_with('!'))
        .collect()
}

fn split(source: &str, delimiter: &str) -> Vec<Option<String>> {
    if delimiter.is_empty() {
        return vec![Some(source.to_owned())];
    }
    let parts = source.split(delimiter);
    parts.map(|part| Some(part.to_owned())).collect()
}

fn select(index: &str, mut list: Vec<Option<String>>, path: &str) -> Result<String, RenderError> {
    let problem = match index.parse::<usize>() {
        Ok(n) if n < list.len() => match list.swap_remove(n) {
            Some(text) => return Ok(text),
            None => format!("Fn::Select asks for element {n}, which is null"),
        },
        Ok(n) => format!("Fn::Select asks for element {n} of {}", list.len()),
        Err(_) => format!("Fn::Select index `{index}` is not a number"),
    };
    Err(wrong(path, &problem))
}

fn wrong(path: &str, problem: &str) -> RenderError {
    RenderError::Function {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}
