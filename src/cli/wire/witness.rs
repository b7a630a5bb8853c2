//! The running sandbox's records as a witness of a connect to it.

use crate::cli::settings::Settings;
use crate::core::endpoint::Endpoint;
use crate::core::ids::CertificateId;
use crate::ports::witness::{Failed, Witness};
use crate::sandbox::folder::{LOGS, find_running};
use crate::sandbox::logs::{LogReader, Record, Stage};

/// The sandbox that is connected to, if it runs over a state folder that we know.
pub(in crate::cli) fn witness(
    settings: &Settings,
    endpoint: &Endpoint,
) -> Option<Box<dyn Witness>> {
    let state = settings.sandbox_state()?;
    let running = find_running(&state)?;
    let at = format!("{}:{}", running.mqtt_host?, running.mqtt_port?);
    if at != endpoint.to_string() {
        return None;
    }
    let mut reader = LogReader::new(&state.join(LOGS));
    // What happened before is not about this connect.
    reader.more().ok()?;
    Some(Box::new(Records(reader)))
}

struct Records(LogReader);

impl Witness for Records {
    fn provisioning_failed(&mut self, certificate: &CertificateId) -> Option<Failed> {
        let of_template = |record: &Record| {
            record.device_certificate_id.as_deref() == Some(certificate.as_str())
                && record.reason.as_deref() == Some("ProvisionThing.ClientError")
                && record.stage() == Some(Stage::Provisioning)
        };
        let record = self.0.more().ok()?.into_iter().rev().find(of_template)?;
        Some(Failed {
            details: record.details.unwrap_or_default(),
            remedy: record.why.map(|why| why.remedy).unwrap_or_default(),
        })
    }
}
