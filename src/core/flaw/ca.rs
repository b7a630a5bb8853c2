//! CAs that are wrong on purpose, so that tests can see who takes what they sign. Each flaw changes
//! one thing and leaves the rest as it should be.

use super::{AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, Change, KEY_USAGE, UNKNOWN};
use crate::core::der::tlv;
use crate::core::draft::DraftError;
use crate::core::time::{Span, UtcTime, Validity};

macro_rules! ca_flaws {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $origin:literal, $what:literal;)*) => {
        /// What is wrong with a CA on purpose.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum CaFlaw {
            $($(#[$doc])* $name,)*
        }

        impl CaFlaw {
            /// All of them, by their words.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// The word in the ledger, where it stands for where the CA comes from.
            pub fn origin(self) -> &'static str {
                match self { $(Self::$name => $origin),* }
            }

            /// What is wrong, for people.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => $what),* }
            }
        }
    };
}

ca_flaws! {
    /// The signature's last bit is turned.
    BadSignature = "bad-signature", "flawed: bad-signature", "its signature does not verify";
    /// The window lies in the past.
    Expired = "expired", "flawed: expired", "its last second has passed";
    /// A critical nameConstraints that permits no device of this project.
    NameConstraints = "name-constraints", "flawed: name-constraints", "it may sign for O=nobody alone";
    /// keyUsage cRLSign alone.
    NoCertSign = "no-cert-sign", "flawed: no-cert-sign", "its key may not sign certificates";
    /// basicConstraints CA:FALSE.
    NotACa = "not-a-ca", "flawed: not-a-ca", "it says that it is no CA";
    /// The window lies in the future.
    NotYetValid = "not-yet-valid", "flawed: not-yet-valid", "its first second has not come";
    /// Ends a day after the CA above it.
    OutlivesParent = "outlives-parent", "flawed: outlives-parent", "it ends after the CA above it";
    /// Below a CA whose path length is 0.
    PathLength = "path-length", "flawed: path-length", "the CA above it may have no CA below it";
    /// A critical extension that nobody knows.
    UnknownCritical = "unknown-critical", "flawed: unknown-critical", "it has a critical extension that nobody knows";
    /// Version 1: no extensions.
    V1 = "v1", "flawed: v1", "it is of version 1, without extensions";
    /// authorityKeyIdentifier names another key than the signer's.
    WrongAki = "wrong-aki", "flawed: wrong-aki", "its authority key identifier is not its signer's";
    /// subjectKeyIdentifier is not what certificates below name.
    WrongSki = "wrong-ski", "flawed: wrong-ski", "its subject key identifier is not what those below it name";
}

/// Last byte of the OIDs 2.5.29.x.
const SUBJECT_KEY_ID: u8 = 14;
/// A key identifier that is nobody's.
const NOBODYS: [u8; 20] = [0x5a; 20];

impl CaFlaw {
    /// Reads the word; `None` for another.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|flaw| flaw.word() == word).copied()
    }

    /// Reads the ledger's word; `None` for another.
    pub fn from_origin(origin: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|flaw| flaw.origin() == origin)
            .copied()
    }

    /// Whether it needs a CA above.
    pub fn needs_parent(self) -> bool {
        matches!(self, Self::OutlivesParent | Self::PathLength)
    }

    /// The window, when that is what is wrong.
    #[must_use]
    pub fn window(self, asked: Validity, (now, parent): (UtcTime, Option<Validity>)) -> Validity {
        let day = Span::days(1);
        match (self, parent) {
            (Self::Expired, _) => Validity {
                not_before: now.minus(Span::days(400)),
                not_after: now.minus(day),
            },
            (Self::NotYetValid, _) => Validity {
                not_before: now.plus(day),
                not_after: asked.not_after.max(now.plus(Span::days(2))),
            },
            (Self::OutlivesParent, Some(parent)) => Validity {
                not_after: parent.not_after.plus(day),
                ..asked
            },
            _ => asked,
        }
    }

    /// The to-be-signed part with the flaw in it; as it was when the flaw lies elsewhere.
    ///
    /// # Errors
    /// `draft.seal` when the parts are not in their places.
    pub fn spoil(self, tbs: &[u8]) -> Result<Vec<u8>, DraftError> {
        let change = match self {
            Self::NameConstraints => Change::Add(for_nobody()),
            Self::NoCertSign => Change::Put(KEY_USAGE, vec![0x03, 0x02, 0x01, 0x02]),
            Self::NotACa => Change::Put(BASIC_CONSTRAINTS, tlv(0x30, &[])),
            Self::UnknownCritical => Change::Add(UNKNOWN.to_vec()),
            Self::V1 => Change::Version1,
            Self::WrongAki => Change::Put(AUTHORITY_KEY_ID, tlv(0x30, &[&tlv(0x80, &[&NOBODYS])])),
            Self::WrongSki => Change::Put(SUBJECT_KEY_ID, tlv(0x04, &[&NOBODYS])),
            Self::BadSignature
            | Self::Expired
            | Self::NotYetValid
            | Self::OutlivesParent
            | Self::PathLength => return Ok(tbs.to_vec()),
        };
        change.made(tbs).ok_or(DraftError::Splice)
    }

    /// The signature, turned when that is what is wrong.
    #[must_use]
    pub fn spoil_signature(self, mut signature: Vec<u8>) -> Vec<u8> {
        if let (Self::BadSignature, Some(last)) = (self, signature.last_mut()) {
            *last ^= 1;
        }
        signature
    }
}

/// The critical extension nameConstraints (RFC 5280 §4.2.1.10) that permits subjects below
/// `O=nobody` alone.
fn for_nobody() -> Vec<u8> {
    let organization = tlv(0x30, &[&[6, 3, 0x55, 4, 10], &tlv(0x0c, &[b"nobody"])]);
    let name = tlv(0x30, &[&tlv(0x31, &[&organization])]);
    let subtree = tlv(0x30, &[&tlv(0xa4, &[&name])]);
    let constraints = tlv(0x30, &[&tlv(0xa0, &[&subtree])]);
    tlv(
        0x30,
        &[
            &[6, 3, 0x55, 0x1d, 30],
            &[1, 1, 0xff],
            &tlv(0x04, &[&constraints]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart_and_in_order() {
        let words: Vec<&str> = CaFlaw::ALL.iter().map(|flaw| flaw.word()).collect();
        assert!(words.is_sorted() && words.len() == 12);
        for flaw in CaFlaw::ALL {
            assert_eq!(CaFlaw::from_word(flaw.word()), Some(*flaw));
            assert_eq!(flaw.origin(), format!("flawed: {}", flaw.word()));
            assert_eq!(CaFlaw::from_origin(flaw.origin()), Some(*flaw));
        }
        assert_eq!(CaFlaw::from_word("created"), None);
    }

    #[test]
    fn windows_are_wrong_in_their_own_way() {
        let at = |text: &str| -> UtcTime { text.parse().unwrap() };
        let now = at("2026-06-01");
        let window = |from: &str, to: &str| Validity {
            not_before: at(from),
            not_after: at(to),
        };
        let (asked, parent) = (
            window("2026-05-31", "2027-06-01"),
            window("2026-01-01", "2030-01-01"),
        );
        let wrong = |flaw: CaFlaw| flaw.window(asked, (now, Some(parent)));
        assert!(wrong(CaFlaw::Expired).not_after < now);
        assert!(wrong(CaFlaw::NotYetValid).not_before > now);
        assert!(wrong(CaFlaw::OutlivesParent).not_after > parent.not_after);
        assert_eq!(wrong(CaFlaw::V1), asked);
    }
}
