//! Fleet provisioning's ledger: who has been given which certificate, and for how long it may be
//! provisioned with its ownership token. Source: developer guide "Device provisioning MQTT API".

use std::sync::Arc;

use super::entities::{CertificateEntry, Ownership};
use super::plan::{Provisioned, carry_out};
use super::state::State;
use super::{
    ApiError, CertificateMode, CertificateStatus, ErrorName, Registry, Request, certificate,
    issued, random_hex,
};
use crate::core::cert::Certificate;
use crate::core::ids::{CertificateId, Place, PolicyName};
use crate::core::template::Plan;
use crate::core::time::{Span, UtcTime};

/// How long an ownership token is good.
pub const TOKEN_LIFE: Span = Span::seconds(3600);
/// How long a claim's connection may still ask for things after the claim has ended: a device that
/// connects in its last second has five minutes.
const CLAIM_GRACE: Span = Span::seconds(300);

/// A certificate for a device that has shown a claim.
#[derive(Clone, Debug)]
pub struct Entitlement {
    /// The certificate; `PENDING_ACTIVATION`.
    pub certificate: Certificate,
    /// What it is provisioned with, once.
    pub token: String,
}

impl Registry {
    /// Whether a certificate may ask for provisioning now: it is ACTIVE, and a claim has not ended.
    pub fn may_claim(&self, id: &CertificateId, now: UtcTime) -> bool {
        self.state
            .certificates
            .get(id.as_str())
            .is_some_and(|entry| {
                let ended = |until: UtcTime| now > until.plus(CLAIM_GRACE);
                let claim = entry.claim.as_ref();
                entry.status == CertificateStatus::Active
                    && !claim.is_some_and(|claim| ended(claim.expires))
            })
    }

    /// Issues a certificate and the token that it is provisioned with.
    ///
    /// # Errors
    /// `InternalFailureException` only.
    pub fn entitle(&mut self, request: &Request, now: UtcTime) -> Result<Entitlement, ApiError> {
        self.mutate(|state, _| {
            sweep(state, now);
            let made = issued::issue(state, request, now)?;
            let mut entry = certificate::entry(&made, None, CertificateMode::Default, now);
            entry.status = CertificateStatus::PendingActivation;
            state.certificates.put(made.id().as_str(), entry);
            let token = random_hex::<64>()?;
            let ownership = Ownership {
                certificate: made.id().clone(),
                expires: now.plus(TOKEN_LIFE),
            };
            state.ownerships.put(&key_of(&token), ownership);
            Ok(Entitlement {
                certificate: made,
                token,
            })
        })
    }

    /// The certificate that a token is for; `None` for one that is unknown, used or over.
    pub fn entitled(&self, token: &str, now: UtcTime) -> Option<&CertificateEntry> {
        let ownership = self.state.ownerships.get(&key_of(token))?;
        let entry = self.state.certificates.get(ownership.certificate.as_str());
        entry.filter(|_| now <= ownership.expires)
    }

    /// Runs a plan for the certificate that the token is for, and uses the token up.
    ///
    /// # Errors
    /// As [`Registry::run_plan`]; the token stays good then. `ResourceNotFoundException` for a
    /// token that is unknown, used or over.
    pub fn provision_entitled(
        &mut self,
        token: &str,
        plan: &Plan,
        now: UtcTime,
    ) -> Result<Provisioned, ApiError> {
        let id = self.entitled(token, now).map(|entry| entry.id.clone());
        let id = id.ok_or_else(|| ApiError::not_found("the", "ownership token"))?;
        self.mutate(|state, _| {
            let done = carry_out(state, &id, plan, now)?;
            state.ownerships.remove(&key_of(token));
            Ok(done)
        })
    }

    /// What a trusted user's claim allows: to connect, and to provision by its template.
    pub(super) fn claim_policy(&self, entry: &CertificateEntry) -> Option<(PolicyName, Arc<str>)> {
        let claim = entry.claim.as_ref()?;
        let name = "ProvisioningClaim".parse().ok()?;
        let document = claim_document(&self.place, claim.template.as_str());
        Some((name, Arc::from(document)))
    }
}

/// The policy of AWS's guide "Provisioning by trusted user", with the CSR's topics added.
fn claim_document(place: &Place, template: &str) -> String {
    let topics = |kind: &str| {
        [
            "$aws/certificates/create/*".to_owned(),
            "$aws/certificates/create-from-csr/*".to_owned(),
            format!("$aws/provisioning-templates/{template}/provision/*"),
        ]
        .map(|topic| place.arn(kind, topic))
    };
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Effect": "Allow", "Action": "iot:Connect", "Resource": "*" },
            {
                "Effect": "Allow",
                "Action": ["iot:Publish", "iot:Receive"],
                "Resource": topics("topic"),
            },
            { "Effect": "Allow", "Action": "iot:Subscribe", "Resource": topics("topicfilter") },
        ],
    })
    .to_string()
}

/// Forgets claims that have ended, tokens that are over, and the certificates that nobody has
/// provisioned until then: never made active, attached to nothing.
pub(super) fn sweep(state: &mut State, now: UtcTime) {
    let over = state.ownerships.entries().filter(|(_, o)| now > o.expires);
    let over: Vec<(String, CertificateId)> = over
        .map(|(key, ownership)| (key.clone(), ownership.certificate.clone()))
        .collect();
    for (key, id) in over {
        state.ownerships.remove(&key);
        let unused = state.certificates.get(id.as_str()).is_some_and(|entry| {
            let loose = entry.policies.is_empty() && entry.things.is_empty();
            entry.claim.is_some() || (entry.status == CertificateStatus::PendingActivation && loose)
        });
        if unused {
            state.certificates.remove(id.as_str());
        }
    }
}

/// Remembers to forget a claim.
pub(super) fn limit_claim(state: &mut State, id: &CertificateId, expires: UtcTime) {
    let ownership = Ownership {
        certificate: id.clone(),
        expires: expires.plus(CLAIM_GRACE),
    };
    state.ownerships.put(&format!("claim/{id}"), ownership);
}

/// Tokens are kept as their hashes: who reads the state cannot use them.
fn key_of(token: &str) -> String {
    CertificateId::of_der(token.as_bytes()).to_string()
}

/// The error of a run, as fleet provisioning tells it: status and code.
pub fn fleet_code(name: ErrorName) -> (u16, &'static str) {
    match name {
        ErrorName::ResourceNotFound => (404, "ResourceNotFound"),
        ErrorName::ConflictingResourceUpdate | ErrorName::ResourceAlreadyExists => {
            (409, "ResourceConflict")
        }
        ErrorName::Throttling => (429, "Throttled"),
        ErrorName::InternalFailure => (500, "InternalError"),
        _ => (400, "InvalidParameters"),
    }
}
