use proptest::prelude::*;

use super::rule::{Rules, Source, Wanted, settle};
use super::*;
use crate::core::der::tlv;
use crate::core::draft::{Extras, Purpose};
use crate::effects::keys::{LocalSigner, RingKeys};
use crate::ports::{Keygen, Signer};

/// `2.5.4.ARC=value` as one RelativeDistinguishedName's attribute.
fn attribute(arc: u8, tag: u8, value: &str) -> Vec<u8> {
    let oid = tlv(0x06, &[&[0x55, 0x04, arc]]);
    tlv(0x30, &[&oid, &tlv(tag, &[value.as_bytes()])])
}

fn name(attributes: &[Vec<u8>]) -> Vec<u8> {
    let sets: Vec<Vec<u8>> = attributes.iter().map(|one| tlv(0x31, &[one])).collect();
    let parts: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    tlv(0x30, &parts)
}

fn extension(arc: u8, value: &[u8]) -> Vec<u8> {
    let oid = tlv(0x06, &[&[0x55, 0x1d, arc]]);
    tlv(0x30, &[&oid, &tlv(0x04, &[value])])
}

/// extensionRequest with these.
fn extensions(all: &[Vec<u8>]) -> Vec<u8> {
    let parts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    let oid = tlv(
        0x06,
        &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e]],
    );
    tlv(0x30, &[&oid, &tlv(0x31, &[&tlv(0x30, &parts)])])
}

/// A signed request with this subject and these attributes.
fn request(subject: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
    const ECDSA_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
    let parts: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
    let info = tlv(
        0x30,
        &[&[2, 1, 0], subject, public.spki(), &tlv(0xa0, &parts)],
    );
    let signature = LocalSigner::new(&key).unwrap().sign(&info).unwrap();
    let algorithm = tlv(0x30, &[&tlv(0x06, &[&ECDSA_SHA256])]);
    tlv(0x30, &[&info, &algorithm, &tlv(0x03, &[&[0], &signature])])
}

fn pump() -> Vec<u8> {
    name(&[attribute(3, 0x0c, "pump"), attribute(10, 0x13, "Pumps")])
}

fn wanted() -> Wanted<'static> {
    Wanted {
        device: "pump",
        subject: "CN=pump".parse().unwrap(),
        subject_said: false,
        alternative_names: Vec::new(),
        purpose: Purpose::Device,
        extras: Extras::default(),
    }
}

const NO_RULES: Rules = Rules {
    subject: None,
    extensions: None,
};

fn both(source: Source) -> Rules {
    Rules {
        subject: Some(source),
        extensions: Some(source),
    }
}

/// dNSName.
fn host(name: &str) -> Vec<u8> {
    extension(17, &tlv(0x30, &[&tlv(0x82, &[name.as_bytes()])]))
}

/// keyUsage with these bits, from the first.
fn key_usage(bits: u8) -> Vec<u8> {
    extension(
        15,
        &tlv(
            0x03,
            &[&[u8::try_from(bits.trailing_zeros()).unwrap(), bits]],
        ),
    )
}

fn server_auth() -> Vec<u8> {
    let oid = tlv(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 3, 1]]);
    extension(37, &tlv(0x30, &[&oid]))
}

/// basicConstraints with cA.
fn ca() -> Vec<u8> {
    extension(19, &tlv(0x30, &[&[1, 1, 0xff]]))
}

#[test]
fn a_request_says_what_it_asks_for() {
    let asks = extensions(&[host("pump.example"), key_usage(0xa0), server_auth(), ca()]);
    let csr = Csr::from_pem_or_der(&request(&pump(), &[asks])).unwrap();
    assert_eq!(csr.subject.to_string(), "CN=pump, O=Pumps");
    assert_eq!(csr.subject_fault, None);
    let shown: Vec<String> = csr.asks.iter().map(Ask::to_string).collect();
    assert_eq!(
        shown,
        [
            "subjectAltName DNS:pump.example",
            "keyUsage digitalSignature, keyEncipherment",
            "extendedKeyUsage serverAuth",
            "basicConstraints CA:TRUE",
        ]
    );
}

