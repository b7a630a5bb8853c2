//! The registry of one account and Region: AWS IoT Core's rules for CAs, certificates, policies,
//! things and provisioning templates. It decides and remembers; servers ask it.
//!
//! Sources: the API model (botocore `iot` 2015-05-28) and the AWS IoT developer guide. Where these
//! are silent, `docs/sandbox-control-plane.md` says what was chosen.

mod ca;
mod certificate;
mod entities;
mod error;
mod group;
mod group_change;
mod issued;
mod ownership;
mod plan;
mod policy;
mod register;
mod state;
mod tags;
mod task;
mod template;
mod thing;
mod thing_type;

use std::collections::BTreeMap;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

pub use ca::{CaChange, CaRegistration};
pub use certificate::{AttachTo, CertificateRegistration};
pub use entities::{
    BillingGroup, CaEntry, CertificateEntry, ClaimTerms, Dates, Group, Issuer, Meta, Ownership,
    Policy, PolicyVersion, ProvisioningTemplate, RegistrationConfig, Task, TaskReport, TaskStatus,
    TemplateVersion, Thing, ThingType,
};
pub use error::{ApiError, ErrorName};
pub use group::{NewGroup, NewType};
pub use group_change::GroupChange;
pub use issued::Request;
pub use ownership::{Entitlement, TOKEN_LIFE, fleet_code};
pub use plan::Provisioned;
pub use register::Registered;
pub use task::NewTask;
pub use template::{NewTemplate, TemplateChange};
pub use thing::{AttributeChange, NewThing, ThingChange};

pub use crate::core::status::{CertificateMode, CertificateStatus};

use super::store::{Store, StoreError};
use crate::core::ids::{AccountId, CertificateId, Place, PolicyName, Region, ThingName, hex};
use crate::explain::{Explain, Kind};
use state::State;

/// The key of the one [`Meta`] entity.
const META: &str = "account";

/// Why a registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The state belongs to another account or Region.
    #[error(
        "the sandbox's state is of account {account} in {region}; it cannot serve another place"
    )]
    Place {
        /// The account of the state.
        account: AccountId,
        /// The Region of the state.
        region: Region,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for RegistryError {
    fn kind(&self) -> Kind {
        match self {
            Self::Place { .. } => Kind::Input,
            Self::Store(error) => error.kind(),
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Place { .. } => "sandbox.place",
            Self::Store(error) => error.code(),
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Place { .. } => Some("use another state folder, or the account's own".into()),
            Self::Store(error) => error.hint(),
        }
    }
}

/// A thing that a certificate is attached to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ThingView {
    /// Its name.
    pub name: ThingName,
    /// Its type.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Whether the certificate is attached to this thing only (`EXCLUSIVE_THING`).
    pub exclusive: bool,
    /// Policies of the thing's groups and of the groups above them.
    pub group_policies: Vec<(PolicyName, Arc<str>)>,
}

/// What decides about a connected certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Principal {
    /// The default versions of the attached policies.
    pub policies: Vec<(PolicyName, Arc<str>)>,
    /// The things it is attached to, by name.
    pub things: Vec<ThingView>,
    /// The version of each policy that is in force, the groups' policies too.
    pub versions: BTreeMap<String, u32>,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    place: Place,
    store: Store,
    state: State,
    generation: u64,
    /// A change of several mutations is under way.
    joined: bool,
}

impl Registry {
    /// Opens the registry of a place over what the store holds.
    ///
    /// # Errors
    /// `sandbox.state*`, `sandbox.place` when the store holds another place's state.
    pub fn open(place: Place, store: Store) -> Result<Self, RegistryError> {
        let mut registry = Self {
            state: State::load(&store)?,
            place,
            store,
            generation: 0,
            joined: false,
        };
        match registry.state.meta.get(META) {
            Some(meta)
                if (&meta.account, &meta.region)
                    != (&registry.place.account, &registry.place.region) =>
            {
                return Err(RegistryError::Place {
                    account: meta.account.clone(),
                    region: meta.region.clone(),
                });
            }
            Some(_) => {}
            None => {
                let meta = Meta {
                    account: registry.place.account.clone(),
                    region: registry.place.region.clone(),
                    registration_code: None,
                };
                registry.state.meta.put(META, meta);
                registry.state.commit(&mut registry.store)?;
            }
        }
        Ok(registry)
    }

