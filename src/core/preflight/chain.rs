//! Who vouches for the device: the chain that is presented, and the CA that it leads to.

use super::facts::{CertificateFile, IdentityFacts};
use super::{Board, Check, Window, shelf};
use crate::core::cert::Certificate;
use crate::core::chain::{Chain, Usage};
use crate::core::time::{Span, UtcTime, Validity};

pub(super) fn judge(identity: &IdentityFacts, leaf: &Certificate, board: &mut Board) {
    let pool: Vec<Certificate> = [&identity.ca, &identity.chain]
        .into_iter()
        .flatten()
        .flat_map(CertificateFile::all)
        .collect();
    let path = Path::find(leaf.clone(), &pool);
    board.checks.extend(check_signature(leaf, &pool));
    board
        .checks
        .extend(check_trust(identity.ca.as_ref(), &path));
    board
        .checks
        .push(check_order(identity.chain.as_ref(), leaf));
    board.checks.push(check_complete(identity, leaf, &path));
    let window = path.issuers_window();
    if let Some(validity) = window {
        let label = "CA";
        board.windows.insert(0, Window { label, validity });
        board
            .checks
            .push(board.time.check("chain.window", "its issuers", &validity));
        board.checks.extend(check_outlives(leaf, &validity));
    }
    check_shelf(leaf, window, board);
}

/// Whether an issuer of the right name is there, and its key is another or its signature broken.
fn check_signature(leaf: &Certificate, pool: &[Certificate]) -> Option<Check> {
    const ID: &str = "chain.signed";
    let named = || {
        pool.iter()
            .filter(|ca| ca.subject_der == leaf.issuer_der && ca.id() != leaf.id())
    };
    if let Some(issuer) = named().find(|ca| leaf.verifies_with(&ca.public_key)) {
        return Some(match (&leaf.authority_key_id, &issuer.subject_key_id) {
            (Some(named), Some(is)) if named != is => Check::fail(
                ID,
                format!(
                    "`{}` signed it, but its authority key identifier names another key: OpenSSL \
                     and others find no issuer",
                    issuer.subject
                ),
            )
            .remedy("issue it again"),
            _ => Check::pass(ID, format!("signed by {}", issuer.subject)),
        });
    }
    let (fact, remedy) = match unsigned(leaf, pool) {
        Unsigned::Broken(issuer) => (
            format!("the signature is broken: it is not what `{issuer}` signed"),
            "copy the certificate again, or issue it again",
        ),
        Unsigned::OtherKey(issuer) => (
            format!(
                "a CA of the name `{issuer}` signed it, but not the one given: its key is another"
            ),
            "name the CA that issued this certificate with --ca",
        ),
        Unsigned::Unknown => return None,
    };
    Some(Check::fail(ID, fact).remedy(remedy))
}

/// Why nobody of a pool signed a certificate.
pub(super) enum Unsigned {
    /// The issuer with the right name and key is there; the signature is not its.
    Broken(String),
    /// An issuer with the right name is there, with another key.
    OtherKey(String),
    /// There is none of that name.
    Unknown,
}

pub(super) fn unsigned(certificate: &Certificate, pool: &[Certificate]) -> Unsigned {
    let named = || {
        pool.iter()
            .filter(|ca| ca.subject_der == certificate.issuer_der && ca.id() != certificate.id())
    };
    let key = &certificate.authority_key_id;
    let same = |ca: &&Certificate| key.is_some() && *key == ca.subject_key_id;
    match (named().find(same), named().next()) {
        (Some(issuer), _) => Unsigned::Broken(issuer.subject.to_string()),
        (None, Some(issuer)) => Unsigned::OtherKey(issuer.subject.to_string()),
        (None, None) => Unsigned::Unknown,
    }
}

