//! Whether a certificate is good: path building and validation of our own (RFC 5280 §6), with
//! reasons.
//!
//! webpki answers yes or no for TLS; here every certificate of the best path is named with all that
//! is wrong with it. A root is whatever the caller trusts; its dates, path length, name constraints
//! and usages count as those of any CA (as RFC 5937 allows).

mod fault;
mod form;
mod link;
mod names;
mod peer;
mod policy;
mod pool;
mod revoked;
mod search;
mod walk;

use std::fmt;

pub use fault::{Fault, Reason};
pub use names::Refusal;
pub use peer::{PeerName, PeerNameError};
pub use pool::Pool;

use crate::core::cert::Certificate;
use crate::core::time::Validity;

/// What a certificate is to be used for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Usage {
    /// Nothing in particular.
    #[default]
    Any,
    /// A TLS client: a device.
    Client,
    /// A TLS server: an endpoint.
    Server,
    /// A CA, to sign certificates.
    Ca,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any use",
            Self::Client => "TLS clients (clientAuth)",
            Self::Server => "TLS servers (serverAuth)",
            Self::Ca => "signing certificates",
        })
    }
}

/// Which certificate policies the path must be good for (RFC 5280 §6.1.1 (c) to (g)).
#[derive(Clone, Debug, Default)]
pub struct PolicyRequest {
    /// Dotted OIDs; empty is any policy.
    pub acceptable: Vec<String>,
    /// The path must be good for at least one of them.
    pub require_explicit: bool,
    /// Mappings do not count.
    pub inhibit_mapping: bool,
    /// anyPolicy does not count.
    pub inhibit_any: bool,
}

/// What is asked of a certificate.
#[derive(Clone, Debug)]
pub struct PathRequest<'a> {
    /// The certificate.
    pub leaf: &'a Certificate,
    /// The path must be valid from the first to the last of these seconds.
    pub when: Validity,
    /// What for.
    pub usage: Usage,
    /// The name that it must have.
    pub name: Option<&'a PeerName>,
    /// Whether a certificate whose issuer's revocation list is not given is refused. Lists that are
    /// given always count.
    pub require_crls: bool,
    /// Whether RFC 5280 §4 counts as well: what issuers must do, and readers need not check.
    pub strict: bool,
    /// The most intermediates that are not self-issued.
    pub max_intermediates: Option<usize>,
    /// Certificate policies.
    pub policies: PolicyRequest,
}

impl<'a> PathRequest<'a> {
    /// Whether `leaf` is valid throughout `when`, for any use.
    pub fn new(leaf: &'a Certificate, when: Validity) -> Self {
        Self {
            leaf,
            when,
            usage: Usage::Any,
            name: None,
            require_crls: false,
            strict: false,
            max_intermediates: None,
            policies: PolicyRequest::default(),
        }
    }
}

/// A certificate of a path: where it comes from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Spot {
    /// The one to be verified.
    Leaf,
    /// Of the pool's intermediates.
    Intermediate(usize),
    /// Of the pool's roots.
    Root(usize),
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathVerdict {
    /// The path, leaf first; the best that was found. Ends with a root if it reached one.
    pub path: Vec<Spot>,
    /// What is wrong with it, by what tells most of the cause; nothing when it is good.
    pub faults: Vec<Fault>,
}

impl PathVerdict {
    /// Whether a good path was found.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Looks for a path from the leaf to one of the pool's roots that is good in every respect asked.
pub fn verify(pool: &Pool<'_>, request: &PathRequest<'_>) -> PathVerdict {
    search::run(pool, request, 0)
}

#[cfg(test)]
mod tests;
