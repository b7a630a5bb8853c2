//! What happened, as AWS IoT writes it to CloudWatch Logs (log group `AWSIotLogsV2`), one JSON
//! object a line in `logs.ndjson`. A refusal is one record, and its member `why` says more than AWS
//! tells: who was refused, at which stage, by which rule, and what mends it.

mod file;
mod live;
mod metrics;
mod reader;
mod search;
mod why;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use file::{LogFile, OLD_LOGS};
pub use live::LiveConnection;
pub use metrics::Metric;
pub use reader::LogReader;
pub(super) use search::{Mark, search};
pub(super) use why::{Denial, Holder, denied, of_refusal};
pub use why::{Stage, Why};

use crate::core::ids::{Place, hex};
use crate::core::time::UtcTime;
use crate::ports::{Clock, Entropy};
use live::Live;
use metrics::Counters;

/// How many records stay in memory.
const KEPT: usize = 1000;

/// One record. Fields that are `None` are left out.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// `YYYY-MM-DD HH:MM:SS.mmm`, UTC.
    pub timestamp: String,
    /// `ERROR` or `INFO`.
    pub log_level: String,
    /// A UUID.
    pub trace_id: String,
    /// The sandbox's account.
    pub account_id: String,
    /// `Success` or `Failure`.
    pub status: String,
    /// `Connect`, `Disconnect`, `Publish-In`, `Publish-Out`, `Subscribe`, `ProvisionDevice`.
    pub event_type: String,
    /// `MQTT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The MQTT client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The certificate id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// Where the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<String>,
    /// Its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// The topic or topic filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_name: Option<String>,
    /// Why a connection ended, spelled as lifecycle events do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect_reason: Option<String>,
    /// The certificate that was provisioned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_certificate_id: Option<String>,
    /// By which template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioning_template_name: Option<String>,
    /// The kind of failure, such as `AUTHORIZATION_FAILURE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The failure in words: what, on what, by which rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Our own: whose it is, when it is not the sandbox's own account and Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Our own: the refusal explained. CloudWatch's records have nothing like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Box<Why>>,
}

/// The event type of refusals by the control plane, which AWS IoT does not log (CloudTrail does).
pub const CONTROL_PLANE: &str = "ControlPlane";

impl Record {
    /// Something that went well.
    pub fn success(event_type: &str) -> Self {
        Self {
            log_level: "INFO".into(),
            status: "Success".into(),
            event_type: event_type.into(),
            ..Self::default()
        }
    }

    /// Something that was refused or went wrong.
    pub fn failure(event_type: &str, reason: &str, details: impl Into<String>) -> Self {
        Self {
            log_level: "ERROR".into(),
            status: "Failure".into(),
            event_type: event_type.into(),
            reason: Some(reason.into()),
            details: Some(details.into()),
            ..Self::default()
        }
    }

    /// Whether it records a failure.
    pub fn failed(&self) -> bool {
        self.status == "Failure"
    }

    /// A refusal, explained.
    #[must_use]
    pub fn why(mut self, why: impl Into<Box<Why>>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// As CloudWatch Logs has it: AWS's fields only. `None` for what AWS IoT does not log.
    pub fn cloudwatch(&self) -> Option<Self> {
        (self.event_type != CONTROL_PLANE).then(|| Self {
            why: None,
            place: None,
            ..self.clone()
        })
    }

    /// About this MQTT connection.
    #[must_use]
    pub fn of(mut self, peer: SocketAddr, principal: Option<&str>, client: Option<&str>) -> Self {
        self.protocol = Some("MQTT".into());
        self.source_ip = Some(peer.ip().to_string());
        self.source_port = Some(peer.port());
        self.principal_id = principal.map(str::to_owned);
        self.client_id = client.map(str::to_owned);
        self
    }

    /// About this topic or filter.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic_name = Some(topic.into());
        self
    }
}

/// Where records go: the last ones in memory, all of them to the file, if there is one. From them
/// it counts what AWS IoT counts, and knows who is connected.
#[derive(Clone)]
pub struct Logs {
    place: Place,
    clock: Arc<dyn Clock + Send + Sync>,
    entropy: Arc<dyn Entropy + Send + Sync>,
    file: Option<Arc<Mutex<LogFile>>>,
    /// Where the file is, which has the records of every place.
    path: Option<PathBuf>,
    counters: Arc<Counters>,
    /// The last records, of this place alone.
    recent: Arc<Mutex<VecDeque<Record>>>,
    /// Who is connected, in every place.
    live: Arc<Mutex<Live>>,
    /// Said in refusals: the place, when it is not the sandbox's own.
    elsewhere: Option<String>,
}

