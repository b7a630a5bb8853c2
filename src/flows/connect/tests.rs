use std::cell::{Cell, RefCell};

use super::*;
use crate::core::key::PrivateKey;
use crate::core::time::UtcTime;
use crate::explain::{Explain, Kind};
use crate::ports::Step;
use crate::ports::{Channel, DialError, Received, Target};

/// Time that passes only when somebody sleeps or waits.
#[derive(Default)]
struct Lab {
    passed: Cell<Duration>,
    sleeps: RefCell<Vec<Duration>>,
    /// What each connection does; the last one is repeated.
    script: Vec<Act>,
    dialled: Cell<usize>,
}

#[derive(Clone, Copy)]
enum Act {
    Refuse,
    Alert(&'static str),
    CloseAfterTls,
    Say(&'static [u8]),
}

impl Clock for Lab {
    fn now(&self) -> UtcTime {
        "2026-11-24".parse().unwrap()
    }
    fn now_nanos(&self) -> i128 {
        0
    }
    fn monotonic(&self) -> Duration {
        self.passed.get()
    }
    fn sleep(&self, duration: Duration) {
        self.sleeps.borrow_mut().push(duration);
        self.passed.set(self.passed.get() + duration);
    }
}

impl Entropy for Lab {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xff);
    }
}

impl Dial for Lab {
    fn open(&self, target: &Target<'_>) -> Result<Box<dyn Channel>, DialError> {
        let n = self.dialled.replace(self.dialled.get() + 1);
        let endpoint = target.endpoint.clone();
        let address = "127.0.0.1:1".parse().unwrap();
        let act = self.script[n.min(self.script.len() - 1)];
        match act {
            Act::Refuse => Err(DialError::Refused { endpoint, address }),
            Act::Alert(alert) => Err(DialError::Alert {
                endpoint,
                alert: alert.to_owned(),
            }),
            _ => Ok(Box::new(Line {
                act,
                seen: ServerSeen {
                    address,
                    tls_version: None,
                    cipher_suite: None,
                    alpn: None,
                    chain: Vec::new(),
                },
            })),
        }
    }
}

struct Line {
    act: Act,
    seen: ServerSeen,
}

impl Channel for Line {
    fn peer(&self) -> &ServerSeen {
        &self.seen
    }
    fn send(&mut self, _: &[u8]) -> Result<(), DialError> {
        match self.act {
            // A reset shows while writing as often as while reading.
            Act::CloseAfterTls => Err(DialError::Closed {
                endpoint: endpoint(),
                step: Step::Data,
            }),
            _ => Ok(()),
        }
    }
    fn receive(&mut self, _: Duration) -> Result<Received, DialError> {
        Ok(match self.act {
            Act::Say(bytes) => Received::Bytes(bytes.to_vec()),
            _ => Received::Closed,
        })
    }
    fn close(self: Box<Self>) {}
}

fn endpoint() -> Endpoint {
    Endpoint::parse("a.example", 8883).unwrap()
}

fn run(script: &[Act]) -> (Lab, Result<Connected, ConnectError>) {
    run_with(script, |request| request.versions = Versions::Three)
}

fn run_with(
    script: &[Act],
    change: impl FnOnce(&mut Request),
) -> (Lab, Result<Connected, ConnectError>) {
    let lab = Lab {
        script: script.to_vec(),
        ..Lab::default()
    };
    let identity = Identity {
        chain: Vec::new(),
        key: PrivateKey::from_pkcs8(Vec::new().into()),
    };
    let connect = Connect {
        clock: &lab,
        entropy: &lab,
        dial: &lab,
    };
    let mut request = Request::new(endpoint(), identity, Vec::new(), "pump-1".into());
    change(&mut request);
    let result = connect.run(request);
    (lab, result)
}

#[test]
fn it_waits_longer_each_time_and_uses_its_time_to_the_end() {
    let (lab, result) = run(&[Act::CloseAfterTls]);
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("connect.closed", Kind::Negative)
    );
    let sleeps: Vec<u128> = lab
        .sleeps
        .borrow()
        .iter()
        .map(Duration::as_millis)
        .collect();
    assert_eq!(sleeps, [1_000, 2_000, 4_000, 8_000, 16_000, 28_200]);
    assert_eq!(error.attempts, 7);
}

