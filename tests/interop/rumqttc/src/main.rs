//! The sandbox's MQTT endpoint as rumqttc meets it. Arguments: 3 or 5, the port, the files of the
//! server CA, the certificate and the key, and the client id, which is the name of a device that is
//! new: it is provisioned when it connects first. Prints `ok` at the end; fails by panicking.

use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(10);

struct Device {
    port: u16,
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
    id: String,
}

/// What a client says happened; the crates of the two versions have types of their own.
#[derive(Debug, PartialEq)]
enum Seen {
    In,
    Message(String, Vec<u8>),
    Puback(bool),
    Suback(bool),
    Over(String),
    Other,
}

macro_rules! client {
    ($name:ident, $krate:ident, $qos:path, $port:expr, $seen:expr) => {
        struct $name {
            client: $krate::Client,
            connection: $krate::Connection,
        }

        impl $name {
            fn new(device: &Device, id: &str) -> Self {
                let broker = $port(device.port);
                let mut options = $krate::MqttOptions::new(id, broker);
                options.set_keep_alive(30);
                let tls = $krate::TlsConfiguration::Simple {
                    ca: device.ca.clone(),
                    alpn: None,
                    client_auth: Some((device.certificate.clone(), device.key.clone())),
                };
                options.set_transport($krate::Transport::tls_with_config(tls));
                let (client, connection) = $krate::Client::builder(options).capacity(10).build();
                Self { client, connection }
            }

            /// The next thing that happens.
            fn next(&mut self) -> Seen {
                let event = self.connection.recv_timeout(WAIT).expect("something happens");
                match event {
                    Err(error) => Seen::Over(error.to_string()),
                    Ok(event) => $seen(event),
                }
            }

            /// What happens, up to the first that is wanted or the end of the connection.
            fn until(&mut self, wanted: impl Fn(&Seen) -> bool) -> Seen {
                let deadline = Instant::now() + WAIT;
                loop {
                    let seen = self.next();
                    if wanted(&seen) || matches!(seen, Seen::Over(_)) {
                        return seen;
                    }
                    assert!(Instant::now() < deadline, "only {seen:?}");
                }
            }

            fn run(device: &Device) {
                let connect = |id: &str| {
                    let mut client = Self::new(device, id);
                    let seen = client.until(|seen| *seen == Seen::In);
                    (client, seen)
                };
                let (_, first) = connect(&device.id);
                assert!(matches!(first, Seen::Over(_)), "let in before it is known: {first:?}");
                let deadline = Instant::now() + 2 * WAIT;
                let mut client = loop {
                    let (client, seen) = connect(&device.id);
                    if seen == Seen::In {
                        break client;
                    }
                    assert!(Instant::now() < deadline, "never let in: {seen:?}");
                    std::thread::sleep(Duration::from_millis(200));
                };
                let topic = format!("devices/{}/t", device.id);
                let own = format!("devices/{}/#", device.id);
                client.client.subscribe(own, $qos).unwrap();
                let seen = client.until(|seen| matches!(seen, Seen::Suback(_)));
                assert_eq!(seen, Seen::Suback(true));
                let options = || $krate::PublishOptions::new($qos);
                client.client.publish(topic.clone(), "21.5", options()).unwrap();
                let seen = client.until(|seen| matches!(seen, Seen::Message(..)));
                assert_eq!(seen, Seen::Message(topic, b"21.5".to_vec()));
                client.client.publish("devices/other/t", "x", options()).unwrap();
                let seen = client.until(|seen| *seen == Seen::Puback(false));
                assert!(matches!(seen, Seen::Puback(false) | Seen::Over(_)), "{seen:?}");
                let (_, seen) = connect("other");
                assert!(matches!(seen, Seen::Over(_)), "{seen:?}");
            }
        }
    };
}

client!(
    Three,
    v3,
    v3::QoS::AtLeastOnce,
    |port| v3::Broker::tcp("localhost", port),
    |event| match event {
        v3::Event::Incoming(v3::Packet::ConnAck(_)) => Seen::In,
        v3::Event::Incoming(v3::Packet::Publish(one)) => {
            let topic = String::from_utf8_lossy(&one.topic).into_owned();
            Seen::Message(topic, one.payload.to_vec())
        }
        v3::Event::Incoming(v3::Packet::SubAck(one)) => {
            let failed = v3::SubscribeReasonCode::Failure;
            Seen::Suback(!one.return_codes.contains(&failed))
        }
        v3::Event::Incoming(v3::Packet::PubAck(_)) => Seen::Puback(true),
        _ => Seen::Other,
    }
);

client!(
    Five,
    v5,
    v5::mqttbytes::QoS::AtLeastOnce,
    |port| v5::Broker::tcp("localhost", port),
    |event| match event {
        v5::Event::Incoming(v5::Incoming::ConnAck(_)) => Seen::In,
        v5::Event::Incoming(v5::Incoming::Publish(one)) => {
            let topic = String::from_utf8_lossy(&one.topic).into_owned();
            Seen::Message(topic, one.payload.to_vec())
        }
        v5::Event::Incoming(v5::Incoming::SubAck(one)) => {
            let granted = |code: &v5::mqttbytes::v5::SubscribeReasonCode| {
                matches!(code, v5::mqttbytes::v5::SubscribeReasonCode::Success(_))
            };
            Seen::Suback(one.return_codes.iter().all(granted))
        }
        v5::Event::Incoming(v5::Incoming::PubAck(one)) => {
            Seen::Puback(one.reason == v5::mqttbytes::v5::PubAckReason::Success)
        }
        _ => Seen::Other,
    }
);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let read = |n: usize| std::fs::read(&arguments[n]).expect("a file");
    let device = Device {
        port: arguments[2].parse().expect("a port"),
        ca: read(3),
        certificate: read(4),
        key: read(5),
        id: arguments[6].clone(),
    };
    match &arguments[1][..] {
        "3" => Three::run(&device),
        _ => Five::run(&device),
    }
    println!("ok");
}
