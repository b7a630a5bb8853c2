//! The MQTT endpoint's TLS: its own CA and certificate, and a verifier of clients that only checks
//! that the client has its certificate's key. Whether the certificate may connect is decided by the
//! registry, where unknown ones can be provisioned ([`crate::core::jitp`]).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use zeroize::Zeroizing;

use super::faults::{FaultName, Faults};
use super::folder::{Folder, FolderError, SERVER_CA, SERVER_CA_KEY};
use crate::core::cert::{CertError, Certificate};
use crate::core::draft::{Draft, DraftError, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::key::{KeyError, KeyFile, PrivateKey, PublicKey};
use crate::core::subject::Subject;
use crate::core::time::{Span, UtcTime, Validity};
use crate::explain::{Explain, Kind};
use crate::ports::{Clock, Entropy};

/// How long one certificate of the endpoint lasts.
const LIFETIME: Span = Span::days(397);
/// How far its beginning lies in the past, because clients' clocks lag.
const BACKDATE: Span = Span::days(1);
/// The application protocol of MQTT with a client certificate.
pub(super) const MQTT: &[u8] = b"x-amzn-mqtt-ca";
/// The application protocols of HTTPS with a client certificate; browsers' own beside AWS IoT's.
const HTTPS: [&[u8]; 2] = [b"x-amzn-http-ca", b"http/1.1"];

/// The endpoint's own CA: signs nothing but the endpoint's certificate.
pub struct ServerCa {
    certificate: Certificate,
    key: Key,
}

/// A P-256 key pair.
pub(super) struct Key {
    pub(super) pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
    pub(super) public: PublicKey,
}

impl Key {
    pub(super) fn generate() -> Result<Self, TlsError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| TlsError::Crypto("the key could not be made"))?;
        Self::read(Zeroizing::new(document.as_ref().to_vec()))
    }

    pub(super) fn read(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, TlsError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random)
            .map_err(|_| TlsError::Crypto("the key is not P-256 in PKCS#8"))?;
        let public = PublicKey::from_ec_point(pair.public_key().as_ref())?;
        Ok(Self {
            pkcs8,
            pair,
            public,
        })
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TlsError> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| TlsError::Crypto("the key would not sign"))?;
        Ok(signature.as_ref().to_vec())
    }
}

impl ServerCa {
    /// The folder's CA, or a new one kept there.
    ///
    /// # Errors
    /// `sandbox.state` when the files cannot be read or written, `sandbox.tls` when they do not
    /// hold a CA.
    pub fn of_folder(folder: &Folder, entropy: &dyn Entropy) -> Result<Self, TlsError> {
        let stored = (folder.read(SERVER_CA)?, folder.read(SERVER_CA_KEY)?);
        if let (Some(certificate), Some(key)) = stored {
            return Self::parse(&certificate, &Zeroizing::new(key));
        }
        let ca = Self::generate(entropy)?;
        let key = PrivateKey::from_pkcs8(ca.key.pkcs8.clone());
        // The key first: a certificate in the folder always has its key.
        folder.write(SERVER_CA_KEY, &key.to_pem(), 0o600)?;
        folder.write(SERVER_CA, &ca.pem(), 0o644)?;
        Ok(ca)
    }

