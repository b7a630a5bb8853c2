//! Policies that lint clean and are proved to isolate, at random, against packets at random: none
//! contradicts a proof.

use std::sync::Arc;

use nameplate::core::ids::Place;
use nameplate::core::isolate::{Fleet, prove};
use nameplate::core::policy::{Action, Compiled, Document, Facts, NamedPolicy, Outcome, Request};
use nameplate::core::policylint;

const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";
const NAME: &str = "${iot:Connection.Thing.ThingName}";
/// Names that begin each other, that are levels of the policies, and plain ones.
const NAMES: [&str; 10] = [
    "a", "ab", "a-b", "d", "dev", "shadow", "pump-1", "pump-10", "x", "jobs",
];

fn place() -> Place {
    Place {
        account: "123456789012".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
    }
}

/// PCG's multiplier and increment.
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

    /// A topic of a policy: mostly with the device's name in it.
    fn topic(&mut self) -> String {
        let begin = ["d", "dev", "$aws/things", "a/b", "fleet/pump-1", "*"];
        let mut text = self.pick(&begin).to_owned();
        for _ in 0..=self.roll(3) {
            text.push('/');
            let levels = [
                NAME,
                NAME,
                NAME,
                NAME,
                "shadow",
                "jobs",
                "a",
                "x-",
                "*",
                "${iot:ClientId}",
            ];
            text += self.pick(&levels);
            if self.roll(12) == 0 {
                text += self.pick(&["*", "?", NAME, "-x"]);
            }
        }
        if self.roll(2) == 0 {
            text += "/*";
        }
        text
    }

    fn statement(&mut self, effect: &str, actions: &str, resources: &[String]) -> String {
        let resources = resources.join(r#"",""#);
        let condition = match self.roll(8) {
            0 => {
                r#","Condition":{"StringEquals":{"iot:ClientId":"${iot:Connection.Thing.ThingName}"}}"#
            }
            1 => r#","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}"#,
            _ => "",
        };
        format!(
            r#"{{"Effect":"{effect}","Action":[{actions}],"Resource":["{resources}"]{condition}}}"#
        )
    }

    fn policy(&mut self) -> String {
        let client = self.pick(&[
            NAME,
            NAME,
            NAME,
            "pump-*",
            "${iot:ClientId}",
            "a/${iot:ClientId}",
        ]);
        let mut all = vec![format!(
            r#"{{"Effect":"Allow","Action":"iot:Connect","Resource":"{ARN}client/{client}","Condition":{{"Bool":{{"iot:Connection.Thing.IsAttached":"true"}}}}}}"#
        )];
        for _ in 0..=self.roll(3) {
            let topics: Vec<String> = (0..=self.roll(2)).map(|_| self.topic()).collect();
            let of = |kind: &str| -> Vec<String> {
                topics
                    .iter()
                    .map(|topic| format!("{ARN}{kind}/{topic}"))
                    .collect()
            };
            if self.roll(3) == 0 {
                all.push(self.statement("Allow", r#""iot:Publish""#, &of("topic")));
                continue;
            }
            let receives = self.pick(&[r#""iot:Receive""#, r#""iot:Publish","iot:Receive""#]);
            all.push(self.statement("Allow", receives, &of("topic")));
            all.push(self.statement("Allow", r#""iot:Subscribe""#, &of("topicfilter")));
            if self.roll(6) == 0 {
                let denied = vec![format!("{ARN}topic/{}", self.topic())];
                all.push(self.statement("Deny", r#""iot:Publish","iot:Receive""#, &denied));
            }
        }
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
            all.join(",")
        )
    }

    /// A topic or a filter: mostly one that the policy speaks of, with some device's name in it.
    fn words(&mut self, patterns: &[String], name: &str, wild: bool) -> String {
        let mut text = String::new();
        let pattern = self.roll(patterns.len() + 1);
        let Some(pattern) = patterns.get(pattern) else {
            for n in 0..=self.roll(4) {
                let level = ["a", "d", "shadow", "", "pump-1", "x-", "+", "#"];
                text += if n > 0 { "/" } else { "" };
                text += self.pick(&level[..if wild { 8 } else { 6 }]);
            }
            return text;
        };
        let filled = pattern
            .replace(NAME, "\u{1}")
            .replace("${iot:ClientId}", "\u{1}");
        for c in filled.chars() {
            match c {
                '\u{1}' if wild && self.roll(8) == 0 => text.push('+'),
                '\u{1}' => {
                    text += if self.roll(3) > 0 {
                        name
                    } else {
                        self.pick(&NAMES)
                    }
                }
                '*' if wild => text += self.pick(&["#", "+", "a", "+/#", "pump-1"]),
                '*' => text += self.pick(&["", "a", "b/x", "-b", "0", "pump-1"]),
                '?' => text += self.pick(&["a", "/", "0"]),
                c => text.push(c),
            }
        }
        text
    }
}

/// Filters match topics as the MQTT standard has it (4.7).
fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

struct Kept {
    policies: Vec<NamedPolicy>,
    /// The topics and filters it names.
    patterns: Vec<String>,
}

/// Policies that lint clean and are proved; and how many were tried.
fn kept(dice: &mut Dice, wanted: usize) -> (Vec<Kept>, usize) {
    let (mut found, mut tried) = (Vec::new(), 0);
    while found.len() < wanted {
        tried += 1;
        let text = dice.policy();
        let Ok(document) = Document::parse(&text) else {
            continue;
        };
        if !policylint::lint(&text, &policylint::Request::default())
            .findings
            .is_empty()
        {
            continue;
        }
        let patterns = document
            .statements()
            .iter()
            .flat_map(|one| &one.resources.patterns);
        let topics = patterns.filter_map(|pattern| {
            let (_, topic) = pattern.as_written().split_once(":topic")?;
            Some(
                topic
                    .strip_prefix("filter")
                    .unwrap_or(topic)
                    .trim_start_matches('/')
                    .to_owned(),
            )
        });
        let patterns = topics.collect();
        let policies = vec![NamedPolicy {
            name: "p".to_owned(),
            document: Arc::new(document),
        }];
        if prove(&Fleet::new(place(), &policies)).proved() {
            found.push(Kept { policies, patterns });
        }
    }
    (found, tried)
}

/// Whether a device may use a topic: publish to it, or receive it through the filter.
fn uses(
    policies: &[NamedPolicy],
    [thing, client]: [&str; 2],
    topic: &str,
    filter: &str,
) -> Option<bool> {
    let mut facts = Facts::new(client);
    if thing == client {
        let one = |text: &str| vec![text.to_owned()];
        facts = facts
            .with("iot:Connection.Thing.IsAttached", one("true"))
            .with("iot:Connection.Thing.ThingName", one(thing));
    }
    let compiled = Compiled::new(policies, &facts);
    let may = |action: Action, name: &str| {
        let resource = action.resource(&place(), name);
        compiled
            .decide(Request {
                action,
                resource: &resource,
            })
            .outcome
            == Outcome::Allowed
    };
    may(Action::Connect, client).then(|| {
        let receives = || {
            matches(filter, topic) && may(Action::Receive, topic) && may(Action::Subscribe, filter)
        };
        may(Action::Publish, topic) || receives()
    })
}

/// More with `ISOLATE_PACKETS=1000000`, best in a release build.
#[test]
fn random_packets_never_contradict_the_proof_of_a_random_policy() {
    let packets = std::env::var("ISOLATE_PACKETS").ok();
    let packets: usize = packets.and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let mut dice = Dice(5);
    let (kept, tried) = kept(&mut dice, 20 + packets / 10_000);
    let mut used = 0;
    for n in 0..packets {
        let Kept { policies, patterns } = &kept[n % kept.len()];
        let (one, two) = (dice.pick(&NAMES), dice.pick(&NAMES));
        if one == two {
            continue;
        }
        let mut client = |name| match dice.roll(6) {
            0 => dice.pick(&["+", "*", "#", "pump-1", "a/b", "x"]),
            _ => name,
        };
        let devices = [[one, client(one)], [two, client(two)]];
        let topic = dice.words(patterns, one, false);
        let filter = match dice.roll(3) {
            0 => topic.clone(),
            _ => dice.words(patterns, one, true),
        };
        let [one, two] = devices.map(|device| uses(policies, device, &topic, &filter));
        used += usize::from(one == Some(true));
        let same = devices[0][1] == devices[1][1] && one.is_some() && two.is_some();
        assert!(
            !same && (one, two) != (Some(true), Some(true)),
            "{devices:?} {topic} {filter} {patterns:?}"
        );
    }
    println!(
        "{} policies of {tried} kept; {used} of {packets} packets allowed",
        kept.len()
    );
    assert!(used > packets / 50, "{used} of {packets}");
}
