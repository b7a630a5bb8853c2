//! The control plane of AWS IoT Core, or of the sandbox: what flows may ask of it, in plain types.
//! Every call is one operation of the API (a list call follows its pages to the end). A describe
//! call answers `None` for what is not there; everything else that is refused is a `CloudError`.

use std::fmt;

use crate::core::ids::{CertificateId, Place, PolicyName, TemplateName, ThingName};
use crate::core::status::CertificateStatus;
use crate::core::template::{PrerequisiteKind, TemplateKind};
use crate::explain::{Explain, Kind};

/// The answer of every call.
pub type CloudResult<T> = Result<T, CloudError>;

/// AWS IoT Core's control plane.
pub trait ControlPlane {
    /// Account and Region that the calls go to.
    fn place(&self) -> CloudResult<Place>;
    /// The host name that devices connect to (`iot:Data-ATS`).
    fn endpoint(&self) -> CloudResult<String>;

    /// `GetRegistrationCode`: the common name of a verification certificate.
    fn registration_code(&self) -> CloudResult<String>;
    /// `RegisterCACertificate`.
    fn register_ca(&self, request: &CaRegistration) -> CloudResult<CertificateId>;
    /// `DescribeCACertificate`.
    fn describe_ca(&self, ca: &CertificateId) -> CloudResult<Option<CaView>>;
    /// `UpdateCACertificate`.
    fn update_ca(&self, ca: &CertificateId, change: &CaUpdate) -> CloudResult<()>;
    /// `ListCACertificates`.
    fn list_cas(&self) -> CloudResult<Vec<CaSummary>>;

    /// `CreateProvisioningTemplate`, enabled.
    fn create_template(&self, request: &NewTemplate) -> CloudResult<()>;
    /// `DescribeProvisioningTemplate`, with the default version's body.
    fn describe_template(&self, name: &TemplateName) -> CloudResult<Option<TemplateView>>;
    /// `ListProvisioningTemplates`.
    fn list_templates(&self) -> CloudResult<Vec<TemplateSummary>>;
    /// `CreateProvisioningTemplateVersion`, set as default at once. Answers its number.
    fn create_template_version(&self, name: &TemplateName, body: &str) -> CloudResult<i32>;
    /// `UpdateProvisioningTemplate`.
    fn update_template(&self, name: &TemplateName, change: &TemplateUpdate) -> CloudResult<()>;
    /// `ListProvisioningTemplateVersions`.
    fn template_versions(&self, name: &TemplateName) -> CloudResult<Vec<TemplateVersion>>;
    /// `DescribeProvisioningTemplateVersion`: its document.
    fn template_version(&self, name: &TemplateName, version: i32) -> CloudResult<Option<String>>;
    /// `DeleteProvisioningTemplateVersion`.
    fn delete_template_version(&self, name: &TemplateName, version: i32) -> CloudResult<()>;

    /// `CreatePolicy`.
    fn create_policy(&self, name: &PolicyName, document: &str) -> CloudResult<()>;
    /// `GetPolicy`: the default version.
    fn get_policy(&self, name: &PolicyName) -> CloudResult<Option<PolicyView>>;
    /// `CreatePolicyVersion`, set as default at once. Answers its id.
    fn create_policy_version(&self, name: &PolicyName, document: &str) -> CloudResult<String>;
    /// `ListPolicyVersions`.
    fn policy_versions(&self, name: &PolicyName) -> CloudResult<Vec<PolicyVersion>>;
    /// `DeletePolicyVersion`.
    fn delete_policy_version(&self, name: &PolicyName, version: &str) -> CloudResult<()>;
    /// `AttachPolicy` to a certificate's ARN; fine if it is attached already.
    fn attach_policy(&self, name: &PolicyName, certificate_arn: &str) -> CloudResult<()>;
    /// `DetachPolicy` from a certificate's ARN.
    fn detach_policy(&self, name: &PolicyName, certificate_arn: &str) -> CloudResult<()>;
    /// `ListAttachedPolicies` of the ARN of a certificate, or of a thing group with the groups above
    /// it.
    fn attached_policies(&self, arn: &str) -> CloudResult<Vec<PolicyName>>;

    /// `RegisterCertificate`, under a registered CA.
    fn register_certificate(&self, request: &CertificateRegistration) -> CloudResult<Registered>;
    /// `DescribeCertificate`.
    fn describe_certificate(&self, id: &CertificateId) -> CloudResult<Option<CertificateView>>;
    /// `UpdateCertificate`; idempotent.
    fn update_certificate(&self, id: &CertificateId, to: CertificateStatus) -> CloudResult<()>;
    /// `DeleteCertificate`: it must be inactive or revoked, and attached to nothing.
    fn delete_certificate(&self, id: &CertificateId) -> CloudResult<()>;
    /// `ListCertificatesByCA`.
    fn certificates_by_ca(&self, ca: &CertificateId) -> CloudResult<Vec<CertificateSummary>>;

    /// Whether something that a template needs is there: `DescribeThingType`,
    /// `DescribeThingGroup`, `DescribeBillingGroup` or `GetPolicy`.
    fn has(&self, kind: PrerequisiteKind, name: &str) -> CloudResult<bool>;

