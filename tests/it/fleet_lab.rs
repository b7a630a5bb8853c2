//! A sandbox in the test's own process, with policies, a fleet template and identities in it: what a
//! device meets at AWS IoT Core.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nameplate::core::bundle;
use nameplate::core::ids::{CertificateId, Place};
use nameplate::core::key::KeyAlgorithm;
use nameplate::core::status::CertificateStatus;
use nameplate::core::template::TemplateKind;
use nameplate::effects::clock::SystemClock;
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::keys::RingKeys;
use nameplate::ports::{Clock, Keygen};
use nameplate::sandbox::registry::{AttachTo, NewTemplate, Request};
use nameplate::sandbox::server::{MqttConfig, Running, Server, ServerConfig, StatePlace};

use crate::device_lab::{Said, command};

/// A thing by its serial number, its certificate made ACTIVE, and a policy.
pub(crate) const TEMPLATE: &str = r#"{"Parameters":{"SerialNumber":{"Type":"String"},
 "AWS::IoT::Certificate::Id":{"Type":"String"}},
 "Resources":{
  "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"SerialNumber"}},
   "OverrideSettings":{"AttributePayload":"MERGE"}},
  "certificate":{"Type":"AWS::IoT::Certificate","Properties":{
   "CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
  "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"device"}}},
 "DeviceConfiguration":{"Url":"https://a.example"}}"#;

/// What a device may: connect under its thing's name, and its own topics; and renew itself.
const DEVICE: &str = r#"{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"PLACE:client/${iot:Connection.Thing.ThingName}"},
 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":[
  "PLACE:topic/devices/${iot:Connection.Thing.ThingName}/*",
  "PLACE:topic/$aws/certificates/create*","PLACE:topic/$aws/provisioning-templates/fleet/provision/*"]},
 {"Effect":"Allow","Action":"iot:Subscribe","Resource":[
  "PLACE:topicfilter/devices/${iot:Connection.Thing.ThingName}/*",
  "PLACE:topicfilter/$aws/certificates/create*",
  "PLACE:topicfilter/$aws/provisioning-templates/fleet/provision/*"]}]}"#;

/// What a claim may.
const CLAIM: &str = r#"{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"PLACE:client/claim-*"},
 {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":[
  "PLACE:topic/$aws/certificates/create*","PLACE:topic/$aws/provisioning-templates/fleet/provision/*"]},
 {"Effect":"Allow","Action":"iot:Subscribe","Resource":[
  "PLACE:topicfilter/$aws/certificates/create*",
  "PLACE:topicfilter/$aws/provisioning-templates/fleet/provision/*"]}]}"#;

pub(crate) struct FleetLab {
    folder: tempfile::TempDir,
    pub(crate) sandbox: Running,
}

