//! Performs what [`super::mqtt::hub`] decides: first what must be durable is written, then packets
//! go to their connections, records to the log, and questions to their services.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::broker::{Broker, lock};
use super::logs::{Record, Stage, Why};
use super::mqtt::hub::{
    Act, Connectivity, Effects, End, Hub, HubRules, Publication, Retained, Turn,
};
use super::mqtt::packet::Outgoing;
use super::service;
use super::store::{Store, StoreError};
use crate::core::ids::Place;
use crate::ports::Clock;

/// How many packets wait for one slow client before messages of QoS 0 are dropped.
const INBOX: usize = 256;

/// A packet for a connection; `None` for its end.
pub(super) type Out = Option<Box<Outgoing>>;

/// Where one connection's packets go.
struct Outlet {
    sender: mpsc::UnboundedSender<Out>,
    waiting: Arc<AtomicUsize>,
}

/// The other end of it.
pub(super) struct Inlet {
    /// The connection's number.
    pub(super) link: u64,
    receiver: mpsc::UnboundedReceiver<Out>,
    waiting: Arc<AtomicUsize>,
}

impl Inlet {
    /// The next packet.
    pub(super) async fn next(&mut self) -> Out {
        let out = self.receiver.recv().await.flatten();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        out
    }

    /// The next packet, if there is one already.
    pub(super) fn ready(&mut self) -> Option<Out> {
        let out = self.receiver.try_recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(out)
    }
}

/// The hub with its store and its connections.
pub(super) struct Exchange {
    inner: Mutex<Inner>,
    links: AtomicU64,
    place: Arc<Place>,
}

struct Inner {
    hub: Hub,
    store: Store,
    outlets: HashMap<u64, Outlet>,
}

