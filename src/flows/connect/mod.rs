//! The first connect that knows JITP: the first connection is expected to be dropped, and only a
//! CONNACK with code 0 is success.

use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::core::mqtt::{Client, Heard, MqttFault, connack_meaning};
use crate::explain::{Explain, Kind};
use crate::ports::witness::{Failed, Witness};
use crate::ports::{
    Channel, Clock, Dial, DialError, Entropy, Identity, Received, ServerSeen, Target,
};

/// The most one step of one attempt may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a witness is asked during a wait.
const LOOK: Duration = Duration::from_millis(100);
/// The time kept for the last try.
const LAST_TRY: Duration = Duration::from_millis(800);
/// AWS IoT raises anything shorter to this (quota "Keep-alive", 30 to 1200 s).
const KEEP_ALIVE_S: u16 = 30;
/// How often a held connection is pinged: twice in a keep-alive.
const PING_EVERY: Duration = Duration::from_secs(15);

/// The powers needed.
pub struct Connect<'a> {
    /// Passing time, and the time at which the server's chain must be valid.
    pub clock: &'a dyn Clock,
    /// Jitter.
    pub entropy: &'a dyn Entropy,
    /// Connections.
    pub dial: &'a dyn Dial,
}

/// What to connect to, as whom, and how long to try.
#[derive(Clone, Debug)]
pub struct Request {
    /// The data endpoint.
    pub endpoint: Endpoint,
    /// Leaf first, then its issuers, as presented in TLS; and the key.
    pub identity: Identity,
    /// Whom to trust to vouch for the server.
    pub server_roots: Vec<Certificate>,
    /// The MQTT client id.
    pub client_id: String,
    /// Give up after this long.
    pub timeout: Duration,
    /// Give up after so many attempts; `None` is no bound.
    pub attempts: Option<u32>,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Stay connected for this long once accepted.
    pub hold: Duration,
}

impl Request {
    /// A request with the usual patience: one minute, back-off from 1 s to 30 s, no holding.
    pub fn new(
        endpoint: Endpoint,
        identity: Identity,
        server_roots: Vec<Certificate>,
        client_id: String,
    ) -> Self {
        Self {
            endpoint,
            identity,
            server_roots,
            client_id,
            timeout: Duration::from_mins(1),
            attempts: None,
            backoff: Backoff::default(),
            hold: Duration::ZERO,
        }
    }
}

/// A connection that the server accepted.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Connected {
    /// Where to.
    pub endpoint: Endpoint,
    /// The address that answered.
    pub address: String,
    /// As whom.
    pub client_id: String,
    /// How many attempts it took; 2 or more is usual for a first connection under JITP.
    pub attempts: u32,
    /// From the first attempt to CONNACK, in milliseconds.
    pub total_ms: u64,
    /// Always `MQTT 3.1.1`.
    pub protocol: &'static str,
    /// `TLSv1.3` or `TLSv1.2`.
    pub tls_version: Option<String>,
    /// The cipher suite.
    pub cipher_suite: Option<String>,
    /// The subject of the server's certificate.
    pub server_subject: String,
    /// Whether the server kept a session.
    pub session_present: bool,
    /// How long the connection was held after CONNACK, in milliseconds.
    pub held_ms: u64,
    /// Why it ended before `hold` was over; `None` when we ended it.
    pub dropped: Option<String>,
}

/// One attempt that failed, and what comes next.
pub struct Progress<'a> {
    /// From 1.
    pub attempt: u32,
    /// What happened.
    pub fault: &'a Fault,
    /// How long we wait before the next; `None` when there is none.
    pub wait: Option<Duration>,
}

