//! Starts and stops a sandbox: its registry, control plane and MQTT endpoint on a runtime of their
//! own, so that synchronous code can run one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::middleware;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::admin::{AdminParts, Controls};
use super::auth::Keyring;
use super::broker::Rules;
use super::bulk::Buckets;
use super::clock::SandboxClock;
use super::entrance::{Entrance, Listeners};
use super::exchange::{Exchange, millis};
use super::faults::Faults;
use super::fleet::Hooks;
use super::folder::{Folder, FolderError, SERVER_CA, STATE};
use super::logs::{Logs, Record};
use super::mqtt::hub::HubRules;
use super::quota::Quotas;
use super::registry::Registry;
use super::store::{Store, StoreError};
use super::tls::{ServerCa, TlsError};
use super::worlds::Worlds;
use super::{Shared, connection, rest};
use crate::core::ids::Place;
use crate::ports::{Clock, Entropy};

pub use super::entrance::{MqttConfig, SESSION_EXPIRY};
pub use super::failure::ServerError;
pub use super::folder::{PlacePort, RunningInfo, find_running};

/// How long a stop waits for answers that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a sandbox keeps its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StatePlace {
    /// In this folder; held alone while it runs.
    Durable(PathBuf),
    /// In memory. The folder has what others need to find it and to trust it, and its records;
    /// neither the registry nor a key is ever written.
    Ephemeral(PathBuf),
    /// Nowhere: it is gone when it stops.
    Memory,
}

impl StatePlace {
    /// The folder that it is found by.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Durable(path) | Self::Ephemeral(path) => Some(path),
            Self::Memory => None,
        }
    }

    fn is_durable(&self) -> bool {
        matches!(self, Self::Durable(_))
    }
}

/// What a sandbox is to be.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where its state is.
    pub state: StatePlace,
    /// The account and Region it plays.
    pub place: Place,
    /// Where the control plane listens; port 0 takes any free one.
    pub control: SocketAddr,
    /// The MQTT endpoint; `None` for the control plane alone.
    pub mqtt: Option<MqttConfig>,
    /// The time by which certificates are judged.
    pub clock: Arc<dyn Clock + Send + Sync>,
    /// For serial numbers and trace ids.
    pub entropy: Arc<dyn Entropy + Send + Sync>,
    /// How long after its first connection a device is provisioned.
    pub jitp_delay: Duration,
    /// Where pre-provisioning hooks run.
    pub hooks: Hooks,
    /// Where the inputs of registration tasks are.
    pub buckets: Buckets,
    /// Whose signatures the control plane takes.
    pub keyring: Keyring,
    /// The file that the keyring is from, for those who call the control plane on this machine.
    pub credentials: Option<PathBuf>,
    /// Whether AWS's quotas are enforced.
    pub quotas: bool,
    /// Faults, clock and page.
    pub controls: Controls,
    /// The machine's own time, by which clients sign.
    pub machine: Arc<dyn Clock + Send + Sync>,
}

impl ServerConfig {
    /// The control plane alone, on any free loopback port.
    pub fn new(
        state: StatePlace,
        place: Place,
        clock: Arc<dyn Clock + Send + Sync>,
        entropy: Arc<dyn Entropy + Send + Sync>,
    ) -> Self {
        Self {
            state,
            place,
            control: SocketAddr::from(([127, 0, 0, 1], 0)),
            mqtt: None,
            machine: Arc::clone(&clock),
            clock,
            entropy,
            jitp_delay: Duration::from_secs(1),
            hooks: Hooks::default(),
            buckets: Buckets::None,
            keyring: Keyring::default(),
            credentials: None,
            quotas: false,
            controls: Controls::default(),
        }
    }
}

/// Starts sandboxes.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// A sandbox that runs; it stops when this is dropped.
pub struct Running {
    info: RunningInfo,
    ca_pem: Option<String>,
    mqtt_addr: Option<SocketAddr>,
    https_addr: Option<SocketAddr>,
    logs: Logs,
    registry: Arc<Mutex<Registry>>,
    handle: Handle,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    /// Given back when the runtime is gone.
    folder: Option<Folder>,
}

