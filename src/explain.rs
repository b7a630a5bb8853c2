//! How an error becomes something a person can act on, and a process can branch on.

/// What the caller should do about a failure. Decides the exit code, and nothing else does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The work was done and the answer is no: a finding, a bad verdict, drift.
    Negative,
    /// The command line is wrong in a way that only shows once it is resolved.
    Usage,
    /// A file, flag value, template or policy the user owns is wrong. Retrying will not help.
    Input,
    /// Something outside is not ready: network, AWS, HSM, database, unsynchronised clock. Retry.
    Unavailable,
    /// Doing it would destroy or weaken something. Needs an explicit flag.
    Refused,
    /// Our own bug.
    Bug,
}

impl Kind {
    /// The process exit code. 2 is shared with clap: both mean "fix the command".
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Input => 3,
            Self::Unavailable => 4,
            Self::Refused => 5,
            Self::Bug => 70,
        }
    }
}

/// Implemented beside each error enum, so no central file has to import every module.
pub trait Explain: std::error::Error {
    /// Decides the exit code.
    fn kind(&self) -> Kind;
    /// Stable, dotted, documented: `chain.expired`. Scripts match on this, never on the message.
    fn code(&self) -> &'static str;
    /// The next command or edit that mends it, if we know one.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The end of the line: any [`Explain`], flattened for printing.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// Stable dotted name.
    pub code: &'static str,
    /// One line: what is wrong, and where.
    pub message: String,
    /// The chain of sources, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure that has no error type of its own because one command alone can meet it.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the reason underneath.
    #[must_use]
    pub fn because(mut self, cause: impl std::fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        let causes = std::iter::successors(error.source(), |e| e.source())
            .map(ToString::to_string)
            .collect();
        Self {
            kind: error.kind(),
            code: error.code(),
            message: error.to_string(),
            causes,
            hint: error.hint(),
        }
    }
}
