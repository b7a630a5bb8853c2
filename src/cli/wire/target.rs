//! Target → control plane: AWS, or a sandbox: one at a URL of the user's, the one that runs over the
//! project's state, or else one that this process runs over that state for one command.

use std::fmt;
use std::path::PathBuf;

use crate::cli::args::Target;
use crate::cli::settings::Settings;
use crate::core::ids::Place;
use crate::effects::aws::{AwsAccess, AwsControlPlane, SandboxSigner};
use crate::explain::{Failure, Kind};
use crate::ports::cloud::ControlPlane;
use crate::sandbox::auth::{AuthMode, Keyring};
use crate::sandbox::server::{Running, RunningInfo, Server, StatePlace, find_running};
use crate::sandbox::worlds;

/// A control plane, and what reports call it.
pub(in crate::cli) struct Connected {
    /// The control plane.
    pub(in crate::cli) plane: Box<dyn ControlPlane>,
    /// Where it is.
    pub(in crate::cli) target: TargetReport,
    /// The sandbox that runs as long as this command.
    _server: Option<Running>,
}

/// Where a control-plane command went. Part of every such report.
#[derive(Clone, Debug, serde::Serialize)]
pub(in crate::cli) struct TargetReport {
    /// `sandbox` or `aws`.
    pub(in crate::cli) kind: Target,
    /// How it was reached.
    pub(in crate::cli) reached: Reached,
    /// Account and Region.
    #[serde(flatten)]
    pub(in crate::cli) place: Place,
    /// The control plane's URL, where it is not AWS's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) url: Option<String>,
}

/// How a control plane was reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Reached {
    /// AWS's own address.
    Aws,
    /// A URL that the user gave.
    EndpointUrl,
    /// Run by this command over the project's state.
    InProcess,
    /// It runs over the project's state.
    Running,
}

impl fmt::Display for TargetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { account, region } = &self.place;
        let name = match self.kind {
            Target::Sandbox => "sandbox",
            Target::Aws => "AWS",
        };
        write!(f, "{name} (account {account}, {region}")?;
        match (self.reached, &self.url) {
            (Reached::InProcess, _) => f.write_str(", in this process)"),
            (_, Some(url)) => write!(f, ", at {url})"),
            (_, None) => f.write_str(")"),
        }
    }
}

impl TargetReport {
    /// Refuses a change of AWS that nobody has confirmed; the sandbox is there to be changed.
    pub(in crate::cli) fn confirm(&self, yes: bool, what: &str) -> Result<(), Failure> {
        if yes || self.kind == Target::Sandbox {
            return Ok(());
        }
        let Place { account, region } = &self.place;
        let message = format!("this would {what} in AWS account {account}, Region {region}");
        Err(Failure::new(Kind::Refused, "target.confirm", message)
            .hint("if that is the right place, run it again with --yes"))
    }
}

/// The control plane that the settings point at.
pub(in crate::cli) fn connect(settings: &Settings) -> Result<Connected, Failure> {
    match (settings.target, &settings.endpoint_url) {
        (Target::Aws, _) => connect_aws(settings),
        (Target::Sandbox, Some(url)) => connect_url(settings, url),
        (Target::Sandbox, None) => connect_project(settings),
    }
}

fn connect_aws(settings: &Settings) -> Result<Connected, Failure> {
    let plane = AwsControlPlane::aws(&AwsAccess {
        region: settings.region.clone(),
        profile: settings.profile.clone(),
        endpoint_url: settings.endpoint_url.clone(),
    })?;
    let target = TargetReport {
        kind: Target::Aws,
        reached: match settings.endpoint_url {
            Some(_) => Reached::EndpointUrl,
            None => Reached::Aws,
        },
        place: plane.place()?,
        url: settings.endpoint_url.clone(),
    };
    let plane = Box::new(plane);
    Ok(Connected {
        plane,
        target,
        _server: None,
    })
}

fn connect_url(settings: &Settings, url: &str) -> Result<Connected, Failure> {
    let sandbox = Sandbox {
        place: settings.sandbox_place()?,
        url,
        reached: Reached::EndpointUrl,
        signer: SandboxSigner::Named(settings.profile.clone()),
    };
    sandbox.connect(None)
}

