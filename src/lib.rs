//! The map of the house: values flow one way, argv → request → (facts → decision) → effects →
//! report. The core decides and never acts; the edges act and never decide.

/// argv → request → flow → report. No decisions.
pub mod cli;
/// Pure: values in, values out. No files, network, environment, clock or randomness.
pub mod core;
/// One adapter per file: the only code that touches the machine.
pub mod effects;
/// How an error becomes something a person can act on, and a process can branch on.
pub mod explain;
/// One file per verb that must order two or more effects.
pub mod flows;
/// What flows may ask of the world, one small trait each.
pub mod ports;
/// The local stand-in for AWS IoT Core.
#[cfg(feature = "sandbox")]
pub mod sandbox;
