//! Flags that say whom to ask for the time, and where what is known of it is kept; shared by
//! `preflight` and `clock`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::identity::in_project;
use super::settings::Settings;
use super::wire_device::Machine;
use crate::core::cert::Certificate;
use crate::core::clock::{Daemon, Trust};
use crate::core::endpoint::Endpoint;
use crate::core::nts;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Failure, Kind};
use crate::flows::clock::{ClockRequest, Kept};
use crate::flows::identity;
use crate::ports::{Clock, DaemonPlace, Files, Place};

const STATE_DIR: &str = "/var/lib/nameplate";
const RUN_DIR: &str = "/run/nameplate";

/// Whom to ask for the time.
#[derive(clap::Args, Debug)]
pub(super) struct TimeArgs {
    /// A time server to ask; may be given several times [config: device.ntp]
    #[arg(
        long,
        visible_alias = "server",
        value_name = "HOST[:PORT]",
        env = "NAMEPLATE_NTP",
        value_delimiter = ','
    )]
    ntp: Vec<String>,
    /// Ask no time server
    #[arg(long, conflicts_with_all = ["ntp", "nts_server"])]
    no_ntp: bool,
    /// A time server that proves by NTS who it is; the port is its key exchange's, 4460 when left
    /// out; may be given several times [config: device.nts]
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "NAMEPLATE_NTS",
        value_delimiter = ','
    )]
    nts_server: Vec<String>,
    /// CAs that may vouch for NTS servers, PEM [default: the system's bundle] [config:
    /// device.nts_ca]
    #[arg(long, value_name = "FILE", env = "NAMEPLATE_NTS_CA")]
    nts_ca: Option<PathBuf>,
    /// Where a time daemon of this machine is asked: chrony=SOCKET or chrony=HOST:PORT,
    /// ntpd=HOST:PORT, ntpd-rs=SOCKET, timesyncd=FOLDER, or none; may be given several times
    /// [default: each at its usual place]
    #[arg(long, value_name = "KIND=PLACE", value_parser = daemon_place)]
    daemon: Vec<Option<DaemonPlace>>,
    /// Take the clock as right to within this much, though nothing confirms it
    #[arg(long, value_name = "SPAN")]
    trust_clock: Option<String>,
    /// The time is not before this [default: the date of this program's build]
    #[arg(long, value_name = "TIME", env = "NAMEPLATE_TIME_FLOOR")]
    time_floor: Option<String>,
    /// After this, only several servers or NTS are believed [default: 20 years after the floor]
    #[arg(long, value_name = "TIME", env = "NAMEPLATE_TIME_CEILING")]
    time_ceiling: Option<String>,
    /// Where the last time that was sure is kept [default: /var/lib/nameplate, if it is there]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Where it is kept until the next start which time servers do not want to be asked [default:
    /// /run/nameplate, if it is there]
    #[arg(long, value_name = "DIR", env = "NAMEPLATE_RUN_DIR")]
    run_dir: Option<PathBuf>,
}

impl TimeArgs {
    /// What to look at. Offline, this machine alone is asked.
    pub(super) fn request(
        &self,
        settings: &Settings,
        machine: &Machine,
        (offline, timeout): (bool, Duration),
    ) -> Result<ClockRequest, Failure> {
        let now = machine.clock.now();
        let time = |text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| UtcTime::parse_relative(text, now))
                .transpose()
        };
        let device = &settings.file.device;
        let none = offline || self.no_ntp;
        let nts_servers = servers(&self.nts_server, device.nts.as_deref(), nts::KE_PORT)?;
        let nts_servers = if none { Vec::new() } else { nts_servers };
        let time_servers = servers(&self.ntp, device.ntp.as_deref(), Endpoint::NTP_PORT)?;
        let nts_ca = self.nts_ca.clone().or_else(|| {
            let configured = device.nts_ca.clone()?;
            Some(in_project(settings, configured))
        });
        let nts_roots = match nts_ca {
            _ if nts_servers.is_empty() => Vec::new(),
            Some(path) => identity::certificates(&machine.files, &path)?,
            None => system_roots(machine)?,
        };
        Ok(ClockRequest {
            floor: time(&self.time_floor)?.unwrap_or(machine.floor),
            ceiling: time(&self.time_ceiling)?,
            trust_clock: self
                .trust_clock
                .as_deref()
                .map(|text| span("--trust-clock", text))
                .transpose()?,
            time_servers: if none { Vec::new() } else { time_servers },
            nts_servers,
            nts_roots,
            daemons: self.daemons(),
            last_seen: self.kept(machine).last_seen,
            tls: None,
            timeout,
        })
    }

    /// Where things are kept: where the user says, or at the usual place if that is there.
    pub(super) fn kept(&self, machine: &Machine) -> Kept {
        let folder = |named: &Option<PathBuf>, usual: &str| {
            let usual = PathBuf::from(usual);
            named
                .clone()
                .or_else(|| machine.files.exists(&usual).then_some(usual))
        };
        let state = folder(&self.state_dir, STATE_DIR);
        let run = folder(&self.run_dir, RUN_DIR);
        Kept {
            last_seen: state.map(|folder| folder.join("last-seen")),
            servers: run.map(|folder| folder.join("time-servers.json")),
        }
    }

    fn daemons(&self) -> Vec<(DaemonPlace, bool)> {
        if !self.daemon.is_empty() {
            let named = self.daemon.iter().flatten().cloned();
            return named.map(|place| (place, true)).collect();
        }
        let usual = [
            "chrony=/run/chrony/chronyd.sock",
            "chrony=127.0.0.1:323",
            "ntpd=127.0.0.1:123",
            "ntpd-rs=/run/ntpd-rs/observe",
            "timesyncd=/run/systemd/timesync",
        ];
        let places = usual.iter().filter_map(|text| daemon_place(text).ok()?);
        places.map(|place| (place, false)).collect()
    }
}