impl Connect<'_> {
    /// Tries until CONNACK came, patience is over, or trying again cannot help.
    ///
    /// # Errors
    /// `connect.*`, `dial.*`, `server.*`, `mqtt.*`.
    pub fn run(&self, request: Request) -> Result<Connected, ConnectError> {
        self.run_reporting(&request, &mut |_| {})
    }

    /// As [`Self::run`], telling of each attempt that failed.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_reporting(
        &self,
        request: &Request,
        tell: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Connected, ConnectError> {
        self.run_witnessed(request, tell, &mut None)
    }

    /// As [`Self::run_reporting`]; gives up as soon as the witness knows that provisioning failed.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_witnessed(
        &self,
        request: &Request,
        tell: &mut dyn FnMut(&Progress<'_>),
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<Connected, ConnectError> {
        let start = self.clock.monotonic();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let left = request.timeout.saturating_sub(self.since(start));
            let fault = match self.attempt(request, left.min(STEP_TIMEOUT)) {
                Ok(open) => return Ok(self.connected(request, open, attempt, start)),
                Err(fault) => fault,
            };
            let elapsed = self.since(start);
            // The last wait is cut, so that the time left is used for one more try.
            let most = request.timeout.saturating_sub(elapsed + LAST_TRY);
            let wait = request.backoff.wait(attempt, self.random()).min(most);
            let last = request.attempts.is_some_and(|most| attempt >= most)
                || most.is_zero()
                || !fault.may_pass();
            tell(&Progress {
                attempt,
                fault: &fault,
                wait: (!last).then_some(wait),
            });
            let failed = |fault| ConnectError {
                endpoint: request.endpoint.clone(),
                attempts: attempt,
                elapsed: self.since(start),
                fault,
            };
            if last {
                return Err(failed(fault));
            }
            if let Some(known) = self.wait(wait, &request.identity, witness) {
                return Err(failed(Fault::Provisioning(known)));
            }
        }
    }

    /// Waits, or less when there is a witness that knows why waiting is in vain.
    fn wait(
        &self,
        wait: Duration,
        identity: &Identity,
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Option<Failed> {
        let (Some(witness), Some(leaf)) = (witness, identity.chain.first()) else {
            self.clock.sleep(wait);
            return None;
        };
        let start = self.clock.monotonic();
        loop {
            if let Some(failed) = witness.provisioning_failed(leaf.id()) {
                return Some(failed);
            }
            let left = wait.saturating_sub(self.since(start));
            if left.is_zero() {
                return None;
            }
            self.clock.sleep(left.min(LOOK));
        }
    }

    fn attempt(&self, request: &Request, timeout: Duration) -> Result<Open, Fault> {
        let (mut client, connect) = Client::connect(&request.client_id, KEEP_ALIVE_S)?;
        let mut channel = self.dial.open(&Target {
            endpoint: &request.endpoint,
            identity: &request.identity,
            server_roots: &request.server_roots,
            at: self.clock.now(),
            timeout,
        })?;
        channel.send(&connect).map_err(Fault::after_tls)?;
        let start = self.clock.monotonic();
        loop {
            let left = timeout.saturating_sub(self.since(start));
            match channel.receive(left).map_err(Fault::after_tls)? {
                Received::Closed => return Err(Fault::ClosedBeforeConnack),
                Received::Nothing => return Err(Fault::NoConnack),
                Received::Bytes(bytes) => match client.hear(&bytes)?.first() {
                    None => {}
                    Some(Heard::Accepted { session_present }) => {
                        return Ok(Open {
                            session_present: *session_present,
                            channel,
                            client,
                        });
                    }
                    Some(Heard::Refused(code)) => return Err(Fault::Connack(*code)),
                    Some(Heard::Other) => {
                        let why = "a packet came before CONNACK".to_owned();
                        return Err(MqttFault::Protocol(why).into());
                    }
                },
            }
        }
    }

    fn connected(
        &self,
        request: &Request,
        mut open: Open,
        attempts: u32,
        start: Duration,
    ) -> Connected {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let accepted = self.clock.monotonic();
        let ServerSeen {
            address,
            tls_version,
            cipher_suite,
            chain,
            ..
        } = open.channel.peer().clone();
        let dropped = self.hold(&mut open, request.hold);
        let held_ms = ms(self.since(accepted));
        if dropped.is_none() {
            let goodbye = open.client.disconnect();
            // The server may be gone already; the connection was proved good either way.
            let _ = open.channel.send(&goodbye);
        }
        open.channel.close();
        Connected {
            endpoint: request.endpoint.clone(),
            address: address.to_string(),
            client_id: request.client_id.clone(),
            attempts,
            total_ms: ms(accepted.saturating_sub(start)),
            protocol: "MQTT 3.1.1",
            tls_version,
            cipher_suite,
            server_subject: chain
                .first()
                .map_or_else(String::new, |leaf| leaf.subject.to_string()),
            session_present: open.session_present,
            held_ms,
            dropped,
        }
    }

    /// Keeps the connection alive for this long; says why it ended early.
    fn hold(&self, open: &mut Open, span: Duration) -> Option<String> {
        let start = self.clock.monotonic();
        loop {
            let left = span.saturating_sub(self.since(start));
            if left.is_zero() {
                return None;
            }
            match open.channel.receive(left.min(PING_EVERY)) {
                Err(error) => return Some(error.to_string()),
                Ok(Received::Closed) => return Some("the server closed the connection".into()),
                Ok(Received::Nothing) => {
                    let ping = open.client.ping();
                    if let Err(error) = open.channel.send(&ping) {
                        return Some(error.to_string());
                    }
                }
                Ok(Received::Bytes(bytes)) => {
                    if let Err(error) = open.client.hear(&bytes) {
                        return Some(error.to_string());
                    }
                }
            }
        }
    }

    fn since(&self, start: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(start)
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

struct Open {
    channel: Box<dyn Channel>,
    client: Client,
    session_present: bool,
}

/// Why one attempt did not end with CONNACK code 0.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// TLS was done, then the server closed without an answer: what AWS IoT does to the first
    /// connection under JITP, and to any that its certificate's status or policy forbids.
    #[error("TLS was fine, but the server closed before CONNACK")]
    ClosedBeforeConnack,
    /// Refused in so many words.
    #[error("CONNACK code {0}: {meaning}", meaning = connack_meaning(*.0))]
    Connack(u8),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Not MQTT.
    #[error(transparent)]
    Mqtt(#[from] MqttFault),
    /// TLS was done, then silence.
    #[error("TLS was fine, but no CONNACK came in time")]
    NoConnack,
    /// The server's side says that the certificate could not be provisioned.
    #[error("the sandbox could not provision the certificate: {}", .0.details)]
    Provisioning(Failed),
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
    fn after_tls(error: DialError) -> Self {
        match error {
            DialError::Closed { .. } => Self::ClosedBeforeConnack,
            other => Self::Dial(other),
        }
    }

    /// Whether trying again can help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::ClosedBeforeConnack | Self::NoConnack | Self::Connack(3) => true,
            Self::Connack(_) | Self::Mqtt(_) | Self::Provisioning(_) => false,
            Self::Dial(DialError::Alert { alert, .. }) => !FINAL_ALERTS.contains(&&alert[..]),
            Self::Dial(error) => error.kind() == Kind::Unavailable,
        }
    }
}

