//! `connect`

use std::fmt;

use clap::ValueEnum;

use super::identity::{EndpointArgs, IdentityArgs, duration, positive};
use super::report::{Report, note};
use super::settings::Settings;
use super::wire;
use super::wire_device::Machine;
use crate::core::backoff::Backoff;
use crate::explain::{Failure, Kind};
use crate::flows::connect::{
    Connect, Connected, Fault, Probe, Probed, Progress, Request, Until, Versions,
};
use crate::flows::identity;

/// Connect for the first time, as AWS IoT's JITP wants it
///
/// The first connection of a new certificate is dropped by design, while AWS IoT registers it and
/// runs the provisioning template. So this presents the certificate and its chain, waits with
/// jitter, and tries again until the server answers CONNACK with code 0; with `--until
/// thing-usable`, until the policy also lets it subscribe, publish and receive.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// The MQTT client id [default: the thing's name where `provision` left it, else the
    /// certificate's common name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Which MQTT to speak; `auto` is 5, or 3.1.1 where the server does not speak 5
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = Mqtt::Auto)]
    mqtt: Mqtt,
    /// What counts as success
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = UntilArg::Connack)]
    until: UntilArg,
    /// Subscribe to this topic, publish to it, and wait for the message; `{client-id}` is filled in
    /// [default with --until thing-usable: devices/{client-id}/probe]
    #[arg(long, value_name = "TOPIC")]
    probe_topic: Vec<String>,
    /// Subscribe to this filter
    #[arg(long, value_name = "FILTER")]
    probe_subscribe: Vec<String>,
    /// Publish a message to this topic
    #[arg(long, value_name = "TOPIC")]
    probe_publish: Vec<String>,
    /// Give up after so many attempts [default: no bound but --timeout]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
    /// Give up after this long
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: String,
    /// The most that the first wait may be; each later one may be twice as long
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    backoff: String,
    /// The most that any wait may be
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    backoff_max: String,
    /// Stay connected for this long, with pings, once accepted
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    hold: String,
}

/// `--mqtt`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Mqtt {
    /// MQTT 3.1.1
    #[value(name = "3")]
    Three,
    /// MQTT 5
    #[value(name = "5")]
    Five,
    /// MQTT 5, or 3.1.1 where the server does not speak 5
    #[default]
    Auto,
}

impl From<Mqtt> for Versions {
    fn from(mqtt: Mqtt) -> Self {
        match mqtt {
            Mqtt::Three => Self::Three,
            Mqtt::Five => Self::Five,
            Mqtt::Auto => Self::Auto,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum UntilArg {
    /// CONNACK with code 0
    Connack,
    /// And every probe is given what it asks for
    ThingUsable,
}

/// Where the thing's own topics begin in the device policy that we ship.
const PROBE_TOPIC: &str = "devices/{client-id}/probe";

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Connected, Failure> {
        let machine = Machine::default();
        let request = self.request(settings, &machine)?;
        let connect = Connect {
            clock: &machine.clock,
            entropy: &machine.entropy,
            dial: &machine.dial,
        };
        let mut endpoints = request.others.clone();
        endpoints.push(request.endpoint.clone());
        let mut witness = wire::witness(settings, &endpoints);
        let many = !request.others.is_empty();
        let mut tell = |progress: &Progress<'_>| note(line(progress, many));
        Ok(connect.run_witnessed(&request, &mut tell, &mut witness)?)
    }

    fn request(self, settings: &Settings, machine: &Machine) -> Result<Request, Failure> {
        let paths = self.identity.paths(settings)?;
        let mut endpoints = self.endpoint.required(settings)?;
        let others = endpoints.split_off(1);
        let timeout = positive("--timeout", &self.timeout)?;
        let hold = duration("--hold", &self.hold)?;
        let backoff = Backoff {
            base: positive("--backoff", &self.backoff)?,
            ceiling: positive("--backoff-max", &self.backoff_max)?,
        };
        let identity = identity::load(&machine.files, &paths)?;
        let thing = identity::client_id_of(&machine.files, &paths);
        let leaf = identity.chain.first();
        let common_name = leaf.and_then(|leaf| leaf.subject.first("CN"));
        let named = self.client_id.clone().or(thing);
        let client_id = named.or(common_name.map(str::to_owned));
        let client_id = client_id.ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                "connect.client-id",
                "the certificate has no common name to use as the client id",
            )
            .hint("name the client id with --client-id")
        })?;
        let roots = self.endpoint.roots(settings, &machine.files)?;
        Ok(Request {
            others,
            timeout,
            hold,
            backoff,
            probes: self.probes(&client_id),
            attempts: self.attempts,
            versions: self.mqtt.into(),
            until: match self.until {
                UntilArg::Connack => Until::Connack,
                UntilArg::ThingUsable => Until::ThingUsable,
            },
            ..Request::new(endpoints.swap_remove(0), identity, roots, client_id)
        })
    }

    fn probes(&self, client_id: &str) -> Vec<Probe> {
        let filled = |text: &String| text.replace("{client-id}", client_id);
        let of = |all: &[String], subscribe: bool, publish: bool| -> Vec<Probe> {
            let probe = |text: &String| Probe {
                topic: filled(text),
                subscribe,
                publish,
            };
            all.iter().map(probe).collect()
        };
        let mut all = of(&self.probe_topic, true, true);
        all.extend(of(&self.probe_subscribe, true, false));
        all.extend(of(&self.probe_publish, false, true));
        if all.is_empty() && self.until == UntilArg::ThingUsable {
            all.push(Probe::both(filled(&PROBE_TOPIC.to_owned())));
        }
        all
    }
}

