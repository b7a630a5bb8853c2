//! The sandbox's MQTT endpoint as real MQTT clients meet it: mosquitto_pub and mosquitto_sub, and a
//! bare rustls client where mosquitto cannot misbehave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nameplate::core::cert::Certificate;
use nameplate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
use nameplate::core::ids::{PolicyName, ThingName};
use nameplate::core::key::{KeyAlgorithm, PrivateKey, PublicKey};
use nameplate::core::status::CertificateStatus;
use nameplate::core::subject::Subject;
use nameplate::core::template::{TemplateKind, shipped};
use nameplate::core::time::{Span, Validity};
use nameplate::effects::clock::SystemClock;
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::ports::{Clock, Keygen, Signer};
use nameplate::sandbox::logs::Record;
use nameplate::sandbox::registry::{
    CaRegistration, CertificateMode, NewTemplate, RegistrationConfig,
};
use nameplate::sandbox::server::{MqttConfig, Running, Server, ServerConfig, StatePlace};

/// A sandbox with a registered CA, the shipped JITP template, and a folder for identities.
pub(crate) struct Lab {
    pub(crate) running: Running,
    pub(crate) ca: Ca,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) struct Ca {
    certificate: Certificate,
    signer: LocalSigner,
}

/// A device's identity, as files.
pub(crate) struct Device {
    pub(crate) certificate: Certificate,
    key: PrivateKey,
    pub(crate) chain_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

fn key() -> (PrivateKey, PublicKey) {
    RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap()
}

/// From and to are days from now.
fn draft(subject: &str, public: &PublicKey, purpose: Purpose, days: (i64, i64)) -> Wanted {
    let at = |days| SystemClock.now().plus(Span::days(days));
    Wanted {
        subject: subject.parse().unwrap(),
        public: public.clone(),
        purpose,
        validity: Validity {
            not_before: at(days.0),
            not_after: at(days.1),
        },
    }
}

struct Wanted {
    subject: Subject,
    public: PublicKey,
    purpose: Purpose,
    validity: Validity,
}

impl Wanted {
    fn sign(self, issuer: &IssuerView, signer: &LocalSigner) -> Certificate {
        let spec = DraftSpec {
            subject: self.subject,
            serial: [9; 16],
            validity: self.validity,
            public_key: &self.public,
            purpose: self.purpose,
            alternative_names: vec![],
            extras: Extras::default(),
        };
        let draft = Draft::new(&spec, issuer).unwrap();
        let signature = signer.sign(draft.tbs()).unwrap();
        draft.seal(&signature).unwrap()
    }
}

pub(crate) fn ca(name: &str) -> Ca {
    let (key, public) = key();
    let subject = format!("CN={name}");
    let issuer = IssuerView::self_signed(&subject.parse().unwrap(), &public).unwrap();
    let signer = LocalSigner::new(&key).unwrap();
    let purpose = Purpose::Root { path_len: Some(0) };
    let certificate = draft(&subject, &public, purpose, (-1, 100)).sign(&issuer, &signer);
    Ca {
        certificate,
        signer,
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut MqttConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = nameplate::core::ids::Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        };
        let state = StatePlace::Durable(folder.path().join("sandbox"));
        let entropy = Arc::new(OsEntropy::default());
        let mut mqtt = MqttConfig::new("127.0.0.1:0".parse().unwrap());
        change(&mut mqtt);
        let config = ServerConfig {
            mqtt: Some(mqtt),
            jitp_delay: Duration::from_millis(50),
            ..ServerConfig::new(state, place, Arc::new(SystemClock), entropy)
        };
        let lab = Self {
            running: Server::start(config).unwrap(),
            ca: ca("Factory CA"),
            folder,
        };
        lab.register();
        lab
    }

