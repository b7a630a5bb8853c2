//! How much a second AWS IoT takes, where that is enforced (service quotas of AWS IoT Core, "Message
//! broker and protocol limits"): connects and subscriptions of the account, publishes of the account
//! and of each connection, and what waits for a session that is resumed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::packet::code;
use super::Turn;
use super::connect::Refusal;
use crate::sandbox::logs::{Record, Stage, Why};

/// Connects of an account.
const CONNECTS: u32 = 500;
/// Publishes of an account, in and out each.
const PUBLISHES: u32 = 20_000;
/// Publishes of one connection, in and out together.
const OF_CONNECTION: u32 = 100;
/// Subscriptions of an account.
const SUBSCRIPTIONS: u32 = 500;
/// Messages that waited for a session, once it is resumed.
const RESUMED: u32 = 10;
/// How often one client id may connect.
const BETWEEN_CONNECTS: Duration = Duration::from_secs(1);

/// What is left of a second.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: u32,
    left: f64,
    at: Duration,
}

impl Bucket {
    fn full(rate: u32) -> Self {
        Self {
            rate,
            left: f64::from(rate),
            at: Duration::ZERO,
        }
    }

    /// Takes one, if there is one; `now` only runs forward.
    fn take(&mut self, now: Duration) -> bool {
        let full = f64::from(self.rate);
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.left = (self.left + passed * full).min(full);
        self.at = now;
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

/// Those of an account in a Region.
#[derive(Debug)]
pub(super) struct Rates {
    connects: Bucket,
    inbound: Bucket,
    outbound: Bucket,
    subscriptions: Bucket,
    /// When each client id has connected last; those of the last second.
    clients: HashMap<Arc<str>, Duration>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            connects: Bucket::full(CONNECTS),
            inbound: Bucket::full(PUBLISHES),
            outbound: Bucket::full(PUBLISHES),
            subscriptions: Bucket::full(SUBSCRIPTIONS),
            clients: HashMap::new(),
        }
    }
}

/// Those of one connection.
#[derive(Debug)]
pub(super) struct LinkRates {
    publishes: Bucket,
    resumed: Bucket,
    /// How many messages are left of those that waited when it connected.
    backlog: usize,
}

impl LinkRates {
    pub(super) fn new(backlog: usize) -> Self {
        Self {
            publishes: Bucket::full(OF_CONNECTION),
            resumed: Bucket::full(RESUMED),
            backlog,
        }
    }
}

impl Turn<'_> {
    /// A publish over a rate, explained.
    fn log_over(&mut self, link: u64, event: &str, (stage, topic): (Stage, &str)) {
        let remedy = "publish less often, or on several connections; AWS IoT discards what is over \
                      the quota of publishes per second and connection";
        let why = self.who(link, Why::new(stage, "quota.publish", remedy));
        let details = format!("more than {OF_CONNECTION} publishes in a second on this connection");
        let record = Record::failure(event, "THROTTLED", details).why(why);
        self.log(link, record.topic(topic));
    }

    /// Whether the client id, and the account, may connect now.
    pub(super) fn throttle_connect(&mut self, id: &Arc<str>) -> Result<(), Refusal> {
        let now = self.world.monotonic();
        let Some(rates) = &mut self.hub.rates else {
            return Ok(());
        };
        let last = rates.clients.get(id);
        let (reason, rule, details) =
            if last.is_some_and(|last| now.saturating_sub(*last) < BETWEEN_CONNECTS) {
                let details = format!("the client id `{id}` connects more than once in a second");
                ("CLIENT_ID_THROTTLED", "quota.connect-client-id", details)
            } else if rates.connects.take(now) {
                rates.clients.insert(Arc::clone(id), now);
                return Ok(());
            } else {
                let details = format!("more than {CONNECTS} clients connect in a second");
                ("THROTTLED", "quota.connect", details)
            };
        let remedy = "wait between tries, longer each time and with jitter";
        let record = Record::failure("Connect", reason, details);
        Err(Refusal {
            code: code::QUOTA,
            v3_code: None,
            record: Box::new(record.why(Why::new(Stage::Connect, rule, remedy))),
        })
    }

    /// Whether the client may publish now; what is over the rate is recorded.
    pub(super) fn may_publish_now(&mut self, link: u64, topic: &str) -> bool {
        let now = self.world.monotonic();
        let within = self.take_publish(link, now, |rates| &mut rates.inbound);
        if !within {
            self.log_over(link, "Publish-In", (Stage::Publish, topic));
        }
        within
    }

    /// Whether the client may be sent a message that waits: the rate of its connection, and of what
    /// waited when it connected.
    pub(super) fn may_pump(&mut self, link: u64) -> bool {
        if self.hub.rates.is_none() {
            return true;
        }
        let now = self.world.monotonic();
        let session = self.hub.session_of_mut(link);
        let rates = session.and_then(|session| session.link.as_mut()?.rates.as_mut());
        if let Some(rates) = rates
            && rates.backlog > 0
        {
            if !rates.resumed.take(now) {
                return false;
            }
            rates.backlog -= 1;
        }
        self.take_publish(link, now, |rates| &mut rates.outbound)
    }

    /// Whether the client may be sent a message of QoS 0 now; one over the rate is discarded.
    pub(super) fn may_send_now(&mut self, link: u64, topic: &str) -> bool {
        let now = self.world.monotonic();
        let within = self.take_publish(link, now, |rates| &mut rates.outbound);
        if !within {
            self.log_over(link, "Publish-Out", (Stage::Receive, topic));
        }
        within
    }

    fn take_publish(
        &mut self,
        link: u64,
        now: Duration,
        of: impl FnOnce(&mut Rates) -> &mut Bucket,
    ) -> bool {
        let Some(rates) = &mut self.hub.rates else {
            return true;
        };
        let of_account = of(rates).take(now);
        let session = self.hub.session_of_mut(link);
        let rates = session.and_then(|session| session.link.as_mut()?.rates.as_mut());
        of_account && rates.is_none_or(|rates| rates.publishes.take(now))
    }

    /// Why the account may not subscribe now; `None` when it may.
    pub(super) fn throttle_subscribe(&mut self) -> Option<String> {
        let now = self.world.monotonic();
        let rates = self.hub.rates.as_mut()?;
        (!rates.subscriptions.take(now))
            .then(|| format!("more than {SUBSCRIPTIONS} subscriptions in a second"))
    }

    /// Time has passed: what was over a rate is sent, and old connects are forgotten.
    pub(super) fn pass_rates(&mut self) {
        let now = self.world.monotonic();
        let Some(rates) = &mut self.hub.rates else {
            return;
        };
        let recent = |at: &Duration| now.saturating_sub(*at) < BETWEEN_CONNECTS;
        rates.clients.retain(|_, at| recent(at));
        let sessions = self.hub.sessions.values();
        let waiting = sessions.filter(|session| !session.outbox.waiting.is_empty());
        let links = waiting.filter_map(|session| Some(session.link.as_ref()?.number));
        for link in links.collect::<Vec<_>>() {
            self.pump(link);
        }
    }

    /// For a connection for which so many messages wait.
    pub(super) fn new_link_rates(&self, backlog: usize) -> Option<LinkRates> {
        self.hub.rates.as_ref().map(|_| LinkRates::new(backlog))
    }
}