/// A first connect that did not end with CONNACK code 0.
#[derive(Debug, thiserror::Error)]
#[error(
    "not connected to `{endpoint}` ({attempts} attempt{}, {:.1} s)",
    if *.attempts == 1 { "" } else { "s" },
    .elapsed.as_secs_f64()
)]
pub struct ConnectError {
    /// Where to.
    pub endpoint: Endpoint,
    /// How many attempts were made.
    pub attempts: u32,
    /// From the first to the end of the last.
    pub elapsed: Duration,
    /// What happened to the last one.
    #[source]
    pub fault: Fault,
}

impl Explain for ConnectError {
    fn kind(&self) -> Kind {
        match &self.fault {
            Fault::NoConnack | Fault::Connack(3) => Kind::Unavailable,
            Fault::ClosedBeforeConnack | Fault::Connack(_) | Fault::Provisioning(_) => {
                Kind::Negative
            }
            Fault::Dial(error) => error.kind(),
            Fault::Mqtt(error) => error.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match &self.fault {
            Fault::ClosedBeforeConnack => "connect.closed",
            Fault::Connack(_) => "connect.refused",
            Fault::Dial(error) => error.code(),
            Fault::Mqtt(error) => error.code(),
            Fault::NoConnack => "connect.no-connack",
            Fault::Provisioning(_) => "connect.provisioning",
        }
    }
    fn hint(&self) -> Option<String> {
        match &self.fault {
            Fault::ClosedBeforeConnack => Some(
                "a device cannot see which of these it is, so look at the target: the CA is not \
                 registered, not ACTIVE or without auto-registration; the certificate is INACTIVE, \
                 REVOKED or still PENDING_ACTIVATION (its template failed, or needs longer: raise \
                 --timeout); no attached policy allows iot:Connect for this client id"
                    .into(),
            ),
            Fault::Connack(2) => Some("choose another client id with --client-id".into()),
            Fault::Connack(4 | 5) => Some(
                "check that the certificate is ACTIVE and that its policy allows iot:Connect for \
                 this client id"
                    .into(),
            ),
            Fault::Connack(_) => None,
            Fault::NoConnack => {
                Some("check that the port speaks MQTT (8883), then try again".into())
            }
            Fault::Dial(error) => error.hint(),
            Fault::Mqtt(error) => error.hint(),
            Fault::Provisioning(failed) => Some(failed.remedy.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
