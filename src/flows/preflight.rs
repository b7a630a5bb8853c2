//! Gathers what the checks before the first connect need; judges nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::clock::{ClockGather, ClockRequest};
use super::identity::Paths;
use crate::core::clock::kiss::Memory;
use crate::core::endpoint::Endpoint;
use crate::core::preflight::{Change, Facts, ShelfFacts, mends};
use crate::core::time::Span;
use crate::ports::{Access, Dial, Files, Keygen, Probe, Tokens};

mod look;

use look::say;

/// The powers needed.
pub struct Gather<'a> {
    /// The time.
    pub clock: ClockGather<'a>,
    /// The identity's files.
    pub files: &'a dyn Files,
    /// Who may do what with them.
    pub access: &'a dyn Access,
    /// A key's public half.
    pub keygen: &'a dyn Keygen,
    /// Keys and certificates in tokens.
    pub tokens: &'a dyn Tokens,
    /// A look at the endpoints.
    pub probe: &'a dyn Probe,
    /// Connections to them.
    pub dial: &'a dyn Dial,
}

/// What to look at.
#[derive(Clone, Debug)]
pub struct Request {
    /// A window that ends this soon is warned of.
    pub margin: Span,
    /// Whom to ask for the time.
    pub clock: ClockRequest,
    /// The network is left out on purpose.
    pub offline: bool,
    /// Algorithms that AWS IoT refuses are only warned of.
    pub allow_unsupported: bool,
    /// The thing name that the certificate must carry.
    pub thing: Option<String>,
    /// How long the device is to lie on a shelf.
    pub shelf: Option<ShelfFacts>,
    /// The identity.
    pub identity: Option<Paths>,
    /// The endpoints, in the order in which the device uses them.
    pub endpoints: Vec<Endpoint>,
    /// Connect to each by MQTT, as this client or by the certificate's common name.
    pub connect: Option<Option<String>>,
    /// Who may vouch for it; Amazon's roots when `None`.
    pub server_ca: Option<PathBuf>,
    /// The most that each exchange may take.
    pub timeout: Duration,
}

/// A mode that was set right, or could not be.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Fixed {
    /// The file or folder.
    pub path: String,
    /// Its mode before, in octal.
    pub from: String,
    /// Its mode now.
    pub to: String,
    /// Why it is still as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Gather<'_> {
    /// Looks. What cannot be looked at is itself a fact, so this cannot fail.
    pub fn run(&self, request: &Request) -> Facts {
        let clock = self.clock.run(&request.clock, &mut Memory::default());
        Facts {
            facts_version: Facts::VERSION,
            margin_s: request.margin.as_seconds(),
            offline: request.offline,
            allow_unsupported: request.allow_unsupported,
            thing: request.thing.clone(),
            shelf: request.shelf,
            clock,
            identity: request.identity.as_ref().map(|paths| self.identity(paths)),
            servers: self.servers(request),
        }
    }

    /// Sets right the modes that are wrong beyond doubt, and says what it did.
    pub fn fix(&self, request: &Request) -> Vec<Fixed> {
        let Some(paths) = &request.identity else {
            return Vec::new();
        };
        let identity = self.identity(paths);
        let server_ca = request.server_ca.as_deref();
        let server_ca = server_ca.and_then(|path| self.file(path));
        let changes = mends(&identity, server_ca.as_ref());
        changes
            .into_iter()
            .map(|change| self.mend(change))
            .collect()
    }

    fn mend(&self, change: Change) -> Fixed {
        let outcome = self.access.set_mode(&change.path, change.to);
        Fixed {
            path: change.path.display().to_string(),
            from: format!("{:04o}", change.from),
            to: format!("{:04o}", change.to),
            error: outcome.err().map(|error| say(&error.into(), &change.path)),
        }
    }
}
