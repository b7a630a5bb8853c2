//! Flags of fleet provisioning, shared by `provision` and `device renew`.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::connect::Mqtt;
use super::identity::{EndpointArgs, positive};
use super::settings::Settings;
use super::wire_device::Machine;
use crate::core::backoff::Backoff;
use crate::core::ids::TemplateName;
use crate::core::key::KeyAlgorithm;
use crate::core::payload::Format;
use crate::explain::{Failure, Kind};
use crate::flows::enrol::{Enrol, Line};

/// The service, and how long to try.
#[derive(clap::Args, Debug)]
pub(super) struct LineArgs {
    #[command(flatten)]
    pub(super) endpoint: EndpointArgs,
    /// Which MQTT to speak; `auto` is 5, or 3.1.1 where the server does not speak 5
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = Mqtt::Auto)]
    mqtt: Mqtt,
    /// How long each of asking and proving is tried
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: String,
}

impl LineArgs {
    /// The service that somebody named.
    pub(super) fn line(&self, settings: &Settings, machine: &Machine) -> Result<Line, Failure> {
        let mut endpoints = self.endpoint.required(settings)?;
        let others = endpoints.split_off(1);
        Ok(Line {
            endpoint: endpoints.swap_remove(0),
            others,
            server_roots: self.endpoint.roots(settings, &machine.files)?,
            versions: self.mqtt.into(),
            timeout: positive("--timeout", &self.timeout)?,
            backoff: Backoff::default(),
        })
    }
}

/// The template, and the payloads.
#[derive(clap::Args, Debug)]
pub(super) struct FleetArgs {
    /// The fleet provisioning template
    #[arg(long, short, value_name = "NAME", env = "NAMEPLATE_PROVISION_TEMPLATE")]
    pub(super) template: Option<TemplateName>,
    /// A parameter of the template (repeat for more)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) param: Vec<(String, String)>,
    /// The payloads' format
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Payload::Json)]
    pub(super) payload: Payload,
    /// Where the key is made; one that AWS IoT makes travels to the device
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = KeyFrom::Device)]
    pub(super) key_from: KeyFrom,
    /// The key's curve
    #[arg(long, value_enum, value_name = "CURVE", default_value_t = Curve::P256)]
    pub(super) curve: Curve,
    /// Forget what an earlier run has reached, and begin with a new key
    #[arg(long)]
    pub(super) start_over: bool,
}

/// `--payload`
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Payload {
    /// JSON
    Json,
    /// CBOR, which is shorter
    Cbor,
}

impl From<Payload> for Format {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Json => Self::Json,
            Payload::Cbor => Self::Cbor,
        }
    }
}

/// `--key-from`
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum KeyFrom {
    /// Here: it never leaves the device (CreateCertificateFromCsr)
    Device,
    /// At AWS IoT (CreateKeysAndCertificate)
    Cloud,
}

/// `--curve`
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Curve {
    /// NIST P-256
    P256,
    /// NIST P-384
    P384,
}

impl From<Curve> for KeyAlgorithm {
    fn from(curve: Curve) -> Self {
        match curve {
            Curve::P256 => Self::EcP256,
            Curve::P384 => Self::EcP384,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

impl FleetArgs {
    /// The parameters; the same name twice is a mistake.
    pub(super) fn parameters(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut all = BTreeMap::new();
        for (name, value) in &self.param {
            if all.insert(name.clone(), value.clone()).is_some() {
                let message = format!("the parameter `{name}` is given twice");
                return Err(Failure::new(Kind::Usage, "enrol.param-twice", message));
            }
        }
        Ok(all)
    }
}

/// The powers of both commands.
pub(super) fn enrol(machine: &Machine) -> Enrol<'_> {
    Enrol {
        clock: &machine.clock,
        entropy: &machine.entropy,
        dial: &machine.dial,
        keys: &machine.keygen,
        files: &machine.files,
        work: &machine.files,
    }
}
