//! Flags that several commands share.

use std::path::PathBuf;

use clap::ValueEnum;

/// Flags of every command.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Global {
    /// How results and errors are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, env = "NAMEPLATE_FORMAT")]
    pub(super) format: Format,
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub(super) color: Colour,
    /// The project's configuration file [default: nameplate.toml here or in a folder above]
    #[arg(long, global = true, value_name = "FILE", env = "NAMEPLATE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// The ledger: a file, or postgres://USER@HOST/DATABASE
    ///
    /// Also NAMEPLATE_LEDGER, or `ledger` in nameplate.toml. A password belongs into a file, named
    /// by `ledger_password_file` or NAMEPLATE_LEDGER_PASSWORD_FILE.
    #[arg(long, global = true, value_name = "FILE|URL")]
    pub(super) ledger: Option<String>,
    /// Where control-plane commands go
    #[arg(long, global = true, value_enum, env = "NAMEPLATE_TARGET")]
    pub(super) target: Option<Target>,
    /// The AWS Region [default: AWS_REGION, the profile's, or us-east-1 in the sandbox]
    #[arg(long, global = true, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// The AWS profile to take credentials from
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// A control-plane URL of your own
    #[arg(long, global = true, value_name = "URL")]
    pub(super) endpoint_url: Option<String>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// JSON, one object a line
    Ndjson,
    /// SARIF 2.1.0, for code scanning; linters only
    #[cfg(feature = "operator")]
    Sarif,
    /// JUnit XML, for test reports; linters only
    #[cfg(feature = "operator")]
    Junit,
}

/// The format that a command line which does not parse asks for: by its flag, else by the
/// environment.
pub(super) fn format_of(command_line: &[std::ffi::OsString]) -> Format {
    let words = command_line.iter().map_while(|word| word.to_str());
    let mut words = words.take_while(|word| *word != "--");
    let mut named = std::env::var("NAMEPLATE_FORMAT").ok();
    while let Some(word) = words.next() {
        if word == "--format" {
            named = words.next().map(str::to_owned);
        } else if let Some(value) = word.strip_prefix("--format=") {
            named = Some(value.to_owned());
        }
    }
    named
        .and_then(|name| Format::from_str(&name, false).ok())
        .unwrap_or(Format::Text)
}

impl Format {
    /// Its name, if it is one that only a linter's findings fit.
    pub(super) fn of_linters(self) -> Option<&'static str> {
        match self {
            #[cfg(feature = "operator")]
            Self::Sarif => Some("sarif"),
            #[cfg(feature = "operator")]
            Self::Junit => Some("junit"),
            Self::Text | Self::Json | Self::Ndjson => None,
        }
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Colour {
    /// On a terminal only
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Where control-plane commands go.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Target {
    /// The local stand-in, with its state in the project
    Sandbox,
    /// AWS IoT Core
    Aws,
}
