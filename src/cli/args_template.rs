//! Which provisioning template a draft is checked against.

use std::path::PathBuf;

use super::settings::Settings;
use crate::core::template::{Template, TemplateKind};
use crate::explain::{Failure, Kind};
use crate::ports::{FileError, Files};

/// The largest template AWS IoT takes is 10 240 bytes; more is read to say so in a good message.
const MAX_BYTES: u64 = 1 << 20;

/// The template flags of issuing commands.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct TemplateArgs {
    /// Check drafts against this registered template's copy, templates/NAME.json [config: issue.template]
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Check drafts against this template file
    #[arg(long, value_name = "FILE", conflicts_with = "template")]
    template_file: Option<PathBuf>,
}

/// A template and where it came from.
pub(super) struct Chosen {
    pub(super) template: Template,
    pub(super) path: PathBuf,
}

impl TemplateArgs {
    /// The template, if one is named anywhere; it must be free of errors for JITP.
    pub(super) fn load(
        &self,
        settings: &Settings,
        files: &dyn Files,
    ) -> Result<Option<Chosen>, Failure> {
        let Some(path) = self.path(settings)? else {
            return Ok(None);
        };
        let text = files.read(&path, MAX_BYTES).map_err(|error| {
            let missing = matches!(error, FileError::Missing(_));
            let failure = Failure::from(error);
            if missing && self.template_file.is_none() {
                failure.hint("register it first: `nameplate template register FILE --name NAME`")
            } else {
                failure
            }
        })?;
        let shown = path.display().to_string();
        let text = std::str::from_utf8(&text).map_err(|error| {
            let message = format!("`{shown}` is not UTF-8 after byte {}", error.valid_up_to());
            Failure::new(Kind::Input, "template.utf8", message)
        })?;
        let template = Template::parse(text).map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("`{shown}`: {}", failure.message);
            Failure { message, ..failure }
        })?;
        let wrong = template
            .lint(TemplateKind::Jitp)
            .into_iter()
            .find(|finding| finding.severity == crate::core::finding::Severity::Error);
        if let Some(finding) = wrong {
            let message = format!("`{shown}` would be refused: {finding}");
            return Err(
                Failure::new(Kind::Input, "template.lint", message).hint(format!(
                    "`nameplate template lint {shown}` shows everything"
                )),
            );
        }
        Ok(Some(Chosen { template, path }))
    }

    fn path(&self, settings: &Settings) -> Result<Option<PathBuf>, Failure> {
        if let Some(path) = &self.template_file {
            return Ok(Some(path.clone()));
        }
        let named = self
            .template
            .as_ref()
            .or(settings.file.issue.template.as_ref());
        let Some(name) = named else {
            return Ok(None);
        };
        let name: crate::core::ids::TemplateName = name.parse()?;
        let folder = settings.project()?.join("templates");
        Ok(Some(folder.join(format!("{name}.json"))))
    }
}
