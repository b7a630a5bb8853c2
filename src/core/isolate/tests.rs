use std::sync::Arc;

use super::*;
use crate::core::policy::{Document, Facts, Request, decide};

const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";

fn place() -> Place {
    Place {
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
    }
}

fn policy(statements: &str) -> Vec<NamedPolicy> {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    let text = text
        .replace("ARN:", ARN)
        .replace("NAME", "${iot:Connection.Thing.ThingName}");
    vec![NamedPolicy {
        name: "p".into(),
        document: Arc::new(Document::parse_any_size(&text).unwrap()),
    }]
}

fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":"iot:{action}","Resource":"ARN:{resource}"}}"#)
}

const CONNECT: &str = r#"{"Effect":"Allow","Action":"iot:Connect","Resource":"ARN:client/NAME"}"#;

fn verdict(statements: &str) -> Verdict {
    let policies = policy(statements);
    prove(&Fleet::new(place(), &policies))
}

#[test]
fn awss_own_policy_isolates() {
    let found = verdict(CONNECT);
    assert!(found.proved(), "{found:#?}");
}

#[test]
fn any_client_id_does_not() {
    let found = verdict(&allow("Connect", "client/*"));
    assert_eq!(found.counterexamples.len(), 1, "{found:#?}");
    assert_eq!(found.counterexamples[0].reach, Reach::Connect);
}

/// What a device needs to publish, receive and subscribe to some topics.
fn uses(resource: &str) -> String {
    let of = |action: &str, kind: &str| allow(action, &format!("{kind}/{resource}"));
    [
        of("Publish", "topic"),
        of("Receive", "topic"),
        of("Subscribe", "topicfilter"),
    ]
    .join(",")
}

fn reaches(found: &Verdict) -> Vec<Reach> {
    assert!(found.doubts.is_empty(), "{found:#?}");
    found.counterexamples.iter().map(|one| one.reach).collect()
}

#[test]
fn the_usual_policies_are_decided() {
    use Reach::{PublishAs, PublishTo, ReceiveAs};
    const ALL: &[Reach] = &[PublishAs, PublishTo, ReceiveAs];
    let deny = |action: &str, key: &str, resource: &str| {
        format!(r#"{{"Effect":"Deny","Action":"iot:{action}","{key}":"ARN:{resource}"}}"#)
    };
    for (statements, expected) in [
        (uses("d/NAME/*"), &[][..]),
        (uses("$aws/things/NAME/shadow/*"), &[]),
        (uses("NAME"), &[]),
        (uses("d/*/NAME"), &[]),
        (uses("d/NAME*"), ALL),
        (uses("d/pump-NAME/*"), &[]),
        (uses("d/NAME-x"), &[]),
        (uses("*/NAME/*"), ALL),
        (uses("d/${iot:ClientId}/*"), &[]),
        (uses("d/*"), ALL),
        // `+` is no part of a topic.
        (uses("d/+/x"), &[]),
        (allow("Publish", "topic/d/*"), &[PublishAs]),
        // Received only where it is subscribed to.
        (allow("Receive", "topic/*"), &[]),
        (
            [
                allow("Receive", "topic/*"),
                allow("Subscribe", "topicfilter/d/NAME/*"),
            ]
            .join(","),
            &[],
        ),
        (
            [
                allow("Receive", "topic/*"),
                allow("Subscribe", "topicfilter/d/*"),
            ]
            .join(","),
            &[ReceiveAs],
        ),
        // The filter `#` is one of those that `topicfilter/*` allows.
        (
            [
                allow("Receive", "topic/d/NAME"),
                allow("Subscribe", "topicfilter/*"),
            ]
            .join(","),
            &[],
        ),
        // Denied what is not its own.
        (
            [
                uses("d/*"),
                deny("Publish", "NotResource", "topic/*/NAME/*"),
            ]
            .join(","),
            ALL,
        ),
        (
            format!(
                r#"{},{{"Effect":"Deny","Action":["iot:Publish","iot:Receive"],"NotResource":"ARN:topic/d/NAME/*"}}"#,
                uses("d/*")
            ),
            &[],
        ),
        (
            [uses("d/*"), deny("*", "Resource", "topic/*")].join(","),
            &[],
        ),
        (
            [uses("d/*"), deny("Publish", "Resource", "topic/*")].join(","),
            &[ReceiveAs],
        ),
        (
            [uses("d/*"), deny("Receive", "Resource", "topic/d/*")].join(","),
            &[PublishAs],
        ),
        // A Deny of a filter does not take away what a wider filter reaches.
        (
            [
                uses("d/*"),
                deny("Subscribe", "Resource", "topicfilter/d/*"),
                deny("Publish", "Resource", "*"),
            ]
            .join(","),
            &[],
        ),
        (
            [
                uses("d/*"),
                deny("Subscribe", "Resource", "topicfilter/d/x"),
                deny("Publish", "Resource", "*"),
            ]
            .join(","),
            &[ReceiveAs],
        ),
    ] {
        let found = verdict(&format!("{CONNECT},{statements}"));
        assert_eq!(reaches(&found), expected, "{statements}\n{found:#?}");
    }
}

fn levels(filter: &[&str], topic: &[&str]) -> bool {
    match (filter.split_first(), topic.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => rest.is_empty(),
        (Some((wanted, f)), Some((level, t))) => {
            (*wanted == "+" || (wanted == level && !level.contains(['+', '#']))) && levels(f, t)
        }
        _ => false,
    }
}

/// Filters match topics as the MQTT standard has it (4.7), written by itself.
fn mqtt_matches(filter: &str, topic: &str) -> bool {
    let filter = match filter.strip_prefix("$share/") {
        Some(rest) => match rest.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => filter,
            _ => return false,
        },
        None => filter,
    };
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels(&filter, &topic)
}

