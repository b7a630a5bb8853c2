//! The certificate of an NTS server, when the clock that should judge it is what is asked for
//! (RFC 8915 §8.5).
//!
//! The rule: name and path to the CA are verified as always. The dates are held against what is known
//! before the exchange (not before the build date and the last time seen). If the clock stands inside
//! all windows, it is taken; if not, any instant from the floor on will do. Whether that was right is
//! seen afterwards: an answer that says a time outside of the certificates' own windows is refused.

use crate::core::cert::Certificate;
use crate::core::chain::Chain;
use crate::core::server::{self, ServerFault};
use crate::core::time::{UtcTime, Validity};

/// A certificate chain that is believed for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// When all of its certificates are valid.
    pub window: Validity,
    /// Whether the clock stood outside of that.
    pub clock_waived: bool,
}

/// Whom to trust, and what is known of the time.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The CAs that may vouch.
    pub roots: Vec<Certificate>,
    /// The true time is not before this.
    pub floor: UtcTime,
    /// What the clock says.
    pub wall: UtcTime,
}

impl Trust {
    /// Judges a server's chain as it was shown, leaf first.
    ///
    /// # Errors
    /// Its name, its path, or its dates.
    pub fn accept(&self, shown: Vec<Certificate>, host: &str) -> Result<Accepted, ServerFault> {
        let chain =
            Chain::new(shown).ok_or_else(|| ServerFault::Unreadable("there is none".into()))?;
        let all = || std::iter::once(&chain.leaf).chain(&chain.issuers);
        let first = all().map(|cert| cert.validity.not_before).max();
        let last = all().map(|cert| cert.validity.not_after).min();
        let window = Validity {
            not_before: first.unwrap_or(self.wall),
            not_after: last.unwrap_or(self.wall),
        };
        let in_window = window.contains(self.wall) && self.wall >= self.floor;
        let at = if in_window {
            self.wall
        } else {
            window.not_before.max(self.floor)
        };
        server::verify(&chain, host, &self.roots, at)?;
        Ok(Accepted {
            window,
            clock_waived: !in_window,
        })
    }
}
