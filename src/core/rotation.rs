//! A rotation as a list of steps, each of which can be repeated. The record is the program counter:
//! what is done is written down after it is done, and a step that was done but not written down
//! finds that out by looking.
//!
//! ```text
//! begun → issued → registered → attached → proved → swapped → (old deactivated: done)
//! ```
//! The old certificate stays active and in place until the new one has connected. Order of AWS's
//! own advice: AWS IoT Device Defender guide, "Device certificate expiring" check, mitigation.

use crate::core::cert::Certificate;
use crate::core::draft::{self, Extras, Purpose};
use crate::core::key::KeyAlgorithm;
use crate::core::subject::Subject;
use crate::explain::{Explain, Kind};

/// What is already done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// The rotation is written down.
    Begun,
    /// The new key and certificate are in the folder beside the old.
    Issued,
    /// The target knows the new certificate.
    Registered,
    /// It has the policies and things of the old one.
    Attached,
    /// A connection with it was accepted.
    Proved,
    /// It stands in the device's folder, and the ledger calls it the live one.
    Swapped,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Make the new key and certificate.
    Issue,
    /// Register the certificate at the target.
    Register,
    /// Attach what the old one has.
    Attach,
    /// Connect with it.
    Prove,
    /// Swap the folders and promote it in the ledger.
    Swap,
    /// Switch the old one off.
    Deactivate,
}

const WORDS: [(Progress, &str); 6] = [
    (Progress::Begun, "begun"),
    (Progress::Issued, "issued"),
    (Progress::Registered, "registered"),
    (Progress::Attached, "attached"),
    (Progress::Proved, "proved"),
    (Progress::Swapped, "swapped"),
];

impl Progress {
    /// The word in the ledger.
    pub fn word(self) -> &'static str {
        WORDS
            .iter()
            .find(|(progress, _)| *progress == self)
            .map_or("begun", |(_, word)| word)
    }

    /// Reads the word back; `None` for one that another version wrote.
    pub fn from_word(word: &str) -> Option<Self> {
        WORDS
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(progress, _)| *progress)
    }

    /// The one step that follows.
    pub fn next(self) -> Step {
        match self {
            Self::Begun => Step::Issue,
            Self::Issued => Step::Register,
            Self::Registered => Step::Attach,
            Self::Attached => Step::Prove,
            Self::Proved => Step::Swap,
            Self::Swapped => Step::Deactivate,
        }
    }
}

impl Step {
    /// What is done once the step is; `None` after the last.
    pub fn leads_to(self) -> Option<Progress> {
        match self {
            Self::Issue => Some(Progress::Issued),
            Self::Register => Some(Progress::Registered),
            Self::Attach => Some(Progress::Attached),
            Self::Prove => Some(Progress::Proved),
            Self::Swap => Some(Progress::Swapped),
            Self::Deactivate => None,
        }
    }

    /// For people, when it is done.
    pub fn past(self) -> &'static str {
        match self {
            Self::Issue => "issued a new key and certificate beside the old",
            Self::Register => "registered the new certificate at the target",
            Self::Attach => "attached the old one's policies and things to it",
            Self::Prove => "connected with the new identity",
            Self::Swap => "swapped the folders",
            Self::Deactivate => "deactivated the old certificate",
        }
    }
}

/// What a successor takes over from the certificate it replaces. Its key is new.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heritage {
    /// The same subject.
    pub subject: Subject,
    /// The same key usage and extended key usage, with `extras`.
    pub purpose: Purpose,
    /// Usages and extensions beyond the purpose's.
    pub extras: Extras,
    /// The same subjectAltName entries, in order.
    pub alternative_names: Vec<String>,
    /// The same curve; P-256 after RSA, which is not made here.
    pub algorithm: KeyAlgorithm,
}

impl Heritage {
    /// Of a device's certificate.
    ///
    /// # Errors
    /// `rotate.usage`, `rotate.names` when a draft cannot say what the old certificate says.
    pub fn of(old: &Certificate) -> Result<Self, HeritageError> {
        let unsayable = |name: &&String| draft::check_alternative_name(name).is_err();
        if let Some(name) = old.alternative_names.iter().find(unsayable) {
            return Err(HeritageError::Name(name.clone()));
        }
        if old.is_ca == Some(true) {
            return Err(HeritageError::Ca);
        }
        let (purpose, extras) = Extras::of(old).map_err(HeritageError::Usage)?;
        Ok(Self {
            subject: old.subject.clone(),
            purpose,
            extras,
            alternative_names: old.alternative_names.clone(),
            algorithm: match old.key_algorithm() {
                KeyAlgorithm::EcP384 => KeyAlgorithm::EcP384,
                _ => KeyAlgorithm::EcP256,
            },
        })
    }
}

