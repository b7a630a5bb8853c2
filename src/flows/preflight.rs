//! Gathers what the checks before the first connect need; judges nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock::{ClockGather, ClockRequest};
use super::identity::{self, Paths};
use crate::core::clock::kiss::Memory;
use crate::core::endpoint::Endpoint;
use crate::core::ids::hex;
use crate::core::key::KeyFile;
use crate::core::pem;
use crate::core::preflight::{
    CertificateFile, Facts, IdentityFacts, KeyFacts, Outcome, ServerFacts, Shown,
};
use crate::core::time::Span;
use crate::explain::{Explain, Failure};
use crate::ports::{Dial, Files, Keygen};

/// The powers needed.
pub struct Gather<'a> {
    /// The time.
    pub clock: ClockGather<'a>,
    /// The identity's files.
    pub files: &'a dyn Files,
    /// A key's public half.
    pub keygen: &'a dyn Keygen,
    /// The endpoint.
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
    /// The identity.
    pub identity: Option<Paths>,
    /// The endpoint.
    pub endpoint: Option<Endpoint>,
    /// Who may vouch for it; Amazon's roots when `None`.
    pub server_ca: Option<PathBuf>,
    /// The most that each exchange may take.
    pub timeout: Duration,
}

impl Gather<'_> {
    /// Looks. What cannot be looked at is itself a fact, so this cannot fail.
    pub fn run(&self, request: &Request) -> Facts {
        let clock = self.clock.run(&request.clock, &mut Memory::default());
        Facts {
            facts_version: Facts::VERSION,
            margin_s: request.margin.as_seconds(),
            offline: request.offline,
            clock,
            identity: request.identity.as_ref().map(|paths| self.identity(paths)),
            server: request
                .endpoint
                .as_ref()
                .map(|endpoint| self.server(endpoint, request)),
        }
    }

    fn identity(&self, paths: &Paths) -> IdentityFacts {
        let there = |path: &Option<PathBuf>| {
            let path = path.as_deref()?;
            Some(self.certificates(path))
        };
        IdentityFacts {
            key: self.key(&paths.key),
            certificate: self.certificates(&paths.certificate),
            chain: there(&paths.chain),
            ca: there(&paths.ca),
        }
    }

    fn key(&self, path: &Path) -> KeyFacts {
        let mut facts = KeyFacts {
            path: path.display().to_string(),
            mode: self.files.mode(path).map(|mode| format!("{mode:04o}")),
            algorithm: None,
            public_key_sha256: None,
            error: None,
        };
        let named = |failure: Failure| say(&failure, path);
        let key = match self.files.read(path, pem::MAX_BYTES as u64) {
            Ok(text) => KeyFile::parse(&text).map_err(|error| named(error.into())),
            Err(error) => Err(named(error.into())),
        };
        let public = key.and_then(|key| match key {
            KeyFile::Clear(key) => self
                .keygen
                .public_of(&key)
                .map_err(|error| named(error.into())),
            KeyFile::Encrypted(_) => Err(format!(
                "`{}` is encrypted, and a device has nobody to type its passphrase",
                path.display()
            )),
        });
        match public {
            Ok(public) => {
                let digest = ring::digest::digest(&ring::digest::SHA256, public.spki());
                facts.algorithm = Some(public.algorithm().to_string());
                facts.public_key_sha256 = Some(hex(digest.as_ref()));
            }
            Err(error) => facts.error = Some(error),
        }
        facts
    }

    fn certificates(&self, path: &Path) -> CertificateFile {
        let (certificates, error) = match identity::certificates(self.files, path) {
            Ok(all) => (all.into_iter().map(Shown).collect(), None),
            Err(error) => (Vec::new(), Some(say(&error.into(), path))),
        };
        CertificateFile {
            path: path.display().to_string(),
            certificates,
            error,
        }
    }

    fn server(&self, endpoint: &Endpoint, request: &Request) -> ServerFacts {
        let outcome = match self.dial.probe(endpoint, request.timeout) {
            Ok(seen) => Outcome::Seen {
                address: seen.address.to_string(),
                tls_version: seen.tls_version,
                chain: seen.chain.into_iter().map(Shown).collect(),
            },
            Err(error) => Outcome::Failed {
                code: error.code().to_owned(),
                message: error.to_string(),
                hint: error.hint(),
            },
        };
        ServerFacts {
            endpoint: endpoint.clone(),
            server_ca: request
                .server_ca
                .as_deref()
                .map(|path| self.certificates(path)),
            outcome,
        }
    }
}

/// An error and its reasons in one line that names the file.
fn say(failure: &Failure, path: &Path) -> String {
    let mut line = failure.message.clone();
    let file = path.display().to_string();
    if !line.contains(&file) {
        line = format!("`{file}`: {line}");
    }
    for cause in &failure.causes {
        line.push_str(": ");
        line.push_str(cause);
    }
    line
}
