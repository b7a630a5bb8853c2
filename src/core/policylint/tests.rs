//! Each rule with a document that breaks it and one that does not; fixes mend and nothing else.

#![allow(clippy::too_many_lines, reason = "tables of cases are long")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const ARN: &str = "arn:aws:iot:eu-west-1:123456789012:";

fn document(statements: &str) -> String {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    text.replace("ARN:", ARN)
        .replace("THING", "${iot:Connection.Thing.ThingName}")
}

fn rules_in(text: &str, request: &Request) -> Vec<&'static str> {
    let findings = lint(text, request).findings;
    let rules: BTreeSet<&str> = findings.iter().map(|placed| placed.finding.rule).collect();
    rules.into_iter().collect()
}

/// Rules that single statements bring along because they are no whole policy.
const ALONE: [&str; 2] = ["policy.connect-missing", "policy.receive-missing"];

fn found(statements: &str) -> Vec<&'static str> {
    let mut rules = rules_in(&document(statements), &Request::default());
    rules.retain(|rule| !ALONE.contains(rule));
    rules
}

fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}"#)
}

fn deny(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Deny","Action":"{action}","Resource":"{resource}"}}"#)
}

fn on(action: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Action":"{action}","Resource":"ARN:client/THING","Condition":{condition}}}"#
    )
}

const ATTACHED: &str = r#"{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}"#;
const BROAD: &str = "IOT_POLICY_OVERLY_PERMISSIVE_CHECK";
const MISCONFIGURED: &str = "IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK";

/// What the developer guide shows as compliant and not, in "AWS IoT policies overly permissive".
#[test]
fn broad_access_is_found_as_device_defender_finds_it() {
    for (action, resource, broad) in [
        ("iot:Connect", "ARN:client/*", true),
        ("iot:Connect", "ARN:client/${iot:ClientId}", true),
        ("iot:Connect", "ARN:client/THING", false),
        ("iot:Connect", "*", true),
        ("iot:Connect", "ARN:*", true),
        ("iot:Connect", "arn:aws:iot:*:*:client*", true),
        ("iot:Publish", "ARN:topic/$aws/things/*/shadow/update", true),
        ("iot:Publish", "ARN:topic/$aws/things/*", true),
        ("iot:Publish", "ARN:topic/*", true),
        ("iot:Publish", "ARN:topic/$aws/*", true),
        ("iot:Publish", "ARN:topic/$aws/things/THING/shadow/*", false),
        ("iot:Publish", "ARN:topic/plant/*", false),
        ("iot:Subscribe", "ARN:topicfilter/$aws/things/*", true),
        ("iot:Subscribe", "ARN:topicfilter/$aws/things/#", true),
        (
            "iot:Subscribe",
            "ARN:topicfilter/$aws/things/+/shadow/update",
            true,
        ),
        ("iot:Subscribe", "ARN:topicfilter/#", true),
        (
            "iot:Subscribe",
            "ARN:topicfilter/$aws/things/THING/jobs/*",
            false,
        ),
        ("iot:Receive", "ARN:topic/$aws/things/*", false),
        ("iot:Receive", "*", false),
        ("iot:GetThingShadow", "ARN:thing/*", true),
        ("iot:UpdateThingShadow", "ARN:thing/MyThing*", false),
        ("iot:GetPendingJobExecutions", "ARN:thing/a", false),
        ("iot:ListRetainedMessages", "*", false),
    ] {
        let rules = found(&allow(action, resource));
        assert_eq!(
            rules.contains(&BROAD),
            broad,
            "{action} {resource}: {rules:?}"
        );
    }
    let with = |condition: &str| {
        found(&format!(
            r#"{{"Effect":"Allow","Action":"iot:Connect","Resource":"ARN:client/${{iot:ClientId}}","Condition":{condition}}}"#
        ))
    };
    assert!(with(ATTACHED).is_empty());
    assert_eq!(with(&ATTACHED.replace("Bool", "BoolIfExists")), [BROAD]);
    assert_eq!(with(&ATTACHED.replace("true", "false")), [BROAD]);
    let inverted = r#"{"Effect":"Allow","Action":"iot:Publish","NotResource":"ARN:topic/a"}"#;
    assert_eq!(found(inverted), [BROAD]);
}

