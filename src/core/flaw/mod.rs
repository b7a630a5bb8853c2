//! Certificates that are wrong on purpose, so that tests can see who refuses them. Each flaw changes
//! one thing and leaves the rest as it should be.

/// CAs that are wrong on purpose.
mod ca;

use crate::core::cert::Certificate;
use crate::core::der::{Element, children, first, tlv};
use crate::core::draft::{DraftError, Purpose};
use crate::core::key::{KeyError, KeyFile, PrivateKey, PublicKey};
use crate::core::subject::Subject;
use crate::core::time::{Span, UtcTime, Validity};

pub use ca::CaFlaw;

/// A key that everybody has: RSA of 1024 bits. It protects nothing.
const WEAK_KEY: &str = include_str!("weak-key.pem");
/// Whom a certificate with the wrong name is for.
const OTHER: &str = "somebody-else";

macro_rules! flaws {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $what:literal;)*) => {
        /// What is wrong on purpose.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Flaw {
            $($(#[$doc])* $name,)*
        }

        impl Flaw {
            /// All of them, by their words.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word on the command line and in the ledger.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word),* }
            }

            /// What is wrong, for people.
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => $what),* }
            }
        }
    };
}

flaws! {
    /// The signature's last bit is turned.
    BadSignature = "bad-signature", "its signature does not verify";
    /// basicConstraints CA:TRUE on a device's certificate.
    CaTrue = "ca-true", "it says that it is a CA";
    /// The window lies in the past.
    Expired = "expired", "its last second has passed";
    /// Signed by a CA that is wrong on purpose; comes with the CA, and is not asked for.
    FlawedCa = "flawed-ca", "a CA that is wrong on purpose signed it";
    /// No extendedKeyUsage.
    MissingEku = "missing-eku", "it has no extended key usage";
    /// Common name and alternative names are another's.
    NameMismatch = "name-mismatch", "it names somebody else";
    /// The window lies in the future.
    NotYetValid = "not-yet-valid", "its first second has not come";
    /// Ends a day after its CA.
    OutlivesCa = "outlives-ca", "it ends after its CA";
    /// A critical extension that nobody knows.
    UnknownCritical = "unknown-critical", "it has a critical extension that nobody knows";
    /// Version 1: no extensions.
    V1 = "v1", "it is of version 1, without extensions";
    /// RSA of 1024 bits, with a key that is public.
    WeakKey = "weak-key", "its key is RSA of 1024 bits, and known to everybody";
    /// authorityKeyIdentifier names another key than the CA's.
    WrongAki = "wrong-aki", "its authority key identifier is not its CA's";
    /// Signed by a CA that nobody knows, under that CA's name.
    WrongCa = "wrong-ca", "a CA that nobody knows signed it";
    /// A server's usage for a device, a device's for a server.
    WrongEku = "wrong-eku", "its extended key usage is for something else";
    /// The certificate is for another key than the one beside it.
    WrongKey = "wrong-key", "the key beside it is not its own";
    /// keyUsage keyEncipherment alone.
    WrongKeyUsage = "wrong-key-usage", "its key may not sign";
}

impl Flaw {
    /// Reads the word; `None` for another.
    pub fn from_word(word: &str) -> Option<Self> {
        let known = |flaw: &&Self| flaw.word() == word;
        Self::ALL.iter().find(known).copied()
    }

    /// The window, when that is what is wrong. One that is over already stays as it was asked for.
    #[must_use]
    pub fn window(self, asked: Validity, (now, ca): (UtcTime, Validity)) -> Validity {
        let day = Span::days(1);
        match self {
            Self::Expired if asked.not_after < now => asked,
            Self::Expired => Validity {
                not_before: now.minus(Span::days(2)),
                not_after: now.minus(day),
            },
            Self::NotYetValid => Validity {
                not_before: now.plus(day),
                not_after: now.plus(day).max(asked.not_after),
            },
            Self::OutlivesCa => Validity {
                not_after: ca.not_after.plus(day),
                ..asked
            },
            _ => asked,
        }
    }

