//! Everything a certificate says, in words and numbers, for people and programs.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{
    CRLDistributionPoints, DistributionPointName, GeneralName, ParsedExtension,
};
use x509_parser::prelude::FromDer;

use crate::core::cert::{Certificate, alternative_name};
use crate::core::der::oid_text;
use crate::core::ids::{CertificateId, ThingName, hex};
use crate::core::key::KeyAlgorithm;
use crate::core::time::{UtcTime, Validity};

/// One certificate, described. Serialized as `cert inspect --format json` prints it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Inspected {
    /// Lower-hex SHA-256 of the DER: the certificate id that AWS IoT shows.
    pub id: CertificateId,
    /// Lower-hex SHA-1 of the DER, as older tools show it.
    pub sha1: String,
    /// 1, 2 or 3.
    pub version: u32,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// The subject, as `CN=…,O=…`.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// Whether issuer and subject are the same and its own key signed it.
    pub self_signed: bool,
    /// The first valid second.
    pub not_before: UtcTime,
    /// The last valid second.
    pub not_after: UtcTime,
    /// Seconds from the time asked to `not_after`; negative when it is over.
    pub remaining_seconds: i64,
    /// `valid`, `expired` or `not-yet-valid` at the time asked.
    pub state: &'static str,
    /// The public key.
    pub key: KeyAlgorithm,
    /// Lower-hex SHA-256 of the `SubjectPublicKeyInfo`.
    pub public_key_sha256: String,
    /// The signature algorithm's name, or its dotted OID.
    pub signature: String,
    /// basicConstraints' cA; `null` when the extension is absent.
    pub ca: Option<bool>,
    /// pathLenConstraint.
    pub path_len: Option<u32>,
    /// keyUsage, RFC 5280's names.
    pub key_usage: Vec<&'static str>,
    /// extendedKeyUsage: names, or dotted OIDs.
    pub extended_key_usage: Vec<String>,
    /// subjectAltName: `DNS:…`, `IP:…`, `URI:…`, `email:…`.
    pub alternative_names: Vec<String>,
    /// subjectKeyIdentifier, hexadecimal.
    pub subject_key_id: Option<String>,
    /// authorityKeyIdentifier's keyIdentifier, hexadecimal.
    pub authority_key_id: Option<String>,
    /// certificatePolicies, dotted OIDs.
    pub policies: Vec<String>,
    /// Where its CA publishes revocations.
    pub crl_distribution_points: Vec<String>,
    /// authorityInfoAccess: `OCSP URI:…`, `caIssuers URI:…`.
    pub authority_information: Vec<String>,
    /// Every extension, in order.
    pub extensions: Vec<ExtensionSeen>,
    /// The thing name that the common name gives; `null` when it does not fit one.
    pub thing_name: Option<String>,
    /// Bytes of DER.
    pub size_bytes: usize,
    /// The certificate itself.
    pub pem: String,
}

/// One extension.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ExtensionSeen {
    /// Dotted OID.
    pub oid: String,
    /// Its name, if it is one we know.
    pub name: Option<&'static str>,
    /// Whether a reader that does not know it must refuse the certificate.
    pub critical: bool,
    /// Bytes of its value.
    pub size_bytes: usize,
}

impl Inspected {
    /// Describes `certificate` as seen at `at`.
    pub fn of(certificate: &Certificate, at: UtcTime) -> Self {
        let window = certificate.validity;
        let subject = &certificate.subject;
        let common_name = subject.first("CN").unwrap_or_default();
        let mut seen = Self {
            id: certificate.id().clone(),
            sha1: digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.der()),
            version: certificate.version,
            serial: certificate.serial_hex(),
            subject: subject.to_string(),
            issuer: certificate.issuer.to_string(),
            self_signed: certificate.is_self_issued()
                && certificate.verifies_with(&certificate.public_key),
            not_before: window.not_before,
            not_after: window.not_after,
            remaining_seconds: window.not_after.since(at).as_seconds(),
            state: state(&window, at),
            key: certificate.key_algorithm(),
            public_key_sha256: digest(&ring::digest::SHA256, certificate.public_key.spki()),
            signature: signature_name(&certificate.signature_algorithm).to_owned(),
            ca: certificate.is_ca,
            path_len: certificate.path_len,
            key_usage: Vec::new(),
            extended_key_usage: named_usages(certificate),
            alternative_names: certificate.alternative_names.clone(),
            subject_key_id: certificate.subject_key_id.as_deref().map(hex),
            authority_key_id: certificate.authority_key_id.as_deref().map(hex),
            policies: Vec::new(),
            crl_distribution_points: Vec::new(),
            authority_information: Vec::new(),
            extensions: Vec::new(),
            thing_name: common_name.parse::<ThingName>().ok().map(|n| n.to_string()),
            size_bytes: certificate.der().len(),
            pem: certificate.to_pem(),
        };
        if let Ok((_, x509)) = X509Certificate::from_der(certificate.der()) {
            seen.take_extensions(&x509);
        }
        seen
    }

    fn take_extensions(&mut self, x509: &X509Certificate<'_>) {
        for extension in x509.extensions() {
            let oid = oid_text(extension.oid.as_bytes());
            self.extensions.push(ExtensionSeen {
                name: extension_name(&oid),
                oid,
                critical: extension.critical,
                size_bytes: extension.value.len(),
            });
            match extension.parsed_extension() {
                ParsedExtension::KeyUsage(usage) => self.key_usage = bits(usage.flags),
                ParsedExtension::CertificatePolicies(policies) => {
                    let oids = policies
                        .iter()
                        .map(|policy| oid_text(policy.policy_id.as_bytes()));
                    self.policies = oids.collect();
                }
                ParsedExtension::CRLDistributionPoints(all) => {
                    self.crl_distribution_points = distribution_points(all);
                }
                ParsedExtension::AuthorityInfoAccess(all) => {
                    let one = |access: &x509_parser::extensions::AccessDescription<'_>| {
                        let method = access.access_method.to_id_string();
                        let method = match &method[..] {
                            "1.3.6.1.5.5.7.48.1" => "OCSP",
                            "1.3.6.1.5.5.7.48.2" => "caIssuers",
                            other => other,
                        };
                        format!("{method} {}", alternative_name(&access.access_location))
                    };
                    self.authority_information = all.accessdescs.iter().map(one).collect();
                }
                _ => {}
            }
        }
    }
}