fn check_trust(ca: Option<&CertificateFile>, path: &Path) -> Option<Check> {
    const ID: &str = "chain.trust";
    let ca = ca.filter(|file| !file.certificates.is_empty())?;
    Some(match path.verify(&ca.all(), Usage::Client) {
        Ok(()) => Check::pass(ID, format!("leads to {}", path.top().subject)),
        Err(why) => Check::fail(ID, format!("does not lead to the given CA: {why}"))
            .remedy("name the CA that issued this certificate with --ca"),
    })
}

fn check_order(chain: Option<&CertificateFile>, leaf: &Certificate) -> Check {
    const ID: &str = "chain.order";
    let Some(file) = chain.filter(|file| !file.certificates.is_empty()) else {
        return Check::skip(
            ID,
            "there is no chain file; only the leaf will be presented",
        );
    };
    let all = presented(file, leaf);
    let Some(chain) = Chain::new(all.clone()) else {
        return Check::skip(ID, "the chain file is empty");
    };
    let Some(at) = chain.break_in_order() else {
        return Check::pass(ID, "leaf first, then each issuer");
    };
    let place = if at == 0 {
        "the leaf".to_owned()
    } else {
        format!("certificate {at}")
    };
    let right = Path::find(leaf.clone(), &all);
    let remedy = if right.len() == all.len() {
        "all are there, in the wrong order: write the leaf first, then its issuer, then that one's"
    } else {
        "write the leaf first, then its issuer, then that one's, up to the registered CA"
    };
    Check::fail(
        ID,
        format!("`{}`: {place} is not signed by the next one", file.path),
    )
    .remedy(remedy)
}

/// The certificates as TLS presents them.
fn presented(file: &CertificateFile, leaf: &Certificate) -> Vec<Certificate> {
    let mut all = file.all();
    if all.first().is_none_or(|first| first.id() != leaf.id()) {
        all.retain(|one| one.id() != leaf.id());
        all.insert(0, leaf.clone());
    }
    all
}

/// JITP by a device that sends no SNI needs the registered CA in the handshake; with SNI the leaf
/// will do (AWS IoT developer guide, "Just-in-time provisioning"). An intermediate that is not the
/// registered CA must be sent all the same, or nobody can build the path.
fn check_complete(identity: &IdentityFacts, leaf: &Certificate, path: &Path) -> Check {
    const ID: &str = "chain.complete";
    let Some(file) = identity.chain.as_ref().filter(|file| file.error.is_none()) else {
        return Check::warn(ID, "only the leaf will be presented, not its issuer")
            .remedy("JITP needs the issuer as well, unless SNI is sent: name it with --chain");
    };
    let sent = presented(file, leaf);
    let Some(issuer) = path.issuer() else {
        let fact = format!("the issuer `{}` is not among the files", leaf.issuer);
        return Check::warn(ID, fact).remedy("name it with --ca or --chain");
    };
    let is_sent = |one: &Certificate| sent.iter().any(|sent| sent.id() == one.id());
    let missing = path.intermediates().find(|one| !is_sent(one));
    if let Some(missing) = missing {
        let fact = format!("the intermediate `{}` is not presented", missing.subject);
        return Check::fail(ID, fact).remedy("add it to the chain file, after the one it signed");
    }
    if !is_sent(issuer) {
        let fact = "the leaf will be presented without its CA: JITP finds it by SNI";
        return Check::pass(ID, fact);
    }
    Check::pass(ID, format!("{} certificates will be presented", sent.len()))
}

fn check_outlives(leaf: &Certificate, issuers: &Validity) -> Option<Check> {
    const ID: &str = "chain.outlives";
    let (own, ca) = (leaf.validity.not_after, issuers.not_after);
    (own > ca && own != UtcTime::NO_EXPIRY).then(|| {
        let fact = format!("the certificate ends at {own}, but its issuers already at {ca}");
        Check::warn(ID, fact).remedy(format!("renew both before {ca}"))
    })
}

