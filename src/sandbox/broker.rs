//! What all device connections share: what certificates may do, the provisioning of new ones, and
//! the [`Exchange`] of messages. It performs; [`crate::core::jitp`] and [`super::mqtt`] decide.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use super::exchange::Exchange;
use super::faults::FaultName;
use super::logs::{Logs, Record};
use super::mqtt::access::{Authority, Rights};
use super::mqtt::hub::World;
use super::propagation::{Known, Propagation};
use super::provisioning;
use super::registry::{CertificateMode, CertificateStatus, Registry};
use super::service::{self, Service};
use super::tls::Endpoint;
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, PolicyName};
use crate::core::jitp::{
    self, CaView, LeafView, Presented, Provision, Registration, Verdict, View,
};
use crate::core::policy::{Document, NamedPolicy};

/// How many parsed policy documents are kept.
const DOCUMENTS: usize = 1024;

/// How the broker treats clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long after its first connection a device is provisioned.
    pub(super) jitp_delay: Duration,
    /// Certificates outside their dates may connect.
    pub(super) allow_expired: bool,
    /// AWS IoT's throughput of a connection is enforced.
    pub(super) paced: bool,
}

/// Everything the connections share.
pub(super) struct Broker {
    pub(super) shared: Shared,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) logs: Logs,
    pub(super) rules: Rules,
    pub(super) exchange: Exchange,
    documents: Mutex<HashMap<Arc<str>, Arc<Document>>>,
    pub(super) services: Vec<Arc<dyn Service>>,
    provisioning: Mutex<HashSet<CertificateId>>,
    late: Mutex<Propagation>,
}

impl Broker {
    pub(super) fn new(
        shared: Shared,
        endpoint: Arc<Endpoint>,
        rules: Rules,
        exchange: Exchange,
    ) -> Self {
        Self {
            logs: shared.logs.clone(),
            services: service::all(&shared),
            shared,
            endpoint,
            rules,
            exchange,
            documents: Mutex::default(),
            provisioning: Mutex::default(),
            late: Mutex::default(),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.shared.registry)
    }

    /// Whether a client may go on, by its certificate.
    pub(super) fn verdict(&self, presented: Presented<'_>) -> Verdict {
        let view = self.view(presented.leaf);
        let now = self.shared.clock.now();
        jitp::decide(presented, &view, now, self.rules.allow_expired)
    }

    fn view(&self, leaf: &Certificate) -> View {
        let sni_only = |mode: CertificateMode| mode == CertificateMode::SniOnly;
        let late = self.known_late(leaf.id());
        let registry = self.registry();
        let mut entry = registry.certificate(leaf.id());
        if let (Some(entry), Some(late)) = (&mut entry, late) {
            entry.status = late.status;
        }
        let cas = match &entry {
            // The CA only matters to a certificate that is not settled yet.
            Some(entry) if entry.status != CertificateStatus::PendingActivation => Vec::new(),
            _ => registry.cas_with_subject(&leaf.issuer_der),
        };
        View {
            leaf: entry.map(|entry| LeafView {
                status: entry.status,
                sni_only: sni_only(entry.mode),
            }),
            cas: cas
                .into_iter()
                .map(|ca| CaView {
                    active: ca.active,
                    registration: match (ca.auto_registration, &ca.config) {
                        (false, _) => Registration::Off,
                        (true, None) => Registration::Register,
                        (true, Some(_)) => Registration::Provision,
                    },
                    sni_only: sni_only(ca.mode),
                    certificate: ca.certificate,
                })
                .collect(),
        }
    }

    fn authority_of(&self, id: &CertificateId) -> (Authority, u64) {
        let (principal, active, generation) = {
            let registry = self.registry();
            let entry = registry.certificate(id);
            let active = entry.is_some_and(|entry| entry.status == CertificateStatus::Active);
            (registry.principal(id), active, registry.generation())
        };
        let things = principal.things.into_iter().map(|mut thing| {
            let group_policies = std::mem::take(&mut thing.group_policies);
            (thing, self.compile(group_policies))
        });
        let authority = Authority {
            things: things.collect(),
            versions: principal.versions,
            policies: self.compile(principal.policies),
            active,
        };
        (authority, generation)
    }

    /// Documents parsed, each text once. The registry takes only documents that parse.
    fn compile(&self, policies: Vec<(PolicyName, Arc<str>)>) -> Vec<NamedPolicy> {
        let mut known = lock(&self.documents);
        if known.len() > DOCUMENTS {
            known.clear();
        }
        let mut compiled = Vec::new();
        for (name, text) in policies {
            let document = known.get(&text).map(Arc::clone);
            let document = document.or_else(|| Document::parse(&text).ok().map(Arc::new));
            let Some(document) = document else { continue };
            known.insert(text, Arc::clone(&document));
            compiled.push(NamedPolicy {
                name: name.to_string(),
                document,
            });
        }
        compiled
    }

