//! Good certificates pass, and each rule fires on a certificate made for it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::core::intake;
use crate::core::key::PublicKey;

const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const KEY_USAGE: u8 = 15;
const EKU: u8 = 37;
const SAN: u8 = 17;
const CONSTRAINTS: u8 = 19;
const SKI: u8 = 14;
const AKI: u8 = 35;

struct Keys {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
}

impl Keys {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let spki = PublicKey::from_ec_point(pair.public_key().as_ref())
            .unwrap()
            .spki()
            .to_vec();
        Self { pair, spki }
    }
}

static ROOT: LazyLock<Keys> = LazyLock::new(Keys::new);
static MIDDLE: LazyLock<Keys> = LazyLock::new(Keys::new);
static LEAF: LazyLock<Keys> = LazyLock::new(Keys::new);

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(length[3]);
    } else {
        let short: Vec<u8> = length.into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | u8::try_from(short.len()).unwrap());
        out.extend(short);
    }
    out.extend(content);
    out
}

/// A name of `(last arc of 2.5.4, value)`.
fn name(attributes: &[(u8, &str)]) -> Vec<u8> {
    let one = |(arc, value): &(u8, &str)| {
        let oid = tlv(0x06, &[&[0x55, 0x04, *arc]]);
        tlv(
            0x31,
            &[&tlv(0x30, &[&oid, &tlv(0x0c, &[value.as_bytes()])])],
        )
    };
    tlv(
        0x30,
        &[&attributes.iter().map(one).collect::<Vec<_>>().concat()],
    )
}

fn algorithm(oid: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x06, &[oid])])
}

#[derive(Clone)]
struct Extension {
    oid: Vec<u8>,
    critical: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Clone)]