/// What is ready before the runtime is.
struct Parts {
    shared: Shared,
    front: Arc<rest::Front>,
    logs: Logs,
    control: TcpListener,
    admin: AdminParts,
    mqtt: Option<Entrance>,
}

impl Server {
    /// Takes the state folder, opens the registry, binds the ports, and serves.
    ///
    /// # Errors
    /// `sandbox.*`: the folder is in use or cannot be used, its state is another place's, a port is
    /// taken.
    pub fn start(mut config: ServerConfig) -> Result<Running, ServerError> {
        let clock = Arc::new(SandboxClock::new(Arc::clone(&config.clock)));
        for change in &config.controls.clock {
            clock.change(*change);
        }
        config.clock = Arc::<SandboxClock>::clone(&clock);
        let folder = config.state.folder().map(Folder::take).transpose()?;
        let store = || open_store(&config.state, folder.as_ref());
        let mut registry = Registry::open(config.place.clone(), store()?)?;
        let ended = registry.end_orphaned_tasks(config.clock.now());
        ended.map_err(|error| ServerError::Start(io::Error::other(error)))?;
        let logs = open_logs(&config, folder.as_ref())?;
        let ca = match &config.mqtt {
            Some(_) => Some(server_ca(&config, folder.as_ref())?),
            None => None,
        };
        let ca_pem = ca.as_ref().map(ServerCa::pem);
        let kept = store()?;
        let entrance = ca.map(|ca| (ca, kept));
        let desk = (clock, folder.as_ref());
        let parts = Parts::new(&config, (registry, logs), entrance, desk)?;
        Running::new(&config, parts, ca_pem, folder)
    }
}

fn open_store(state: &StatePlace, folder: Option<&Folder>) -> Result<Store, StoreError> {
    match folder {
        Some(folder) if state.is_durable() => Store::durable(&folder.file(STATE)),
        _ => Ok(Store::memory()),
    }
}

/// The state's server CA, or a new one. Others trust it by its certificate in the folder.
fn server_ca(config: &ServerConfig, folder: Option<&Folder>) -> Result<ServerCa, TlsError> {
    match folder {
        Some(folder) if config.state.is_durable() => ServerCa::of_folder(folder, &*config.entropy),
        Some(folder) => {
            let ca = ServerCa::generate(&*config.entropy)?;
            folder.write(SERVER_CA, &ca.pem(), 0o644)?;
            Ok(ca)
        }
        None => ServerCa::generate(&*config.entropy),
    }
}

fn open_logs(config: &ServerConfig, folder: Option<&Folder>) -> Result<Logs, FolderError> {
    let file = folder.map(Folder::logs).transpose()?;
    let (clock, entropy) = (Arc::clone(&config.clock), Arc::clone(&config.entropy));
    Ok(Logs::new(config.place.clone(), clock, entropy, file))
}

pub(super) fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, ServerError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| ServerError::Bind {
        what,
        address,
        source,
    })
}

/// How clients and their sessions are treated.
fn rules(config: &ServerConfig, mqtt: &MqttConfig) -> (Rules, HubRules) {
    let rules = Rules {
        jitp_delay: config.jitp_delay,
        allow_expired: mqtt.allow_expired,
        paced: config.quotas,
    };
    let hub = HubRules {
        session_expiry: mqtt.session_expiry,
        rates: config.quotas,
    };
    (rules, hub)
}

fn listeners(mqtt: &MqttConfig) -> Result<Listeners, ServerError> {
    let https = mqtt.https.map(|address| bind(address, "HTTPS endpoint"));
    let places = mqtt.places.iter().map(|(place, address)| {
        let listener = bind(*address, "MQTT endpoint of another place")?;
        Ok((place.clone(), listener))
    });
    Ok(Listeners {
        mqtt: bind(mqtt.address, "MQTT endpoint")?,
        https: https.transpose()?,
        places: places.collect::<Result<_, ServerError>>()?,
    })
}

