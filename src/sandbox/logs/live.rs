//! Who is connected, learnt from the records of connects and disconnects.

use std::collections::{HashMap, HashSet};

use super::Record;

/// A client that is connected.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveConnection {
    /// Its MQTT client id.
    pub client_id: String,
    /// Its certificate's id.
    pub principal_id: Option<String>,
    /// Where it is.
    pub source_ip: String,
    /// Its port.
    pub source_port: u16,
    /// Since when, as the records have times.
    pub since: String,
}

/// The most ends without a beginning that are remembered.
const ENDS: usize = 1024;

/// A client id, address and port.
type Key = (String, String, u16);

/// The connected clients.
#[derive(Debug, Default)]
pub(super) struct Live {
    connected: HashMap<Key, LiveConnection>,
    /// Those whose end was recorded before their beginning: two threads may write in any order.
    ended: HashSet<Key>,
}

impl Live {
    pub(super) fn learn(&mut self, record: &Record) {
        let (Some(client), Some(ip), Some(port)) =
            (&record.client_id, &record.source_ip, record.source_port)
        else {
            return;
        };
        let key = (client.clone(), ip.clone(), port);
        match &record.event_type[..] {
            "Connect" if !record.failed() => {
                let connection = LiveConnection {
                    client_id: client.clone(),
                    principal_id: record.principal_id.clone(),
                    source_ip: ip.clone(),
                    source_port: port,
                    since: record.timestamp.clone(),
                };
                if !self.ended.remove(&key) {
                    self.connected.insert(key, connection);
                }
            }
            // What ends a connection says so with its reason; other failures leave it open.
            "Disconnect" if record.disconnect_reason.is_some() => self.forget(key),
            _ => {}
        }
    }

    fn forget(&mut self, key: Key) {
        if self.connected.remove(&key).is_none() && self.ended.len() < ENDS {
            self.ended.insert(key);
        }
    }

    /// By client id.
    pub(super) fn all(&self) -> Vec<LiveConnection> {
        let mut all: Vec<_> = self.connected.values().cloned().collect();
        all.sort_by(|a, b| (&a.client_id, a.source_port).cmp(&(&b.client_id, b.source_port)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_live_from_its_connect_to_its_disconnect() {
        let mut live = Live::default();
        let at = |port: u16| format!("127.0.0.1:{port}").parse().unwrap();
        let connect = |port| Record::success("Connect").of(at(port), Some("abc"), Some("pump-1"));
        let gone = |port, reason: Option<&str>| Record {
            disconnect_reason: reason.map(str::to_owned),
            ..Record::success("Disconnect").of(at(port), Some("abc"), Some("pump-1"))
        };
        live.learn(&connect(1));
        live.learn(&Record::failure("Publish-In", "X", "").of(at(1), None, Some("pump-1")));
        assert_eq!(live.all().len(), 1);
        // A takeover: the new one comes before the old one goes.
        live.learn(&connect(2));
        live.learn(&gone(1, Some("DUPLICATE_CLIENTID")));
        let ports: Vec<_> = live.all().iter().map(|one| one.source_port).collect();
        assert_eq!(ports, [2]);
        live.learn(&gone(2, None));
        assert_eq!(live.all().len(), 1);
        live.learn(&gone(2, Some("CLIENT_INITIATED_DISCONNECT")));
        assert!(live.all().is_empty());
        // The end may be written first.
        live.learn(&gone(3, Some("CONNECTION_LOST")));
        live.learn(&connect(3));
        assert!(live.all().is_empty());
        live.learn(&connect(3));
        assert_eq!(live.all().len(), 1);
    }
}