#[test]
fn the_recommended_policy_is_clean_and_client_star_is_not() {
    let recommended = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Action":"iot:Connect","Resource":
        "arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}"}]}"#;
    let request = Request {
        region: Some("us-east-1".parse().unwrap()),
        account: Some("123456789012".parse().unwrap()),
    };
    assert_eq!(lint(recommended, &request).findings, []);
    let wide = recommended.replace("${iot:Connection.Thing.ThingName}", "*");
    assert_eq!(rules_in(&wide, &request), [BROAD]);
}

#[test]
fn the_shipped_policy_is_clean() {
    let place = crate::core::ids::Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    for shipped in crate::core::template::shipped() {
        let Some(policy) = shipped.policy_for(&place) else {
            continue;
        };
        let request = Request {
            region: Some(place.region.clone()),
            account: Some(place.account.clone()),
        };
        let mut findings = lint(&policy, &request).findings;
        // Policies by certificate are meant to do without a thing.
        findings.retain(|placed| placed.finding.rule != "policy.is-attached");
        assert_eq!(findings, [], "{}", shipped.name);
    }
}

#[test]
fn single_statements_break_single_rules() {
    for (statement, rule) in [
        (allow("iot:Conect", "ARN:client/THING"), "policy.action-unknown"),
        (allow("iot:CreateThing", "*"), "policy.action-unknown"),
        (allow("iot:Publish", "topic/a"), "policy.arn"),
        (allow("iot:Publish", "arn:aws:iot:eu-west-1:topic/a"), "policy.arn"),
        (allow("iot:Publish", "arn:aws:sns:eu-west-1:123456789012:topic/a"), "policy.arn"),
        (allow("iot:Publish", "arn:aws:iot:cn-north-1:123456789012:topic/a"), "policy.arn"),
        (allow("iot:Subscribe", "ARN:topicFilter/a"), "policy.arn"),
        (allow("iot:Connect", "ARN:client/pump-*"), "policy.client-id"),
        (allow("iot:Connect", "ARN:client/THING*"), "policy.client-id"),
        (
            allow("iot:Connect", "ARN:client/${iot:Certificate.Subject.CommonName}"),
            "policy.is-attached",
        ),
        (allow("iot:Publish", "ARN:client/a"), "policy.never-matches"),
        (allow("iot:Subscribe", "ARN:topic/a"), "policy.subscribe-topic"),
        (allow("iot:Receive", "ARN:topicfilter/a"), "policy.publish-topicfilter"),
        (allow("iot:Publish", "ARN:topic/a/#"), "policy.publish-wildcard"),
        (allow("iot:Publish", "ARN:topic/a/+/b"), "policy.publish-wildcard"),
        (allow("iot:Publish", "ARN:topic/a "), "policy.white-space"),
        (allow("iot:Publish ", "ARN:topic/a"), "policy.white-space"),
        (allow("iot:Publish", "ARN:topic/${iot:Thing.ThingName}"), "policy.variable-stale"),
        (allow("iot:Publish", "ARN:topic/${iot:ClientID}"), "policy.variable-case"),
        (allow("iot:Publish", "ARN:topic/${iot:CertificateId}"), "policy.variable-unknown"),
        (allow("iot:Publish", "ARN:topic/${iot:ClientId"), "policy.variable-syntax"),
        (allow("iot:Publish", "ARN:topic/{iot:ClientId}"), "policy.variable-syntax"),
        (allow("iot:Publish", "ARN:topic/a$(*)"), "policy.variable-syntax"),
        (
            allow("iot:Publish", "ARN:topic/${iot:Certificate.Subject.CommonName.5}"),
            "policy.variable-index",
        ),
        (
            allow("iot:Publish", "ARN:topic/${iot:Certificate.Subject.CommonName.List}"),
            "policy.variable-list",
        ),
        (allow("iot:GetThingShadow", "ARN:thing/THING"), "policy.variable-here"),
        (allow("iot:Publish", "ARN:topic/${iot:LastWillTopic}"), "policy.variable-here"),
        (
            r#"{"Effect":"Allow","NotAction":"iot:Connect","Resource":"ARN:topic/a"}"#.into(),
            "policy.allow-not-action",
        ),
        (
            r#"{"Effect":"Allow","Action":["iot:Publish","iot:Subscribe"],"Resource":"ARN:topic/a"}"#
                .into(),
            "policy.subscribe-topic",
        ),
        (
            r#"{"Effect":"Allow","Action":"iot:Publish","Resource":["ARN:topic/a","ARN:topic/a"]}"#
                .into(),
            "policy.twice",
        ),
        (
            on("iot:Connect", r#"{"StringEquals":{"iot:ConnectAttributes":"LastWill"}}"#),
            "policy.condition-set",
        ),
        (
            on("iot:Connect", r#"{"ForAllValues:StringEquals":{"iot:ConnectAttributes":"Will"}}"#),
            "policy.condition-value",
        ),
        (
            on("iot:Connect", r#"{"ArnEquals":{"iot:LastWillTopic":"topic/w"}}"#),
            "policy.condition-value",
        ),
        (on("iot:Connect", r#"{"IpAddress":{"aws:SourceIp":"10.0.0"}}"#), "policy.condition-value"),
        (on("iot:Connect", r#"{"Bool":{"iot:Nope":"true"}}"#), "policy.condition-key"),
        (on("iot:Connect", r#"{"StringEquals":{"iot:ClientId":"a*"}}"#), "policy.condition-wildcard"),
        (
            on(
                "iot:Connect",
                r#"{"ForAllValues:StringEquals":{"iot:Certificate.Subject.Organization.List":"a"}}"#,
            ),
            "policy.condition-absent",
        ),
    ] {
        assert_eq!(found(&statement), [rule], "{statement}");
    }
    let beside = r#"{"Effect":"Allow","Action":"iot:Publish","Resource":"ARN:topic/a",
        "Condition":{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":"LastWill"}}}"#;
    assert_eq!(found(beside), ["policy.condition-connect"]);
}

#[test]
fn denies_that_deny_too_little_are_found() {
    let connect = allow("iot:Connect", "ARN:client/THING");
    let wide = allow("iot:Subscribe", "ARN:topicfilter/a/*");
    let receive = allow("iot:Receive", "ARN:topic/a/*");
    let sub = |resource: &str| deny("iot:Subscribe", resource);
    for (statements, rules) in [
        (
            vec![&wide, &receive, &sub("ARN:topicfilter/a/secret/*")],
            vec![MISCONFIGURED],
        ),
        (
            vec![
                &wide,
                &receive,
                &sub("ARN:topicfilter/a/secret/*"),
                &deny("iot:Receive", "ARN:topic/a/secret/*"),
            ],
            vec![],
        ),
        (
            vec![
                &wide,
                &receive,
                &sub("ARN:topicfilter/a/secret/*"),
                &deny("iot:Receive", "ARN:topic/a/*"),
            ],
            vec![],
        ),
        (
            vec![&wide, &receive, &sub("ARN:topicfilter/a/secret")],
            vec!["policy.deny-receive"],
        ),
        (vec![&wide, &sub("ARN:topicfilter/a/secret/*")], vec![]),
        (
            vec![&wide, &sub("ARN:topicfilter/a/secret/#")],
            vec![MISCONFIGURED],
        ),
        (
            vec![&deny("iot:Publish", "ARN:topic/a/+/b")],
            vec![MISCONFIGURED],
        ),
        (
            vec![&deny("iot:Publish", "ARN:topic/THING")],
            vec!["policy.deny-open"],
        ),
        (
            vec![&connect, &deny("iot:Publish", "ARN:topic/THING")],
            vec![],
        ),
        (
            vec![
                &connect,
                &deny(
                    "iot:Publish",
                    "ARN:topic/${iot:Connection.Thing.ThingTypeName}",
                ),
            ],
            vec!["policy.deny-open"],
        ),
        (
            vec![&deny("iot:Publish", "ARN:topic/${iot:ClientId}")],
            vec![],
        ),
    ] {
        let statements: Vec<&str> = statements.iter().map(|one| &one[..]).collect();
        let statements = statements.join(",");
        assert_eq!(found(&statements), rules, "{statements}");
    }
}

#[test]
fn whole_documents_are_judged() {
    let request = Request {
        region: Some("eu-west-1".parse().unwrap()),
        account: Some("123456789012".parse().unwrap()),
    };
    let good = document(&allow("iot:Connect", "ARN:client/THING"));
    for (text, rules) in [
        (good.clone(), vec![]),
        (
            good.replace("eu-west-1", "us-east-1"),
            vec!["policy.other-region"],
        ),
        (
            good.replace("123456789012", "210987654321"),
            vec!["policy.other-account"],
        ),
        (good.replace("eu-west-1", "*"), vec![]),
        (
            good.replace("2012-10-17", "2008-10-17"),
            vec!["policy.version"],
        ),
        (
            good.replace(r#""Version":"2012-10-17","#, ""),
            vec!["policy.version"],
        ),
        (good.replace("Effect", "effect"), vec!["policy.malformed"]),
        (good.replace(']', ""), vec!["policy.json"]),
        (document(""), vec!["policy.no-statement"]),
        (
            good.replace("client/", &format!("client/{}", "x".repeat(1800))),
            vec!["policy.size-near"],
        ),
        (
            good.replace("client/", &format!("client/{}", "x".repeat(2100))),
            vec!["policy.size"],
        ),
        (
            good.replace("client/", &format!("client/{}", "x".repeat(99_000))),
            vec!["policy.size"],
        ),
        (
            document(
                &[
                    allow("iot:Connect", "ARN:client/THING"),
                    allow("iot:Publish", "arn:aws:iot:eu-west-1:210987654321:topic/a"),
                ]
                .join(","),
            ),
            vec!["policy.mixed-places", "policy.other-account"],
        ),
        (
            document(&allow("iot:Publish", "ARN:topic/a")),
            vec!["policy.connect-missing"],
        ),
        (
            document(
                &[
                    allow("iot:Connect", "ARN:client/THING"),
                    allow("iot:Subscribe", "ARN:topicfilter/a"),
                ]
                .join(","),
            ),
            vec!["policy.receive-missing"],
        ),
        (
            document(
                &[
                    allow("iot:Connect", "ARN:client/THING"),
                    allow("iot:RetainPublish", "ARN:topic/a"),
                ]
                .join(","),
            ),
            vec!["policy.publish-missing"],
        ),
    ] {
        assert_eq!(rules_in(&text, &request), rules, "{}", shown(&text));
    }
}

#[test]
fn findings_say_where() {
    let text = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [{\n    \"Sid\": \"One\",\n    \
                \"Effect\": \"Allow\",\n    \"Action\": \"iot:Connect\",\n    \"Resource\": [\n      \
                \"arn:aws:iot:*:*:client/a\",\n      \"*\"\n    ]\n  }]\n}\n";
    let linted = lint(text, &Request::default());
    let [placed] = &linted.findings[..] else {
        panic!("{:?}", linted.findings)
    };
    assert_eq!(placed.finding.path, "$.Statement[0].Resource[1]");
    assert_eq!((placed.line, placed.column), (Some(9), Some(7)));
    assert_eq!(placed.subject.as_deref(), Some("One"));
    let broken = lint("{\n  \"Version\": }", &Request::default());
    assert_eq!(broken.findings[0].line, Some(2));
    let empty = lint("", &Request::default());
    assert_eq!(empty.findings[0].column, Some(1));
}

#[test]
fn fixes_mend_what_is_certain_and_keep_the_rest_of_the_text() {
    let full = |before: &str, after: &str| {
        let text = format!(
            "{{\n  \"Version\": \"2012-10-17\",\n  \"Statement\" : [\n    {{ \"Effect\": \"Allow\", \
             \"Action\":  \"iot:Connect\", \"Resource\":\"ARN:client/THING\" }},\n    {before}\n  ]\n}}\n"
        );
        let text = text
            .replace("ARN:", ARN)
            .replace("THING", "${iot:Connection.Thing.ThingName}");
        let after = text.replace(&before.replace("ARN:", ARN), &after.replace("ARN:", ARN));
        (text, after)
    };
    let one = |action: &str, resource: &str| {
        format!(
            "{{\"Effect\":\"Allow\",\n\"Action\": \"{action}\" , \"Resource\": [ \"{resource}\" ] }}"
        )
    };
    let receive = format!(", {}", one("iot:Receive", "ARN:topic/a"));
    for (before, after) in [
        (
            one("iot:Subscribe", "ARN:topic/a") + &receive,
            one("iot:Subscribe", "ARN:topicfilter/a") + &receive,
        ),
        (
            one("iot:Receive", "ARN:topicfilter/a"),
            one("iot:Receive", "ARN:topic/a"),
        ),
        (
            one(
                "iot:Publish",
                "ARN:topic/${iot:Thing.ThingName}/${iot:clientid}",
            ),
            one(
                "iot:Publish",
                "ARN:topic/${iot:Connection.Thing.ThingName}/${iot:ClientId}",
            ),
        ),
        (
            one("iot:Publish", "ARN:topic/a/#"),
            one("iot:Publish", "ARN:topic/a/*"),
        ),
        (
            one("iot:Publish ", "ARN:topic/a"),
            one("iot:Publish", "ARN:topic/a"),
        ),
        (
            one("iot:Subscribe", "ARN:topicFilter/a$(*)") + &receive,
            one("iot:Subscribe", "ARN:topicfilter/a${*}") + &receive,
        ),
        (
            deny("iot:Publish", "ARN:topic/a/+/#"),
            deny("iot:Publish", "ARN:topic/a/*/*"),
        ),
        // What is not certain stays.
        (
            one("iot:Publish", "ARN:topic/+/a"),
            one("iot:Publish", "ARN:topic/+/a"),
        ),
        (
            one("iot:Publish", "ARN:topic/#"),
            one("iot:Publish", "ARN:topic/#"),
        ),
    ] {
        let (text, expected) = full(&before, &after);
        let fixed = fix(&text, &Request::default(), |_| true);
        assert_eq!(fixed.text, expected);
        assert_eq!(fixed.fixes.is_empty(), before == after);
        let left = lint(&fixed.text, &Request::default());
        for fix in &fixed.fixes {
            let same = |placed: &&Placed| {
                placed.finding.rule == fix.rule && placed.finding.path == fix.path
            };
            assert!(!left.findings.iter().any(|placed| same(&placed)), "{fix:?}");
        }
    }
}

#[test]
fn a_version_is_set_and_put_in() {
    let good = document(&allow("iot:Connect", "ARN:client/THING"));
    let old = good.replace("2012-10-17", "2008-10-17");
    assert_eq!(fix(&old, &Request::default(), |_| true).text, good);
    let none = good.replace(r#""Version":"2012-10-17","#, "");
    assert_eq!(fix(&none, &Request::default(), |_| true).text, good);
    let spread = "{\n  \"Statement\": []\n}";
    assert_eq!(
        fix(spread, &Request::default(), |_| true).text,
        "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": []\n}"
    );
}

const WORDS: [&str; 24] = [
    "arn:aws:iot:eu-west-1:123456789012:topic/",
    "arn:aws:iot:eu-west-1:123456789012:topicfilter/",
    "arn:aws:iot:cn-north-1:1:topicFilter/",
    "client/",
    ":",
    "*",
    "?",
    "#",
    "+",
    "/#",
    "a",
    " ",
    "é",
    "${",
    "}",
    "$(*)",
    "{iot:",
    "${iot:Thing.ThingName}",
    "${iot:clientid}",
    "${iot:Connection.Thing.ThingName}",
    "${iot:Certificate.Subject.Country.9}",
    "\\\"",
    "\\\\",
    "\\u0041",
];

fn words() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(&WORDS[..]);
    proptest::collection::vec(word, 0..6).prop_map(|words| words.concat())
}

proptest! {
    /// Whatever the document, linting it does not panic, every finding has a place, and mending
    /// comes to an end with a document that can be read.
    #[test]
    fn mending_is_done_once(
        actions in proptest::collection::vec(proptest::sample::select(&[
            "iot:Publish", "iot:Subscribe ", "iot:Receive", "iot:Con*", "iot:Nope", "*",
        ][..]), 1..3),
        resources in proptest::collection::vec(words(), 1..4),
        value in words(),
        deny in any::<bool>(),
        old in any::<bool>(),
        cut in proptest::option::weighted(0.1, 0_usize..300),
    ) {
        let effect = if deny { "Deny" } else { "Allow" };
        let version = if old { "" } else { "\"Version\": \"2012-10-17\",\n" };
        let list = |all: &[String]| format!("[\"{}\"]", all.join("\", \""));
        let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "{{ {version} \"Statement\":[{{\"Effect\":\"{effect}\", \"Action\":{}, \"Resource\" : {},\n\
             \"Condition\":{{\"StringEquals\":{{\"iot:ClientId\":\"{value}\"}}}}}}, {} ]}}",
            list(&actions),
            list(&resources),
            allow("iot:Receive", "*"),
        );
        if let Some((at, _)) = cut.and_then(|cut| text.char_indices().nth(cut)) {
            text.truncate(at);
        }
        let request = Request::default();
        for placed in lint(&text, &request).findings {
            prop_assert!(placed.line > Some(0) && placed.finding.remedy.is_some());
        }
        let fixed = fix(&text, &request, |_| true);
        prop_assert_eq!(Document::parse(&text).is_ok(), Document::parse(&fixed.text).is_ok());
        prop_assert_eq!(&fix(&fixed.text, &request, |_| true).text, &fixed.text);
    }
}

/// Documents made to be slow are judged at once.
#[test]
fn bombs_do_no_harm() {
    let begun = std::time::Instant::now();
    let stars = |count: usize| {
        deny(
            "iot:Subscribe",
            &format!("ARN:topicfilter/{}", "*a".repeat(count)),
        )
    };
    let many = |one: String, count: usize| document(&vec![one; count].join(","));
    for text in [
        many(deny("iot:Subscribe", "ARN:topicfilter/a/*"), 10_000),
        many(allow("iot:*", "*"), 100),
        document(
            &[
                stars(1500),
                allow("iot:Subscribe", "*"),
                allow("iot:Receive", "*"),
            ]
            .join(","),
        ),
        many(deny("iot:Subscribe", "*:topicfilter/*a*"), 90),
        document(&allow("iot:Publish", &"${".repeat(3000))),
        document(&allow("iot:Publish", &"${iot:ClientId}".repeat(500))),
        "[".repeat(400_000),
        format!("{{\"{}\":1}}", "a".repeat(400_000)),
    ] {
        let _ = lint(&text, &Request::default());
    }
    // Unoptimised, and beside other tests.
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

#[test]
fn a_name_for_two_statements_is_found() {
    let named = |sid: &str| {
        let plain = allow("iot:Connect", "ARN:client/THING");
        plain.replacen('{', &format!(r#"{{"Sid":"{sid}","#), 1)
    };
    let rules = found(&[named("a"), named("a")].join(","));
    assert!(rules.contains(&"policy.sid-twice"), "{rules:?}");
    let rules = found(&[named("a"), named("b")].join(","));
    assert!(!rules.contains(&"policy.sid-twice"), "{rules:?}");
}