    /// Puts a certificate into the registry as `PENDING_ACTIVATION`, if it is not there yet.
    /// Returns the record of what was done.
    pub(super) fn register(self: &Arc<Self>, leaf: &Certificate, provision: &Provision) -> Record {
        if provision.register {
            let now = self.shared.clock.now();
            let registered = self.registry().register_pending(leaf, &provision.ca, now);
            if let Err(error) = registered {
                let record = Record::failure("ProvisionDevice", CLIENT_ERROR, error.to_string());
                return about(leaf, record.why(provisioning::unregistered(leaf)));
            }
        }
        self.announce(leaf, provision);
        let mut record = about(leaf, Record::success("ProvisionDevice"));
        record.details = Some(
            match (provision.register, provision.run_template) {
                (true, true) => {
                    "registered as PENDING_ACTIVATION; the template runs now, connect again"
                }
                (false, true) => "still PENDING_ACTIVATION; the template runs again, connect again",
                (true, false) => {
                    "registered as PENDING_ACTIVATION; the CA names no template (JITR)"
                }
                (false, false) => "still PENDING_ACTIVATION; nobody has made it ACTIVE (JITR)",
            }
            .to_owned(),
        );
        record
    }

    /// Tells subscribers of a certificate that waits to be made active.
    fn announce(self: &Arc<Self>, leaf: &Certificate, provision: &Provision) {
        let millis = self.millis();
        let payload = serde_json::json!({
            "certificateId": leaf.id(),
            "caCertificateId": provision.ca,
            "timestamp": millis,
            "certificateStatus": "PENDING_ACTIVATION",
            "awsAccountId": self.registry().place().account,
            "certificateRegistrationTimestamp": millis.to_string(),
        });
        let topic = format!("$aws/events/certificates/registered/{}", provision.ca);
        self.turn(None, |turn| {
            turn.announce(&topic, payload.to_string().into_bytes());
        });
    }

    /// Runs the CA's template after the delay, once at a time for one certificate.
    pub(super) fn provision_later(self: &Arc<Self>, leaf: Arc<Certificate>, ca: CertificateId) {
        if !lock(&self.provisioning).insert(leaf.id().clone()) {
            return;
        }
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            let late = broker.shared.faults.span(FaultName::TemplateDelay);
            let delay = broker.rules.jitp_delay + late;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            broker.logs.write(broker.run_template(&leaf, &ca));
            lock(&broker.provisioning).remove(leaf.id());
        });
    }

    fn run_template(&self, leaf: &Certificate, ca: &CertificateId) -> Record {
        let mut record = match provisioning::run(&self.shared, leaf, ca) {
            Ok((template, details)) => Record {
                details: Some(details),
                provisioning_template_name: Some(template),
                ..Record::success("ProvisionDevice")
            },
            Err(failed) => failed.record(leaf),
        };
        record.device_certificate_id = Some(leaf.id().to_string());
        record
    }

    /// The registry's generation that connections know of.
    fn settled(&self) -> u64 {
        let current = self.registry().generation();
        let delay = self.shared.faults.span(FaultName::PropagationDelay);
        if delay.is_zero() {
            return current;
        }
        lock(&self.late).settled(current, self.shared.clock.monotonic(), delay)
    }

    /// What connections know of a certificate while changes take time to reach them; `None` when
    /// they take none, or there is no such certificate.
    fn known_late(&self, id: &CertificateId) -> Option<Known> {
        if !self.shared.faults.has(FaultName::PropagationDelay) {
            return None;
        }
        self.settled();
        let known = lock(&self.late).known(id);
        known.or_else(|| {
            let status = self.registry().certificate(id)?.status;
            let (authority, generation) = self.authority_of(id);
            let known = Known { authority, status };
            lock(&self.late).learn(id, known.clone(), generation);
            Some(known)
        })
    }

    /// Sees changes of the registry when they happen, while they take time to be known.
    pub(super) fn notice_changes(&self) {
        if self.shared.faults.has(FaultName::PropagationDelay) {
            self.settled();
        } else {
            lock(&self.late).forget();
        }
    }
}

impl Rights for Broker {
    fn generation(&self) -> u64 {
        self.settled()
    }

    fn authority(&self, id: &CertificateId) -> (Authority, u64) {
        match self.known_late(id) {
            Some(known) => (known.authority, self.settled()),
            None => self.authority_of(id),
        }
    }
}

impl World for Broker {
    fn certificate(&self, id: &CertificateId) -> Option<Certificate> {
        let entry = self.registry().certificate(id)?;
        let all = Certificate::all_from_pem(entry.pem.as_bytes()).ok()?;
        all.into_iter().next()
    }

    fn serves(&self, topic: &str) -> bool {
        self.services.iter().any(|service| service.serves(topic))
    }

    fn monotonic(&self) -> Duration {
        self.shared.clock.monotonic()
    }
}

/// The reason AWS IoT counts a failed provisioning under.
const CLIENT_ERROR: &str = "ProvisionThing.ClientError";

fn about(leaf: &Certificate, mut record: Record) -> Record {
    record.device_certificate_id = Some(leaf.id().to_string());
    record
}

/// A lock whose holder has panicked is taken all the same: what it guards is changed in one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
