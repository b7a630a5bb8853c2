//! Whether the identity is whole, usable, and good at this time.

use super::facts::{CertificateFile, IdentityFacts, KeyFacts};
use super::{Board, Check, Window};
use crate::core::cert::{CLIENT_AUTH, Certificate};
use crate::core::chain::{Chain, Usage};
use crate::core::ids::hex;
use crate::core::time::{Span, UtcTime, Validity};

/// What a key file's mode may grant: everything to its owner, nothing to anybody else.
const OWNER_ONLY: u32 = 0o700;

pub(super) fn judge(identity: &IdentityFacts, board: &mut Board) {
    let checks = &mut board.checks;
    let files = unreadable(identity);
    if files.is_empty() {
        checks.push(Check::pass(
            "identity.files",
            "every file is there and reads",
        ));
    }
    checks.extend(files);
    checks.push(check_mode(&identity.key));
    let Some(leaf) = identity.certificate.all().into_iter().next() else {
        checks.push(Check::skip(
            "identity.certificate",
            "there is no certificate to look at",
        ));
        return;
    };
    checks.push(check_match(&identity.key, &leaf));
    checks.extend(check_leaf(&leaf));
    checks.push(check_order(identity.chain.as_ref(), &leaf));
    checks.push(board.time.check(
        "identity.window",
        "the device's certificate",
        &leaf.validity,
    ));
    board.windows.push(Window {
        label: "device",
        validity: leaf.validity,
    });
    check_trust(identity, leaf, board);
}

fn unreadable(identity: &IdentityFacts) -> Vec<Check> {
    let files = [
        Some(&identity.certificate),
        identity.chain.as_ref(),
        identity.ca.as_ref(),
    ];
    let certificates = files
        .into_iter()
        .flatten()
        .filter_map(|file| file.error.as_ref());
    std::iter::once(identity.key.error.as_ref())
        .flatten()
        .chain(certificates)
        .map(|error| {
            Check::fail("identity.files", error.clone())
                .remedy("issue the identity again, or name the right files")
        })
        .collect()
}

fn check_mode(key: &KeyFacts) -> Check {
    const ID: &str = "identity.key-mode";
    let Some(text) = &key.mode else {
        return Check::skip(ID, "the key file's mode is not known");
    };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !OWNER_ONLY == 0 => {
            Check::pass(ID, format!("only its owner can read the key (mode {text})"))
        }
        _ => Check::fail(
            ID,
            format!("others can read the key: `{}` has mode {text}", key.path),
        )
        .remedy(format!("chmod 600 {}", key.path)),
    }
}

fn check_match(key: &KeyFacts, leaf: &Certificate) -> Check {
    const ID: &str = "identity.key-match";
    let Some(public) = &key.public_key_sha256 else {
        return Check::skip(ID, "the key could not be read, so it cannot be compared");
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf.public_key.spki());
    if *public == hex(digest.as_ref()) {
        return Check::pass(ID, "the key is the certificate's");
    }
    Check::fail(
        ID,
        format!("the key `{}` is not the certificate's", key.path),
    )
    .remedy("put the key and the certificate of the same identity together")
}

fn check_leaf(leaf: &Certificate) -> [Check; 4] {
    let algorithm = match leaf.unsupported_algorithm() {
        None => Check::pass(
            "identity.algorithm",
            format!("{} is taken by AWS IoT", leaf.key_algorithm()),
        ),
        Some(why) => {
            Check::fail("identity.algorithm", why).remedy("issue it again with a P-256 key")
        }
    };
    let version = if leaf.version == 3 {
        Check::pass("identity.version", "X.509 version 3")
    } else {
        let fact = format!("the certificate is X.509 version {}, not 3", leaf.version);
        Check::fail("identity.version", fact).remedy("issue it again; AWS IoT takes version 3")
    };
    let signs = leaf.key_usage.is_none_or(|usage| usage.digital_signature);
    let usage = if leaf.is_ca == Some(true) {
        Check::fail("identity.usage", "the certificate is a CA, not a device's")
            .remedy("name the device's certificate with --cert")
    } else if !leaf.allows_usage(CLIENT_AUTH) || !signs {
        Check::fail(
            "identity.usage",
            "the certificate may not be used by a TLS client",
        )
        .remedy("issue it again with extended key usage clientAuth")
    } else {
        Check::pass("identity.usage", "may be used by a TLS client")
    };
    let name = match leaf.subject.first("CN") {
        Some(name) => Check::pass("identity.name", format!("common name `{name}`")),
        None => Check::warn("identity.name", "the subject has no common name")
            .remedy("name the MQTT client id with --client-id when connecting"),
    };
    [algorithm, version, usage, name]
}

fn check_order(chain: Option<&CertificateFile>, leaf: &Certificate) -> Check {
    const ID: &str = "chain.order";
    let Some(file) = chain.filter(|file| !file.certificates.is_empty()) else {
        return Check::warn(
            ID,
            "there is no chain file; only the leaf will be presented",
        )
        .remedy("JITP needs the issuer as well, unless SNI is sent: name it with --chain");
    };
    let mut all = file.all();
    if all[0].id() != leaf.id() {
        all.insert(0, leaf.clone());
    }
    let Some(chain) = Chain::new(all) else {
        return Check::skip(ID, "the chain file is empty");
    };
    match chain.break_in_order() {
        None => Check::pass(ID, "leaf first, then each issuer"),
        Some(at) => {
            let place = if at == 0 {
                "the leaf".to_owned()
            } else {
                format!("certificate {at}")
            };
            Check::fail(
                ID,
                format!("`{}`: {place} is not signed by the next one", file.path),
            )
            .remedy("write the leaf first, then its issuer, then that one's, up to the root")
        }
    }
}

fn check_trust(identity: &IdentityFacts, leaf: Certificate, board: &mut Board) {
    let Some(ca) = identity
        .ca
        .as_ref()
        .filter(|file| !file.certificates.is_empty())
    else {
        let skipped = Check::skip("chain.trust", "no CA was named to verify against (--ca)");
        board.checks.push(skipped);
        return;
    };
    let mut pool = ca.all();
    pool.extend(identity.chain.iter().flat_map(CertificateFile::all));
    let path = Path::find(leaf, &pool);
    board
        .checks
        .push(match path.verify(&ca.all(), Usage::Client) {
            Ok(()) => Check::pass("chain.trust", format!("leads to {}", path.top().subject)),
            Err(why) => Check::fail(
                "chain.trust",
                format!("does not lead to the given CA: {why}"),
            )
            .remedy("name the CA that issued this certificate with --ca"),
        });
    if let Some(validity) = path.issuers_window() {
        let label = "CA";
        board.windows.insert(0, Window { label, validity });
        board
            .checks
            .push(board.time.check("chain.window", "its issuers", &validity));
    }
}

/// A leaf and those of a pool that lead up from it.
pub(super) struct Path(Chain);

impl Path {
    pub(super) fn find(leaf: Certificate, pool: &[Certificate]) -> Self {
        let mut issuers: Vec<Certificate> = Vec::new();
        let mut last = leaf.clone();
        // No chain that webpki verifies is longer.
        while issuers.len() < 8 && !last.is_self_issued() {
            let Some(next) = pool.iter().find(|issuer| last.is_signed_by(issuer)) else {
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
