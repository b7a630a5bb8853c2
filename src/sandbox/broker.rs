//! What all device connections share: what certificates may do, the provisioning of new ones, and
//! the [`Exchange`] of messages. It performs; [`crate::core::jitp`] and [`super::mqtt`] decide.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use super::exchange::Exchange;
use super::logs::{Logs, Record};
use super::mqtt::access::{Authority, Rights};
use super::mqtt::hub::World;
use super::registry::{CertificateMode, CertificateStatus, Registry};
use super::service::{self, Service};
use super::tls::Endpoint;
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, PolicyName};
use crate::core::jitp::{
    self, CaView, LeafView, Presented, Provision, Registration, Verdict, View,
};
use crate::core::policy::{Document, NamedPolicy};
use crate::core::template::{TemplateKind, jitp_parameters};

/// How many parsed policy documents are kept.
const DOCUMENTS: usize = 1024;

/// How the broker treats clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// How long after its first connection a device is provisioned.
    pub(super) jitp_delay: Duration,
    /// Certificates outside their dates may connect.
    pub(super) allow_expired: bool,
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
        let registry = self.registry();
        let entry = registry.certificate(leaf.id());
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
                return about(
                    leaf,
                    Record::failure("ProvisionDevice", CLIENT_ERROR, error.to_string()),
                );
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
    pub(super) fn provision_later(self: &Arc<Self>, leaf: Certificate, ca: CertificateId) {
        if !lock(&self.provisioning).insert(leaf.id().clone()) {
            return;
        }
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(broker.rules.jitp_delay).await;
            let record = tokio::task::block_in_place(|| broker.run_template(&leaf, &ca));
            broker.logs.write(record);
            lock(&broker.provisioning).remove(leaf.id());
        });
    }

    fn run_template(&self, leaf: &Certificate, ca: &CertificateId) -> Record {
        let found = self.registry().jitp_template(ca);
        let Some((name, template)) = found else {
            let details = format!(
                "the template that the CA {ca} names is missing, disabled or cannot be read"
            );
            return about(
                leaf,
                Record::failure("ProvisionDevice", CLIENT_ERROR, details),
            );
        };
        let run = || -> Result<String, String> {
            let values = jitp_parameters(&leaf.subject, leaf.id());
            let plan = template
                .render(TemplateKind::Jitp, &values)
                .map_err(|error| error.to_string())?;
            let now = self.shared.clock.now();
            let done = self.registry().run_plan(leaf.id(), &plan, now);
            let done = done.map_err(|error| error.to_string())?;
            let thing = match (&done.thing, done.thing_created) {
                (Some(thing), true) => format!("thing `{thing}` created"),
                (Some(thing), false) => format!("thing `{thing}` was there"),
                (None, _) => "no thing".to_owned(),
            };
            let status = done.status.map_or("none", CertificateStatus::as_str);
            Ok(format!("{thing}; certificate {status}"))
        };
        let mut record = match run() {
            Ok(details) => Record {
                details: Some(details),
                ..Record::success("ProvisionDevice")
            },
            Err(details) => Record::failure("ProvisionDevice", CLIENT_ERROR, details),
        };
        record.provisioning_template_name = Some(name.to_string());
        about(leaf, record)
    }
}

impl Rights for Broker {
    fn generation(&self) -> u64 {
        self.registry().generation()
    }

    fn authority(&self, id: &CertificateId) -> (Authority, u64) {
        self.authority_of(id)
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
