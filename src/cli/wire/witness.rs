//! The running sandbox's records as a witness of a connect to it.

use crate::cli::settings::Settings;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::ids::CertificateId;
use crate::ports::witness::{Failed, Said, Witness};
use crate::sandbox::folder::{LOGS, find_running};
use crate::sandbox::logs::{LogReader, Record, Stage};

/// The sandbox that is connected to, if it runs over a state folder that we know.
pub(in crate::cli) fn witness(
    settings: &Settings,
    endpoints: &[Endpoint],
) -> Option<Box<dyn Witness>> {
    let state = settings.sandbox_state()?;
    let running = find_running(&state)?;
    let host = running.mqtt_host?;
    let below = format!(".{host}");
    let places = running.places.iter().map(|place| place.mqtt_port);
    let ports = [running.mqtt_port, running.https_port]
        .into_iter()
        .flatten();
    let ports: Vec<u16> = ports.chain(places).collect();
    let is_it = |at: &Endpoint| {
        let named = at.host == host || at.host.ends_with(&below);
        named && ports.contains(&at.port)
    };
    if !endpoints.iter().any(is_it) {
        return None;
    }
    let mut reader = LogReader::new(&state.join(LOGS));
    // What happened before is not about this connect.
    reader.more().ok()?;
    let heard = Vec::new();
    Some(Box::new(Records { reader, heard }))
}

struct Records {
    reader: LogReader,
    /// Failures since the start.
    heard: Vec<Record>,
}

impl Records {
    /// Reads on; where the newly read ones begin.
    fn more(&mut self) -> usize {
        let known = self.heard.len();
        let read = self.reader.more().unwrap_or_default();
        self.heard.extend(read.into_iter().filter(Record::failed));
        known
    }
}

impl Witness for Records {
    fn provisioning_failed(&mut self, certificate: &CertificateId) -> Option<Failed> {
        let known = self.more();
        let of_template = |record: &&Record| {
            record.device_certificate_id.as_deref() == Some(certificate.as_str())
                && record.reason.as_deref() == Some("ProvisionThing.ClientError")
                && record.stage() == Some(Stage::Provisioning)
        };
        let record = self.heard[known..].iter().rev().find(of_template)?;
        Some(Failed {
            details: record.details.clone().unwrap_or_default(),
            remedy: remedy(record),
        })
    }

    fn refused(&mut self, certificate: &Certificate) -> Option<Said> {
        self.more();
        let id = Some(certificate.id().as_str());
        let subject = certificate.subject.to_string();
        let of_it = |record: &&Record| {
            let why = record.why.as_deref();
            record.principal_id.as_deref() == id
                || record.device_certificate_id.as_deref() == id
                || why.is_some_and(|why| why.subject.as_ref() == Some(&subject))
        };
        let record = self.heard.iter().rev().find(of_it)?;
        let why = record.why.as_deref();
        let rule = why.map(|why| why.rule.clone()).or(record.reason.clone());
        Some(Said {
            details: record.details.clone().unwrap_or_default(),
            rule: rule.unwrap_or_default(),
            remedy: remedy(record),
        })
    }
}

fn remedy(record: &Record) -> String {
    let why = record.why.as_deref();
    why.map(|why| why.remedy.clone()).unwrap_or_default()
}
