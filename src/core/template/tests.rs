use std::collections::BTreeMap;

use super::*;
use crate::core::finding::Severity;
use crate::core::status::CertificateStatus;

const JITP: &str = r#"{"Parameters":{"AWS::IoT::Certificate::CommonName":{"Type":"String"},
  "AWS::IoT::Certificate::SerialNumber":{"Type":"String"},
  "AWS::IoT::Certificate::Id":{"Type":"String"}},
 "Resources":{
  "thing":{"Type":"AWS::IoT::Thing",
    "Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"},
                  "ThingTypeName":"pump","ThingGroups":["site-a"],"BillingGroup":"bg1",
                  "AttributePayload":{"sn":{"Ref":"AWS::IoT::Certificate::SerialNumber"},"fw":"v1"}},
    "OverrideSettings":{"AttributePayload":"MERGE","ThingTypeName":"REPLACE","ThingGroups":"DO_NOTHING"}},
  "certificate":{"Type":"AWS::IoT::Certificate",
    "Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"},
    "OverrideSettings":{"Status":"REPLACE"}},
  "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"pump-device"}}}}"#;

const FLEET: &str = r#"{"Parameters":{"SerialNumber":{"Type":"String"},"Plant":{"Type":"String","Default":"A1"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
 "Mappings":{"Sites":{"A1":{"Group":"site-a","Url":"https://a.example"},"B2":{"Group":"site-b","Url":"https://b.example"}}},
 "Resources":{
  "thing":{"Type":"AWS::IoT::Thing",
    "Properties":{"ThingName":{"Fn::Join":["-",["pump",{"Ref":"SerialNumber"}]]},
                  "ThingGroups":[{"Fn::FindInMap":["Sites",{"Ref":"Plant"},"Group"]}],
                  "AttributePayload":{"sn":{"Ref":"SerialNumber"},
                    "year":{"Fn::Select":["1",{"Fn::Split":["_",{"Ref":"SerialNumber"}]}]},
                    "label":{"Fn::Sub":["${SerialNumber}@${Place}",{"Place":{"Ref":"Plant"}}]}}}},
  "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"Active"}},
  "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":{"Fn::Join":["",["arn:aws:iot:eu-west-1:123456789012:client/",{"Ref":"SerialNumber"}]]}}]}}}},
 "DeviceConfiguration":{"Url":{"Fn::FindInMap":["Sites",{"Ref":"Plant"},"Url"]}}}"#;

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn subject(text: &str) -> BTreeMap<String, String> {
    let id = "ab".repeat(32).parse().unwrap();
    jitp_parameters(&text.parse().unwrap(), &id)
}

fn edited(from: &str, to: &str) -> Template {
    assert!(JITP.contains(from), "{from}");
    Template::parse(&JITP.replace(from, to)).unwrap()
}

/// Errors and warnings.
fn doubts(template: &Template, kind: TemplateKind) -> Vec<Finding> {
    let mut findings = template.lint(kind);
    findings.retain(|finding| finding.severity > Severity::Note);
    findings
}

#[test]
fn a_jitp_template_makes_its_plan_from_the_subject() {
    let template = Template::parse(JITP).unwrap();
    assert_eq!(doubts(&template, TemplateKind::Jitp), []);
    let plan = template
        .render(
            TemplateKind::Jitp,
            &subject("CN=pump-1,serialNumber=SN:7,O=Example Ltd"),
        )
        .unwrap();
    let thing = plan.thing.unwrap();
    assert_eq!(thing.name.as_str(), "pump-1");
    assert_eq!(thing.attributes, values(&[("fw", "v1"), ("sn", "SN:7")]));
    assert_eq!(thing.overrides.attributes, Override::Merge);
    assert_eq!(thing.overrides.type_name, Override::Replace);
    assert_eq!(plan.certificate.status, CertificateStatus::Active);
    assert_eq!(
        plan.policies,
        [PolicyPlan::Named("pump-device".parse().unwrap())]
    );
}