    /// Subject and alternative names, when they are what is wrong.
    #[must_use]
    pub fn names(self, subject: Subject, alternative: Vec<String>) -> (Subject, Vec<String>) {
        if self != Self::NameMismatch {
            return (subject, alternative);
        }
        let others = alternative.iter().take(1).map(|_| format!("DNS:{OTHER}"));
        let others = others.collect();
        (subject.with("CN", OTHER), others)
    }

    /// The to-be-signed part with the flaw in it; as it was when the flaw lies elsewhere.
    ///
    /// # Errors
    /// `draft.seal` when the parts are not in their places.
    pub fn spoil(self, tbs: &[u8], purpose: Purpose) -> Result<Vec<u8>, DraftError> {
        let change = match self {
            Self::CaTrue => Change::Put(BASIC_CONSTRAINTS, tlv(0x30, &[&[1, 1, 0xff]])),
            Self::MissingEku => Change::Drop(EXTENDED_KEY_USAGE),
            Self::UnknownCritical => Change::Add(UNKNOWN.to_vec()),
            Self::V1 => Change::Version1,
            Self::WrongAki => {
                Change::Put(AUTHORITY_KEY_ID, tlv(0x30, &[&tlv(0x80, &[&[0x5a; 20]])]))
            }
            Self::WrongEku => Change::Put(EXTENDED_KEY_USAGE, wrong_usage(purpose)),
            Self::WrongKeyUsage => Change::Put(KEY_USAGE, vec![0x03, 0x02, 0x05, 0x20]),
            _ => return Ok(tbs.to_vec()),
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

    /// The key that everybody has, when that is what is wrong.
    ///
    /// # Errors
    /// `key.format`.
    pub fn key(self) -> Result<Option<(PrivateKey, PublicKey)>, KeyError> {
        if self != Self::WeakKey {
            return Ok(None);
        }
        let KeyFile::Clear(key) = KeyFile::parse(WEAK_KEY.as_bytes())? else {
            return Err(KeyError::None);
        };
        let public = rsa_public(key.pkcs8()).ok_or(KeyError::None)?;
        Ok(Some((key, PublicKey::from_rsa(&public)?)))
    }
}

/// Certificate of a spoilt draft and a signature, nothing verified.
///
/// # Errors
/// `draft.seal` when the result does not read as a certificate.
pub fn assemble(tbs: &[u8], signature: &[u8]) -> Result<Certificate, DraftError> {
    let parts = parts_of(tbs).ok_or(DraftError::Splice)?;
    let algorithm = parts
        .iter()
        .find(|part| part.tag == 0x30)
        .ok_or(DraftError::Splice)?;
    let bits = tlv(0x03, &[&[0], signature]);
    Certificate::from_der(&tlv(0x30, &[tbs, algorithm.whole, &bits])).map_err(DraftError::Sealed)
}

/// Last byte of the OIDs 2.5.29.x.
const KEY_USAGE: u8 = 15;
const BASIC_CONSTRAINTS: u8 = 19;
const AUTHORITY_KEY_ID: u8 = 35;
const EXTENDED_KEY_USAGE: u8 = 37;

/// An unknown critical extension: 2.999, the arc for examples (X.660).
const UNKNOWN: [u8; 13] = [0x30, 11, 6, 2, 0x88, 0x37, 1, 1, 0xff, 4, 2, 5, 0];

/// What is done to a to-be-signed part.
enum Change {
    /// One more extension, whole.
    Add(Vec<u8>),
    /// Without the extension.
    Drop(u8),
    /// The extension with another value.
    Put(u8, Vec<u8>),
    /// Without version and extensions.
    Version1,
}

impl Change {
    fn made(&self, tbs: &[u8]) -> Option<Vec<u8>> {
        let parts = parts_of(tbs)?;
        let (last, middle) = parts.split_last()?;
        let mut kept: Vec<&[u8]> = middle.iter().map(|part| part.whole).collect();
        if matches!(self, Self::Version1) {
            return Some(tlv(0x30, kept.get(1..)?));
        }
        let extensions = children(first(last.content)?.0.content)?;
        let mut changed: Vec<Vec<u8>> = Vec::with_capacity(extensions.len() + 1);
        for extension in extensions {
            changed.extend(self.extension(extension));
        }
        if let Self::Add(extension) = self {
            changed.push(extension.clone());
        }
        let all: Vec<&[u8]> = changed.iter().map(Vec::as_slice).collect();
        let last = tlv(last.tag, &[&tlv(0x30, &all)]);
        kept.push(&last);
        Some(tlv(0x30, &kept))
    }

    /// The extension as it will stand, if it will.
    fn extension(&self, extension: Element<'_>) -> Option<Vec<u8>> {
        let parts = children(extension.content).unwrap_or_default();
        let is = |arc: u8| {
            let oid = parts.first().map(|part| part.content);
            oid == Some(&[0x55, 0x1d, arc])
        };
        match self {
            Self::Drop(arc) if is(*arc) => None,
            Self::Put(arc, value) if is(*arc) => {
                let before = parts.len() - 1;
                let mut kept: Vec<&[u8]> = parts[..before].iter().map(|part| part.whole).collect();
                let value = tlv(0x04, &[value]);
                kept.push(&value);
                Some(tlv(0x30, &kept))
            }
            _ => Some(extension.whole.to_vec()),
        }
    }
}

fn parts_of(tbs: &[u8]) -> Option<Vec<Element<'_>>> {
    children(first(tbs)?.0.content)
}

/// serverAuth for a device, clientAuth for a server, else codeSigning.
fn wrong_usage(purpose: Purpose) -> Vec<u8> {
    let last = match purpose {
        Purpose::Device => 1,
        Purpose::Server => 2,
        _ => 3,
    };
    tlv(0x30, &[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, last]])
}

