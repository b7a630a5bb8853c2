//! The flags that start a sandbox, for `serve` and `run`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{Access, access};

use crate::cli::report::note;
use crate::cli::settings::Settings;
use crate::cli::wire::sandbox as wire;
use crate::core::ids::Place;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Failure, Kind};
use crate::sandbox::admin::Controls;
use crate::sandbox::auth::{AuthMode, Keyring};
use crate::sandbox::bulk::Buckets;
use crate::sandbox::clock::ClockChange;
use crate::sandbox::faults::Fault;
use crate::sandbox::fleet::{HookTarget, Hooks};
use crate::sandbox::folder::erase_abandoned;
use crate::sandbox::server::{MqttConfig, Running, RunningInfo, Server, StatePlace};

/// How a sandbox is started.
#[derive(clap::Args, Debug)]
pub(super) struct StartArgs {
    /// The folder of its durable state [default: the project's `sandbox` folder]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    state: Option<PathBuf>,
    /// Where the control plane (REST) listens; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT")]
    control: Option<SocketAddr>,
    /// Where the MQTT endpoint listens; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT")]
    mqtt: Option<SocketAddr>,
    /// Where HTTPS publishes are taken, and MQTT from clients that ask for it by ALPN, as on AWS IoT's
    /// ports 443 and 8443 [default: port 8443; any free one where --mqtt is given]
    #[arg(long, value_name = "ADDR:PORT")]
    https: Option<SocketAddr>,
    /// Give another account or Region an MQTT port of its own (repeat for more); without one it is
    /// reached on the common ports by the name that DescribeEndpoint says
    #[arg(long, value_name = "ACCOUNT/REGION=ADDR:PORT", value_parser = place)]
    place: Vec<(Place, SocketAddr)>,
    /// How long a persistent session outlives its connection at most (`1h`, up to `7d`)
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = session_expiry)]
    session_expiry: u32,
    /// The MQTT endpoint's name: what clients must send as TLS server name
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    endpoint: String,
    /// Keep the state in memory; a temporary folder has what others find the sandbox by
    #[arg(long)]
    ephemeral: bool,
    /// How long after its first connection a device is provisioned (`500ms`, `1s`, `1m`)
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = delay)]
    jitp_delay: Duration,
    /// Start the sandbox's clock at this time (RFC 3339, or `+90d`)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Where a template's pre-provisioning hook runs: the Lambda function's name or ARN, and an
    /// http:// URL or a program (repeat for more)
    #[arg(long, value_name = "FUNCTION=TARGET", value_parser = hook)]
    hook: Vec<(String, HookTarget)>,
    /// Where the input of thing registration tasks is: a folder with a folder for each bucket, or an
    /// http:// URL that buckets and keys follow
    #[arg(long, value_name = "DIR|URL", value_parser = <Buckets as std::str::FromStr>::from_str)]
    s3: Option<Buckets>,
    /// Whose requests the control plane takes: `any` signed one, or only those that `known`
    /// credentials have signed
    #[arg(long, value_name = "WHO", default_value = "any", value_parser = ["any", "known"])]
    auth: String,
    /// Credentials in the AWS CLI's format; `aws_account_id` says whose account they are
    #[arg(long, value_name = "FILE", required_if_eq("auth", "known"))]
    credentials: Option<PathBuf>,
    /// Whose quotas of calls per second are enforced
    #[arg(long, value_name = "WHOSE", value_parser = ["aws"])]
    quotas: Option<String>,
    /// Move, stop or hurry the sandbox's clock: `offset=+3h`, `fixed=2030-01-01T00:00:00Z`, `rate=60`
    /// (repeat to combine)
    #[arg(long, value_name = "CHANGE", conflicts_with = "at", value_parser = <ClockChange as FromStr>::from_str)]
    clock: Vec<ClockChange>,
    /// Let something go wrong: `server-cert-expired`, `template-delay=5s`, … (repeat for more;
    /// `sandbox fault list --all` names all)
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = <Fault as FromStr>::from_str)]
    fault: Vec<Fault>,
    /// Serve a page that shows what the sandbox knows and decides; loopback only
    #[arg(long, value_name = "ADDR:PORT", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:9081")]
    ui: Option<SocketAddr>,
    /// Take clients that send no TLS server name
    #[arg(long)]
    legacy_sni: bool,
    /// Take certificates that have expired or are not valid yet
    #[arg(long)]
    allow_expired: bool,
}

/// Where a command listens unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) control: u16,
    pub(super) mqtt: u16,
    pub(super) https: u16,
}

