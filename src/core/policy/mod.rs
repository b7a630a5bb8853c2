//! The AWS IoT policy language: documents, variables, conditions, decisions. Sources: the developer
//! guide's "AWS IoT Core policies", "Thing policy variables" and "X.509 certificate policy
//! variables".

mod action;
mod condition;
mod document;
mod eval;
mod pattern;
mod vars;

pub use action::Action;
pub use condition::{Condition, Operator, Order, Quantifier, Rule, Test};
pub use document::{
    Document, Effect, MAX_CHARACTERS, MAX_WITH_SPACE, PolicyError, Selection, Statement,
};
pub use eval::{Decision, NamedPolicy, Outcome, Reason, Request, decide};
pub use pattern::{Pattern, Piece};
pub use vars::{Facts, ThingFacts};
