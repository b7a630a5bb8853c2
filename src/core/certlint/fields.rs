//! Encoding, version, serial number, key and signature.

use x509_parser::prelude::FromDer;

use super::{Board, Case, chain, der};
use crate::core::inspect::signature_name;
use crate::core::key::KeyAlgorithm;

/// The longest PEM that AWS IoT registers, in characters (`certificatePem` in the API model).
const MAX_PEM: usize = 65_536;
/// The most octets of a serial number (RFC 5280 §4.1.2.2).
const MAX_SERIAL: usize = 20;
/// Fewer bytes than this cannot hold 64 bits of chance.
const MIN_SERIAL: usize = 8;

pub(super) fn judge(case: &Case<'_>, board: &mut Board) {
    let certificate = case.certificate;
    if let Some(fault) = der::fault(certificate.der()) {
        board.add("cert.encoding", &case.at(""), fault);
    }
    if certificate.version != 3 {
        let message = format!("version {}", certificate.version);
        board.add("cert.version", &case.at("version"), message);
    }
    let length = certificate.to_pem().len();
    if length > MAX_PEM {
        let message = format!("{length} characters of PEM");
        board.add("cert.size", &case.at("size_bytes"), message);
    }
    serial(case, board);
    if let Some(why) = certificate.key_algorithm().unsupported() {
        board.add("cert.key-unsupported", &case.at("key"), why);
    }
    signature(case, board);
}

fn serial(case: &Case<'_>, board: &mut Board) {
    let raw = case.x509.raw_serial();
    let at = case.at("serial");
    if raw.first().is_some_and(|byte| byte & 0x80 != 0) {
        board.add("cert.serial-range", &at, "the serial number is negative");
    } else if raw.iter().all(|byte| *byte == 0) {
        board.add("cert.serial-range", &at, "the serial number is zero");
    } else if raw.len() > MAX_SERIAL {
        let message = format!("the serial number has {} octets", raw.len());
        board.add("cert.serial-range", &at, message);
    } else if case.certificate.serial.len() < MIN_SERIAL {
        let bits = case.certificate.serial.len() * 8;
        let message = format!("the serial number has at most {bits} bits");
        board.add("cert.serial-entropy", &at, message);
    }
}

/// The hash that a signature algorithm's OID names, in bits; `None` when it does not by itself.
fn hash_bits(oid: &str) -> Option<u32> {
    Some(match oid {
        "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.3" | "1.2.840.113549.1.1.4" => 128,
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" | "1.3.14.3.2.29" => 160,
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => 224,
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2" => 256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => 384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => 512,
        _ => return None,
    })
}

const PSS: &str = "1.2.840.113549.1.1.10";

fn signature(case: &Case<'_>, board: &mut Board) {
    let oid = &case.certificate.signature_algorithm[..];
    let name = signature_name(oid);
    let at = case.at("signature");
    match hash_bits(oid) {
        Some(..=160) => board.add("cert.signature-weak", &at, format!("signed with {name}")),
        // AWS IoT lists SHA-256, SHA-384 and SHA-512, and DSA only with SHA-256.
        Some(256..) => {}
        _ if oid == PSS => board.add("cert.signature-pss", &at, "signed with RSASSA-PSS"),
        _ => board.add(
            "cert.signature-unsupported",
            &at,
            format!("signed with {name}"),
        ),
    }
    let inner = &case.x509.tbs_certificate.signature;
    if *inner != case.x509.signature_algorithm {
        let inner = inner.algorithm.to_id_string();
        let message = format!("`{}` inside, `{name}` outside", signature_name(&inner));
        board.add("cert.signature-inner", &at, message);
    }
    let signer = match case.issuer {
        chain::Issuer::Found(issuer) => issuer.key_algorithm(),
        _ if case.certificate.is_self_issued() => case.certificate.key_algorithm(),
        _ => return,
    };
    let wanted = match signer {
        KeyAlgorithm::EcP384 => 384,
        KeyAlgorithm::EcP521 => 512,
        _ => 256,
    };
    if let Some(bits @ 224..) = hash_bits(oid)
        && bits < wanted
    {
        let message = format!("{name} under a key {signer}");
        board.add("cert.signature-hash", &at, message);
    }
}

/// Whether `signature` could be computed at all by the library that verifies it.
pub(super) fn verifiable(oid: &str, key: &crate::core::key::PublicKey) -> bool {
    let known = matches!(hash_bits(oid), Some(256 | 384)) || oid == "1.2.840.113549.1.1.13";
    let key = x509_parser::x509::SubjectPublicKeyInfo::from_der(key.spki()).is_ok()
        && matches!(
            key.algorithm(),
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 | KeyAlgorithm::Rsa(2048..=8192)
        );
    known && key
}
