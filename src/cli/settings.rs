//! Flag, environment, project file, user file, built-in: resolved once, at the door. Nothing later
//! reads the environment or a configuration file.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::args::{Colour, Global, Target};
use crate::core::ids::Place;
use crate::explain::{Failure, Kind};

/// The project's file name.
pub(super) const FILE_NAME: &str = "nameplate.toml";

/// The sandbox's account unless the project names one.
const SANDBOX_ACCOUNT: &str = "123456789012";
/// The sandbox's Region unless somebody names one.
const SANDBOX_REGION: &str = "us-east-1";

/// Everything that can be set, with where each setting came from.
#[derive(Debug)]
pub(super) struct Settings {
    /// The folder of the project's `nameplate.toml`; `None` outside a project.
    pub(super) project: Option<PathBuf>,
    /// Where control-plane commands go.
    pub(super) target: Target,
    /// The Region, if anybody named one.
    pub(super) region: Option<String>,
    /// The AWS profile, if anybody named one.
    pub(super) profile: Option<String>,
    /// A control-plane URL of the user's own.
    pub(super) endpoint_url: Option<String>,
    /// What the configuration files say.
    pub(super) file: ConfigFile,
    /// Setting → where it came from.
    pub(super) sources: BTreeMap<&'static str, String>,
}

/// `nameplate.toml`. Unknown keys are refused, so that a slip of the pen is not ignored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    pub(super) target: Option<Target>,
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) endpoint_url: Option<String>,
    /// The ledger's file, relative to this file's folder.
    pub(super) ledger: Option<PathBuf>,
    /// Where CA folders are, relative to this file's folder.
    pub(super) ca_dir: Option<PathBuf>,
    pub(super) issue: IssueConfig,
    pub(super) sandbox: SandboxConfig,
    pub(super) device: DeviceConfig,
}

/// `[issue]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IssueConfig {
    /// The CA that signs devices.
    pub(super) ca: Option<String>,
    /// Lifetime, such as `365d`.
    pub(super) validity: Option<String>,
    /// How far notBefore lies in the past, such as `1h`.
    pub(super) backdate: Option<String>,
    /// A file that holds the CA key's passphrase.
    pub(super) passphrase_file: Option<PathBuf>,
    /// The provisioning template that drafts are checked against.
    pub(super) template: Option<String>,
}

/// `[sandbox]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SandboxConfig {
    /// Its durable state, relative to this file's folder.
    pub(super) state: Option<PathBuf>,
    /// Its account, 12 digits.
    pub(super) account: Option<String>,
}

/// `[device]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DeviceConfig {
    /// The identity's folder, relative to this file's folder.
    pub(super) identity: Option<PathBuf>,
    /// The data endpoint's host name.
    pub(super) endpoint: Option<String>,
    /// Its port.
    pub(super) port: Option<u16>,
    /// Trusted server roots, PEM; Amazon's when left out.
    pub(super) server_ca: Option<PathBuf>,
    /// Time servers, `host` or `host:port`.
    pub(super) ntp: Option<Vec<String>>,
}

