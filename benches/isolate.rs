//! How long it takes to prove that a policy of 2 048 characters isolates: `policy.isolate_ms`, the
//! median of several runs; and how long a policy takes whose search meets the limit.
//!
//! The last lines are `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and stops when it cannot"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nameplate::core::ids::Place;
use nameplate::core::isolate::{Fleet, prove};
use nameplate::core::policy::{Document, MAX_CHARACTERS, NamedPolicy};

const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";
const NAME: &str = "${iot:Connection.Thing.ThingName}";
const RUNS: usize = 9;

fn main() {
    let full = policy(&full());
    let wild = policy(&wild());
    println!("figure policy.isolate_ms {:.1} ms", median(&full, true));
    println!(
        "figure policy.isolate_limit_ms {:.1} ms",
        median(&wild, false)
    );
}

fn median(policies: &[NamedPolicy], proved: bool) -> f64 {
    let place = Place {
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
    };
    let fleet = Fleet::new(place, policies);
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            let verdict = prove(black_box(&fleet));
            assert_eq!(verdict.proved(), proved);
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

fn policy(statements: &str) -> Vec<NamedPolicy> {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    vec![NamedPolicy {
        name: "policy".into(),
        document: Arc::new(Document::parse(&text).unwrap()),
    }]
}

fn allow(actions: &str, resources: &[String]) -> String {
    let resources = resources.join(r#"",""#);
    format!(r#"{{"Effect":"Allow","Action":[{actions}],"Resource":["{resources}"]}}"#)
}

/// As many topics as a policy has room for.
fn full() -> String {
    let with = |count: usize| {
        let of = |kind: &str| -> Vec<String> {
            let one = |n| format!("{ARN}{kind}/d/{NAME}/c{n}/*");
            (0..count).map(one).collect()
        };
        [
            allow(r#""iot:Connect""#, &[format!("{ARN}client/{NAME}")]),
            allow(r#""iot:Publish","iot:Receive""#, &of("topic")),
            allow(r#""iot:Subscribe""#, &of("topicfilter")),
        ]
        .join(",")
    };
    // The document around the statements takes up 41 characters.
    let fits = |count: &usize| with(*count).len() + 41 <= MAX_CHARACTERS;
    with((1..100).take_while(fits).last().unwrap())
}

/// Wildcards and names without end.
fn wild() -> String {
    let topic = format!("{ARN}topic/*a{}b{NAME}*c?*{NAME}", "?".repeat(600));
    let receive = format!("{ARN}topic/*a*a*a*a*a?????????????*b");
    let filter = format!("{ARN}topicfilter/*+*a*??*a*????????");
    [
        allow(r#""iot:Connect""#, &[format!("{ARN}client/{NAME}")]),
        allow(r#""iot:Publish""#, &[topic]),
        allow(r#""iot:Receive""#, &[receive]),
        allow(r#""iot:Subscribe""#, &[filter]),
    ]
    .join(",")
}
