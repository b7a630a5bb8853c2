//! Which of several clocks are right, and between which bounds the truth lies (RFC 5905 §11.2.1,
//! after Marzullo and Owicki).

/// A statement: the value lies in `low ..= high`, most likely in the middle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The least it may be.
    pub low: i64,
    /// The most it may be.
    pub high: i64,
}

impl Claim {
    /// Around a middle.
    pub fn around(middle: i64, uncertainty: i64) -> Self {
        Self {
            low: middle.saturating_sub(uncertainty),
            high: middle.saturating_add(uncertainty),
        }
    }

    fn middle(self) -> i64 {
        i64::midpoint(self.low, self.high)
    }
}

/// What claims prove together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// The truth is not below this, as long as fewer than half of the claims are wrong.
    pub low: i64,
    /// The truth is not above this, likewise.
    pub high: i64,
    /// The claims that count as true (truechimers), by index. The others are falsetickers.
    pub truechimers: Vec<usize>,
}

/// RFC 5905's intersection algorithm: for as few falsetickers as possible, fewer than half, an
/// interval in which all others meet and outside of which no more middles lie than there are
/// falsetickers. Where only that rule about middles fails (two right servers, one much nearer than
/// the other), Marzullo's own rule decides: more than half meet. `None` when there is no such
/// majority, also when there is no claim.
///
/// The bounds returned are not those of that interval, which a wrong claim that overlaps right ones
/// can pull to one side of the truth: they are where more than half of the claims meet, from the
/// left and from the right. Those hold the truth whichever minority is wrong.
pub fn select(claims: &[Claim]) -> Option<Selection> {
    let most_false = claims.len().checked_sub(1)? / 2;
    let (low, high) = meet(claims, claims.len() - most_false)?;
    let agreed = (0..=most_false).find_map(|allowed| agree(claims, allowed));
    let is_true = |claim: &Claim| match agreed {
        Some(agreed) => (agreed.low..=agreed.high).contains(&claim.middle()),
        None => claim.low <= high && claim.high >= low,
    };
    let truechimers = claims.iter().enumerate();
    let truechimers = truechimers
        .filter(|(_, claim)| is_true(claim))
        .map(|(index, _)| index)
        .collect();
    Some(Selection {
        low,
        high,
        truechimers,
    })
}

fn agree(claims: &[Claim], allowed: usize) -> Option<Claim> {
    let (low, high) = meet(claims, claims.len() - allowed)?;
    let outside = claims
        .iter()
        .filter(|claim| !(low..=high).contains(&claim.middle()))
        .count();
    (outside <= allowed).then_some(Claim { low, high })
}

/// The first and the last point that at least `wanted` claims contain. Ends are inclusive.
fn meet(claims: &[Claim], wanted: usize) -> Option<(i64, i64)> {
    let covered = |at: &i64| {
        let holds = |claim: &&Claim| (claim.low..=claim.high).contains(at);
        claims.iter().filter(holds).count() >= wanted
    };
    let low = claims.iter().map(|claim| claim.low).filter(covered).min()?;
    let highs = claims.iter().map(|claim| claim.high).filter(covered);
    Some((low, highs.max()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(low: i64, high: i64) -> Claim {
        Claim { low, high }
    }

    #[test]
    fn a_majority_outvotes_liars_and_a_tie_proves_nothing() {
        let (right, liar) = (Claim::around(0, 10), Claim::around(10_800_000, 10));
        let near = Claim::around(5, 10);
        let three = select(&[right, liar, near]).unwrap();
        assert_eq!(three.truechimers, [0, 2]);
        assert_eq!((three.low, three.high), (-5, 10));
        let five = select(&[liar, right, liar, near, right]).unwrap();
        assert_eq!(five.truechimers, [1, 3, 4]);
        assert_eq!(select(&[right]).unwrap().truechimers, [0]);
        for tie in [&[right, liar][..], &[right, liar, near, liar], &[]] {
            assert_eq!(select(tie), None);
        }
    }

    /// The picture of RFC 5905 §11.2.1 taken against us: a liar that overlaps both right clocks.
    #[test]
    fn a_liar_that_overlaps_cannot_pull_the_bounds_away_from_the_truth() {
        let (a, b) = (claim(0, 10), claim(8, 20));
        for liar in [claim(8, 8), claim(7, 8), claim(10, 10), claim(9, 30)] {
            let found = select(&[a, b, liar]).unwrap();
            assert!(found.low <= 8 && found.high >= 10, "{liar:?}: {found:?}");
        }
    }

    #[test]
    fn a_near_and_a_far_server_that_overlap_agree() {
        let (near, far) = (Claim::around(0, 25), Claim::around(48, 49));
        let found = select(&[near, far]).unwrap();
        assert_eq!((found.low, found.high), (-1, 25));
        assert_eq!(found.truechimers, [0, 1]);
    }

    proptest! {
        #[test]
        fn bounds_hold_the_truth_while_fewer_than_half_lie(
            truth in -1_000_i64..1_000,
            right in prop::collection::vec((0_i64..200, 0_i64..200), 1..8),
            wrong in prop::collection::vec((-2_000_i64..2_000, 0_i64..400), 0..8),
        ) {
            let lies = wrong.iter().take(right.len() - 1);
            let mut claims: Vec<Claim> = lies.map(|(low, width)| claim(*low, low + width)).collect();
            claims.extend(right.iter().map(|(below, above)| claim(truth - below, truth + above)));
            if let Some(found) = select(&claims) {
                prop_assert!(found.low <= truth && truth <= found.high, "{claims:?}: {found:?}");
                prop_assert!(found.truechimers.len() * 2 > claims.len());
            }
        }

        #[test]
        fn any_claims_are_taken(
            raw in prop::collection::vec((any::<i64>(), any::<i64>()), 0..12)
        ) {
            let claims: Vec<Claim> = raw.iter().map(|(a, b)| claim(*a.min(b), *a.max(b))).collect();
            if let Some(found) = select(&claims) {
                prop_assert!(found.low <= found.high);
            }
        }
    }
}