    /// A new CA. It is valid at any time, because the sandbox's clock may be set to any.
    ///
    /// # Errors
    /// `sandbox.tls`.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, TlsError> {
        let key = Key::generate()?;
        let subject = Subject::common_name("nameplate sandbox server CA");
        let issuer = IssuerView::self_signed(&subject, &key.public)?;
        let validity = Validity {
            not_before: UtcTime::MIN,
            not_after: UtcTime::NO_EXPIRY,
        };
        let spec = DraftSpec {
            subject,
            serial: serial(entropy),
            validity,
            public_key: &key.public,
            purpose: Purpose::Root { path_len: Some(0) },
            alternative_names: Vec::new(),
            extras: Extras::default(),
        };
        let draft = Draft::new(&spec, &issuer)?;
        let signature = key.sign(draft.tbs())?;
        Ok(Self {
            certificate: draft.seal(&signature)?,
            key,
        })
    }

    fn parse(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let certificate = Certificate::all_from_pem(certificate.as_bytes())?.remove(0);
        let KeyFile::Clear(key) = KeyFile::parse(key.as_bytes())? else {
            return Err(TlsError::Crypto("the server CA's key is encrypted"));
        };
        let key = Key::read(Zeroizing::new(key.pkcs8().to_vec()))?;
        if certificate.public_key != key.public {
            return Err(TlsError::Crypto(
                "the server CA's key and certificate do not fit",
            ));
        }
        Ok(Self { certificate, key })
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> String {
        self.certificate.to_pem()
    }

    fn issue(&self, endpoint: &str, now: UtcTime, serial: [u8; 16]) -> Result<Issued, TlsError> {
        let validity = Validity {
            not_before: now.minus(BACKDATE),
            not_after: now.plus(LIFETIME),
        };
        self.certify(validity, names(endpoint), serial)
    }

    /// Issues a server certificate for these alternative names; the first is its common name.
    fn certify(
        &self,
        validity: Validity,
        alternative_names: Vec<String>,
        serial: [u8; 16],
    ) -> Result<Issued, TlsError> {
        let key = Key::generate()?;
        let common_name = alternative_names
            .first()
            .map_or("", |name| &name["DNS:".len()..]);
        let spec = DraftSpec {
            subject: Subject::common_name(common_name),
            serial,
            validity,
            public_key: &key.public,
            purpose: Purpose::Server,
            alternative_names,
            extras: Extras::default(),
        };
        let draft = Draft::new(&spec, &IssuerView::from_ca(&self.certificate)?)?;
        let signature = self.key.sign(draft.tbs())?;
        let certificate = draft.seal(&signature)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.pkcs8.to_vec()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&der)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        Ok(Issued {
            validity,
            certified: Arc::new(CertifiedKey::new(chain, signing)),
        })
    }
}

/// What the endpoint is called in its certificate.
fn names(endpoint: &str) -> Vec<String> {
    let mut names = vec![format!("DNS:{endpoint}")];
    if endpoint != "localhost" {
        names.push("DNS:localhost".into());
    }
    names.extend(["IP:127.0.0.1".to_owned(), "IP:::1".to_owned()]);
    names
}

fn serial(entropy: &dyn Entropy) -> [u8; 16] {
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    serial
}

struct Issued {
    validity: Validity,
    certified: Arc<CertifiedKey>,
}

/// What the endpoint is called, and how strictly clients must say so.
pub struct Endpoint {
    /// Its name: the TLS server name a client must send.
    pub name: String,
    /// The names of the other accounts' and Regions' endpoints, in lower case.
    pub others: RwLock<HashSet<String>>,
    /// Takes clients that send no server name at all.
    pub legacy_sni: bool,
    /// The time by which its own certificate is renewed.
    pub clock: Arc<dyn Clock + Send + Sync>,
    /// For serial numbers.
    pub entropy: Arc<dyn Entropy + Send + Sync>,
    /// What is to be wrong with its certificate.
    pub faults: Arc<Faults>,
}

impl Endpoint {
    /// The endpoint's name that a client means by this server name; `None` when there is no such
    /// endpoint here.
    pub fn meant(&self, server_name: Option<&str>) -> Option<String> {
        let Some(name) = server_name else {
            return self.legacy_sni.then(|| self.name.clone());
        };
        if name.eq_ignore_ascii_case(&self.name) {
            return Some(self.name.clone());
        }
        let name = name.to_ascii_lowercase();
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.contains(&name).then_some(name)
    }

    /// From now on it goes by this name, too.
    pub(super) fn also(&self, name: &str) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        others.insert(name.to_ascii_lowercase());
    }
}

/// Presents the endpoint's certificate, a new one when the last is over; none to a client that
/// asks for another name, which ends the handshake.
struct Presenter {
    endpoint: Arc<Endpoint>,
    ca: ServerCa,
    /// One certificate for each name.
    current: Mutex<HashMap<String, Issued>>,
}

impl fmt::Debug for Presenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presenter")
    }
}

impl ResolvesServerCert for Presenter {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = self.endpoint.meant(hello.server_name())?;
        let now = self.endpoint.clock.now();
        let has = |fault: &&FaultName| self.endpoint.faults.has(**fault);
        if let Some(fault) = CERT_FAULTS.iter().find(has) {
            return self.flawed(*fault, &name, now).ok();
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(issued) = current.get(&name)
            && issued.validity.contains(now)
        {
            return Some(Arc::clone(&issued.certified));
        }
        let serial = serial(&*self.endpoint.entropy);
        let issued = self.ca.issue(&name, now, serial).ok()?;
        let certified = Arc::clone(&issued.certified);
        current.insert(name, issued);
        Some(certified)
    }
}

