//! Why a connection did not come about, as far as a client can see it, and what to do.

use std::time::Duration;

use crate::core::endpoint::Endpoint;
use crate::core::mqtt::{MqttFault, Protocol, Reason};
use crate::explain::{Explain, Kind};
use crate::ports::DialError;
use crate::ports::witness::{Failed, Said};

/// Why one attempt did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// TLS was done, then the server closed without an answer: what AWS IoT does to the first
    /// connection under JITP, and to any that its certificate's status or policy forbids.
    #[error("TLS was fine, but the server closed before CONNACK")]
    ClosedBeforeConnack,
    /// Refused in so many words.
    #[error("CONNACK code {reason}")]
    Connack {
        /// In which MQTT.
        protocol: Protocol,
        /// The server's word.
        reason: Reason,
    },
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Connected, and then something was not given.
    #[error("{asked} {cut}")]
    Exchange {
        /// What was asked.
        asked: Asked,
        /// How it ended.
        cut: Cut,
    },
    /// Not MQTT.
    #[error(transparent)]
    Mqtt(#[from] MqttFault),
    /// TLS was done, then silence.
    #[error("TLS was fine, but no CONNACK came in time")]
    NoConnack,
    /// MQTT 5 was spoken, and MQTT 3.1.1 came back.
    #[error("the server answers in MQTT 3.1.1, and MQTT 5 was asked for")]
    OtherVersion,
    /// The server's side says that the certificate could not be provisioned.
    #[error("the sandbox could not provision the certificate: {}", .0.details)]
    Provisioning(Failed),
}

/// What a connected client asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Asked {
    /// A subscription.
    #[error("subscribing to `{0}`")]
    Subscribe(String),
    /// That a message be taken.
    #[error("publishing to `{0}`")]
    Publish(String),
    /// A message that should come.
    #[error("receiving from `{0}`")]
    Receive(String),
}

/// How an exchange ended without a yes.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Closed without a word: the only no of MQTT 3.1.1 to PUBLISH, and AWS IoT's to SUBSCRIBE.
    #[error("was answered by closing the connection")]
    Closed,
    /// The connection failed.
    #[error("was cut off: {0}")]
    Dial(#[from] DialError),
    /// MQTT 5's DISCONNECT.
    #[error("was answered by DISCONNECT {0}")]
    Ended(Reason),
    /// Not MQTT.
    #[error("was cut off: {0}")]
    Mqtt(#[from] MqttFault),
    /// SUBACK or PUBACK with a no.
    #[error("was refused with {0}")]
    Refused(Reason),
    /// Nothing came.
    #[error("was not answered in time")]
    Silence,
}

impl Cut {
    /// Whether the connection is gone.
    pub fn ends_session(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Silence)
    }
}

/// Alerts that the same certificate will meet again, however often it tries.
const FINAL_ALERTS: [&str; 6] = [
    "certificate_expired",
    "certificate_revoked",
    "decrypt_error",
    "protocol_version",
    "unknown_ca",
    "unsupported_certificate",
];

impl Fault {
    /// A connection that ends after the handshake ended before CONNACK, whoever reset it.
    pub(super) fn after_tls(error: DialError) -> Self {
        match error {
            DialError::Closed { .. } => Self::ClosedBeforeConnack,
            other => Self::Dial(other),
        }
    }

    /// Whether trying again can help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::ClosedBeforeConnack | Self::NoConnack => true,
            // What the policy does not allow yet, a template that still runs may allow.
            Self::Exchange { cut, .. } => !matches!(cut, Cut::Mqtt(_)),
            Self::Connack { protocol, reason } => match protocol {
                Protocol::V3 => reason.code == 3,
                Protocol::V5 => reason.may_pass(),
            },
            Self::Mqtt(_) | Self::OtherVersion | Self::Provisioning(_) => false,
            Self::Dial(DialError::Alert { alert, .. }) => !FINAL_ALERTS.contains(&&alert[..]),
            Self::Dial(error) => error.kind() == Kind::Unavailable,
        }
    }

    /// Whether a service was there to say no: others in its place would say so too.
    pub fn is_answer(&self) -> bool {
        !matches!(self, Self::Dial(_) | Self::Mqtt(_) | Self::NoConnack)
            || matches!(self, Self::Dial(DialError::Alert { .. }))
    }

    /// Of two endpoints' faults, the one that waiting may mend says more, then the one that is an
    /// answer.
    pub(super) fn tells_less_than(&self, other: &Self) -> bool {
        (self.may_pass(), self.is_answer()) < (other.may_pass(), other.is_answer())
    }
}