/// A sandbox that this command has started.
pub(super) struct Started {
    pub(super) running: Running,
    pub(super) state: PathBuf,
    /// Whose requests are taken.
    pub(super) keyring: Keyring,
    temporary: bool,
}

impl StartArgs {
    /// Starts it. Without a state folder, one is made up if `temporary` allows it.
    pub(super) fn start(
        &self,
        settings: &Settings,
        ports: Ports,
        temporary: bool,
    ) -> Result<Started, Failure> {
        let at = self
            .at
            .as_deref()
            .map(|text| UtcTime::parse_relative(text, wire::now()));
        let (state, temporary) = self.state(settings, temporary)?;
        let kept = if temporary {
            StatePlace::Ephemeral(state.clone())
        } else {
            StatePlace::Durable(state.clone())
        };
        let place = settings.sandbox_place()?;
        let mqtt = self.mqtt(ports);
        let mut config = wire::config(kept, place, at.transpose()?);
        config.control = self.control.unwrap_or(local(ports.control));
        config.jitp_delay = self.jitp_delay;
        config.keyring = self.keyring()?;
        config.credentials = self.known_file();
        config.controls = self.controls();
        config.quotas = self.quotas.is_some();
        config.buckets = self.s3.clone().unwrap_or_default();
        config.hooks = Hooks::new(self.hook.iter().cloned());
        warn_open(config.control, &mqtt);
        config.mqtt = Some(mqtt);
        Ok(Started {
            keyring: config.keyring.clone(),
            running: Server::start(config)?,
            state,
            temporary,
        })
    }

    fn mqtt(&self, ports: Ports) -> MqttConfig {
        let address = self.mqtt.unwrap_or(local(ports.mqtt));
        // Beside a port of the user's choice, AWS IoT's own number would be a surprise.
        let beside = match self.mqtt {
            Some(mqtt) => SocketAddr::new(mqtt.ip(), 0),
            None => local(ports.https),
        };
        MqttConfig {
            https: Some(self.https.unwrap_or(beside)),
            session_expiry: self.session_expiry,
            name: self.endpoint.clone(),
            legacy_sni: self.legacy_sni,
            allow_expired: self.allow_expired,
            places: self.place.clone(),
            ..MqttConfig::new(address)
        }
    }

    fn controls(&self) -> Controls {
        Controls {
            faults: self.fault.clone(),
            clock: self.clock.clone(),
            ui: self.ui,
        }
    }

    fn keyring(&self) -> Result<Keyring, Failure> {
        let mode = match &self.auth[..] {
            "known" => AuthMode::Known,
            _ => AuthMode::Any,
        };
        let text = match &self.credentials {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let message = format!("`{}` cannot be read", path.display());
                Failure::new(Kind::Input, "sandbox.credentials", message).because(error)
            })?,
        };
        Ok(Keyring::parse(mode, &text)?)
    }

    /// The credentials' file, where no others are taken, by a path that is good from any folder.
    fn known_file(&self) -> Option<PathBuf> {
        let file = self.credentials.as_ref().filter(|_| self.auth == "known")?;
        std::path::absolute(file).ok()
    }

    fn state(&self, settings: &Settings, temporary: bool) -> Result<(PathBuf, bool), Failure> {
        let own = self.state.clone().or_else(|| settings.sandbox_state());
        match own {
            Some(state) if !self.ephemeral => Ok((state, false)),
            None if !self.ephemeral && !temporary => {
                let message = "there is no project here, and no folder for the sandbox's state";
                Err(Failure::new(Kind::Input, "sandbox.no-state", message)
                    .hint("run `nameplate init` first, or use --state DIR or --ephemeral"))
            }
            _ => {
                let place = memory_folder();
                erase_abandoned(&place, TEMPORARY);
                Ok((
                    place.join(format!("{TEMPORARY}{}", wire::random_name())),
                    true,
                ))
            }
        }
    }
}

/// A port of this machine alone.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What the names of temporary folders begin with.
const TEMPORARY: &str = "nameplate-sandbox-";

/// Where files are in memory, if there is such a place; else where temporary ones are.
fn memory_folder() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let shared = Some(PathBuf::from("/dev/shm"));
    let found = [runtime, shared].into_iter().flatten();
    let may = Access::WRITE_OK | Access::EXEC_OK;
    let mut found = found.filter(|path| path.is_dir() && access(path, may).is_ok());
    found.next().unwrap_or_else(std::env::temp_dir)
}