/// The faults of the endpoint's certificate; the first that is set counts.
const CERT_FAULTS: [FaultName; 5] = [
    FaultName::CertExpired,
    FaultName::CertNotYetValid,
    FaultName::CertWrongName,
    FaultName::CertUntrusted,
    FaultName::CertOversized,
];
/// How many names make a certificate larger than one TLS record (16 KiB).
const PADDING: usize = 500;

impl Presenter {
    /// A certificate with this fault, right in all else.
    fn flawed(
        &self,
        fault: FaultName,
        name: &str,
        now: UtcTime,
    ) -> Result<Arc<CertifiedKey>, TlsError> {
        let serial = serial(&*self.endpoint.entropy);
        let days = |from, to| Validity {
            not_before: now.plus(Span::days(from)),
            not_after: now.plus(Span::days(to)),
        };
        let good = days(-1, 397);
        let issued = match fault {
            FaultName::CertExpired => {
                let window = days(-30, -1);
                self.ca.certify(window, names(name), serial)
            }
            FaultName::CertNotYetValid => {
                let window = days(1, 397);
                self.ca.certify(window, names(name), serial)
            }
            FaultName::CertWrongName => {
                let wrong = vec!["DNS:wrong-name.invalid".to_owned()];
                self.ca.certify(good, wrong, serial)
            }
            FaultName::CertUntrusted => {
                let stranger = ServerCa::generate(&*self.endpoint.entropy)?;
                stranger.certify(good, names(name), serial)
            }
            _ => {
                let padding = (0..PADDING).map(|n| format!("DNS:padding-{n:04}.sandbox.invalid"));
                let all = names(name).into_iter().chain(padding).collect();
                self.ca.certify(good, all, serial)
            }
        };
        Ok(issued?.certified)
    }
}

/// Asks for a client certificate and checks only that the client has its key.
#[derive(Debug)]
struct ProofOfPossession {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for ProofOfPossession {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        super::handshake::shown(end_entity);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Cipher suites in the order in which AWS IoT's security policies prefer them, AES-128-GCM first
/// (developer guide, "Transport security in AWS IoT Core").
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let rank = |suite: &rustls::SupportedCipherSuite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    };
    provider.cipher_suites.sort_by_key(rank);
    provider
}

/// TLS 1.2 and 1.3 with a client certificate, without session tickets, as AWS IoT has it.
///
/// # Errors
/// `sandbox.tls`.
pub fn server_config(ca: ServerCa, endpoint: Arc<Endpoint>) -> Result<Arc<ServerConfig>, TlsError> {
    let serial = serial(&*endpoint.entropy);
    let current = ca.issue(&endpoint.name, endpoint.clock.now(), serial)?;
    let current = HashMap::from([(endpoint.name.clone(), current)]);
    let presenter = Presenter {
        endpoint,
        ca,
        current: Mutex::new(current),
    };
    let provider = Arc::new(provider());
    let verifier = Arc::new(ProofOfPossession {
        provider: Arc::clone(&provider),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(presenter));
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![MQTT.to_vec()];
    Ok(Arc::new(config))
}

/// The same for the port where ALPN tells MQTT and HTTPS apart.
pub(super) fn https_config(mqtt: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = mqtt.clone();
    let protocols = [MQTT].into_iter().chain(HTTPS);
    config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
    Arc::new(config)
}

/// The endpoint's certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate that is not one.
    #[error("the sandbox's server CA cannot be read")]
    Certificate(#[from] CertError),
    /// A key that would not do.
    #[error("the sandbox's server certificate cannot be made: {0}")]
    Crypto(&'static str),
    /// A certificate that could not be encoded.
    #[error("the sandbox's server certificate cannot be made")]
    Draft(#[from] DraftError),
    /// A file that cannot be read or written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key that is not one.
    #[error("the sandbox's server CA cannot be read")]
    Key(#[from] KeyError),
    /// rustls would not have it.
    #[error("the sandbox's TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
}

impl Explain for TlsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Certificate(_) | Self::Key(_) | Self::Crypto(_) => Kind::Input,
            Self::Draft(_) | Self::Rustls(_) => Kind::Bug,
        }
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Folder(error) => error.code(),
            _ => "sandbox.tls",
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Folder(error) => error.hint(),
            Self::Certificate(_) | Self::Key(_) | Self::Crypto(_) => Some(format!(
                "remove {SERVER_CA} and {SERVER_CA_KEY} from the state folder: new ones are made"
            )),
            Self::Draft(_) | Self::Rustls(_) => None,
        }
    }
}
