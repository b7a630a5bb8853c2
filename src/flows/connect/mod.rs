//! The first connect that knows JITP: the first connection is expected to be dropped, and only a
//! CONNACK with code 0 is success; or, if that is wanted, a policy that lets the device do its work.

mod fault;
mod probe;
mod session;

use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::cert::Certificate;
use crate::core::endpoint::Endpoint;
use crate::ports::witness::{Failed, Said, Witness};
use crate::ports::{Clock, Dial, Entropy, Identity, ServerSeen};

pub use fault::{Asked, Cause, ConnectError, Cut, Fault};
pub use probe::{Probe, Probed};
pub use session::{Call, Session, Versions};

/// The most one step of one attempt may take.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a witness is asked during a wait.
const LOOK: Duration = Duration::from_millis(100);
/// How many looks a record may need to be written.
const LOOKS: u32 = 3;
/// The time kept for the last try.
const LAST_TRY: Duration = Duration::from_millis(800);
/// AWS IoT takes one CONNECT a second for each client id (quota "Connect requests per second per
/// client ID").
const BETWEEN_CONNECTS: Duration = Duration::from_secs(1);

/// The powers needed.
pub struct Connect<'a> {
    /// Passing time, and the time at which the server's chain must be valid.
    pub clock: &'a dyn Clock,
    /// Jitter.
    pub entropy: &'a dyn Entropy,
    /// Connections.
    pub dial: &'a dyn Dial,
}

/// What counts as success.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Until {
    /// CONNACK with code 0.
    #[default]
    Connack,
    /// CONNACK, and every probe was given all it asked for.
    ThingUsable,
}

/// What to connect to, as whom, and how long to try.
#[derive(Clone, Debug)]
pub struct Request {
    /// The data endpoint.
    pub endpoint: Endpoint,
    /// Others, a second Region's perhaps, tried in order when the first is not there to answer.
    pub others: Vec<Endpoint>,
    /// Leaf first, then its issuers, as presented in TLS; and the key.
    pub identity: Identity,
    /// Whom to trust to vouch for the server.
    pub server_roots: Vec<Certificate>,
    /// The MQTT client id.
    pub client_id: String,
    /// Which MQTT.
    pub versions: Versions,
    /// What counts as success.
    pub until: Until,
    /// What is tried once connected.
    pub probes: Vec<Probe>,
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
            others: Vec::new(),
            identity,
            server_roots,
            client_id,
            versions: Versions::default(),
            until: Until::default(),
            probes: Vec::new(),
            timeout: Duration::from_mins(1),
            attempts: None,
            backoff: Backoff::default(),
            hold: Duration::ZERO,
        }
    }

    fn call<'a>(&'a self, endpoint: &'a Endpoint, timeout: Duration) -> Call<'a> {
        Call {
            endpoint,
            identity: &self.identity,
            server_roots: &self.server_roots,
            client_id: &self.client_id,
            versions: self.versions,
            timeout,
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
    /// From the first attempt to success, in milliseconds.
    pub total_ms: u64,
    /// `MQTT 3.1.1` or `MQTT 5`.
    pub protocol: &'static str,
    /// `TLSv1.3` or `TLSv1.2`.
    pub tls_version: Option<String>,
    /// The cipher suite.
    pub cipher_suite: Option<String>,
    /// The protocol that the server chose by ALPN.
    pub alpn: Option<String>,
    /// The subject of the server's certificate.
    pub server_subject: String,
    /// Whether the server kept a session.
    pub session_present: bool,
    /// What was tried once connected.
    pub probes: Vec<Probed>,
    /// How long the connection was held after CONNACK, in milliseconds.
    pub held_ms: u64,
    /// Why it ended before `hold` was over; `None` when we ended it.
    pub dropped: Option<String>,
}

/// One attempt that failed, and what comes next.
pub struct Progress<'a> {
    /// From 1.
    pub attempt: u32,
    /// Where.
    pub endpoint: &'a Endpoint,
    /// What happened.
    pub fault: &'a Fault,
    /// How long we wait before the next; `None` when there is none.
    pub wait: Option<Duration>,
}

/// An accepted connection and what was tried over it.
struct Open<'a> {
    endpoint: Endpoint,
    seen: ServerSeen,
    protocol: &'static str,
    session_present: bool,
    /// `None` when a probe's answer ended it.
    session: Option<Session<'a>>,
    probes: Vec<Probed>,
}

impl<'a> Connect<'a> {
    /// Tries until it is done, patience is over, or trying again cannot help.
    ///
    /// # Errors
    /// `connect.*`, `dial.*`, `server.*`, `mqtt.*`.
    pub fn run(&self, request: Request) -> Result<Connected, ConnectError> {
        self.run_witnessed(&request, &mut |_| {}, &mut None)
    }