/// A certificate whose like cannot be drafted.
#[derive(Debug, thiserror::Error)]
pub enum HeritageError {
    /// It is a CA's.
    #[error("the old certificate is a CA's, not a device's")]
    Ca,
    /// A kind of alternative name that is not written here.
    #[error("the old certificate's alternative name `{0}` cannot be given to a new one")]
    Name(String),
    /// What it says cannot be said again.
    #[error("the old certificate has {0}, and a new one cannot")]
    Usage(String),
}

impl Explain for HeritageError {
    fn kind(&self) -> Kind {
        Kind::Refused
    }
    fn code(&self) -> &'static str {
        match self {
            Self::Ca | Self::Usage(_) => "rotate.usage",
            Self::Name(_) => "rotate.names",
        }
    }
    fn hint(&self) -> Option<String> {
        Some(
            "revoke it, or leave it, and issue a new identity with `nameplate device issue`".into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::draft::extras::Extension;
    use crate::core::draft::{Draft, DraftSpec, IssuerView};
    use crate::effects::keys::{LocalSigner, RingKeys};
    use crate::ports::{Keygen, Signer};

    /// Issued for `purpose` with these alternative names.
    fn leaf(purpose: Purpose, names: &[&str]) -> Certificate {
        with(purpose, names, Extras::default())
    }

    fn with(purpose: Purpose, names: &[&str], extras: Extras) -> Certificate {
        let (key, public) = RingKeys::default().generate(KeyAlgorithm::EcP384).unwrap();
        let subject: Subject = "CN=pump,O=Pumps".parse().unwrap();
        let spec = DraftSpec {
            subject: subject.clone(),
            serial: [1; 16],
            validity: crate::core::time::Validity {
                not_before: "2026-01-01".parse().unwrap(),
                not_after: "2027-01-01".parse().unwrap(),
            },
            public_key: &public,
            purpose,
            alternative_names: names.iter().map(|name| (*name).to_owned()).collect(),
            extras,
        };
        let view = IssuerView::self_signed(&subject, &public).unwrap();
        let draft = Draft::new(&spec, &view).unwrap();
        let signature = LocalSigner::new(&key).unwrap().sign(draft.tbs()).unwrap();
        draft.seal(&signature).unwrap()
    }

    #[test]
    fn a_successor_is_for_the_same_things_under_the_same_names() {
        let names = [
            "DNS:a.example",
            "IP:10.0.0.1",
            "IP:::1",
            "URI:urn:x",
            "email:a@b",
        ];
        for purpose in [Purpose::Device, Purpose::Server, Purpose::ClientAndServer] {
            let heritage = Heritage::of(&leaf(purpose, &names)).unwrap();
            assert_eq!(heritage.purpose, purpose);
            assert_eq!(heritage.alternative_names, names);
            assert_eq!(heritage.subject.to_string(), "CN=pump, O=Pumps");
            assert_eq!(heritage.algorithm, KeyAlgorithm::EcP384);
        }
    }

    #[test]
    fn a_successor_has_the_extras() {
        let extension = |oid: &str, critical| Extension {
            oid: oid.into(),
            critical,
            der: vec![5, 0],
        };
        for (purpose, extras) in [
            (Purpose::Server, Extras::default()),
            (
                Purpose::Device,
                Extras {
                    key_usage: vec!["digitalSignature", "keyAgreement"],
                    extended_key_usage: vec!["1.3.6.1.5.5.7.3.3".into(), "1.2.3".into()],
                    extensions: vec![extension("1.2.3.4", false), extension("2.23.1.1", true)],
                },
            ),
        ] {
            let heritage = Heritage::of(&with(purpose, &[], extras.clone())).unwrap();
            assert_eq!((heritage.purpose, heritage.extras), (purpose, extras));
        }
    }

    #[test]
    fn what_cannot_be_said_again_is_refused() {
        let code = |old: &Certificate| Heritage::of(old).unwrap_err().code();
        assert_eq!(code(&leaf(Purpose::Verification, &[])), "rotate.usage");
        let root = Purpose::Root { path_len: None };
        assert_eq!(code(&leaf(root, &[])), "rotate.usage");
        let mut odd = leaf(Purpose::Device, &["DNS:a"]);
        odd.alternative_names.push("other:x".into());
        assert_eq!(code(&odd), "rotate.names");
    }

    #[test]
    fn every_step_leads_on_and_the_old_one_goes_last() {
        let mut progress = Progress::Begun;
        let mut steps = Vec::new();
        loop {
            assert_eq!(Progress::from_word(progress.word()), Some(progress));
            let step = progress.next();
            steps.push(step);
            match step.leads_to() {
                Some(next) => {
                    assert!(next > progress);
                    progress = next;
                }
                None => break,
            }
        }
        let position = |step| steps.iter().position(|s| *s == step).unwrap();
        assert_eq!(steps.len(), 6);
        assert!(position(Step::Prove) < position(Step::Swap));
        assert_eq!(position(Step::Deactivate), 5);
        assert_eq!(Progress::from_word("rotated"), None);
    }
}
