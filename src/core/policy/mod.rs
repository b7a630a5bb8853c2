//! The AWS IoT policy language: documents, variables, conditions, decisions. Sources: the developer
//! guide's "AWS IoT Core policies", "Thing policy variables" and "X.509 certificate policy
//! variables".
//!
//! `decide` takes policies and facts as they are and says why; `Compiled` puts them together
//! once for a connection and answers the same in a fraction of a microsecond; `examine` tells of
//! every statement that had a say.

mod action;
mod catalog;
mod compiled;
mod condition;
mod document;
mod eval;
mod pattern;
mod scene;
/// Questions, and answers with all their reasons.
pub mod simulate;
mod trace;
mod vars;

#[cfg(test)]
mod tests;

pub use action::Action;
pub use catalog::{Family, Known, all_names, find as find_variable, successor};
pub use compiled::{Compiled, Deciding, Verdict};
pub use condition::{Condition, Operator, Order, Quantifier, Rule, Test};
pub use document::{
    Document, Effect, MAX_CHARACTERS, MAX_WITH_SPACE, PolicyError, Selection, Statement,
};
pub use eval::{Decision, NamedPolicy, Outcome, Reason, Request, decide};
pub use pattern::{Pattern, Piece};
pub use scene::{Check, Connect, Packet, Scene, Will};
pub use trace::{Examined, examine};
pub use vars::{Facts, Missing, ThingFacts, stands_for};