    /// `DescribeThing`.
    fn describe_thing(&self, name: &ThingName) -> CloudResult<Option<ThingView>>;
    /// `DescribeThing` of each, all at once; the answers are in order.
    fn describe_things(&self, names: &[ThingName]) -> CloudResult<Vec<Option<ThingView>>>;
    /// `ListThingGroupsForThing` of each, all at once; the answers are in order.
    fn groups_of_things(&self, names: &[ThingName]) -> CloudResult<Vec<Vec<ThingName>>>;
    /// `ListThings`.
    fn list_things(&self) -> CloudResult<Vec<ThingView>>;
    /// `ListThingGroupsForThing`.
    fn groups_of(&self, thing: &ThingName) -> CloudResult<Vec<ThingName>>;
    /// `DeleteThing`: no certificate may be attached; fine if it is not there.
    fn delete_thing(&self, name: &ThingName) -> CloudResult<()>;
    /// `AttachThingPrincipal`; fine if it is attached already.
    fn attach_thing(&self, thing: &AttachedThing, certificate_arn: &str) -> CloudResult<()>;
    /// `DetachThingPrincipal`.
    fn detach_thing(&self, thing: &ThingName, certificate_arn: &str) -> CloudResult<()>;
    /// `ListThingPrincipals`: the ARNs of a thing's certificates.
    fn principals_of(&self, thing: &ThingName) -> CloudResult<Vec<String>>;
    /// `ListPrincipalThingsV2`: the things of a certificate's ARN.
    fn things_of(&self, certificate_arn: &str) -> CloudResult<Vec<AttachedThing>>;
}

/// How a CA was registered (`RegisterCACertificate`, `certificateMode`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CertificateMode {
    /// With a verification certificate; one account in a Region.
    Default,
    /// Without proof; any number of accounts, and devices must send SNI.
    SniOnly,
}

impl fmt::Display for CertificateMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "DEFAULT",
            Self::SniOnly => "SNI_ONLY",
        })
    }
}

/// What to register a CA with.
#[derive(Clone, Debug)]
pub struct CaRegistration {
    /// The CA certificate, PEM.
    pub certificate_pem: String,
    /// The verification certificate, PEM: required in `DEFAULT` mode, refused in `SNI_ONLY`.
    pub verification_pem: Option<String>,
    /// The mode.
    pub mode: CertificateMode,
    /// ACTIVE rather than INACTIVE.
    pub active: bool,
    /// Whether unknown certificates of this CA are registered at their first connect.
    pub auto_registration: bool,
    /// The JITP template by name.
    pub template: Option<TemplateName>,
}

/// A registered CA, as the target describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaView {
    /// Its id.
    pub id: CertificateId,
    /// Its ARN.
    pub arn: String,
    /// ACTIVE.
    pub active: bool,
    /// ENABLE.
    pub auto_registration: bool,
    /// The mode.
    pub mode: CertificateMode,
    /// The JITP template by name.
    pub template: Option<TemplateName>,
    /// Whether a template body stands in the registration config itself.
    pub inline_template: bool,
}

/// What to change of a registered CA; `None` leaves it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CaUpdate {
    /// ACTIVE or INACTIVE.
    pub active: Option<bool>,
    /// ENABLE or DISABLE.
    pub auto_registration: Option<bool>,
    /// The JITP template by name; replaces the whole registration config.
    pub template: Option<TemplateName>,
    /// Drop the registration config (`removeAutoRegistration`).
    pub remove_config: bool,
}

/// One line of the list of CAs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaSummary {
    /// Its id.
    pub id: CertificateId,
    /// ACTIVE.
    pub active: bool,
}

/// A template to create.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// Its name.
    pub name: TemplateName,
    /// Its kind; cannot be changed later.
    pub kind: TemplateKind,
    /// The document, JSON, at most 10 240 characters.
    pub body: String,
    /// The role that AWS IoT takes on to provision.
    pub role_arn: String,
}

/// A template at the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateView {
    /// Its name.
    pub name: TemplateName,
    /// Its ARN.
    pub arn: String,
    /// Its kind.
    pub kind: TemplateKind,
    /// The default version's document.
    pub body: String,
    /// The provisioning role.
    pub role_arn: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The default version's number.
    pub default_version: i32,
    /// What somebody wrote about it.
    pub description: Option<String>,
    /// The ARN of its pre-provisioning hook.
    pub hook: Option<String>,
}

/// One line of the list of templates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateSummary {
    /// Its name.
    pub name: TemplateName,
    /// Its kind.
    pub kind: TemplateKind,
    /// Whether it is enabled.
    pub enabled: bool,
}

/// What to change of a template; `None` leaves it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TemplateUpdate {
    /// The default version's number.
    pub default_version: Option<i32>,
    /// Whether it is enabled.
    pub enabled: Option<bool>,
    /// The provisioning role.
    pub role_arn: Option<String>,
}

/// One version of a template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TemplateVersion {
    /// Its number, from 1.
    pub version: i32,
    /// Whether it is the default.
    pub is_default: bool,
}