    /// As [`Self::run`], telling of each attempt that failed; gives up as soon as the witness knows
    /// that provisioning failed.
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
        let (open, attempts) = self.patiently(request, tell, witness)?;
        Ok(self.connected(request, open, attempts, start))
    }

    /// A connection to go on with, and where it leads.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn session(
        &self,
        request: &Request,
        tell: &mut dyn FnMut(&Progress<'_>),
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<Session<'a>, ConnectError> {
        let start = self.clock.monotonic();
        let (open, attempts) = self.patiently(request, tell, witness)?;
        // Without probes nothing can have ended it.
        open.session.ok_or_else(|| ConnectError {
            endpoint: open.endpoint,
            attempts,
            elapsed: self.since(start),
            cause: Box::new(Cause {
                fault: Fault::ClosedBeforeConnack,
                said: None,
            }),
        })
    }

    /// Tries until it is done; how many attempts it took.
    fn patiently(
        &self,
        request: &Request,
        tell: &mut dyn FnMut(&Progress<'_>),
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<(Open<'a>, u32), ConnectError> {
        let start = self.clock.monotonic();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let left = request.timeout.saturating_sub(self.since(start));
            let (endpoint, fault) = match self.round(request, left.min(STEP_TIMEOUT)) {
                Ok(open) => return Ok((open, attempt)),
                Err(failed) => failed,
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
                endpoint,
                fault: &fault,
                wait: (!last).then_some(wait),
            });
            let failed = |fault, said| ConnectError {
                endpoint: endpoint.clone(),
                attempts: attempt,
                elapsed: self.since(start),
                cause: Box::new(Cause { fault, said }),
            };
            if last {
                let said = self.said(&request.identity, witness);
                return Err(failed(fault, said));
            }
            if let Some(known) = self.wait(wait, &request.identity, witness) {
                return Err(failed(Fault::Provisioning(known), None));
            }
        }
    }

    /// Tries the endpoints in order, until one is there to answer. Of several that are not, the one
    /// whose fault tells more is told.
    fn round<'r>(
        &self,
        request: &'r Request,
        timeout: Duration,
    ) -> Result<Open<'a>, (&'r Endpoint, Fault)> {
        let try_one = |endpoint: &'r Endpoint| {
            self.attempt(request, endpoint, timeout)
                .map_err(|fault| (endpoint, fault))
        };
        let mut told = match try_one(&request.endpoint) {
            Ok(open) => return Ok(open),
            Err(failed) => failed,
        };
        for other in &request.others {
            // Waiting can help here: under JITP another Region would not know the device either.
            if told.1.is_answer() && told.1.may_pass() {
                break;
            }
            match try_one(other) {
                Ok(open) => return Ok(open),
                Err(failed) if told.1.tells_less_than(&failed.1) => told = failed,
                Err(_) => {}
            }
        }
        Err(told)
    }

    fn attempt(
        &self,
        request: &Request,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<Open<'a>, Fault> {
        let session = Session::open(self.dial, self.clock, &request.call(endpoint, timeout))?;
        let mut open = Open {
            endpoint: endpoint.clone(),
            seen: session.peer().clone(),
            protocol: session.protocol().name(),
            session_present: session.session_present,
            session: Some(session),
            probes: Vec::new(),
        };
        let payload = self.payload();
        for probe in &request.probes {
            if open.session.is_none() {
                self.clock.sleep(BETWEEN_CONNECTS);
                let call = request.call(endpoint, timeout);
                open.session = Some(Session::open(self.dial, self.clock, &call)?);
            }
            let Some(session) = &mut open.session else {
                continue;
            };
            let (probed, fault) = probe::run(session, probe, &payload);
            if !probe::outlived(fault.as_ref()) {
                open.session = None;
            }
            open.probes.push(probed);
            if let Some(fault) = fault.filter(|_| request.until == Until::ThingUsable) {
                return Err(fault);
            }
        }
        Ok(open)
    }

    /// What no other message says.
    fn payload(&self) -> Vec<u8> {
        format!("{{\"nameplate_probe\":\"{:016x}\"}}", self.random()).into_bytes()
    }

    /// What the witness has about it; a record may take a moment.
    fn said(&self, identity: &Identity, witness: &mut Option<Box<dyn Witness>>) -> Option<Said> {
        let (witness, leaf) = (witness.as_mut()?, identity.chain.first()?);
        for _ in 0..LOOKS {
            if let Some(said) = witness.refused(leaf) {
                return Some(said);
            }
            self.clock.sleep(LOOK);
        }
        None
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

    fn connected(
        &self,
        request: &Request,
        open: Open<'a>,
        attempts: u32,
        start: Duration,
    ) -> Connected {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let accepted = self.clock.monotonic();
        let (dropped, held_ms) = match open.session {
            Some(mut session) => {
                let dropped = session.hold(request.hold);
                let held_ms = ms(self.since(accepted));
                session.close();
                (dropped, held_ms)
            }
            None => (None, 0),
        };
        let leaf = open.seen.chain.first();
        Connected {
            endpoint: open.endpoint,
            address: open.seen.address.to_string(),
            client_id: request.client_id.clone(),
            attempts,
            total_ms: ms(accepted.saturating_sub(start)),
            protocol: open.protocol,
            tls_version: open.seen.tls_version,
            cipher_suite: open.seen.cipher_suite,
            alpn: open.seen.alpn,
            server_subject: leaf.map_or_else(String::new, |leaf| leaf.subject.to_string()),
            session_present: open.session_present,
            probes: open.probes,
            held_ms,
            dropped,
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

#[cfg(test)]
mod tests;