struct Maker {
    version: u8,
    serial: Vec<u8>,
    inner: Vec<u8>,
    outer: Vec<u8>,
    issuer: Vec<u8>,
    times: [(u8, &'static str); 2],
    subject: Vec<u8>,
    spki: Vec<u8>,
    extensions: Vec<Extension>,
    signer: &'static Keys,
    behind: Vec<u8>,
}

impl Maker {
    fn set(&mut self, arc: u8, critical: bool, value: &[u8]) {
        self.drop(arc);
        self.extensions.push(Extension {
            oid: vec![0x55, 0x1d, arc],
            critical: if critical {
                vec![0x01, 0x01, 0xff]
            } else {
                vec![]
            },
            value: value.to_vec(),
        });
    }

    fn drop(&mut self, arc: u8) {
        self.extensions.retain(|e| e.oid != [0x55, 0x1d, arc]);
    }

    fn algorithms(&mut self, oid: &[u8]) {
        self.inner = algorithm(oid);
        self.outer = algorithm(oid);
    }

    fn eku(&mut self, last_arcs: &[u8]) {
        let oid = |arc: &u8| tlv(0x06, &[&[0x2b, 6, 1, 5, 5, 7, 3, *arc]]);
        let all: Vec<u8> = last_arcs.iter().flat_map(oid).collect();
        self.set(EKU, false, &tlv(0x30, &[&all]));
    }

    fn aki(&mut self, id: &[u8]) {
        self.set(AKI, false, &tlv(0x30, &[&tlv(0x80, &[id])]));
    }

    fn ski(&mut self, id: &[u8]) {
        self.set(SKI, false, &tlv(0x04, &[id]));
    }

    fn key_usage(&mut self, unused: u8, bits: u8) {
        self.set(KEY_USAGE, true, &[0x03, 0x02, unused, bits]);
    }

    fn der(&self) -> Vec<u8> {
        let version = match self.version {
            0 => vec![],
            n => tlv(0xa0, &[&[0x02, 0x01, n]]),
        };
        let times = self.times.map(|(tag, text)| tlv(tag, &[text.as_bytes()]));
        let extension = |e: &Extension| {
            tlv(
                0x30,
                &[&tlv(0x06, &[&e.oid]), &e.critical, &tlv(0x04, &[&e.value])],
            )
        };
        let extensions: Vec<u8> = self.extensions.iter().flat_map(extension).collect();
        let extensions = match (self.version, extensions.is_empty()) {
            (2, false) => tlv(0xa3, &[&tlv(0x30, &[&extensions])]),
            _ => vec![],
        };
        let tbs = tlv(
            0x30,
            &[
                &version,
                &tlv(0x02, &[&self.serial]),
                &self.inner,
                &self.issuer,
                &tlv(0x30, &[&times.concat()]),
                &self.subject,
                &self.spki,
                &extensions,
            ],
        );
        let signature = self.signer.pair.sign(&SystemRandom::new(), &tbs).unwrap();
        let bits = tlv(0x03, &[&[0], signature.as_ref()]);
        let mut der = tlv(0x30, &[&tbs, &self.outer, &bits]);
        der.extend(&self.behind);
        der
    }
}

const TIMES: [(u8, &str); 2] = [(0x17, "260101000000Z"), (0x17, "270101000000Z")];

fn base(subject: &[(u8, &str)], issuer: &[(u8, &str)], keys: [&'static Keys; 2]) -> Maker {
    Maker {
        version: 2,
        serial: vec![0x51; 16],
        inner: algorithm(ECDSA_SHA256),
        outer: algorithm(ECDSA_SHA256),
        issuer: name(issuer),
        times: TIMES,
        subject: name(subject),
        spki: keys[0].spki.clone(),
        extensions: Vec::new(),
        signer: keys[1],
        behind: Vec::new(),
    }
}

const CN: u8 = 3;

fn root() -> Maker {
    let mut maker = base(&[(CN, "root")], &[(CN, "root")], [&ROOT, &ROOT]);
    maker.times = [(0x17, "250101000000Z"), (0x17, "350101000000Z")];
    maker.set(CONSTRAINTS, true, &[0x30, 0x03, 0x01, 0x01, 0xff]);
    maker.key_usage(1, 0x06);
    maker.ski(b"root");
    maker
}

fn middle() -> Maker {
    let mut maker = root();
    maker.subject = name(&[(CN, "middle")]);
    maker.spki.clone_from(&MIDDLE.spki);
    maker.serial = vec![0x41; 16];
    let ca_with_path_length_0 = [0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00];
    maker.set(CONSTRAINTS, true, &ca_with_path_length_0);
    maker.ski(b"middle");
    maker.aki(b"root");
    maker
}

fn leaf() -> Maker {
    let mut maker = base(&[(CN, "pump-1")], &[(CN, "middle")], [&LEAF, &MIDDLE]);
    maker.set(CONSTRAINTS, true, &[0x30, 0x00]);
    maker.key_usage(7, 0x80);
    maker.eku(&[2]);
    maker.ski(b"leaf");
    maker.aki(b"middle");
    maker
}

fn items(ders: &[Vec<u8>]) -> Vec<Item> {
    let one = |der: &Vec<u8>| match der.first() {
        Some(0x30) => intake::sort(der).unwrap(),
        _ => intake::sort(intake_pem(der).as_bytes()).unwrap(),
    };
    ders.iter().flat_map(one).collect()
}

fn intake_pem(der: &[u8]) -> String {
    crate::core::pem::encode("CERTIFICATE", der)
}

fn request(role: Option<Role>) -> Request {
    Request {
        role,
        at: "2026-06-01".parse().unwrap(),
        margin: Span::days(30),
    }
}

/// The rules that fire for the first of these files.
fn fired(files: &[Vec<Vec<u8>>], presented: bool, request: &Request) -> BTreeSet<&'static str> {
    let all: Vec<Vec<Item>> = files.iter().map(|ders| items(ders)).collect();
    let units: Vec<Unit<'_>> = all
        .iter()
        .map(|items| Unit {
            items,
            issuers: &[],
            presented,
        })
        .collect();
    let findings = lint(&units, request);
    findings
        .iter()
        .flatten()
        .map(|placed| placed.finding.rule)
        .collect()
}

type Change = fn(&mut Maker);

/// A leaf with this change, beside its issuers in a file of their own.
fn changed(make: fn() -> Maker, change: Change, role: Option<Role>) -> BTreeSet<&'static str> {
    let mut maker = make();
    change(&mut maker);
    let issuers = vec![middle().der(), root().der()];
    fired(&[vec![maker.der()], issuers], false, &request(role))
}

#[test]
fn good_certificates_have_no_findings() {
    let chain = vec![leaf().der(), middle().der()];
    let found = fired(&[chain, vec![root().der()]], true, &request(None));
    assert!(found.is_empty(), "{found:?}");
    let found = changed(leaf, |_| {}, Some(Role::Device));
    assert!(found.is_empty(), "{found:?}");
}

/// Changes of a leaf that its own rule finds.
const LEAVES: &[(&str, Change)] = &[
    ("cert.aki-mismatch", |m| m.aki(b"else")),
    ("cert.aki-missing", |m| m.drop(AKI)),
    ("cert.alt-name-critical", |m| {
        m.subject = name(&[]);
        m.set(SAN, false, &tlv(0x30, &[&tlv(0x82, &[b"pump"])]));
    }),
    ("cert.alt-name-empty", |m| m.set(SAN, false, &[0x30, 0x00])),
    ("cert.alt-name-wildcard", |m| {
        m.set(SAN, false, &tlv(0x30, &[&tlv(0x82, &[b"*.example.org"])]));
    }),
    ("cert.attribute-long", |m| {
        m.subject = name(&[(CN, &"a".repeat(65))]);
    }),
    ("cert.attribute-repeated", |m| {
        m.subject = name(&[(CN, "pump-1"), (11, "a"), (11, "b")]);
    }),
    ("cert.attribute-value", |m| {
        m.subject = name(&[(CN, "pump-1"), (10, "Example Corp")]);
    }),
    ("cert.ca-as-leaf", |m| {
        m.set(CONSTRAINTS, true, &[0x30, 0x03, 0x01, 0x01, 0xff]);
    }),
    ("cert.chain-signature", |m| m.signer = &LEAF),
    ("cert.critical-unknown", |m| m.set(99, true, &[0x05, 0x00])),
    ("cert.eku-any", |m| {
        m.set(
            EKU,
            false,
            &tlv(0x30, &[&tlv(0x06, &[&[0x55, 0x1d, 0x25, 0x00]])]),
        );
    }),
    ("cert.eku-client-auth", |m| m.eku(&[3])),
    ("cert.eku-missing", |m| m.drop(EKU)),
    ("cert.eku-mixed", |m| m.eku(&[1, 2])),
    ("cert.encoding", |m| {
        m.extensions[0].critical = vec![0x01, 0x01, 0x01];
    }),
    ("cert.ends-soon", |m| m.times[1] = (0x17, "260620000000Z")),
    ("cert.expired", |m| m.times[1] = (0x17, "260501000000Z")),
    ("cert.extension-duplicate", |m| {
        m.extensions.push(m.extensions[1].clone());
    }),
    ("cert.issuer-empty", |m| m.issuer = name(&[])),
    ("cert.key-id-critical", |m| {
        m.set(SKI, true, &tlv(0x04, &[b"leaf"]));
    }),
    ("cert.key-shared", |m| m.spki.clone_from(&MIDDLE.spki)),
    ("cert.key-unsupported", |m| {
        let key = [&[0x00][..], &[7; 32]].concat();
        m.spki = tlv(
            0x30,
            &[&algorithm(&[0x2b, 0x65, 0x70]), &tlv(0x03, &[&key])],
        );
    }),
    ("cert.key-usage-critical", |m| {
        m.set(KEY_USAGE, false, &[3, 2, 7, 0x80]);
    }),
    ("cert.key-usage-digital-signature", |m| m.key_usage(5, 0x20)),
    ("cert.key-usage-leaf", |m| m.key_usage(1, 0x82)),
    ("cert.key-usage-missing", |m| m.drop(KEY_USAGE)),
    ("cert.name-missing", |m| {
        m.subject = name(&[(10, "Example")]);
    }),
    ("cert.name-serial", |m| {
        m.subject = name(&[(CN, "pump-1"), (5, "a/b")]);
    }),
    ("cert.name-thing", |m| m.subject = name(&[(CN, "pump 1")])),
    ("cert.no-expiry", |m| m.times[1] = (0x18, "99991231235959Z")),
    ("cert.no-expiry-form", |m| {
        m.times[1] = (0x18, "99991231000000Z");
    }),
    ("cert.not-yet-valid", |m| {
        m.times[0] = (0x17, "260701000000Z");
    }),
    ("cert.path-length-leaf", |m| {
        m.set(CONSTRAINTS, true, &[0x30, 0x03, 0x02, 0x01, 0x00]);
    }),
    ("cert.self-signed", |m| {
        m.issuer.clone_from(&m.subject);
        m.signer = &LEAF;
    }),
    ("cert.serial-entropy", |m| m.serial = vec![0x11; 4]),
    ("cert.serial-range", |m| m.serial = vec![0xf1; 16]),
    ("cert.serial-range", |m| m.serial = vec![0x11; 21]),
    ("cert.serial-range", |m| m.serial = vec![0]),
    ("cert.signature-inner", |m| {
        m.inner = algorithm(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]);
    }),
    ("cert.signature-pss", |m| {
        m.algorithms(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]);
    }),
    ("cert.signature-unsupported", |m| {
        m.algorithms(&[0x2b, 0x65, 0x70]);
    }),
    ("cert.signature-weak", |m| {
        m.algorithms(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5]);
    }),
    ("cert.size", |m| {
        m.set(99, false, &tlv(0x04, &[&vec![7; 60_000]]));
    }),
    ("cert.ski-missing", |m| m.drop(SKI)),
    ("cert.subject-is-issuer", |m| {
        m.subject.clone_from(&m.issuer);
    }),
    ("cert.time-encoding", |m| {
        m.times[1] = (0x18, "20270101000000Z");
    }),
    ("cert.trailing-data", |m| m.behind = vec![0]),
    ("cert.unreadable", |m| m.spki = vec![0x05, 0x00]),
    ("cert.validity-long", |m| {
        m.times[1] = (0x18, "20520101000000Z");
    }),
    ("cert.validity-outside-issuer", |m| {
        m.times[1] = (0x17, "360101000000Z");
    }),
    ("cert.validity-reversed", |m| {
        m.times[1] = (0x17, "250101000000Z");
    }),
    ("cert.version", |m| m.version = 0),
];

