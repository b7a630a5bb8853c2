//! The files of one device's folder.

use std::fmt::Write as _;

use p12_keystore::{
    Certificate as P12Certificate, KeyStore, KeyStoreEntry, PrivateKey as P12Key, PrivateKeyChain,
};
use zeroize::Zeroizing;

use super::{Authority, HandoverError, Leaf};
use crate::core::bundle::{CA_BUNDLE, CERTIFICATE, CHAIN, File, KEY, Secrecy};
use crate::core::pem;

fn file(name: &'static str, secrecy: Secrecy, bytes: Vec<u8>) -> File {
    File {
        name,
        secrecy,
        bytes: Zeroizing::new(bytes),
    }
}

/// Key, chain, CA bundle, and the leaf last, so that a folder that holds the leaf holds everything.
pub(super) fn pem(authority: &Authority, leaf: &Leaf<'_>) -> Vec<File> {
    let certificate = pem::encode("CERTIFICATE", leaf.der);
    let chain = [&certificate[..], &authority.below_root].concat();
    vec![
        file(KEY, Secrecy::Private, leaf.key.to_pem().as_bytes().to_vec()),
        file(CHAIN, Secrecy::Public, chain.into_bytes()),
        file(
            CA_BUNDLE,
            Secrecy::Public,
            authority.all.clone().into_bytes(),
        ),
        file(CERTIFICATE, Secrecy::Public, certificate.into_bytes()),
    ]
}

/// Key, leaf and the CA that signed it.
pub(super) fn der(authority: &Authority, leaf: &Leaf<'_>) -> Vec<File> {
    let issuer = authority.chain.first().cloned().unwrap_or_default();
    vec![
        file(
            "device.key.der",
            Secrecy::Private,
            leaf.key.pkcs8().to_vec(),
        ),
        file("ca.der", Secrecy::Public, issuer),
        file("device.crt.der", Secrecy::Public, leaf.der.to_vec()),
    ]
}

/// Input of ESP-IDF's `nvs_partition_gen.py`: values stand in the file itself, because the
/// generator looks for files beside its own script. Keys have at most 15 characters.
/// Source: ESP-IDF Programming Guide, "NVS Partition Generator Utility", CSV File Format.
pub(super) fn esp_nvs_csv(authority: &Authority, leaf: &Leaf<'_>) -> File {
    let certificate = pem::encode("CERTIFICATE", leaf.der);
    let chain = [&certificate[..], &authority.below_root].concat();
    // A thing name has no character that CSV would need quoted, and PEM has no quote.
    let mut text = format!(
        "key,type,encoding,value\nnameplate,namespace,,\nthing_name,data,string,{}\n",
        leaf.name
    );
    for (key, value) in [
        ("device_cert", &chain[..]),
        ("device_key", &leaf.key.to_pem()),
        ("ca_cert", &authority.all),
    ] {
        let _ = writeln!(text, "{key},data,string,\"{value}\"");
    }
    file("nvs.csv", Secrecy::Private, text.into_bytes())
}

/// One header with everything as C strings.
pub(super) fn c_header(authority: &Authority, leaf: &Leaf<'_>) -> File {
    let certificate = pem::encode("CERTIFICATE", leaf.der);
    let chain = [&certificate[..], &authority.below_root].concat();
    let mut text = format!(
        "/* The identity of {0}: holds its private key. */\n\
         #ifndef NAMEPLATE_IDENTITY_H\n#define NAMEPLATE_IDENTITY_H\n\n\
         #define NAMEPLATE_DEVICE_NAME \"{0}\"\n#define NAMEPLATE_CERTIFICATE_ID \"{1}\"\n",
        leaf.name,
        leaf.id.as_str()
    );
    for (name, value) in [
        ("nameplate_device_key_pem", &leaf.key.to_pem()[..]),
        ("nameplate_device_chain_pem", &chain),
        ("nameplate_ca_pem", &authority.all),
    ] {
        let _ = write!(text, "\nstatic const char {name}[] =");
        for line in value.lines() {
            let _ = write!(text, "\n    \"{line}\\n\"");
        }
        text.push_str(";\n");
    }
    text.push_str("\n#endif\n");
    file("nameplate_identity.h", Secrecy::Private, text.into_bytes())
}

/// Key and chain in one PKCS#12 file: PBES2 with AES-256, MAC with SHA-256 (RFC 7292, RFC 9579).
pub(super) fn p12(
    authority: &Authority,
    leaf: &Leaf<'_>,
    password: &str,
) -> Result<File, HandoverError> {
    let failed = |error: p12_keystore::error::Error| HandoverError::P12 {
        name: leaf.name.to_owned(),
        why: error.to_string(),
    };
    let key = P12Key::from_der(leaf.key.pkcs8()).map_err(failed)?;
    let certificates = std::iter::once(leaf.der)
        .chain(authority.chain.iter().map(Vec::as_slice))
        .map(P12Certificate::from_der)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let chain = PrivateKeyChain::new(leaf.id.as_str(), key, certificates);
    let mut store = KeyStore::new();
    store.add_entry(leaf.name, KeyStoreEntry::PrivateKeyChain(chain));
    let bytes = store.writer(password).write().map_err(failed)?;
    Ok(file("device.p12", Secrecy::Private, bytes))
}
