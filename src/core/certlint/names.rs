//! Subject, issuer and alternative names: by X.520, and as provisioning templates use them.

use super::usages::find;
use super::{Board, Case, Role};
use crate::core::ids::ThingName;
use crate::core::subject::{ATTRIBUTES, Attribute};
use crate::core::template::attribute_problem;

pub(super) fn judge(case: &Case<'_>, board: &mut Board) {
    let certificate = case.certificate;
    let attributes = certificate.subject.attributes();
    if certificate.issuer.attributes().is_empty() {
        board.add(
            "cert.issuer-empty",
            &case.at("issuer"),
            "the issuer has no name",
        );
    }
    if attributes.is_empty() && case.role.is_ca() {
        board.add(
            "cert.subject-empty",
            &case.at("subject"),
            "the subject is empty",
        );
    }
    bounds(case, attributes, board);
    alternative_names(case, board);
    if !case.role.is_ca() {
        own_name(case, board);
    }
    if case.role == Role::Device {
        thing_name(case, board);
        template_values(case, attributes, board);
    }
}

fn bounds(case: &Case<'_>, attributes: &[Attribute], board: &mut Board) {
    for Attribute { oid, value } in attributes {
        let Some((short, _, bound, _)) = ATTRIBUTES.iter().find(|known| known.1 == oid) else {
            continue;
        };
        let length = value.chars().count();
        if length > *bound {
            let message = format!("{short} has {length} characters; at most {bound} are allowed");
            board.add("cert.attribute-long", &case.at("subject"), message);
        }
    }
}

/// A leaf's subject against its issuer's.
fn own_name(case: &Case<'_>, board: &mut Board) {
    let certificate = case.certificate;
    if !certificate.is_self_issued() {
        return;
    }
    let at = case.at("issuer");
    if certificate.verifies_with(&certificate.public_key) {
        board.add("cert.self-signed", &at, "its own key signed it");
    } else {
        let message = format!("subject and issuer are both `{}`", certificate.subject);
        board.add("cert.subject-is-issuer", &at, message);
    }
}

fn thing_name(case: &Case<'_>, board: &mut Board) {
    let subject = &case.certificate.subject;
    let at = case.at("subject");
    match subject.first("CN") {
        None => board.add("cert.name-missing", &at, "the subject has no common name"),
        Some(name) => {
            if let Err(error) = name.parse::<ThingName>() {
                board.add("cert.name-thing", &at, format!("the common name {error}"));
            }
        }
    }
    if let Some(name) = subject.first("serialNumber")
        && let Err(error) = name.parse::<ThingName>()
    {
        board.add("cert.name-serial", &at, format!("serialNumber {error}"));
    }
}

/// What templates read: each once, and of characters that a thing's attributes take.
fn template_values(case: &Case<'_>, attributes: &[Attribute], board: &mut Board) {
    let at = case.at("subject");
    for (short, oid, _, jitp) in ATTRIBUTES {
        let Some(jitp) = jitp else { continue };
        let values: Vec<&Attribute> = attributes.iter().filter(|a| a.oid == *oid).collect();
        if values.len() > 1 {
            let message = format!("{short} stands there {} times", values.len());
            board.add("cert.attribute-repeated", &at, message);
        }
        // The common name is held to the stricter rule of a thing's name.
        let Some(first) = values.first().filter(|_| *short != "CN") else {
            continue;
        };
        if let Some(rule) = attribute_problem(jitp, &first.value) {
            let message = format!("{short} is `{}`: {rule}", first.value);
            board.add("cert.attribute-value", &at, message);
        }
    }
}

fn alternative_names(case: &Case<'_>, board: &mut Board) {
    let at = case.at("alternative_names");
    let names = &case.certificate.alternative_names;
    let nameless = case.certificate.subject.attributes().is_empty();
    match find(case, "2.5.29.17") {
        None if case.role == Role::Server => {
            board.add("cert.alt-name-missing", &at, "there is no subjectAltName");
        }
        Some(_) if names.is_empty() => {
            board.add("cert.alt-name-empty", &at, "subjectAltName is empty");
        }
        Some(extension) if nameless && !extension.critical => {
            let message = "the subject is empty, and subjectAltName is not critical";
            board.add("cert.alt-name-critical", &at, message);
        }
        _ => {}
    }
    for name in names.iter().filter(|name| name.contains('*')) {
        board.add("cert.alt-name-wildcard", &at, format!("`{name}`"));
    }
}
