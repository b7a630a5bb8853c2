//! What the data plane may be asked for, and on which kind of resource.

use crate::core::ids::Place;

/// An action of AWS IoT Core's data plane.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// `iot:AssumeRoleWithCertificate` on `rolealias/…`: the credentials provider, over HTTPS.
    AssumeRoleWithCertificate,
    /// `iot:Connect` on `client/…`.
    Connect,
    /// `iot:DeleteConnection` on `client/…`, over HTTPS.
    DeleteConnection,
    /// `iot:DeleteThingShadow` on `thing/…`, over HTTPS.
    DeleteThingShadow,
    /// `iot:DescribeJobExecution` on `thing/…`, over HTTPS.
    DescribeJobExecution,
    /// `iot:GetConnection` on `client/…`, over HTTPS.
    GetConnection,
    /// `iot:GetPendingJobExecutions` on `thing/…`, over HTTPS.
    GetPendingJobExecutions,
    /// `iot:GetRetainedMessage` on `topic/…`, over HTTPS.
    GetRetainedMessage,
    /// `iot:GetThingShadow` on `thing/…`, over HTTPS.
    GetThingShadow,
    /// `iot:ListNamedShadowsForThing` on `*`, over HTTPS.
    ListNamedShadowsForThing,
    /// `iot:ListRetainedMessages` on `*`, over HTTPS.
    ListRetainedMessages,
    /// `iot:ListSubscriptions` on `client/…`, over HTTPS.
    ListSubscriptions,
    /// `iot:Publish` on `topic/…`.
    Publish,
    /// `iot:Receive` on `topic/…`.
    Receive,
    /// `iot:RetainPublish` on `topic/…`.
    RetainPublish,
    /// `iot:SendDirectMessage` on `client/…`, over HTTPS.
    SendDirectMessage,
    /// `iot:StartNextPendingJobExecution` on `thing/…`, over HTTPS.
    StartNextPendingJobExecution,
    /// `iot:Subscribe` on `topicfilter/…`.
    Subscribe,
    /// `iot:UpdateJobExecution` on `thing/…`, over HTTPS.
    UpdateJobExecution,
    /// `iot:UpdateThingShadow` on `thing/…`, over HTTPS.
    UpdateThingShadow,
}

/// Each with its name, the name in lower case, and its kind of resource (developer guide, "AWS IoT
/// Core policy actions" and "action resources").
const TABLE: [(Action, &str, &str, &str); 20] = {
    use Action as A;
    [
        (
            A::AssumeRoleWithCertificate,
            "iot:AssumeRoleWithCertificate",
            "iot:assumerolewithcertificate",
            "rolealias",
        ),
        (A::Connect, "iot:Connect", "iot:connect", "client"),
        (
            A::DeleteConnection,
            "iot:DeleteConnection",
            "iot:deleteconnection",
            "client",
        ),
        (
            A::DeleteThingShadow,
            "iot:DeleteThingShadow",
            "iot:deletethingshadow",
            "thing",
        ),
        (
            A::DescribeJobExecution,
            "iot:DescribeJobExecution",
            "iot:describejobexecution",
            "thing",
        ),
        (
            A::GetConnection,
            "iot:GetConnection",
            "iot:getconnection",
            "client",
        ),
        (
            A::GetPendingJobExecutions,
            "iot:GetPendingJobExecutions",
            "iot:getpendingjobexecutions",
            "thing",
        ),
        (
            A::GetRetainedMessage,
            "iot:GetRetainedMessage",
            "iot:getretainedmessage",
            "topic",
        ),
        (
            A::GetThingShadow,
            "iot:GetThingShadow",
            "iot:getthingshadow",
            "thing",
        ),
        (
            A::ListNamedShadowsForThing,
            "iot:ListNamedShadowsForThing",
            "iot:listnamedshadowsforthing",
            "*",
        ),
        (
            A::ListRetainedMessages,
            "iot:ListRetainedMessages",
            "iot:listretainedmessages",
            "*",
        ),
        (
            A::ListSubscriptions,
            "iot:ListSubscriptions",
            "iot:listsubscriptions",
            "client",
        ),
        (A::Publish, "iot:Publish", "iot:publish", "topic"),
        (A::Receive, "iot:Receive", "iot:receive", "topic"),
        (
            A::RetainPublish,
            "iot:RetainPublish",
            "iot:retainpublish",
            "topic",
        ),
        (
            A::SendDirectMessage,
            "iot:SendDirectMessage",
            "iot:senddirectmessage",
            "client",
        ),
        (
            A::StartNextPendingJobExecution,
            "iot:StartNextPendingJobExecution",
            "iot:startnextpendingjobexecution",
            "thing",
        ),
        (
            A::Subscribe,
            "iot:Subscribe",
            "iot:subscribe",
            "topicfilter",
        ),
        (
            A::UpdateJobExecution,
            "iot:UpdateJobExecution",
            "iot:updatejobexecution",
            "thing",
        ),
        (
            A::UpdateThingShadow,
            "iot:UpdateThingShadow",
            "iot:updatethingshadow",
            "thing",
        ),
    ]
};

impl Action {
    /// How many there are.
    pub const COUNT: usize = TABLE.len();

    /// Every action, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// From `iot:Publish`, `Publish`, `retain-publish` or `RETAIN_PUBLISH`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let bare: String = text
            .chars()
            .filter(|c| *c != '-' && *c != '_')
            .collect::<String>()
            .to_ascii_lowercase();
        let bare = bare.strip_prefix("iot:").unwrap_or(&bare);
        let row = TABLE.iter().find(|row| &row.2[4..] == bare)?;
        Some(row.0)
    }

    /// As policies write it.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// In lower case, as action patterns are kept.
    pub fn folded(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// The kind of resource it is asked for: `client`, `topic`, `topicfilter`, `thing`,
    /// `rolealias`, or `*` when it is asked for none in particular.
    pub fn resource_kind(self) -> &'static str {
        TABLE[self as usize].3
    }

    /// The resource that is asked for by this name: an ARN, or `*`.
    pub fn resource(self, place: &Place, name: &str) -> String {
        match self.resource_kind() {
            "*" => "*".to_owned(),
            kind => place.arn(kind, name),
        }
    }

    /// Whether it is asked for over MQTT, on a connection: only there have thing variables and the
    /// client id a value.
    pub fn is_mqtt(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Publish | Self::Receive | Self::RetainPublish | Self::Subscribe
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_actions() {
        for (n, action) in Action::all().enumerate() {
            assert_eq!(action as usize, n);
            assert_eq!(action.name().to_ascii_lowercase(), action.folded());
            assert_eq!(Action::parse(action.name()), Some(action));
        }
    }

    #[test]
    fn actions_are_read_in_every_common_spelling() {
        for text in [
            "iot:RetainPublish",
            "retain-publish",
            "RETAIN_PUBLISH",
            "retainpublish",
        ] {
            assert_eq!(Action::parse(text), Some(Action::RetainPublish), "{text}");
        }
        for text in ["", "iot:", "publis", "iot:*"] {
            assert_eq!(Action::parse(text), None, "{text}");
        }
    }
}
