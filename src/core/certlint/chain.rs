//! A certificate among its issuers, and a chain as it is presented.

use std::collections::{HashMap, HashSet};

use super::fields::verifiable;
use super::{Board, Case, Place, Unit};
use crate::core::cert::Certificate;

/// Small TLS stacks hold no more of a chain than this, in bytes of DER.
const SMALL: usize = 8 * 1024;

/// Every CA that was given, by its name.
pub(super) struct Known<'a> {
    by_name: HashMap<&'a [u8], Vec<&'a Certificate>>,
    /// The names of those that others were issued by.
    issuers: HashSet<&'a [u8]>,
}

/// What is known of a certificate's issuer.
pub(super) enum Issuer<'a> {
    /// It is here, and its key made the signature.
    Found(&'a Certificate),
    /// One of that name is here, but its key did not make the signature.
    Other(&'a Certificate),
    /// One of that name is here; the signature is of a kind that we do not compute.
    Unproved(&'a Certificate),
    /// It is not here.
    Unknown,
}

impl<'a> Known<'a> {
    pub(super) fn of(units: &[Unit<'a>]) -> Self {
        let mut by_name: HashMap<&[u8], Vec<&Certificate>> = HashMap::new();
        let mut issuers = HashSet::new();
        let given = units.iter().flat_map(|unit| {
            let own = unit.items.iter().filter_map(|item| item.certificate());
            own.chain(unit.issuers)
        });
        for certificate in given {
            if !certificate.is_self_issued() {
                issuers.insert(&certificate.issuer_der[..]);
            }
            if may_issue(certificate) {
                let same_name = by_name.entry(&certificate.subject_der).or_default();
                if !same_name.iter().any(|known| known.id() == certificate.id()) {
                    same_name.push(certificate);
                }
            }
        }
        Self { by_name, issuers }
    }

    /// Whether it is a CA that issued another certificate here.
    pub(super) fn is_issuer(&self, certificate: &Certificate) -> bool {
        may_issue(certificate) && self.issuers.contains(&certificate.subject_der[..])
    }

    /// The issuer of `certificate`, from its own unit first.
    pub(super) fn issuer_of(&self, certificate: &'a Certificate, unit: &Unit<'a>) -> Issuer<'a> {
        if certificate.is_self_issued() && certificate.verifies_with(&certificate.public_key) {
            return Issuer::Unknown;
        }
        let beside = unit.items.iter().filter_map(|item| item.certificate());
        let beside = beside.chain(unit.issuers);
        let beside = beside.filter(|issuer| issuer.subject_der == certificate.issuer_der);
        let beside = beside.filter(|issuer| issuer.id() != certificate.id());
        let elsewhere = self.by_name.get(&certificate.issuer_der[..]);
        let elsewhere = elsewhere.into_iter().flatten().copied();
        let mut named = None;
        for issuer in beside.chain(elsewhere) {
            if issuer.id() == certificate.id() {
                continue;
            }
            if certificate.is_signed_by(issuer) {
                return Issuer::Found(issuer);
            }
            named = named.or(Some(issuer));
        }
        match named {
            None => Issuer::Unknown,
            Some(issuer) if verifiable(&certificate.signature_algorithm, &issuer.public_key) => {
                Issuer::Other(issuer)
            }
            Some(issuer) => Issuer::Unproved(issuer),
        }
    }
}

fn may_issue(certificate: &Certificate) -> bool {
    certificate.is_ca == Some(true) || (certificate.version < 3 && certificate.is_self_issued())
}

pub(super) fn judge(case: &Case<'_>, board: &mut Board) {
    let issuer = match case.issuer {
        Issuer::Found(issuer) | Issuer::Unproved(issuer) => issuer,
        Issuer::Other(issuer) => {
            let message = format!("the key of `{}` did not sign it", issuer.subject);
            board.add("cert.chain-signature", &case.at("issuer"), message);
            issuer
        }
        Issuer::Unknown => return,
    };
    let (own, theirs) = (&case.certificate.authority_key_id, &issuer.subject_key_id);
    if let (Some(own), Some(theirs)) = (own, theirs)
        && own != theirs
    {
        let (own, theirs) = (crate::core::ids::hex(own), crate::core::ids::hex(theirs));
        let message = format!("{own} is not {theirs} of `{}`", issuer.subject);
        board.add("cert.aki-mismatch", &case.at("authority_key_id"), message);
    }
}

/// The order, the completeness and the size of a chain.
pub(super) fn judge_order(unit: &Unit<'_>, board: &mut Board) {
    let all: Vec<(usize, Option<usize>, &Certificate)> = unit
        .items
        .iter()
        .enumerate()
        .filter_map(|(index, item)| Some((index, item.line, item.certificate()?)))
        .collect();
    let Some(((_, _, leaf), above)) = all.split_first() else {
        return;
    };
    let looks_like_one = !above.is_empty()
        && leaf.is_ca != Some(true)
        && above.iter().all(|(.., certificate)| may_issue(certificate));
    if !(unit.presented || looks_like_one) {
        return;
    }
    let at = |position: usize| {
        let (index, line, certificate) = all[position];
        Place {
            index,
            line,
            path: format!("$.certificates[{index}]"),
            certificate: Some(certificate),
        }
    };
    let chain: Vec<&Certificate> = all.iter().map(|(.., certificate)| *certificate).collect();
    duplicates_and_order(&chain, &at, board);
    path_lengths(&chain, &at, board);
    top(unit, &chain, &at, board);
    let bytes: usize = chain
        .iter()
        .map(|certificate| certificate.der().len())
        .sum();
    if bytes > SMALL {
        let message = format!("{bytes} bytes of DER in {} certificates", chain.len());
        board.add("cert.chain-size", &at(0), message);
    }
}

type At<'f, 'a> = &'f dyn Fn(usize) -> Place<'a>;

fn duplicates_and_order(chain: &[&Certificate], at: At<'_, '_>, board: &mut Board) {
    for (position, certificate) in chain.iter().enumerate().skip(1) {
        let before = chain[position - 1];
        if chain[..position]
            .iter()
            .any(|one| one.id() == certificate.id())
        {
            let message = format!("`{}` is there again", certificate.subject);
            board.add("cert.chain-duplicate", &at(position), message);
        } else if before.issuer_der != certificate.subject_der {
            let message = format!(
                "`{}` follows, but the issuer is `{}`",
                certificate.subject, before.issuer
            );
            board.add("cert.chain-order", &at(position - 1), message);
        }
    }
}

/// pathLen counts the CAs between this one and the leaf, the self-issued not counted.
fn path_lengths(chain: &[&Certificate], at: At<'_, '_>, board: &mut Board) {
    for (position, certificate) in chain.iter().enumerate().skip(1) {
        let between = chain[1..position].iter();
        let below = between.filter(|one| !one.is_self_issued()).count();
        if let Some(allowed) = certificate.path_len
            && below > allowed as usize
        {
            let message = format!("pathLen {allowed}, and {below} CAs are below it");
            board.add("cert.chain-path-length", &at(position), message);
        }
    }
}

fn top(unit: &Unit<'_>, chain: &[&Certificate], at: At<'_, '_>, board: &mut Board) {
    let Some((last, below)) = chain.split_last() else {
        return;
    };
    if last.is_self_issued() {
        if unit.presented && !below.is_empty() {
            let message = format!("`{}` is a root", last.subject);
            board.add("cert.chain-root", &at(below.len()), message);
        }
        return;
    }
    // Known from the identity's CA bundle to be an intermediate, and not presented.
    let missing = unit
        .issuers
        .iter()
        .find(|issuer| last.issuer_der == issuer.subject_der && !issuer.is_self_issued());
    let alone = unit.presented && below.is_empty() && unit.issuers.is_empty();
    if let Some(issuer) = missing {
        let message = format!("`{}` is not presented", issuer.subject);
        board.add("cert.chain-incomplete", &at(below.len()), message);
    } else if alone {
        let message = format!("its issuer `{}` is not presented", last.issuer);
        board.add("cert.chain-incomplete", &at(0), message);
    }
}
