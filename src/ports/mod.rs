//! What flows may ask of the world, one small trait each.

mod clock;
/// The control plane of AWS IoT Core, or of the sandbox.
#[cfg(feature = "operator")]
pub mod cloud;
mod entropy;
mod files;
mod keys;
/// The durable record of everything issued.
#[cfg(feature = "operator")]
pub mod ledger;

pub use clock::Clock;
pub use entropy::Entropy;
pub use files::{FileError, Files};
pub use keys::{Keygen, SignError, Signer};