impl Explain for Fault {
    fn kind(&self) -> Kind {
        match self {
            Self::NoConnack => Kind::Unavailable,
            Self::Connack { reason, .. } => match reason.code {
                3 | 0x88 | 0x89 | 0x8b | 0x9f => Kind::Unavailable,
                _ => Kind::Negative,
            },
            Self::Exchange { cut, .. } => match cut {
                Cut::Dial(error) => error.kind(),
                Cut::Silence => Kind::Unavailable,
                _ => Kind::Negative,
            },
            Self::ClosedBeforeConnack | Self::OtherVersion | Self::Provisioning(_) => {
                Kind::Negative
            }
            Self::Dial(error) => error.kind(),
            Self::Mqtt(error) => error.kind(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::ClosedBeforeConnack => "connect.closed",
            Self::Connack { .. } => "connect.refused",
            Self::Dial(error) => error.code(),
            Self::Exchange { asked, .. } => match asked {
                Asked::Subscribe(_) => "connect.subscribe",
                Asked::Publish(_) => "connect.publish",
                Asked::Receive(_) => "connect.receive",
            },
            Self::Mqtt(error) => error.code(),
            Self::NoConnack => "connect.no-connack",
            Self::OtherVersion => "connect.version",
            Self::Provisioning(_) => "connect.provisioning",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::ClosedBeforeConnack => Some(
                "a device cannot see which of these it is, so look at the target: the CA is not \
                 registered, not ACTIVE or without auto-registration; the certificate is INACTIVE, \
                 REVOKED or still PENDING_ACTIVATION (its template failed, or needs longer: raise \
                 --timeout); no attached policy allows iot:Connect for this client id"
                    .into(),
            ),
            Self::Connack { reason, .. } => connack_hint(reason.code),
            Self::Exchange { asked, .. } => Some(match asked {
                Asked::Subscribe(topic) => format!(
                    "allow iot:Subscribe on topicfilter/{topic} in the certificate's policy, \
                     or name a topic that it allows"
                ),
                Asked::Publish(topic) => format!(
                    "allow iot:Publish on topic/{topic} in the certificate's policy, or name a \
                     topic that it allows"
                ),
                Asked::Receive(topic) => format!(
                    "the message was taken but not handed back: allow iot:Receive on \
                     topic/{topic} in the certificate's policy"
                ),
            }),
            Self::NoConnack => {
                Some("check that the port speaks MQTT (8883), then try again".into())
            }
            Self::OtherVersion => Some("use --mqtt 3 or --mqtt auto".into()),
            Self::Dial(error) => error.hint(),
            Self::Mqtt(error) => error.hint(),
            Self::Provisioning(failed) => Some(failed.remedy.clone()),
        }
    }
}

fn connack_hint(code: u8) -> Option<String> {
    match code {
        2 | 0x85 => Some("choose another client id with --client-id".into()),
        4 | 5 | 0x86 | 0x87 => Some(
            "check that the certificate is ACTIVE and that its policy allows iot:Connect for \
             this client id"
                .into(),
        ),
        0x97 | 0x9f => Some(
            "AWS IoT takes one CONNECT a second for each client id, and so many for an account: \
             is another device using this client id?"
                .into(),
        ),
        _ => None,
    }
}

/// A first connect that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[error(
    "not connected to `{endpoint}` ({attempts} attempt{}, {:.1} s)",
    if *.attempts == 1 { "" } else { "s" },
    .elapsed.as_secs_f64()
)]
pub struct ConnectError {
    /// Where to; of several, the one that the cause is about.
    pub endpoint: Endpoint,
    /// How many attempts were made.
    pub attempts: u32,
    /// From the first to the end of the last.
    pub elapsed: Duration,
    /// What happened to the last one.
    #[source]
    pub cause: Box<Cause>,
}

/// What the client saw, and under it what the server's side says, where it can be asked and says
/// more.
#[derive(Debug)]
pub struct Cause {
    /// What the client saw.
    pub fault: Fault,
    /// What the sandbox's record says.
    pub said: Option<Said>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let seen = self.fault.to_string();
        let said = self.said.as_ref();
        let said = said.filter(|said| !seen.contains(&said.details));
        said.map(|said| said as &(dyn std::error::Error + 'static))
    }
}

impl ConnectError {
    /// What the client saw.
    pub fn fault(&self) -> &Fault {
        &self.cause.fault
    }
}

impl Explain for ConnectError {
    fn kind(&self) -> Kind {
        self.cause.fault.kind()
    }
    fn code(&self) -> &'static str {
        self.cause.fault.code()
    }
    fn hint(&self) -> Option<String> {
        let said = self.cause.said.as_ref().map(|said| said.remedy.clone());
        said.filter(|remedy| !remedy.is_empty())
            .or_else(|| self.cause.fault.hint())
    }
}
