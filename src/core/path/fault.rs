//! What keeps a chain from being good, in words and as a stable code.

use std::fmt;

use super::Usage;
use super::names::Refusal;
use crate::core::revocation::RevocationReason;
use crate::core::time::UtcTime;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// With which certificate of the path; 0 is the one to be verified.
    pub at: usize,
    /// What.
    pub reason: Reason,
}

/// What is wrong with a certificate in its place in a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The signature algorithm is not one we verify, or does not go with the issuer's key.
    Algorithm(String),
    /// The search was given up; there may be a path all the same.
    Budget(&'static str),
    /// No revocation list given for its issuer can be used.
    Crl(String),
    /// A critical extension that is not processed here (RFC 5280 §4.2).
    CriticalExtension(String),
    /// Ends within the time asked.
    EndsInWindow {
        /// The last valid second.
        not_after: UtcTime,
        /// The last second asked.
        until: UtcTime,
    },
    /// Over.
    Expired(UtcTime),
    /// keyUsage forbids it.
    KeyUsage(&'static str),
    /// A field or extension cannot be read, or stands where it may not in any certificate.
    Malformed(String),
    /// The name asked is not among its names.
    Name {
        /// Asked.
        asked: String,
        /// What it has.
        has: Vec<String>,
    },
    /// A name that a CA above it does not let it have.
    NameConstraint {
        /// The name.
        name: String,
        /// How.
        refusal: Refusal,
    },
    /// No revocation list for its issuer was given, and one is wanted.
    NoCrl,
    /// Nobody with its issuer's name is known.
    NoIssuer(String),
    /// Not a CA's, and stands as issuer, or is to be one.
    NotCa,
    /// Not yet begun.
    NotYetValid(UtcTime),
    /// More CAs below it than pathLenConstraint lets be.
    PathLength {
        /// pathLenConstraint.
        limit: u32,
        /// How many there are.
        below: u32,
    },
    /// No certificate policy is good for the whole path (RFC 5280 §6.1.5).
    Policy(&'static str),
    /// Against what RFC 5280 §4 asks of whoever issues certificates; only asked when strict.
    Profile(&'static str),
    /// On its issuer's revocation list.
    Revoked {
        /// From when on.
        at: UtcTime,
        /// Why.
        reason: Option<RevocationReason>,
    },
    /// The issuer's key did not make the signature.
    Signature(String),
    /// More intermediates than asked.
    TooLong(usize),
    /// Signed itself, and is not among the roots.
    Untrusted,
    /// extendedKeyUsage forbids the use asked.
    Usage(Usage),
}

impl Reason {
    /// Stable, dotted, documented.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Algorithm(_) => "path.algorithm",
            Self::Budget(_) => "path.budget",
            Self::Crl(_) => "path.crl",
            Self::CriticalExtension(_) => "path.critical-extension",
            Self::EndsInWindow { .. } => "path.ends-in-window",
            Self::Expired(_) => "path.expired",
            Self::KeyUsage(_) => "path.key-usage",
            Self::Malformed(_) => "path.malformed",
            Self::Name { .. } => "path.name",
            Self::NameConstraint { .. } => "path.name-constraint",
            Self::NoCrl => "path.no-crl",
            Self::NoIssuer(_) => "path.no-issuer",
            Self::NotCa => "path.not-ca",
            Self::NotYetValid(_) => "path.not-yet-valid",
            Self::PathLength { .. } => "path.length",
            Self::Policy(_) => "path.policy",
            Self::Profile(_) => "path.profile",
            Self::Revoked { .. } => "path.revoked",
            Self::Signature(_) => "path.signature",
            Self::TooLong(_) => "path.too-long",
            Self::Untrusted => "path.untrusted",
            Self::Usage(_) => "path.usage",
        }
    }

    /// What to do about it, if it is one thing.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Algorithm(_) => {
                "issue it anew with ECDSA on P-256 or P-384, or RSA of 2048 bits and SHA-256"
            }
            Self::Crl(_) => "fetch the issuer's newest list, and name it with --crl",
            Self::EndsInWindow { .. } => "renew it before that day",
            Self::Expired(_) => "renew it; to see whether it was good once, ask with --at",
            Self::Name { .. } => "ask for a name that it has, or issue it with this one (--san)",
            Self::NoCrl => "name the issuer's list with --crl, or leave --crl-check out",
            Self::NoIssuer(_) => {
                "name the issuer's certificate with --intermediate, or with --root to trust it"
            }
            Self::NotYetValid(_) => "check the clock first; to look ahead, ask with --at",
            Self::Profile(_) => "issue it anew; without --strict this is let pass",
            Self::Revoked { .. } => "do not use it any more; issue a new one",
            Self::Signature(_) => {
                "an issuer of the same name with another key was given; name the one that signed"
            }
            Self::Untrusted => "name it with --root if you trust it",
            Self::Usage(_) => "issue it with the usage, or ask with another --usage",
            _ => return None,
        })
    }

    /// The smaller, the more it tells of the cause: what to report first.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::NotYetValid(_) | Self::Expired(_) | Self::EndsInWindow { .. } => 0,
            Self::Revoked { .. } => 1,
            Self::Profile(_) => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm(_)
            | Self::Crl(_)
            | Self::NameConstraint { .. }
            | Self::NoCrl
            | Self::NoIssuer(_)
            | Self::Revoked { .. }
            | Self::Signature(_) => self.write_issuer(f),
            Self::Budget(what) => write!(f, "the search was given up after {what}"),
            Self::CriticalExtension(oid) => {
                write!(f, "its critical extension {oid} is not processed here")
            }
            Self::EndsInWindow { not_after, until } => {
                write!(f, "it ends at {not_after}, before {until}")
            }
            Self::Expired(at) => write!(f, "it expired at {at}"),
            Self::KeyUsage(why) | Self::Policy(why) => f.write_str(why),
            Self::Malformed(why) => f.write_str(why),
            Self::Name { asked, has } if has.is_empty() => {
                write!(f, "it is not for `{asked}`: it has no subjectAltName")
            }
            Self::Name { asked, has } => {
                write!(f, "it is not for `{asked}`, only {}", has.join(", "))
            }
            Self::NotCa => f.write_str("it is not a CA's (basicConstraints)"),
            Self::NotYetValid(at) => write!(f, "it is not valid before {at}"),
            Self::PathLength { limit, below } => write!(
                f,
                "it lets {limit} CAs stand below it (pathLenConstraint), and {below} do"
            ),
            Self::Profile(why) => write!(f, "{why} (RFC 5280 §4)"),
            Self::TooLong(limit) => write!(f, "the path has more than {limit} intermediates"),
            Self::Untrusted => f.write_str("it signed itself, and is not among the roots"),
            Self::Usage(usage) => write!(f, "its extendedKeyUsage does not allow {usage}"),
        }
    }
}

impl Reason {
    /// What lies with those above it.
    fn write_issuer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm(name) => write!(
                f,
                "its signature algorithm {name} is not verified here with its issuer's key"
            ),
            Self::Crl(why) => write!(f, "its issuer's revocation list cannot be used: {why}"),
            Self::NameConstraint { name, refusal } => {
                let how = match refusal {
                    Refusal::Excluded => "is excluded by the name constraints of a CA above it",
                    Refusal::NotPermitted => {
                        "is not among those that a CA above it permits (name constraints)"
                    }
                    Refusal::Unclear => "cannot be held against the name constraints above it",
                };
                write!(f, "its name {name} {how}")
            }
            Self::NoCrl => f.write_str("no revocation list of its issuer was given"),
            Self::NoIssuer(issuer) => write!(
                f,
                "its issuer `{issuer}` is neither among the roots nor the intermediates"
            ),
            Self::Revoked { at, reason } => {
                let why = reason.map_or("for an unknown reason", RevocationReason::as_str);
                write!(f, "it is revoked since {at}: {why}")
            }
            Self::Signature(issuer) => {
                write!(f, "its signature was not made by the key of `{issuer}`")
            }
            other => f.write_str(other.code()),
        }
    }
}