/// Says loudly where others can reach it.
fn warn_open(control: SocketAddr, mqtt: &MqttConfig) {
    let places = mqtt.places.iter().map(|(_, address)| *address);
    let all = [Some(control), Some(mqtt.address), mqtt.https];
    let all = all.into_iter().flatten().chain(places);
    for address in all.filter(|address| !address.ip().is_loopback()) {
        note(format_args!(
            "WARNING: the sandbox listens on {address}, which others can reach. It takes any AWS \
             credentials: whoever gets there can change everything in it."
        ));
    }
}

impl Started {
    /// Stops it, and removes a temporary folder.
    pub(super) fn stop(self) {
        self.running.stop();
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.state);
        }
    }

    pub(super) fn listening(&self) -> Listening {
        Listening {
            event: "listening",
            info: self.running.info().clone(),
            state: self.state.clone(),
            temporary: self.temporary,
        }
    }
}

/// Where a sandbox listens.
#[derive(serde::Serialize)]
pub(super) struct Listening {
    event: &'static str,
    #[serde(flatten)]
    info: RunningInfo,
    state: PathBuf,
    temporary: bool,
}

impl crate::cli::report::Report for Listening {}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunningInfo {
            account, region, ..
        } = &self.info;
        writeln!(f, "the sandbox plays account {account} in {region}")?;
        write_places(f, &self.info)?;
        let state = self.state.display();
        if self.temporary {
            return write!(f, "  state          in memory (found by {state})");
        }
        write!(f, "  state          {state}")
    }
}

/// The lines that say where it can be reached.
pub(super) fn write_places(f: &mut fmt::Formatter<'_>, info: &RunningInfo) -> fmt::Result {
    writeln!(f, "  control plane  {}", info.control_url)?;
    if let (Some(host), Some(port)) = (&info.mqtt_host, info.mqtt_port) {
        writeln!(f, "  MQTT           {host}:{port}")?;
        if let Some(https) = info.https_port {
            writeln!(f, "  HTTPS, ALPN    {host}:{https}")?;
        }
        for place in &info.places {
            let (account, region, port) = (&place.account, &place.region, place.mqtt_port);
            writeln!(
                f,
                "  MQTT           {host}:{port} for {account} in {region}"
            )?;
        }
    }
    if let Some(page) = &info.ui_url {
        writeln!(f, "  page           {page}")?;
    }
    if let Some(ca) = &info.ca_file {
        writeln!(f, "  server CA      {}", ca.display())?;
    }
    Ok(())
}

/// `FUNCTION=TARGET`
fn hook(text: &str) -> Result<(String, HookTarget), String> {
    match text.split_once('=') {
        Some((function, target)) if !function.is_empty() => {
            Ok((function.to_owned(), target.parse()?))
        }
        _ => Err(format!(
            "`{text}` is not FUNCTION=TARGET, such as check-serial=./check-serial"
        )),
    }
}

/// `ACCOUNT/REGION=ADDR:PORT`
fn place(text: &str) -> Result<(Place, SocketAddr), String> {
    let wrong = || {
        format!(
            "`{text}` is not ACCOUNT/REGION=ADDR:PORT, such as 210987654321/us-east-1=127.0.0.1:8884"
        )
    };
    let (place, address) = text.split_once('=').ok_or_else(wrong)?;
    let (account, region) = place.split_once('/').ok_or_else(wrong)?;
    let account = account.parse().map_err(|error| format!("{error}"))?;
    let region = region.parse().map_err(|error| format!("{error}"))?;
    let address = address.parse().map_err(|_| wrong())?;
    Ok((Place { account, region }, address))
}

/// The longest that AWS IoT grants, in seconds: 7 days.
const MAX_SESSION_EXPIRY: i64 = 604_800;

/// `1h`, in seconds.
fn session_expiry(text: &str) -> Result<u32, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    let seconds = Some(span.as_seconds()).filter(|n| (1..=MAX_SESSION_EXPIRY).contains(n));
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    seconds.ok_or_else(|| format!("`{text}` is not between 1s and 7d"))
}

/// `1s`, `2m`, or in milliseconds, `500ms`.
fn delay(text: &str) -> Result<Duration, String> {
    if let Some(millis) = text.strip_suffix("ms") {
        let wrong = |_| format!("`{text}` is not a duration such as `500ms`");
        return millis.parse().map(Duration::from_millis).map_err(wrong);
    }
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    let seconds = u64::try_from(span.as_seconds());
    seconds
        .map(Duration::from_secs)
        .map_err(|_| format!("`{text}` is negative"))
}
