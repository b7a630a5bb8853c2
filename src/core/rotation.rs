//! A rotation as a list of steps, each of which can be repeated. The record is the program counter:
//! what is done is written down after it is done, and a step that was done but not written down
//! finds that out by looking.
//!
//! ```text
//! begun → issued → registered → attached → proved → swapped → (old deactivated: done)
//! ```
//! The old certificate stays active and in place until the new one has connected. Order of AWS's
//! own advice: AWS IoT Device Defender guide, "Device certificate expiring" check, mitigation.

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

#[cfg(test)]
mod tests {
    use super::*;

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
