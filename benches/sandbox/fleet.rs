//! Identities of one CA, and state folders in which they are registered.

use std::path::Path;
use std::sync::Arc;

use nameplate::core::cert::Certificate;
use nameplate::core::draft::stamp::Stamp;
use nameplate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
use nameplate::core::ids::{CertificateId, Place};
use nameplate::core::key::{KeyAlgorithm, KeyFile, PrivateKey, PublicKey};
use nameplate::core::subject::Subject;
use nameplate::core::template::TemplateKind;
use nameplate::core::time::{UtcTime, Validity};
use nameplate::effects::entropy::OsEntropy;
use nameplate::effects::keys::{LocalSigner, RingKeys};
use nameplate::ports::{Keygen, Signer};
use nameplate::sandbox::folder::{Folder, SERVER_CA, SERVER_CA_KEY, STATE};
use nameplate::sandbox::registry::{
    ApiError, AttachTo, CaRegistration, CertificateMode, CertificateRegistration,
    CertificateStatus, NewTemplate, NewThing, RegistrationConfig, Registry,
};
use nameplate::sandbox::store::Store;
use nameplate::sandbox::tls::ServerCa;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The sandbox's own account and Region, unless told otherwise.
const ACCOUNT: &str = "123456789012";
pub(crate) const REGION: &str = "us-east-1";
const TEMPLATE: &str = include_str!("../../templates/jitp-certificate.json");
const POLICY: &str = include_str!("../../templates/device-policy-certificate.json");
/// How many devices are registered in one transaction.
const TOGETHER: usize = 1000;

/// A device.
pub(crate) struct Identity {
    pub(crate) name: String,
    certificate: Certificate,
    key: PrivateKey,
}

/// A CA and the devices that it has issued certificates for.
pub(crate) struct Fleet {
    ca: Certificate,
    pub(crate) devices: Vec<Identity>,
}

/// Which policies devices have.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Policies {
    /// One for all, with policy variables.
    Shared,
    /// One for each.
    Own,
}

fn place() -> Place {
    Place {
        account: ACCOUNT.parse().unwrap(),
        region: REGION.parse().unwrap(),
    }
}

fn validity() -> Validity {
    Validity {
        not_before: "2020-01-01".parse().unwrap(),
        not_after: "2040-01-01".parse().unwrap(),
    }
}

fn serial() -> [u8; 16] {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).unwrap();
    serial
}

fn spec(subject: Subject, public: &PublicKey, purpose: Purpose) -> DraftSpec<'_> {
    DraftSpec {
        subject,
        serial: serial(),
        validity: validity(),
        public_key: public,
        purpose,
        alternative_names: Vec::new(),
        extras: Extras::default(),
    }
}

impl Fleet {
    pub(crate) fn new(devices: usize) -> Self {
        let keys = RingKeys::default();
        let (ca_key, ca_public) = keys.generate(KeyAlgorithm::EcP256).unwrap();
        let signer = LocalSigner::new(&ca_key).unwrap();
        let subject: Subject = "CN=Line 1,O=Example Pumps".parse().unwrap();
        let issuer = IssuerView::self_signed(&subject, &ca_public).unwrap();
        let root = spec(subject, &ca_public, Purpose::Root { path_len: Some(0) });
        let draft = Draft::new(&root, &issuer).unwrap();
        let signature = signer.sign(draft.tbs()).unwrap();
        let ca = draft.seal(&signature).unwrap();
        let issuer = IssuerView::from_ca(&ca).unwrap();
        let model = spec(Subject::common_name("device"), &ca_public, Purpose::Device);
        let stamp = Stamp::new(&model, &issuer).unwrap();
        let device = |n: usize| {
            let name = format!("pump-{n:06}");
            let (key, public) = keys.generate(KeyAlgorithm::EcP256).unwrap();
            let subject = Subject::common_name(&name);
            let tbs = stamp.tbs(serial(), &subject, &public).unwrap();
            let der = stamp.seal(&tbs, &signer.sign(&tbs).unwrap());
            Identity {
                certificate: Certificate::from_der(&der).unwrap(),
                name,
                key,
            }
        };
        Self {
            ca,
            devices: (0..devices).map(device).collect(),
        }
    }

    /// A state folder in which the CA provisions, and the first `count` devices are registered. The
    /// server CA of `servers` is its own.
    pub(crate) fn register(
        &self,
        folder: &Path,
        count: usize,
        policies: Policies,
        servers: &Server,
    ) {
        let held = Folder::take(folder).unwrap();
        held.write(SERVER_CA_KEY, &servers.ca_key, 0o600).unwrap();
        held.write(SERVER_CA, &servers.ca, 0o644).unwrap();
        let store = Store::durable(&held.file(STATE)).unwrap();
        let mut registry = Registry::open(place(), store).unwrap();
        let now = "2026-01-01".parse().unwrap();
        self.prepare(&mut registry, now);
        for some in self.devices[..count].chunks(TOGETHER) {
            let all = registry.together(|registry| {
                some.iter()
                    .try_for_each(|device| Self::enrol(registry, device, (policies, now)))
            });
            all.unwrap();
        }
    }

