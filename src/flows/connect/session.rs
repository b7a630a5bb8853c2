//! One MQTT connection: opened, then asked for subscriptions and messages.

use std::collections::VecDeque;
use std::time::Duration;

use super::fault::{Asked, Cut, Fault};
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::mqtt::{Client, Heard, MqttFault, Protocol};
use crate::ports::{Channel, Clock, Dial, Identity, Received, ServerSeen, Target};

/// AWS IoT raises anything shorter to this (quota "Keep-alive", 30 to 1200 s).
const KEEP_ALIVE_S: u16 = 30;
/// How often a held connection is pinged: twice in a keep-alive.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Which MQTT is spoken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Versions {
    /// MQTT 3.1.1.
    Three,
    /// MQTT 5.
    Five,
    /// MQTT 5, and MQTT 3.1.1 with a server that does not speak it.
    #[default]
    Auto,
}

/// Where to connect to, as whom, and whom to trust.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The server.
    pub endpoint: &'a Endpoint,
    /// What we present in TLS.
    pub identity: &'a Identity,
    /// Whom we trust to vouch for the server.
    pub server_roots: &'a [Certificate],
    /// The MQTT client id.
    pub client_id: &'a str,
    /// Which MQTT.
    pub versions: Versions,
    /// The most that one step may take.
    pub timeout: Duration,
}

/// An accepted connection.
pub struct Session<'a> {
    clock: &'a dyn Clock,
    channel: Box<dyn Channel>,
    client: Client,
    /// Whether the server kept a session.
    pub session_present: bool,
    timeout: Duration,
    heard: VecDeque<Heard>,
}

impl<'a> Session<'a> {
    /// Connects until CONNACK with code 0.
    ///
    /// # Errors
    /// `connect.*`, `dial.*`, `server.*`, `mqtt.*`.
    pub fn open(dial: &dyn Dial, clock: &'a dyn Clock, call: &Call<'_>) -> Result<Self, Fault> {
        match call.versions {
            Versions::Three => Self::speaking(Protocol::V3, dial, clock, call),
            Versions::Five => Self::speaking(Protocol::V5, dial, clock, call),
            Versions::Auto => match Self::speaking(Protocol::V5, dial, clock, call) {
                Err(Fault::OtherVersion) => Self::speaking(Protocol::V3, dial, clock, call),
                Err(Fault::Connack { reason, .. }) if reason.code == 0x84 => {
                    Self::speaking(Protocol::V3, dial, clock, call)
                }
                other => other,
            },
        }
    }

    fn speaking(
        protocol: Protocol,
        dial: &dyn Dial,
        clock: &'a dyn Clock,
        call: &Call<'_>,
    ) -> Result<Self, Fault> {
        let (mut client, connect) = Client::connect(protocol, call.client_id, KEEP_ALIVE_S)?;
        let mut channel = dial.open(&Target {
            endpoint: call.endpoint,
            identity: call.identity,
            server_roots: call.server_roots,
            at: clock.now(),
            timeout: call.timeout,
        })?;
        channel.send(&connect).map_err(Fault::after_tls)?;
        let deadline = clock.monotonic() + call.timeout;
        loop {
            let left = deadline.saturating_sub(clock.monotonic());
            match channel.receive(left).map_err(Fault::after_tls)? {
                Received::Closed => return Err(Fault::ClosedBeforeConnack),
                Received::Nothing => return Err(Fault::NoConnack),
                Received::Bytes(bytes) => {
                    let mut heard = VecDeque::from(client.hear(&bytes)?);
                    match heard.pop_front() {
                        None => {}
                        Some(Heard::Accepted { session_present }) => {
                            return Ok(Self {
                                clock,
                                channel,
                                client,
                                session_present,
                                timeout: call.timeout,
                                heard,
                            });
                        }
                        Some(Heard::Refused(reason)) => {
                            return Err(Fault::Connack { protocol, reason });
                        }
                        Some(Heard::OtherVersion) => return Err(Fault::OtherVersion),
                        Some(_) => return Err(Fault::Mqtt(unasked(protocol))),
                    }
                }
            }
        }
    }

    /// What the server showed in TLS.
    pub fn peer(&self) -> &ServerSeen {
        self.channel.peer()
    }

    /// Which MQTT is spoken.
    pub fn protocol(&self) -> Protocol {
        self.client.protocol()
    }

    /// Subscribes with QoS 1, until SUBACK says yes.
    ///
    /// # Errors
    /// Why not.
    pub fn subscribe(&mut self, filter: &str) -> Result<(), Fault> {
        let asked = || Asked::Subscribe(filter.to_owned());
        let (id, packet) = self.client.subscribe(filter)?;
        let answered = self.ask(&packet, |heard| match heard {
            Heard::Subscribed { id: of, reason } if *of == id => Some(reason.clone()),
            _ => None,
        });
        match answered {
            Ok(reason) if reason.is_yes() => Ok(()),
            Ok(reason) => Err(fault(asked(), Cut::Refused(reason))),
            Err(cut) => Err(fault(asked(), cut)),
        }
    }

