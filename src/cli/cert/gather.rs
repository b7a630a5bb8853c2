//! Which certificates: flags that the `cert` commands share.

use std::path::PathBuf;

use crate::cli::identity::positive;
use crate::cli::wire_device::Machine;
use crate::core::endpoint::Endpoint;
use crate::core::time::UtcTime;
use crate::explain::{Explain, Failure, Kind};
use crate::flows::cert_gather::{Artifact, Gather, Place};

/// Where to look.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Places {
    /// PEM, DER, or JSON with PEM in it; an identity folder, or a folder with certificates
    /// somewhere below it; `-` is stdin; `tls://HOST:PORT` is what a server shows
    #[arg(value_name = "FILE|DIR|-|tls://HOST:PORT")]
    named: Vec<String>,
    /// A server: the chain that it shows, trusted or not; port 8883 when left out
    #[arg(long = "endpoint", value_name = "HOST[:PORT]")]
    endpoints: Vec<String>,
    /// The most that asking one server may take
    #[arg(long, value_name = "SPAN", default_value = "5s")]
    timeout: String,
}

impl Places {
    /// Everything at the places named.
    pub(in crate::cli) fn gather(&self, machine: &Machine) -> Result<Vec<Artifact>, Failure> {
        Ok(self.gatherer(machine)?.run(&self.all()?)?)
    }

    /// How many times stdin is named.
    pub(super) fn stdin(&self) -> usize {
        self.named.iter().filter(|text| *text == "-").count()
    }

    /// What reads files, folders and servers.
    pub(super) fn gatherer<'a>(&self, machine: &'a Machine) -> Result<Gather<'a>, Failure> {
        Ok(Gather {
            files: &machine.files,
            browse: &machine.files,
            probe: &machine.dial,
            timeout: positive("--timeout", &self.timeout)?,
        })
    }

    fn all(&self) -> Result<Vec<Place>, Failure> {
        let server = |text: &str| -> Result<Place, Failure> {
            let endpoint = Endpoint::parse(text.trim_end_matches('/'), Endpoint::MQTT_PORT)?;
            Ok(Place::Server(endpoint))
        };
        let mut all = Vec::new();
        for text in &self.named {
            all.push(match text.strip_prefix("tls://") {
                Some(rest) => server(rest)?,
                None => Place::Path(PathBuf::from(text)),
            });
        }
        for text in &self.endpoints {
            all.push(server(text)?);
        }
        if all.is_empty() {
            let message = "no certificate was named";
            return Err(Failure::new(Kind::Usage, "cert.missing-input", message)
                .hint("name a file, a folder, `-` for stdin, or --endpoint HOST[:PORT]"));
        }
        Ok(all)
    }
}

/// The time that `--at` names, or now.
pub(in crate::cli) fn time(at: Option<&str>, now: UtcTime) -> Result<UtcTime, Failure> {
    at.map_or(Ok(now), |text| UtcTime::parse_relative(text, now))
        .map_err(|error| Failure::new(Kind::Usage, error.code(), format!("--at: {error}")))
}
