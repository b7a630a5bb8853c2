//! Flags that name a device's identity, its endpoint and whom it trusts; shared by the device's
//! commands.

use std::path::PathBuf;
use std::time::Duration;

use super::settings::Settings;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::proxy::{Proxy, bypasses};
use crate::core::server::amazon_roots;
use crate::core::time::Span;
use crate::explain::{Explain, Failure, Kind};
use crate::flows::identity::{self, Paths};
use crate::ports::Files;

/// The environment variable that names our proxy, and nobody else's.
const PROXY: &str = "NAMEPLATE_PROXY";

/// Which identity.
#[derive(clap::Args, Debug)]
pub(super) struct IdentityArgs {
    /// The identity's folder, as `device issue` writes it [config: device.identity]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// The device's certificate, PEM, when it is not in the folder
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_CERT")]
    cert: Option<PathBuf>,
    /// The device's certificate and its issuers, PEM, leaf first
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_CHAIN")]
    chain: Option<PathBuf>,
    /// The device's private key, PEM; or its pkcs11: URI
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_KEY")]
    key: Option<PathBuf>,
}

impl IdentityArgs {
    /// Whether a flag names the chain.
    pub(super) fn names_chain(&self) -> bool {
        self.chain.is_some()
    }

    /// The paths; flags for single files go before the folder.
    pub(super) fn paths(&self, settings: &Settings) -> Result<Paths, Failure> {
        let configured = || {
            let folder = settings.file.device.identity.as_ref()?;
            Some(in_project(settings, folder.clone()))
        };
        let single = self.cert.is_some() || self.chain.is_some() || self.key.is_some();
        let folder = self.identity.clone();
        let folder = if single {
            folder
        } else {
            folder.or_else(configured)
        };
        let base = folder.as_deref().map(Paths::in_folder);
        let key = self.key.clone().or(base.as_ref().map(|b| b.key.clone()));
        let chain = self.chain.clone();
        let certificate = self.cert.clone().or_else(|| chain.clone());
        let certificate = certificate.or(base.as_ref().map(|b| b.certificate.clone()));
        match (key, certificate) {
            (Some(key), Some(certificate)) => Ok(Paths {
                key,
                certificate,
                chain: chain.or(base.as_ref().and_then(|b| b.chain.clone())),
                ca: base.and_then(|b| b.ca),
            }),
            (None, Some(_)) => Err(missing("private key", "--key FILE", "NAMEPLATE_KEY", None)),
            (Some(_), None) => Err(missing(
                "certificate",
                "--cert FILE",
                "NAMEPLATE_CERT",
                None,
            )),
            (None, None) => Err(missing(
                "identity",
                "--identity DIR",
                "NAMEPLATE_IDENTITY",
                Some("identity"),
            )),
        }
    }
}

/// Which endpoints, and whom to trust to vouch for them.
#[derive(clap::Args, Debug)]
pub(super) struct EndpointArgs {
    /// The data endpoint, port 8883 when left out; several (a second Region's) are tried in order
    /// [config: device.endpoint, device.port]
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "NAMEPLATE_ENDPOINT",
        value_delimiter = ','
    )]
    endpoint: Vec<String>,
    /// Ask for MQTT by ALPN (x-amzn-mqtt-ca) at every port; port 443 is always asked so
    #[arg(long)]
    alpn: bool,
    /// CAs that may vouch for the server, PEM [default: Amazon's roots] [config: device.server_ca]
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_SERVER_CA")]
    server_ca: Option<PathBuf>,
    /// An HTTP proxy to go through by CONNECT [env: NAMEPLATE_PROXY, else HTTPS_PROXY unless
    /// NO_PROXY names the host or it is this machine]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Go through no proxy, whatever the environment says
    #[arg(long, conflicts_with = "proxy")]
    no_proxy: bool,
}

