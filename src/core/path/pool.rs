//! What paths are built from, read once for many certificates.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::Spot;
use super::link::Link;
use crate::core::cert::Certificate;
use crate::core::crl::Crl;
use crate::core::dn::Dn;
use crate::core::ids::CertificateId;

/// Roots, intermediates and revocation lists.
pub struct Pool<'a> {
    pub(super) intermediates: Vec<Link<'a>>,
    pub(super) roots: Vec<Link<'a>>,
    pub(super) lists: Vec<(Dn, &'a Crl)>,
    by_subject: HashMap<Dn, Vec<Spot>>,
    root_ids: HashMap<CertificateId, usize>,
    /// Which lists a certificate's key has signed: lists are large, and hashed whole.
    pub(super) signed_lists: RefCell<HashMap<(usize, Spot), bool>>,
}

impl<'a> Pool<'a> {
    /// From everything known. An intermediate that is a root as well counts as the root; doubles
    /// count once.
    pub fn new(
        intermediates: &'a [Certificate],
        roots: &'a [Certificate],
        crls: &'a [Crl],
    ) -> Self {
        let mut seen = HashSet::new();
        let mut links = |all: &'a [Certificate]| -> Vec<Link<'a>> {
            all.iter()
                .filter(|one| seen.insert(one.id().clone()))
                .map(Link::new)
                .collect()
        };
        let roots = links(roots);
        let intermediates = links(intermediates);
        let mut by_subject: HashMap<Dn, Vec<Spot>> = HashMap::new();
        let of_roots = roots.iter().enumerate().map(|(n, l)| (Spot::Root(n), l));
        let others = intermediates.iter().enumerate();
        let others = others.map(|(n, l)| (Spot::Intermediate(n), l));
        for (spot, link) in of_roots.chain(others) {
            by_subject
                .entry(link.subject.clone())
                .or_default()
                .push(spot);
        }
        let ids = roots.iter().enumerate();
        let root_ids = ids.map(|(n, root)| (root.certificate.id().clone(), n));
        let name = |crl: &'a Crl| Some((Dn::parse(&crl.issuer_der)?, crl));
        Self {
            root_ids: root_ids.collect(),
            lists: crls.iter().filter_map(name).collect(),
            by_subject,
            intermediates,
            roots,
            signed_lists: RefCell::default(),
        }
    }

    /// Everyone with this name.
    pub(super) fn named(&self, subject: &Dn) -> &[Spot] {
        self.by_subject.get(subject).map_or(&[], Vec::as_slice)
    }

    /// Whether the certificate is a root.
    pub(super) fn is_root(&self, id: &CertificateId) -> bool {
        self.root_ids.contains_key(id)
    }

    /// The root or intermediate at a place; `None` for the leaf.
    pub fn certificate(&self, spot: Spot) -> Option<&'a Certificate> {
        self.link(spot).map(|link| link.certificate)
    }

    pub(super) fn link(&self, spot: Spot) -> Option<&Link<'a>> {
        match spot {
            Spot::Leaf => None,
            Spot::Intermediate(n) => self.intermediates.get(n),
            Spot::Root(n) => self.roots.get(n),
        }
    }
}
