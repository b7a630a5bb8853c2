//! The AWS IoT policy language: documents, variables, conditions, decisions. Sources: the developer
//! guide's "AWS IoT Core policies", "Thing policy variables" and "X.509 certificate policy
//! variables".

mod condition;
mod document;
mod eval;
mod pattern;
mod vars;

pub use document::{Document, Effect, MAX_CHARACTERS, PolicyError, Statement};
pub use eval::{Action, Decision, NamedPolicy, Outcome, Reason, Request, decide};
pub use vars::{Facts, ThingFacts};