#[test]
fn every_function_is_evaluated() {
    let template = Template::parse(FLEET).unwrap();
    assert_eq!(doubts(&template, TemplateKind::FleetProvisioning), []);
    let plan = template
        .render(
            TemplateKind::FleetProvisioning,
            &values(&[
                ("SerialNumber", "A_2026"),
                ("AWS::IoT::Certificate::Id", "x"),
            ]),
        )
        .unwrap();
    let thing = plan.thing.unwrap();
    assert_eq!(thing.name.as_str(), "pump-A_2026");
    assert_eq!(thing.groups[0].as_str(), "site-a");
    assert_eq!(
        thing.attributes,
        values(&[("label", "A_2026@A1"), ("sn", "A_2026"), ("year", "2026")])
    );
    let PolicyPlan::Document { name, document } = &plan.policies[0] else {
        panic!("named")
    };
    assert!(document.contains(":client/A_2026\""), "{document}");
    assert_eq!(name.as_str().len(), 40);
    assert_eq!(name.as_str(), name.as_str().to_uppercase());
}

#[test]
fn the_automatic_policy_name_is_a_sha1() {
    assert_eq!(
        auto_policy_name("abc"),
        "A9993E364706816ABA3E25717850C26C9CD0D89D"
    );
}

#[test]
fn a_parameter_without_a_value_fails_by_name() {
    let error = Template::parse(JITP)
        .unwrap()
        .render(TemplateKind::Jitp, &subject("CN=pump-1"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the parameter `AWS::IoT::Certificate::SerialNumber` is declared, but has no value"
    );
}

#[test]
fn names_and_attributes_are_checked_when_rendered() {
    let template = Template::parse(JITP).unwrap();
    for (text, path) in [
        (
            "CN=pump 1,serialNumber=7",
            "$.Resources.thing.Properties.ThingName",
        ),
        (
            "CN=pump.1,serialNumber=7",
            "$.Resources.thing.Properties.ThingName",
        ),
        (
            "CN=pump-1,serialNumber=7 8",
            "$.Resources.thing.Properties.AttributePayload.sn",
        ),
    ] {
        let error = template
            .render(TemplateKind::Jitp, &subject(text))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(path), "{error}");
        assert!(error.contains("pump 1") || error.contains("pump.1") || error.contains("7 8"));
    }
}

