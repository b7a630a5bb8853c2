//! `core::path` against chains that others made: x509-limbo and NIST's PKITS. Each case where we
//! do not agree stands in `tests/vectors/` with its reason; one that is not listed fails, and so
//! does one that is listed and agrees, or is not there.

#![expect(
    clippy::print_stdout,
    reason = "the counts belong into the test's output"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nameplate::core::cert::Certificate;
use nameplate::core::crl::Crl;
use nameplate::core::path::{self, PathRequest, PathVerdict, PeerName, PolicyRequest, Pool, Usage};
use nameplate::core::time::{UtcTime, Validity};

fn vectors(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
}

fn unpacked(name: &str) -> Vec<u8> {
    zstd::decode_all(&fs::read(vectors(name)).unwrap()[..]).unwrap()
}

/// What one case says, and what we say.
struct Case {
    id: String,
    /// Should be valid.
    expected: bool,
    /// Our reasons against it.
    codes: Vec<String>,
}

impl Case {
    fn new(id: &str, expected: bool, verdict: &PathVerdict) -> Self {
        let codes = verdict.faults.iter();
        let codes = codes.map(|fault| format!("{} {}", fault.reason.code(), fault.reason));
        Self {
            id: id.to_owned(),
            expected,
            codes: codes.collect(),
        }
    }

    fn agrees(&self) -> bool {
        self.expected == self.codes.is_empty()
    }
}

#[derive(serde::Deserialize)]
struct Exceptions {
    group: Vec<Group>,
}

/// Cases with one reason.
#[derive(serde::Deserialize)]
struct Group {
    reason: String,
    /// The case asks for what we do not claim to do.
    #[serde(default)]
    not_applicable: bool,
    ids: Vec<String>,
}