fn words(alphabet: &str, longest: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..longest {
        let to = all.len();
        for n in from..to {
            for c in alphabet.chars() {
                let longer = format!("{}{c}", all[n]);
                all.push(longer);
            }
        }
        from = to;
    }
    all.remove(0);
    all
}

/// What one device may do, by asking the engine for everything.
struct Brute {
    clients: BTreeSet<String>,
    publishes: BTreeSet<String>,
    receives: BTreeSet<String>,
}

struct World {
    names: Vec<String>,
    clients: Vec<String>,
    topics: Vec<String>,
    filters: Vec<String>,
    /// Which topics each filter matches.
    matched: Vec<Vec<usize>>,
}

impl World {
    fn new() -> Self {
        let topics = words("ab/", 3);
        let mut filters = words("ab/+#", 3);
        let valid = |filter: &String| {
            let levels: Vec<&str> = filter.split('/').collect();
            levels.iter().enumerate().all(|(n, level)| {
                let plain = !level.contains(['+', '#']);
                plain || *level == "+" || (*level == "#" && n + 1 == levels.len())
            })
        };
        filters.retain(valid);
        let matched = filters.iter().map(|filter| {
            let hit = topics
                .iter()
                .enumerate()
                .filter(|(_, topic)| mqtt_matches(filter, topic));
            hit.map(|(n, _)| n).collect()
        });
        Self {
            names: ["a", "b", "aa", "ab"].map(str::to_owned).to_vec(),
            clients: words("ab/+*", 2),
            matched: matched.collect(),
            topics,
            filters,
        }
    }

    fn device(&self, policies: &[NamedPolicy], name: &str, exclusive: bool) -> Brute {
        let mut found = Brute {
            clients: BTreeSet::new(),
            publishes: BTreeSet::new(),
            receives: BTreeSet::new(),
        };
        for client in &self.clients {
            let mut facts = Facts::new(client);
            if exclusive || client == name {
                let one = |text: &str| vec![text.to_owned()];
                facts = facts
                    .with("iot:Connection.Thing.IsAttached", one("true"))
                    .with("iot:Connection.Thing.ThingName", one(name));
            }
            let may = |action: Action, name: &str| {
                let resource = action.resource(&place(), name);
                decide(
                    policies,
                    &facts,
                    Request {
                        action,
                        resource: &resource,
                    },
                )
                .allowed()
            };
            if !may(Action::Connect, client) {
                continue;
            }
            found.clients.insert(client.clone());
            let publishes = self
                .topics
                .iter()
                .filter(|topic| may(Action::Publish, topic));
            found.publishes.extend(publishes.cloned());
            let mut reached = vec![false; self.topics.len()];
            for (n, filter) in self.filters.iter().enumerate() {
                if self.matched[n].iter().any(|t| !reached[*t]) && may(Action::Subscribe, filter) {
                    self.matched[n].iter().for_each(|t| reached[*t] = true);
                }
            }
            let receives = self.topics.iter().zip(&reached);
            let receives = receives.filter(|(topic, yes)| **yes && may(Action::Receive, topic));
            found
                .receives
                .extend(receives.map(|(topic, _)| topic.clone()));
        }
        found
    }

