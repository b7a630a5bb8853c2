//! One path, from the leaf to a root, held against RFC 5280 §6.1 and what was asked.

use super::fault::{Fault, Reason};
use super::link::Link;
use super::search::Search;
use super::{Spot, Usage, policy, revoked};
use crate::core::cert::{CLIENT_AUTH, SERVER_AUTH};

/// The most comparisons of names with name constraints for one certificate.
pub(super) const MAX_COMPARISONS: usize = 250_000;

/// keyUsage's bits (RFC 5280 §4.2.1.3).
const DIGITAL_SIGNATURE: u8 = 0;
const KEY_ENCIPHERMENT: u8 = 2;
const KEY_AGREEMENT: u8 = 4;
const KEY_CERT_SIGN: u8 = 5;

/// Everything that is wrong with a path that ends with a root.
pub(super) fn faults(search: &mut Search<'_, '_>, path: &[Spot]) -> Vec<Fault> {
    let mut faults = alone(search, path);
    faults.extend(key_ids(search, path));
    faults.extend(path_lengths(search, path));
    faults.extend(constraints(search, path));
    let links: Vec<&Link<'_>> = path.iter().map(|spot| search.link(*spot)).collect();
    faults.extend(policy::fault(&search.request.policies, &links));
    // Asking about revocation may mean verifying another path; not for one that is bad already.
    if faults.is_empty() {
        faults.extend(revoked::faults(search, path));
    }
    faults
}

/// What is wrong with each certificate of a path by itself.
pub(super) fn alone(search: &Search<'_, '_>, path: &[Spot]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, spot) in path.iter().enumerate() {
        let reasons = if at == 0 {
            leaf(search)
        } else {
            authority(search, *spot)
        };
        faults.extend(reasons.into_iter().map(|reason| Fault { at, reason }));
    }
    faults
}

fn leaf(search: &Search<'_, '_>) -> Vec<Reason> {
    let request = search.request;
    let link = search.link(Spot::Leaf);
    let mut reasons = common(search, link);
    if request.usage == Usage::Ca {
        reasons.extend(signing(link, false));
    }
    reasons.extend(leaf_key_usage(link, request.usage));
    if let Some(name) = request.name
        && !name.is_among(&link.names)
    {
        reasons.push(Reason::Name {
            asked: name.to_string(),
            has: link.names.iter().map(ToString::to_string).collect(),
        });
    }
    reasons
}

/// What speaks against a certificate as an issuer of others.
pub(super) fn authority(search: &Search<'_, '_>, spot: Spot) -> Vec<Reason> {
    let link = search.link(spot);
    let mut reasons = common(search, link);
    reasons.extend(signing(link, matches!(spot, Spot::Root(_))));
    reasons
}

fn common(search: &Search<'_, '_>, link: &Link<'_>) -> Vec<Reason> {
    let (request, validity) = (search.request, link.certificate.validity);
    let mut reasons = Vec::new();
    if request.when.not_before < validity.not_before {
        reasons.push(Reason::NotYetValid(validity.not_before));
    }
    if validity.not_after < request.when.not_before {
        reasons.push(Reason::Expired(validity.not_after));
    } else if validity.not_after < request.when.not_after {
        reasons.push(Reason::EndsInWindow {
            not_after: validity.not_after,
            until: request.when.not_after,
        });
    }
    reasons.extend(link.faults.iter().cloned());
    if request.strict {
        reasons.extend(link.loose.iter().cloned());
    }
    let wanted = match request.usage {
        Usage::Client => CLIENT_AUTH,
        Usage::Server => SERVER_AUTH,
        Usage::Any | Usage::Ca => return reasons,
    };
    if !link.certificate.allows_usage(wanted) {
        reasons.push(Reason::Usage(request.usage));
    }
    reasons
}