const CAS: &[(&str, Change)] = &[
    ("cert.basic-constraints-critical", |m| {
        m.set(CONSTRAINTS, false, &[0x30, 0x03, 0x01, 0x01, 0xff]);
    }),
    ("cert.basic-constraints-missing", |m| m.drop(CONSTRAINTS)),
    ("cert.key-usage-cert-sign", |m| m.key_usage(1, 0x02)),
    ("cert.signature-hash", |m| {
        let point = [&[4][..], &[9; 96]].concat();
        m.spki = PublicKey::from_ec_point(&point).unwrap().spki().to_vec();
        (m.subject, m.issuer) = (name(&[(CN, "other")]), name(&[(CN, "other")]));
    }),
    ("cert.subject-empty", |m| m.subject = name(&[])),
];

const SERVERS: &[(&str, Change)] = &[
    ("cert.alt-name-missing", |_| {}),
    ("cert.eku-server-auth", |_| {}),
];

/// Rules about several certificates, with what makes them fire.
fn together() -> Vec<(&'static str, BTreeSet<&'static str>)> {
    let presented = |ders: Vec<Vec<u8>>| fired(&[ders], true, &request(None));
    let files = |ders: Vec<Vec<u8>>| {
        let each: Vec<Vec<Vec<u8>>> = ders.into_iter().map(|der| vec![der]).collect();
        fired(&each, false, &request(None))
    };
    let with = |change: Change| {
        let mut maker = leaf();
        change(&mut maker);
        maker.der()
    };
    let (chain, top) = (vec![leaf().der(), middle().der()], root().der());
    let mut big = middle();
    big.set(99, false, &tlv(0x04, &[&vec![7; 9_000]]));
    let mut below = middle();
    below.subject = name(&[(CN, "below")]);
    below.issuer = name(&[(CN, "middle")]);
    below.signer = &MIDDLE;
    let counted = (1..=3_u8).map(|n| {
        let mut maker = leaf();
        maker.serial = [&[0x22; 15][..], &[n]].concat();
        maker.subject = name(&[(CN, ["a", "b", "c"][usize::from(n) - 1])]);
        maker.der()
    });
    vec![
        (
            "cert.chain-duplicate",
            presented([&chain[..], &chain[1..]].concat()),
        ),
        ("cert.chain-incomplete", presented(vec![leaf().der()])),
        (
            "cert.chain-order",
            presented(vec![leaf().der(), top.clone()]),
        ),
        (
            "cert.chain-path-length",
            presented(vec![
                with(|m| m.issuer = name(&[(CN, "below")])),
                below.der(),
                middle().der(),
            ]),
        ),
        ("cert.chain-root", presented([&chain[..], &[top]].concat())),
        ("cert.chain-size", presented(vec![leaf().der(), big.der()])),
        (
            "cert.key-reused",
            files(vec![leaf().der(), with(|m| m.serial = vec![0x52; 16])]),
        ),
        (
            "cert.serial-duplicate",
            files(vec![
                leaf().der(),
                with(|m| m.subject = name(&[(CN, "pump-2")])),
            ]),
        ),
        ("cert.serial-sequential", files(counted.collect())),
    ]
}