    fn register(&self) {
        let now = SystemClock.now();
        let mut registry = self.running.registry().lock().unwrap();
        let place = registry.place().clone();
        let jitp = shipped().iter().find(|one| one.name == "jitp").unwrap();
        let policy: PolicyName = "nameplate-device".parse().unwrap();
        let document = jitp.policy_for(&place).unwrap();
        registry.create_policy(&policy, &document, now).unwrap();
        let template = NewTemplate {
            name: "pump".parse().unwrap(),
            kind: TemplateKind::Jitp,
            body: jitp.body_for(&place, &policy),
            role: "arn:aws:iam::123456789012:role/JITPRole".into(),
            description: None,
            enabled: true,
            hook: None,
        };
        registry.create_template(template, now).unwrap();
        let request = CaRegistration {
            certificate: self.ca.certificate.clone(),
            verification: None,
            mode: CertificateMode::SniOnly,
            active: true,
            auto_registration: true,
            config: Some(RegistrationConfig::Named("pump".parse().unwrap())),
        };
        registry.register_ca(request, now).unwrap();
    }

    fn device(&self, name: &str) -> Device {
        self.device_of(
            &self.ca,
            &format!("CN={name},serialNumber={name}"),
            (-1, 10),
        )
    }

    pub(crate) fn device_of(&self, ca: &Ca, subject: &str, days: (i64, i64)) -> Device {
        let (key, public) = key();
        let issuer = IssuerView::from_ca(&ca.certificate).unwrap();
        let certificate = draft(subject, &public, Purpose::Device, days).sign(&issuer, &ca.signer);
        let file = |suffix: &str, text: &str| {
            let path = self
                .folder
                .path()
                .join(format!("{}.{suffix}", certificate.id().short()));
            std::fs::write(&path, text).unwrap();
            path
        };
        Device {
            chain_file: file("chain.pem", &certificate.to_pem()),
            key_file: file("key.pem", &key.to_pem()),
            certificate,
            key,
        }
    }

    /// A device that has been provisioned.
    pub(crate) fn provisioned(&self, name: &str) -> Device {
        let device = self.device(name);
        assert!(
            !self
                .publish(&device, name, &format!("devices/{name}/hello"))
                .success()
        );
        self.wait_active(&device);
        device
    }

    fn status(&self, device: &Device) -> Option<CertificateStatus> {
        let registry = self.running.registry().lock().unwrap();
        let entry = registry.certificate(device.certificate.id());
        entry.map(|entry| entry.status)
    }

    fn wait_active(&self, device: &Device) {
        wait_for("the device becomes active", || {
            self.status(device) == Some(CertificateStatus::Active)
        });
    }

    /// Registers a certificate as active with a policy of this name.
    pub(crate) fn allow(&self, device: &Device, policy: &str, document: &str) {
        let name: PolicyName = policy.parse().unwrap();
        let id = device.certificate.id().clone();
        let ca = self.ca.certificate.id().clone();
        let now = SystemClock.now();
        let mut registry = self.running.registry().lock().unwrap();
        registry
            .register_pending(&device.certificate, &ca, now)
            .unwrap();
        registry.create_policy(&name, document, now).unwrap();
        let arn = registry.place().arn("cert", &id);
        registry.attach_policy(&name, &arn).unwrap();
        registry
            .update_certificate(&id, CertificateStatus::Active, now)
            .unwrap();
    }

    pub(crate) fn client(&self, program: &str, device: &Device) -> Command {
        let mut command = Command::new(program);
        let info = self.running.info();
        let ca_file = info.ca_file.as_ref().unwrap();
        command.args([
            "-h",
            "localhost",
            "-p",
            &info.mqtt_port.unwrap().to_string(),
        ]);
        command.arg("--cafile").arg(ca_file);
        command.arg("--cert").arg(&device.chain_file);
        command.arg("--key").arg(&device.key_file);
        command.args(["-q", "1"]);
        command
    }

    fn publish(&self, device: &Device, client_id: &str, topic: &str) -> ExitStatus {
        let mut command = self.client("mosquitto_pub", device);
        command.args(["-i", client_id, "-t", topic, "-m", "21.5"]);
        let output = command.output().expect("mosquitto_pub must be installed");
        output.status
    }