/// Whom the control plane serves, and how.
fn front(config: &ServerConfig, worlds: Arc<Worlds>) -> rest::Front {
    rest::Front {
        worlds,
        keyring: config.keyring.clone(),
        quotas: if config.quotas {
            Quotas::aws()
        } else {
            Quotas::default()
        },
        machine: Arc::clone(&config.machine),
    }
}

impl Parts {
    fn new(
        config: &ServerConfig,
        (registry, logs): (Registry, Logs),
        mqtt: Option<(ServerCa, Store)>,
        (clock, folder): (Arc<SandboxClock>, Option<&Folder>),
    ) -> Result<Self, ServerError> {
        let name = config.mqtt.as_ref().map_or("localhost", |mqtt| &mqtt.name);
        let shared = Shared {
            registry: Arc::new(Mutex::new(registry)),
            clock: Arc::clone(&config.clock),
            endpoint: name.into(),
            logs: logs.clone(),
            faults: Arc::new(Faults::new(&config.controls.faults)),
            hooks: Arc::new(config.hooks.clone()),
            buckets: Arc::new(config.buckets.clone()),
            broker: Arc::new(OnceLock::new()),
        };
        let state = match &config.state {
            StatePlace::Durable(path) => Some(path.join(STATE)),
            StatePlace::Ephemeral(_) | StatePlace::Memory => None,
        };
        let worlds = Arc::new(Worlds::new(shared.clone(), state));
        let mqtt = match (&config.mqtt, mqtt) {
            (Some(mqtt), Some((ca, kept))) => {
                let now = millis(&*shared.clock);
                let place = config.place.clone();
                let (rules, hub) = rules(config, mqtt);
                let exchange = Exchange::open(place, kept, hub, now)?;
                let (parts, listeners) = ((ca, exchange, rules, hub), listeners(mqtt)?);
                Some(Entrance::new(mqtt, parts, &worlds, listeners)?)
            }
            _ => None,
        };
        let faults = Arc::clone(&shared.faults);
        let desk = (&shared, clock, faults);
        Ok(Self {
            admin: AdminParts::new(config.controls.ui, desk, &*config.entropy, folder)?,
            front: Arc::new(front(config, worlds)),
            shared,
            logs,
            control: bind(config.control, "control plane")?,
            mqtt,
        })
    }

    async fn serve(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let control = tokio::net::TcpListener::from_std(self.control)?;
        let mqtt = match self.mqtt {
            Some(mqtt) => Some(mqtt.serve(&stop)?),
            None => None,
        };
        let mut stopping = stop.clone();
        let desk = self.admin.desk.clone();
        self.admin.serve(&stop)?;
        let watched = middleware::from_fn_with_state(desk, super::admin::watch);
        let router = rest::router(self.front).layer(watched);
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        let rest = axum::serve(control, router).with_graceful_shutdown(async move {
            connection::stopped(&mut stopping).await;
        });
        let mut stopping = stop.clone();
        let patience = async move {
            connection::stopped(&mut stopping).await;
            tokio::time::sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            served = rest => served?,
            () = patience => {}
        }
        if let Some(mut mqtt) = mqtt {
            let all = async { while mqtt.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(STOP_TIMEOUT, all).await;
        }
        Ok(())
    }
}

/// What others are told of it.
fn info(
    config: &ServerConfig,
    parts: &Parts,
    (control, mqtt_addr, https_addr): (SocketAddr, Option<SocketAddr>, Option<SocketAddr>),
    folder: Option<&Folder>,
) -> RunningInfo {
    let listeners = parts.mqtt.iter().flat_map(|mqtt| &mqtt.listeners.places);
    let places = listeners.filter_map(|(place, listener)| {
        Some(PlacePort {
            account: place.account.clone(),
            region: place.region.clone(),
            mqtt_port: listener.local_addr().ok()?.port(),
        })
    });
    let (admin_url, ui_url) = parts.admin.urls();
    RunningInfo {
        admin_url,
        ui_url,
        pid: std::process::id(),
        control_url: format!("http://{control}"),
        mqtt_host: config.mqtt.as_ref().map(|mqtt| mqtt.name.clone()),
        mqtt_port: mqtt_addr.map(|address| address.port()),
        https_port: https_addr.map(|address| address.port()),
        places: places.collect(),
        ca_file: match (folder, &config.mqtt) {
            (Some(folder), Some(_)) => Some(folder.file(SERVER_CA)),
            _ => None,
        },
        credentials: config.credentials.clone(),
        account: config.place.account.clone(),
        region: config.place.region.clone(),
        started: config.clock.now(),
    }
}

impl Running {
    fn new(
        config: &ServerConfig,
        parts: Parts,
        ca_pem: Option<String>,
        folder: Option<Folder>,
    ) -> Result<Self, ServerError> {
        let control = parts.control.local_addr().map_err(ServerError::Start)?;
        let listeners = parts.mqtt.as_ref().map(|mqtt| &mqtt.listeners);
        let mqtt_addr = local(listeners.map(|all| &all.mqtt))?;
        let https_addr = local(listeners.and_then(|all| all.https.as_ref()))?;
        let addresses = (control, mqtt_addr, https_addr);
        let info = info(config, &parts, addresses, folder.as_ref());
        let (logs, registry) = (parts.logs.clone(), Arc::clone(&parts.shared.registry));
        let runtime = runtime()?;
        let handle = runtime.handle().clone();
        let (stop, stopping) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("sandbox".into())
            .spawn(move || serve_to_the_end(runtime, parts, stopping))
            .map_err(ServerError::Start)?;
        let running = Self {
            info,
            ca_pem,
            mqtt_addr,
            https_addr,
            logs,
            registry,
            handle,
            stop,
            thread: Some(thread),
            folder,
        };
        if let Some(folder) = &running.folder {
            folder.announce(&running.info)?;
        }
        Ok(running)
    }

