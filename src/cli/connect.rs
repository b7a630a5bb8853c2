//! `connect`

use std::fmt;

use super::identity::{EndpointArgs, IdentityArgs, duration, positive};
use super::report::{Report, note};
use super::settings::Settings;
use super::wire;
use super::wire_device::Machine;
use crate::explain::{Failure, Kind};
use crate::flows::connect::{Connect, Connected, Fault, Progress, Request};
use crate::flows::identity;

/// Connect for the first time, as AWS IoT's JITP wants it
///
/// The first connection of a new certificate is dropped by design, while AWS IoT registers it and
/// runs the provisioning template. So this presents the certificate and its chain, waits with
/// jitter, and tries again until the server answers CONNACK with code 0.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// The MQTT client id [default: the certificate's common name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Give up after so many attempts [default: no bound but --timeout]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
    /// Give up after this long
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: String,
    /// Stay connected for this long, with pings, once accepted
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    hold: String,
}

impl Args {
    pub(super) fn run(self, settings: &Settings) -> Result<Connected, Failure> {
        let machine = Machine::default();
        let paths = self.identity.paths(settings)?;
        let endpoint = self.endpoint.required(settings)?.swap_remove(0);
        let timeout = positive("--timeout", &self.timeout)?;
        let hold = duration("--hold", &self.hold)?;
        let identity = identity::load(&machine.files, &paths)?;
        let leaf = identity.chain.first();
        let common_name = leaf.and_then(|leaf| leaf.subject.first("CN"));
        let client_id = self.client_id.or(common_name.map(str::to_owned));
        let client_id = client_id.ok_or_else(|| {
            Failure::new(
                Kind::Usage,
                "connect.client-id",
                "the certificate has no common name to use as the client id",
            )
            .hint("name the client id with --client-id")
        })?;
        let roots = self.endpoint.roots(settings, &machine.files)?;
        let request = Request {
            timeout,
            hold,
            attempts: self.attempts,
            ..Request::new(endpoint, identity, roots, client_id)
        };
        let connect = Connect {
            clock: &machine.clock,
            entropy: &machine.entropy,
            dial: &machine.dial,
        };
        let mut witness = wire::witness(settings, &request.endpoint);
        let mut tell = |progress: &Progress<'_>| note(line(progress));
        Ok(connect.run_witnessed(&request, &mut tell, &mut witness)?)
    }
}

/// One line for one attempt that failed.
fn line(progress: &Progress<'_>) -> String {
    let Progress {
        attempt,
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
    format!("attempt {attempt}: {fault}{expected}; {next}")
}

impl Report for Connected {
    fn exit_code(&self) -> u8 {
        u8::from(self.dropped.is_some())
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
        writeln!(f, "  protocol  {}", self.protocol)?;
        writeln!(
            f,
            "  tls       {}, {}",
            self.tls_version.as_deref().unwrap_or("unknown"),
            self.cipher_suite.as_deref().unwrap_or("unknown suite")
        )?;
        write!(f, "  server    {} at {}", self.server_subject, self.address)?;
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