impl Settings {
    /// Reads files and environment once.
    pub(super) fn resolve(global: &Global) -> Result<Self, Failure> {
        set_colour(global.color);
        let mut sources = BTreeMap::new();
        let project_file = find_project_file(global)?;
        let user_file = user_file();
        let project = project_file.as_deref().map(read_file).transpose()?;
        let user = user_file
            .as_deref()
            .map(read_file)
            .transpose()?
            .unwrap_or_default();
        let mut pick =
            |name, flag: Option<String>, vars: &[&str], of: fn(&ConfigFile) -> Option<String>| {
                let environment = || {
                    vars.iter().find_map(|var| {
                        let value = env::var(var).ok().filter(|value| !value.is_empty())?;
                        Some((value, format!("environment {var}")))
                    })
                };
                let from_file = |file: Option<&ConfigFile>, path: Option<&Path>| {
                    Some((of(file?)?, path?.display().to_string()))
                };
                let (value, source) = flag
                    .map(|value| (value, "flag".to_owned()))
                    .or_else(environment)
                    .or_else(|| from_file(project.as_ref(), project_file.as_deref()))
                    .or_else(|| from_file(Some(&user), user_file.as_deref()))?;
                sources.insert(name, source);
                Some(value)
            };
        let region = pick(
            "region",
            global.region.clone(),
            &["NAMEPLATE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"],
            |f| f.region.clone(),
        );
        let profile = pick(
            "profile",
            global.profile.clone(),
            &["NAMEPLATE_PROFILE", "AWS_PROFILE"],
            |f| f.profile.clone(),
        );
        let endpoint_url = pick(
            "endpoint_url",
            global.endpoint_url.clone(),
            &[
                "NAMEPLATE_ENDPOINT_URL",
                "AWS_ENDPOINT_URL_IOT",
                "AWS_ENDPOINT_URL",
            ],
            |f| f.endpoint_url.clone(),
        );
        let target = global
            .target
            .or(project.as_ref().and_then(|f| f.target))
            .or(user.target);
        let target_source = match (global.target, project.as_ref().and_then(|f| f.target)) {
            (Some(_), _) => "flag or environment NAMEPLATE_TARGET".to_owned(),
            (None, Some(_)) => FILE_NAME.to_owned(),
            _ => "built-in".to_owned(),
        };
        sources.insert("target", target_source);
        Ok(Self {
            project: project_file.as_deref().map(folder_of),
            target: target.unwrap_or(Target::Sandbox),
            region,
            profile,
            endpoint_url,
            file: project.unwrap_or(user),
            sources,
        })
    }

    /// The project's folder, or why there is none.
    pub(super) fn project(&self) -> Result<&Path, Failure> {
        self.project.as_deref().ok_or_else(|| {
            Failure::new(
                Kind::Input,
                "project.none",
                "there is no nameplate.toml here or in a folder above",
            )
            .hint("run `nameplate init` here, or name the file with --config or NAMEPLATE_CONFIG")
        })
    }

    /// The ledger's file.
    pub(super) fn ledger_path(&self) -> Result<PathBuf, Failure> {
        let relative = self
            .file
            .ledger
            .clone()
            .unwrap_or_else(|| "ledger.sqlite".into());
        Ok(self.project()?.join(relative))
    }

    /// The folder that holds one folder for each CA.
    pub(super) fn ca_dir(&self) -> Result<PathBuf, Failure> {
        let relative = self.file.ca_dir.clone().unwrap_or_else(|| "ca".into());
        Ok(self.project()?.join(relative))
    }

    /// Account and Region of the sandbox: `[sandbox] account` and the Region, or built-in ones.
    pub(super) fn sandbox_place(&self) -> Result<Place, Failure> {
        let account = self.file.sandbox.account.as_deref();
        let region = self.region.as_deref();
        Ok(Place {
            account: account.unwrap_or(SANDBOX_ACCOUNT).parse()?,
            region: region.unwrap_or(SANDBOX_REGION).parse()?,
        })
    }

    /// The sandbox's durable state; `None` outside a project.
    pub(super) fn sandbox_state(&self) -> Option<PathBuf> {
        let relative = self
            .file
            .sandbox
            .state
            .clone()
            .unwrap_or_else(|| "sandbox".into());
        Some(self.project.as_ref()?.join(relative))
    }
}

fn set_colour(colour: Colour) {
    match colour {
        Colour::Auto => {}
        Colour::Always => anstream::ColorChoice::Always.write_global(),
        Colour::Never => anstream::ColorChoice::Never.write_global(),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned()
}

fn find_project_file(global: &Global) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = &global.config {
        if path.is_file() {
            return Ok(Some(path.clone()));
        }
        let message = format!("`{}` is not a file", path.display());
        return Err(Failure::new(Kind::Input, "config.missing", message)
            .hint("name an existing nameplate.toml with --config or NAMEPLATE_CONFIG"));
    }
    let Ok(here) = env::current_dir() else {
        return Ok(None);
    };
    Ok(here
        .ancestors()
        .map(|folder| folder.join(FILE_NAME))
        .find(|path| path.is_file()))
}

fn user_file() -> Option<PathBuf> {
    let base = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    let path = base.join("nameplate/config.toml");
    path.is_file().then_some(path)
}

fn read_file(path: &Path) -> Result<ConfigFile, Failure> {
    let wrong = |why: String| {
        let message = format!("`{}` cannot be read as configuration", path.display());
        Failure::new(Kind::Input, "config.invalid", message).because(why)
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))
}
