//! The port, operation by operation.

use aws_sdk_iot::types as sdk;

use super::{AwsControlPlane, convert};
use crate::core::ids::{CertificateId, Place, PolicyName, TemplateName, ThingName};
use crate::core::status::CertificateStatus;
use crate::core::template::PrerequisiteKind;
use crate::ports::cloud::{
    AttachedThing, CaRegistration, CaSummary, CaUpdate, CaView, CertificateMode,
    CertificateRegistration, CertificateSummary, CertificateView, CloudResult, ControlPlane,
    NewTemplate, PolicyVersion, PolicyView, Registered, TemplateSummary, TemplateUpdate,
    TemplateVersion, TemplateView, ThingView,
};

/// The largest page that the list calls take.
const PAGE: i32 = 250;

fn registration_config(template: &TemplateName) -> sdk::RegistrationConfig {
    sdk::RegistrationConfig::builder()
        .template_name(template.as_str())
        .build()
}

fn ca_status(active: bool) -> sdk::CaCertificateStatus {
    if active {
        sdk::CaCertificateStatus::Active
    } else {
        sdk::CaCertificateStatus::Inactive
    }
}

fn auto_registration(on: bool) -> sdk::AutoRegistrationStatus {
    if on {
        sdk::AutoRegistrationStatus::Enable
    } else {
        sdk::AutoRegistrationStatus::Disable
    }
}

impl AwsControlPlane {
    fn each<T, U>(
        &self,
        operation: &'static str,
        items: &[T],
        convert: impl Fn(&T) -> Option<U>,
    ) -> CloudResult<Vec<U>> {
        items
            .iter()
            .map(|item| convert(item).ok_or_else(|| self.strange(operation, "list item")))
            .collect()
    }

    fn usable<T, U>(
        &self,
        operation: &'static str,
        answer: Option<T>,
        convert: impl Fn(&T) -> Option<U>,
    ) -> CloudResult<Option<U>> {
        answer
            .map(|answer| convert(&answer).ok_or_else(|| self.strange(operation, "description")))
            .transpose()
    }
}

impl ControlPlane for AwsControlPlane {
    fn place(&self) -> CloudResult<Place> {
        Ok(Place {
            account: self.account()?,
            region: self.region.clone(),
        })
    }

    fn endpoint(&self) -> CloudResult<String> {
        let name = "DescribeEndpoint";
        let call = self
            .client
            .describe_endpoint()
            .endpoint_type("iot:Data-ATS");
        let answer = self.call(name, call.send())?;
        answer
            .endpoint_address
            .ok_or_else(|| self.strange(name, "address"))
    }

    fn registration_code(&self) -> CloudResult<String> {
        let name = "GetRegistrationCode";
        let answer = self.call(name, self.client.get_registration_code().send())?;
        answer
            .registration_code
            .ok_or_else(|| self.strange(name, "code"))
    }