impl FleetLab {
    /// With the policies `device` and `claim` and the fleet template `fleet`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            account: "123456789012".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
        };
        let mut config = ServerConfig::new(
            StatePlace::Durable(folder.path().join("state")),
            place,
            Arc::new(SystemClock),
            Arc::new(OsEntropy::default()),
        );
        let any = "127.0.0.1:0".parse().unwrap();
        config.mqtt = Some(MqttConfig {
            https: Some(any),
            ..MqttConfig::new(any)
        });
        let lab = Self {
            folder,
            sandbox: Server::start(config).unwrap(),
        };
        lab.policy("device", DEVICE);
        lab.policy("claim", CLAIM);
        lab.template("fleet", TEMPLATE);
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Creates a policy, or puts another document in its place.
    pub(crate) fn policy(&self, name: &str, document: &str) {
        let mut registry = self.sandbox.registry().lock().unwrap();
        let arn = registry.place().arn("", "").replace(":/", "");
        let (name, now) = (name.parse().unwrap(), SystemClock.now());
        let document = document.replace("PLACE", &arn);
        if registry.policy(&name).is_some() {
            registry
                .create_policy_version(&name, &document, true, now)
                .unwrap();
        } else {
            registry.create_policy(&name, &document, now).unwrap();
        }
    }

    pub(crate) fn template(&self, name: &str, body: &str) {
        let template = NewTemplate {
            name: name.parse().unwrap(),
            kind: TemplateKind::FleetProvisioning,
            body: body.into(),
            role: "arn:aws:iam::123456789012:role/Provisioning".into(),
            description: None,
            enabled: true,
            hook: None,
        };
        let mut registry = self.sandbox.registry().lock().unwrap();
        registry
            .create_template(template, SystemClock.now())
            .unwrap();
    }

    /// An identity folder whose certificate is ACTIVE, with these policies.
    pub(crate) fn identity(&self, name: &str, policies: &[&str]) -> String {
        let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
        let now = SystemClock.now();
        let mut registry = self.sandbox.registry().lock().unwrap();
        let made = registry.entitle(&Request::for_key(public), now).unwrap();
        let made = made.certificate;
        registry
            .update_certificate(made.id(), CertificateStatus::Active, now)
            .unwrap();
        let arn = registry.place().arn("cert", made.id());
        for policy in policies {
            registry
                .attach_policy(&policy.parse().unwrap(), &arn)
                .unwrap();
        }
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        let key_file = folder.join(bundle::KEY);
        fs::write(&key_file, key.to_pem().as_bytes()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.join(bundle::CERTIFICATE), made.to_pem()).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    /// A claim: an identity that may ask for another.
    pub(crate) fn claim(&self) -> String {
        self.identity("claim", &["claim"])
    }

    /// Certifies a request, as an operator does: ACTIVE, with the device policy, for this thing. PEM.
    pub(crate) fn sign(&self, csr_pem: &str, thing: &str) -> String {
        let now = SystemClock.now();
        let mut registry = self.sandbox.registry().lock().unwrap();
        let request = Request::parse(csr_pem).unwrap();
        let made = registry.entitle(&request, now).unwrap().certificate;
        registry
            .update_certificate(made.id(), CertificateStatus::Active, now)
            .unwrap();
        let arn = registry.place().arn("cert", made.id());
        registry
            .attach_policy(&"device".parse().unwrap(), &arn)
            .unwrap();
        registry
            .attach_thing(&AttachTo {
                thing: thing.parse().unwrap(),
                certificate: made.id().clone(),
                exclusive: false,
            })
            .unwrap();
        made.to_pem()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("localhost:{}", self.sandbox.info().mqtt_port.unwrap())
    }

    pub(crate) fn https_endpoint(&self) -> String {
        format!("localhost:{}", self.sandbox.info().https_port.unwrap())
    }

    /// The program with endpoint and server CA set, ready to run.
    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = command(None, args);
        command
            .env("NAMEPLATE_ENDPOINT", self.endpoint())
            .env("NAMEPLATE_SERVER_CA", self.path("state/server-ca.pem"))
            .env("NAMEPLATE_SANDBOX_STATE", self.path("state"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Said {
        let args = [&["--format", "json"], args].concat();
        self.command(&args).output().unwrap().into()
    }

    /// Every certificate of the registry but those that `folders` hold, with its status.
    pub(crate) fn certificates(&self) -> Vec<(CertificateId, CertificateStatus)> {
        let registry = self.sandbox.registry().lock().unwrap();
        let all = registry.certificates();
        all.map(|entry| (entry.id.clone(), entry.status)).collect()
    }
}

/// The error object at the end of stderr.
#[track_caller]
pub(crate) fn error_of(said: &Said) -> serde_json::Value {
    let last = said.stderr.lines().rev().find(|line| line.starts_with('{'));
    serde_json::from_str(last.unwrap_or_else(|| panic!("{said}"))).unwrap()
}

/// The id of the certificate in an identity folder.
pub(crate) fn leaf(folder: &Path) -> Option<CertificateId> {
    let text = fs::read(folder.join(bundle::CERTIFICATE)).ok()?;
    let all = nameplate::core::cert::Certificate::all_from_pem(&text).ok()?;
    all.first().map(|leaf| leaf.id().clone())
}
