//! A certificate: DER and everything we ever ask of it, parsed once at the door.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::core::ids::{CertificateId, hex};
use crate::core::key::{KeyAlgorithm, PublicKey};
use crate::core::pem;
use crate::core::subject::Subject;
use crate::core::time::{UtcTime, Validity};
use crate::explain::{Explain, Kind};

/// The most bytes of one DER certificate we read: 64 KiB, as AWS IoT's PEM limit.
pub const MAX_DER_BYTES: usize = 65_536;

/// A parsed X.509 certificate. Immutable; owns its DER.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    id: CertificateId,
    /// 1, 2 or 3.
    pub version: u32,
    /// The serial number, big-endian, without a leading zero byte.
    pub serial: Vec<u8>,
    /// The subject, as attributes.
    pub subject: Subject,
    /// The subject's DER, for byte-exact comparison.
    pub subject_der: Vec<u8>,
    /// The issuer, as attributes.
    pub issuer: Subject,
    /// The issuer's DER.
    pub issuer_der: Vec<u8>,
    /// notBefore and notAfter.
    pub validity: Validity,
    /// The subject public key.
    pub public_key: PublicKey,
    /// Dotted OID of the signature algorithm.
    pub signature_algorithm: String,
    /// basicConstraints: `None` when absent.
    pub is_ca: Option<bool>,
    /// pathLenConstraint.
    pub path_len: Option<u32>,
    /// keyUsage: `None` when absent.
    pub key_usage: Option<KeyUsage>,
    /// extendedKeyUsage as dotted OIDs: `None` when absent.
    pub extended_key_usage: Option<Vec<String>>,
    /// subjectKeyIdentifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// authorityKeyIdentifier's keyIdentifier.
    pub authority_key_id: Option<Vec<u8>>,
    /// subjectAltName entries, each as `DNS:…`, `IP:…`, `URI:…`, `email:…`.
    pub alternative_names: Vec<String>,
    /// Dotted OIDs of the critical extensions that we do not know: whoever does not know them must
    /// refuse the certificate (RFC 5280 §4.2).
    pub unknown_critical: Vec<String>,
}

/// The keyUsage bits we decide by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
pub struct KeyUsage {
    /// digitalSignature.
    pub digital_signature: bool,
    /// keyCertSign.
    pub key_cert_sign: bool,
    /// cRLSign.
    pub crl_sign: bool,
}