/// Whether it may sign certificates. A root of version 1 or 2 cannot say, and is taken at the word
/// of whoever trusts it.
fn signing(link: &Link<'_>, root: bool) -> Option<Reason> {
    let old_root = root && link.certificate.version < 3;
    if link.certificate.is_ca != Some(true) && !old_root {
        Some(Reason::NotCa)
    } else if link.key_usage_bit(KEY_CERT_SIGN) == Some(false) {
        let why = "its keyUsage does not let it sign certificates (keyCertSign)";
        Some(Reason::KeyUsage(why))
    } else {
        None
    }
}

/// What the handshake needs of the key (RFC 8446 §4.4.2.2; RFC 5246 §7.4.2 for older ways).
fn leaf_key_usage(link: &Link<'_>, usage: Usage) -> Option<Reason> {
    let (any, why): (&[u8], _) = match usage {
        Usage::Client => (
            &[DIGITAL_SIGNATURE],
            "its keyUsage does not let a TLS client sign (digitalSignature)",
        ),
        Usage::Server => (
            &[DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_AGREEMENT],
            "its keyUsage has nothing that a TLS server needs (digitalSignature)",
        ),
        Usage::Any | Usage::Ca => return None,
    };
    let has = |bit: &u8| link.key_usage_bit(*bit) != Some(false);
    (!any.iter().any(has)).then_some(Reason::KeyUsage(why))
}

/// Key identifiers that do not fit together, when that counts (RFC 5280 §4.2.1.2). To find a path
/// they are a hint alone.
fn key_ids(search: &Search<'_, '_>, path: &[Spot]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, pair) in path.windows(2).enumerate() {
        let (child, issuer) = (search.link(pair[0]), search.link(pair[1]));
        let named = child.certificate.authority_key_id.as_ref();
        let own = issuer.certificate.subject_key_id.as_ref();
        if search.request.strict && named.is_some() && own.is_some() && named != own {
            let why = "its authorityKeyIdentifier is not its issuer's subjectKeyIdentifier";
            let reason = Reason::Profile(why);
            faults.push(Fault { at, reason });
        }
    }
    faults
}

/// pathLenConstraint of each CA against the CAs between it and the leaf; self-issued ones do not
/// count (RFC 5280 §4.2.1.9).
fn path_lengths(search: &Search<'_, '_>, path: &[Spot]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut below = 0_u32;
    for (at, spot) in path.iter().enumerate().skip(1) {
        let link = search.link(*spot);
        if let Some(limit) = link.certificate.path_len
            && limit < below
        {
            let reason = Reason::PathLength { limit, below };
            faults.push(Fault { at, reason });
        }
        if at + 1 < path.len() && !link.is_self_issued() {
            below += 1;
        }
    }
    if let Some(most) = search.request.max_intermediates
        && below as usize > most
    {
        let reason = Reason::TooLong(most);
        faults.push(Fault { at: 0, reason });
    }
    faults
}

/// The names of each certificate against the constraints of all CAs above it; those of self-issued
/// CAs do not count (RFC 5280 §6.1.3 (b) and (c)).
fn constraints(search: &mut Search<'_, '_>, path: &[Spot]) -> Vec<Fault> {
    let mut budget = search.comparisons;
    let mut faults = Vec::new();
    for (at, spot) in path.iter().enumerate() {
        let link = search.link(*spot);
        if at > 0 && link.is_self_issued() {
            continue;
        }
        let above = path[at + 1..]
            .iter()
            .filter_map(|above| search.link(*above).constraints.as_ref());
        let names = link.all_names();
        let mut refused = above.flat_map(|constraints| {
            let names = names.iter();
            let budget = &mut budget;
            let refusal = names.filter_map(|name| Some((name, constraints.refuse(name, budget)?)));
            refusal.take(1).collect::<Vec<_>>()
        });
        if let Some((name, refusal)) = refused.next() {
            let name = name.to_string();
            let reason = Reason::NameConstraint { name, refusal };
            faults.push(Fault { at, reason });
        }
    }
    search.comparisons = budget;
    faults
}
