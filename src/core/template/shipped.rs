//! The templates and the policy that we ship, from `templates/`.

use super::{Template, TemplateError, TemplateKind};
use crate::core::ids::{Place, PolicyName};

/// The policy's name in the shipped templates; [`Shipped::body`] puts another in its place.
pub const DEFAULT_POLICY_NAME: &str = "nameplate-device";

/// The least-privilege device policy. `${Partition}`, `${Region}` and `${AccountId}` are ours,
/// filled in by [`fill_place`]; `${iot:…}` are AWS IoT's own variables and stay.
pub const DEVICE_POLICY: &str = include_str!("../../../templates/device-policy.json");

/// A template that we ship.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What `template new` calls it.
    pub name: &'static str,
    /// How it is used.
    pub kind: TemplateKind,
    /// One line about it.
    pub description: &'static str,
    /// Its text, with [`DEFAULT_POLICY_NAME`] and place holders.
    pub body: &'static str,
    /// The policy document that it names, which must be created with it; `None` when the template
    /// writes the policy out itself.
    pub policy: Option<&'static str>,
}

const SHIPPED: [Shipped; 3] = [
    Shipped {
        name: "jitp",
        kind: TemplateKind::Jitp,
        description: "a thing named by the certificate's CN, and one policy for all devices",
        body: include_str!("../../../templates/jitp.json"),
        policy: Some(DEVICE_POLICY),
    },
    Shipped {
        name: "jitp-inline-policy",
        kind: TemplateKind::Jitp,
        description: "the same with the policy written in the template",
        body: include_str!("../../../templates/jitp-inline-policy.json"),
        policy: None,
    },
    Shipped {
        name: "fleet",
        kind: TemplateKind::FleetProvisioning,
        description: "fleet provisioning: a thing named by the parameter SerialNumber",
        body: include_str!("../../../templates/fleet.json"),
        policy: Some(DEVICE_POLICY),
    },
];

/// Every template that we ship.
pub fn shipped() -> &'static [Shipped] {
    &SHIPPED
}

impl Shipped {
    /// The template's text for an account, a Region and a policy.
    pub fn body_for(&self, place: &Place, policy: &PolicyName) -> String {
        let quoted = |name: &str| format!("\"{name}\"");
        fill_place(self.body, place).replace(&quoted(DEFAULT_POLICY_NAME), &quoted(policy.as_str()))
    }

    /// The policy document for an account and a Region.
    pub fn policy_for(&self, place: &Place) -> Option<String> {
        self.policy.map(|text| fill_place(text, place))
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
    use super::super::{MAX_CHARACTERS, PolicyPlan, jitp_parameters, policy_problem};
    use super::*;

    fn place() -> Place {
        Place {
            account: "123456789012".parse().unwrap(),
            region: "us-gov-west-1".parse().unwrap(),
        }
    }

    #[test]
    fn what_we_ship_has_no_findings() {
        for one in shipped() {
            assert_eq!(one.parse().unwrap().lint(one.kind), [], "{}", one.name);
            let body = one.body_for(&place(), &"other".parse().unwrap());
            assert!(body.chars().count() <= MAX_CHARACTERS);
            assert!(!body.contains("${Region}") && !body.contains(DEFAULT_POLICY_NAME));
            let filled = Template::parse(&body).unwrap();
            assert_eq!(filled.lint(one.kind), [], "{}", one.name);
            if let Some(policy) = one.policy_for(&place()) {
                assert_eq!(policy_problem(&policy), None);
            }
        }
    }

    #[test]
    fn both_jitp_templates_give_the_same_policy() {
        let id = "ab".repeat(32).parse().unwrap();
        let values = jitp_parameters(&"CN=pump-1,serialNumber=7".parse().unwrap(), &id);
        let plan = |n: usize| {
            let body = shipped()[n].body_for(&place(), &"p".parse().unwrap());
            Template::parse(&body).unwrap().render(&values).unwrap()
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
