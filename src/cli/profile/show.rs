//! `profile show`

use std::fmt;

use crate::cli::args_profile::unknown;
use crate::cli::report::Report;
use crate::core::profile::Profile;
use crate::explain::Failure;

/// Print a built-in certificate profile as TOML, to use or to start from
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Its name
    name: String,
}

#[derive(serde::Serialize)]
pub(in crate::cli) struct Shown {
    name: String,
    toml: &'static str,
}

impl Args {
    pub(in crate::cli) fn run(self) -> Result<Shown, Failure> {
        let toml = Profile::built_in(&self.name).ok_or_else(|| unknown(&self.name))?;
        Ok(Shown {
            name: self.name,
            toml,
        })
    }
}

impl Report for Shown {}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.toml)
    }
}
