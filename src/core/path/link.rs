//! A certificate, read for its place in a path.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer;

use super::fault::Reason;
use super::form;
use super::names::{Constraints, General, general_names};
use crate::core::cert::Certificate;
use crate::core::crl::{self, point::CertificatePoint};
use crate::core::der;
use crate::core::dn::Dn;

/// anyPolicy (RFC 5280 §4.2.1.4).
pub(super) const ANY_POLICY: &str = "2.5.29.32.0";

/// What a path needs to know of one certificate.
#[derive(Clone, Debug)]
pub(super) struct Link<'a> {
    pub(super) certificate: &'a Certificate,
    pub(super) subject: Dn,
    pub(super) issuer: Dn,
    /// subjectAltName.
    pub(super) names: Vec<General<'a>>,
    pub(super) constraints: Option<Constraints<'a>>,
    pub(super) policies: Policies,
    /// cRLDistributionPoints.
    pub(super) points: Vec<CertificatePoint>,
    /// The serial number, as lists have it.
    pub(super) serial: Vec<u8>,
    /// keyUsage, the first bit lowest.
    pub(super) key_usage: Option<u16>,
    /// What no path may have.
    pub(super) faults: Vec<Reason>,
    /// What RFC 5280 §4 forbids whoever issues certificates.
    pub(super) loose: Vec<Reason>,
}

/// Certificate policies and what is said about them (RFC 5280 §4.2.1.4, .5, .11, .14).
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    /// `None` when the extension is absent.
    pub(super) own: Option<Vec<String>>,
    /// From the issuer's to the subject's.
    pub(super) mappings: Vec<(String, String)>,
    pub(super) require_explicit: Option<u32>,
    pub(super) inhibit_mapping: Option<u32>,
    pub(super) inhibit_any: Option<u32>,
}

impl<'a> Link<'a> {
    pub(super) fn new(certificate: &'a Certificate) -> Self {
        let mut link = Self {
            certificate,
            subject: Dn::default(),
            issuer: Dn::default(),
            names: Vec::new(),
            constraints: None,
            policies: Policies::default(),
            points: Vec::new(),
            serial: Vec::new(),
            key_usage: None,
            faults: Vec::new(),
            loose: Vec::new(),
        };
        link.read_names();
        match X509Certificate::from_der(certificate.der()) {
            Ok((_, x509)) => {
                link.serial = crl::serial_key(x509.tbs_certificate.raw_serial());
                let mut seen = Vec::new();
                for extension in x509.extensions() {
                    let oid = der::oid_text(extension.oid.as_bytes());
                    if seen.contains(&oid) {
                        link.malformed(&oid, "it stands there twice");
                    }
                    link.read_extension(&oid, extension);
                    seen.push(oid);
                }
                link.loose = form::faults(&link, &x509);
            }
            Err(error) => link.faults.push(Reason::Malformed(error.to_string())),
        }
        link
    }

    fn read_names(&mut self) {
        let subject = Dn::parse(&self.certificate.subject_der);
        let issuer = Dn::parse(&self.certificate.issuer_der);
        let why = if let (Some(subject), Some(issuer)) = (subject, issuer) {
            (self.subject, self.issuer) = (subject, issuer);
            self.issuer.is_empty().then_some("its issuer is empty")
        } else {
            Some("its subject or issuer is not the DER of a name")
        };
        self.faults
            .extend(why.map(|why| Reason::Malformed(why.into())));
    }

    fn read_extension(&mut self, oid: &str, extension: &X509Extension<'a>) {
        match oid {
            "2.5.29.17" => match general_names(extension.value) {
                Some(names) => self.names = names,
                None => self.malformed(oid, "it is not the DER of names"),
            },
            "2.5.29.30" => match Constraints::parse(extension.value) {
                Ok(constraints) => self.constraints = Some(constraints),
                Err(why) => self.malformed(oid, why),
            },
            "2.5.29.31" => match CertificatePoint::parse_all(extension.value, &self.issuer) {
                Some(points) => self.points = points,
                None => self.malformed(oid, "it is not the DER of distribution points"),
            },
            "2.5.29.37" if is_empty(extension.value) => self.malformed(oid, "it names no usage"),
            _ => self.read_parsed(oid, extension),
        }
    }

    fn read_parsed(&mut self, oid: &str, extension: &X509Extension<'a>) {
        let policies = &mut self.policies;
        match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => self.key_usage = Some(usage.flags),
            ParsedExtension::CertificatePolicies(all) => {
                let own = all
                    .iter()
                    .map(|one| der::oid_text(one.policy_id.as_bytes()));
                policies.own = Some(own.collect());
            }
            ParsedExtension::PolicyMappings(all) => {
                let pair = |one: &x509_parser::extensions::PolicyMapping<'_>| {
                    let from = der::oid_text(one.issuer_domain_policy.as_bytes());
                    (from, der::oid_text(one.subject_domain_policy.as_bytes()))
                };
                policies.mappings = all.mappings.iter().map(pair).collect();
            }
            ParsedExtension::PolicyConstraints(constraints) => {
                policies.require_explicit = constraints.require_explicit_policy;
                policies.inhibit_mapping = constraints.inhibit_policy_mapping;
            }
            ParsedExtension::InhibitAnyPolicy(inhibit) => {
                policies.inhibit_any = Some(inhibit.skip_certs);
            }
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::SubjectKeyIdentifier(_)
            | ParsedExtension::AuthorityKeyIdentifier(_) => {}
            ParsedExtension::ParseError { .. } if is_processed(oid) => {
                self.malformed(oid, "it cannot be read");
            }
            _ if extension.critical => self.faults.push(Reason::CriticalExtension(oid.to_owned())),
            _ => {}
        }
    }

    fn malformed(&mut self, oid: &str, why: &str) {
        let name = crate::core::inspect::extension_name(oid).unwrap_or(oid);
        let text = format!("its extension {name} is malformed: {why}");
        self.faults.push(Reason::Malformed(text));
    }

    /// Whether subject and issuer are the same name.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether keyUsage has this bit; `None` when there is no keyUsage.
    pub(super) fn key_usage_bit(&self, bit: u8) -> Option<bool> {
        self.key_usage.map(|flags| flags >> bit & 1 == 1)
    }

    /// Every name that name constraints speak of.
    pub(super) fn all_names(&self) -> Vec<General<'a>> {
        let mail = self.certificate.subject.attributes().iter();
        let mail = mail
            .filter(|attribute| attribute.oid == "1.2.840.113549.1.9.1")
            .map(|attribute| General::Email(&attribute.value));
        let subject = (!self.subject.is_empty()).then(|| General::Directory(self.subject.clone()));
        let names = self.names.iter().cloned();
        subject.into_iter().chain(mail).chain(names).collect()
    }
}

/// Those among the known extensions that a path's validity hangs on.
fn is_processed(oid: &str) -> bool {
    const PROCESSED: [&str; 9] = [
        "2.5.29.14",
        "2.5.29.15",
        "2.5.29.19",
        "2.5.29.32",
        "2.5.29.33",
        "2.5.29.35",
        "2.5.29.36",
        "2.5.29.37",
        "2.5.29.54",
    ];
    PROCESSED.contains(&oid)
}

fn is_empty(sequence: &[u8]) -> bool {
    der::first(sequence).is_none_or(|(element, _)| element.content.is_empty())
}
