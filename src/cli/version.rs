//! `version`

use std::fmt;

use super::report::Report;
use super::settings::Settings;
use crate::explain::Failure;

/// Print the version; with --verbose also the features and where each setting came from
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Also print the features and where each setting came from
    #[arg(long, short)]
    verbose: bool,
}

/// What this program is.
#[derive(serde::Serialize)]
pub(super) struct Version {
    name: &'static str,
    #[serde(rename = "version")]
    number: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(serde::Serialize)]
struct Details {
    features: Vec<&'static str>,
    project: Option<std::path::PathBuf>,
    settings: std::collections::BTreeMap<&'static str, String>,
}

impl Args {
    #[expect(clippy::unnecessary_wraps, reason = "every command runs alike")]
    pub(super) fn run(self, settings: &Settings) -> Result<Version, Failure> {
        let features = [
            ("device", cfg!(feature = "device")),
            ("sandbox", cfg!(feature = "sandbox")),
            ("operator", cfg!(feature = "operator")),
            ("postgres", cfg!(feature = "postgres")),
        ];
        let details = self.verbose.then(|| Details {
            features: features
                .iter()
                .filter(|(_, on)| *on)
                .map(|(name, _)| *name)
                .collect(),
            project: settings.project.clone(),
            settings: settings.sources.clone(),
        });
        Ok(Version {
            name: "nameplate",
            number: env!("CARGO_PKG_VERSION"),
            details,
        })
    }
}

impl Report for Version {}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.number)?;
        let Some(details) = &self.details else {
            return Ok(());
        };
        write!(f, "\nfeatures: {}", details.features.join(", "))?;
        match &details.project {
            Some(project) => write!(f, "\nproject: {}", project.display())?,
            None => f.write_str("\nproject: none")?,
        }
        details
            .settings
            .iter()
            .try_for_each(|(name, source)| write!(f, "\n{name}: from {source}"))
    }
}
