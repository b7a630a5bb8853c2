//! Several accounts and Regions side by side. The one that the sandbox was started as is there from
//! the beginning; any other comes into being when it is first called.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Shared;
use super::registry::{ApiError, ErrorName, Registry, RegistryError};
use super::store::Store;
use crate::core::ids::Place;

/// The most places: each is a registry in memory.
const MOST: usize = 100;

/// Every place of one sandbox.
pub struct Worlds {
    home: Shared,
    /// Where the entities of all places are; `None` when nothing is kept.
    state: Option<PathBuf>,
    others: Mutex<HashMap<String, Shared>>,
}

impl Worlds {
    /// The place that the sandbox was started as, and the file that keeps the others, too.
    pub fn new(home: Shared, state: Option<PathBuf>) -> Self {
        Self {
            home,
            state,
            others: Mutex::default(),
        }
    }

    /// What belongs to the place that the sandbox was started as.
    pub fn home(&self) -> &Shared {
        &self.home
    }

    /// What belongs to a place.
    ///
    /// # Errors
    /// `LimitExceededException` for too many places, `InternalFailureException` when the state
    /// cannot be read.
    pub fn of(&self, place: &Place) -> Result<Shared, ApiError> {
        if self.home.logs.place() == place {
            return Ok(self.home.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}/{}", place.account, place.region);
        if let Some(shared) = others.get(&name) {
            return Ok(shared.clone());
        }
        if others.len() >= MOST {
            let message = format!("the sandbox plays at most {MOST} accounts and Regions");
            return Err(ApiError::new(ErrorName::LimitExceeded, message));
        }
        let failed =
            |error: RegistryError| ApiError::new(ErrorName::InternalFailure, error.to_string());
        let registry = self.open(place).map_err(failed)?;
        let shared = Shared {
            registry: Arc::new(Mutex::new(registry)),
            endpoint: endpoint(place, &self.home.endpoint).into(),
            logs: self.home.logs.of_place(place.clone()),
            broker: Arc::default(),
            ..self.home.clone()
        };
        others.insert(name, shared.clone());
        Ok(shared)
    }

    /// What the first place that has it says.
    pub fn find<T>(&self, ask: impl Fn(&Registry) -> Option<T>) -> Option<T> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::iter::once(&self.home).chain(others.values());
        all.into_iter().find_map(|shared| {
            let registry = shared.registry.lock();
            ask(&registry.unwrap_or_else(PoisonError::into_inner))
        })
    }

    fn open(&self, place: &Place) -> Result<Registry, RegistryError> {
        let store = match &self.state {
            Some(path) => Store::durable(path)?,
            None => Store::memory(),
        };
        Registry::open(place.clone(), store.of_place(place))
    }
}

/// The endpoint of another place, below the sandbox's own.
pub(super) fn endpoint(place: &Place, home: &str) -> String {
    format!("{}-ats.iot.{}.{home}", place.account, place.region)
}
