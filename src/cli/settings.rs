//! Flag, environment, project file, user file, built-in: resolved once, at the door. Nothing later
//! reads the environment or a configuration file.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::args::{Colour, Global, Target};
use crate::core::ids::Place;
use crate::core::ledger_place::{LedgerPlace, UrlError};
use crate::explain::{Failure, Kind};

/// The project's file name.
pub(super) const FILE_NAME: &str = "nameplate.toml";

/// The sandbox's account unless the project names one.
#[cfg_attr(
    not(feature = "operator"),
    allow(
        dead_code,
        reason = "the device image reads the same file and uses less of it"
    )
)]
const SANDBOX_ACCOUNT: &str = "123456789012";
/// The sandbox's Region unless somebody names one.
#[cfg_attr(
    not(feature = "operator"),
    allow(
        dead_code,
        reason = "the device image reads the same file and uses less of it"
    )
)]
const SANDBOX_REGION: &str = "us-east-1";

/// Everything that can be set, with where each setting came from.
#[cfg_attr(
    not(feature = "operator"),
    allow(
        dead_code,
        reason = "the device image reads the same file and uses less of it"
    )
)]
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
    /// The ledger that a flag or the environment names.
    ledger: Option<LedgerPlace>,
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
    /// The ledger: a file, relative to this file's folder, or a URL.
    pub(super) ledger: Option<String>,
    /// A file that holds the ledger server's password, relative to this file's folder.
    pub(super) ledger_password_file: Option<PathBuf>,
    /// Where CA folders are, relative to this file's folder.
    pub(super) ca_dir: Option<PathBuf>,
    pub(super) issue: IssueConfig,
    pub(super) pkcs11: Pkcs11Config,
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
    /// The certificate profile of `device issue`: a built-in's name or a file.
    pub(super) profile: Option<String>,
}

/// `[pkcs11]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pkcs11Config {
    /// The module's library.
    pub(super) module: Option<PathBuf>,
    /// A file that holds the token's PIN, relative to this file's folder.
    pub(super) pin_file: Option<PathBuf>,
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
    /// The data endpoint's host name, with or without a port; several with commas between them.
    pub(super) endpoint: Option<String>,
    /// Its port.
    pub(super) port: Option<u16>,
    /// Trusted server roots, PEM; Amazon's when left out.
    pub(super) server_ca: Option<PathBuf>,
    /// Time servers, `host` or `host:port`.
    pub(super) ntp: Option<Vec<String>>,
    /// NTS key exchange servers, `host` or `host:port`.
    pub(super) nts: Option<Vec<String>>,
    /// Who may vouch for those, PEM; the system's bundle when left out.
    pub(super) nts_ca: Option<PathBuf>,
}

