use super::*;
use crate::core::cert::CLIENT_AUTH;
use crate::core::crl::{Crl, CrlDraft, CrlSpec, Revoked};
use crate::core::draft::{Draft, DraftSpec, Extras, IssuerView, Purpose};
use crate::core::key::KeyAlgorithm;
use crate::core::revocation::RevocationReason;
use crate::core::time::{Span, UtcTime};
use crate::effects::keys::{LocalSigner, RingKeys};
use crate::ports::{Keygen, Signer};

struct Party {
    signer: LocalSigner,
    certificate: Certificate,
}

fn at(text: &str) -> UtcTime {
    text.parse().unwrap()
}

fn window(from: &str, until: &str) -> Validity {
    Validity {
        not_before: at(from),
        not_after: at(until),
    }
}

fn now() -> Validity {
    window("2026-06-01", "2026-06-01")
}

/// A certificate of `subject` by `issuer`, or by itself.
fn party(subject: &str, purpose: Purpose, issuer: Option<&Party>, validity: Validity) -> Party {
    let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP256).unwrap();
    let signer = LocalSigner::new(&key).unwrap();
    let mut serial = [7; 16];
    serial.copy_from_slice(&public.key_id()[..16]);
    let spec = DraftSpec {
        subject: subject.parse().unwrap(),
        serial,
        validity,
        public_key: &public,
        purpose,
        alternative_names: Vec::new(),
        extras: Extras::default(),
    };
    let view = match issuer {
        Some(issuer) => IssuerView::from_ca(&issuer.certificate).unwrap(),
        None => IssuerView::self_signed(&spec.subject, &public).unwrap(),
    };
    let draft = Draft::new(&spec, &view).unwrap();
    let by = issuer.map_or(&signer, |issuer| &issuer.signer);
    let signature = by.sign(draft.tbs()).unwrap();
    let certificate = draft.seal(&signature).unwrap();
    Party {
        signer,
        certificate,
    }
}

fn long() -> Validity {
    window("2026-01-01", "2030-01-01")
}

fn root() -> Party {
    party("CN=Root", Purpose::Root { path_len: None }, None, long())
}

fn between(subject: &str, issuer: &Party) -> Party {
    let purpose = Purpose::Intermediate { path_len: Some(0) };
    party(subject, purpose, Some(issuer), long())
}

fn device(issuer: &Party) -> Party {
    party(
        "CN=pump",
        Purpose::Device,
        Some(issuer),
        window("2026-02-01", "2027-02-01"),
    )
}

fn codes(pool: &Pool<'_>, request: &PathRequest<'_>) -> Vec<&'static str> {
    let verdict = verify(pool, request);
    verdict
        .faults
        .iter()
        .map(|fault| fault.reason.code())
        .collect()
}

#[test]
fn a_path_leads_over_the_intermediate_to_the_root() {
    let root = root();
    let line = between("CN=Line", &root);
    let leaf = device(&line);
    let (roots, lines) = ([root.certificate], [line.certificate]);
    let pool = Pool::new(&lines, &roots, &[]);
    let verdict = verify(&pool, &PathRequest::new(&leaf.certificate, now()));
    assert_eq!(verdict.faults, []);
    let path = [Spot::Leaf, Spot::Intermediate(0), Spot::Root(0)];
    assert_eq!(verdict.path, path);
    let own = verify(&pool, &PathRequest::new(&roots[0], now()));
    assert!(own.is_valid() && own.path == [Spot::Leaf]);
    let mut strict = PathRequest::new(&leaf.certificate, now());
    (strict.strict, strict.usage) = (true, Usage::Client);
    assert_eq!(codes(&pool, &strict), [""; 0]);
}

