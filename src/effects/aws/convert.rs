//! From the SDK's types to ours. `None` means that the answer lacks what the API promises.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_iot::operation::describe_ca_certificate::DescribeCaCertificateOutput;
use aws_sdk_iot::operation::describe_certificate::DescribeCertificateOutput;
use aws_sdk_iot::operation::describe_provisioning_template::DescribeProvisioningTemplateOutput;
use aws_sdk_iot::operation::describe_thing::DescribeThingOutput;
use aws_sdk_iot::types as sdk;

use crate::core::status::CertificateStatus;
use crate::core::template::TemplateKind;
use crate::ports::cloud::{
    AttachedThing, CaSummary, CaView, CertificateMode, CertificateSummary, CertificateView,
    TemplateSummary, TemplateView, ThingView,
};

pub(super) fn ca_view(answer: &DescribeCaCertificateOutput) -> Option<CaView> {
    let ca = answer.certificate_description()?;
    let config = answer.registration_config();
    Some(CaView {
        id: ca.certificate_id()?.parse().ok()?,
        arn: ca.certificate_arn()?.to_owned(),
        active: ca.status() == Some(&sdk::CaCertificateStatus::Active),
        auto_registration: ca.auto_registration_status()
            == Some(&sdk::AutoRegistrationStatus::Enable),
        mode: match ca.certificate_mode() {
            Some(sdk::CertificateMode::SniOnly) => CertificateMode::SniOnly,
            _ => CertificateMode::Default,
        },
        template: config
            .and_then(|config| config.template_name())
            .and_then(|name| name.parse().ok()),
        inline_template: config.is_some_and(|config| config.template_body().is_some()),
    })
}

pub(super) fn described_thing(thing: &DescribeThingOutput) -> Option<ThingView> {
    let view = thing_view(
        thing.thing_name(),
        thing.thing_type_name(),
        thing.attributes(),
    )?;
    Some(ThingView {
        billing_group: thing.billing_group_name().map(str::to_owned),
        ..view
    })
}

pub(super) fn ca_summary(ca: &sdk::CaCertificate) -> Option<CaSummary> {
    Some(CaSummary {
        id: ca.certificate_id()?.parse().ok()?,
        active: ca.status() == Some(&sdk::CaCertificateStatus::Active),
    })
}

pub(super) fn template_view(answer: &DescribeProvisioningTemplateOutput) -> Option<TemplateView> {
    Some(TemplateView {
        name: answer.template_name()?.parse().ok()?,
        arn: answer.template_arn()?.to_owned(),
        kind: template_type(answer.r#type())?,
        body: answer.template_body()?.to_owned(),
        role_arn: answer
            .provisioning_role_arn()
            .unwrap_or_default()
            .to_owned(),
        enabled: answer.enabled().unwrap_or_default(),
        default_version: answer.default_version_id()?,
        description: answer.description().map(str::to_owned),
        hook: answer
            .pre_provisioning_hook()
            .map(|hook| hook.target_arn().to_owned()),
    })
}

/// Templates from before the type existed are for fleet provisioning.
fn template_type(kind: Option<&sdk::TemplateType>) -> Option<TemplateKind> {
    kind.map_or(Some(TemplateKind::FleetProvisioning), |kind| {
        kind.as_str().parse().ok()
    })
}

pub(super) fn template_summary(one: &sdk::ProvisioningTemplateSummary) -> Option<TemplateSummary> {
    Some(TemplateSummary {
        name: one.template_name()?.parse().ok()?,
        kind: template_type(one.r#type())?,
        enabled: one.enabled().unwrap_or_default(),
    })
}

pub(super) fn certificate_view(answer: &DescribeCertificateOutput) -> Option<CertificateView> {
    let certificate = answer.certificate_description()?;
    Some(CertificateView {
        id: certificate.certificate_id()?.parse().ok()?,
        arn: certificate.certificate_arn()?.to_owned(),
        status: status(certificate.status())?,
        ca: certificate
            .ca_certificate_id()
            .and_then(|id| id.parse().ok()),
    })
}

pub(super) fn certificate_summary(certificate: &sdk::Certificate) -> Option<CertificateSummary> {
    Some(CertificateSummary {
        id: certificate.certificate_id()?.parse().ok()?,
        arn: certificate.certificate_arn()?.to_owned(),
        status: status(certificate.status())?,
    })
}

fn status(status: Option<&sdk::CertificateStatus>) -> Option<CertificateStatus> {
    status?.as_str().parse().ok()
}

pub(super) fn thing_view(
    name: Option<&str>,
    type_name: Option<&str>,
    attributes: Option<&HashMap<String, String>>,
) -> Option<ThingView> {
    let attributes: BTreeMap<_, _> = attributes
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Some(ThingView {
        name: name?.parse().ok()?,
        type_name: type_name.map(str::to_owned),
        attributes,
        billing_group: None,
    })
}

pub(super) fn attached_thing(object: &sdk::PrincipalThingObject) -> Option<AttachedThing> {
    Some(AttachedThing {
        name: object.thing_name().parse().ok()?,
        exclusive: object.thing_principal_type() == Some(&sdk::ThingPrincipalType::ExclusiveThing),
    })
}
