//! Extensions: what the key may be used for, and by whom it was vouched for.

use x509_parser::extensions::{KeyUsage, ParsedExtension, X509Extension};

use super::{Board, Case, Role};
use crate::core::cert::{CLIENT_AUTH, SERVER_AUTH};
use crate::core::inspect::extension_name;

/// Critical extensions that verifiers on the way process (RFC 5280 §6.1).
const PROCESSED: [&str; 8] = [
    "basicConstraints",
    "certificatePolicies",
    "extendedKeyUsage",
    "keyUsage",
    "nameConstraints",
    "policyConstraints",
    "policyMappings",
    "subjectAltName",
];
const ANY_USAGE: &str = "2.5.29.37.0";

pub(super) fn judge(case: &Case<'_>, board: &mut Board) {
    every(case, board);
    constraints(case, board);
    key_usage(case, board);
    extended(case, board);
    key_ids(case, board);
}

fn every(case: &Case<'_>, board: &mut Board) {
    let at = case.at("extensions");
    let mut seen: Vec<String> = Vec::new();
    for extension in case.x509.extensions() {
        let oid = extension.oid.to_id_string();
        let name = extension_name(&oid);
        let said = name.map_or_else(|| oid.clone(), str::to_owned);
        if seen.contains(&oid) {
            board.add(
                "cert.extension-duplicate",
                &at,
                format!("`{said}` is there again"),
            );
        }
        let processed = name.is_some_and(|name| {
            PROCESSED.contains(&name)
                || name == "inhibitAnyPolicy"
                || name.ends_with("KeyIdentifier")
        });
        if extension.critical && !processed {
            board.add(
                "cert.critical-unknown",
                &at,
                format!("`{said}` is critical"),
            );
        }
        seen.push(oid);
    }
}

/// The first extension with this OID.
pub(super) fn find<'a>(case: &Case<'a>, oid: &str) -> Option<&'a X509Extension<'a>> {
    let all = case.x509.extensions().iter();
    let mut all = all.filter(|extension| extension.oid.to_id_string() == oid);
    all.next()
}

fn constraints(case: &Case<'_>, board: &mut Board) {
    let certificate = case.certificate;
    let at = case.at("ca");
    let extension = find(case, "2.5.29.19");
    if case.role.is_ca() {
        if certificate.is_ca != Some(true) {
            let message = match certificate.is_ca {
                Some(_) => "basicConstraints says CA:FALSE",
                None => "there is no basicConstraints",
            };
            board.add("cert.basic-constraints-missing", &at, message);
        } else if extension.is_some_and(|extension| !extension.critical) {
            let message = "basicConstraints is not critical";
            board.add("cert.basic-constraints-critical", &at, message);
        }
    } else if certificate.is_ca == Some(true) {
        board.add("cert.ca-as-leaf", &at, "basicConstraints says CA:TRUE");
    }
    let may_sign = certificate
        .key_usage
        .is_none_or(|usage| usage.key_cert_sign);
    if certificate.path_len.is_some() && !(certificate.is_ca == Some(true) && may_sign) {
        let message = "pathLen is given to what signs no certificates";
        board.add("cert.path-length-leaf", &case.at("path_len"), message);
    }
}

fn key_usage(case: &Case<'_>, board: &mut Board) {
    let at = case.at("key_usage");
    let Some(extension) = find(case, "2.5.29.15") else {
        board.add("cert.key-usage-missing", &at, "there is no keyUsage");
        return;
    };
    if !extension.critical {
        board.add("cert.key-usage-critical", &at, "keyUsage is not critical");
    }
    let ParsedExtension::KeyUsage(usage) = extension.parsed_extension() else {
        return;
    };
    if case.role.is_ca() {
        if !usage.key_cert_sign() {
            board.add("cert.key-usage-cert-sign", &at, said(*usage));
        }
        return;
    }
    if !usage.digital_signature() {
        board.add("cert.key-usage-digital-signature", &at, said(*usage));
    }
    if usage.key_cert_sign() || usage.crl_sign() {
        board.add("cert.key-usage-leaf", &at, said(*usage));
    }
}

fn said(usage: KeyUsage) -> String {
    match usage.to_string() {
        empty if empty.is_empty() => "keyUsage allows nothing".to_owned(),
        all => format!("keyUsage is {all}"),
    }
}

fn extended(case: &Case<'_>, board: &mut Board) {
    if case.role.is_ca() {
        return;
    }
    let at = case.at("extended_key_usage");
    let Some(usages) = &case.certificate.extended_key_usage else {
        board.add("cert.eku-missing", &at, "there is no extendedKeyUsage");
        return;
    };
    let has = |oid: &str| usages.iter().any(|one| one == oid);
    if has(ANY_USAGE) {
        board.add("cert.eku-any", &at, "anyExtendedKeyUsage is there");
    }
    let (wanted, rule, name) = match case.role {
        Role::Server => (SERVER_AUTH, "cert.eku-server-auth", "serverAuth"),
        _ => (CLIENT_AUTH, "cert.eku-client-auth", "clientAuth"),
    };
    if !has(wanted) && !has(ANY_USAGE) {
        board.add(rule, &at, format!("{name} is not there"));
    }
    if case.role == Role::Device && has(CLIENT_AUTH) && has(SERVER_AUTH) {
        board.add("cert.eku-mixed", &at, "serverAuth is there, too");
    }
}

fn key_ids(case: &Case<'_>, board: &mut Board) {
    let certificate = case.certificate;
    let (subject_id, authority_id) = (find(case, "2.5.29.14"), find(case, "2.5.29.35"));
    if certificate.subject_key_id.is_none() {
        let message = "there is no subjectKeyIdentifier";
        board.add("cert.ski-missing", &case.at("subject_key_id"), message);
    }
    if certificate.authority_key_id.is_none() && !certificate.is_self_issued() {
        let message = "there is no authorityKeyIdentifier with a key identifier";
        board.add("cert.aki-missing", &case.at("authority_key_id"), message);
    }
    let both = [
        (subject_id, "subject_key_id"),
        (authority_id, "authority_key_id"),
    ];
    for (extension, field) in both {
        if extension.is_some_and(|extension| extension.critical) {
            board.add("cert.key-id-critical", &case.at(field), "it is critical");
        }
    }
}
