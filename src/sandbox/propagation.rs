//! What connections know of the registry while changes take time to reach them (the fault
//! `propagation-delay`): AWS IoT says that a change of a policy or status may take minutes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::mqtt::access::Authority;
use super::registry::CertificateStatus;
use crate::core::ids::CertificateId;

/// What is known of one certificate.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What it may do.
    pub(super) authority: Authority,
    /// Its status.
    pub(super) status: CertificateStatus,
}

/// What is known, and since when the registry is otherwise.
#[derive(Debug, Default)]
pub(super) struct Propagation {
    /// The generation that has reached the connections; `None` before the fault is met first.
    settled: Option<u64>,
    /// Later generations, and when each was seen first.
    changes: VecDeque<(u64, Duration)>,
    /// Per certificate: what was read, and under which generation.
    known: HashMap<CertificateId, (Known, u64)>,
}

impl Propagation {
    /// The generation that has reached the connections by now.
    pub(super) fn settled(&mut self, current: u64, now: Duration, delay: Duration) -> u64 {
        let mut settled = *self.settled.get_or_insert(current);
        let newest = self
            .changes
            .back()
            .map_or(settled, |(generation, _)| *generation);
        if current != newest {
            self.changes.push_back((current, now));
        }
        while let Some((generation, seen)) = self.changes.front().copied() {
            if seen + delay > now {
                break;
            }
            settled = generation;
            self.changes.pop_front();
        }
        self.settled = Some(settled);
        settled
    }

    /// The fault has ended: everything is read anew.
    pub(super) fn forget(&mut self) {
        if self.settled.is_some() {
            *self = Self::default();
        }
    }

    /// What is still known of a certificate; `None` when it is to be read anew.
    pub(super) fn known(&self, id: &CertificateId) -> Option<Known> {
        let (known, generation) = self.known.get(id)?;
        (Some(*generation) >= self.settled).then(|| known.clone())
    }

    /// Keeps what was just read.
    pub(super) fn learn(&mut self, id: &CertificateId, known: Known, generation: u64) {
        self.known.insert(id.clone(), (known, generation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_known_after_the_delay_and_not_before() {
        let mut late = Propagation::default();
        let id = CertificateId::of_der(b"x");
        let (delay, at) = (Duration::from_secs(5), Duration::from_secs);
        let known = |status| Known {
            authority: Authority::default(),
            status,
        };
        assert_eq!(late.settled(7, at(0), delay), 7);
        assert!(late.known(&id).is_none());
        late.learn(&id, known(CertificateStatus::Active), 7);
        assert_eq!(late.settled(8, at(10), delay), 7);
        assert_eq!(late.settled(8, at(14), delay), 7);
        assert_eq!(late.known(&id).unwrap().status, CertificateStatus::Active);
        assert_eq!(late.settled(8, at(15), delay), 8);
        assert!(late.known(&id).is_none());
    }
}
