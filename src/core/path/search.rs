//! From the leaf upwards, depth first, within budgets.
//!
//! The first pass follows only issuers that nothing speaks against, and ends with the first good
//! path. When there is none, a second, shorter pass follows all of them to find out why.

use std::cell::RefCell;
use std::collections::HashMap;

use super::fault::{Fault, Reason};
use super::link::Link;
use super::pool::Pool;
use super::{PathRequest, PathVerdict, Spot, walk};
use crate::core::der;
use crate::core::inspect::signature_name;
use crate::core::signature::{self, SignatureFault};

/// The most certificates in a path.
const MAX_PATH: usize = 24;
/// The most signatures that are verified for one certificate.
const MAX_SIGNATURES: usize = 1_000;
/// The most certificates that are stepped on in the first pass.
const MAX_STEPS: usize = 2_000;
/// The same in the second, for which a good reason is enough.
const MAX_STEPS_FOR_REASONS: usize = 200;
/// The most whole paths that are walked.
const MAX_WALKS: usize = 200;

/// One way that was tried.
struct Attempt {
    path: Vec<Spot>,
    faults: Vec<Fault>,
    reached_root: bool,
}

pub(super) struct Search<'s, 'a> {
    pub(super) pool: &'s Pool<'a>,
    pub(super) request: &'s PathRequest<'s>,
    leaf: Link<'s>,
    /// How many searches this one is inside: the issuers of revocation lists are verified too.
    pub(super) depth: usize,
    signatures: HashMap<(Spot, Spot), Result<(), SignatureFault>>,
    /// Whether something speaks against a certificate as an issuer.
    doubtful: RefCell<HashMap<Spot, bool>>,
    steps: usize,
    walks: usize,
    /// Comparisons of names with constraints, of all paths together.
    pub(super) comparisons: usize,
    /// The first pass is on.
    clean: bool,
    spent: Option<&'static str>,
    best: Option<Attempt>,
}

pub(super) fn run(pool: &Pool<'_>, request: &PathRequest<'_>, depth: usize) -> PathVerdict {
    let mut search = Search {
        pool,
        request,
        leaf: Link::new(request.leaf),
        depth,
        signatures: HashMap::new(),
        doubtful: RefCell::default(),
        steps: MAX_STEPS,
        walks: 0,
        comparisons: walk::MAX_COMPARISONS,
        clean: true,
        spent: None,
        best: None,
    };
    if !search.extend(&mut vec![Spot::Leaf]) {
        // Whether there may be a good path after all is a matter of the first pass alone.
        let spent = search.spent;
        (search.clean, search.steps) = (false, MAX_STEPS_FOR_REASONS);
        search.extend(&mut vec![Spot::Leaf]);
        search.spent = spent;
    }
    search.verdict()
}