/// The bundle of public CAs, where Debian and Alpine, Fedora, and OpenWrt have it.
fn system_roots(machine: &Machine) -> Result<Vec<Certificate>, Failure> {
    let places = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let mut places = places.iter().map(Path::new);
    let Some(bundle) = places.find(|path| machine.files.exists(path)) else {
        let message = "this system has no bundle of public CAs to vouch for NTS servers";
        return Err(Failure::new(Kind::Usage, "clock.nts-ca", message).hint(
            "name the CAs with --nts-ca FILE, NAMEPLATE_NTS_CA, or `nts_ca` under [device]",
        ));
    };
    Ok(identity::certificates(&machine.files, bundle)?)
}

fn servers(
    named: &[String],
    configured: Option<&[String]>,
    port: u16,
) -> Result<Vec<Endpoint>, Failure> {
    let configured = configured.unwrap_or_default();
    let all = if named.is_empty() { configured } else { named };
    all.iter()
        .map(|text| Ok(Endpoint::parse(text, port)?))
        .collect()
}

fn daemon_place(text: &str) -> Result<Option<DaemonPlace>, String> {
    if text == "none" {
        return Ok(None);
    }
    let wrong = || {
        "write chrony=SOCKET, chrony=HOST:PORT, ntpd=HOST:PORT, ntpd-rs=SOCKET, timesyncd=FOLDER or \
         none"
            .to_owned()
    };
    let (kind, place) = text.split_once('=').ok_or_else(wrong)?;
    let (daemon, port) = match kind {
        "chrony" => (Daemon::Chrony, Some(323)),
        "ntpd" => (Daemon::Ntpd, Some(123)),
        "ntpd-rs" => (Daemon::NtpdRs, None),
        "timesyncd" => (Daemon::Timesyncd, None),
        _ => return Err(wrong()),
    };
    let at = match port {
        Some(port) if !place.starts_with('/') => {
            Place::Udp(Endpoint::parse(place, port).map_err(|error| error.to_string())?)
        }
        _ if place.is_empty() || daemon == Daemon::Ntpd => return Err(wrong()),
        _ => Place::Path(place.into()),
    };
    Ok(Some(DaemonPlace {
        daemon,
        at,
        question: Vec::new(),
    }))
}

/// How far evidence must be believed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum TrustArg {
    /// A TLS server's certificate will do
    Hint,
    /// Your word will do (--trust-clock)
    Word,
    /// A time daemon of this machine
    Daemon,
    /// Any time server
    Network,
    /// Three time servers that agree
    Majority,
    /// A time server with NTS
    Authenticated,
}

impl From<TrustArg> for Trust {
    fn from(arg: TrustArg) -> Self {
        match arg {
            TrustArg::Hint => Self::Hint,
            TrustArg::Word => Self::Word,
            TrustArg::Daemon => Self::Daemon,
            TrustArg::Network => Self::Network,
            TrustArg::Majority => Self::Majority,
            TrustArg::Authenticated => Self::Authenticated,
        }
    }
}

/// A duration flag.
pub(super) fn span(flag: &str, text: &str) -> Result<Span, Failure> {
    text.parse().map_err(|error: crate::core::time::TimeError| {
        Failure::new(Kind::Usage, error.code(), format!("{flag}: {error}"))
    })
}
