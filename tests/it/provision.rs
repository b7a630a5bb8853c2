//! `provision` as a device runs it, against the sandbox: every way to a certificate, what is refused
//! and why, and what is left after a run that was cut off.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nameplate::core::status::CertificateStatus;

use crate::device_lab::Said;
use crate::fleet_lab::{FleetLab, error_of, leaf};

struct Device<'a> {
    lab: &'a FleetLab,
    claim: String,
    name: String,
}

impl<'a> Device<'a> {
    fn new(lab: &'a FleetLab, name: &str) -> Self {
        let claim = if lab.path("claim").exists() {
            lab.text("claim")
        } else {
            lab.claim()
        };
        Self {
            lab,
            claim,
            name: name.to_owned(),
        }
    }

    fn folder(&self) -> String {
        self.lab.text(&self.name)
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let serial = format!("SerialNumber={}", self.name);
        let template = match more {
            ["--template", ..] => &[][..],
            _ => &["--template", "fleet"],
        };
        let folder = self.folder();
        let args = ["--format", "json", "provision", "--claim", &self.claim];
        let args = [&args[..], &["--identity", &folder], template].concat();
        let args = [&args[..], &["--param", &serial], more].concat();
        args.into_iter().map(str::to_owned).collect()
    }

    fn run(&self, more: &[&str]) -> Said {
        let args = self.args(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.lab.command(&args).output().unwrap().into()
    }

    /// Exactly one certificate of this thing is in use, and it is the one in the folder.
    #[track_caller]
    fn has_one_identity(&self) {
        let mine = leaf(Path::new(&self.folder())).expect("there is an identity");
        let thing = self.name.parse().unwrap();
        let registry = self.lab.sandbox.registry().lock().unwrap();
        let of_thing: Vec<_> = registry
            .certificates()
            .filter(|entry| entry.things.contains_key(&thing))
            .map(|entry| (entry.id.clone(), entry.status))
            .collect();
        assert_eq!(of_thing, [(mine, CertificateStatus::Active)]);
        drop(registry);
        assert!(!self.lab.path(&format!("{}.provision", self.name)).exists());
        let connect = ["connect", "--identity", &self.folder(), "--attempts", "1"];
        let said = self.lab.run(&connect);
        assert_eq!(said.code, 0, "{said}");
        assert_eq!(said.json()["client_id"], self.name);
    }
}

#[test]
fn every_way_to_a_certificate_ends_with_a_proved_identity() {
    let lab = FleetLab::new();
    for (n, more) in [
        &["--mqtt", "3"][..],
        &["--mqtt", "5", "--payload", "cbor"],
        &["--key-from", "cloud"],
        &["--key-from", "cloud", "--payload", "cbor", "--mqtt", "3"],
        &["--curve", "p384", "--subject", "CN=x,O=Example"],
    ]
    .iter()
    .enumerate()
    {
        let device = Device::new(&lab, &format!("pump-{n}"));
        let said = device.run(more);
        assert_eq!(said.code, 0, "{more:?}: {said}");
        let json = said.json();
        assert_eq!(json["thing_name"], device.name);
        assert_eq!(json["client_id"], device.name);
        assert_eq!(json["device_configuration"]["Url"], "https://a.example");
        assert_eq!(json["already"], false);
        device.has_one_identity();
        let folder = Path::new(&device.folder()).to_owned();
        let mode = |name: &str| {
            fs::metadata(folder.join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("device.key.pem") & 0o777, 0o600);
        assert_eq!(mode("") & 0o777, 0o700);
        // Again: nothing is asked for a second time.
        let before = lab.certificates().len();
        let said = device.run(more);
        assert_eq!((said.code, &said.json()["already"]), (0, &true.into()));
        assert_eq!(lab.certificates().len(), before);
    }
}

#[test]
fn a_key_and_a_request_that_are_there_are_used() {
    let lab = FleetLab::new();
    let openssl = |args: &str| {
        crate::project::tool(
            "openssl",
            &args.split(' ').collect::<Vec<_>>(),
            &lab.path(""),
        );
    };
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out own.key");
    openssl("req -new -key own.key -subj /CN=pump-7/O=Own -out own.csr");
    let device = Device::new(&lab, "pump-7");
    let (key, csr) = (lab.text("own.key"), lab.text("own.csr"));
    let said = device.run(&["--key", &key, "--csr", &csr]);
    assert_eq!(said.code, 0, "{said}");
    device.has_one_identity();
    let folder = lab.path("pump-7");
    let subject = crate::project::tool(
        "openssl",
        &["x509", "-in", "device.crt.pem", "-noout", "-subject"],
        &folder,
    );
    assert!(subject.contains("Own"), "{subject}");
    // A request for another key than the one named.
    openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key");
    let device = Device::new(&lab, "pump-8");
    let other = lab.text("other.key");
    let said = device.run(&["--key", &other, "--csr", &csr]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (1, &"enrol.other-key".into())
    );
}

#[test]
fn the_claim_is_destroyed_after_success_and_not_before() {
    let lab = FleetLab::new();
    let device = Device::new(&lab, "pump-1");
    let claim = lab.path("claim");
    let wrong = device.run(&["--template", "none", "--forget-claim", "--timeout", "2s"]);
    assert_ne!(wrong.code, 0);
    assert!(claim.join("device.key.pem").exists());
    let said = device.run(&["--forget-claim"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["claim_forgotten"], true);
    assert!(!claim.join("device.key.pem").exists());
    assert!(!claim.join("device.crt.pem").exists());
    device.has_one_identity();
    let said = device.run(&["--forget-claim"]);
    assert_eq!((said.code, &said.json()["already"]), (0, &true.into()));
}

#[test]
fn each_rejection_is_told_in_the_services_words_with_a_remedy() {
    let lab = FleetLab::new();
    let device = Device::new(&lab, "pump-1");
    // The claim may not speak of another template: closed or refused, and said which topic.
    for (version, seen) in [
        ("3", "answered by closing the connection"),
        ("5", "refused with 0x87"),
    ] {
        let args = ["--template", "other", "--mqtt", version, "--timeout", "2s"];
        let said = device.run(&args);
        assert_eq!(said.code, 1, "{said}");
        let error = error_of(&said);
        assert_eq!(error["error"], "connect.subscribe", "{said}");
        let text = format!("{}{}", error["message"], error["because"]);
        assert!(text.contains(seen), "{said}");
        assert!(text.contains("provisioning-templates/other"), "{said}");
    }
    let wide = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;
    lab.policy("claim", wide);
    let said = device.run(&["--template", "none", "--start-over"]);
    let error = error_of(&said);
    assert_eq!(
        (said.code, &error["error"]),
        (1, &"fleet.rejected".into()),
        "{said}"
    );
    assert!(error["message"].as_str().unwrap().contains("404"), "{said}");
    assert!(
        error["hint"].as_str().unwrap().contains("--template"),
        "{said}"
    );
    lab.template(
        "strict",
        &crate::fleet_lab::TEMPLATE.replace("SerialNumber", "Missing"),
    );
    let said = device.run(&["--template", "strict", "--start-over"]);
    let error = error_of(&said);
    assert_eq!(error["error"], "fleet.rejected", "{said}");
    assert!(
        error["hint"].as_str().unwrap().contains("--param"),
        "{said}"
    );
    // The certificate that is there is provisioned by the right template.
    let said = device.run(&[]);
    assert_eq!(said.code, 0, "{said}");
    device.has_one_identity();
}

#[test]
fn an_identity_that_does_not_connect_is_not_put_in_place() {
    let lab = FleetLab::new();
    lab.template(
        "idle",
        &crate::fleet_lab::TEMPLATE.replace("\"ACTIVE\"", "\"INACTIVE\""),
    );
    lab.policy("claim", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#);
    let device = Device::new(&lab, "pump-1");
    let said = device.run(&["--template", "idle", "--timeout", "2s"]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (1, &"enrol.proof".into()),
        "{said}"
    );
    assert!(!lab.path("pump-1").exists());
    // Made ACTIVE by an operator, the next run finishes without another certificate.
    let before = lab.certificates().len();
    {
        let registry = lab.sandbox.registry();
        let idle = registry
            .lock()
            .unwrap()
            .certificates()
            .find(|entry| entry.status == CertificateStatus::Inactive)
            .map(|entry| entry.id.clone())
            .unwrap();
        let now = nameplate::ports::Clock::now(&nameplate::effects::clock::SystemClock);
        registry
            .lock()
            .unwrap()
            .update_certificate(&idle, CertificateStatus::Active, now)
            .unwrap();
    }
    let said = device.run(&["--template", "idle"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(said.json()["resumed"], true);
    assert_eq!(lab.certificates().len(), before);
    device.has_one_identity();
}

#[test]
fn what_is_in_the_way_stays_as_it_is() {
    let lab = FleetLab::new();
    let device = Device::new(&lab, "pump-1");
    fs::create_dir(lab.path("pump-1")).unwrap();
    fs::write(lab.path("pump-1/notes"), "x").unwrap();
    let said = device.run(&[]);
    assert_eq!(
        (said.code, &error_of(&said)["error"]),
        (5, &"file.exists".into()),
        "{said}"
    );
    fs::remove_file(lab.path("pump-1/notes")).unwrap();
    // An empty folder, as systemd makes one, is no obstacle.
    let said = device.run(&[]);
    assert_eq!(said.code, 0, "{said}");
}

/// Passes connections on to the sandbox, and cuts them: connection by connection, after so many
/// chunks from the server (or from the client) in all.
struct Cutter {
    port: u16,
    seen: Arc<AtomicUsize>,
}

/// Which way a chunk goes.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

impl Cutter {
    fn new(upstream: u16, way: Way, cut_at: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else {
                    return;
                };
                for (from, to, flow) in [(&client, &server, Way::Up), (&server, &client, Way::Down)]
                {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let counter = Arc::clone(&counter);
                    std::thread::spawn(move || {
                        let mut bytes = vec![0; 65536];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            let cut =
                                flow == way && counter.fetch_add(1, Ordering::SeqCst) + 1 == cut_at;
                            if cut || to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = from.shutdown(Shutdown::Both);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, seen }
    }
}

/// The network is cut before each packet in turn, either way; each run finishes all the same, with
/// one identity.
#[test]
fn the_network_may_be_cut_before_any_packet() {
    let lab = FleetLab::new();
    let upstream = lab.sandbox.info().mqtt_port.unwrap();
    for (way, name) in [(Way::Up, "up"), (Way::Down, "down")] {
        for cut_at in 1.. {
            let device = Device::new(&lab, &format!("pump-{name}-{cut_at}"));
            let cutter = Cutter::new(upstream, way, cut_at);
            let endpoint = format!("localhost:{}", cutter.port);
            // The client id is known beforehand, so that a lost answer loses no name.
            let more = ["--endpoint", &endpoint, "--client-id", &device.name];
            let said = device.run(&more);
            assert_eq!(said.code, 0, "cut {name} at {cut_at}: {said}");
            device.has_one_identity();
            if cutter.seen.load(Ordering::SeqCst) < cut_at {
                assert!(cut_at > 8, "there were hardly any packets");
                break;
            }
        }
    }
}