fn judge(corpus: &str, cases: &[Case]) {
    let text = fs::read_to_string(vectors(&format!("{corpus}-exceptions.toml"))).unwrap();
    let exceptions: Exceptions = toml::from_str(&text).unwrap();
    let mut listed: BTreeMap<&str, bool> = BTreeMap::new();
    let mut wrong = Vec::new();
    for group in &exceptions.group {
        assert!(group.reason.len() > 20, "a reason says why");
        for id in &group.ids {
            if listed.insert(id, group.not_applicable).is_some() {
                wrong.push(format!("{id} is listed twice"));
            }
        }
    }
    let known: BTreeSet<&str> = cases.iter().map(|case| &case.id[..]).collect();
    assert_eq!(known.len(), cases.len(), "ids are unique");
    for id in listed.keys().filter(|id| !known.contains(*id)) {
        wrong.push(format!("{id} is listed and does not exist"));
    }
    for case in cases {
        match (listed.contains_key(&case.id[..]), case.agrees()) {
            (false, false) => wrong.push(format!(
                "{} should be {}: {:?}",
                case.id,
                if case.expected { "valid" } else { "refused" },
                case.codes
            )),
            (true, true) => wrong.push(format!("{} is listed, and agrees", case.id)),
            _ => {}
        }
    }
    let not_applicable = listed.values().filter(|skip| **skip).count();
    println!(
        "{corpus}: {} cases, {} agree, {} exceptions, {not_applicable} not applicable",
        cases.len(),
        cases.iter().filter(|case| case.agrees()).count(),
        listed.len() - not_applicable,
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[derive(serde::Deserialize)]
struct Limbo {
    testcases: Vec<LimboCase>,
}

#[derive(serde::Deserialize)]
struct LimboCase {
    id: String,
    validation_kind: String,
    #[serde(default)]
    trusted_certs: Vec<String>,
    #[serde(default)]
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: String,
    expected_peer_name: Option<LimboName>,
    max_chain_depth: Option<usize>,
    #[serde(default)]
    crls: Vec<String>,
}

#[derive(serde::Deserialize)]
struct LimboName {
    kind: String,
    value: String,
}

/// The certificates that can be read; one that cannot leads nowhere.
fn readable(all: &[String]) -> Vec<Certificate> {
    let read = |pem: &String| Certificate::all_from_pem(pem.as_bytes()).unwrap_or_default();
    all.iter().flat_map(read).collect()
}

impl LimboCase {
    fn run(&self, strict: bool) -> Case {
        let expected = self.expected_result == "SUCCESS";
        let refused = |why: String| Case {
            id: self.id.clone(),
            expected,
            codes: vec![why],
        };
        let leaf = match Certificate::all_from_pem(self.peer_certificate.as_bytes()) {
            Ok(mut leaf) => leaf.swap_remove(0),
            Err(error) => return refused(error.to_string()),
        };
        let lists: Result<Vec<Vec<Crl>>, _> = self
            .crls
            .iter()
            .map(|pem| Crl::all_from_pem(pem.as_bytes()))
            .collect();
        let lists = match lists {
            Ok(lists) => lists.concat(),
            Err(error) => return refused(error.to_string()),
        };
        let roots = readable(&self.trusted_certs);
        let intermediates = readable(&self.untrusted_intermediates);
        let pool = Pool::new(&intermediates, &roots, &lists);
        // Cases without a time are good for centuries.
        let at = self
            .validation_time
            .as_deref()
            .unwrap_or("2026-06-01T00:00:00Z");
        let at: UtcTime = at.parse().unwrap();
        let name = self.expected_peer_name.as_ref();
        let name = name.filter(|name| matches!(&name.kind[..], "DNS" | "IP"));
        let name = name.map(|name| name.value.parse::<PeerName>());
        let name = match name.transpose() {
            Ok(name) => name,
            Err(error) => return refused(error.to_string()),
        };
        let window = Validity {
            not_before: at,
            not_after: at,
        };
        let mut request = PathRequest::new(&leaf, window);
        request.usage = match &self.validation_kind[..] {
            "CLIENT" => Usage::Client,
            _ => Usage::Server,
        };
        request.name = name.as_ref();
        request.strict = strict;
        request.max_intermediates = self.max_chain_depth;
        Case::new(&self.id, expected, &path::verify(&pool, &request))
    }
}

/// Strictly, since its cases hold certificates to RFC 5280 §4; and what is good must be good when
/// not strict, too.
#[test]
fn x509_limbo() {
    let limbo: Limbo = serde_json::from_slice(&unpacked("x509-limbo.json.zst")).unwrap();
    let cases: Vec<Case> = limbo.testcases.iter().map(|case| case.run(true)).collect();
    assert_eq!(cases.len(), 208);
    let mut lax = 0;
    for (case, strict) in limbo.testcases.iter().zip(&cases) {
        let said = case.run(false);
        let worse = said.expected && strict.agrees() && !said.agrees();
        assert!(!worse, "{}: {:?}", said.id, said.codes);
        lax += usize::from(said.agrees());
    }
    println!("x509-limbo without --strict: {lax} agree");
    judge("x509-limbo", &cases);
}

/// Roots are trusted whatever their signatures say, so bytes changed there reach all of the walk:
/// name constraints, policies, usages. Nothing may panic, nor take long.
#[test]
fn mangled_roots_do_no_harm() {
    let limbo: Limbo = serde_json::from_slice(&unpacked("x509-limbo.json.zst")).unwrap();
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let mut walked = 0;
    for case in &limbo.testcases {
        let Some(leaf) = readable(std::slice::from_ref(&case.peer_certificate)).pop() else {
            continue;
        };
        let roots = readable(&case.trusted_certs);
        let between = readable(&case.untrusted_intermediates);
        // The pathological ones are large, and walked as they are.
        if roots.is_empty() || roots[0].der().len() > 8_000 || between.len() > 10 {
            continue;
        }
        for _ in 0..30 {
            let mut der = roots[0].der().to_vec();
            for _ in 0..=random(3) {
                let at = random(der.len());
                der[at] = u8::try_from(random(256)).unwrap();
            }
            let Ok(root) = Certificate::from_der(&der) else {
                continue;
            };
            let roots = [root];
            let pool = Pool::new(&between, &roots, &[]);
            let request = PathRequest::new(&leaf, leaf.validity);
            let verdict = path::verify(&pool, &request);
            assert!(
                verdict
                    .faults
                    .iter()
                    .all(|fault| fault.at < verdict.path.len())
            );
            walked += 1;
        }
    }
    assert!(walked > 1_000, "{walked}");
}

struct Pkits {
    certificates: BTreeMap<String, Certificate>,
    lists: Vec<Crl>,
}

fn pkits() -> Pkits {
    let bytes = unpacked("pkits.tar.zst");
    let mut all = Pkits {
        certificates: BTreeMap::new(),
        lists: Vec::new(),
    };
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut der = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut der).unwrap();
        if let Some(name) = name.strip_prefix("certs/") {
            let name = name.strip_suffix(".crt").unwrap().to_owned();
            if let Ok(certificate) = Certificate::from_der(&der) {
                all.certificates.insert(name, certificate);
            }
        } else if let Ok(list) = Crl::from_der(&der) {
            all.lists.push(list);
        }
    }
    all
}

