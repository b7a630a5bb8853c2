//! Laws that hold for every policy, fact and request.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const PIECES: [&str; 15] = [
    "a",
    "b",
    "/",
    "*",
    "?",
    "+",
    "#",
    "${*}",
    "${?}",
    "${iot:ClientId}",
    "${iot:Connection.Thing.ThingName}",
    "${iot:Connection.Thing.Attributes[k]}",
    "${iot:Certificate.Subject.CommonName}",
    "${aws:SourceIp}",
    "${nonsense}",
];

const ACTIONS: [&str; 8] = [
    "iot:Connect",
    "iot:Publish",
    "iot:pub*",
    "iot:?ublish",
    "iot:*",
    "*",
    "iot:Subscribe",
    "iot:GetThingShadow",
];

const CONDITIONS: [&str; 12] = [
    r"{}",
    r#"{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}"#,
    r#"{"Bool":{"iot:Connection.Thing.IsAttached":"false"}}"#,
    r#"{"StringEquals":{"iot:ClientId":["${iot:Connection.Thing.ThingName}","a"]}}"#,
    r#"{"StringNotEquals":{"iot:ClientId":"a"}}"#,
    r#"{"StringLike":{"iot:Certificate.Subject.CommonName":"a*"}}"#,
    r#"{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["LastWill"]}}"#,
    r#"{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":"LastWill"}}"#,
    r#"{"Null":{"iot:Certificate.Subject.CommonName":"true"}}"#,
    r#"{"StringEqualsIfExists":{"iot:Connection.Thing.Attributes[k]":"v"}}"#,
    r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"},"StringLike":{"iot:ClientId":"*"}}"#,
    r#"{"ArnLike":{"iot:LastWillTopic":"arn:*:iot:*:1:topic/a*"}}"#,
];

fn statement() -> impl Strategy<Value = String> {
    let effect = prop_oneof![Just("Allow"), Just("Deny")];
    let word = proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..5);
    let words = proptest::collection::vec(word.prop_map(|pieces| pieces.concat()), 1..3);
    let action = proptest::sample::select(&ACTIONS[..]);
    let condition = proptest::sample::select(&CONDITIONS[..]);
    let not = (prop::bool::weighted(0.15), prop::bool::weighted(0.15));
    let parts = (effect, action, words, condition, not);
    parts.prop_map(|(effect, action, words, condition, (not_action, not_resource))| {
        let not = |yes| if yes { "Not" } else { "" };
        format!(
            r#"{{"Effect":"{effect}","{}Action":"{action}","{}Resource":{},"Condition":{condition}}}"#,
            not(not_action),
            not(not_resource),
            serde_json::to_string(&words).unwrap()
        )
    })
}

fn policy(statements: &[String]) -> NamedPolicy {
    let list = statements.join(",");
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{list}]}}"#);
    NamedPolicy {
        name: "p".into(),
        document: Arc::new(Document::parse_any_size(&text).unwrap()),
    }
}

