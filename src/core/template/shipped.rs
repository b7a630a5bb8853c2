//! The templates and the policy that we ship, from `templates/`.

use super::{Template, TemplateError, TemplateKind};
use crate::core::ids::{Place, PolicyName, TemplateName};

/// The least-privilege device policy. `${Partition}`, `${Region}` and `${AccountId}` are ours,
/// filled in by [`fill_place`]; `${iot:…}` are AWS IoT's own variables and stay.
pub const DEVICE_POLICY: &str = include_str!("../../../templates/device-policy.json");

/// Stands in a claim's policy for the template's name at the target.
const TEMPLATE_NAME: &str = "${TemplateName}";

/// A template that we ship.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What `template new` calls it.
    pub name: &'static str,
    /// How it is used.
    pub kind: TemplateKind,
    /// One line about it.
    pub description: &'static str,
    /// Its text, with the policy's name and place holders.
    pub body: &'static str,
    /// The policy that it calls by name, which must be created with it; `None` when the template
    /// writes the policy out itself.
    pub policy: Option<ShippedPolicy>,
    /// What the claim's certificate may do, where devices come with one.
    pub claim_policy: Option<&'static str>,
}

/// A policy that we ship.
#[derive(Clone, Copy, Debug)]
pub struct ShippedPolicy {
    /// Its name in the template; [`Shipped::body_for`] puts another in its place.
    pub name: &'static str,
    /// Its text, with place holders.
    pub document: &'static str,
}

/// Each device its own topics, by its thing.
const DEVICE: Option<ShippedPolicy> = Some(ShippedPolicy {
    name: "nameplate-device",
    document: DEVICE_POLICY,
});
/// The same by the certificate's common name.
const BY_CERTIFICATE: Option<ShippedPolicy> = Some(ShippedPolicy {
    name: "nameplate-device-certificate",
    document: include_str!("../../../templates/device-policy-certificate.json"),
});
/// Tenants apart, by the certificate's organization.
const TENANT_BY_CERTIFICATE: Option<ShippedPolicy> = Some(ShippedPolicy {
    name: "nameplate-tenant-certificate",
    document: include_str!("../../../templates/tenant-policy-certificate.json"),
});
/// Tenants apart, by the thing's attribute.
const TENANT_BY_ATTRIBUTE: Option<ShippedPolicy> = Some(ShippedPolicy {
    name: "nameplate-tenant-attribute",
    document: include_str!("../../../templates/tenant-policy-attribute.json"),
});

const fn jitp(name: &'static str, description: &'static str, body: &'static str) -> Shipped {
    Shipped {
        name,
        kind: TemplateKind::Jitp,
        description,
        body,
        policy: DEVICE,
        claim_policy: None,
    }
}

const fn fleet(name: &'static str, description: &'static str, body: &'static str) -> Shipped {
    Shipped {
        kind: TemplateKind::FleetProvisioning,
        ..jitp(name, description, body)
    }
}

const SHIPPED: [Shipped; 10] = [
    jitp(
        "jitp",
        "a thing named by the certificate's CN, and one policy for all devices",
        include_str!("../../../templates/jitp.json"),
    ),
    Shipped {
        policy: None,
        ..jitp(
            "jitp-inline-policy",
            "the same with the policy written in the template",
            include_str!("../../../templates/jitp-inline-policy.json"),
        )
    },
    jitp(
        "jitp-groups",
        "the same with a type, a group, and attributes from O and OU",
        include_str!("../../../templates/jitp-groups.json"),
    ),
    Shipped {
        policy: BY_CERTIFICATE,
        ..jitp(
            "jitp-certificate",
            "the policy goes by the certificate's CN, not by the thing",
            include_str!("../../../templates/jitp-certificate.json"),
        )
    },
    Shipped {
        policy: TENANT_BY_CERTIFICATE,
        ..jitp(
            "jitp-tenant",
            "many tenants, apart by the certificate's O",
            include_str!("../../../templates/jitp-tenant.json"),
        )
    },
    fleet(
        "fleet",
        "a thing named by the parameter SerialNumber",
        include_str!("../../../templates/fleet.json"),
    ),
    Shipped {
        claim_policy: Some(include_str!("../../../templates/claim-policy.json")),
        ..fleet(
            "fleet-claim",
            "by claim; AWS IoT makes the key",
            include_str!("../../../templates/fleet-claim.json"),
        )
    },
    Shipped {
        claim_policy: Some(include_str!("../../../templates/claim-policy-csr.json")),
        ..fleet(
            "fleet-claim-csr",
            "by claim; the device makes its key and sends a request",
            include_str!("../../../templates/fleet-claim-csr.json"),
        )
    },
    fleet(
        "fleet-trusted-user",
        "by an installer's app, which names the site",
        include_str!("../../../templates/fleet-trusted-user.json"),
    ),
    Shipped {
        policy: TENANT_BY_ATTRIBUTE,
        claim_policy: Some(include_str!("../../../templates/claim-policy-csr.json")),
        ..fleet(
            "fleet-tenant",
            "many tenants, apart by the thing's attribute",
            include_str!("../../../templates/fleet-tenant.json"),
        )
    },
];

/// Every template that we ship.
pub fn shipped() -> &'static [Shipped] {
    &SHIPPED
}