/// What a refusal must be about, by section.
fn about(section: &str) -> &'static [&'static str] {
    match section {
        "1" => &["path.signature", "path.malformed"],
        "2" => &["path.expired", "path.not-yet-valid"],
        "3" => &["path.no-issuer"],
        "4" | "14" | "15" => &["path.revoked", "path.crl", "path.no-crl"],
        // The last test has a CRL signer, which is no CA, sign a certificate.
        "5" => &["path.revoked", "path.not-ca"],
        "6" => &["path.not-ca", "path.length"],
        "7" => &["path.key-usage", "path.crl"],
        "8" | "9" | "10" | "11" | "12" => &["path.policy"],
        "13" => &["path.name-constraint"],
        "16" => &["path.critical-extension"],
        other => panic!("section {other}"),
    }
}

/// All certificates and lists of the suite are thrown together: the path has to be found.
#[test]
fn nist_pkits() {
    const POLICY: &str = "2.16.840.1.101.3.2.1.48";
    let suite = pkits();
    let is_end = |name: &String| name.ends_with("EE");
    let root = suite.certificates["TrustAnchorRootCertificate"].clone();
    let others = suite.certificates.iter().filter(|(name, _)| !is_end(name));
    let others: Vec<Certificate> = others.map(|(_, one)| one.clone()).collect();
    let roots = [root];
    let pool = Pool::new(&others, &roots, &suite.lists);
    let at: UtcTime = "2026-06-01".parse().unwrap();
    let (mut cases, mut odd) = (Vec::new(), Vec::new());
    let table = fs::read_to_string(vectors("pkits.tsv")).unwrap();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (id, expected) = (columns[0], columns[2] == "valid");
        let Some(leaf) = suite.certificates.get(columns[1]) else {
            let codes = vec!["the end entity cannot be read".to_owned()];
            let id = id.to_owned();
            cases.push(Case {
                id,
                expected,
                codes,
            });
            continue;
        };
        let window = Validity {
            not_before: at,
            not_after: at,
        };
        let mut request = PathRequest::new(leaf, window);
        request.require_crls = true;
        let settings: Vec<&str> = columns
            .get(3)
            .map_or(Vec::new(), |all| all.split(' ').collect());
        let digits = settings.iter().filter(|word| word.parse::<u8>().is_ok());
        request.policies = PolicyRequest {
            acceptable: digits.map(|n| format!("{POLICY}.{n}")).collect(),
            require_explicit: settings.contains(&"explicit"),
            inhibit_mapping: settings.contains(&"nomap"),
            inhibit_any: settings.contains(&"noany"),
        };
        let case = Case::new(id, expected, &path::verify(&pool, &request));
        let section = id.split('.').nth(1).unwrap();
        if !expected && !case.codes.is_empty() {
            let first = case.codes[0].split(' ').next().unwrap();
            if !about(section).contains(&first) {
                odd.push(format!("{id}: {:?}", case.codes));
            }
        }
        cases.push(case);
    }
    assert_eq!(cases.len(), 247);
    assert!(
        odd.is_empty(),
        "refused for another reason:\n{}",
        odd.join("\n")
    );
    judge("pkits", &cases);
}