/// One line for one attempt that failed.
fn line(progress: &Progress<'_>, many: bool) -> String {
    let Progress {
        attempt,
        endpoint,
        fault,
        wait,
    } = progress;
    let expected = match fault {
        Fault::ClosedBeforeConnack if *attempt == 1 => ", as JITP does to a new certificate",
        _ => "",
    };
    let next = match wait {
        Some(wait) => format!("next try in {:.1} s", wait.as_secs_f64()),
        None => "giving up".to_owned(),
    };
    let at = if many {
        format!(" at `{endpoint}`")
    } else {
        String::new()
    };
    format!("attempt {attempt}{at}: {fault}{expected}; {next}")
}

impl Report for Connected {
    fn exit_code(&self) -> u8 {
        u8::from(self.dropped.is_some() || !self.probes.iter().all(Probed::is_good))
    }
}

impl fmt::Display for Connected {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds shown as seconds")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "connected: `{}` was accepted by `{}` ({} attempt{}, {:.1} s)",
            self.client_id,
            self.endpoint,
            self.attempts,
            if self.attempts == 1 { "" } else { "s" },
            self.total_ms as f64 / 1000.0
        )?;
        write!(f, "  protocol  {}", self.protocol)?;
        if let Some(alpn) = &self.alpn {
            write!(f, " by ALPN {alpn}")?;
        }
        writeln!(
            f,
            "\n  tls       {}, {}",
            self.tls_version.as_deref().unwrap_or("unknown"),
            self.cipher_suite.as_deref().unwrap_or("unknown suite")
        )?;
        write!(f, "  server    {} at {}", self.server_subject, self.address)?;
        for probe in &self.probes {
            write!(f, "\n  probe     {}", probe_line(probe))?;
        }
        if self.held_ms > 0 {
            write!(f, "\n  held      {:.1} s", self.held_ms as f64 / 1000.0)?;
        }
        if let Some(dropped) = &self.dropped {
            write!(
                f,
                "\ndropped: {dropped}; another connection with this client id takes it over"
            )?;
        }
        Ok(())
    }
}

fn probe_line(probe: &Probed) -> String {
    if let Some(fault) = &probe.fault {
        return format!("`{}`: NO: {fault}", probe.topic);
    }
    let steps = [
        (probe.subscribed, "subscribed"),
        (probe.published, "published"),
        (probe.received, "received"),
    ];
    let done = steps.iter().filter(|(done, _)| *done == Some(true));
    let done: Vec<&str> = done.map(|(_, word)| *word).collect();
    format!("`{}`: {}", probe.topic, done.join(", "))
}
