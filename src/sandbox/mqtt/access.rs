//! What one connection's policies allow, put together once and asked with every packet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place};
use crate::core::policy::{
    Action, Check, Compiled, Connect, Decision, Facts, NamedPolicy, Packet, Request, Scene,
    ThingFacts, decide, stands_for,
};
use crate::sandbox::logs::{Denial, Holder, Stage, denied};
use crate::sandbox::registry::ThingView;

/// What the registry gives a certificate the right to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authority {
    /// The policies attached to it.
    pub(crate) policies: Vec<NamedPolicy>,
    /// The things it is attached to, each with the policies of its groups.
    pub(crate) things: Vec<(ThingView, Vec<NamedPolicy>)>,
    /// The version of each policy that is in force.
    pub(crate) versions: BTreeMap<String, u32>,
    /// The certificate is `ACTIVE`.
    pub(crate) active: bool,
}

impl Authority {
    /// Whether it comes to the same, documents compared by identity.
    fn same(&self, other: &Self) -> bool {
        let policies = |a: &[NamedPolicy], b: &[NamedPolicy]| {
            let same = |(a, b): (&NamedPolicy, &NamedPolicy)| {
                a.name == b.name && Arc::ptr_eq(&a.document, &b.document)
            };
            a.len() == b.len() && a.iter().zip(b).all(same)
        };
        let mut things = self.things.iter().zip(&other.things);
        self.active == other.active
            && self.versions == other.versions
            && policies(&self.policies, &other.policies)
            && self.things.len() == other.things.len()
            && things.all(|(a, b)| a.0 == b.0 && policies(&a.1, &b.1))
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) place: Arc<Place>,
}

/// Where an [`Access`] gets its rights from.
pub(crate) trait Rights {
    /// A number that changes whenever any rights do.
    fn generation(&self) -> u64;
    /// What a certificate may do now, and under which generation that holds.
    fn authority(&self, id: &CertificateId) -> (Authority, u64);
}

/// One connection's rights.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) peer: Peer,
    client_id: Arc<str>,
    /// Asked over HTTPS, where there is no client id and no thing.
    https: bool,
    authority: Authority,
    generation: u64,
    compiled: Compiled,
}

impl Access {
    pub(crate) fn new(peer: Peer, client_id: Arc<str>, rights: &dyn Rights) -> Self {
        Self::build(peer, client_id, false, rights)
    }

    /// For a client that asks over HTTPS.
    pub(crate) fn https(peer: Peer, rights: &dyn Rights) -> Self {
        Self::build(peer, "".into(), true, rights)
    }

    fn build(peer: Peer, client_id: Arc<str>, https: bool, rights: &dyn Rights) -> Self {
        let (authority, generation) = rights.authority(peer.certificate.id());
        let mut access = Self {
            peer,
            client_id,
            https,
            authority,
            generation,
            compiled: Compiled::new(&[], &Facts::new("")),
        };
        access.compile();
        access
    }

    /// Learns anew what is allowed, if anything has changed. Returns whether the certificate is
    /// still `ACTIVE`.
    pub(crate) fn refresh(&mut self, rights: &dyn Rights) -> bool {
        if rights.generation() != self.generation {
            let (authority, generation) = rights.authority(self.peer.certificate.id());
            self.generation = generation;
            if !authority.same(&self.authority) {
                self.authority = authority;
                self.compile();
            }
        }
        self.authority.active
    }

    fn compile(&mut self) {
        let facts = self.scene(|scene| scene.facts());
        self.compiled = Compiled::new(&self.policies(), &facts);
    }

    /// Asks everything that a CONNECT asks; what only `iot:Connect` is told is not known to the
    /// rest.
    pub(crate) fn may_connect(&self, connect: &Connect<'_>) -> Result<(), Denial> {
        let policies = self.policies();
        let place = &self.peer.place;
        let facts = self.scene(|scene| scene.connect_facts(connect, place));
        let mut checks = Packet::Connect(*connect).checks().into_iter();
        if let Some(Check { action, name }) = checks.next() {
            let resource = action.resource(place, name);
            let request = Request {
                action,
                resource: &resource,
            };
            let decision = decide(&policies, &facts, request);
            if !decision.allowed() {
                return Err(self.denied(Stage::Connect, &request, &decision));
            }
        }
        checks.try_for_each(|check| self.may(Stage::Will, check.action, check.name))
    }

    /// Whether the policies allow it; else what was asked, and why not.
    pub(crate) fn may(&self, stage: Stage, action: Action, name: &str) -> Result<(), Denial> {
        let resource = action.resource(&self.peer.place, name);
        let request = Request {
            action,
            resource: &resource,
        };
        if self.compiled.allows(request) {
            return Ok(());
        }
        let facts = self.scene(|scene| scene.facts());
        let policies = self.policies();
        Err(self.denied(stage, &request, &decide(&policies, &facts, request)))
    }

    /// Whether a message may be published.
    pub(crate) fn may_publish(&self, topic: &str, retain: bool) -> Result<(), Denial> {
        let mut checks = Packet::Publish { topic, retain }.checks().into_iter();
        checks.try_for_each(|check| {
            let stage = match check.action {
                Action::RetainPublish => Stage::Retain,
                _ => Stage::Publish,
            };
            self.may(stage, check.action, check.name)
        })
    }

    /// The name of the thing that the certificate is attached to alone.
    pub(crate) fn exclusive_thing(&self) -> Option<&str> {
        let mut things = self.authority.things.iter();
        let (thing, _) = things.find(|(thing, _)| thing.exclusive)?;
        Some(thing.name.as_str())
    }

    fn thing(&self) -> Option<&(ThingView, Vec<NamedPolicy>)> {
        if self.https {
            return None;
        }
        let things = self.authority.things.iter();
        let names = things.map(|(thing, _)| (thing.name.as_str(), thing.exclusive));
        stands_for(&self.client_id, names).map(|n| &self.authority.things[n])
    }

    /// What applies: the certificate's policies and its thing's groups'.
    fn policies(&self) -> Vec<NamedPolicy> {
        let mut all = self.authority.policies.clone();
        all.extend(self.thing().into_iter().flat_map(|(_, more)| more.clone()));
        all
    }

    fn scene(&self, with: impl FnOnce(Scene<'_>) -> Facts) -> Facts {
        let thing = self.thing().map(|(thing, _)| ThingFacts {
            name: thing.name.as_str(),
            type_name: thing.type_name.as_ref().map(AsRef::as_ref),
            attributes: &thing.attributes,
        });
        with(Scene {
            client_id: &self.client_id,
            certificate: Some(&self.peer.certificate),
            thing,
            source_ip: Some(self.peer.address.ip()),
            context: &[],
        })
    }

    fn denied(&self, stage: Stage, request: &Request<'_>, decision: &Decision<'_>) -> Denial {
        let things = self.authority.things.iter();
        let things: Vec<&str> = things.map(|(thing, _)| thing.name.as_str()).collect();
        let holder = Holder {
            client_id: &self.client_id,
            policies: &self.policies(),
            versions: &self.authority.versions,
            things: &things,
        };
        let mut denial = denied(stage, holder, request, decision);
        denial.why = Box::new(denial.why.of(&self.peer.certificate));
        denial
    }
}