impl Logs {
    /// Records of this place's account, appended to `file`.
    pub fn new(
        place: Place,
        clock: Arc<dyn Clock + Send + Sync>,
        entropy: Arc<dyn Entropy + Send + Sync>,
        file: Option<LogFile>,
    ) -> Self {
        Self {
            place,
            clock,
            entropy,
            path: file.as_ref().map(|file| file.path().to_owned()),
            file: file.map(|file| Arc::new(Mutex::new(file))),
            counters: Arc::default(),
            recent: Arc::default(),
            live: Arc::default(),
            elsewhere: None,
        }
    }

    /// Stamps a record and writes it. A full disk loses the line, not the connection.
    pub fn write(&self, mut record: Record) {
        record.timestamp = timestamp(self.clock.now_nanos());
        record.trace_id = self.uuid();
        record.account_id = self.place.account.to_string();
        record.place.clone_from(&self.elsewhere);
        if let Some(why) = &mut record.why {
            why.place.clone_from(&self.elsewhere);
        }
        if let Some(metric) = Metric::of(&record) {
            self.count(metric);
        }
        let line = serde_json::to_vec(&record).unwrap_or_default();
        if let Some(file) = &self.file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.append(line);
        }
        lock(&self.live).learn(&record);
        let mut recent = lock(&self.recent);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(record);
    }

    /// The records of another place, in the same file and counters, and among the same connections.
    #[must_use]
    pub fn of_place(&self, place: Place) -> Self {
        let elsewhere = format!("{}/{}", place.account, place.region);
        Self {
            place,
            file: self.file.clone(),
            path: self.path.clone(),
            counters: Arc::clone(&self.counters),
            live: Arc::clone(&self.live),
            elsewhere: Some(elsewhere),
            ..Self::new(
                self.place.clone(),
                Arc::clone(&self.clock),
                Arc::clone(&self.entropy),
                None,
            )
        }
    }

    /// Counts something that no record is written of.
    pub fn count(&self, metric: Metric) {
        self.counters.add(metric);
    }

    /// What was counted since the start, by CloudWatch's names; what never happened is left out.
    pub fn metrics(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.counters.all()
    }

    /// Who is connected now, by client id.
    pub fn live(&self) -> Vec<LiveConnection> {
        lock(&self.live).all()
    }

    /// Where its random numbers come from.
    pub(super) fn entropy(&self) -> Arc<dyn Entropy + Send + Sync> {
        Arc::clone(&self.entropy)
    }

    /// Whose records these are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether a record of the file is one of these.
    pub(super) fn has(&self, record: &Record) -> bool {
        record.place == self.elsewhere
    }

    /// The file that has all of them, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The records in memory, oldest first.
    pub fn recent(&self) -> Vec<Record> {
        lock(&self.recent).iter().cloned().collect()
    }

    /// A fresh random UUID (version 4).
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex(&bytes);
        let parts = [
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..],
        ];
        parts.join("-")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time as the records have it: `YYYY-MM-DD HH:MM:SS.mmm`, UTC.
pub fn timestamp(nanos: i128) -> String {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX);
    let millis = nanos.rem_euclid(1_000_000_000) / 1_000_000;
    let whole = UtcTime::from_unix(seconds).to_string();
    format!(
        "{}.{millis:03}",
        whole.trim_end_matches('Z').replace('T', " ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_shape_of_cloudwatchs() {
        assert_eq!(
            timestamp(1_556_489_130_105_999_999),
            "2019-04-28 22:05:30.105"
        );
        let peer = "203.0.113.1:21335".parse().unwrap();
        let record = Record::failure("Disconnect", "DUPLICATE_CLIENT_ID", "another came").of(
            peer,
            Some("abc"),
            Some("clientId01"),
        );
        let json = serde_json::to_value(&record).unwrap();
        for (key, value) in [
            ("logLevel", "ERROR"),
            ("status", "Failure"),
            ("eventType", "Disconnect"),
            ("protocol", "MQTT"),
            ("clientId", "clientId01"),
            ("principalId", "abc"),
            ("sourceIp", "203.0.113.1"),
            ("reason", "DUPLICATE_CLIENT_ID"),
            ("details", "another came"),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(json["sourcePort"], 21335);
        assert!(json.get("topicName").is_none());
    }
}