#[test]
fn select_and_find_fail_with_their_place() {
    let template = Template::parse(FLEET).unwrap();
    let id = ("AWS::IoT::Certificate::Id", "x");
    for (serial, plant, part) in [
        ("A", "A1", "element 1 of 1"),
        ("A_1", "C3", "`Sites` / `C3`"),
    ] {
        let error = template
            .render(
                TemplateKind::FleetProvisioning,
                &values(&[("SerialNumber", serial), ("Plant", plant), id]),
            )
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn grammar_errors_name_every_place() {
    for (text, paths) in [
        ("[]", &["$"][..]),
        ("{}", &["$.Resources"]),
        (
            r#"{"Resources":{"x":{"Type":"AWS::S3::Bucket"}}}"#,
            &["$.Resources.x.Type"],
        ),
        (
            r#"{"Parameters":{"A::B":{"Type":"Number"}},"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":7}}}}"#,
            &[
                "$.Parameters['A::B'].Type",
                "$.Resources.t.Properties.ThingName",
            ],
        ),
        (
            r#"{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::If":[]}}}}}"#,
            &["$.Resources.t.Properties.ThingName['Fn::If']"],
        ),
        (
            r#"{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["-"]}}}}}"#,
            &["$.Resources.t.Properties.ThingName['Fn::Join']"],
        ),
    ] {
        let problems = Template::parse(text).unwrap_err().problems();
        let found: Vec<&str> = problems.iter().map(|p| &p.path[..]).collect();
        assert_eq!(found, paths, "{text}");
    }
    assert!(matches!(
        Template::parse(&" ".repeat(10_241)),
        Err(TemplateError::Size(10_241))
    ));
    let twice = r#"{"Resources":{"a":{},"a":{}}}"#;
    assert!(matches!(
        Template::parse(twice),
        Err(TemplateError::Json(_))
    ));
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(
        Template::parse(&deep),
        Err(TemplateError::Json(_))
    ));
}

/// What is edited, into what, the rule it breaks, and where.
const REFUSED: [(&str, &str, &str, &str); 12] = [
    (
        r#"{"Parameters""#,
        r#"{"Outputs":{},"Parameters""#,
        "template.top-level",
        "$.Outputs",
    ),
    (
        r#"{"Parameters""#,
        r#"{"Mappings":{},"Parameters""#,
        "template.top-level",
        "$.Mappings",
    ),
    (
        r#""AWS::IoT::Certificate::SerialNumber":{"Type":"String"},"#,
        r#""AWS::IoT::Certificate::SerialNumber":{"Type":"String"},"AWS::IoT::Certificate::Locality":{"Type":"String"},"#,
        "template.parameter-name",
        "$.Parameters['AWS::IoT::Certificate::Locality']",
    ),
    (
        r#"{"Ref":"AWS::IoT::Certificate::CommonName"}"#,
        r#"{"Ref":"CommonName"}"#,
        "template.ref-undeclared",
        "$.Resources.thing.Properties.ThingName",
    ),
    (
        r#""CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}"#,
        r#""CertificateId":"abc""#,
        "template.certificate-id",
        "$.Resources.certificate.Properties.CertificateId",
    ),
    (
        r#""CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"#,
        "",
        "template.certificate-id",
        "$.Resources.certificate.Properties.CertificateId",
    ),
    (
        r#""Status":"ACTIVE""#,
        r#""Status":"REVOKED""#,
        "template.status",
        "$.Resources.certificate.Properties.Status",
    ),
    (
        r#""ThingTypeName":"REPLACE""#,
        r#""ThingTypeName":"MERGE""#,
        "template.override",
        "$.Resources.thing.OverrideSettings.ThingTypeName",
    ),
    (
        r#""PolicyName":"pump-device""#,
        r#""PolicyName":"pump-device","PolicyDocument":"{}""#,
        "template.policy-both",
        "$.Resources.policy.Properties",
    ),
    (
        r#""PolicyName":"pump-device""#,
        r#""PolicyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Maybe\"}]}""#,
        "template.policy-document",
        "$.Resources.policy.Properties.PolicyDocument",
    ),
    (
        r#""PolicyName":"pump-device""#,
        r#""PolicyName":"pump device""#,
        "template.name",
        "$.Resources.policy.Properties.PolicyName",
    ),
    (
        r#""policy":{"#,
        r#""t2":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x"}},"policy":{"#,
        "template.resource-duplicate",
        "$.Resources.t2",
    ),
];

#[test]
fn lint_refuses_what_aws_refuses() {
    for (from, to, rule, path) in REFUSED {
        let findings = edited(from, to).lint(TemplateKind::Jitp);
        let hit = findings.iter().find(|f| f.rule == rule && f.path == path);
        assert_eq!(
            hit.map(|f| f.severity),
            Some(Severity::Error),
            "{rule}: {findings:?}"
        );
    }
}

#[test]
fn lint_warns_of_what_is_hardly_meant() {
    let cases = [
        (
            r#""ThingTypeName":"pump","#,
            "",
            r#""fw":"v1""#,
            r#""fw":"v1","a":"1","b":"2""#,
            "template.attribute-count",
        ),
        (
            r#"{"Ref":"AWS::IoT::Certificate::CommonName"}"#,
            r#"{"Fn::Sub":"p-${AWS::IoT::Certificate::CommonName}"}"#,
            "",
            "",
            "template.function",
        ),
        (
            r#""AttributePayload":"MERGE""#,
            r#""ATTRIBUTE_PAYLOAD":"MERGE""#,
            "",
            "",
            "template.override-key",
        ),
    ];
    for (from, to, from2, to2, rule) in cases {
        let text = JITP.replace(from, to).replacen(from2, to2, 1);
        let findings = doubts(&Template::parse(&text).unwrap(), TemplateKind::Jitp);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            (findings[0].rule, findings[0].severity),
            (rule, Severity::Warning)
        );
    }
}