#[test]
fn each_reason_is_named_with_its_certificate() {
    let root = root();
    let line = between("CN=Line", &root);
    let leaf = device(&line);
    let roots = [root.certificate];
    let lines = [line.certificate];
    let pool = Pool::new(&lines, &roots, &[]);
    let leaf = &leaf.certificate;
    let ask = |change: &dyn Fn(&mut PathRequest<'_>)| {
        let mut request = PathRequest::new(leaf, now());
        change(&mut request);
        codes(&pool, &request)
    };
    let name: PeerName = "example.com".parse().unwrap();
    assert_eq!(
        ask(&|r| r.when = window("2028-01-01", "2028-01-01")),
        ["path.expired"]
    );
    assert_eq!(
        ask(&|r| r.when = window("2026-01-09", "2026-01-09")),
        ["path.not-yet-valid"]
    );
    assert_eq!(
        ask(&|r| r.when.not_after = at("2027-03-01")),
        ["path.ends-in-window"]
    );
    assert_eq!(ask(&|r| r.usage = Usage::Server), ["path.usage"]);
    assert_eq!(ask(&|r| r.usage = Usage::Ca), ["path.not-ca"]);
    assert_eq!(
        ask(&|r| r.require_crls = true),
        ["path.no-crl", "path.no-crl"]
    );
    assert_eq!(ask(&|r| r.max_intermediates = Some(0)), ["path.too-long"]);
    assert_eq!(
        ask(&|r| r.policies.require_explicit = true),
        ["path.policy"]
    );
    let mut named = PathRequest::new(leaf, now());
    named.name = Some(&name);
    assert_eq!(codes(&pool, &named), ["path.name"]);
    assert!(leaf.allows_usage(CLIENT_AUTH));
}

#[test]
fn the_best_path_that_there_is_gives_the_reason() {
    let root = root();
    let line = between("CN=Line", &root);
    let below = party(
        "CN=Below",
        Purpose::Intermediate { path_len: None },
        Some(&line),
        long(),
    );
    let leaf = &device(&line).certificate;
    let deep = device(&below);
    let roots = [root.certificate.clone()];
    let lines = [line.certificate.clone(), below.certificate.clone()];
    let pool = Pool::new(&lines, &roots, &[]);
    let verdict = verify(&pool, &PathRequest::new(&deep.certificate, now()));
    assert_eq!(
        verdict.faults[0].reason,
        Reason::PathLength { limit: 0, below: 1 }
    );
    assert_eq!(verdict.faults[0].at, 2);
    let none = Pool::new(&[], &roots, &[]);
    assert_eq!(
        codes(&none, &PathRequest::new(leaf, now())),
        ["path.no-issuer"]
    );
    let others = [self::root().certificate];
    let other = Pool::new(&lines, &others, &[]);
    assert_eq!(
        codes(&other, &PathRequest::new(leaf, now())),
        ["path.signature"]
    );
    assert_eq!(
        codes(&other, &PathRequest::new(&roots[0], now())),
        ["path.untrusted"]
    );
}

fn list(ca: &Party, revoked: Vec<Revoked>, this_update: &str) -> Crl {
    let this_update = at(this_update);
    let spec = CrlSpec {
        number: 1,
        this_update,
        next_update: this_update.plus(Span::days(30)),
        revoked,
    };
    let draft = CrlDraft::new(spec, &ca.certificate).unwrap();
    let signature = ca.signer.sign(draft.tbs()).unwrap();
    draft.seal(&signature).unwrap()
}

#[test]
fn the_newest_usable_list_decides() {
    let root = root();
    let (leaf, other) = (device(&root), device(&root));
    let revoked = Revoked::new(
        &leaf.certificate.serial,
        at("2026-05-01"),
        RevocationReason::KeyCompromise,
    );
    let old = list(&root, Vec::new(), "2026-05-20");
    let new = list(&root, vec![revoked], "2026-05-25");
    let over = list(&root, Vec::new(), "2026-03-01");
    let future = list(&root, Vec::new(), "2026-06-02");
    let forged = list(&self::root(), Vec::new(), "2026-05-30");
    let roots = [root.certificate];
    for (lists, leaf, expected) in [
        (vec![&old], &leaf, None),
        (vec![&old, &new], &leaf, Some("path.revoked")),
        (vec![&old, &new], &other, None),
        (vec![&forged, &new], &leaf, Some("path.revoked")),
        (vec![&over], &other, Some("path.crl")),
        (vec![&future], &other, Some("path.crl")),
        (vec![&forged], &other, Some("path.crl")),
        (vec![&over, &old], &other, None),
    ] {
        let lists: Vec<Crl> = lists.into_iter().cloned().collect();
        let pool = Pool::new(&[], &roots, &lists);
        let mut request = PathRequest::new(&leaf.certificate, now());
        request.require_crls = true;
        assert_eq!(codes(&pool, &request).first().copied(), expected);
    }
}