fn state(window: &Validity, at: UtcTime) -> &'static str {
    match at {
        at if at < window.not_before => "not-yet-valid",
        at if at > window.not_after => "expired",
        _ => "valid",
    }
}

fn distribution_points(all: &CRLDistributionPoints<'_>) -> Vec<String> {
    let names = all
        .points
        .iter()
        .filter_map(|point| match &point.distribution_point {
            Some(DistributionPointName::FullName(names)) => Some(names),
            _ => None,
        });
    names.flatten().map(place).collect()
}

fn place(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        other => alternative_name(other),
    }
}

fn digest(algorithm: &'static ring::digest::Algorithm, bytes: &[u8]) -> String {
    hex(ring::digest::digest(algorithm, bytes).as_ref())
}

/// The names of keyUsage's bits, from the first on (RFC 5280 §4.2.1.3).
fn bits(flags: u16) -> Vec<&'static str> {
    const NAMES: [&str; 9] = [
        "digitalSignature",
        "nonRepudiation",
        "keyEncipherment",
        "dataEncipherment",
        "keyAgreement",
        "keyCertSign",
        "cRLSign",
        "encipherOnly",
        "decipherOnly",
    ];
    let set = |(bit, name): (usize, &&'static str)| (flags >> bit & 1 == 1).then_some(*name);
    NAMES.iter().enumerate().filter_map(set).collect()
}

fn named_usages(certificate: &Certificate) -> Vec<String> {
    let name = |oid: &String| match &oid[..] {
        "2.5.29.37.0" => "anyExtendedKeyUsage".to_owned(),
        "1.3.6.1.5.5.7.3.1" => "serverAuth".to_owned(),
        "1.3.6.1.5.5.7.3.2" => "clientAuth".to_owned(),
        "1.3.6.1.5.5.7.3.3" => "codeSigning".to_owned(),
        "1.3.6.1.5.5.7.3.4" => "emailProtection".to_owned(),
        "1.3.6.1.5.5.7.3.8" => "timeStamping".to_owned(),
        "1.3.6.1.5.5.7.3.9" => "OCSPSigning".to_owned(),
        _ => oid.clone(),
    };
    let all = certificate.extended_key_usage.iter().flatten();
    all.map(name).collect()
}

/// The name of a signature algorithm's OID; the OID itself when we know none.
pub fn signature_name(oid: &str) -> &str {
    match oid {
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.10045.4.3.1" => "ecdsa-with-SHA224",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.2.840.113549.1.1.2" => "md2WithRSAEncryption",
        "1.2.840.113549.1.1.4" => "md5WithRSAEncryption",
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "RSASSA-PSS",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.2.840.113549.1.1.14" => "sha224WithRSAEncryption",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.2" => "dsa-with-SHA256",
        other => other,
    }
}

/// The name of an extension's OID (RFC 5280 §4.2), if we know one.
pub fn extension_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "1.3.6.1.5.5.7.1.1" => "authorityInfoAccess",
        "1.3.6.1.5.5.7.1.11" => "subjectInfoAccess",
        "1.3.6.1.5.5.7.1.24" => "tlsFeature",
        "1.3.6.1.4.1.11129.2.4.2" => "signedCertificateTimestamps",
        "2.16.840.1.113730.1.1" => "netscapeCertType",
        "2.16.840.1.113730.1.13" => "netscapeComment",
        "2.5.29.14" => "subjectKeyIdentifier",
        "2.5.29.15" => "keyUsage",
        "2.5.29.17" => "subjectAltName",
        "2.5.29.18" => "issuerAltName",
        "2.5.29.19" => "basicConstraints",
        "2.5.29.30" => "nameConstraints",
        "2.5.29.31" => "cRLDistributionPoints",
        "2.5.29.32" => "certificatePolicies",
        "2.5.29.33" => "policyMappings",
        "2.5.29.35" => "authorityKeyIdentifier",
        "2.5.29.36" => "policyConstraints",
        "2.5.29.37" => "extendedKeyUsage",
        "2.5.29.46" => "freshestCRL",
        "2.5.29.54" => "inhibitAnyPolicy",
        _ => return None,
    })
}