#[test]
fn only_connack_0_is_success() {
    let (lab, result) = run(&[
        Act::CloseAfterTls,
        Act::Refuse,
        Act::Say(&[0x20, 2, 0, 3]),
        Act::Say(&[0x20, 2, 0, 0]),
    ]);
    assert_eq!(result.unwrap().attempts, 4);
    assert_eq!(lab.dialled.get(), 4);
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for (act, code) in [
        (Act::Alert("unknown_ca"), "dial.alert"),
        (Act::Say(&[0x20, 2, 0, 5]), "connect.refused"),
        (Act::Say(b"HTTP/1.1 400"), "mqtt.protocol"),
    ] {
        let (lab, result) = run(&[act]);
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, Kind::Negative));
        assert_eq!(lab.dialled.get(), 1, "{code}");
    }
    let (lab, result) = run(&[Act::Refuse]);
    assert_eq!(result.unwrap_err().kind(), Kind::Unavailable);
    assert!(lab.dialled.get() > 1);
}

const ACCEPTED_V5: &[u8] = &[0x20, 3, 0, 0, 0];

#[test]
fn a_server_without_mqtt_5_is_spoken_to_in_3_1_1_within_the_same_attempt() {
    let (lab, result) = run_with(
        &[Act::Say(&[0x20, 2, 0, 1]), Act::Say(&[0x20, 2, 0, 0])],
        |_| {},
    );
    let connected = result.unwrap();
    assert_eq!((connected.protocol, connected.attempts), ("MQTT 3.1.1", 1));
    assert_eq!(lab.dialled.get(), 2);
    let (_, result) = run_with(&[Act::Say(&[0x20, 2, 0, 1])], |request| {
        request.versions = Versions::Five;
    });
    assert_eq!(result.unwrap_err().code(), "connect.version");
    let (_, result) = run_with(&[Act::Say(ACCEPTED_V5)], |_| {});
    assert_eq!(result.unwrap().protocol, "MQTT 5");
}

#[test]
fn an_unauthorised_connack_of_mqtt_5_is_tried_again_and_a_bad_client_id_is_not() {
    let refused = &[0x20, 3, 0, 0x87, 0];
    let (_, result) = run_with(&[Act::Say(refused), Act::Say(ACCEPTED_V5)], |_| {});
    assert_eq!(result.unwrap().attempts, 2);
    let (lab, result) = run_with(&[Act::Say(&[0x20, 3, 0, 0x85, 0])], |_| {});
    let error = result.unwrap_err();
    assert_eq!(error.code(), "connect.refused");
    assert!(error.hint().unwrap().contains("--client-id"));
    assert_eq!(lab.dialled.get(), 1);
}

#[test]
fn the_next_endpoint_is_tried_when_the_first_is_not_there_and_not_when_it_answers() {
    let second = Endpoint::parse("b.example", 8883).unwrap();
    let two = |script: &[Act]| run_with(script, |request| request.others = vec![second.clone()]);
    let (lab, result) = two(&[Act::Refuse, Act::Say(ACCEPTED_V5)]);
    let connected = result.unwrap();
    assert_eq!(
        (connected.endpoint, connected.attempts),
        (second.clone(), 1)
    );
    assert!(lab.sleeps.borrow().is_empty());
    // Closed before CONNACK is JITP's answer: the first is asked again.
    let (_, result) = two(&[Act::CloseAfterTls, Act::Say(ACCEPTED_V5)]);
    let connected = result.unwrap();
    assert_eq!((connected.endpoint, connected.attempts), (endpoint(), 2));
    // A CA that one Region does not know, another may.
    let (_, result) = two(&[Act::Alert("unknown_ca"), Act::Say(ACCEPTED_V5)]);
    assert_eq!(result.unwrap().endpoint, second);
    let (lab, result) = two(&[Act::Alert("unknown_ca")]);
    assert_eq!(result.unwrap_err().code(), "dial.alert");
    assert_eq!(lab.dialled.get(), 2);
}