/// Layers of three CAs, each certified by all three of the layer above: 3^10 paths, none of which
/// reaches a root.
#[test]
fn a_maze_ends_within_its_budget() {
    let purpose = || Purpose::Intermediate { path_len: None };
    let stranger = party(
        "CN=Stranger",
        Purpose::Root { path_len: None },
        None,
        long(),
    );
    let mut above: Vec<Party> = vec![stranger];
    let mut maze = Vec::new();
    for layer in 0..10 {
        let next: Vec<Party> = (0..3)
            .map(|n| {
                let subject = format!("CN=Layer {layer} {n}");
                party(&subject, purpose(), above.first(), long())
            })
            .collect();
        for (ca, issuer) in next
            .iter()
            .flat_map(|ca| above.iter().map(move |a| (ca, a)))
        {
            maze.push(again(ca, issuer, purpose()));
        }
        above = next;
    }
    let leaf = device(&above[0]);
    let roots = [root().certificate];
    let pool = Pool::new(&maze, &roots, &[]);
    let said = codes(&pool, &PathRequest::new(&leaf.certificate, now()));
    assert!(said.contains(&"path.budget"), "{said:?}");
}

/// What is broken in a chain, and what we say of it.
const BREAKS: [(&str, &str); 7] = [
    ("nothing", ""),
    ("another root of the same name", "path.signature"),
    ("an intermediate that expired", "path.expired"),
    ("an intermediate that is a device", "path.not-ca"),
    ("a changed byte", "path.signature"),
    ("an intermediate left out", "path.no-issuer"),
    ("one intermediate too many", "path.length"),
];

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    /// Chains of any length with one broken link are refused for that, wherever it is; whole ones
    /// are accepted; and webpki says the same.
    #[test]
    fn one_broken_link_is_one_too_many(
        length in 1_usize..5,
        broken in 0_usize..BREAKS.len(),
        place in 0_usize..100,
        shuffle in 0_usize..100,
    ) {
        let place = place % length;
        let (kind, code) = BREAKS[broken];
        let root = root();
        let mut chain: Vec<Party> = Vec::new();
        for n in 0..length {
            let here = n == place;
            let span = if here && kind.ends_with("expired") {
                window("2026-01-01", "2026-05-01")
            } else {
                long()
            };
            let path_len = (here && kind.starts_with("one")).then_some(0);
            let issuer = chain.last().unwrap_or(&root);
            let purpose = Purpose::Intermediate { path_len };
            chain.push(party(&format!("CN=Line {n}"), purpose, Some(issuer), span));
        }
        if kind.starts_with("one") {
            // There must be a CA below the one that lets none be.
            let issuer = chain.last().unwrap();
            let purpose = Purpose::Intermediate { path_len: None };
            chain.push(party("CN=Last", purpose, Some(issuer), long()));
        }
        let leaf = device(chain.last().unwrap());
        let roots = if kind.starts_with("another") {
            [self::root().certificate]
        } else {
            [root.certificate.clone()]
        };
        let mut between: Vec<Certificate> = chain.iter().map(|one| one.certificate.clone()).collect();
        if kind.ends_with("a device") {
            let issuer = if place == 0 { &root } else { &chain[place - 1] };
            between[place] = again(&chain[place], issuer, Purpose::Device);
        } else if kind.ends_with("left out") {
            between.remove(place);
        } else if kind.ends_with("byte") {
            between[place] = changed(&between[place]);
        }
        let turn = shuffle % between.len().max(1);
        between.rotate_left(turn);
        let pool = Pool::new(&between, &roots, &[]);
        let mut request = PathRequest::new(&leaf.certificate, now());
        request.usage = Usage::Client;
        let said = codes(&pool, &request);
        let expected: Vec<&str> = Some(code).into_iter().filter(|code| !code.is_empty()).collect();
        proptest::prop_assert_eq!(&said, &expected, "{}", kind);
        let chain = crate::core::chain::Chain {
            leaf: leaf.certificate,
            issuers: between,
        };
        let webpki = chain.verify(&roots, now().not_before, crate::core::chain::Usage::Client);
        proptest::prop_assert_eq!(said.is_empty(), webpki.is_ok(), "{}: {:?}", kind, webpki);
    }
}