    /// Account and Region.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A number that changes with every mutation: what was cached under another is stale.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What decides about a certificate: its policies and its things. Empty for one that is not
    /// registered.
    pub fn principal(&self, id: &CertificateId) -> Principal {
        let Some(entry) = self.state.certificates.get(id.as_str()) else {
            return Principal::default();
        };
        let view = |(name, exclusive): (&ThingName, &bool)| {
            let thing = self.state.things.get(name.as_str())?;
            Some(ThingView {
                name: name.clone(),
                type_name: thing.type_name.clone(),
                attributes: thing.attributes.clone(),
                exclusive: *exclusive,
                group_policies: self.documents(&self.policies_of_groups(thing)),
            })
        };
        let mut policies = self.documents(&entry.policies);
        policies.extend(self.claim_policy(entry));
        let things: Vec<ThingView> = entry.things.iter().filter_map(view).collect();
        let groups = things.iter().flat_map(|thing| &thing.group_policies);
        let version = |(name, _): &(PolicyName, Arc<str>)| {
            let policy = self.state.policies.get(name.as_str())?;
            Some((name.to_string(), policy.default))
        };
        Principal {
            versions: policies.iter().chain(groups).filter_map(version).collect(),
            policies,
            things,
        }
    }

    /// The default documents of policies, those that are gone left out.
    fn documents(&self, names: &[PolicyName]) -> Vec<(PolicyName, Arc<str>)> {
        names
            .iter()
            .filter_map(|name| {
                let version = self.state.policies.get(name.as_str())?.default_version()?;
                Some((name.clone(), Arc::clone(&version.document)))
            })
            .collect()
    }

    /// Runs a mutation whole or not at all, and makes it durable before it is answered.
    fn mutate<R>(
        &mut self,
        change: impl FnOnce(&mut State, &Place) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        let done = change(&mut self.state, &self.place);
        if self.joined {
            return done;
        }
        self.settle(done)
    }

    /// Keeps a change that went well, and undoes any other.
    fn settle<R>(&mut self, done: Result<R, ApiError>) -> Result<R, ApiError> {
        match done {
            Ok(answer) => {
                if self.state.commit(&mut self.store)? {
                    self.generation += 1;
                }
                Ok(answer)
            }
            Err(error) => {
                self.state.rollback();
                Err(error)
            }
        }
    }

    /// Makes several mutations one: all of them, or none.
    ///
    /// # Errors
    /// What `change` answers; `InternalFailureException` when it cannot be kept.
    pub fn together<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        self.joined = true;
        let done = change(self);
        self.joined = false;
        self.settle(done)
    }
}

/// `count` random bytes in hexadecimal.
fn random_hex<const BYTES: usize>() -> Result<String, ApiError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ApiError::new(ErrorName::InternalFailure, "no random numbers"))?;
    Ok(hex(&bytes))
}

/// A random UUID (RFC 9562 §5.4).
pub(super) fn uuid() -> Result<String, ApiError> {
    let h = random_hex::<16>()?;
    let variant = match &h[16..17] {
        "0" | "4" | "8" | "c" => "8",
        "1" | "5" | "9" | "d" => "9",
        "2" | "6" | "a" | "e" => "a",
        _ => "b",
    };
    Ok(format!(
        "{}-{}-4{}-{variant}{}-{}",
        &h[..8],
        &h[8..12],
        &h[13..16],
        &h[17..20],
        &h[20..]
    ))
}

#[cfg(test)]
mod tests;
