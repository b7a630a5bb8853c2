//! Whether the identity is whole, usable, and good at this time.

use super::facts::{CertificateFile, IdentityFacts, KeyFacts};
use super::{Board, Check, Window, access, chain};
use crate::core::cert::{CLIENT_AUTH, Certificate};
use crate::core::ids::hex;

pub(super) fn judge(identity: &IdentityFacts, board: &mut Board) {
    let checks = &mut board.checks;
    let files = unreadable(identity);
    if files.is_empty() {
        checks.push(Check::pass(
            "identity.files",
            "every file is there and reads",
        ));
    }
    checks.extend(files);
    checks.extend(access::judge(identity));
    let Some(leaf) = identity.certificate.all().into_iter().next() else {
        checks.push(Check::skip(
            "identity.certificate",
            "there is no certificate to look at",
        ));
        return;
    };
    checks.push(check_match(&identity.key, &leaf));
    checks.extend(check_signs(&identity.key));
    checks.push(check_algorithm(&leaf, board.allow_unsupported));
    checks.extend(check_leaf(&leaf));
    checks.push(check_name(&leaf, board.thing.as_deref()));
    checks.push(board.time.check(
        "identity.window",
        "the device's certificate",
        &leaf.validity,
    ));
    board.windows.push(Window {
        label: "device",
        validity: leaf.validity,
    });
    chain::judge(identity, &leaf, board);
}

fn unreadable(identity: &IdentityFacts) -> Vec<Check> {
    let files = [
        Some(&identity.certificate),
        identity.chain.as_ref(),
        identity.ca.as_ref(),
    ];
    let certificates = files
        .into_iter()
        .flatten()
        .filter_map(|file: &CertificateFile| file.error.as_ref());
    // A file that is there and holds no usable key is another matter than one that is missing.
    let key = identity.key.error.as_ref().map(|error| {
        if identity.key.access.is_some() {
            ("identity.key", error)
        } else {
            ("identity.files", error)
        }
    });
    key.into_iter()
        .chain(certificates.map(|error| ("identity.files", error)))
        .map(|(id, error)| {
            Check::fail(id, error.clone())
                .remedy("issue the identity again, or name the right files")
        })
        .collect()
}

fn check_match(key: &KeyFacts, leaf: &Certificate) -> Check {
    const ID: &str = "identity.key-match";
    let Some(public) = &key.public_key_sha256 else {
        return Check::skip(ID, "the key could not be read, so it cannot be compared");
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf.public_key.spki());
    if *public == hex(digest.as_ref()) {
        return Check::pass(ID, "the key is the certificate's");
    }
    Check::fail(
        ID,
        format!("the key `{}` is not the certificate's", key.path),
    )
    .remedy("put the key and the certificate of the same identity together")
}

/// A token may hold a public key that is not the private one's, or a key that will not sign.
fn check_signs(key: &KeyFacts) -> Option<Check> {
    const ID: &str = "identity.key-signs";
    Some(if key.signs? {
        Check::pass(ID, "a signature made with the key verifies")
    } else {
        Check::fail(ID, "a signature made with the key does not verify")
            .remedy("look at the token's public key object: it is another key's")
    })
}

fn check_algorithm(leaf: &Certificate, allowed: bool) -> Check {
    const ID: &str = "identity.algorithm";
    match leaf.unsupported_algorithm() {
        None => Check::pass(ID, format!("{} is taken by AWS IoT", leaf.key_algorithm())),
        Some(why) if allowed => Check::warn(ID, format!("{why}; allowed by --allow-unsupported")),
        Some(why) => Check::fail(ID, why).remedy(
            "issue it again with a P-256 key; for another server than AWS IoT, --allow-unsupported",
        ),
    }
}

fn check_leaf(leaf: &Certificate) -> Vec<Check> {
    let version = if leaf.version == 3 {
        Check::pass("identity.version", "X.509 version 3")
    } else {
        let fact = format!("the certificate is X.509 version {}, not 3", leaf.version);
        Check::fail("identity.version", fact).remedy("issue it again; AWS IoT takes version 3")
    };
    let mut checks = vec![version, check_usage(leaf)];
    if let Some(oid) = leaf.unknown_critical.first() {
        let fact = format!(
            "the certificate has a critical extension that nobody knows ({oid}), so it must be refused"
        );
        checks.push(
            Check::fail("identity.extensions", fact)
                .remedy("issue it again without that extension, or not critical"),
        );
    }
    checks
}

fn check_usage(leaf: &Certificate) -> Check {
    const ID: &str = "identity.usage";
    let signs = leaf.key_usage.is_none_or(|usage| usage.digital_signature);
    if leaf.is_ca == Some(true) {
        return Check::fail(ID, "the certificate is a CA, not a device's")
            .remedy("name the device's certificate with --cert");
    }
    if !leaf.allows_usage(CLIENT_AUTH) {
        return Check::fail(ID, "the certificate may not be used by a TLS client")
            .remedy("issue it again with extended key usage clientAuth");
    }
    if !signs {
        let fact = "the certificate's key may not sign, which a TLS client must";
        return Check::fail(ID, fact).remedy("issue it again with key usage digitalSignature");
    }
    if leaf.extended_key_usage.is_none() && leaf.version == 3 {
        // AWS IoT's own certificates have none: it is no reason for a no.
        let fact = "the certificate has no extended key usage: it may be used for anything";
        return Check::warn(ID, fact)
            .remedy("a server that insists on clientAuth refuses it; the sandbox does not");
    }
    Check::pass(ID, "may be used by a TLS client")
}

fn check_name(leaf: &Certificate, thing: Option<&str>) -> Check {
    const ID: &str = "identity.name";
    match (leaf.subject.first("CN"), thing) {
        (None, _) => Check::warn(ID, "the subject has no common name")
            .remedy("name the MQTT client id with --client-id when connecting"),
        (Some(name), Some(thing)) if name != thing => Check::fail(
            ID,
            format!("the certificate is for `{name}`, not for `{thing}`"),
        )
        .remedy("put this device's own identity here"),
        (Some(name), _) => Check::pass(ID, format!("common name `{name}`")),
    }
}