#[cfg_attr(
    not(feature = "operator"),
    allow(
        dead_code,
        reason = "the device image reads the same file and uses less of it"
    )
)]
impl Settings {
    /// Reads files and environment once.
    pub(super) fn resolve(global: &Global) -> Result<Self, Failure> {
        set_colour(global.color);
        let project_file = find_project_file(global)?;
        let project = project_file.as_deref().map(folder_of);
        let layers = Layers {
            project: project_file.map(Layer::read).transpose()?,
            user: user_file().map(Layer::read).transpose()?,
        };
        let mut sources = BTreeMap::new();
        let mut pick = |name, flag: &Option<String>, vars: &[&str], of: Field| {
            let (value, source) = layers.pick(flag.as_deref(), vars, of)?;
            sources.insert(name, source);
            Some(value)
        };
        let region = pick("region", &global.region, &REGION_VARS, |f| f.region.clone());
        let profile = pick("profile", &global.profile, &PROFILE_VARS, |f| {
            f.profile.clone()
        });
        let endpoint_url = pick("endpoint_url", &global.endpoint_url, &ENDPOINT_VARS, |f| {
            f.endpoint_url.clone()
        });
        pick("ledger", &global.ledger, &LEDGER_VARS, |f| f.ledger.clone());
        let ledger = named_ledger(global)?;
        let target = layers.target(global.target);
        sources.insert("target", target.1);
        Ok(Self {
            project,
            target: target.0,
            region,
            profile,
            endpoint_url,
            ledger,
            file: layers.merged(),
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

    /// Where the ledger is.
    pub(super) fn ledger(&self) -> Result<LedgerPlace, Failure> {
        if let Some(place) = self.ledger_named() {
            return Ok(place);
        }
        let project = self.project()?;
        let text = self.file.ledger.as_deref().unwrap_or("ledger.sqlite");
        Ok(match LedgerPlace::parse(text)? {
            LedgerPlace::File(path) => LedgerPlace::File(project.join(path)),
            server @ LedgerPlace::Server(_) => self.with_password(server),
        })
    }

    /// The ledger that a flag or the environment names, before any project.
    pub(super) fn ledger_named(&self) -> Option<LedgerPlace> {
        self.ledger.clone().map(|place| self.with_password(place))
    }

    fn with_password(&self, place: LedgerPlace) -> LedgerPlace {
        let LedgerPlace::Server(mut access) = place else {
            return place;
        };
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let of_file = || {
            let relative = self.file.ledger_password_file.as_ref()?;
            Some(self.project.as_ref()?.join(relative))
        };
        access.password_file = set("NAMEPLATE_LEDGER_PASSWORD_FILE")
            .map(PathBuf::from)
            .or_else(of_file);
        access.password = env::var("PGPASSWORD").ok().map(Zeroizing::new);
        let home = || Some(PathBuf::from(set("HOME")?).join(".pgpass"));
        access.pass_file = set("PGPASSFILE").map(PathBuf::from).or_else(home);
        LedgerPlace::Server(access)
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

    /// The sandbox's durable state: `NAMEPLATE_SANDBOX_STATE`, or the project's; `None` outside one.
    pub(super) fn sandbox_state(&self) -> Option<PathBuf> {
        let set = env::var_os("NAMEPLATE_SANDBOX_STATE").filter(|value| !value.is_empty());
        if let Some(state) = set {
            return Some(state.into());
        }
        let relative = self
            .file
            .sandbox
            .state
            .clone()
            .unwrap_or_else(|| "sandbox".into());
        Some(self.project.as_ref()?.join(relative))
    }
}

const REGION_VARS: [&str; 3] = ["NAMEPLATE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"];
const PROFILE_VARS: [&str; 2] = ["NAMEPLATE_PROFILE", "AWS_PROFILE"];
const ENDPOINT_VARS: [&str; 3] = [
    "NAMEPLATE_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_IOT",
    "AWS_ENDPOINT_URL",
];

const LEDGER_VARS: [&str; 1] = ["NAMEPLATE_LEDGER"];

/// The ledger of the flag or of the environment; a path is relative to the present folder.
fn named_ledger(global: &Global) -> Result<Option<LedgerPlace>, Failure> {
    let Some(text) = global.ledger.clone().or_else(|| {
        let set = env::var(LEDGER_VARS[0]).ok();
        set.filter(|value| !value.is_empty())
    }) else {
        return Ok(None);
    };
    let place = LedgerPlace::parse(&text)?;
    match &place {
        LedgerPlace::Server(access) if global.ledger.is_some() && access.url.has_password() => {
            Err(UrlError::Argv.into())
        }
        _ => Ok(Some(place)),
    }
}

type Field = fn(&ConfigFile) -> Option<String>;

/// One configuration file, read.
struct Layer {
    path: PathBuf,
    file: ConfigFile,
}

impl Layer {
    fn read(path: PathBuf) -> Result<Self, Failure> {
        let file = read_file(&path)?;
        Ok(Self { path, file })
    }
}

/// The configuration files, strongest first.
struct Layers {
    project: Option<Layer>,
    user: Option<Layer>,
}

impl Layers {
    /// A setting and where it came from: flag, environment, project file, user file.
    fn pick(&self, flag: Option<&str>, vars: &[&str], of: Field) -> Option<(String, String)> {
        if let Some(value) = flag {
            return Some((value.to_owned(), "flag".to_owned()));
        }
        let set = |var: &&str| env::var(var).ok().filter(|value| !value.is_empty());
        if let Some((value, var)) = vars.iter().find_map(|var| Some((set(var)?, var))) {
            return Some((value, format!("environment {var}")));
        }
        let mut files = [&self.project, &self.user].into_iter().flatten();
        files.find_map(|layer| Some((of(&layer.file)?, layer.path.display().to_string())))
    }

    fn target(&self, flag: Option<Target>) -> (Target, String) {
        if let Some(target) = flag {
            return (target, "flag or environment NAMEPLATE_TARGET".to_owned());
        }
        let mut files = [&self.project, &self.user].into_iter().flatten();
        files
            .find_map(|layer| Some((layer.file.target?, layer.path.display().to_string())))
            .unwrap_or((Target::Sandbox, "built-in".to_owned()))
    }

    /// Every key from the strongest file that has it.
    fn merged(self) -> ConfigFile {
        let project = self.project.map(|layer| layer.file).unwrap_or_default();
        let user = self.user.map(|layer| layer.file).unwrap_or_default();
        ConfigFile {
            target: project.target.or(user.target),
            region: project.region.or(user.region),
            profile: project.profile.or(user.profile),
            endpoint_url: project.endpoint_url.or(user.endpoint_url),
            ledger: project.ledger.or(user.ledger),
            ledger_password_file: project.ledger_password_file.or(user.ledger_password_file),
            ca_dir: project.ca_dir.or(user.ca_dir),
            issue: IssueConfig {
                ca: project.issue.ca.or(user.issue.ca),
                validity: project.issue.validity.or(user.issue.validity),
                backdate: project.issue.backdate.or(user.issue.backdate),
                passphrase_file: project.issue.passphrase_file.or(user.issue.passphrase_file),
                template: project.issue.template.or(user.issue.template),
                profile: project.issue.profile.or(user.issue.profile),
            },
            pkcs11: Pkcs11Config {
                module: project.pkcs11.module.or(user.pkcs11.module),
                pin_file: project.pkcs11.pin_file.or(user.pkcs11.pin_file),
            },
            sandbox: SandboxConfig {
                state: project.sandbox.state.or(user.sandbox.state),
                account: project.sandbox.account.or(user.sandbox.account),
            },
            device: DeviceConfig {
                identity: project.device.identity.or(user.device.identity),
                endpoint: project.device.endpoint.or(user.device.endpoint),
                port: project.device.port.or(user.device.port),
                server_ca: project.device.server_ca.or(user.device.server_ca),
                ntp: project.device.ntp.or(user.device.ntp),
                nts: project.device.nts.or(user.device.nts),
                nts_ca: project.device.nts_ca.or(user.device.nts_ca),
            },
        }
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
