//! What a draft is to say, and to refuse.

use super::*;
use crate::core::chain::{Chain, Usage};
use crate::core::time::UtcTime;
use crate::effects::keys::{LocalSigner, RingKeys};
use crate::ports::{Keygen, Signer};

fn window() -> Validity {
    Validity {
        not_before: "2026-01-01".parse().unwrap(),
        not_after: "2050-01-01".parse().unwrap(),
    }
}

fn make(algorithm: KeyAlgorithm) -> (LocalSigner, PublicKey) {
    let (key, public) = RingKeys::default().generate(algorithm).unwrap();
    (LocalSigner::new(&key).unwrap(), public)
}

fn spec(subject: &str, public_key: &PublicKey, purpose: Purpose) -> DraftSpec<'static> {
    DraftSpec {
        subject: subject.parse().unwrap(),
        serial: [0xff; 16],
        validity: window(),
        public_key: Box::leak(Box::new(public_key.clone())),
        purpose,
        alternative_names: Vec::new(),
        extras: Extras::default(),
    }
}

fn root(algorithm: KeyAlgorithm, subject: &str) -> (LocalSigner, Certificate) {
    let (signer, public) = make(algorithm);
    let spec = spec(subject, &public, Purpose::Root { path_len: Some(1) });
    let view = IssuerView::self_signed(&spec.subject, &public).unwrap();
    let draft = Draft::new(&spec, &view).unwrap();
    let signature = signer.sign(draft.tbs()).unwrap();
    (signer, draft.seal(&signature).unwrap())
}

#[test]
fn a_sealed_chain_verifies_and_says_what_it_should() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384] {
        // Two domain components: rcgen alone would lose one.
        let (signer, root) = root(algorithm, "DC=example,DC=com,O=Pumps,CN=Root");
        assert_eq!(root.subject.attributes().len(), 4);
        assert_eq!((root.is_ca, root.path_len), (Some(true), Some(1)));
        let view = IssuerView::from_ca(&root).unwrap();
        let (_, device) = make(KeyAlgorithm::EcP256);
        let spec = spec("CN=pump-1,serialNumber=A-1", &device, Purpose::Device);
        let draft = Draft::new(&spec, &view).unwrap();
        let signature = signer.sign(draft.tbs()).unwrap();
        let leaf = draft.seal(&signature).unwrap();
        assert_eq!(leaf.issuer_der, root.subject_der);
        assert_eq!(leaf.authority_key_id, root.subject_key_id);
        assert_eq!(leaf.serial_hex(), format!("7f{}", "ff".repeat(15)));
        assert_eq!(leaf.version, 3);
        assert_eq!(leaf.validity, window());
        assert_eq!(leaf.public_key, device);
        assert_eq!(leaf.is_ca, Some(false));
        assert_eq!(leaf.extended_key_usage, Some(vec![CLIENT_AUTH.to_owned()]));
        let chain = Chain::new(vec![leaf]).unwrap();
        let at: UtcTime = "2030-01-01".parse().unwrap();
        chain.verify(&[root], at, Usage::Client).unwrap();
    }
}

#[test]
fn a_foreign_signature_is_not_sealed() {
    let (_, root) = root(KeyAlgorithm::EcP256, "CN=Root");
    let (other, device) = make(KeyAlgorithm::EcP256);
    let view = IssuerView::from_ca(&root).unwrap();
    let draft = Draft::new(&spec("CN=a", &device, Purpose::Device), &view).unwrap();
    let signature = other.sign(draft.tbs()).unwrap();
    assert!(matches!(draft.seal(&signature), Err(DraftError::Signature)));
}

#[test]
fn only_a_ca_may_issue() {
    let (signer, root) = root(KeyAlgorithm::EcP256, "CN=Root");
    let (_, device) = make(KeyAlgorithm::EcP256);
    let view = IssuerView::from_ca(&root).unwrap();
    let draft = Draft::new(&spec("CN=a", &device, Purpose::Device), &view).unwrap();
    let signature = signer.sign(draft.tbs()).unwrap();
    let leaf = draft.seal(&signature).unwrap();
    assert!(matches!(
        IssuerView::from_ca(&leaf),
        Err(DraftError::NotCa(_))
    ));
}

#[test]
fn names_are_told_apart() {
    for (text, ok) in [
        ("localhost", true),
        ("127.0.0.1", true),
        ("IP:::1", true),
        ("URI:urn:x", true),
        ("DNS:", false),
        ("IP:pump", false),
        ("DNS:pümpe", false),
        ("uri:urn:x", false),
        ("URI:pump", false),
        ("URI::x", false),
        ("email:pump", false),
        ("email:@a", false),
        ("email:a@b@c", false),
        ("email:a+b@c.example", true),
        ("other:x", false),
        ("DNS:a:b", false),
        ("*.pump_1.example", true),
    ] {
        assert_eq!(alternative_name(text).is_ok(), ok, "{text}");
    }
}

#[test]
fn a_serial_is_positive() {
    assert_eq!(positive([0; 16])[15], 1);
    assert_eq!(positive([0xff; 16])[0], 0x7f);
}
