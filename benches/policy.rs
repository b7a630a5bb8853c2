//! What a policy decision costs, on one core: the shipped device policy, compiled for a connection
//! as the sandbox does (`policy.decisions_per_s`), beside the plain evaluation that says why, and
//! what compiling costs. The last lines are `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and stops when it cannot"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nameplate::core::ids::Place;
use nameplate::core::policy::{
    Action, Compiled, Document, Facts, NamedPolicy, Request, Scene, ThingFacts, decide,
};
use nameplate::core::template::shipped;

/// What a device asks in its day, and what it is told: its own topics, and now and then another's.
const ASKED: [(Action, &str, bool); 8] = [
    (Action::Connect, "pump-0001", true),
    (Action::Publish, "devices/pump-0001/telemetry", true),
    (Action::Publish, "$aws/things/pump-0001/shadow/update", true),
    (Action::Receive, "devices/pump-0001/commands/7", true),
    (
        Action::Receive,
        "$aws/things/pump-0001/jobs/notify-next",
        true,
    ),
    (Action::Subscribe, "devices/pump-0001/commands/+", true),
    (Action::Publish, "devices/pump-0002/telemetry", false),
    (Action::Subscribe, "devices/#", false),
];

fn main() {
    let runs = number("NAMEPLATE_BENCH_RUNS", 5);
    let rounds = number("NAMEPLATE_BENCH_ROUNDS", 500_000);
    let place = Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    let policies = [policy(&place)];
    let attributes = BTreeMap::new();
    let facts = facts(&attributes);
    let asked: Vec<(Action, String, bool)> = ASKED
        .iter()
        .map(|(action, name, yes)| (*action, action.resource(&place, name), *yes))
        .collect();
    let compiled = Compiled::new(&policies, &facts);
    let with_compiled = |request: Request<'_>| compiled.allows(request);
    let plainly = |request: Request<'_>| decide(&policies, &facts, request).allowed();
    let mut per_s: [Vec<f64>; 3] = Default::default();
    for run in 1..=runs {
        per_s[0].push(rate(&asked, rounds, &with_compiled));
        per_s[1].push(rate(&asked, rounds / 50, &plainly));
        per_s[2].push(compiles(&policies, &facts, rounds / 50));
        println!(
            "run {run}: {:.0} compiled, {:.0} plain decisions/s, {:.0} connections compiled/s",
            per_s[0][run - 1],
            per_s[1][run - 1],
            per_s[2][run - 1]
        );
    }
    let [decisions, plain, connections] = per_s.map(median);
    println!("figure policy.compile_us {:.2} us", 1e6 / connections);
    println!("figure policy.plain_per_s {plain:.0} 1/s");
    println!("figure policy.decisions_per_s {decisions:.0} 1/s");
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn policy(place: &Place) -> NamedPolicy {
    let text = shipped().iter().find_map(|one| one.policy_for(place));
    NamedPolicy {
        name: "device".into(),
        document: Arc::new(Document::parse(&text.unwrap()).unwrap()),
    }
}

fn facts(attributes: &BTreeMap<String, String>) -> Facts {
    let thing = ThingFacts {
        name: "pump-0001",
        type_name: None,
        attributes,
    };
    Scene {
        client_id: "pump-0001",
        thing: Some(thing),
        source_ip: Some("192.0.2.7".parse().unwrap()),
        ..Scene::default()
    }
    .facts()
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(
    asked: &[(Action, String, bool)],
    rounds: usize,
    decide: &dyn Fn(Request<'_>) -> bool,
) -> f64 {
    let begun = Instant::now();
    for _ in 0..rounds {
        for (action, resource, yes) in asked {
            let request = Request {
                action: *action,
                resource: black_box(resource),
            };
            assert_eq!(decide(request), *yes, "{resource}");
        }
    }
    (rounds * asked.len()) as f64 / begun.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn compiles(policies: &[NamedPolicy], facts: &Facts, rounds: usize) -> f64 {
    let begun = Instant::now();
    for _ in 0..rounds {
        black_box(Compiled::new(black_box(policies), black_box(facts)));
    }
    rounds as f64 / begun.elapsed().as_secs_f64()
}