/// Now, in milliseconds since 1970.
pub(super) fn millis(clock: &dyn Clock) -> i64 {
    i64::try_from(clock.now_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

impl Exchange {
    /// With the sessions and retained messages that the store has.
    ///
    /// # Errors
    /// `sandbox.state`, `sandbox.state-entity`.
    pub(super) fn open(
        place: Place,
        store: Store,
        rules: HubRules,
        now: i64,
    ) -> Result<Self, StoreError> {
        let place = Arc::new(place);
        let mut hub = Hub::new(Arc::clone(&place), rules);
        hub.load(&store, now)?;
        Ok(Self {
            inner: Mutex::new(Inner {
                hub,
                store,
                outlets: HashMap::new(),
            }),
            links: AtomicU64::new(1),
            place,
        })
    }

    /// The account and Region.
    pub(super) fn place(&self) -> Arc<Place> {
        Arc::clone(&self.place)
    }
}

impl Broker {
    /// Now, in milliseconds since 1970.
    pub(super) fn millis(&self) -> i64 {
        millis(&*self.shared.clock)
    }

    /// A number and an inlet for a new connection.
    pub(super) fn open(&self) -> Inlet {
        let link = self.exchange.links.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet {
            sender,
            waiting: Arc::clone(&waiting),
        };
        lock(&self.exchange.inner).outlets.insert(link, outlet);
        Inlet {
            link,
            receiver,
            waiting,
        }
    }

    /// Nobody reads a connection's inlet any more.
    pub(super) fn close(&self, link: u64) {
        lock(&self.exchange.inner).outlets.remove(&link);
    }

    /// Sends a packet that the hub knows nothing of.
    pub(super) fn say(&self, link: u64, packet: Outgoing) {
        send(&lock(&self.exchange.inner).outlets, link, packet);
    }

    /// Takes one step of the hub and performs what comes of it. `acting` is the connection it is
    /// taken for, if there is one: when the store fails, it is that connection which gets no answer
    /// and ends.
    pub(super) fn turn<R>(
        self: &Arc<Self>,
        acting: Option<u64>,
        step: impl FnOnce(&mut Turn<'_>) -> R,
    ) -> R {
        let now = self.millis();
        let mut records = Vec::new();
        let mut questions = Vec::new();
        let mut inner = lock(&self.exchange.inner);
        let Inner {
            hub,
            store,
            outlets,
        } = &mut *inner;
        let mut turn = hub.turn(&**self, now);
        let answer = step(&mut turn);
        let mut effects = turn.finish();
        if !effects.writes.is_empty()
            && let Err(error) = store.commit(&effects.writes)
        {
            let remedy = "look at the disk of the state folder";
            let why = Why::new(Stage::Publish, "server.state", remedy);
            let record = Record::failure("Disconnect", "SERVER_ERROR", error.to_string()).why(why);
            records.push(hub.describe(acting, record));
            self.without_answer(hub, &mut effects, acting);
        }
        for act in effects.acts {
            match act {
                Act::Send { link, packet } => send(outlets, link, packet),
                Act::Close { link } => {
                    if let Some(outlet) = outlets.remove(&link) {
                        outlet.push(None);
                    }
                }
                Act::Count(metric) => self.logs.count(metric),
                Act::Log(record) => records.push(*record),
                Act::Serve(request) => questions.push(request),
            }
        }
        drop(inner);
        for record in records {
            self.logs.write(record);
        }
        for question in questions {
            self.ask(*question);
        }
        answer
    }

    /// What could not be kept is not acknowledged.
    fn without_answer(&self, hub: &mut Hub, effects: &mut Effects, acting: Option<u64>) {
        let Some(acting) = acting else { return };
        effects
            .acts
            .retain(|act| !matches!(act, Act::Send { link, .. } if *link == acting));
        let mut turn = hub.turn(self, self.millis());
        turn.lost(acting, End::ServerError);
        effects.acts.extend(turn.finish().acts);
    }

    /// Has the topic's service answer to the client, without making anyone wait.
    fn ask(self: &Arc<Self>, request: service::Request) {
        let mut services = self.services.iter();
        let found = services.find(|service| service.serves(&request.topic));
        let Some(service) = found.map(Arc::clone) else {
            return;
        };
        let broker = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let answers = service.answer(&request);
            broker.turn(None, |turn| turn.answer(&request.client_id, answers));
        });
    }

    /// Lets time pass.
    pub(super) fn pass_time(self: &Arc<Self>) {
        self.turn(None, |turn| {
            turn.tick();
        });
    }

    /// Publishes a message that is allowed already (`iot-data` Publish).
    pub(super) fn publish(self: &Arc<Self>, publication: Publication) {
        self.turn(None, |turn| turn.broadcast(publication, 0));
    }

    /// Ends a client's connection (`DeleteConnection`); `clean` ends its session too, and without
    /// `will` its last will is not sent. Returns whether there was a connection.
    pub(super) fn delete_connection(
        self: &Arc<Self>,
        client_id: &str,
        clean: bool,
        will: bool,
    ) -> bool {
        self.turn(None, |turn| turn.delete_connection(client_id, clean, will))
    }

    /// The retained message of a topic.
    pub(super) fn retained(&self, topic: &str) -> Option<Retained> {
        lock(&self.exchange.inner).hub.retained(topic).cloned()
    }

    /// Every retained message, in no order.
    pub(super) fn all_retained(&self) -> Vec<Retained> {
        lock(&self.exchange.inner)
            .hub
            .all_retained()
            .cloned()
            .collect()
    }

    /// Whether a client is connected; `None` for one that has not been for an hour.
    pub(super) fn connectivity(&self, client_id: &str) -> Option<Connectivity> {
        lock(&self.exchange.inner).hub.connectivity(client_id)
    }
}

fn send(outlets: &HashMap<u64, Outlet>, link: u64, packet: Outgoing) {
    let Some(outlet) = outlets.get(&link) else {
        return;
    };
    let droppable = matches!(&packet, Outgoing::Publish(delivery) if delivery.id.is_none());
    if droppable && outlet.waiting.load(Ordering::Relaxed) >= INBOX {
        return;
    }
    outlet.push(Some(Box::new(packet)));
}

impl Outlet {
    fn push(&self, out: Out) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(out);
    }
}
