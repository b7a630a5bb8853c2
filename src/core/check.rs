//! One check of the device: how it ended, and what that means.

/// How one check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Good.
    Pass,
    /// Good enough, but look at it.
    Warn,
    /// Not good.
    Fail,
    /// Not checked, or cannot be told.
    Skip,
}

/// What a failed or skipped check means for the verdict.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Nothing: the check passed, warned, or was not asked for.
    None,
    /// The clock is known to be wrong.
    ClockWrong,
    /// A definite no, whatever the time is.
    Definite,
    /// Depends on a time that is not known.
    ClockUnknown,
    /// The network was in the way.
    Network,
}

/// One check.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Check {
    /// Stable dotted name, such as `identity.key-match`.
    pub id: &'static str,
    /// How it ended.
    pub status: Status,
    /// What it means for the verdict.
    pub weight: Weight,
    /// What was found.
    pub fact: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The server it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The check that explains this one's failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<&'static str>,
}

impl Check {
    fn new(id: &'static str, status: Status, weight: Weight, fact: impl Into<String>) -> Self {
        Self {
            id,
            status,
            weight,
            fact: fact.into(),
            remedy: None,
            endpoint: None,
            because: None,
        }
    }

    /// Good.
    pub fn pass(id: &'static str, fact: impl Into<String>) -> Self {
        Self::new(id, Status::Pass, Weight::None, fact)
    }

    /// Good enough, but look at it.
    pub fn warn(id: &'static str, fact: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, Weight::None, fact)
    }

    /// Not checked.
    pub fn skip(id: &'static str, fact: impl Into<String>) -> Self {
        Self::new(id, Status::Skip, Weight::None, fact)
    }

    /// Not good, whatever the time is.
    pub fn fail(id: &'static str, fact: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, Weight::Definite, fact)
    }

    /// The same, with what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same, with another meaning for the verdict.
    #[must_use]
    pub fn weigh(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }
}
