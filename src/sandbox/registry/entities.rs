//! What the registry keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::cert::Certificate;
use crate::core::ids::{AccountId, CertificateId, PolicyName, Region, TemplateName, ThingName};
use crate::core::status::{CertificateMode, CertificateStatus};
use crate::core::template::TemplateKind;
use crate::core::time::{UtcTime, Validity};

/// When something was made and last changed.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Dates {
    /// `creationDate`.
    pub created: UtcTime,
    /// `lastModifiedDate`.
    pub modified: UtcTime,
}

impl Dates {
    pub(super) fn new(now: UtcTime) -> Self {
        Self {
            created: now,
            modified: now,
        }
    }
}

/// What belongs to the account as a whole.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Meta {
    /// The account.
    pub account: AccountId,
    /// The Region.
    pub region: Region,
    /// The registration code, once it was asked for.
    pub registration_code: Option<String>,
}

/// How a CA's unknown certificates are provisioned (`registrationConfig`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RegistrationConfig {
    /// A template that is written out here.
    Inline {
        /// `templateBody`.
        body: String,
        /// `roleArn`.
        role: String,
    },
    /// A JITP template by name.
    Named(TemplateName),
}

/// A registered CA.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CaEntry {
    /// Its id.
    pub id: CertificateId,
    /// The certificate.
    #[serde(with = "as_pem")]
    pub certificate: Certificate,
    /// Whether its status is ACTIVE.
    pub active: bool,
    /// Whether unknown certificates are registered when they connect.
    pub auto_registration: bool,
    /// How it was registered.
    pub mode: CertificateMode,
    /// What provisions its certificates.
    pub config: Option<RegistrationConfig>,
    /// When.
    pub dates: Dates,
    /// `customerVersion`: 1, and one more with every change.
    pub version: u32,
}

impl CaEntry {
    /// The JITP template's name, if one is named.
    pub fn template(&self) -> Option<&TemplateName> {
        match &self.config {
            Some(RegistrationConfig::Named(name)) => Some(name),
            _ => None,
        }
    }
}

/// A registered device certificate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CertificateEntry {
    /// Its id.
    pub id: CertificateId,
    /// The certificate, PEM.
    #[serde(with = "as_text")]
    pub pem: Arc<str>,
    /// Its status.
    pub status: CertificateStatus,
    /// The CA it was registered under.
    pub ca: Option<CertificateId>,
    /// As its CA's, or `SNI_ONLY` without one.
    pub mode: CertificateMode,
    /// When it is valid.
    pub validity: Validity,
    /// When.
    pub dates: Dates,
    /// `customerVersion`: 1, and one more with every change.
    pub version: u32,
    /// The attached policies, in the order of attachment.
    pub policies: Vec<PolicyName>,
    /// The things it is attached to, and whether exclusively.
    pub things: BTreeMap<ThingName, bool>,
    /// What it may claim, if it is a claim that a trusted user has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimTerms>,
}

/// What a trusted user's claim is good for (`CreateProvisioningClaim`).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClaimTerms {
    /// The template it may ask for.
    pub template: TemplateName,
    /// Until when it may connect.
    pub expires: UtcTime,
}

/// What signs the certificates that AWS IoT issues.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Issuer {
    /// Its certificate.
    #[serde(with = "as_pem")]
    pub certificate: Certificate,
    /// Its key, PKCS#8 PEM.
    pub key: String,
}

/// A certificate that a device has been given and has not provisioned itself with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ownership {
    /// The certificate.
    pub certificate: CertificateId,
    /// Until when its token is good.
    pub expires: UtcTime,
}

/// A policy with its versions.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// Every version, oldest first; at most 5.
    pub versions: Vec<PolicyVersion>,
    /// The default version's id.
    pub default: u32,
    /// The id that the next version gets; ids are never used twice.
    pub next: u32,
    /// When.
    pub dates: Dates,
}

/// One version of a policy.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PolicyVersion {
    /// From 1.
    pub id: u32,
    /// The document.
    #[serde(with = "as_text")]
    pub document: Arc<str>,
    /// When.
    pub created: UtcTime,
}

/// A thing.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Thing {
    /// Its name.
    pub name: ThingName,
    /// `thingId`, a UUID.
    pub id: String,
    /// Its type.
    pub type_name: Option<ThingName>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Its billing group.
    pub billing_group: Option<ThingName>,
    /// The groups it is in.
    pub groups: BTreeSet<ThingName>,
    /// The certificates attached to it, and whether exclusively.
    pub principals: BTreeMap<CertificateId, bool>,
    /// 1, and one more with every update.
    pub version: u64,
    /// When.
    pub dates: Dates,
}