    /// Where everything listens.
    pub fn info(&self) -> &RunningInfo {
        &self.info
    }

    /// The control plane's URL.
    pub fn control_url(&self) -> &str {
        &self.info.control_url
    }

    /// The MQTT endpoint's address.
    pub fn mqtt_addr(&self) -> Option<SocketAddr> {
        self.mqtt_addr
    }

    /// Where HTTPS publishes are taken.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https_addr
    }

    /// The certificate that the MQTT endpoint is verified with.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The registry it serves.
    pub fn registry(&self) -> &Arc<Mutex<Registry>> {
        &self.registry
    }

    /// The last records of what happened, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.logs.recent()
    }

    /// Blocks until this process gets SIGINT or SIGTERM.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn wait_for_signal(&self) -> io::Result<()> {
        self.handle.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            Ok(())
        })
    }

    /// From now on SIGTERM calls `terminated` and SIGINT does nothing, so that this process
    /// outlives a child that both are meant for.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn divert_signals(&self, terminated: impl Fn() + Send + 'static) -> io::Result<()> {
        let _inside = self.handle.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        self.handle.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => terminated(),
                }
            }
        });
        Ok(())
    }

    /// Stops serving, closes every connection, and gives the state folder back.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.folder = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn runtime() -> Result<Runtime, ServerError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sandbox")
        .build()
        .map_err(ServerError::Start)
}

fn local(listener: Option<&TcpListener>) -> Result<Option<SocketAddr>, ServerError> {
    let address = listener.map(TcpListener::local_addr).transpose();
    address.map_err(ServerError::Start)
}

fn serve_to_the_end(runtime: Runtime, parts: Parts, stopping: watch::Receiver<bool>) {
    let logs = parts.logs.clone();
    if let Err(error) = runtime.block_on(parts.serve(stopping)) {
        logs.write(Record::failure(
            "Disconnect",
            "SERVER_ERROR",
            error.to_string(),
        ));
    }
    runtime.shutdown_timeout(STOP_TIMEOUT);
}

/// The registry over a folder's state, opened beside whoever serves it, to be read only.
///
/// # Errors
/// `sandbox.*` when there is no state there, or it cannot be read.
pub fn read_registry(path: &Path, place: Place) -> Result<Option<Registry>, ServerError> {
    let file = path.join(STATE);
    if !file.is_file() {
        return Ok(None);
    }
    Ok(Some(Registry::open(place, Store::durable(&file)?)?))
}