    /// What any two devices share.
    fn overlaps(&self, policies: &[NamedPolicy], exclusive: bool) -> BTreeMap<Reach, String> {
        let devices: Vec<Brute> = self
            .names
            .iter()
            .map(|name| self.device(policies, name, exclusive))
            .collect();
        let mut found = BTreeMap::new();
        for (a, one) in devices.iter().enumerate() {
            for (b, two) in devices.iter().enumerate().filter(|(b, _)| *b != a) {
                for (reach, x, y) in [
                    (Reach::Connect, &one.clients, &two.clients),
                    (Reach::PublishAs, &one.publishes, &two.publishes),
                    (Reach::PublishTo, &one.publishes, &two.receives),
                    (Reach::ReceiveAs, &one.receives, &two.receives),
                ] {
                    let word = x.intersection(y).next();
                    if let Some(word) = word {
                        let (a, b) = (&self.names[a], &self.names[b]);
                        found
                            .entry(reach)
                            .or_insert_with(|| format!("{a} {b}: {word}"));
                    }
                }
            }
        }
        found
    }
}

/// A small generator of pseudo-random numbers (PCG's multiplier and increment).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }

    fn resource(&mut self, levels: bool) -> String {
        let mut text = String::new();
        if levels {
            for n in 0..=self.roll(3) {
                if n > 0 {
                    text.push('/');
                }
                text += self.pick(&["a", "b", "aa", "NAME", "NAME", "*", "${iot:ClientId}"]);
            }
        } else {
            for _ in 0..=self.roll(4) {
                text += self.pick(&[
                    "a",
                    "b",
                    "/",
                    "/",
                    "*",
                    "?",
                    "+",
                    "#",
                    "NAME",
                    "NAME",
                    "${iot:ClientId}",
                ]);
            }
        }
        text
    }

    fn statement(&mut self, levels: bool) -> String {
        let effect = self.pick(&["Allow", "Allow", "Allow", "Allow", "Deny"]);
        let (actions, kind) = match self.roll(7) {
            0 => (r#""iot:Connect""#, "client"),
            1 | 2 => (r#""iot:Publish""#, "topic"),
            3 => (r#"["iot:Publish","iot:Receive"]"#, "topic"),
            4 => (r#""iot:Receive""#, "topic"),
            5 => (r#""iot:Subscribe""#, "topicfilter"),
            _ => (r#""iot:*""#, self.pick(&["topic", "topicfilter", "client"])),
        };
        let key = self.pick(&[
            "Resource",
            "Resource",
            "Resource",
            "Resource",
            "NotResource",
        ]);
        let count = 1 + self.roll(2);
        let resources: Vec<String> = (0..count)
            .map(|_| format!("\"ARN:{kind}/{}\"", self.resource(levels)))
            .collect();
        let condition = match self.roll(14) {
            0 => r#","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}"#,
            1 => r#","Condition":{"StringEquals":{"iot:ClientId":"NAME"}}"#,
            2 => r#","Condition":{"StringEquals":{"iot:ClientId":["a","b"]}}"#,
            3 => r#","Condition":{"StringNotEquals":{"iot:Connection.Thing.ThingName":"a"}}"#,
            _ => "",
        };
        let resources = resources.join(",");
        format!(r#"{{"Effect":"{effect}","Action":{actions},"{key}":[{resources}]{condition}}}"#)
    }

    fn statements(&mut self, levels: bool) -> String {
        let mut all = Vec::new();
        if self.roll(4) > 0 {
            all.push(CONNECT.to_owned());
        }
        for _ in 0..=self.roll(4) {
            all.push(self.statement(levels));
        }
        all.join(",")
    }
}

/// Compares the proof with the brute force; how many were proved, disproved and left in doubt.
fn compare(rounds: usize, levels: bool) -> [usize; 3] {
    let world = World::new();
    let mut dice = Dice(if levels { 11 } else { 7 });
    let mut tally = [0; 3];
    for _ in 0..rounds {
        let statements = dice.statements(levels);
        let exclusive = dice.roll(4) == 0;
        let policies = policy(&statements);
        let expected = world.overlaps(&policies, exclusive);
        for names in [Names::Listed(world.names.clone()), Names::All] {
            let mut sorted = names.clone();
            if let Names::Listed(list) = &mut sorted {
                list.sort();
            }
            let fleet = Fleet {
                names: sorted,
                exclusive,
                ..Fleet::new(place(), &policies)
            };
            let found = prove(&fleet);
            for doubt in &found.doubts {
                println!("left open: {doubt:?} {names:?} exclusive {exclusive}\n  {statements}");
            }
            for reach in [
                Reach::Connect,
                Reach::PublishAs,
                Reach::PublishTo,
                Reach::ReceiveAs,
            ] {
                let yes = found.counterexamples.iter().find(|one| one.reach == reach);
                let doubt = found.doubts.iter().find(|one| one.reach == reach);
                let overlap = expected.get(&reach);
                assert!(
                    overlap.is_none() || yes.is_some() || doubt.is_some(),
                    "{reach:?} {names:?} exclusive {exclusive}: proved, but {overlap:?}\n{statements}"
                );
                if let Some(one) = yes {
                    bears_out(&policies, &fleet, one);
                }
                tally[if doubt.is_some() {
                    2
                } else {
                    usize::from(yes.is_some())
                }] += 1;
            }
        }
    }
    tally
}

/// A counterexample is what it says it is.
fn bears_out(policies: &[NamedPolicy], fleet: &Fleet<'_>, found: &Counterexample) {
    let [one, two] = &found.devices;
    assert_ne!(one.thing, two.thing);
    for device in &found.devices {
        if let Names::Listed(list) = &fleet.names {
            assert!(list.contains(&device.thing));
        }
        let mut facts = Facts::new(&device.client_id);
        assert_eq!(
            device.attached,
            fleet.exclusive || device.client_id == device.thing
        );
        if device.attached {
            let one = |text: &str| vec![text.to_owned()];
            facts = facts
                .with("iot:Connection.Thing.IsAttached", one("true"))
                .with("iot:Connection.Thing.ThingName", one(&device.thing));
        }
        for packet in &device.packets {
            let action = Action::parse(packet.action).unwrap();
            let request = Request {
                action,
                resource: &packet.resource,
            };
            assert!(decide(policies, &facts, request).allowed(), "{found:#?}");
            if action == Action::Subscribe {
                assert!(mqtt_matches(&packet.name, &found.shared), "{found:#?}");
            }
        }
        assert_eq!(device.packets[0].name, device.client_id);
        if device.packets.len() > 1 {
            assert_eq!(device.packets.last().unwrap().name, found.shared);
        }
    }
}

#[test]
fn brute_force_agrees_on_whole_levels_without_doubts() {
    let [proved, disproved, doubts] = compare(rounds(), true);
    assert!(
        proved > rounds() && disproved > rounds() / 2,
        "{proved} {disproved}"
    );
    // None, but for what the limit of the search leaves: one answer in a thousand.
    assert!(doubts * 1000 <= proved + disproved, "{doubts}");
}

#[test]
fn brute_force_agrees_on_parts_of_levels() {
    let [proved, disproved, doubts] = compare(rounds(), false);
    assert!(
        proved > rounds() && disproved > rounds() / 2,
        "{proved} {disproved}"
    );
    assert!(doubts * 100 < proved + disproved, "{doubts}");
}

const SELF: &str = "${iot:ClientId}";

#[test]
fn client_ids_that_are_not_pinned_are_decided() {
    let named =
        |values: &str| format!(r#""Condition":{{"StringEquals":{{"iot:ClientId":{values}}}}}"#);
    let connect = |pattern: &str, condition: &str| {
        let comma = if condition.is_empty() { "" } else { "," };
        format!(
            r#"{{"Effect":"Allow","Action":"iot:Connect","Resource":"ARN:client/{pattern}"{comma}{condition}}}"#
        )
    };
    for (statements, expected) in [
        // A client id is not longer than itself, and always like itself.
        (connect(&format!("{SELF}/*"), ""), &[][..]),
        (connect(&format!("a/{SELF}"), ""), &[]),
        (connect(&format!("pump-{SELF}"), ""), &[]),
        (connect(SELF, ""), &[Reach::Connect]),
        (connect(&format!("*{SELF}"), ""), &[Reach::Connect]),
        (connect(&format!("{SELF}{SELF}"), ""), &[Reach::Connect]),
        (
            format!(
                r#"{{"Effect":"Allow","Action":"iot:Connect","NotResource":"ARN:client/{SELF}"}}"#
            ),
            &[],
        ),
        // What a condition compares with is all that there is.
        (connect("*", &named(r#""NAME""#)), &[]),
        (connect("*", &named(r#"["a","b"]"#)), &[Reach::Connect]),
        (connect("a/*", &named(r#""b""#)), &[]),
        (
            [
                connect("*", &named(r#""NAME""#)),
                allow("Publish", &format!("topic/{SELF}/x")),
            ]
            .join(","),
            &[],
        ),
        // A device must not connect as itself: it does not connect.
        (
            format!(
                r#"{CONNECT},{{"Effect":"Deny","Action":"iot:*","Resource":"ARN:client/*NAME"}},{}"#,
                allow("Publish", "topic/x")
            ),
            &[],
        ),
    ] {
        assert_eq!(reaches(&verdict(&statements)), expected, "{statements}");
    }
}

#[test]
fn a_client_id_of_one_character_can_be_a_star() {
    let one = policy(
        &[
            allow("Connect", "client/?"),
            allow("Publish", "topic/${iot:ClientId}"),
        ]
        .join(","),
    );
    let other = policy(&[CONNECT.to_owned(), allow("Publish", "topic/plant/valve")].join(","));
    let mut fleet = Fleet::new(place(), &one);
    fleet.other = Some(&other);
    let found = prove(&fleet);
    assert!(
        found
            .counterexamples
            .iter()
            .any(|one| one.reach == Reach::PublishAs),
        "{found:#?}"
    );
}

#[test]
fn a_long_list_of_names_takes_no_more_than_any_names() {
    let policies = policy(&format!("{CONNECT},{}", uses("d/NAME/*")));
    let any = prove(&Fleet::new(place(), &policies));
    let mut fleet = Fleet::new(place(), &policies);
    fleet.names = Names::listed((0..50_000).map(|n| format!("pump-{n:05}")).collect()).unwrap();
    let listed = prove(&fleet);
    assert!(any.proved() && listed.proved(), "{listed:#?}");
    assert_eq!(any.steps, listed.steps);
}

#[test]
fn what_a_long_list_has_of_beginnings_and_ends_decides() {
    let fleet = |topic: &str, names: Vec<String>| {
        let policies = policy(&format!("{CONNECT},{}", allow("Publish", topic)));
        let fleet = Fleet {
            names: Names::listed(names).unwrap(),
            ..Fleet::new(place(), &policies)
        };
        prove(&fleet)
    };
    let even = || (0..40_000).map(|n| format!("pump-{n:05}"));
    for topic in ["topic/d/NAME*", "topic/d/*NAME", "topic/NAME-*/x"] {
        let found = fleet(topic, even().collect());
        assert!(found.proved(), "{topic} {:#?}", found.doubts);
        // Two of so many are found at once.
        for odd in ["pump-012345", "1pump-01234"] {
            let odd = if topic == "topic/NAME-*/x" {
                "pump-01234-5"
            } else {
                odd
            };
            let found = fleet(topic, even().chain([odd.to_owned()]).collect());
            let ends = topic.ends_with("*NAME") == odd.starts_with('1');
            let wanted: &[Reach] = if ends { &[Reach::PublishAs] } else { &[] };
            assert_eq!(reaches(&found), wanted, "{topic} {odd} {:#?}", found.doubts);
        }
    }
}

#[test]
fn one_pattern_with_one_name_tells_devices_apart() {
    for topic in ["NAME${iot:ClientId}", "NAMENAMEa?", "?NAMENAME/NAME"] {
        let found = verdict(&format!(
            "{CONNECT},{}",
            allow("Publish", &format!("topic/{topic}"))
        ));
        assert!(found.proved(), "{topic} {found:#?}");
    }
    let found = verdict(&format!(
        "{CONNECT},{}",
        allow("Publish", "topic/NAME*NAME")
    ));
    assert_eq!(reaches(&found), [Reach::PublishAs]);
}

/// How many random policies; more with `ISOLATE_ROUNDS=5000`, best in a release build.
fn rounds() -> usize {
    let set = std::env::var("ISOLATE_ROUNDS").ok();
    set.and_then(|rounds| rounds.parse().ok()).unwrap_or(12)
}

/// What a device does with a topic and a filter: publishes to it, receives it.
fn deeds(policies: &[NamedPolicy], name: &str, topic: &str, filter: &str) -> [bool; 2] {
    let one = |text: &str| vec![text.to_owned()];
    let facts = Facts::new(name)
        .with("iot:Connection.Thing.IsAttached", one("true"))
        .with("iot:Connection.Thing.ThingName", one(name));
    let may = |action: Action, name: &str| {
        let resource = action.resource(&place(), name);
        let request = Request {
            action,
            resource: &resource,
        };
        decide(policies, &facts, request).allowed()
    };
    let receives = mqtt_matches(filter, topic)
        && may(Action::Receive, topic)
        && may(Action::Subscribe, filter);
    [may(Action::Publish, topic), receives]
}

#[test]
fn random_packets_never_contradict_a_proof() {
    let statements = [
        CONNECT.to_owned(),
        uses("d/NAME/*"),
        uses("$aws/things/NAME/shadow/*"),
        uses("d/*/NAME"),
    ];
    let policies = policy(&statements.join(","));
    // `d/NAME/*` and `d/*/NAME` meet in `d/a/b`: the proof must say so, and not without the last.
    assert!(!prove(&Fleet::new(place(), &policies)).proved());
    let policies = policy(&statements[..3].join(","));
    assert!(prove(&Fleet::new(place(), &policies)).proved());
    let packets = std::env::var("ISOLATE_PACKETS").ok();
    let packets: usize = packets.and_then(|n| n.parse().ok()).unwrap_or(30_000);
    let mut dice = Dice(3);
    let names = ["a", "b", "ab", "d", "shadow", "$aws"];
    let mut used = 0;
    for _ in 0..packets {
        let mut words = |wild: bool| {
            let mut text = dice.pick(&["d", "d", "$aws/things", "x"]).to_owned();
            for _ in 0..dice.roll(4) {
                text.push('/');
                let level = ["a", "b", "ab", "d", "shadow", "", "+", "#"];
                text += dice.pick(&level[..if wild { 8 } else { 6 }]);
            }
            text
        };
        let (topic, filter) = (words(false), words(true));
        let (one, two) = (dice.roll(5), dice.roll(5));
        if one == two {
            continue;
        }
        let [one, two] = [one, two].map(|n| deeds(&policies, names[n], &topic, &filter));
        used += usize::from(one.contains(&true));
        assert!(
            !(one.contains(&true) && two.contains(&true)),
            "{topic} {filter}"
        );
    }
    assert!(used > packets / 100, "{used}");
}

/// What the proof takes is counted before it is built, whatever the policy.
#[test]
fn bombs_are_refused_within_the_budget() {
    let attributes = ["a", "b", "c"].map(|a| format!("${{iot:Connection.Thing.Attributes[{a}]}}*"));
    let musts = (0..20).map(|n| {
        format!(r#"{{"Effect":"Deny","Action":"iot:*","NotResource":"ARN:topic/*{n}??NAME*"}}"#)
    });
    let musts: Vec<String> = musts.collect();
    let wild = format!("topic/*a{}bNAME*c?*NAME", "?".repeat(600));
    for (name, statements, limit) in [
        (
            "questions",
            [allow("Publish", &wild), uses("*a?*a?*a")].join(","),
            false,
        ),
        ("stars", uses(&"*a?".repeat(60)), true),
        ("names", uses(&"NAME*".repeat(8)), true),
        ("values", uses(&attributes.concat().repeat(2)), false),
        ("musts", [uses("d/*"), musts.join(",")].join(","), true),
        ("filters", uses("*+*a*??*a*????????"), false),
    ] {
        let found = verdict(&format!("{CONNECT},{statements}"));
        let most = Reach::ALL.len() * (prove::BUDGET + prove::CASES);
        assert!(found.steps <= most, "{name}: {} steps", found.steps);
        assert!(!found.proved(), "{name}");
        let met = |doubt: &&Doubt| matches!(doubt.why, Why::Limit { .. });
        let met = found.doubts.iter().find(met);
        assert!(met.is_some() || !limit, "{name}: {:#?}", found.doubts);
        if let Some(Why::Limit { statements }) = met.map(|doubt| &doubt.why) {
            assert!(
                (1..=4).contains(&statements.len()),
                "{name}: {statements:?}"
            );
        }
    }
}
