//! Whether a certificate of a path is revoked (RFC 5280 §6.3), by the lists given.
//!
//! Lists are judged at the beginning of the time asked: nobody knows tomorrow's. They are asked from
//! the newest on, until all reasons are told of: one full list that may be used is enough.

use super::fault::{Fault, Reason};
use super::search::{Search, run, signed_by};
use super::{PathRequest, Spot, Usage};
use crate::core::crl::Crl;
use crate::core::crl::point::ALL_REASONS;

/// keyUsage's cRLSign.
const CRL_SIGN: u8 = 6;
/// How many searches for the issuers of lists may be inside each other.
const MAX_DEPTH: usize = 2;

pub(super) fn faults(search: &Search<'_, '_>, path: &[Spot]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, pair) in path.windows(2).enumerate() {
        let reason = standing(search, pair[0], pair[1], path[path.len() - 1]);
        faults.extend(reason.map(|reason| Fault { at, reason }));
    }
    faults
}

fn standing(search: &Search<'_, '_>, spot: Spot, issuer: Spot, root: Spot) -> Option<Reason> {
    let link = search.link(spot);
    let is_ca = link.certificate.is_ca == Some(true);
    let lists = search.pool.lists.iter().enumerate();
    let mut lists: Vec<(u16, usize, &Crl)> = lists
        .filter(|(_, (name, _))| *name == link.issuer)
        .map(|(n, (_, crl))| {
            let told = crl.scope.reasons_for(is_ca, &link.issuer, &link.points);
            (told, n, *crl)
        })
        .filter(|(told, ..)| *told != 0)
        .collect();
    if lists.is_empty() {
        return search.request.require_crls.then_some(Reason::NoCrl);
    }
    lists.sort_by_key(|(.., crl)| std::cmp::Reverse(crl.this_update));
    let (mut told, mut first) = (0, None);
    for (reasons, n, crl) in lists {
        let unusable = unusable(search, crl).or_else(|| {
            let signed = is_signed(search, (n, crl), issuer, root);
            (!signed).then(|| "it was not signed by the issuer, or not by one who may".to_owned())
        });
        if unusable.is_some() {
            first = first.or(unusable);
            continue;
        }
        if let Some(entry) = crl.entry(&link.serial) {
            return Some(Reason::Revoked {
                at: entry.at,
                reason: entry.reason,
            });
        }
        told |= reasons;
        if told == ALL_REASONS {
            return None;
        }
    }
    let some = || "together its lists speak of some reasons only".to_owned();
    Some(Reason::Crl(first.unwrap_or_else(some)))
}

fn unusable(search: &Search<'_, '_>, crl: &Crl) -> Option<String> {
    let at = search.request.when.not_before;
    if let Some(why) = &crl.unusable {
        return Some(why.clone());
    }
    if at < crl.this_update {
        return Some(format!("it is of {}, after {at}", crl.this_update));
    }
    if search.request.strict && crl.number.is_none() {
        return Some("it has no cRLNumber".into());
    }
    let next = crl.next_update?;
    (next < at).then(|| format!("its next one was due at {next}"))
}

/// Whether the list's signature is the issuer's, or that of another with the issuer's name that may
/// sign lists and stands under the same root (RFC 5280 §6.3.3 (f)).
fn is_signed(search: &Search<'_, '_>, list: (usize, &Crl), issuer: Spot, root: Spot) -> bool {
    if made(search, list, issuer) {
        return true;
    }
    let named = search.pool.named(&search.link(issuer).subject);
    let others = named.iter().filter(|other| **other != issuer);
    others
        .filter(|other| made(search, list, **other))
        .any(|other| stands_under(search, *other, root))
}

fn made(search: &Search<'_, '_>, (n, crl): (usize, &Crl), signer: Spot) -> bool {
    let link = search.link(signer);
    let may = link.key_usage_bit(CRL_SIGN) != Some(false);
    let mut known = search.pool.signed_lists.borrow_mut();
    let check = || signed_by(crl.der(), link).is_ok();
    may && *known.entry((n, signer)).or_insert_with(check)
}

fn stands_under(search: &Search<'_, '_>, signer: Spot, root: Spot) -> bool {
    let Some(certificate) = search.pool.certificate(signer) else {
        return false;
    };
    if signer == root {
        return true;
    }
    if search.depth >= MAX_DEPTH {
        return false;
    }
    let request = PathRequest {
        leaf: certificate,
        usage: Usage::Any,
        name: None,
        max_intermediates: None,
        ..search.request.clone()
    };
    let verdict = run(search.pool, &request, search.depth + 1);
    verdict.is_valid() && verdict.path.last() == Some(&root)
}