    fn prepare(&self, registry: &mut Registry, now: UtcTime) {
        let place = place();
        let shared = [
            ("${Partition}", "aws"),
            ("${Region}", place.region.as_str()),
            ("${AccountId}", place.account.as_str()),
        ];
        let policy = shared
            .iter()
            .fold(POLICY.to_owned(), |text, (from, to)| text.replace(from, to));
        let name = "nameplate-device-certificate".parse().unwrap();
        registry.create_policy(&name, &policy, now).unwrap();
        let template = NewTemplate {
            name: "pump".parse().unwrap(),
            kind: TemplateKind::Jitp,
            body: TEMPLATE.to_owned(),
            role: format!("arn:aws:iam::{ACCOUNT}:role/Provisioning"),
            description: None,
            enabled: true,
            hook: None,
        };
        registry.create_template(template, now).unwrap();
        let request = CaRegistration {
            certificate: self.ca.clone(),
            verification: None,
            mode: CertificateMode::SniOnly,
            active: true,
            auto_registration: true,
            config: Some(RegistrationConfig::Named("pump".parse().unwrap())),
        };
        registry.register_ca(request, now).unwrap();
    }

    fn enrol(
        registry: &mut Registry,
        device: &Identity,
        (policies, now): (Policies, UtcTime),
    ) -> Result<(), ApiError> {
        let certificate = registry.register_certificate(
            &CertificateRegistration {
                certificate: device.certificate.clone(),
                ca: None,
                status: CertificateStatus::Active,
                without_ca: true,
            },
            now,
        )?;
        let thing = device.name.parse().unwrap();
        let made = NewThing {
            name: device.name.parse().unwrap(),
            type_name: None,
            attributes: std::collections::BTreeMap::new(),
            billing_group: None,
        };
        registry.create_thing(made, now)?;
        let name = match policies {
            Policies::Shared => "nameplate-device-certificate".parse().unwrap(),
            Policies::Own => own_policy(registry, &device.name, now)?,
        };
        registry.attach_policy(&name, &arn(&certificate))?;
        registry.attach_thing(&AttachTo {
            thing,
            certificate,
            exclusive: false,
        })
    }

    /// The CA, PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.ca.to_pem()
    }
}

fn arn(certificate: &CertificateId) -> String {
    place().arn("cert", certificate)
}

/// A policy that names one device.
fn own_policy(
    registry: &mut Registry,
    device: &str,
    now: UtcTime,
) -> Result<nameplate::core::ids::PolicyName, ApiError> {
    let name = format!("of-{device}").parse().unwrap();
    let base = format!("arn:aws:iot:{REGION}:{ACCOUNT}");
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Action":"iot:Connect","Resource":"{base}:client/{device}"}},
            {{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":"{base}:topic/devices/{device}/*"}},
            {{"Effect":"Allow","Action":"iot:Subscribe","Resource":"{base}:topicfilter/devices/{device}/*"}}]}}"#
    );
    registry.create_policy(&name, &document, now)?;
    Ok(name)
}

impl Identity {
    /// A TLS client that is this device: a new session each time, and the server verified.
    pub(crate) fn client(&self, roots: &Arc<RootCertStore>) -> Arc<ClientConfig> {
        let key = PrivatePkcs8KeyDer::from(self.key.pkcs8().to_vec());
        let chain = vec![CertificateDer::from(self.certificate.der().to_vec())];
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(roots))
            .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key))
            .unwrap();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server CA that all servers have, and the certificate of those that cannot make their own.
pub(crate) struct Server {
    pub(crate) ca: String,
    ca_key: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Server {
    pub(crate) fn new(folder: &Path) -> Self {
        let held = Folder::take(folder).unwrap();
        let _ = ServerCa::of_folder(&held, &OsEntropy::default()).unwrap();
        let read = |name| held.read(name).unwrap().unwrap();
        let (ca, ca_key) = (read(SERVER_CA), read(SERVER_CA_KEY));
        let KeyFile::Clear(key) = KeyFile::parse(ca_key.as_bytes()).unwrap() else {
            unreachable!("the sandbox keeps its server CA's key as it is")
        };
        let signer = LocalSigner::new(&key).unwrap();
        let issuer = Certificate::all_from_pem(ca.as_bytes()).unwrap().remove(0);
        let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
        let mut spec = spec(Subject::common_name("localhost"), &public, Purpose::Server);
        spec.alternative_names = vec!["DNS:localhost".into()];
        let issuer = IssuerView::from_ca(&issuer).unwrap();
        let draft = Draft::new(&spec, &issuer).unwrap();
        let signature = signer.sign(draft.tbs()).unwrap();
        Self {
            certificate: draft.seal(&signature).unwrap().to_pem(),
            key: key.to_pem().to_string(),
            ca,
            ca_key,
        }
    }

    /// What clients trust.
    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let ca = Certificate::all_from_pem(self.ca.as_bytes())
            .unwrap()
            .remove(0);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.der().to_vec())).unwrap();
        Arc::new(roots)
    }
}