impl Shipped {
    /// The template's text for an account and a Region, with its policy under this name.
    pub fn body_for(&self, place: &Place, policy: &PolicyName) -> String {
        let quoted = |name: &str| format!("\"{name}\"");
        let body = fill_place(self.body, place);
        match self.policy {
            Some(own) => body.replace(&quoted(own.name), &quoted(policy.as_str())),
            None => body,
        }
    }

    /// The policy document for an account and a Region.
    pub fn policy_for(&self, place: &Place) -> Option<String> {
        self.policy.map(|policy| fill_place(policy.document, place))
    }

    /// The claim's policy for an account, a Region, and the template's name there.
    pub fn claim_policy_for(&self, place: &Place, template: &TemplateName) -> Option<String> {
        let filled = fill_place(self.claim_policy?, place);
        Some(filled.replace(TEMPLATE_NAME, template.as_str()))
    }

    /// The template as shipped, parsed.
    ///
    /// # Errors
    /// None in a build whose tests pass.
    pub fn parse(&self) -> Result<Template, TemplateError> {
        Template::parse(self.body)
    }
}

/// `text` with `${Partition}`, `${Region}` and `${AccountId}` filled in.
pub fn fill_place(text: &str, place: &Place) -> String {
    text.replace("${Partition}", place.partition())
        .replace("${Region}", place.region.as_str())
        .replace("${AccountId}", place.account.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::{
        Access, Asked, ExistingThings, Gate, MAX_CHARACTERS, PolicyPlan, jitp_parameters,
        policy_problem,
    };
    use super::*;
    use crate::core::finding::{Finding, Severity};

    fn place() -> Place {
        Place {
            account: "123456789012".parse().unwrap(),
            region: "us-gov-west-1".parse().unwrap(),
        }
    }

    /// Errors and warnings.
    fn doubts(template: &Template, kind: TemplateKind) -> Vec<Finding> {
        let mut findings = template.lint(kind);
        findings.retain(|finding| finding.severity > Severity::Note);
        findings
    }

    #[test]
    fn what_we_ship_has_no_findings() {
        for one in shipped() {
            assert_eq!(doubts(&one.parse().unwrap(), one.kind), [], "{}", one.name);
            let body = one.body_for(&place(), &"other".parse().unwrap());
            assert!(body.chars().count() <= MAX_CHARACTERS);
            let own = one.policy.map_or("nobody", |policy| policy.name);
            assert!(!body.contains("${Region}") && !body.contains(&format!("\"{own}\"")));
            let filled = Template::parse(&body).unwrap();
            assert_eq!(doubts(&filled, one.kind), [], "{}", one.name);
            if let Some(policy) = one.policy_for(&place()) {
                assert_eq!(policy_problem(&policy), None);
            }
            let name = "pumps".parse().unwrap();
            if let Some(policy) = one.claim_policy_for(&place(), &name) {
                assert_eq!(policy_problem(&policy), None);
                assert!(policy.contains("/pumps/provision/") && !policy.contains("${"));
            }
        }
    }

    /// Each makes a thing, and its policy lets the device connect as it.
    #[test]
    fn what_we_ship_makes_a_device_that_connects() {
        let subject = "CN=pump-1,serialNumber=7,O=Example,OU=Mark-2"
            .parse()
            .unwrap();
        for one in shipped() {
            let policy = one
                .policy
                .map_or("x", |policy| policy.name)
                .parse()
                .unwrap();
            let template = Template::parse(&one.body_for(&place(), &policy)).unwrap();
            let id = "ab".repeat(32).parse().unwrap();
            let mut values = jitp_parameters(&subject, &id);
            for (name, value) in [
                ("SerialNumber", "7"),
                ("Site", "austin"),
                ("Tenant", "acme"),
            ] {
                values.insert(name.into(), value.into());
            }
            let documents = one.policy_for(&place()).map(|text| (policy, text));
            let documents = documents.into_iter().collect();
            let asked = Asked {
                usage: one.kind.into(),
                values: &values,
                subject: Some(&subject),
                existing: &ExistingThings::default(),
                place: &place(),
            };
            let foreseen = template.foresee(&asked, &mut Gate::new(&documents, &place()));
            assert!(foreseen.passes, "{}: {foreseen:#?}", one.name);
            assert_eq!(foreseen.access, Access::Allowed, "{}", one.name);
            assert!(template.lint_subject(&subject).is_empty() || one.kind != TemplateKind::Jitp);
        }
    }

    #[test]
    fn both_jitp_templates_give_the_same_policy() {
        let id = "ab".repeat(32).parse().unwrap();
        let values = jitp_parameters(&"CN=pump-1,serialNumber=7".parse().unwrap(), &id);
        let plan = |n: usize| {
            let body = shipped()[n].body_for(&place(), &"p".parse().unwrap());
            Template::parse(&body)
                .unwrap()
                .render(TemplateKind::Jitp, &values)
                .unwrap()
        };
        assert_eq!(plan(0).policies, [PolicyPlan::Named("p".parse().unwrap())]);
        let PolicyPlan::Document { document, .. } = &plan(1).policies[0] else {
            panic!("named")
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(json(document), json(&fill_place(DEVICE_POLICY, &place())));
        assert!(document.contains("arn:aws-us-gov:iot:us-gov-west-1:123456789012:client/${iot:"));
    }
}