    /// A subscriber that is up.
    fn subscribe(&self, device: &Device, client_id: &str, filter: &str) -> Subscriber {
        let mut command = self.client("mosquitto_sub", device);
        command.args(["-i", client_id, "-t", filter]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.wait_subscribed(client_id);
        Subscriber(child)
    }

    pub(crate) fn wait_subscribed(&self, client_id: &str) {
        self.record(|record| {
            let of = record.client_id.as_deref() == Some(client_id);
            of && record.event_type == "Subscribe" && !record.failed()
        });
    }

    /// The record that says this, as soon as it is there.
    pub(crate) fn record(&self, wanted: impl Fn(&Record) -> bool) -> Record {
        let mut found = None;
        wait_for("the record is written", || {
            found = self
                .running
                .records()
                .into_iter()
                .find(|record| wanted(record));
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn refusal(&self, reason: &str, details: &str) -> Record {
        self.record(|record| {
            record.reason.as_deref() == Some(reason)
                && record
                    .details
                    .as_deref()
                    .is_some_and(|text| text.contains(details))
        })
    }
}

pub(crate) struct Subscriber(pub(crate) Child);

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_first_connection_is_dropped_and_makes_the_thing() {
    let lab = Lab::new();
    let device = lab.device("pump-1");
    assert!(!lab.publish(&device, "pump-1", "devices/pump-1/t").success());
    let record = lab.record(|record| record.event_type == "ProvisionDevice");
    assert_eq!(record.client_id.as_deref(), Some("pump-1"));
    lab.wait_active(&device);
    let thing: ThingName = "pump-1".parse().unwrap();
    assert!(
        lab.running
            .registry()
            .lock()
            .unwrap()
            .thing(&thing)
            .is_some()
    );
    assert!(lab.publish(&device, "pump-1", "devices/pump-1/t").success());
    let done = lab.record(|record| record.provisioning_template_name.is_some());
    assert_eq!(
        done.details.as_deref(),
        Some("thing `pump-1` created; certificate ACTIVE")
    );
}

#[test]
fn a_device_is_refused_on_anothers_topics() {
    let lab = Lab::new();
    let device = lab.provisioned("pump-2");
    let mut ears = lab.client("mosquitto_sub", &device);
    ears.args(["-i", "pump-2", "-t", "devices/pump-1/#"]);
    // It connects again and again by itself, so it is stopped from outside.
    let ears = Subscriber(ears.stderr(Stdio::null()).spawn().unwrap());
    let record = lab.refusal(
        "AUTHORIZATION_FAILURE",
        "iot:Subscribe on `arn:aws:iot:eu-west-1:123456789012:topicfilter/devices/pump-1/#` is \
         not allowed by any statement of `nameplate-device`",
    );
    assert_eq!(record.event_type, "Subscribe");
    drop(ears);
    assert!(!lab.publish(&device, "pump-2", "devices/pump-1/t").success());
    let record = lab.refusal("AUTHORIZATION_FAILURE", "iot:Publish on");
    assert_eq!(record.topic_name.as_deref(), Some("devices/pump-1/t"));
    assert_eq!(record.event_type, "Publish-In");
}

#[test]
fn messages_reach_their_subscriber() {
    let lab = Lab::new();
    let device = lab.provisioned("pump-1");
    let mut ears = lab.client("mosquitto_sub", &device);
    ears.args([
        "-i",
        "pump-1",
        "-t",
        "devices/pump-1/#",
        "-v",
        "-d",
        "-C",
        "1",
    ]);
    let ears = ears.stdout(Stdio::piped()).spawn().unwrap();
    lab.wait_subscribed("pump-1");
    // Another principal with wide rights publishes to it.
    let backend = lab.device_of(&lab.ca, "CN=backend,serialNumber=backend", (-1, 10));
    allow_everything(&lab, &backend);
    assert!(
        lab.publish(&backend, "backend", "devices/pump-1/command")
            .success()
    );
    let heard = ears.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&heard.stdout);
    assert!(text.contains("devices/pump-1/command 21.5"), "{text}");
}

/// Registers a certificate as active with a policy that allows all of IoT.
fn allow_everything(lab: &Lab, device: &Device) {
    let document = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iot:*","Resource":"*"}]}"#;
    lab.allow(device, "everything", document);
}

#[test]
fn a_stolen_client_id_is_refused_without_connack() {
    let lab = Lab::new();
    let _one = lab.provisioned("pump-1");
    let two = lab.provisioned("pump-2");
    assert!(!lab.publish(&two, "pump-1", "devices/pump-1/t").success());
    let record = lab.refusal("AUTHORIZATION_FAILURE", "iot:Connect on");
    assert_eq!(record.client_id.as_deref(), Some("pump-1"));
    let details = record.details.unwrap();
    for part in [
        "`arn:aws:iot:eu-west-1:123456789012:client/pump-1`",
        "`nameplate-device`",
        "${iot:Connection.Thing.ThingName} has no value",
        "attached to `pump-2`",
    ] {
        assert!(details.contains(part), "{details}\n  lacks {part}");
    }
}

#[test]
fn a_second_connection_takes_the_client_id_over() {
    let lab = Lab::new();
    let device = lab.provisioned("pump-1");
    let _first = lab.subscribe(&device, "pump-1", "devices/pump-1/#");
    assert!(lab.publish(&device, "pump-1", "devices/pump-1/t").success());
    let record = lab.refusal("DUPLICATE_CLIENT_ID", "same client ID");
    assert_eq!(record.event_type, "Disconnect");
    assert_eq!(
        record.disconnect_reason.as_deref(),
        Some("DUPLICATE_CLIENTID")
    );
    assert_eq!(record.client_id.as_deref(), Some("pump-1"));
    let id = device.certificate.id().as_str();
    assert_eq!(record.principal_id.as_deref(), Some(id));
}

#[test]
fn unknown_expired_and_revoked_certificates_are_refused_by_name() {
    let lab = Lab::new();
    let stranger = ca("Stranger CA");
    let impostor = ca("Factory CA");
    for (device, part) in [
        (
            lab.device_of(&stranger, "CN=x,serialNumber=x", (-1, 1)),
            "no CA named `CN=Stranger CA`",
        ),
        (
            lab.device_of(&impostor, "CN=x,serialNumber=x", (-1, 1)),
            "its key did not sign it",
        ),
        (
            lab.device_of(&lab.ca, "CN=x,serialNumber=x", (-2, -1)),
            "expired at",
        ),
        (
            lab.device_of(&lab.ca, "CN=x,serialNumber=x", (1, 2)),
            "not valid before",
        ),
    ] {
        assert!(!lab.publish(&device, "x", "devices/x/t").success());
        let record = lab.refusal("AUTHORIZATION_FAILURE", part);
        assert_eq!(record.client_id.as_deref(), Some("x"));
        assert_eq!(lab.status(&device), None);
    }
    let device = lab.provisioned("pump-1");
    let _ears = lab.subscribe(&device, "pump-1", "devices/pump-1/#");
    let id = device.certificate.id();
    let now = SystemClock.now();
    {
        let mut registry = lab.running.registry().lock().unwrap();
        registry
            .update_certificate(id, CertificateStatus::Revoked, now)
            .unwrap();
    }
    lab.refusal("AUTHORIZATION_FAILURE", "not ACTIVE any more");
    assert!(!lab.publish(&device, "pump-1", "devices/pump-1/t").success());
    lab.refusal("AUTHORIZATION_FAILURE", "the certificate is REVOKED");
}

#[test]
fn a_failed_template_leaves_the_certificate_pending_and_says_why() {
    let lab = Lab::new();
    let device = lab.device_of(&lab.ca, "CN=pump 1", (-1, 1));
    assert!(!lab.publish(&device, "x", "devices/x/t").success());
    let record =
        lab.record(|record| record.reason.as_deref() == Some("ProvisionThing.ClientError"));
    assert_eq!(
        lab.status(&device),
        Some(CertificateStatus::PendingActivation)
    );
    assert_eq!(record.provisioning_template_name.as_deref(), Some("pump"));
    let details = record.details.unwrap();
    assert!(
        details.contains("SerialNumber") || details.contains("pump 1"),
        "{details}"
    );
    // Tried again on the next connection.
    assert!(!lab.publish(&device, "x", "devices/x/t").success());
    lab.record(|record| {
        record
            .details
            .as_deref()
            .is_some_and(|d| d.starts_with("still PENDING"))
    });
}

/// Handshakes with this server name, sends a CONNECT, and returns what comes back.
fn raw_connect(lab: &Lab, device: &Device, name: &str, sni: bool) -> Result<Vec<u8>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let ca = Certificate::all_from_pem(lab.running.ca_pem().unwrap().as_bytes()).unwrap();
    roots.add(ca[0].der().to_vec().into()).unwrap();
    let chain = vec![device.certificate.der().to_vec().into()];
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(device.key.pkcs8().to_vec());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key.into())
        .unwrap();
    config.enable_sni = sni;
    let name = name.to_owned().try_into().unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let tcp = TcpStream::connect(lab.running.mqtt_addr().unwrap()).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, tcp);
    let connect = b"\x10\x12\0\x04MQTT\x04\x02\0\x3c\0\x06pump-1";
    stream
        .write_all(connect)
        .map_err(|error| error.to_string())?;
    let mut answer = vec![0; 4];
    stream
        .read_exact(&mut answer)
        .map_err(|error| error.to_string())?;
    Ok(answer)
}

