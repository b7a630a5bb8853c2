//! `sandbox serve`

use std::process::ExitCode;

use super::start::{Ports, StartArgs, Started};
use crate::cli::report::{Output, note};
use crate::cli::settings::Settings;
use crate::explain::{Failure, Kind};

/// Where `serve` listens unless told otherwise. 8883 is AWS IoT's own MQTT port.
const PORTS: Ports = Ports {
    control: 9080,
    mqtt: 8883,
    https: 8443,
};

/// Serve a stand-in for AWS IoT Core until it is interrupted
///
/// Prints where it listens once it does. The other commands find it by its state folder; programs
/// of your own reach it with AWS_ENDPOINT_URL_IOT and any AWS credentials. The control plane
/// listens on 127.0.0.1:9080, the MQTT endpoint on 127.0.0.1:8883, and HTTPS publishes are taken on
/// 127.0.0.1:8443, unless told otherwise.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    start: StartArgs,
}

impl Args {
    pub(super) fn run(self, settings: &Settings, output: Output) -> ExitCode {
        let started = match self.start.start(settings, PORTS, false) {
            Ok(started) => started,
            Err(failure) => return output.fail(&failure),
        };
        output.finish(Ok::<_, Failure>(started.listening()));
        note("press Ctrl-C to stop");
        match wait(started) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => output.fail(&failure),
        }
    }
}

fn wait(started: Started) -> Result<(), Failure> {
    let waited = started.running.wait_for_signal();
    started.stop();
    note("the sandbox has stopped");
    waited.map_err(|error| {
        Failure::new(
            Kind::Unavailable,
            "sandbox.signals",
            "signals cannot be listened for",
        )
        .because(error)
    })
}