impl EndpointArgs {
    /// What connections go through, if anything: flag, then environment.
    pub(super) fn proxy(&self, endpoints: &[Endpoint]) -> Result<Option<Proxy>, Failure> {
        if self.no_proxy {
            return Ok(None);
        }
        let set = |name: &&str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        let read = |name: &str| std::env::var(name).unwrap_or_default();
        if let Some(text) = &self.proxy {
            return Ok(Some(Proxy::parse(text)?));
        }
        if set(&PROXY) {
            return Ok(Some(Proxy::parse(&read(PROXY))?));
        }
        let Some(name) = ["https_proxy", "HTTPS_PROXY"].into_iter().find(set) else {
            return Ok(None);
        };
        let rules = ["no_proxy", "NO_PROXY"].into_iter().find(set);
        let rules = rules.map(read).unwrap_or_default();
        let direct = |endpoint: &Endpoint| bypasses(&rules, &endpoint.host);
        if endpoints.iter().any(direct) {
            return Ok(None);
        }
        Ok(Some(Proxy::parse(&read(name))?))
    }

    /// Every endpoint that somebody named, in order.
    pub(super) fn all(&self, settings: &Settings) -> Result<Vec<Endpoint>, Failure> {
        let device = &settings.file.device;
        let port = device.port.unwrap_or(Endpoint::MQTT_PORT);
        let configured = device.endpoint.as_deref().unwrap_or_default().split(',');
        let named: Vec<&str> = if self.endpoint.is_empty() {
            configured.collect()
        } else {
            self.endpoint.iter().map(String::as_str).collect()
        };
        let read = |text: &&str| {
            let endpoint = Endpoint::parse(text.trim(), port)?;
            let alpn = endpoint.alpn || self.alpn;
            Ok(Endpoint { alpn, ..endpoint })
        };
        let given = named.iter().filter(|text| !text.trim().is_empty());
        given.map(read).collect()
    }

    /// Every endpoint, or which flag, variable and key would name one.
    pub(super) fn required(&self, settings: &Settings) -> Result<Vec<Endpoint>, Failure> {
        let all = self.all(settings)?;
        if all.is_empty() {
            return Err(missing(
                "endpoint",
                "--endpoint HOST[:PORT]",
                "NAMEPLATE_ENDPOINT",
                Some("endpoint"),
            ));
        }
        Ok(all)
    }

    /// The file of trusted CAs, if anybody named one.
    pub(super) fn server_ca(&self, settings: &Settings) -> Option<PathBuf> {
        let configured = settings.file.device.server_ca.clone();
        self.server_ca
            .clone()
            .or_else(|| configured.map(|path| in_project(settings, path)))
    }

    /// The trusted CAs.
    pub(super) fn roots(
        &self,
        settings: &Settings,
        files: &dyn Files,
    ) -> Result<Vec<Certificate>, Failure> {
        match self.server_ca(settings) {
            Some(path) => Ok(identity::certificates(files, &path)?),
            None => Ok(amazon_roots()),
        }
    }
}

/// A path of the configuration file, which is relative to the file's folder.
pub(super) fn in_project(settings: &Settings, path: PathBuf) -> PathBuf {
    settings
        .project
        .as_ref()
        .map_or_else(|| path.clone(), |folder| folder.join(&path))
}

fn missing(what: &str, flag: &str, variable: &str, key: Option<&str>) -> Failure {
    let key = key.map_or_else(String::new, |key| {
        format!(", or `{key}` under [device] in nameplate.toml")
    });
    Failure::new(
        Kind::Usage,
        "device.missing-input",
        format!("no {what} was named"),
    )
    .hint(format!("name it with {flag}, or {variable}{key}"))
}

/// A duration flag that must be positive.
pub(super) fn positive(flag: &str, text: &str) -> Result<Duration, Failure> {
    let span = duration(flag, text)?;
    if span.is_zero() {
        let message = format!("{flag} must be longer than nothing");
        return Err(Failure::new(Kind::Usage, "time.zero", message));
    }
    Ok(span)
}

/// A duration flag.
pub(super) fn duration(flag: &str, text: &str) -> Result<Duration, Failure> {
    let span: Span = text
        .parse()
        .map_err(|error: crate::core::time::TimeError| {
            Failure::new(Kind::Usage, error.code(), format!("{flag}: {error}"))
        })?;
    Ok(Duration::from_secs(
        u64::try_from(span.as_seconds()).unwrap_or(0),
    ))
}
