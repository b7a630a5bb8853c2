//! A proof that no device of a fleet can act as another: for all pairs of devices with distinct
//! names, no connect, publish, subscribe or receive that one's policies allow reaches the other's
//! client id or private topics.
//!
//! All names at once: patterns become automata in which a variable is an unknown value, and the
//! search walks their product for a word that both devices may use. What it finds is tried with
//! concrete names and the policy engine itself; where nothing is found, there is nothing. Where
//! something is found that no names bear out, names are split by which levels of the policies they
//! equal, which decides policies made of whole levels exactly; what stays open then is *not proved*.

mod atom;
mod confirm;
mod names;
mod prove;
mod scene;
mod search;
mod shape;
mod slots;
mod split;
mod track;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::core::ids::Place;
use crate::core::policy::{Action, NamedPolicy, Piece};
use crate::explain::{Explain, Kind};

pub use names::{Names, NamesError};
pub use prove::prove;

/// A search, or a set, that grew over its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limit;

/// A fleet, and what is known of it.
#[derive(Clone, Debug)]
pub struct Fleet<'a> {
    /// The account and Region that the devices connect to.
    pub place: Place,
    /// What every device holds.
    pub policies: &'a [NamedPolicy],
    /// What the devices of another kind hold; then one of each kind is a pair.
    pub other: Option<&'a [NamedPolicy]>,
    /// The names of the things.
    pub names: Names,
    /// Whether things are attached exclusively, so that a client id need not be the thing's name.
    pub exclusive: bool,
    /// Variables that hold the thing's name.
    pub same: Vec<String>,
    /// Variables that no two devices share.
    pub unique: Vec<String>,
    /// What devices may share.
    pub shared: Shared,
}

impl<'a> Fleet<'a> {
    /// A fleet of any names, whose devices share nothing; only certificate serial numbers, and the
    /// names themselves, differ for sure.
    pub fn new(place: Place, policies: &'a [NamedPolicy]) -> Self {
        Self {
            place,
            policies,
            other: None,
            names: Names::All,
            exclusive: false,
            same: Vec::new(),
            unique: vec!["iot:Certificate.SerialNumber".to_owned()],
            shared: Shared::default(),
        }
    }
}

/// What devices may share, as MQTT topic filters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shared {
    /// Topics that any device may publish to and receive.
    pub topics: Vec<String>,
    /// Topics that more than one device may publish to, and none receives.
    pub publish: Vec<String>,
    /// Topics that more than one device may receive, and none publishes to.
    pub receive: Vec<String>,
    /// Client ids that more than one device may use; as filters too.
    pub clients: Vec<String>,
}

impl Shared {
    /// Whether all are topic filters.
    ///
    /// # Errors
    /// `isolate.shared` when one is not.
    pub fn check(&self) -> Result<(), SharedError> {
        let all = [&self.topics, &self.publish, &self.receive, &self.clients];
        for filter in all.into_iter().flatten() {
            let levels: Vec<&str> = filter.split('/').collect();
            let whole = |(n, level): (usize, &&str)| match level.as_bytes() {
                b"+" => true,
                b"#" => n + 1 == levels.len(),
                _ => !level.contains(['+', '#', '\0']),
            };
            if filter.is_empty() || !levels.iter().enumerate().all(whole) {
                return Err(SharedError(filter.clone()));
            }
        }
        Ok(())
    }
}

/// What is declared shared is no topic filter.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a topic filter: `+` stands for a whole level, `#` for all that follow")]
pub struct SharedError(String);

impl Explain for SharedError {
    fn kind(&self) -> Kind {
        Kind::Input
    }
    fn code(&self) -> &'static str {
        "isolate.shared"
    }
}

/// The account and Region that policies name first, where one names both.
pub fn place_of(policies: &[NamedPolicy]) -> Option<Place> {
    let statements = policies
        .iter()
        .flat_map(|named| named.document.statements());
    let mut patterns = statements.flat_map(|statement| &statement.resources.patterns);
    patterns.find_map(|pattern| {
        let Piece::Literal(text) = pattern.pieces().first()? else {
            return None;
        };
        let mut parts = text.strip_prefix("arn:")?.split(':').skip(2);
        let (region, account) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next()?;
        Some(Place { account, region })
    })
}

/// Which statement: of which policy, and where in it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
pub struct StatementRef {
    /// The policy's name.
    pub policy: String,
    /// The statement, from 0.
    pub statement: usize,
    /// Its own name for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The pattern: `$.Statement[0].Resource[1]`.
    pub path: String,
}

