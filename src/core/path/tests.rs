use super::*;
use crate::core::cert::CLIENT_AUTH;
use crate::core::crl::{Crl, CrlDraft, CrlSpec, Revoked};
use crate::core::draft::{Draft, DraftSpec, IssuerView, Purpose};
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
    let below = party(
        "CN=Below",
        Purpose::Intermediate { path_len: None },
        Some(&line),
        long(),
    );
    let leaf = device(&line);
    let deep = device(&below);
    let stranger = self::root();
    let roots = [root.certificate.clone()];
    let lines = [line.certificate.clone(), below.certificate.clone()];
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
    let others = [stranger.certificate];
    let other = Pool::new(&lines, &others, &[]);
    assert_eq!(
        codes(&other, &PathRequest::new(leaf, now())),
        ["path.signature"]
    );
    assert_eq!(
        codes(&other, &PathRequest::new(&roots[0], now())),
        ["path.untrusted"]
    );
    assert!(leaf.allows_usage(CLIENT_AUTH));
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

/// Layers of CAs, each cross-signed by all of the layer above: a thousand million paths, none of
/// which reaches the root.
#[test]
fn a_maze_ends_within_its_budget() {
    let purpose = || Purpose::Intermediate { path_len: None };
    let stranger = root();
    let mut above: Vec<Party> = vec![stranger];
    let mut pool = Vec::new();
    for layer in 0..10 {
        let subject = format!("CN=Layer {layer}");
        let next: Vec<Party> = above
            .iter()
            .cycle()
            .take(3)
            .map(|issuer| party(&subject, purpose(), Some(issuer), long()))
            .collect();
        pool.extend(next.iter().map(|one| one.certificate.clone()));
        above = next;
    }
    let leaf = device(&above[0]);
    let roots = [self::root().certificate];
    let pool = Pool::new(&pool, &roots, &[]);
    let verdict = verify(&pool, &PathRequest::new(&leaf.certificate, now()));
    assert!(!verdict.is_valid());
}