    fn register_ca(&self, request: &CaRegistration) -> CloudResult<CertificateId> {
        let name = "RegisterCACertificate";
        let mode = match request.mode {
            CertificateMode::Default => sdk::CertificateMode::Default,
            CertificateMode::SniOnly => sdk::CertificateMode::SniOnly,
        };
        let call = self
            .client
            .register_ca_certificate()
            .ca_certificate(&request.certificate_pem)
            .set_verification_certificate(request.verification_pem.clone())
            .certificate_mode(mode)
            .set_as_active(request.active)
            .allow_auto_registration(request.auto_registration)
            .set_registration_config(request.template.as_ref().map(registration_config));
        let answer = self.call(name, call.send())?;
        answer
            .certificate_id()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| self.strange(name, "certificate id"))
    }

    fn describe_ca(&self, ca: &CertificateId) -> CloudResult<Option<CaView>> {
        let name = "DescribeCACertificate";
        let call = self.client.describe_ca_certificate();
        let answer = self.find(name, call.certificate_id(ca.as_str()).send())?;
        self.usable(name, answer, convert::ca_view)
    }

    fn update_ca(&self, ca: &CertificateId, change: &CaUpdate) -> CloudResult<()> {
        let call = self
            .client
            .update_ca_certificate()
            .certificate_id(ca.as_str())
            .set_new_status(change.active.map(ca_status))
            .set_new_auto_registration_status(change.auto_registration.map(auto_registration))
            .set_registration_config(change.template.as_ref().map(registration_config))
            .set_remove_auto_registration(change.remove_config.then_some(true));
        self.call("UpdateCACertificate", call.send()).map(drop)
    }

    fn list_cas(&self) -> CloudResult<Vec<CaSummary>> {
        let name = "ListCACertificates";
        let pages = self.client.list_ca_certificates().into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, convert::ca_summary)
    }

    fn create_template(&self, request: &NewTemplate) -> CloudResult<()> {
        let call = self
            .client
            .create_provisioning_template()
            .template_name(request.name.as_str())
            .r#type(request.kind.as_str().into())
            .template_body(&request.body)
            .provisioning_role_arn(&request.role_arn)
            .enabled(true);
        self.call("CreateProvisioningTemplate", call.send())
            .map(drop)
    }

    fn describe_template(&self, name: &TemplateName) -> CloudResult<Option<TemplateView>> {
        let operation = "DescribeProvisioningTemplate";
        let call = self.client.describe_provisioning_template();
        let answer = self.find(operation, call.template_name(name.as_str()).send())?;
        self.usable(operation, answer, convert::template_view)
    }

    fn list_templates(&self) -> CloudResult<Vec<TemplateSummary>> {
        let name = "ListProvisioningTemplates";
        let pages = self.client.list_provisioning_templates().into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, convert::template_summary)
    }

    fn create_template_version(&self, name: &TemplateName, body: &str) -> CloudResult<i32> {
        let operation = "CreateProvisioningTemplateVersion";
        let call = self
            .client
            .create_provisioning_template_version()
            .template_name(name.as_str())
            .template_body(body)
            .set_as_default(true);
        let answer = self.call(operation, call.send())?;
        answer
            .version_id()
            .ok_or_else(|| self.strange(operation, "version"))
    }

    fn update_template(&self, name: &TemplateName, change: &TemplateUpdate) -> CloudResult<()> {
        let call = self
            .client
            .update_provisioning_template()
            .template_name(name.as_str())
            .set_default_version_id(change.default_version)
            .set_enabled(change.enabled)
            .set_provisioning_role_arn(change.role_arn.clone());
        self.call("UpdateProvisioningTemplate", call.send())
            .map(drop)
    }

    fn template_versions(&self, name: &TemplateName) -> CloudResult<Vec<TemplateVersion>> {
        let operation = "ListProvisioningTemplateVersions";
        let call = self.client.list_provisioning_template_versions();
        let pages = call.template_name(name.as_str()).into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(operation, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(operation, &items, |version| {
            Some(TemplateVersion {
                version: version.version_id()?,
                is_default: version.is_default_version(),
            })
        })
    }

    fn template_version(&self, name: &TemplateName, version: i32) -> CloudResult<Option<String>> {
        let operation = "DescribeProvisioningTemplateVersion";
        let call = self
            .client
            .describe_provisioning_template_version()
            .template_name(name.as_str())
            .version_id(version);
        let answer = self.find(operation, call.send())?;
        self.usable(operation, answer, |version| {
            version.template_body().map(str::to_owned)
        })
    }

    fn delete_template_version(&self, name: &TemplateName, version: i32) -> CloudResult<()> {
        let call = self
            .client
            .delete_provisioning_template_version()
            .template_name(name.as_str())
            .version_id(version);
        self.call("DeleteProvisioningTemplateVersion", call.send())
            .map(drop)
    }

    fn create_policy(&self, name: &PolicyName, document: &str) -> CloudResult<()> {
        let call = self.client.create_policy().policy_name(name.as_str());
        self.call("CreatePolicy", call.policy_document(document).send())
            .map(drop)
    }

    fn get_policy(&self, name: &PolicyName) -> CloudResult<Option<PolicyView>> {
        let operation = "GetPolicy";
        let call = self.client.get_policy().policy_name(name.as_str());
        let answer = self.find(operation, call.send())?;
        self.usable(operation, answer, |policy| {
            Some(PolicyView {
                name: policy.policy_name()?.parse().ok()?,
                document: policy.policy_document()?.to_owned(),
                default_version: policy.default_version_id()?.to_owned(),
            })
        })
    }

    fn create_policy_version(&self, name: &PolicyName, document: &str) -> CloudResult<String> {
        let operation = "CreatePolicyVersion";
        let call = self
            .client
            .create_policy_version()
            .policy_name(name.as_str())
            .policy_document(document)
            .set_as_default(true);
        let answer = self.call(operation, call.send())?;
        answer
            .policy_version_id
            .ok_or_else(|| self.strange(operation, "version"))
    }

    fn policy_versions(&self, name: &PolicyName) -> CloudResult<Vec<PolicyVersion>> {
        let operation = "ListPolicyVersions";
        let call = self.client.list_policy_versions();
        let answer = self.call(operation, call.policy_name(name.as_str()).send())?;
        self.each(operation, answer.policy_versions(), |version| {
            Some(PolicyVersion {
                id: version.version_id()?.to_owned(),
                is_default: version.is_default_version(),
            })
        })
    }

    fn delete_policy_version(&self, name: &PolicyName, version: &str) -> CloudResult<()> {
        let call = self
            .client
            .delete_policy_version()
            .policy_name(name.as_str())
            .policy_version_id(version);
        self.call("DeletePolicyVersion", call.send()).map(drop)
    }

    fn attach_policy(&self, name: &PolicyName, certificate_arn: &str) -> CloudResult<()> {
        let call = self.client.attach_policy().policy_name(name.as_str());
        self.call("AttachPolicy", call.target(certificate_arn).send())
            .map(drop)
    }

    fn detach_policy(&self, name: &PolicyName, certificate_arn: &str) -> CloudResult<()> {
        let call = self.client.detach_policy().policy_name(name.as_str());
        self.call("DetachPolicy", call.target(certificate_arn).send())
            .map(drop)
    }

    fn attached_policies(&self, arn: &str) -> CloudResult<Vec<PolicyName>> {
        let name = "ListAttachedPolicies";
        let call = self.client.list_attached_policies();
        let call = call.recursive(arn.contains(":thinggroup/"));
        let pages = call.target(arn).into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, |policy| policy.policy_name()?.parse().ok())
    }

    fn register_certificate(&self, request: &CertificateRegistration) -> CloudResult<Registered> {
        let name = "RegisterCertificate";
        let call = self
            .client
            .register_certificate()
            .certificate_pem(&request.certificate_pem)
            .set_ca_certificate_pem(request.ca_pem.clone())
            .status(request.status.as_str().into());
        let answer = self.call(name, call.send())?;
        let registered = || {
            Some(Registered {
                id: answer.certificate_id()?.parse().ok()?,
                arn: answer.certificate_arn()?.to_owned(),
            })
        };
        registered().ok_or_else(|| self.strange(name, "certificate id"))
    }

    fn describe_certificate(&self, id: &CertificateId) -> CloudResult<Option<CertificateView>> {
        let name = "DescribeCertificate";
        let call = self.client.describe_certificate();
        let answer = self.find(name, call.certificate_id(id.as_str()).send())?;
        self.usable(name, answer, convert::certificate_view)
    }

    fn update_certificate(&self, id: &CertificateId, to: CertificateStatus) -> CloudResult<()> {
        let call = self
            .client
            .update_certificate()
            .certificate_id(id.as_str())
            .new_status(to.as_str().into());
        self.call("UpdateCertificate", call.send()).map(drop)
    }

    fn delete_certificate(&self, id: &CertificateId) -> CloudResult<()> {
        let call = self.client.delete_certificate();
        self.call("DeleteCertificate", call.certificate_id(id.as_str()).send())
            .map(drop)
    }

    fn certificates_by_ca(&self, ca: &CertificateId) -> CloudResult<Vec<CertificateSummary>> {
        let name = "ListCertificatesByCA";
        let call = self.client.list_certificates_by_ca();
        let pages = call.ca_certificate_id(ca.as_str()).into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, convert::certificate_summary)
    }

    fn describe_thing(&self, name: &ThingName) -> CloudResult<Option<ThingView>> {
        let operation = "DescribeThing";
        let call = self.client.describe_thing().thing_name(name.as_str());
        let answer = self.find(operation, call.send())?;
        self.usable(operation, answer, convert::described_thing)
    }

    fn describe_things(&self, names: &[ThingName]) -> CloudResult<Vec<Option<ThingView>>> {
        let operation = "DescribeThing";
        let call = |name: &ThingName| {
            let call = self.client.describe_thing().thing_name(name.as_str());
            call.send()
        };
        let answers = self.find_all(operation, names.iter().map(call).collect())?;
        let each = answers.into_iter();
        each.map(|answer| self.usable(operation, answer, convert::described_thing))
            .collect()
    }

    fn groups_of(&self, thing: &ThingName) -> CloudResult<Vec<ThingName>> {
        let name = "ListThingGroupsForThing";
        let call = self.client.list_thing_groups_for_thing();
        let pages = call.thing_name(thing.as_str()).into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, |group| group.group_name()?.parse().ok())
    }

    fn groups_of_things(&self, names: &[ThingName]) -> CloudResult<Vec<Vec<ThingName>>> {
        let operation = "ListThingGroupsForThing";
        let call = |name: &ThingName| {
            let call = self.client.list_thing_groups_for_thing();
            let pages = call.thing_name(name.as_str()).into_paginator();
            let stream = pages.page_size(PAGE).items().send();
            stream.collect::<Result<Vec<_>, _>>()
        };
        let answers = self.find_all(operation, names.iter().map(call).collect())?;
        // A thing that has gone meanwhile has no groups.
        let each = answers.into_iter().map(Option::unwrap_or_default);
        each.map(|groups| self.each(operation, &groups, |group| group.group_name()?.parse().ok()))
            .collect()
    }

    fn has(&self, kind: PrerequisiteKind, name: &str) -> CloudResult<bool> {
        let client = &self.client;
        Ok(match kind {
            PrerequisiteKind::BillingGroup => {
                let call = client.describe_billing_group().billing_group_name(name);
                self.find("DescribeBillingGroup", call.send())?.is_some()
            }
            PrerequisiteKind::Policy => {
                let call = client.get_policy().policy_name(name);
                self.find("GetPolicy", call.send())?.is_some()
            }
            PrerequisiteKind::ThingGroup => {
                let call = client.describe_thing_group().thing_group_name(name);
                self.find("DescribeThingGroup", call.send())?.is_some()
            }
            PrerequisiteKind::ThingType => {
                let call = client.describe_thing_type().thing_type_name(name);
                self.find("DescribeThingType", call.send())?.is_some()
            }
        })
    }

    fn list_things(&self) -> CloudResult<Vec<ThingView>> {
        let name = "ListThings";
        let pages = self.client.list_things().into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, |thing| {
            convert::thing_view(
                thing.thing_name(),
                thing.thing_type_name(),
                thing.attributes(),
            )
        })
    }

    fn delete_thing(&self, name: &ThingName) -> CloudResult<()> {
        let call = self.client.delete_thing();
        self.call("DeleteThing", call.thing_name(name.as_str()).send())
            .map(drop)
    }

    fn attach_thing(&self, thing: &AttachedThing, certificate_arn: &str) -> CloudResult<()> {
        let exclusive = sdk::ThingPrincipalType::ExclusiveThing;
        let call = self
            .client
            .attach_thing_principal()
            .thing_name(thing.name.as_str())
            .principal(certificate_arn)
            .set_thing_principal_type(thing.exclusive.then_some(exclusive));
        self.call("AttachThingPrincipal", call.send()).map(drop)
    }

    fn detach_thing(&self, thing: &ThingName, certificate_arn: &str) -> CloudResult<()> {
        let call = self
            .client
            .detach_thing_principal()
            .thing_name(thing.as_str())
            .principal(certificate_arn);
        self.call("DetachThingPrincipal", call.send()).map(drop)
    }

    fn principals_of(&self, thing: &ThingName) -> CloudResult<Vec<String>> {
        let call = self.client.list_thing_principals();
        let pages = call.thing_name(thing.as_str()).into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        self.call("ListThingPrincipals", stream.collect::<Result<Vec<_>, _>>())
    }

    fn things_of(&self, certificate_arn: &str) -> CloudResult<Vec<AttachedThing>> {
        let name = "ListPrincipalThingsV2";
        let call = self.client.list_principal_things_v2();
        let pages = call.principal(certificate_arn).into_paginator();
        let stream = pages.page_size(PAGE).items().send();
        let items = self.call(name, stream.collect::<Result<Vec<_>, _>>())?;
        self.each(name, &items, convert::attached_thing)
    }
}
