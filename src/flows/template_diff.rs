//! `template diff`: a template beside what the target holds. White space, the order of keys, and
//! whether a policy's document is an object or a text with the same JSON do not count.

use serde_json::Value;

use crate::core::diff::json_lines;
use crate::core::ids::TemplateName;
use crate::core::template::TemplateKind;
use crate::explain::{Explain, Kind};
use crate::ports::cloud::{CloudError, ControlPlane, TemplateView};

/// How the template should stand at the target; what is `None` is not compared.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: TemplateName,
    /// The version to compare with; `None` is the default one.
    pub version: Option<i32>,
    /// The document.
    pub body: String,
    /// Its kind.
    pub kind: TemplateKind,
    /// Whether it is switched on.
    pub enabled: Option<bool>,
    /// The provisioning role.
    pub role_arn: Option<String>,
    /// The pre-provisioning hook; an empty text is none.
    pub hook: Option<String>,
    /// The description.
    pub description: Option<String>,
}

/// One difference.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Difference {
    /// The documents: `-` is the target's, `+` the file's.
    Body {
        /// Line by line.
        lines: Vec<String>,
    },
    /// One of its settings.
    Setting {
        /// `description`, `enabled`, `hook`, `kind`, `role`.
        setting: &'static str,
        /// The target's.
        there: String,
        /// What is wanted.
        wanted: String,
    },
}

/// What the comparison found.
#[derive(Clone, Debug)]
pub struct Diffed {
    /// The template at the target.
    pub view: TemplateView,
    /// The version that was compared.
    pub version: i32,
    /// None when they are the same.
    pub differences: Vec<Difference>,
}

/// Compares.
///
/// # Errors
/// `template.unknown`, `template.version`, `cloud.*`.
pub fn diff(plane: &dyn ControlPlane, wanted: &Wanted) -> Result<Diffed, DiffError> {
    let unknown = || DiffError::Unknown(wanted.name.clone());
    let view = plane.describe_template(&wanted.name)?.ok_or_else(unknown)?;
    let version = wanted.version.unwrap_or(view.default_version);
    let there = if version == view.default_version {
        view.body.clone()
    } else {
        let found = plane.template_version(&wanted.name, version)?;
        found.ok_or_else(|| DiffError::Version(wanted.name.clone(), version))?
    };
    let mut differences = Vec::new();
    let (there, ours) = (normal(&there), normal(&wanted.body));
    if there != ours {
        differences.push(Difference::Body {
            lines: json_lines(&there.to_string(), &ours.to_string()),
        });
    }
    differences.extend(settings(&view, wanted));
    Ok(Diffed {
        view,
        version,
        differences,
    })
}

fn settings(view: &TemplateView, wanted: &Wanted) -> Vec<Difference> {
    let switch = |on: bool| if on { "enabled" } else { "disabled" }.to_owned();
    let hook = view.hook.clone().unwrap_or_default();
    let description = view.description.clone().unwrap_or_default();
    let pairs = [
        ("kind", view.kind.to_string(), Some(wanted.kind.to_string())),
        ("enabled", switch(view.enabled), wanted.enabled.map(switch)),
        ("role", view.role_arn.clone(), wanted.role_arn.clone()),
        ("hook", hook, wanted.hook.clone()),
        ("description", description, wanted.description.clone()),
    ];
    let differs = |(setting, there, wanted): (&'static str, String, Option<String>)| {
        let wanted = wanted.filter(|wanted| *wanted != there)?;
        Some(Difference::Setting {
            setting,
            there,
            wanted,
        })
    };
    pairs.into_iter().filter_map(differs).collect()
}

/// A document with its policies' texts as the JSON that they are.
fn normal(body: &str) -> Value {
    let mut json: Value = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    let resources = json.get_mut("Resources").and_then(Value::as_object_mut);
    for resource in resources.into_iter().flat_map(|all| all.values_mut()) {
        let document = resource.pointer_mut("/Properties/PolicyDocument");
        if let Some(document) = document
            && let Some(parsed) = document.as_str().and_then(|t| serde_json::from_str(t).ok())
        {
            *document = parsed;
        }
    }
    json
}

/// A template that was not compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The control plane.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// No such template.
    #[error("there is no template `{0}` at the target")]
    Unknown(TemplateName),
    /// No such version.
    #[error("template `{0}` has no version {1} at the target")]
    Version(TemplateName, i32),
}

impl Explain for DiffError {
    fn kind(&self) -> Kind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::Unknown(_) | Self::Version(..) => Kind::Input,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Cloud(error) => error.code(),
            Self::Unknown(_) => "template.unknown",
            Self::Version(..) => "template.version",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Cloud(error) => error.hint(),
            Self::Unknown(_) => Some("nameplate template list shows what is there".into()),
            Self::Version(name, _) => Some(format!(
                "nameplate template show {name} tells the default version"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_as_text_is_the_same_as_an_object() {
        let policy = |document: &str| {
            format!(r#"{{"Resources":{{"p":{{"Properties":{{"PolicyDocument":{document}}}}}}}}}"#)
        };
        let object = policy(r#"{"Version":"2012-10-17"}"#);
        let text = policy(r#""{ \"Version\": \"2012-10-17\" }""#);
        assert_eq!(normal(&object), normal(&text));
        assert_ne!(normal(&object), normal(&policy(r#""{}""#)));
        assert_eq!(normal("no json"), Value::from("no json"));
    }
}
