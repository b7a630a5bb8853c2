//! What a ledger holds, in numbers: fed one certificate after another, so that memory stays flat.

use std::collections::{BTreeMap, HashSet};

use crate::core::record::{AuthorityRecord, CertificateRecord};
use crate::core::time::{Span, UtcTime};

/// The numbers, as of one moment.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LedgerStats {
    /// As of when.
    pub at: UtcTime,
    /// Rows.
    pub certificates: u64,
    /// Live identities: one for each device and purpose.
    pub live: u64,
    /// Rows of each state.
    pub states: BTreeMap<&'static str, u64>,
    /// Live identities by the key's algorithm.
    pub key_algorithms: BTreeMap<String, u64>,
    /// Rows and live identities of each CA.
    pub authorities: BTreeMap<String, OfAuthority>,
    /// Batches that are named.
    pub batches: u64,
    /// Live identities that are made wrong on purpose.
    pub flawed: u64,
    /// Live identities whose validity is over.
    pub expired: u64,
    /// Live identities whose validity ends within 30 days.
    pub ends_within_30_days: u64,
    /// The same within 90 days, those of 30 days too.
    pub ends_within_90_days: u64,
    /// Revoked certificates by reason.
    pub revoked: BTreeMap<&'static str, u64>,
    /// When the first and the last row were written down.
    pub first: Option<UtcTime>,
    /// See [`LedgerStats::first`].
    pub last: Option<UtcTime>,
    #[serde(skip)]
    batch_names: HashSet<String>,
}

/// One CA's numbers.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct OfAuthority {
    /// Rows.
    pub certificates: u64,
    /// Live identities.
    pub live: u64,
}

impl LedgerStats {
    /// Of a ledger without certificates.
    pub fn new(authorities: &[AuthorityRecord], at: UtcTime) -> Self {
        Self {
            at,
            certificates: 0,
            live: 0,
            states: BTreeMap::new(),
            key_algorithms: BTreeMap::new(),
            authorities: authorities
                .iter()
                .map(|one| (one.name.clone(), OfAuthority::default()))
                .collect(),
            batches: 0,
            flawed: 0,
            expired: 0,
            ends_within_30_days: 0,
            ends_within_90_days: 0,
            revoked: BTreeMap::new(),
            first: None,
            last: None,
            batch_names: HashSet::new(),
        }
    }

    /// Counts one more, signed by the CA `authority`.
    pub fn add(&mut self, record: &CertificateRecord, authority: &str) {
        self.certificates += 1;
        *self.states.entry(record.state.as_str()).or_default() += 1;
        let own = self.authorities.entry(authority.to_owned()).or_default();
        own.certificates += 1;
        own.live += u64::from(record.live);
        if let Some(batch) = &record.batch
            && !self.batch_names.contains(batch)
        {
            self.batch_names.insert(batch.clone());
            self.batches += 1;
        }
        if let Some(revocation) = record.standing_revocation() {
            *self.revoked.entry(revocation.reason.as_str()).or_default() += 1;
        }
        self.first = Some(
            self.first
                .map_or(record.created, |at| at.min(record.created)),
        );
        self.last = Some(
            self.last
                .map_or(record.created, |at| at.max(record.created)),
        );
        if record.live {
            self.add_live(record);
        }
    }

    fn add_live(&mut self, record: &CertificateRecord) {
        self.live += 1;
        let key = record.key_algorithm.clone();
        *self.key_algorithms.entry(key).or_default() += 1;
        self.flawed += u64::from(record.flaw.is_some());
        let end = record.validity.not_after;
        if end < self.at {
            self.expired += 1;
        } else {
            self.ends_within_30_days += u64::from(end < self.at.plus(Span::days(30)));
            self.ends_within_90_days += u64::from(end < self.at.plus(Span::days(90)));
        }
    }
}