#[test]
fn pem_may_hold_many_and_other_things() {
    let one = pem::encode("CERTIFICATE REQUEST", &request(&pump(), &[]));
    let old = pem::encode("NEW CERTIFICATE REQUEST", &request(&pump(), &[]));
    let other = pem::encode("EC PARAMETERS", &[5, 0]);
    let text = [&other[..], &one, &old].concat();
    assert_eq!(Csr::all(text.as_bytes(), Keys::Supported).unwrap().len(), 2);
    let code = |text: &str| Csr::from_pem_or_der(text.as_bytes()).unwrap_err().code();
    assert_eq!(code(&text), "csr.many");
    assert_eq!(code(&other), "csr.none");
    assert_eq!(code("pump"), "pem.none");
}

#[test]
fn what_was_changed_on_its_way_is_refused() {
    let der = request(&pump(), &[extensions(&[host("pump.example")])]);
    Csr::from_der(&der).unwrap();
    let at = |what: &[u8]| der.windows(what.len()).position(|w| w == what).unwrap();
    for place in [at(b"pump"), at(b"pump.example"), der.len() - 1] {
        let mut changed = der.clone();
        changed[place] ^= 1;
        let code = Csr::from_der(&changed).unwrap_err().code();
        assert_eq!(code, "csr.signature", "{place}");
    }
    let long = [&der[..], &[0]].concat();
    assert_eq!(Csr::from_der(&long).unwrap_err().code(), "csr.der");
    let huge = vec![0x30; MAX_DER_BYTES + 1];
    assert_eq!(Csr::from_der(&huge).unwrap_err().code(), "csr.size");
}