impl fmt::Display for StatementRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy, self.path)?;
        match &self.sid {
            Some(sid) => write!(f, " ({sid})"),
            None => Ok(()),
        }
    }
}

/// How one device can reach another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It connects with a client id of the other.
    Connect,
    /// It publishes where the other publishes: it speaks as the other.
    PublishAs,
    /// It publishes what the other receives: it commands the other.
    PublishTo,
    /// It receives what the other publishes: it listens to the other.
    ReceiveFrom,
    /// It receives what the other receives: it hears the other's commands.
    ReceiveAs,
}

impl Reach {
    /// All, the gravest first.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::PublishAs,
        Self::PublishTo,
        Self::ReceiveFrom,
        Self::ReceiveAs,
    ];

    /// What the first device does, and what the second does with the same.
    pub fn actions(self) -> [Action; 2] {
        match self {
            Self::Connect => [Action::Connect, Action::Connect],
            Self::PublishAs => [Action::Publish, Action::Publish],
            Self::PublishTo => [Action::Publish, Action::Receive],
            Self::ReceiveFrom => [Action::Receive, Action::Publish],
            Self::ReceiveAs => [Action::Receive, Action::Receive],
        }
    }

    /// In a sentence: the one device … the other.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Connect => "connects with the client id of the other",
            Self::PublishAs => "publishes where the other publishes",
            Self::PublishTo => "publishes what the other receives",
            Self::ReceiveFrom => "receives what the other publishes",
            Self::ReceiveAs => "receives what the other receives",
        }
    }
}

/// One of the two devices of a counterexample.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Device {
    /// Its thing's name.
    pub thing: String,
    /// The client id that it connects with.
    pub client_id: String,
    /// Whether thing variables have a value on this connection.
    pub attached: bool,
    /// The values of other variables and condition keys, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// What it asks for, in order; all allowed.
    pub packets: Vec<Packet>,
}

/// One thing that a device asks for.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Packet {
    /// `iot:Publish` and the like.
    pub action: &'static str,
    /// On what: a client id, topic or filter.
    pub name: String,
    /// On what: the ARN.
    pub resource: String,
    /// The statements that allow it.
    pub because: Vec<StatementRef>,
}

/// Two devices that the policies do not keep apart.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Counterexample {
    /// How.
    pub reach: Reach,
    /// The client id or topic that both may use.
    pub shared: String,
    /// The one that reaches, and the one that is reached.
    pub devices: [Device; 2],
}

/// Why nothing was proved.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// There is more to search than the limit allows.
    Limit {
        /// The patterns that take the most.
        statements: Vec<StatementRef>,
    },
    /// The patterns overlap, and no names were found that bear it out.
    Unconfirmed {
        /// A client id or topic of the overlap.
        word: String,
        /// The patterns that overlap there.
        statements: Vec<StatementRef>,
    },
}

impl Why {
    /// There is more to search than the limit allows; the patterns are named later.
    fn limit() -> Self {
        Self::Limit {
            statements: Vec::new(),
        }
    }

    /// What to change, so that it is decided.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Limit { .. } => {
                "use fewer `*` and `?` in these patterns, or give each variable a level of its own"
            }
            Self::Unconfirmed { .. } => {
                "give each variable of these patterns a level of its own, `/${…}/`, without other \
                 text, `*` or `?` in the level; or pin the client id to the thing's name"
            }
        }
    }
}

/// Something that was neither proved nor disproved.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct Doubt {
    /// What it would be.
    pub reach: Reach,
    /// Why.
    #[serde(flatten)]
    pub why: Why,
}

/// What is known after the search.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// At most one for each way to reach.
    pub counterexamples: Vec<Counterexample>,
    /// What could not be decided.
    pub doubts: Vec<Doubt>,
    /// The statements that allow something to a device, and so were looked at.
    pub statements: Vec<StatementRef>,
    /// Variables with values that may be the same on all devices.
    pub free: BTreeSet<String>,
    /// Condition keys that could not be decided, and were taken at their worst.
    pub open: BTreeSet<String>,
    /// How many searches it took.
    pub searches: usize,
    /// How many steps they took.
    pub steps: usize,
}

impl Verdict {
    /// Whether no device can act as another.
    pub fn proved(&self) -> bool {
        self.counterexamples.is_empty() && self.doubts.is_empty()
    }
}

#[cfg(test)]
mod tests;
