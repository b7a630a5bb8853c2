//! What a device asks for with each packet, and what is known of it meanwhile (developer guide,
//! "AWS IoT Core policy actions").

use std::net::IpAddr;

use super::action::Action;
use super::vars::{Facts, ThingFacts};
use crate::core::cert::Certificate;
use crate::core::ids::Place;

/// One packet, as far as policies are asked about it.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// The first one.
    Connect(Connect<'a>),
    /// A message to the device, once for each delivery; denied, it is dropped in silence.
    Delivery {
        /// The message's topic.
        topic: &'a str,
    },
    /// A message from the device.
    Publish {
        /// The message's topic.
        topic: &'a str,
        /// With the RETAIN flag.
        retain: bool,
    },
    /// A wish for messages; asked once, and not again when they come.
    Subscribe {
        /// The filters, as they are written.
        filters: &'a [&'a str],
    },
}

/// What a CONNECT says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connect<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// Without clean session (MQTT 3.1.1), or with a session that expires later (MQTT 5).
    pub persistent: bool,
    /// The last will.
    pub will: Option<Will<'a>>,
}

/// A last will.
#[derive(Clone, Copy, Debug)]
pub struct Will<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// With the RETAIN flag.
    pub retain: bool,
}

/// One question to the policies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Check<'a> {
    /// What.
    pub action: Action,
    /// On what: a client id, topic or filter.
    pub name: &'a str,
}

impl<'a> Packet<'a> {
    /// Every question that the packet puts; all must be allowed. That a will is asked about with
    /// the CONNECT, and not only when it is published, is not documented.
    pub fn checks(&self) -> Vec<Check<'a>> {
        let check = |action, name| Check { action, name };
        let publish = |topic, retain: bool| {
            let retained = retain.then_some(check(Action::RetainPublish, topic));
            [Some(check(Action::Publish, topic)), retained]
                .into_iter()
                .flatten()
        };
        match *self {
            Self::Connect(connect) => {
                let mut all = vec![check(Action::Connect, connect.client_id)];
                let will = connect.will.into_iter();
                all.extend(will.flat_map(|will| publish(will.topic, will.retain)));
                all
            }
            Self::Delivery { topic } => vec![check(Action::Receive, topic)],
            Self::Publish { topic, retain } => publish(topic, retain).collect(),
            Self::Subscribe { filters } => filters
                .iter()
                .map(|filter| check(Action::Subscribe, filter))
                .collect(),
        }
    }
}

/// What is known of a device, whatever it asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scene<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// The certificate that it presents.
    pub certificate: Option<&'a Certificate>,
    /// The thing that the connection stands for, as [`super::stands_for`] has it.
    pub thing: Option<ThingFacts<'a>>,
    /// Where it connects from.
    pub source_ip: Option<IpAddr>,
    /// Keys of the caller's own.
    pub context: &'a [(String, Vec<String>)],
}

impl Scene<'_> {
    /// While it is connected.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts::new(self.client_id);
        if let Some(certificate) = self.certificate {
            facts = facts.certificate(certificate);
        }
        if let Some(thing) = self.thing {
            facts = facts.thing(thing);
        }
        if let Some(ip) = self.source_ip {
            facts = facts.source_ip(ip);
        }
        let context = self.context.iter();
        context.fold(facts, |facts, (key, values)| {
            facts.with(key, values.clone())
        })
    }

    /// While it connects: as [`Scene::facts`], and what only `iot:Connect` is told.
    pub fn connect_facts(&self, connect: &Connect<'_>, place: &Place) -> Facts {
        let features = [
            connect.persistent.then_some("PersistentConnect"),
            connect.will.map(|_| "LastWill"),
        ];
        let features: Vec<&str> = features.into_iter().flatten().collect();
        let facts = self.facts().connect_attributes(&features);
        match connect.will {
            Some(will) => facts.with("iot:LastWillTopic", vec![place.arn("topic", will.topic)]),
            None => facts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(packet: Packet<'_>) -> Vec<String> {
        let checks = packet.checks();
        let text = |check: &Check<'_>| format!("{} {}", check.action.name(), check.name);
        checks.iter().map(text).collect()
    }

    #[test]
    fn every_packet_puts_its_questions() {
        let connect = |will| {
            Packet::Connect(Connect {
                client_id: "c",
                persistent: true,
                will,
            })
        };
        let will = |retain| Some(Will { topic: "w", retain });
        assert_eq!(asked(connect(None)), ["iot:Connect c"]);
        assert_eq!(
            asked(connect(will(false))),
            ["iot:Connect c", "iot:Publish w"]
        );
        assert_eq!(
            asked(connect(will(true))),
            ["iot:Connect c", "iot:Publish w", "iot:RetainPublish w"]
        );
        let publish = |retain| Packet::Publish { topic: "t", retain };
        assert_eq!(asked(publish(false)), ["iot:Publish t"]);
        assert_eq!(
            asked(publish(true)),
            ["iot:Publish t", "iot:RetainPublish t"]
        );
        let filters = ["a/#", "$share/g/b"];
        assert_eq!(
            asked(Packet::Subscribe { filters: &filters }),
            ["iot:Subscribe a/#", "iot:Subscribe $share/g/b"]
        );
        assert_eq!(asked(Packet::Delivery { topic: "t" }), ["iot:Receive t"]);
    }

    #[test]
    fn what_a_connect_asks_for_is_known_to_it_alone() {
        let place = Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        };
        let scene = Scene {
            client_id: "c",
            ..Scene::default()
        };
        let connect = Connect {
            client_id: "c",
            persistent: true,
            will: Some(Will {
                topic: "w",
                retain: false,
            }),
        };
        let facts = scene.connect_facts(&connect, &place);
        assert_eq!(
            facts.values("iot:ConnectAttributes"),
            ["PersistentConnect", "LastWill"]
        );
        assert_eq!(
            facts.values("iot:LastWillTopic"),
            ["arn:aws:iot:eu-west-1:123456789012:topic/w"]
        );
        assert!(scene.facts().values("iot:ConnectAttributes").is_empty());
    }
}