/// A policy's default version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyView {
    /// Its name.
    pub name: PolicyName,
    /// The document, JSON.
    pub document: String,
    /// The default version's id.
    pub default_version: String,
}

/// One version of a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyVersion {
    /// Its id, a number as text.
    pub id: String,
    /// Whether it is the default.
    pub is_default: bool,
}

/// A device certificate to register under its CA.
#[derive(Clone, Debug)]
pub struct CertificateRegistration {
    /// The leaf, PEM.
    pub certificate_pem: String,
    /// The CA, PEM: needed when several registered CAs share a subject.
    pub ca_pem: Option<String>,
    /// The status to start with.
    pub status: CertificateStatus,
}

/// What registering answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// The certificate's id.
    pub id: CertificateId,
    /// Its ARN.
    pub arn: String,
}

/// A device certificate at the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateView {
    /// Its id.
    pub id: CertificateId,
    /// Its ARN.
    pub arn: String,
    /// Its state.
    pub status: CertificateStatus,
    /// The CA that it was registered under.
    pub ca: Option<CertificateId>,
}

/// One line of the list of a CA's certificates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateSummary {
    /// Its id.
    pub id: CertificateId,
    /// Its ARN.
    pub arn: String,
    /// Its state.
    pub status: CertificateStatus,
}

/// A thing at the target.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct ThingView {
    /// Its name.
    pub name: ThingName,
    /// Its type.
    pub type_name: Option<String>,
    /// Its attributes, in order of name.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Its billing group; a list does not tell.
    pub billing_group: Option<String>,
}

/// A thing that a certificate is attached to.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct AttachedThing {
    /// The thing.
    pub name: ThingName,
    /// Attached as `EXCLUSIVE_THING`: the certificate may belong to this thing alone.
    pub exclusive: bool,
}

/// Why a control-plane call did not do its work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloudErrorKind {
    /// Too many calls; the retries are used up. AWS IoT says so with HTTP 400.
    Throttled,
    /// Network, time-out, or a fault on the other side.
    Unavailable,
    /// What the call names is not there.
    NotFound,
    /// It is there already, and differs.
    Exists,
    /// The request breaks a rule of the API.
    Invalid,
    /// It would go over a quota.
    Limit,
    /// Something in a state that does not allow it, or still in use.
    Conflict,
    /// No credentials, or not allowed.
    Denied,
}

/// A control-plane call that did not do its work.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} at {target} failed: {name}: {message}{}", id_text(.request_id.as_deref()))]
pub struct CloudError {
    /// Why.
    pub kind: CloudErrorKind,
    /// The API's operation, such as `RegisterCACertificate`.
    pub operation: &'static str,
    /// Where the call went, in words: `the sandbox`, `AWS in eu-west-1`.
    pub target: String,
    /// The service's name for the error, or ours for what never reached it.
    pub name: String,
    /// The service's message.
    pub message: String,
    /// The service's request id, for its support.
    pub request_id: Option<String>,
}

fn id_text(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" (request id {id})"))
}

impl Explain for CloudError {
    fn kind(&self) -> Kind {
        match self.kind {
            CloudErrorKind::Throttled | CloudErrorKind::Unavailable => Kind::Unavailable,
            _ => Kind::Input,
        }
    }

    fn code(&self) -> &'static str {
        match self.kind {
            CloudErrorKind::Throttled => "cloud.throttled",
            CloudErrorKind::Unavailable => "cloud.unavailable",
            CloudErrorKind::NotFound => "cloud.not-found",
            CloudErrorKind::Exists => "cloud.exists",
            CloudErrorKind::Invalid => "cloud.invalid",
            CloudErrorKind::Limit => "cloud.limit",
            CloudErrorKind::Conflict => "cloud.conflict",
            CloudErrorKind::Denied => "cloud.denied",
        }
    }

    fn hint(&self) -> Option<String> {
        match self.kind {
            CloudErrorKind::Throttled => {
                Some("wait a minute, then run the same command again".into())
            }
            CloudErrorKind::Unavailable => {
                Some("nothing is lost: mend the network or the endpoint, then run it again".into())
            }
            CloudErrorKind::Denied => Some(format!(
                "check the credentials (--profile), and that they allow iot:{}",
                self.operation
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_decides_the_exit_code() {
        let cases = [
            (CloudErrorKind::Throttled, 4, "cloud.throttled"),
            (CloudErrorKind::Unavailable, 4, "cloud.unavailable"),
            (CloudErrorKind::NotFound, 3, "cloud.not-found"),
            (CloudErrorKind::Denied, 3, "cloud.denied"),
        ];
        for (kind, exit, code) in cases {
            let error = CloudError {
                kind,
                operation: "GetPolicy",
                target: "the sandbox".into(),
                name: "SomeException".into(),
                message: "no".into(),
                request_id: Some("r-1".into()),
            };
            assert_eq!(error.kind().exit_code(), exit);
            assert_eq!(error.code(), code);
            assert_eq!(
                error.to_string(),
                "GetPolicy at the sandbox failed: SomeException: no (request id r-1)"
            );
        }
    }
}
