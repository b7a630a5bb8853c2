//! What flows may ask of the world, one small trait each.

mod access;
mod browse;
mod clock;
/// The control plane of AWS IoT Core, or of the sandbox.
#[cfg(feature = "operator")]
pub mod cloud;
mod dial;
mod entropy;
mod files;
/// Many small folders written fast.
#[cfg(feature = "operator")]
pub mod folders;
/// What is done when an identity has changed.
pub mod hook;
mod keys;
/// The durable record of everything issued.
#[cfg(feature = "operator")]
pub mod ledger;
mod passphrase;
mod probe;
/// Lists that are read more than once, and files that only grow.
#[cfg(feature = "operator")]
pub mod streams;
mod swap;
mod tidy;
mod time_source;
mod token;
/// What the server's side knows.
pub mod witness;
mod work;

pub use access::{Access, FileAccess};
pub use browse::Browse;
pub use clock::Clock;
pub use dial::{Channel, Dial, DialError, Identity, Received, ServerSeen, Step, Target};
pub use entropy::Entropy;
pub use files::{FileError, Files};
pub use keys::{Keygen, SignError, Signer};
pub use passphrase::{PassphraseError, PassphraseSource, PassphraseUse, Passphrases};
pub use probe::{ClientAuth, Look, Looked, Probe};
pub use swap::Swap;
pub use tidy::Tidy;
pub use time_source::{
    Answered, DaemonPlace, Heard, KernelClock, NtsKeys, NtsSession, Place, Question, SetClock,
    SetError, TimeDaemons, TimeSource, Unanswered,
};
pub use token::Tokens;
pub use work::Work;
