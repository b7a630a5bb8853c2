//! Tries what a policy should allow: subscribes, publishes, and waits for the message to come back.

use super::fault::Fault;
use super::session::Session;

/// A topic, and what is tried on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    /// The topic; a filter when nothing is published to it.
    pub topic: String,
    /// Whether it is subscribed to.
    pub subscribe: bool,
    /// Whether a message is published to it.
    pub publish: bool,
}

impl Probe {
    /// Subscribes to the topic, publishes to it, and waits for the message.
    pub fn both(topic: String) -> Self {
        Self {
            topic,
            subscribe: true,
            publish: true,
        }
    }
}

/// What came of a probe.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Probed {
    /// The topic.
    pub topic: String,
    /// Whether the subscription was granted; `None` when it was not tried.
    pub subscribed: Option<bool>,
    /// Whether the message was taken; `None` when it was not tried.
    pub published: Option<bool>,
    /// Whether the message came back; `None` when it could not.
    pub received: Option<bool>,
    /// The first no, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Probed {
    /// Whether all that was tried was given.
    pub fn is_good(&self) -> bool {
        self.fault.is_none()
    }
}

/// Tries one probe; the fault that stopped it goes with what was given before.
pub(super) fn run(
    session: &mut Session<'_>,
    probe: &Probe,
    payload: &[u8],
) -> (Probed, Option<Fault>) {
    let mut probed = Probed {
        topic: probe.topic.clone(),
        subscribed: None,
        published: None,
        received: None,
        fault: None,
    };
    let fault = steps(session, probe, payload, &mut probed).err();
    probed.fault = fault.as_ref().map(ToString::to_string);
    (probed, fault)
}

fn steps(
    session: &mut Session<'_>,
    probe: &Probe,
    payload: &[u8],
    probed: &mut Probed,
) -> Result<(), Fault> {
    if probe.subscribe {
        probed.subscribed = Some(false);
        session.subscribe(&probe.topic)?;
        probed.subscribed = Some(true);
    }
    if probe.publish {
        probed.published = Some(false);
        session.publish(&probe.topic, payload)?;
        probed.published = Some(true);
    }
    if probe.subscribe && probe.publish {
        probed.received = Some(false);
        session.receive(&probe.topic, |topic, got| {
            topic == probe.topic && got == payload
        })?;
        probed.received = Some(true);
    }
    Ok(())
}

/// Whether the connection outlived this fault.
pub(super) fn outlived(fault: Option<&Fault>) -> bool {
    match fault {
        None => true,
        Some(Fault::Exchange { cut, .. }) => !cut.ends_session(),
        Some(_) => false,
    }
}
