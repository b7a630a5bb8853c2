//! What RFC 5280 §4 asks of whoever issues certificates, beyond what §6 asks of a path. Many real
//! certificates fail one of these and are no danger, so they count only when asked strictly.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::fault::Reason;
use super::link::Link;
use super::names::General;

/// Extensions that must be critical, or must not be (RFC 5280 §4.2.1 and §4.2.2).
const CRITICALITY: [(&str, bool, &str); 6] = [
    ("2.5.29.14", false, "its subjectKeyIdentifier is critical"),
    ("2.5.29.30", true, "its nameConstraints are not critical"),
    ("2.5.29.35", false, "its authorityKeyIdentifier is critical"),
    ("2.5.29.36", true, "its policyConstraints are not critical"),
    ("2.5.29.54", true, "its inhibitAnyPolicy is not critical"),
    (
        "1.3.6.1.5.5.7.1.1",
        false,
        "its authorityInfoAccess is critical",
    ),
];

pub(super) fn faults(link: &Link<'_>, x509: &X509Certificate<'_>) -> Vec<Reason> {
    let mut wrong = Vec::new();
    for extension in x509.extensions() {
        let oid = extension.oid.to_id_string();
        let rule = CRITICALITY.iter().find(|(known, ..)| *known == oid);
        wrong.extend(
            rule.filter(|rule| rule.1 != extension.critical)
                .map(|rule| rule.2),
        );
        if let ParsedExtension::ParseError { .. } = extension.parsed_extension() {
            wrong.push("one of its extensions cannot be read");
        }
    }
    let all = fields(link, x509)
        .into_iter()
        .chain(authority(link, x509))
        .chain(names(link, x509));
    wrong.extend(all.filter(|(bad, _)| *bad).map(|(_, why)| why));
    wrong.into_iter().map(Reason::Profile).collect()
}

type Rule = (bool, &'static str);

fn fields(link: &Link<'_>, x509: &X509Certificate<'_>) -> Vec<Rule> {
    let serial = x509.tbs_certificate.raw_serial();
    let key = link.certificate.key_algorithm();
    vec![
        (link.certificate.version != 3, "it is not of version 3"),
        (
            serial.first().is_none_or(|byte| byte & 0x80 != 0),
            "its serial number is negative",
        ),
        (
            link.certificate.serial.is_empty(),
            "its serial number is zero",
        ),
        (
            serial.len() > 20,
            "its serial number is longer than 20 bytes",
        ),
        (
            key.unsupported().is_some() && key != crate::core::key::KeyAlgorithm::Ed25519,
            "its key is too weak, or of a kind that is not used any more",
        ),
    ]
}

fn authority(link: &Link<'_>, x509: &X509Certificate<'_>) -> Vec<Rule> {
    let certificate = link.certificate;
    let ca = certificate.is_ca == Some(true);
    let may_sign = link.key_usage_bit(5);
    let basic = x509
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == "2.5.29.19");
    vec![
        (
            ca && basic.is_some_and(|basic| !basic.critical),
            "it is a CA's, and its basicConstraints are not critical",
        ),
        (
            ca && certificate.subject_key_id.is_none(),
            "it is a CA's without a subjectKeyIdentifier",
        ),
        (
            certificate.authority_key_id.is_none() && !link.is_self_issued(),
            "it has no authorityKeyIdentifier",
        ),
        (
            !ca && may_sign == Some(true),
            "its keyUsage has keyCertSign, and it is no CA's",
        ),
        (
            certificate.path_len.is_some() && !(ca && may_sign != Some(false)),
            "it has a pathLenConstraint, and may not sign certificates",
        ),
        (
            !ca && link.constraints.is_some(),
            "it has nameConstraints, and is no CA's",
        ),
        (
            link.constraints
                .as_ref()
                .is_some_and(super::names::Constraints::has_dotted_dns),
            "its nameConstraints have a DNS name with a leading period",
        ),
    ]
}

fn names(link: &Link<'_>, x509: &X509Certificate<'_>) -> Vec<Rule> {
    let alternative = x509
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == "2.5.29.17");
    let underscore = |name: &General<'_>| matches!(name, General::Dns(dns) if dns.contains('_'));
    vec![
        (
            link.subject.is_empty() && alternative.is_some_and(|names| !names.critical),
            "its subject is empty, and its subjectAltName is not critical",
        ),
        (
            link.subject.is_empty() && alternative.is_none(),
            "it has neither a subject nor a subjectAltName",
        ),
        (
            link.names.iter().any(|name| name.fault().is_some()),
            "one of its subjectAltNames is malformed",
        ),
        (
            link.names.iter().any(underscore),
            "one of its DNS names has an underscore",
        ),
    ]
}