#[test]
fn a_thing_is_asked_for_once() {
    for attributes in [
        vec![extensions(&[host("a"), host("b")])],
        vec![extensions(&[host("a")]), extensions(&[host("a")])],
    ] {
        let error = Csr::from_der(&request(&pump(), &attributes)).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}

#[test]
fn without_a_rule_request_and_flags_agree_or_nothing_is_signed() {
    let settled = |subject: &[u8], asks: &[Vec<u8>], wanted: &Wanted<'_>| {
        let csr = Csr::from_der(&request(subject, &[extensions(asks)])).unwrap();
        settle(&csr, wanted, NO_RULES)
    };
    let kept = settled(&pump(), &[host("pump.example"), key_usage(0x80)], &wanted()).unwrap();
    assert_eq!(kept.subject.to_string(), "CN=pump, O=Pumps");
    assert_eq!(kept.alternative_names, ["DNS:pump.example"]);
    assert_eq!(kept.purpose, Purpose::Device);
    assert!(kept.left_out.is_empty());
    // No subject asked for: that of the flags.
    let filled = settled(&name(&[]), &[], &wanted()).unwrap();
    assert_eq!(filled.subject.to_string(), "CN=pump");
    let said = Wanted {
        subject_said: true,
        alternative_names: vec!["10.0.0.1".into()],
        ..wanted()
    };
    for (subject, asks, wanted, part) in [
        (
            name(&[attribute(3, 0x0c, "valve")]),
            vec![],
            wanted(),
            "not the device's",
        ),
        (
            pump(),
            vec![],
            said.clone(),
            "while flag or profile say `CN=pump`",
        ),
        (
            name(&[]),
            vec![host("a")],
            said,
            "while flag or profile say IP:10.0.0.1",
        ),
        (pump(), vec![ca()], wanted(), "CA:TRUE"),
        (pump(), vec![key_usage(0xa0)], wanted(), "keyEncipherment"),
        (
            pump(),
            vec![server_auth()],
            wanted(),
            "not the profile's purpose",
        ),
        (
            pump(),
            vec![extension(14, &[4, 1, 1])],
            wanted(),
            "subjectKeyIdentifier",
        ),
    ] {
        let error = settled(&subject, &asks, &wanted).unwrap_err();
        assert_eq!(error.code(), "csr.unmet");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn rules_grant_or_leave_out_and_say_so() {
    let asks = extensions(&[host("a.example"), server_auth()]);
    let csr = Csr::from_der(&request(&pump(), std::slice::from_ref(&asks))).unwrap();
    let said = Wanted {
        subject_said: true,
        alternative_names: vec!["DNS:b.example".into()],
        ..wanted()
    };
    let granted = settle(&csr, &said, both(Source::Csr)).unwrap();
    assert_eq!(granted.subject.to_string(), "CN=pump, O=Pumps");
    assert_eq!(granted.alternative_names, ["DNS:a.example"]);
    assert_eq!(granted.purpose, Purpose::Server);
    assert!(granted.left_out.is_empty());
    let ours = settle(&csr, &said, both(Source::Profile)).unwrap();
    assert_eq!(ours.subject.to_string(), "CN=pump");
    assert_eq!(ours.alternative_names, ["DNS:b.example"]);
    assert_eq!(ours.purpose, Purpose::Device);
    assert_eq!(
        ours.left_out,
        [
            "subject CN=pump, O=Pumps",
            "subjectAltName DNS:a.example",
            "extendedKeyUsage serverAuth"
        ]
    );
    // Usages of a key that is RSA, by rule or by profile.
    let asks = extensions(&[key_usage(0xa0)]);
    let csr = Csr::from_der(&request(&pump(), &[asks])).unwrap();
    let bits = ["digitalSignature", "keyEncipherment"];
    let granted = settle(&csr, &wanted(), both(Source::Csr)).unwrap();
    assert_eq!(granted.extras.bits(), bits);
    let mut profile = wanted();
    profile.extras.key_usage = vec!["keyEncipherment", "digitalSignature"];
    assert!(
        settle(&csr, &profile, NO_RULES)
            .unwrap()
            .left_out
            .is_empty()
    );
    // No rule makes a CA of a device, or takes a subject that is not there.
    let greedy = request(&name(&[]), &[extensions(&[ca(), key_usage(0x06)])]);
    let greedy = Csr::from_der(&greedy).unwrap();
    let error = settle(&greedy, &wanted(), both(Source::Csr)).unwrap_err();
    for part in ["no subject", "CA:TRUE", "keyCertSign"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let modest = settle(&greedy, &wanted(), both(Source::Profile)).unwrap();
    assert_eq!(modest.left_out.len(), 2);
}

#[test]
fn subjects_that_a_certificate_cannot_keep_are_told() {
    let multi = tlv(
        0x30,
        &[&tlv(
            0x31,
            &[&attribute(3, 0x0c, "pump"), &attribute(11, 0x0c, "x")],
        )],
    );
    let wide = name(&[attribute(3, 0x0c, "pump"), attribute(10, 0x1e, "\0P")]);
    let control = name(&[attribute(3, 0x0c, "pump"), attribute(10, 0x0c, "a\u{7}")]);
    for subject in [multi, wide, control] {
        let csr = Csr::from_der(&request(&subject, &[])).unwrap();
        assert!(csr.subject_fault.is_some());
        let error = settle(&csr, &wanted(), NO_RULES).unwrap_err();
        assert!(error.to_string().contains("cannot be kept"), "{error}");
        let ours = settle(&csr, &wanted(), both(Source::Profile)).unwrap();
        assert_eq!(ours.subject.to_string(), "CN=pump");
    }
}

proptest! {
    /// Whatever stands there, it is answered and not panicked about.
    #[test]
    fn no_bytes_are_too_odd(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        static DER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let asks = [host("a"), key_usage(0xa0), server_auth(), ca()];
            request(&pump(), &[extensions(&asks)])
        });
        let mut der = DER.clone();
        for (place, byte) in changes {
            let place = place.index(der.len());
            der[place] = byte;
        }
        if cuts {
            der.truncate(cut.index(der.len()));
        }
        let _ = Csr::from_der(&der);
        // The parts behind the signature, which a change always breaks.
        let _ = asks_of(&der);
        if let Some((element, _)) = first(&der) {
            let _ = asks_of(element.content);
            let _ = ask_of(element);
            let _ = subject_of(element);
        }
    }
}