#[test]
fn the_server_name_must_be_the_endpoints() {
    let lab = Lab::new();
    let device = lab.provisioned("pump-1");
    assert_eq!(
        raw_connect(&lab, &device, "localhost", true).unwrap(),
        [0x20, 2, 0, 0]
    );
    assert!(raw_connect(&lab, &device, "example.com", true).is_err());
    lab.refusal(
        "TLS_FAILURE",
        "the TLS server name `example.com`; this endpoint is `localhost`",
    );
    assert!(raw_connect(&lab, &device, "localhost", false).is_err());
    lab.refusal("TLS_FAILURE", "the TLS server name none");
}

#[test]
fn with_legacy_sni_a_missing_name_is_judged_by_the_certificates_mode() {
    let lab = Lab::with(|mqtt| mqtt.legacy_sni = true);
    let device = lab.provisioned("pump-1");
    assert!(raw_connect(&lab, &device, "localhost", false).is_err());
    lab.refusal("AUTHORIZATION_FAILURE", "sent no TLS server name");
}

#[test]
fn the_log_file_and_the_server_ca_outlive_the_sandbox() {
    let lab = Lab::new();
    lab.provisioned("pump-1");
    let Lab {
        running, folder, ..
    } = lab;
    let ca = running.ca_pem().unwrap().to_owned();
    running.stop();
    let path = folder.path().join("sandbox");
    assert!(nameplate::sandbox::server::find_running(&path).is_none());
    let log = std::fs::read_to_string(path.join("logs.ndjson")).unwrap();
    assert!(log.lines().count() >= 2, "{log}");
    assert_eq!(
        std::fs::read_to_string(path.join("server-ca.pem")).unwrap(),
        ca
    );
    let place = nameplate::core::ids::Place {
        account: "123456789012".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
    };
    let entropy = Arc::new(OsEntropy::default());
    let mut config = ServerConfig::new(
        StatePlace::Durable(path),
        place,
        Arc::new(SystemClock),
        entropy,
    );
    config.mqtt = Some(MqttConfig::new("127.0.0.1:0".parse().unwrap()));
    let again = Server::start(config).unwrap();
    assert_eq!(again.ca_pem().unwrap(), ca);
    assert_eq!(again.registry().lock().unwrap().things().count(), 1);
}
