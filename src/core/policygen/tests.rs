use std::sync::Arc;

use super::*;
use crate::core::isolate::{Fleet, Shared, prove};
use crate::core::policy::{Document, NamedPolicy};

fn options() -> Options {
    Options {
        place: Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        },
        variable: THING_NAME.to_owned(),
        persistent: false,
        will: None,
    }
}

fn wanted(list: &str) -> Wanted {
    let mut wanted = Wanted::default();
    read_list(list, &mut wanted).unwrap();
    wanted
}

fn policies(documents: &[String]) -> Vec<NamedPolicy> {
    let one = |(n, text): (usize, &String)| NamedPolicy {
        name: format!("p{n}"),
        document: Arc::new(Document::parse(text).unwrap()),
    };
    documents.iter().enumerate().map(one).collect()
}

const LIST: &str = "# what a pump does
publish devices/{thing}/telemetry
publish devices/{thing}/state
retain devices/{thing}/state
subscribe devices/{thing}/commands/#
subscribe fleet/+/news
";

#[test]
fn a_list_becomes_a_policy_that_isolates() {
    let documents = generate(&wanted(LIST), &options(), 1).unwrap();
    let text = &documents[0];
    for part in [
        "topic/devices/${iot:Connection.Thing.ThingName}/telemetry\"",
        "topic/devices/${iot:Connection.Thing.ThingName}/commands/*\"",
        "topicfilter/devices/${iot:Connection.Thing.ThingName}/commands/#\"",
        "topicfilter/fleet/+/news\"",
        "topic/fleet/*/news\"",
        "iot:RetainPublish",
        "\"iot:ConnectAttributes\": []",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(documents, generate(&wanted(LIST), &options(), 1).unwrap());
    let policies = policies(&documents);
    let mut fleet = Fleet::new(options().place, &policies);
    assert!(!prove(&fleet).proved());
    fleet.shared = Shared {
        receive: vec!["fleet/#".into()],
        ..Shared::default()
    };
    let found = prove(&fleet);
    assert!(found.proved(), "{found:#?}");
}

#[test]
fn persistence_and_a_will_are_allowed_when_asked_for() {
    let options = Options {
        persistent: true,
        will: Some("devices/{thing}/gone".into()),
        ..options()
    };
    let text = &generate(&wanted(LIST), &options, 1).unwrap()[0];
    for part in [
        "PersistentConnect",
        "LastWill",
        "ArnEqualsIfExists",
        "/gone\"",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn recorded_names_become_the_variable() {
    let record = |event: &str, status: &str, client: &str, topic: &str| {
        format!(
            r#"{{"eventType":"{event}","status":"{status}","clientId":"{client}","topicName":"{topic}","logLevel":"INFO"}}"#
        )
    };
    let log = [
        record("Publish-In", "Success", "pump-1", "devices/pump-1/t"),
        record("Publish-In", "Success", "pump-2", "devices/pump-2/t"),
        record("Subscribe", "Success", "pump-1", "devices/pump-1/#"),
        record("Publish-In", "Failure", "pump-1", "secret"),
        r#"{"eventType":"Connect","status":"Success","clientId":"pump-1"}"#.to_owned(),
    ];
    let mut found = Wanted::default();
    read_traffic(&log.join("\n"), &mut found).unwrap();
    assert_eq!(
        found,
        wanted("publish devices/{thing}/t\nsubscribe devices/{thing}/#")
    );
    assert_eq!(
        read_traffic("nonsense", &mut found).unwrap_err().code(),
        "generate.line"
    );
}

#[test]
fn what_does_not_fit_is_split() {
    let mut many = Wanted::default();
    for n in 0..60 {
        many.publish
            .insert(format!("devices/{{thing}}/channel-{n}"));
    }
    let error = generate(&many, &options(), 1).unwrap_err();
    assert_eq!(error.code(), "generate.size");
    let documents = generate(&many, &options(), MAX_POLICIES).unwrap();
    assert!(documents.len() > 1);
    let policies = policies(&documents);
    assert!(prove(&Fleet::new(options().place, &policies)).proved());
}

#[test]
fn odd_topics_are_refused_or_escaped() {
    for bad in ["publish a+", "subscribe #/a", "sing a", "publish"] {
        let mut wanted = Wanted::default();
        let read = read_list(bad, &mut wanted);
        assert!(
            read.is_err() || generate(&wanted, &options(), 1).is_err(),
            "{bad}"
        );
    }
    assert_eq!(
        generate(&Wanted::default(), &options(), 1),
        Err(GenerateError::Empty)
    );
    assert_eq!(
        pattern("a*b?${x}{thing}", &options()),
        "a${*}b${?}${$}{x}${iot:Connection.Thing.ThingName}"
    );
}