/// The sandbox over the project's state: the one that runs, or one of our own.
fn connect_project(settings: &Settings) -> Result<Connected, Failure> {
    settings.project()?;
    let Some(state) = settings.sandbox_state() else {
        let message = "the sandbox has no place for its state";
        return Err(Failure::new(Kind::Input, "sandbox.state", message));
    };
    if let Some(info) = find_running(&state) {
        let sandbox = Sandbox {
            signer: known_signer(settings, &info)?,
            place: place_in(settings, &info)?,
            url: &info.control_url,
            reached: Reached::Running,
        };
        return sandbox.connect(None);
    }
    let place = settings.sandbox_place()?;
    let config = super::sandbox::config(StatePlace::Durable(state), place.clone(), None);
    let server = Server::start(config)?;
    let url = server.control_url().to_owned();
    let sandbox = Sandbox {
        place,
        url: &url,
        reached: Reached::InProcess,
        signer: SandboxSigner::Anybody,
    };
    sandbox.connect(Some(server))
}

/// Whom a running sandbox takes: where it checks signatures, the first credentials of its account in
/// the file that it was started with.
fn known_signer(settings: &Settings, info: &RunningInfo) -> Result<SandboxSigner, Failure> {
    let Some(file) = &info.credentials else {
        return Ok(SandboxSigner::Anybody);
    };
    let Ok(text) = std::fs::read_to_string(file) else {
        // Only whoever may read the file is let in by it; others say who they are.
        return Ok(SandboxSigner::Named(settings.profile.clone()));
    };
    let keyring = Keyring::parse(AuthMode::Known, &text)?;
    let own = keyring.own(&info.account);
    let known = own.map(|(key, secret, token)| SandboxSigner::Known {
        key: key.to_owned(),
        secret: secret.to_owned().into(),
        token: token.map(str::to_owned),
    });
    Ok(known.unwrap_or_else(|| SandboxSigner::Named(settings.profile.clone())))
}

struct Sandbox<'a> {
    place: Place,
    url: &'a str,
    reached: Reached,
    signer: SandboxSigner,
}

impl Sandbox<'_> {
    fn connect(self, server: Option<Running>) -> Result<Connected, Failure> {
        let Self {
            place,
            url,
            reached,
            signer,
        } = self;
        let name = match reached {
            Reached::InProcess => "the sandbox in this process".to_owned(),
            _ => format!("the sandbox at {url}"),
        };
        let plane = Box::new(AwsControlPlane::sandbox(&place, url, &name, signer)?);
        let in_process = reached == Reached::InProcess;
        let target = TargetReport {
            kind: Target::Sandbox,
            reached,
            place,
            url: (!in_process).then(|| url.to_owned()),
        };
        Ok(Connected {
            plane,
            target,
            _server: server,
        })
    }
}

/// Where the project's running sandbox listens for MQTT (`host:port`), and the file of the CA that
/// vouches for it; `None` when none runs or the target is another.
pub(in crate::cli) fn running_endpoint(settings: &Settings) -> Option<(String, PathBuf)> {
    if settings.target != Target::Sandbox {
        return None;
    }
    let running = find_running(&settings.sandbox_state()?)?;
    let place = place_in(settings, &running).ok()?;
    let (host, port) = (running.mqtt_host?, running.mqtt_port?);
    let mut ports = running.places.iter();
    let own = ports.find(|one| one.account == place.account && one.region == place.region);
    let endpoint = match own {
        Some(own) => format!("{host}:{}", own.mqtt_port),
        None if place.region == running.region => format!("{host}:{port}"),
        None => format!("{}:{port}", worlds::endpoint(&place, &host)),
    };
    Some((endpoint, running.ca_file?))
}

/// The place in a running sandbox that the settings name: its own, or its account in another Region.
fn place_in(settings: &Settings, running: &RunningInfo) -> Result<Place, Failure> {
    let region = settings.region.as_deref().map(str::parse).transpose()?;
    Ok(Place {
        account: running.account.clone(),
        region: region.unwrap_or_else(|| running.region.clone()),
    })
}
