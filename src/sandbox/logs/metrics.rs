//! The counters that AWS IoT publishes to CloudWatch (namespace `AWS/IoT`, developer guide
//! "AWS IoT metrics and dimensions"), since the sandbox's start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Record, Stage};

macro_rules! metrics {
    ($($name:ident = $text:literal,)*) => {
        /// One counter.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[expect(missing_docs, reason = "each is documented by AWS under its name")]
        pub enum Metric { $($name,)* }

        impl Metric {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// CloudWatch's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

metrics! {
    ConnectSuccess = "Connect.Success",
    ConnectAuthError = "Connect.AuthError",
    ConnectClientError = "Connect.ClientError",
    ConnectServerError = "Connect.ServerError",
    ConnectThrottle = "Connect.Throttle",
    ConnectClientIdThrottle = "Connect.ClientIDThrottle",
    PingSuccess = "Ping.Success",
    PublishInSuccess = "PublishIn.Success",
    PublishInAuthError = "PublishIn.AuthError",
    PublishInClientError = "PublishIn.ClientError",
    PublishInServerError = "PublishIn.ServerError",
    PublishInThrottle = "PublishIn.Throttle",
    PublishOutSuccess = "PublishOut.Success",
    PublishOutAuthError = "PublishOut.AuthError",
    PublishOutClientError = "PublishOut.ClientError",
    PublishOutThrottle = "PublishOut.Throttle",
    PublishRetainedSuccess = "PublishRetained.Success",
    PublishRetainedAuthError = "PublishRetained.AuthError",
    PublishRetainedThrottle = "PublishRetained.Throttle",
    SubscribeSuccess = "Subscribe.Success",
    SubscribeAuthError = "Subscribe.AuthError",
    SubscribeClientError = "Subscribe.ClientError",
    SubscribeServerError = "Subscribe.ServerError",
    SubscribeThrottle = "Subscribe.Throttle",
    UnsubscribeSuccess = "Unsubscribe.Success",
    UnsubscribeClientError = "Unsubscribe.ClientError",
    UnsubscribeServerError = "Unsubscribe.ServerError",
    UnsubscribeThrottle = "Unsubscribe.Throttle",
    ProvisionThingSuccess = "ProvisionThing.Success",
    ProvisionThingClientError = "ProvisionThing.ClientError",
    ProvisionThingServerError = "ProvisionThing.ServerError",
}

/// Rules by which fleet provisioning fails without the client's fault.
const SERVER_RULES: [&str; 2] = ["fleet.InternalError", "fault.template-fail"];

impl Metric {
    /// What a record counts as. Publishes and pings that go well have no record: those who handle
    /// them count them.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let event = match &record.event_type[..] {
            "Connect" => "Connect",
            "Publish-In" if record.stage() == Some(Stage::Retain) => "PublishRetained",
            "Publish-In" if record.failed() => "PublishIn",
            "Publish-Out" if record.failed() => "PublishOut",
            "Subscribe" => "Subscribe",
            "Unsubscribe" => "Unsubscribe",
            "ProvisionDevice" if record.provisioning_template_name.is_some() => "ProvisionThing",
            _ => return None,
        };
        let outcome = if record.failed() {
            let rule = record.why.as_ref().map_or("", |why| &why.rule[..]);
            match record.reason.as_deref()? {
                // Of fleet provisioning.
                "RegisterThingFailed" if SERVER_RULES.contains(&rule) => "ServerError",
                "AUTHORIZATION_FAILURE" | "TLS_FAILURE" => "AuthError",
                "CLIENT_ERROR" | "ProvisionThing.ClientError" | "RegisterThingFailed" => {
                    "ClientError"
                }
                "SERVER_ERROR" | "ProvisionThing.ServerError" => "ServerError",
                "THROTTLED" => "Throttle",
                "CLIENT_ID_THROTTLED" => "ClientIDThrottle",
                _ => return None,
            }
        } else {
            "Success"
        };
        let fits = |metric: &&Self| {
            let parts = metric.name().split_once('.');
            parts == Some((event, outcome))
        };
        Self::ALL.iter().find(fits).copied()
    }
}

/// Every counter.
#[derive(Debug)]
pub(super) struct Counters(Vec<AtomicU64>);

impl Default for Counters {
    fn default() -> Self {
        Self(Metric::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Counters {
    pub(super) fn add(&self, metric: Metric) {
        self.0[metric as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that are not zero.
    pub(super) fn all(&self) -> BTreeMap<&'static str, u64> {
        let counted = Metric::ALL.iter().map(|metric| {
            (
                metric.name(),
                self.0[*metric as usize].load(Ordering::Relaxed),
            )
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_under_cloudwatchs_names() {
        let template = |mut record: Record| {
            record.provisioning_template_name = Some("pump".into());
            record
        };
        for (record, name) in [
            (Record::success("Connect"), Some("Connect.Success")),
            (
                Record::failure("Connect", "TLS_FAILURE", ""),
                Some("Connect.AuthError"),
            ),
            (
                Record::failure("Connect", "CLIENT_ID_THROTTLED", ""),
                Some("Connect.ClientIDThrottle"),
            ),
            (
                Record::failure("Publish-In", "AUTHORIZATION_FAILURE", ""),
                Some("PublishIn.AuthError"),
            ),
            (Record::success("Publish-In"), None),
            (
                template(Record::success("ProvisionDevice")),
                Some("ProvisionThing.Success"),
            ),
            // The registration of a certificate is not yet the run of its template.
            (Record::success("ProvisionDevice"), None),
            (
                template(Record::failure(
                    "ProvisionDevice",
                    "ProvisionThing.ClientError",
                    "",
                )),
                Some("ProvisionThing.ClientError"),
            ),
            (
                Record::failure("Disconnect", "DUPLICATE_CLIENT_ID", ""),
                None,
            ),
        ] {
            assert_eq!(Metric::of(&record).map(Metric::name), name, "{record:?}");
        }
        let counters = Counters::default();
        counters.add(Metric::PingSuccess);
        counters.add(Metric::PingSuccess);
        assert_eq!(counters.all(), BTreeMap::from([("Ping.Success", 2)]));
    }
}
