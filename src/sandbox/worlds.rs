//! Several accounts and Regions side by side. The one that the sandbox was started as is there from
//! the beginning; any other comes into being when it is first called, and is there again when the
//! sandbox starts anew.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Shared;
use super::broker::{Broker, Rules};
use super::exchange::{Exchange, millis};
use super::mqtt::hub::HubRules;
use super::registry::{ApiError, ErrorName, Registry, RegistryError};
use super::store::Store;
use super::tls::Endpoint;
use crate::core::ids::Place;

/// The most places: each is a registry in memory.
const MOST: usize = 100;

/// How the other places get a broker.
pub(super) struct Brokers {
    /// What the device endpoint is called.
    pub(super) endpoint: Arc<Endpoint>,
    /// How clients are treated.
    pub(super) rules: Rules,
    /// And their sessions.
    pub(super) hub: HubRules,
    /// The broker of the place that the sandbox was started as.
    pub(super) home: Arc<Broker>,
    /// Places with a port of their own, where the endpoint's plain name is theirs.
    pub(super) with_port: HashSet<Place>,
}

/// A place beside the first.
struct Other {
    shared: Shared,
    /// What its endpoint is called on the common ports.
    name: String,
    broker: Option<Arc<Broker>>,
}

/// Every place of one sandbox.
pub struct Worlds {
    home: Shared,
    /// Where the entities of all places are; `None` when nothing is kept.
    state: Option<PathBuf>,
    others: Mutex<HashMap<Place, Other>>,
    brokers: OnceLock<Brokers>,
}

impl Worlds {
    /// The place that the sandbox was started as, and the file that keeps the others, too.
    pub fn new(home: Shared, state: Option<PathBuf>) -> Self {
        Self {
            home,
            state,
            others: Mutex::default(),
            brokers: OnceLock::new(),
        }
    }

    /// What belongs to the place that the sandbox was started as.
    pub fn home(&self) -> &Shared {
        &self.home
    }

    /// From now on every place has a broker; those that the state knows are there at once.
    ///
    /// # Errors
    /// When the state of one cannot be read.
    pub(super) fn open(&self, brokers: Brokers) -> Result<(), RegistryError> {
        let mut places: Vec<Place> = brokers.with_port.iter().cloned().collect();
        let _ = self.brokers.set(brokers);
        if let Some(state) = &self.state {
            places.extend(Store::places(state)?);
        }
        for place in places {
            self.place(&place)?;
        }
        Ok(())
    }

    /// What belongs to a place.
    ///
    /// # Errors
    /// `LimitExceededException` for too many places, `InternalFailureException` when the state
    /// cannot be read.
    pub fn of(&self, place: &Place) -> Result<Shared, ApiError> {
        let failed =
            |error: RegistryError| ApiError::new(ErrorName::InternalFailure, error.to_string());
        self.place(place).map_err(failed)?.ok_or_else(|| {
            let message = format!("the sandbox plays at most {MOST} accounts and Regions");
            ApiError::new(ErrorName::LimitExceeded, message)
        })
    }

    /// `None` when there are too many.
    fn place(&self, place: &Place) -> Result<Option<Shared>, RegistryError> {
        if self.home.logs.place() == place {
            return Ok(Some(self.home.clone()));
        }
        let mut others = self.lock();
        if let Some(other) = others.get(place) {
            return Ok(Some(other.shared.clone()));
        }
        if others.len() >= MOST {
            return Ok(None);
        }
        let other = self.make(place)?;
        let shared = other.shared.clone();
        if let Some(brokers) = self.brokers.get() {
            brokers.endpoint.also(&other.name);
        }
        others.insert(place.clone(), other);
        Ok(Some(shared))
    }

    fn make(&self, place: &Place) -> Result<Other, RegistryError> {
        let mut registry = Registry::open(place.clone(), self.store(place)?)?;
        // A task that cannot be ended now is found again at the next start.
        let _ = registry.end_orphaned_tasks(self.home.clock.now());
        let brokers = self.brokers.get();
        let name = endpoint(place, &self.home.endpoint);
        let has_port = brokers.is_some_and(|brokers| brokers.with_port.contains(place));
        let shared = Shared {
            registry: Arc::new(Mutex::new(registry)),
            endpoint: if has_port {
                Arc::clone(&self.home.endpoint)
            } else {
                name.as_str().into()
            },
            logs: self.home.logs.of_place(place.clone()),
            broker: Arc::default(),
            ..self.home.clone()
        };
        let broker = brokers.map(|brokers| self.broker(brokers, &shared));
        let broker = broker.transpose()?;
        Ok(Other {
            shared,
            name,
            broker,
        })
    }

    fn broker(&self, brokers: &Brokers, shared: &Shared) -> Result<Arc<Broker>, RegistryError> {
        let place = shared.logs.place().clone();
        let (store, now) = (self.store(&place)?, millis(&*shared.clock));
        let exchange = Exchange::open(place, store, brokers.hub, now)?;
        let endpoint = Arc::clone(&brokers.endpoint);
        let broker = Arc::new(Broker::new(
            shared.clone(),
            endpoint,
            brokers.rules,
            exchange,
        ));
        let _ = shared.broker.set(Arc::downgrade(&broker));
        Ok(broker)
    }

    /// The broker behind the name of another place's endpoint, in lower case.
    pub(super) fn broker_of(&self, name: &str) -> Option<Arc<Broker>> {
        let others = self.lock();
        let mut found = others.values().filter(|other| other.name == name);
        found.next()?.broker.clone()
    }

    /// The broker of a place that is there already.
    pub(super) fn broker_at(&self, place: &Place) -> Option<Arc<Broker>> {
        if self.home.logs.place() == place {
            return Some(Arc::clone(&self.brokers.get()?.home));
        }
        self.lock().get(place)?.broker.clone()
    }

    /// Every broker.
    pub(super) fn brokers(&self) -> Vec<Arc<Broker>> {
        let home = self.brokers.get().map(|brokers| Arc::clone(&brokers.home));
        let others = self.lock();
        let others = others.values().filter_map(|other| other.broker.clone());
        home.into_iter().chain(others).collect()
    }

    /// What the first place that has it says.
    pub fn find<T>(&self, ask: impl Fn(&Registry) -> Option<T>) -> Option<T> {
        let others = self.lock();
        let all = std::iter::once(&self.home).chain(others.values().map(|other| &other.shared));
        all.into_iter().find_map(|shared| {
            let registry = shared.registry.lock();
            ask(&registry.unwrap_or_else(PoisonError::into_inner))
        })
    }

    fn store(&self, place: &Place) -> Result<Store, RegistryError> {
        let store = match &self.state {
            Some(path) => Store::durable(path)?,
            None => Store::memory(),
        };
        Ok(store.of_place(place))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoint of another place, below the sandbox's own.
pub fn endpoint(place: &Place, home: &str) -> String {
    let name = format!("{}-ats.iot.{}.{home}", place.account, place.region);
    name.to_ascii_lowercase()
}
