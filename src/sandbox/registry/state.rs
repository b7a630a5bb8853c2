//! Entities in memory, with an undo log, and what of them must be written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entities::{
    BillingGroup, CaEntry, CertificateEntry, Group, Issuer, Meta, Ownership, Policy,
    ProvisioningTemplate, Tags, Task, TaskReport, Thing, ThingType,
};
use crate::sandbox::store::{Store, StoreError, Write};

/// Something the registry keeps.
pub(super) trait Entity: Clone + Serialize + DeserializeOwned {
    /// Its name in the store.
    const KIND: &'static str;
}

/// Every entity of one kind, by key.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: BTreeMap<String, T>,
    undo: Vec<(String, Option<T>)>,
}

impl<T: Entity> Table<T> {
    fn load(store: &Store) -> Result<Self, StoreError> {
        let mut entries = BTreeMap::new();
        for (key, json) in store.load(T::KIND)? {
            let entity = serde_json::from_str(&json).map_err(|error| StoreError::Entity {
                kind: T::KIND,
                key: key.clone(),
                reason: error.to_string(),
            })?;
            entries.insert(key, entity);
        }
        Ok(Self {
            entries,
            undo: Vec::new(),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key)
    }

    /// The entity to change; its value until now is kept for undo.
    pub(super) fn change(&mut self, key: &str) -> Option<&mut T> {
        let entity = self.entries.get_mut(key)?;
        self.undo.push((key.to_owned(), Some(entity.clone())));
        Some(entity)
    }

    pub(super) fn put(&mut self, key: &str, entity: T) {
        let old = self.entries.insert(key.to_owned(), entity);
        self.undo.push((key.to_owned(), old));
    }

    pub(super) fn remove(&mut self, key: &str) {
        if let Some(old) = self.entries.remove(key) {
            self.undo.push((key.to_owned(), Some(old)));
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.entries.values()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &T)> {
        self.entries.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn writes(&self, out: &mut Vec<Write>) -> Result<(), StoreError> {
        let keys: BTreeSet<&str> = self.undo.iter().map(|(key, _)| &key[..]).collect();
        for key in keys {
            let json = self.entries.get(key).map(serde_json::to_string);
            let json = json.transpose().map_err(|error| StoreError::Entity {
                kind: T::KIND,
                key: key.to_owned(),
                reason: error.to_string(),
            })?;
            out.push(Write {
                kind: T::KIND,
                key: key.to_owned(),
                json,
            });
        }
        Ok(())
    }

    fn rollback(&mut self) {
        for (key, old) in self.undo.drain(..).rev() {
            match old {
                Some(entity) => self.entries.insert(key, entity),
                None => self.entries.remove(&key),
            };
        }
    }
}

macro_rules! state {
    ($($field:ident: $entity:ty = $kind:literal,)*) => {
        /// Everything the registry knows.
        #[derive(Debug)]
        pub(super) struct State {
            $(pub(super) $field: Table<$entity>,)*
        }

        $(impl Entity for $entity {
            const KIND: &'static str = $kind;
        })*

        impl State {
            pub(super) fn load(store: &Store) -> Result<Self, StoreError> {
                Ok(Self { $($field: Table::load(store)?,)* })
            }

            /// Writes what changed and forgets how to undo it; on failure nothing is changed.
            pub(super) fn commit(&mut self, store: &mut Store) -> Result<bool, StoreError> {
                let mut writes = Vec::new();
                let written = self.writes(&mut writes).and_then(|()| store.commit(&writes));
                if let Err(error) = written {
                    self.rollback();
                    return Err(error);
                }
                $(self.$field.undo.clear();)*
                Ok(!writes.is_empty())
            }

            pub(super) fn rollback(&mut self) {
                $(self.$field.rollback();)*
            }

            fn writes(&self, out: &mut Vec<Write>) -> Result<(), StoreError> {
                $(self.$field.writes(out)?;)*
                Ok(())
            }
        }
    };
}

state! {
    billing_groups: BillingGroup = "billing-group",
    cas: CaEntry = "ca",
    certificates: CertificateEntry = "certificate",
    groups: Group = "thing-group",
    issuers: Issuer = "issuer",
    meta: Meta = "meta",
    ownerships: Ownership = "ownership",
    policies: Policy = "policy",
    reports: TaskReport = "registration-report",
    tags: Tags = "tags",
    tasks: Task = "registration-task",
    templates: ProvisioningTemplate = "template",
    things: Thing = "thing",
    types: ThingType = "thing-type",
}