impl Certificate {
    /// Parses one DER certificate; bytes left over are refused.
    ///
    /// # Errors
    /// `cert.der` when it is not one, `cert.size` over [`MAX_DER_BYTES`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        if der.len() > MAX_DER_BYTES {
            return Err(CertError::Size(der.len()));
        }
        let (rest, x509) =
            X509Certificate::from_der(der).map_err(|e| CertError::Der(e.to_string()))?;
        if !rest.is_empty() {
            return Err(CertError::Der(format!(
                "{} bytes are left over",
                rest.len()
            )));
        }
        Self::from_x509(der, &x509)
    }

    fn from_x509(der: &[u8], x509: &X509Certificate<'_>) -> Result<Self, CertError> {
        let mut certificate = Self {
            der: der.to_vec(),
            id: CertificateId::of_der(der),
            version: x509.version().0 + 1,
            serial: x509
                .tbs_certificate
                .raw_serial()
                .iter()
                .copied()
                .skip_while(|b| *b == 0)
                .collect(),
            subject: Subject::from_x509(x509.subject()),
            subject_der: x509.subject().as_raw().to_vec(),
            issuer: Subject::from_x509(x509.issuer()),
            issuer_der: x509.issuer().as_raw().to_vec(),
            validity: Validity {
                not_before: UtcTime::from_unix(x509.validity().not_before.timestamp()),
                not_after: UtcTime::from_unix(x509.validity().not_after.timestamp()),
            },
            public_key: PublicKey::from_spki(x509.public_key().raw)
                .map_err(|e| CertError::Der(e.to_string()))?,
            signature_algorithm: x509.signature_algorithm.algorithm.to_id_string(),
            is_ca: None,
            path_len: None,
            key_usage: None,
            extended_key_usage: None,
            subject_key_id: None,
            authority_key_id: None,
            alternative_names: Vec::new(),
            unknown_critical: Vec::new(),
        };
        for extension in x509.extensions() {
            let parsed = extension.parsed_extension();
            if extension.critical && matches!(parsed, ParsedExtension::UnsupportedExtension { .. })
            {
                certificate
                    .unknown_critical
                    .push(extension.oid.to_id_string());
            }
            certificate.take_extension(parsed);
        }
        Ok(certificate)
    }

    fn take_extension(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::BasicConstraints(bc) => {
                self.is_ca = Some(bc.ca);
                self.path_len = bc.path_len_constraint;
            }
            ParsedExtension::KeyUsage(ku) => {
                self.key_usage = Some(KeyUsage {
                    digital_signature: ku.digital_signature(),
                    key_cert_sign: ku.key_cert_sign(),
                    crl_sign: ku.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(eku) => self.extended_key_usage = Some(usages(eku)),
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                self.alternative_names = names.general_names.iter().map(alternative_name).collect();
            }
            _ => {}
        }
    }

    /// Reads every `CERTIFICATE` block of a PEM text, in order; other blocks are skipped. A text
    /// that starts like DER is read as one DER certificate.
    ///
    /// # Errors
    /// `pem.*`, `cert.*`, `cert.none` when there is no certificate.
    pub fn all_from_pem(text: &[u8]) -> Result<Vec<Self>, CertError> {
        if text.first() == Some(&0x30) {
            return Ok(vec![Self::from_der(text)?]);
        }
        let blocks = pem::parse(text)?;
        let certificates: Vec<Self> = blocks
            .iter()
            .filter(|block| matches!(&block.label[..], "CERTIFICATE" | "X509 CERTIFICATE"))
            .map(|block| Self::from_der(&block.der))
            .collect::<Result<_, _>>()?;
        if certificates.is_empty() {
            return Err(CertError::None(blocks[0].label.clone()));
        }
        Ok(certificates)
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as one PEM block.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }

    /// Lower-hex SHA-256 of the DER: the id AWS IoT shows.
    pub fn id(&self) -> &CertificateId {
        &self.id
    }

    /// The serial number in lower-case hexadecimal.
    pub fn serial_hex(&self) -> String {
        hex(&self.serial)
    }

    /// Whether issuer and subject are the same bytes.
    pub fn is_self_issued(&self) -> bool {
        self.subject_der == self.issuer_der
    }

    /// Whether `issuer`'s key made this certificate's signature, and the names agree.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        self.issuer_der == issuer.subject_der && self.verifies_with(&issuer.public_key)
    }

    /// Whether `key` made this certificate's signature.
    pub fn verifies_with(&self, key: &PublicKey) -> bool {
        let Ok((_, x509)) = X509Certificate::from_der(&self.der) else {
            return false;
        };
        let Ok((_, spki)) = x509_parser::x509::SubjectPublicKeyInfo::from_der(key.spki()) else {
            return false;
        };
        x509.verify_signature(Some(&spki)).is_ok()
    }

    /// Whether extendedKeyUsage lets the certificate be used for `oid`. Absent means any (RFC 5280
    /// §4.2.1.12).
    pub fn allows_usage(&self, oid: &str) -> bool {
        self.extended_key_usage
            .as_ref()
            .is_none_or(|all| all.iter().any(|one| one == oid || one == "2.5.29.37.0"))
    }

    /// Why AWS IoT would refuse the key or signature algorithm; `None` when it takes them.
    pub fn unsupported_algorithm(&self) -> Option<String> {
        const SIGNATURES: [&str; 7] = [
            "1.2.840.113549.1.1.11",
            "1.2.840.113549.1.1.12",
            "1.2.840.113549.1.1.13",
            "1.2.840.10045.4.3.2",
            "1.2.840.10045.4.3.3",
            "1.2.840.10045.4.3.4",
            "1.2.840.113549.1.1.10",
        ];
        if let Some(reason) = self.public_key.algorithm().unsupported() {
            return Some(reason);
        }
        (!SIGNATURES.contains(&&self.signature_algorithm[..])).then(|| {
            format!(
                "signature algorithm {} is not one AWS IoT takes",
                self.signature_algorithm
            )
        })
    }

    /// The key's algorithm.
    pub fn key_algorithm(&self) -> KeyAlgorithm {
        self.public_key.algorithm()
    }
}

/// id-kp-serverAuth.
pub const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
/// id-kp-clientAuth.
pub const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";

/// The purposes as dotted OIDs.
pub(crate) fn usages(eku: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (eku.any, "2.5.29.37.0"),
        (eku.server_auth, SERVER_AUTH),
        (eku.client_auth, CLIENT_AUTH),
        (eku.code_signing, "1.3.6.1.5.5.7.3.3"),
        (eku.email_protection, "1.3.6.1.5.5.7.3.4"),
        (eku.time_stamping, "1.3.6.1.5.5.7.3.8"),
        (eku.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
    ];
    let named = known.iter().filter(|(on, _)| *on);
    let others = eku.other.iter();
    named
        .map(|(_, oid)| (*oid).to_owned())
        .chain(others.map(x509_parser::der_parser::Oid::to_id_string))
        .collect()
}

/// A GeneralName as `DNS:…`, `IP:…`, `URI:…`, `email:…`.
pub(crate) fn alternative_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(dns) => format!("DNS:{dns}"),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => format!("IP:{a}.{b}.{c}.{d}"),
            ref other => <[u8; 16]>::try_from(other).map_or_else(
                |_| format!("IP:#{}", hex(other)),
                |v6| format!("IP:{}", std::net::Ipv6Addr::from(v6)),
            ),
        },
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(mail) => format!("email:{mail}"),
        other => format!("other:{other:?}"),
    }
}

/// Bytes that are not the certificate they should be.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// Not a certificate's DER.
    #[error("this is not an X.509 certificate: {0}")]
    Der(String),
    /// PEM without a certificate in it.
    #[error("there is no CERTIFICATE block here, only `{0}`")]
    None(String),
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// More than [`MAX_DER_BYTES`].
    #[error("a certificate of {0} bytes is too large (at most 65536)")]
    Size(usize),
}

impl Explain for CertError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Der(_) => "cert.der",
            Self::None(_) => "cert.none",
            Self::Pem(error) => error.code(),
            Self::Size(_) => "cert.size",
        }
    }
}
