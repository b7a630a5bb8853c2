//! AWS IoT's quotas of calls per second, one token bucket for each operation of an account and
//! Region. Source: AWS General Reference "AWS IoT Core endpoints and quotas" and Service Quotas.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::registry::{ApiError, ErrorName};
use crate::core::ids::Place;

/// The quota of an operation that is not listed.
const OTHERWISE: u32 = 10;
/// Calls per second, by operation.
const PER_SECOND: &[(u32, &[&str])] = &[
    (20_000, &["Publish"]),
    (350, &["DescribeThing"]),
    (
        100,
        &[
            "CreateThing",
            "UpdateThing",
            "DeleteThing",
            "AttachThingPrincipal",
            "DetachThingPrincipal",
            "AddThingToThingGroup",
            "RemoveThingFromThingGroup",
            "ListThingGroupsForThing",
            "DescribeThingGroup",
            "DescribeThingType",
            "DescribeBillingGroup",
        ],
    ),
    (60, &["AddThingToBillingGroup"]),
    (50, &["GetEffectivePolicies"]),
    (
        25,
        &[
            "CreateThingGroup",
            "CreateBillingGroup",
            "ListThingsInThingGroup",
            "ListThingsInBillingGroup",
        ],
    ),
    (
        15,
        &[
            "CreateCertificateFromCsr",
            "AttachPolicy",
            "DetachPolicy",
            "GetPolicyVersion",
            "ListAttachedPolicies",
            "CreateThingType",
            "DeleteThingType",
            "DeprecateThingType",
            "DeleteThingGroup",
            "UpdateThingGroup",
        ],
    ),
];
/// Operations that register a device certificate share a quota beside their own.
const REGISTERING: (u32, &[&str]) = (
    15,
    &[
        "CreateCertificateFromCsr",
        "CreateKeysAndCertificate",
        "RegisterCertificate",
        "RegisterCertificateWithoutCA",
        "RegisterThing",
    ],
);
const REGISTERED: &str = "device certificates registered";

/// Every bucket; or none, where quotas are not enforced.
#[derive(Debug, Default)]
pub struct Quotas(Option<Mutex<HashMap<(String, &'static str), Bucket>>>);

/// What is left of a second's calls.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Quotas {
    /// AWS's defaults, enforced.
    pub fn aws() -> Self {
        Self(Some(Mutex::default()))
    }

    /// Takes one call from the operation's bucket; `now` only runs forward.
    ///
    /// # Errors
    /// `ThrottlingException` when it is empty.
    pub fn take(
        &self,
        place: &Place,
        operation: &'static str,
        now: Duration,
    ) -> Result<(), ApiError> {
        let Some(buckets) = &self.0 else {
            return Ok(());
        };
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (shared, members) = REGISTERING;
        let own = (operation, rate(operation));
        let also = members.contains(&operation).then_some((REGISTERED, shared));
        let mut taken = Vec::new();
        for (name, rate) in std::iter::once(own).chain(also) {
            let key = (format!("{}/{}", place.account, place.region), name);
            let full = f64::from(rate);
            let bucket = buckets.get(&key).copied();
            let left = bucket.map_or(full, |bucket| {
                let passed = now.saturating_sub(bucket.at).as_secs_f64();
                (bucket.left + passed * full).min(full)
            });
            if left < 1.0 {
                return Err(ApiError::new(ErrorName::Throttling, "Rate exceeded"));
            }
            let left = left - 1.0;
            taken.push((key, Bucket { left, at: now }));
        }
        buckets.extend(taken);
        Ok(())
    }
}

fn rate(operation: &str) -> u32 {
    let listed = PER_SECOND
        .iter()
        .find(|(_, names)| names.contains(&operation));
    listed.map_or(OTHERWISE, |(rate, _)| *rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: &str) -> Place {
        Place {
            account: "123456789012".parse().unwrap(),
            region: region.parse().unwrap(),
        }
    }

    #[test]
    fn a_second_has_its_calls_and_the_next_one_new_ones() {
        let quotas = Quotas::aws();
        let here = place("eu-west-1");
        let count = |now: Duration, name| {
            let calls = (0..1000).take_while(|_| quotas.take(&here, name, now).is_ok());
            calls.count()
        };
        let start = Duration::from_secs(5);
        assert_eq!(count(start, "DescribeThing"), 350);
        assert_eq!(count(start, "ListCertificates"), 10);
        assert_eq!(
            count(start + Duration::from_millis(500), "ListCertificates"),
            5
        );
        assert_eq!(
            count(start + Duration::from_secs(9), "ListCertificates"),
            10
        );
        let elsewhere = quotas.take(&place("us-east-1"), "DescribeThing", start);
        assert!(elsewhere.is_ok());
        assert!(
            Quotas::default()
                .take(&here, "DescribeThing", start)
                .is_ok()
        );
    }

    #[test]
    fn certificates_share_a_quota() {
        let quotas = Quotas::aws();
        let (here, now) = (place("eu-west-1"), Duration::ZERO);
        let count = |name| {
            (0..50)
                .take_while(|_| quotas.take(&here, name, now).is_ok())
                .count()
        };
        assert_eq!(count("RegisterCertificate"), 10);
        assert_eq!(count("CreateCertificateFromCsr"), 5);
        assert_eq!(count("CreateKeysAndCertificate"), 0);
    }
}
