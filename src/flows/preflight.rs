//! Gathers what the checks before the first connect need; judges nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::identity::{self, Paths};
use crate::core::endpoint::Endpoint;
use crate::core::ids::hex;
use crate::core::key::KeyFile;
use crate::core::pem;
use crate::core::preflight::{
    CertificateFile, ClockFacts, Facts, IdentityFacts, KeyFacts, Outcome, ServerFacts, Shown,
    TimeServerFacts,
};
use crate::core::sntp;
use crate::core::time::{Span, UtcTime};
use crate::explain::{Explain, Failure};
use crate::ports::{
    Answered, Clock, Dial, Entropy, Files, KernelClock, Keygen, Question, TimeSource, Unanswered,
};

/// The powers needed.
pub struct Gather<'a> {
    /// The system clock.
    pub clock: &'a (dyn Clock + Sync),
    /// The kernel's opinion of it.
    pub kernel: &'a dyn KernelClock,
    /// Time servers.
    pub time_source: &'a dyn TimeSource,
    /// Nonces.
    pub entropy: &'a dyn Entropy,
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
    /// The true time is not before this.
    pub floor: UtcTime,
    /// The user's word for the clock.
    pub trust_clock: Option<Span>,
    /// The network is left out on purpose.
    pub offline: bool,
    /// Time servers to ask.
    pub time_servers: Vec<Endpoint>,
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
        let time_servers = self.ask(request);
        let clock = ClockFacts {
            wall_nanos: narrow(self.clock.now_nanos()),
            floor: request.floor,
            trusted_within_s: request.trust_clock.map(Span::as_seconds),
            kernel: self.kernel.state(),
            time_servers,
        };
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

    fn ask(&self, request: &Request) -> Vec<TimeServerFacts> {
        let questions: Vec<(u64, Question)> = request
            .time_servers
            .iter()
            .map(|server| {
                let mut nonce = [0; 8];
                self.entropy.fill(&mut nonce);
                let nonce = u64::from_be_bytes(nonce);
                let packet = sntp::request(nonce);
                (
                    nonce,
                    Question {
                        server: server.clone(),
                        packet,
                    },
                )
            })
            .collect();
        let only: Vec<Question> = questions
            .iter()
            .map(|(_, question)| question.clone())
            .collect();
        let answers = self.time_source.ask(&only, request.timeout, self.clock);
        questions
            .into_iter()
            .zip(answers)
            .map(|((nonce, question), answer)| time_server(nonce, question, answer))
            .collect()
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

fn time_server(
    nonce: u64,
    question: Question,
    answer: Result<Answered, Unanswered>,
) -> TimeServerFacts {
    let mut facts = TimeServerFacts {
        server: question.server,
        nonce,
        sent_nanos: 0,
        received_nanos: 0,
        reply: Vec::new(),
        error: None,
    };
    match answer {
        Ok(answered) => {
            facts.sent_nanos = narrow(answered.sent_nanos);
            facts.received_nanos = narrow(answered.received_nanos);
            facts.reply = answered.bytes;
        }
        Err(error) => facts.error = Some(error.to_string()),
    }
    facts
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

fn narrow(nanos: i128) -> i64 {
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}
