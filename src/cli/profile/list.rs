//! `profile list`

use std::fmt;

use crate::cli::report::Report;
use crate::core::profile::{BUILT_IN, Profile};
use crate::explain::Failure;

/// List the built-in certificate profiles
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {}

#[derive(serde::Serialize)]
pub(in crate::cli) struct Listed {
    profiles: Vec<Line>,
}

#[derive(serde::Serialize)]
struct Line {
    name: &'static str,
    description: String,
}

impl Args {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(in crate::cli) fn run(self) -> Result<Listed, Failure> {
        let line = |(name, text): (&'static str, &str)| {
            let profile = Profile::parse(text, name)?;
            Ok(Line {
                name,
                description: profile.description.unwrap_or_default(),
            })
        };
        let profiles = BUILT_IN
            .into_iter()
            .map(line)
            .collect::<Result<_, Failure>>()?;
        Ok(Listed { profiles })
    }
}

impl Report for Listed {}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.profiles
            .iter()
            .try_for_each(|one| writeln!(f, "{:<15}  {}", one.name, one.description))
    }
}