/// `RSAPublicKey` of an `RSAPrivateKey` inside PKCS#8 (RFC 8017 appendix A.1).
fn rsa_public(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let outer = children(first(pkcs8)?.0.content)?;
    let inner = children(first(outer.get(2)?.content)?.0.content)?;
    Some(tlv(0x30, &[inner.get(1)?.whole, inner.get(2)?.whole]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::KeyAlgorithm;

    #[test]
    fn words_are_told_apart_and_in_order() {
        let words: Vec<&str> = Flaw::ALL.iter().map(|flaw| flaw.word()).collect();
        assert!(words.is_sorted() && words.len() == 16);
        for flaw in Flaw::ALL {
            assert_eq!(Flaw::from_word(flaw.word()), Some(*flaw));
        }
        assert_eq!(Flaw::from_word("none"), None);
    }

    #[test]
    fn the_weak_key_is_weak() {
        let (_, public) = Flaw::WeakKey.key().unwrap().unwrap();
        assert_eq!(public.algorithm(), KeyAlgorithm::Rsa(1024));
        assert!(public.algorithm().unsupported().is_some());
        assert!(Flaw::V1.key().unwrap().is_none());
    }

    #[test]
    fn windows_are_wrong_in_their_own_way() {
        let at = |text: &str| -> UtcTime { text.parse().unwrap() };
        let now = at("2026-06-01");
        let good = Validity {
            not_before: at("2026-05-31"),
            not_after: at("2027-06-01"),
        };
        let ca = Validity {
            not_before: at("2026-01-01"),
            not_after: at("2030-01-01"),
        };
        let window = |flaw: Flaw| flaw.window(good, (now, ca));
        assert!(window(Flaw::Expired).not_after < now);
        assert!(window(Flaw::NotYetValid).not_before > now);
        assert!(window(Flaw::NotYetValid).not_after <= ca.not_after);
        assert!(window(Flaw::OutlivesCa).not_after > ca.not_after);
        assert_eq!(window(Flaw::V1), good);
        let asked = Validity {
            not_before: at("2026-01-01"),
            not_after: at("2026-01-02"),
        };
        assert_eq!(Flaw::Expired.window(asked, (now, ca)), asked);
    }
}
