//! Distribution points: which part of a CA's revocations a list holds, and where a certificate says
//! that its own part is (RFC 5280 §4.2.1.13 and §5.2.5).

use crate::core::der::{self, Element};
use crate::core::dn::Dn;

/// Every reason but the unused first bit of `ReasonFlags`.
pub const ALL_REASONS: u16 = 0x1fe;

/// A name of a distribution point.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PointName {
    /// A directory name.
    Directory(Dn),
    /// Any other kind, a URI mostly, as its DER.
    Other(Vec<u8>),
}

/// One distribution point of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificatePoint {
    /// Its names; empty when it has none.
    pub names: Vec<PointName>,
    /// Which reasons its list is about, a bit each.
    pub reasons: u16,
    /// Whether its lists are of another issuer (cRLIssuer).
    pub is_indirect: bool,
}

/// Whose certificates a list is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Subjects {
    /// Everybody's.
    #[default]
    All,
    /// End entities'.
    Users,
    /// CAs'.
    Cas,
    /// Attribute certificates, which we do not have.
    Attributes,
}

/// What a list's issuingDistributionPoint says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    /// Which certificates it is about.
    pub subjects: Subjects,
    /// Certificates of other issuers as well.
    pub is_indirect: bool,
    /// Only those whose distribution point has one of these names.
    pub names: Option<Vec<PointName>>,
    /// Only these reasons, a bit each.
    pub reasons: Option<u16>,
}

impl Scope {
    /// Reads the extension's value; relative names are below `issuer`.
    pub fn parse(value: &[u8], issuer: &Dn) -> Option<Self> {
        let mut scope = Self::default();
        for part in sequence(value)? {
            let on = part.content == [0xff];
            match part.tag {
                0xa0 => scope.names = Some(point_names(part.content, issuer)?),
                0x83 => scope.reasons = Some(reasons(part.content)?),
                0x84 => scope.is_indirect = on,
                tag => {
                    let subjects = match tag {
                        0x81 => Subjects::Users,
                        0x82 => Subjects::Cas,
                        0x85 => Subjects::Attributes,
                        _ => return None,
                    };
                    if on && scope.subjects != Subjects::All {
                        return None;
                    } else if on {
                        scope.subjects = subjects;
                    }
                }
            }
        }
        Some(scope)
    }

    /// Which reasons for revoking a certificate of this CA the list tells of, a bit each: none when
    /// it is about other certificates. `points` are the certificate's (RFC 5280 §6.3.3 (b) and, for
    /// one that names no point of this issuer, the last paragraph).
    pub fn reasons_for(&self, is_ca: bool, issuer: &Dn, points: &[CertificatePoint]) -> u16 {
        let fits = match self.subjects {
            Subjects::All => true,
            Subjects::Users => !is_ca,
            Subjects::Cas => is_ca,
            Subjects::Attributes => false,
        };
        if !fits {
            return 0;
        }
        let own = PointName::Directory(issuer.clone());
        let implied = [CertificatePoint {
            names: vec![own],
            reasons: ALL_REASONS,
            is_indirect: false,
        }];
        let fits = |point: &&CertificatePoint| {
            let named = |names: &Vec<PointName>| names.iter().any(|n| point.names.contains(n));
            !point.is_indirect && self.names.as_ref().is_none_or(named)
        };
        let all = points.iter().chain(&implied).filter(fits);
        let told = all.fold(0, |told, point| told | point.reasons);
        told & self.reasons.unwrap_or(ALL_REASONS) & ALL_REASONS
    }
}

impl CertificatePoint {
    /// Reads a certificate's cRLDistributionPoints; relative names are below `issuer`.
    pub fn parse_all(value: &[u8], issuer: &Dn) -> Option<Vec<Self>> {
        let one = |point: Element<'_>| {
            let mut read = Self {
                names: Vec::new(),
                reasons: ALL_REASONS,
                is_indirect: false,
            };
            for part in der::children(point.content)? {
                match part.tag {
                    0xa0 => read.names = point_names(part.content, issuer)?,
                    0x81 => read.reasons = reasons(part.content)?,
                    0xa2 => read.is_indirect = true,
                    _ => return None,
                }
            }
            (point.tag == 0x30).then_some(read)
        };
        sequence(value)?.into_iter().map(one).collect()
    }
}

fn sequence(value: &[u8]) -> Option<Vec<Element<'_>>> {
    let (outer, rest) = der::first(value)?;
    let whole = outer.tag == 0x30 && rest.is_empty();
    whole.then(|| der::children(outer.content)).flatten()
}

/// `DistributionPointName`: a full name or one relative to the issuer.
fn point_names(content: &[u8], issuer: &Dn) -> Option<Vec<PointName>> {
    let (choice, rest) = der::first(content)?;
    if !rest.is_empty() {
        return None;
    }
    match choice.tag {
        0xa0 => der::children(choice.content)?
            .iter()
            .map(|name| {
                Some(if name.tag == 0xa4 {
                    PointName::Directory(Dn::parse(name.content)?)
                } else {
                    PointName::Other(name.whole.to_vec())
                })
            })
            .collect(),
        0xa1 => Some(vec![PointName::Directory(issuer.child(choice.content)?)]),
        _ => None,
    }
}

/// `ReasonFlags`: the first bit lowest.
fn reasons(bits: &[u8]) -> Option<u16> {
    let (_unused, bytes) = bits.split_first()?;
    let bit = |n: usize| {
        bytes
            .get(n / 8)
            .is_some_and(|byte| byte >> (7 - n % 8) & 1 == 1)
    };
    Some((0..9).filter(|n| bit(*n)).fold(0, |all, n| all | 1 << n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::der::tlv;

    #[test]
    fn a_list_speaks_of_the_certificates_that_name_its_point() {
        let issuer = Dn::default();
        let uri = |text: &str| tlv(0xa0, &[&tlv(0xa0, &[&tlv(0x86, &[text.as_bytes()])])]);
        let scope = |parts: &[&[u8]]| Scope::parse(&tlv(0x30, parts), &issuer).unwrap();
        let point = |parts: &[&[u8]]| {
            let all = tlv(0x30, &[&tlv(0x30, parts)]);
            CertificatePoint::parse_all(&all, &issuer).unwrap()
        };
        let some = [0x83, 2, 6, 0b0100_0000];
        for (scope, points, is_ca, told) in [
            (scope(&[]), vec![], false, ALL_REASONS),
            (scope(&[&uri("a")]), point(&[&uri("a")]), false, ALL_REASONS),
            (scope(&[&uri("a")]), point(&[&uri("b")]), false, 0),
            (scope(&[&uri("a")]), vec![], false, 0),
            (scope(&[&[0x81, 1, 0xff]]), vec![], true, 0),
            (scope(&[&[0x82, 1, 0xff]]), vec![], true, ALL_REASONS),
            (scope(&[&[0x82, 1, 0xff]]), vec![], false, 0),
            (scope(&[&some]), vec![], false, 2),
            (
                scope(&[&uri("a")]),
                point(&[&uri("a"), &[0xa2, 0]]),
                false,
                0,
            ),
        ] {
            assert_eq!(
                scope.reasons_for(is_ca, &issuer, &points),
                told,
                "{scope:?}"
            );
        }
        let two = [0x30, 6, 0x81, 1, 0xff, 0x82, 1, 0xff];
        for bad in [&two[..], &[0x30, 2, 0x86, 0]] {
            assert_eq!(Scope::parse(bad, &issuer), None);
        }
        assert_eq!(
            CertificatePoint::parse_all(&[0x30, 2, 0x31, 0], &issuer),
            None
        );
    }
}