proptest::proptest! {
    /// Whatever stands in a template, reading it ends with an answer.
    #[test]
    fn no_text_makes_the_parser_panic(
        at in 0..FLEET.len(),
        length in 0_usize..40,
        put in "[\\[\\]{}:,\"$!A-Za-z0-9 ]{0,12}",
    ) {
        let end = (at + length).min(FLEET.len());
        let text = format!("{}{put}{}", &FLEET[..at], &FLEET[end..]);
        if let Ok(template) = Template::parse(&text) {
            template.lint(TemplateKind::Jitp);
            template.lint(TemplateKind::FleetProvisioning);
            let _ = template.render(TemplateKind::FleetProvisioning, &values(&[("SerialNumber", "A_1")]));
            let _ = template.render(TemplateKind::Jitp, &subject("CN=a"));
        }
    }

    /// Values pass through a join and a split unharmed, and a substitution is a join.
    #[test]
    fn functions_agree_with_one_another(
        parts in proptest::collection::vec("[a-z0-9]{1,6}", 1..6),
        index in 0_usize..6,
    ) {
        let joined = parts.join("-");
        let literal = serde_json::to_string(&parts).unwrap();
        let name = |value: &str| -> Result<String, RenderError> {
            let text = format!(
                r#"{{"Parameters":{{"A":{{"Type":"String"}}}},"Resources":{{"t":{{"Type":"AWS::IoT::Thing","Properties":{{"ThingName":{value}}}}}}}}}"#
            );
            let plan = Template::parse(&text).unwrap().render(
                TemplateKind::FleetProvisioning,
                &values(&[("A", &joined)]),
            )?;
            Ok(plan.thing.unwrap().name.to_string())
        };
        let through = |list: &str| name(&format!(r#"{{"Fn::Join":["-",{list}]}}"#));
        proptest::prop_assert_eq!(through(&literal).unwrap(), joined.clone());
        let split = r#"{"Fn::Split":["-",{"Ref":"A"}]}"#;
        proptest::prop_assert_eq!(through(split).unwrap(), joined.clone());
        proptest::prop_assert_eq!(name(r#"{"Fn::Sub":"${A}"}"#).unwrap(), joined.clone());
        let chosen = name(&format!(r#"{{"Fn::Select":[{index},{split}]}}"#));
        proptest::prop_assert_eq!(chosen.ok(), parts.get(index).cloned());
    }

    /// Running a plan a second time changes nothing, and what FAIL lets pass changes nothing.
    #[test]
    fn what_a_plan_makes_of_a_thing_it_leaves(
        there in proptest::collection::btree_map("[a-d]", "[a-z]{0,2}", 0..4),
        wanted in proptest::collection::btree_map("[a-d]", "[a-z]{0,2}", 0..4),
        setting in 0_usize..4,
        groups in proptest::collection::vec("[g-i]", 0..3),
    ) {
        let setting = [Override::DoNothing, Override::Fail, Override::Merge, Override::Replace][setting];
        let names = |all: &[String]| all.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        let plan = ThingPlan {
            name: "pump-1".parse().unwrap(),
            type_name: Some("pump".parse().unwrap()),
            attributes: wanted,
            groups: names(&groups),
            billing_group: None,
            overrides: Overrides { attributes: setting, groups: setting, type_name: Override::Replace },
        };
        let mut attributes = there;
        attributes.retain(|_, value| !value.is_empty());
        let there = ExistingThing { attributes, ..ExistingThing::default() };
        if let Ok(first) = thing_change(&plan, &there) {
            let again = thing_change(&plan, &first.after).unwrap();
            proptest::prop_assert_eq!(&again.after, &first.after);
            if setting == Override::Fail {
                proptest::prop_assert_eq!(&first.after.attributes, &there.attributes);
            }
        }
    }
}