fn check_shelf(leaf: &Certificate, issuers: Option<Validity>, board: &mut Board) {
    let Some(asked) = board.shelf else {
        return;
    };
    let both = issuers.map_or(Some(leaf.validity), |ca| ca.overlap(&leaf.validity));
    let Some(window) = both else {
        let fact = "the certificate and its issuers are never valid at the same time";
        board.checks.push(Check::fail("shelf.window", fact));
        return;
    };
    let time = (board.time.bounds, board.floor);
    let (checks, prediction) = shelf::check(&asked, time, &window, board.time.margin);
    board.checks.extend(checks);
    board.prediction = prediction;
}

/// A leaf and those of a pool that lead up from it.
pub(super) struct Path(Chain);

impl Path {
    pub(super) fn find(leaf: Certificate, pool: &[Certificate]) -> Self {
        let mut issuers: Vec<Certificate> = Vec::new();
        let mut last = leaf.clone();
        // No chain that webpki verifies is longer.
        while issuers.len() < 8 && !last.is_self_issued() {
            let signers = || pool.iter().filter(|issuer| last.is_signed_by(issuer));
            // Of two of the same name and key, the one that the identifier names.
            let named = signers().find(|issuer| issuer.subject_key_id == last.authority_key_id);
            let Some(next) = named.or_else(|| signers().next()) else {
                break;
            };
            last = next.clone();
            issuers.push(last.clone());
        }
        Self(Chain { leaf, issuers })
    }

    pub(super) fn top(&self) -> &Certificate {
        self.0.issuers.last().unwrap_or(&self.0.leaf)
    }

    /// Whose issuer was not found; `None` when the path ends at a self-signed one.
    pub(super) fn dangling(&self) -> Option<&Certificate> {
        Some(self.top()).filter(|top| !top.is_self_issued())
    }

    pub(super) fn leaf(&self) -> &Certificate {
        &self.0.leaf
    }

    /// The first one whose authority key identifier is not its issuer's.
    pub(super) fn misnamed(&self) -> Option<(&Certificate, &Certificate)> {
        let all: Vec<&Certificate> = self.0.certificates().collect();
        let wrong = |pair: &&[&Certificate]| {
            let (named, is) = (&pair[0].authority_key_id, &pair[1].subject_key_id);
            named.is_some() && is.is_some() && named != is
        };
        let at = all.windows(2).position(|pair| wrong(&pair))?;
        Some((all[at], all[at + 1]))
    }

    fn issuer(&self) -> Option<&Certificate> {
        self.0.issuers.first()
    }

    /// Leaf and issuers.
    pub(super) fn len(&self) -> usize {
        1 + self.0.issuers.len()
    }

    /// The issuers without the uppermost one.
    fn intermediates(&self) -> impl Iterator<Item = &Certificate> {
        let count = self.0.issuers.len().saturating_sub(1);
        self.0.issuers.iter().take(count)
    }

    /// When all issuers are valid at once.
    pub(super) fn issuers_window(&self) -> Option<Validity> {
        let mut issuers = self.0.issuers.iter();
        let first = issuers.next()?.validity;
        issuers.try_fold(first, |window, issuer| window.overlap(&issuer.validity))
    }

    /// Whether signatures, names and constraints are in order, at a time when all below the root
    /// is valid: what the time is, and the root's own dates, are asked elsewhere.
    pub(super) fn verify(&self, roots: &[Certificate], usage: Usage) -> Result<(), String> {
        let is_root = |issuer: &&Certificate| roots.iter().any(|root| root.id() == issuer.id());
        let mut below = self.0.issuers.iter().take_while(|issuer| !is_root(issuer));
        let window = below
            .try_fold(self.0.leaf.validity, |window, issuer| {
                window.overlap(&issuer.validity)
            })
            .ok_or("its certificates are never all valid at the same time")?;
        let half = window.not_after.since(window.not_before).as_seconds() / 2;
        let at: UtcTime = window.not_before.plus(Span::seconds(half));
        self.0
            .verify(roots, at, usage)
            .map_err(|error| error.to_string())
    }
}