    /// Publishes with QoS 1, until PUBACK says yes.
    ///
    /// # Errors
    /// Why not.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Fault> {
        let asked = || Asked::Publish(topic.to_owned());
        let (id, packet) = self.client.publish(topic, payload)?;
        let answered = self.ask(&packet, |heard| match heard {
            Heard::Published { id: of, reason } if *of == id => Some(reason.clone()),
            _ => None,
        });
        match answered {
            Ok(reason) if reason.is_yes() => Ok(()),
            Ok(reason) => Err(fault(asked(), Cut::Refused(reason))),
            Err(cut) => Err(fault(asked(), cut)),
        }
    }

    /// The next message that `wanted` takes, by topic and payload; others are dropped.
    ///
    /// # Errors
    /// Why none came.
    pub fn receive(
        &mut self,
        from: &str,
        wanted: impl Fn(&str, &[u8]) -> bool,
    ) -> Result<(String, Vec<u8>), Fault> {
        let deadline = self.clock.monotonic() + self.timeout;
        let mut next = || loop {
            match self.next(deadline)? {
                Some(Heard::Message { topic, payload }) if wanted(&topic, &payload) => {
                    return Ok((topic, payload));
                }
                Some(_) => {}
                None => return Err(Cut::Silence),
            }
        };
        next().map_err(|cut| fault(Asked::Receive(from.to_owned()), cut))
    }

    /// Sends, and waits for what `answer` takes; messages meanwhile are kept.
    fn ask<T>(&mut self, packet: &[u8], answer: impl Fn(&Heard) -> Option<T>) -> Result<T, Cut> {
        self.send(packet)?;
        let deadline = self.clock.monotonic() + self.timeout;
        let mut kept = VecDeque::new();
        let found = loop {
            match self.next(deadline) {
                Err(cut) => break Err(cut),
                Ok(None) => break Err(Cut::Silence),
                Ok(Some(heard)) => match answer(&heard) {
                    Some(answer) => break Ok(answer),
                    None => kept.push_back(heard),
                },
            }
        };
        kept.append(&mut self.heard);
        self.heard = kept;
        found
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        match self.channel.send(bytes) {
            Ok(()) => Ok(()),
            // What the server said before it closed tells more.
            Err(error) => Err(self.last_word().unwrap_or_else(|| cut_off(error))),
        }
    }

    /// A DISCONNECT that came before the connection broke.
    fn last_word(&mut self) -> Option<Cut> {
        let Ok(Received::Bytes(bytes)) = self.channel.receive(Duration::from_millis(200)) else {
            return None;
        };
        let heard = self.client.hear(&bytes).ok()?;
        heard.into_iter().find_map(|one| match one {
            Heard::Ended(reason) => Some(Cut::Ended(reason)),
            _ => None,
        })
    }

    /// The next packet; `None` when none came until then.
    fn next(&mut self, deadline: Duration) -> Result<Option<Heard>, Cut> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return match heard {
                    Heard::Ended(reason) => Err(Cut::Ended(reason)),
                    other => Ok(Some(other)),
                };
            }
            let left = deadline.saturating_sub(self.clock.monotonic());
            match self.channel.receive(left).map_err(cut_off)? {
                Received::Closed => return Err(Cut::Closed),
                Received::Nothing => return Ok(None),
                Received::Bytes(bytes) => {
                    self.heard.extend(self.client.hear(&bytes)?);
                    let replies = self.client.replies();
                    if !replies.is_empty() {
                        self.channel.send(&replies).map_err(cut_off)?;
                    }
                }
            }
        }
    }

    /// Keeps the connection alive for this long; says why it ended early.
    pub fn hold(&mut self, span: Duration) -> Option<String> {
        let end = self.clock.monotonic() + span;
        loop {
            let now = self.clock.monotonic();
            if now >= end {
                return None;
            }
            match self.next(end.min(now + PING_EVERY)) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let ping = self.client.ping();
                    if let Err(cut) = self.send(&ping) {
                        return Some(ended(&cut));
                    }
                }
                Err(cut) => return Some(ended(&cut)),
            }
        }
    }

    /// Says goodbye and closes.
    pub fn close(mut self) {
        let goodbye = self.client.disconnect();
        // The server may be gone already; what was wanted is done.
        let _ = self.channel.send(&goodbye);
        self.channel.close();
    }
}

fn fault(asked: Asked, cut: Cut) -> Fault {
    Fault::Exchange { asked, cut }
}

fn unasked(protocol: Protocol) -> MqttFault {
    MqttFault::Protocol {
        protocol: protocol.name(),
        why: "a packet came before CONNACK".to_owned(),
    }
}

fn cut_off(error: crate::ports::DialError) -> Cut {
    match error {
        crate::ports::DialError::Closed { .. } => Cut::Closed,
        other => Cut::Dial(other),
    }
}

fn ended(cut: &Cut) -> String {
    match cut {
        Cut::Closed => "the server closed the connection".to_owned(),
        Cut::Ended(reason) => format!("the server ended it with DISCONNECT {reason}"),
        other => other.to_string(),
    }
}