#[test]
fn each_rule_fires_on_what_it_is_for() {
    let mut covered = BTreeSet::new();
    let mut expect = |rule: &'static str, found: &BTreeSet<&'static str>| {
        assert!(found.contains(rule), "{rule}: {found:?}");
        covered.insert(rule);
    };
    for (rule, change) in LEAVES {
        expect(rule, &changed(leaf, *change, Some(Role::Device)));
    }
    for (rule, change) in CAS {
        expect(rule, &changed(root, *change, Some(Role::Root)));
    }
    for (rule, change) in SERVERS {
        expect(rule, &changed(leaf, *change, Some(Role::Server)));
    }
    for (rule, found) in together() {
        expect(rule, &found);
    }
    let explained: BTreeSet<&str> = rules::all()
        .iter()
        .filter(|rule| rule.topic == "certificates" && rule.id.starts_with("cert."))
        .map(|rule| rule.id)
        .collect();
    assert_eq!(covered, explained);
}

#[test]
fn a_certificate_is_judged_as_what_it_says_it_is() {
    for (maker, role) in [
        (root(), Role::Root),
        (middle(), Role::Intermediate),
        (leaf(), Role::Device),
    ] {
        let certificate = Certificate::from_der(&maker.der()).unwrap();
        assert_eq!(Role::of(&certificate), role);
    }
    let mut server = leaf();
    server.eku(&[1]);
    let certificate = Certificate::from_der(&server.der()).unwrap();
    assert_eq!(Role::of(&certificate), Role::Server);
}

proptest::proptest! {
    /// Whatever is done to a certificate's bytes: an answer, never a panic.
    #[test]
    fn mangled_bytes_never_panic(
        changes: Vec<(usize, u8)>,
        cut in 0_usize..2_000,
    ) {
        let mut der = leaf().der();
        for (at, byte) in changes {
            let length = der.len();
            der[at % length] = byte;
        }
        der.truncate(cut.max(1));
        if let Ok(found) = intake::sort(&der) {
            let unit = Unit { items: &found, issuers: &[], presented: true };
            let _ = lint(&[unit], &request(None));
        }
        let pem = intake_pem(&der);
        let _ = intake::sort(pem.as_bytes());
    }
}