impl Search<'_, '_> {
    pub(super) fn link(&self, spot: Spot) -> &Link<'_> {
        self.pool.link(spot).unwrap_or(&self.leaf)
    }

    /// Whether a good path begins with `path`.
    fn extend(&mut self, path: &mut Vec<Spot>) -> bool {
        let Some(last) = path.last().copied() else {
            return false;
        };
        if self.is_anchor(last) {
            return self.complete(path);
        }
        let mut followed = false;
        let mut refused = None;
        for next in self.issuers(path, last) {
            if self.steps == 0 || path.len() >= MAX_PATH {
                self.spent.get_or_insert("too many steps");
                return false;
            }
            self.steps -= 1;
            if let Err(fault) = self.signature(last, next) {
                refused.get_or_insert((next, fault));
                continue;
            }
            followed = true;
            path.push(next);
            let found = self.extend(path);
            path.pop();
            if found {
                return true;
            }
        }
        if !followed && !self.clean {
            self.dead_end(path, refused);
        }
        false
    }

    fn is_anchor(&self, spot: Spot) -> bool {
        match spot {
            Spot::Root(_) => true,
            Spot::Leaf => self.pool.is_root(self.request.leaf.id()),
            Spot::Intermediate(_) => false,
        }
    }

    /// Who may have issued the last certificate of the path, the likeliest first. Key identifiers
    /// only order them (RFC 4158 §3.5.12).
    fn issuers(&self, path: &[Spot], last: Spot) -> Vec<Spot> {
        let child = self.link(last);
        let key_id = child.certificate.authority_key_id.as_ref();
        let mut all: Vec<(u8, bool, Spot)> = Vec::new();
        for spot in self.pool.named(&child.issuer) {
            let link = self.link(*spot);
            let id = link.certificate.id();
            if path.iter().any(|on| self.link(*on).certificate.id() == id) {
                continue;
            }
            let doubtful = self.is_doubtful(*spot);
            if self.clean && doubtful {
                continue;
            }
            let own_id = link.certificate.subject_key_id.as_ref();
            let hint = match (key_id, own_id) {
                (Some(a), Some(b)) if a == b => 0,
                (Some(_), Some(_)) => 2,
                _ => 1,
            };
            all.push((hint, doubtful, *spot));
        }
        // Roots come first among equals, as they stand in the pool.
        all.sort_by_key(|(hint, doubtful, _)| (*doubtful, *hint));
        all.into_iter().map(|(.., spot)| spot).collect()
    }

    fn is_doubtful(&self, spot: Spot) -> bool {
        let mut known = self.doubtful.borrow_mut();
        let check = || !walk::authority(self, spot).is_empty();
        *known.entry(spot).or_insert_with(check)
    }

    fn signature(&mut self, child: Spot, issuer: Spot) -> Result<(), SignatureFault> {
        if let Some(known) = self.signatures.get(&(child, issuer)) {
            return *known;
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            self.spent.get_or_insert("verifying 1000 signatures");
            return Err(SignatureFault::Wrong);
        }
        let result = signed_by(self.link(child).certificate.der(), self.link(issuer));
        self.signatures.insert((child, issuer), result);
        result
    }

    /// Walks a path that reached a root; whether it is good.
    fn complete(&mut self, path: &[Spot]) -> bool {
        if self.walks >= MAX_WALKS {
            self.spent.get_or_insert("trying 200 paths");
            return false;
        }
        self.walks += 1;
        let faults = walk::faults(self, path);
        let good = faults.is_empty();
        self.keep(Attempt {
            path: path.to_vec(),
            faults,
            reached_root: true,
        });
        good
    }

    fn dead_end(&mut self, path: &[Spot], refused: Option<(Spot, SignatureFault)>) {
        let at = path.len() - 1;
        let last = self.link(path[at]);
        let reason = match refused {
            Some(_) if last.is_self_issued() && signed_by(last.certificate.der(), last).is_ok() => {
                Reason::Untrusted
            }
            Some((issuer, SignatureFault::Wrong)) => {
                let issuer = &self.link(issuer).certificate.subject;
                Reason::Signature(issuer.to_string())
            }
            Some((_, SignatureFault::Algorithm)) => {
                let oid = &last.certificate.signature_algorithm;
                Reason::Algorithm(signature_name(oid).to_owned())
            }
            Some((_, SignatureFault::AlgorithmsDiffer)) => {
                let why = "its two signature algorithms differ";
                Reason::Malformed(why.into())
            }
            Some((_, SignatureFault::Form)) => {
                Reason::Malformed("its signature cannot be read".into())
            }
            None if last.is_self_issued() => Reason::Untrusted,
            None => Reason::NoIssuer(last.certificate.issuer.to_string()),
        };
        let mut faults = walk::alone(self, path);
        faults.push(Fault { at, reason });
        self.keep(Attempt {
            path: path.to_vec(),
            faults,
            reached_root: false,
        });
    }

    fn keep(&mut self, attempt: Attempt) {
        let worth = |attempt: &Attempt| {
            let faults = attempt.faults.len();
            (
                attempt.reached_root,
                usize::MAX - faults,
                attempt.path.len(),
            )
        };
        let better = self
            .best
            .as_ref()
            .is_none_or(|best| worth(&attempt) > worth(best));
        if better {
            self.best = Some(attempt);
        }
    }

    fn verdict(self) -> PathVerdict {
        let budget = |what| Fault {
            at: 0,
            reason: Reason::Budget(what),
        };
        let Some(best) = self.best else {
            return PathVerdict {
                path: vec![Spot::Leaf],
                faults: vec![budget(self.spent.unwrap_or("too many steps"))],
            };
        };
        let (path, mut faults) = (best.path, best.faults);
        if !faults.is_empty() {
            faults.extend(self.spent.map(budget));
        }
        faults.sort_by_key(|fault| fault.reason.rank());
        PathVerdict { path, faults }
    }
}

/// Whether the issuer's key made the signature on a certificate or list.
pub(super) fn signed_by(signed: &[u8], issuer: &Link<'_>) -> Result<(), SignatureFault> {
    let (whole, rest) = der::first(signed).ok_or(SignatureFault::Form)?;
    if whole.tag != 0x30 || !rest.is_empty() {
        return Err(SignatureFault::Form);
    }
    signature::verify(whole.content, issuer.certificate.public_key.spki())
}