/// The same name and key, certified once more.
fn again(ca: &Party, issuer: &Party, purpose: Purpose) -> Certificate {
    let spec = DraftSpec {
        subject: ca.certificate.subject.clone(),
        serial: [9; 16],
        validity: long(),
        public_key: &ca.certificate.public_key,
        purpose,
        alternative_names: Vec::new(),
        extras: Extras::default(),
    };
    let draft = Draft::new(&spec, &IssuerView::from_ca(&issuer.certificate).unwrap()).unwrap();
    let signature = issuer.signer.sign(draft.tbs()).unwrap();
    draft.seal(&signature).unwrap()
}

/// With one bit of the serial number turned.
fn changed(certificate: &Certificate) -> Certificate {
    let mut der = certificate.der().to_vec();
    let serial = &certificate.serial;
    let at = der
        .windows(serial.len())
        .position(|part| part == serial)
        .unwrap();
    der[at + serial.len() - 1] ^= 1;
    Certificate::from_der(&der).unwrap()
}

/// Who was given hundreds of CAs of one name does not wait for long.
#[test]
fn many_of_one_name_end_within_the_budget() {
    let purpose = || Purpose::Intermediate { path_len: None };
    let first = party("CN=Same", Purpose::Root { path_len: None }, None, long());
    let mut all = vec![first];
    for n in 0..120 {
        let next = party("CN=Same", purpose(), all.get(n), long());
        all.push(next);
    }
    let leaf = device(&all[0]);
    let between: Vec<Certificate> = all.iter().map(|one| one.certificate.clone()).collect();
    let roots = [root().certificate];
    let pool = Pool::new(&between, &roots, &[]);
    assert!(!verify(&pool, &PathRequest::new(&leaf.certificate, now())).is_valid());
    let trusted = [between[0].clone()];
    let pool = Pool::new(&between, &trusted, &[]);
    assert!(verify(&pool, &PathRequest::new(&leaf.certificate, now())).is_valid());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(300))]

    /// One byte that is not as it was signed, anywhere, and nothing is good any more; and nothing
    /// panics.
    #[test]
    fn a_changed_byte_is_never_good(which in 0_usize..3, at in 0_usize..10_000, bit in 0_u8..8) {
        let (leaf, between, roots, lists) = whole();
        let mut ders = [leaf.der().to_vec(), between.der().to_vec(), lists[0].der().to_vec()];
        let at = at % ders[which].len();
        ders[which][at] ^= 1 << bit;
        let read = (
            Certificate::from_der(&ders[0]),
            Certificate::from_der(&ders[1]),
            Crl::from_der(&ders[2]),
        );
        let (Ok(leaf), Ok(between), Ok(list)) = read else {
            return Ok(());
        };
        let (between, lists) = ([between], [list, lists[1].clone()]);
        let pool = Pool::new(&between, roots, &lists);
        for strict in [false, true] {
            let mut request = PathRequest::new(&leaf, now());
            (request.require_crls, request.strict) = (true, strict);
            proptest::prop_assert!(!verify(&pool, &request).is_valid(), "{which} {at} {bit}");
        }
    }
}

type Whole = (Certificate, Certificate, [Certificate; 1], [Crl; 2]);

/// A device, the CA above it, the root, and the lists of both CAs; made once.
fn whole() -> &'static Whole {
    static MADE: std::sync::OnceLock<Whole> = std::sync::OnceLock::new();
    MADE.get_or_init(|| {
        let root = root();
        let line = between("CN=Line", &root);
        let leaf = device(&line);
        let lists = [&line, &root].map(|ca| list(ca, Vec::new(), "2026-05-20"));
        let made = (
            leaf.certificate,
            line.certificate,
            [root.certificate],
            lists,
        );
        let between = [made.1.clone()];
        let pool = Pool::new(&between, &made.2, &made.3);
        let mut request = PathRequest::new(&made.0, now());
        (request.require_crls, request.strict) = (true, true);
        assert!(verify(&pool, &request).is_valid());
        made
    })
}