/// A thing type.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ThingType {
    /// Its name.
    pub name: ThingName,
    /// `thingTypeId`, a UUID.
    pub id: String,
    /// Its description.
    pub description: Option<String>,
    /// `searchableAttributes`.
    pub searchable: Vec<String>,
    /// When.
    pub dates: Dates,
    /// Since when no thing can get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated: Option<UtcTime>,
}

/// A thing group.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Group {
    /// Its name.
    pub name: ThingName,
    /// `thingGroupId`, a UUID.
    pub id: String,
    /// The group above it.
    pub parent: Option<ThingName>,
    /// Its description.
    pub description: Option<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
    /// Policies that hold for its things, in the order of attachment.
    pub policies: Vec<PolicyName>,
    /// When.
    pub dates: Dates,
    /// 1, and one more with every update.
    #[serde(default = "first")]
    pub version: u64,
}

/// A billing group.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BillingGroup {
    /// Its name.
    pub name: ThingName,
    /// `billingGroupId`, a UUID.
    pub id: String,
    /// Its description.
    pub description: Option<String>,
    /// When.
    pub dates: Dates,
    /// 1, and one more with every update.
    #[serde(default = "first")]
    pub version: u64,
}

/// The version of what is new.
fn first() -> u64 {
    1
}

/// The tags of one resource, by key.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Tags(pub(super) BTreeMap<String, String>);

/// A thing registration task.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Task {
    /// Its id, a UUID.
    pub id: String,
    /// `templateBody`.
    pub template: String,
    /// `inputFileBucket`.
    pub bucket: String,
    /// `inputFileKey`.
    pub key: String,
    /// `roleArn`.
    pub role: String,
    /// Its status.
    pub status: TaskStatus,
    /// Why it failed.
    pub message: Option<String>,
    /// How many lines the input has; known once it has been read.
    pub lines: usize,
    /// How many things were registered.
    pub successes: usize,
    /// How many lines failed.
    pub failures: usize,
    /// When.
    pub dates: Dates,
}

/// How far a thing registration task is (`Status` of the API model).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TaskStatus {
    /// It runs.
    InProgress,
    /// It has been through every line.
    Completed,
    /// It could not read its input, or its process ended.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It is being stopped.
    Cancelling,
}

impl TaskStatus {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "InProgress",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Cancelling => "Cancelling",
        }
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::InProgress | Self::Cancelling)
    }
}

/// What a task says of its lines, one JSON object a line.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct TaskReport {
    /// Of those that were registered.
    pub results: String,
    /// Of those that failed.
    pub errors: String,
}

/// A provisioning template with its versions.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProvisioningTemplate {
    /// Its name.
    pub name: TemplateName,
    /// How it is used; never changes.
    pub kind: TemplateKind,
    /// Its description.
    pub description: Option<String>,
    /// Whether it may be used.
    pub enabled: bool,
    /// `provisioningRoleArn`.
    pub role: String,
    /// `preProvisioningHook`, as given.
    pub hook: Option<serde_json::Value>,
    /// Every version, oldest first; at most 5.
    pub versions: Vec<TemplateVersion>,
    /// The default version's id.
    pub default: u32,
    /// The id that the next version gets.
    pub next: u32,
    /// When.
    pub dates: Dates,
}

/// One version of a provisioning template.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TemplateVersion {
    /// From 1.
    pub id: u32,
    /// `templateBody`.
    pub body: String,
    /// When.
    pub created: UtcTime,
}

impl ProvisioningTemplate {
    /// The default version.
    pub fn default_version(&self) -> Option<&TemplateVersion> {
        self.versions.iter().find(|v| v.id == self.default)
    }
}

impl Policy {
    /// The default version.
    pub fn default_version(&self) -> Option<&PolicyVersion> {
        self.versions.iter().find(|v| v.id == self.default)
    }
}

/// A certificate as PEM.
mod as_pem {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::core::cert::Certificate;

    pub(super) fn serialize<S: Serializer>(
        certificate: &Certificate,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&certificate.to_pem())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Certificate, D::Error> {
        let text = String::deserialize(deserializer)?;
        let all = Certificate::all_from_pem(text.as_bytes()).map_err(D::Error::custom)?;
        all.into_iter()
            .next()
            .ok_or_else(|| D::Error::custom("no certificate"))
    }
}

/// Shared text.
mod as_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        text: &Arc<str>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}