fn facts() -> impl Strategy<Value = Facts> {
    let client = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("+"), Just("*")];
    let name = proptest::option::of(prop_oneof![Just("a"), Just("a+b")]);
    let thing = proptest::option::of(proptest::option::of(Just("v")));
    let features = proptest::option::of(Just(["LastWill"]));
    (client, name, thing, features, any::<bool>()).prop_map(
        |(client, name, thing, features, inside)| {
            let mut facts = Facts::new(client);
            if let Some(attribute) = thing {
                let mut attributes = BTreeMap::new();
                attributes.extend(attribute.map(|v| ("k".to_owned(), v.to_owned())));
                facts = facts.thing(ThingFacts {
                    name: client,
                    type_name: None,
                    attributes: &attributes,
                });
            }
            if let Some(name) = name {
                let key = "iot:Certificate.Subject.CommonName";
                facts = facts.with(key, vec![name.to_owned()]);
            }
            if let Some(features) = features {
                facts = facts.connect_attributes(&features);
            }
            let ip = if inside { "10.0.0.1" } else { "192.0.2.1" };
            facts.source_ip(ip.parse().unwrap())
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    (0..Action::COUNT).prop_map(|n| Action::all().nth(n).unwrap())
}

proptest! {
    #[test]
    fn compiled_and_traced_decisions_are_the_plain_ones(
        first in proptest::collection::vec(statement(), 0..4),
        second in proptest::collection::vec(statement(), 0..3),
        facts in facts(),
        action in action(),
        resource in "[ab/+#*?]{0,5}",
    ) {
        let policies = [policy(&first), policy(&second)];
        let request = Request { action, resource: &resource };
        let plain = decide(&policies, &facts, request);
        let verdict = Compiled::new(&policies, &facts).decide(request);
        prop_assert_eq!(verdict.outcome, plain.outcome);
        let by = plain.because.first().map(|reason| reason.statement);
        prop_assert_eq!(verdict.by.map(|by| by.statement), by);
        let effects: Vec<Effect> = examine(&policies, &facts, request)
            .iter()
            .filter(|one| one.matches())
            .map(|one| one.statement.effect)
            .collect();
        let traced = if effects.contains(&Effect::Deny) {
            Outcome::ExplicitDeny
        } else if effects.is_empty() {
            Outcome::ImplicitDeny
        } else {
            Outcome::Allowed
        };
        prop_assert_eq!(traced, plain.outcome);
    }

    #[test]
    fn order_never_matters_allows_only_add_and_denies_win(
        statements in proptest::collection::vec(statement(), 1..5),
        turn in 0_usize..5,
        facts in facts(),
        action in action(),
        resource in "[ab/+#*?]{0,5}",
    ) {
        let request = Request { action, resource: &resource };
        let outcome = |statements: &[String]| {
            decide(&[policy(statements)], &facts, request).outcome
        };
        let before = outcome(&statements);
        let mut turned = statements.clone();
        turned.rotate_left(turn % statements.len());
        prop_assert_eq!(outcome(&turned), before);
        turned.reverse();
        prop_assert_eq!(outcome(&turned), before);
        let apart: Vec<NamedPolicy> =
            statements.iter().map(|one| policy(std::slice::from_ref(one))).collect();
        prop_assert_eq!(decide(&apart, &facts, request).outcome, before);

        let with = |more: &str| {
            let mut all = statements.clone();
            all.push(more.to_owned());
            outcome(&all)
        };
        let allow = with(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
        let expected = match before {
            Outcome::ExplicitDeny => Outcome::ExplicitDeny,
            _ => Outcome::Allowed,
        };
        prop_assert_eq!(allow, expected);
        let deny = with(r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#);
        prop_assert_eq!(deny, Outcome::ExplicitDeny);
    }
}

/// Documents made to be slow are decided, or refused, at once.
#[test]
fn bombs_do_no_harm() {
    let begun = std::time::Instant::now();
    let nested = format!(r#"{{"Statement":{}"#, "[".repeat(100_000));
    assert!(Document::parse_any_size(&nested).is_err());
    let huge = format!(r#"{{"Id":"{}","Statement":[]}}"#, "x".repeat(500_000));
    assert!(matches!(
        Document::parse_any_size(&huge),
        Err(PolicyError::Size(_))
    ));
    let one = r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#;
    let many = vec![one; 8000].join(",");
    let many = format!(r#"{{"Version":"2012-10-17","Statement":[{many}]}}"#);
    let stars = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"iot:{}t","Resource":["{}b","{}"]}}}}"#,
        "*o".repeat(50_000),
        "*a".repeat(50_000),
        "${iot:ClientId}*".repeat(4000),
    );
    for text in [many, stars] {
        let policies = [NamedPolicy {
            name: "p".into(),
            document: Arc::new(Document::parse_any_size(&text).unwrap()),
        }];
        let facts = Facts::new(&"a".repeat(128));
        let resource = "a".repeat(2000);
        let request = Request {
            action: Action::Connect,
            resource: &resource,
        };
        let compiled = Compiled::new(&policies, &facts);
        let plain = decide(&policies, &facts, request);
        assert_eq!(compiled.decide(request).outcome, plain.outcome);
    }
    // Unoptimised, and beside other tests.
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}
