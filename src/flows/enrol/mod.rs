//! A new identity from fleet provisioning. Every step is written into the journal before and after it
//! is taken, so that a run that is cut off anywhere is gone on with by the next.

mod error;
mod folder;
mod kept;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::backoff::Backoff;
use crate::core::cert::Certificate;
use crate::core::csr_draft::CsrDraft;
use crate::core::endpoint::Endpoint;
use crate::core::enrolment::{Journal, Stage, Way};
use crate::core::fleet::{self, FleetError, Operation};
use crate::core::ids::TemplateName;
use crate::core::key::{KeyAlgorithm, PrivateKey};
use crate::core::payload::Format;
use crate::core::subject::Subject;
use crate::core::time::Span;
use crate::flows::connect::{Connect, ConnectError, Request as ConnectRequest, Session, Versions};
use crate::ports::witness::Witness;
use crate::ports::{Clock, Dial, Entropy, Files, Identity, Keygen, Work};

pub use error::EnrolError;
pub use folder::{Provisioning, build, leaf_in};
pub use kept::Kept;

/// AWS IoT takes one CONNECT a second for each client id.
const BETWEEN_CONNECTS: Duration = Duration::from_secs(1);

/// The powers needed.
#[derive(Clone, Copy)]
pub struct Enrol<'a> {
    /// Passing time.
    pub clock: &'a dyn Clock,
    /// Jitter, and a claim's client id.
    pub entropy: &'a dyn Entropy,
    /// Connections.
    pub dial: &'a dyn Dial,
    /// Makes the key.
    pub keys: &'a dyn Keygen,
    /// The journal and the identity's files.
    pub files: &'a dyn Files,
    /// The folder they are in meanwhile.
    pub work: &'a dyn Work,
}

/// Where the service is, and how long to try.
#[derive(Clone, Debug)]
pub struct Line {
    /// The data endpoint.
    pub endpoint: Endpoint,
    /// Others, tried in order when the first is not there to answer.
    pub others: Vec<Endpoint>,
    /// Whom to trust to vouch for the server.
    pub server_roots: Vec<Certificate>,
    /// Which MQTT.
    pub versions: Versions,
    /// How long each connecting, and all asking, may take.
    pub timeout: Duration,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

impl Line {
    fn request(&self, identity: Identity, client_id: &str) -> ConnectRequest {
        ConnectRequest {
            others: self.others.clone(),
            versions: self.versions,
            timeout: self.timeout,
            backoff: self.backoff,
            ..ConnectRequest::new(
                self.endpoint.clone(),
                identity,
                self.server_roots.clone(),
                client_id.to_owned(),
            )
        }
    }
}

/// Whose key the certificate is for.
#[derive(Clone, Debug)]
pub enum KeyWish {
    /// The service makes it, and sends it.
    Service,
    /// It is made here, and stays here.
    Here {
        /// Of which kind.
        algorithm: KeyAlgorithm,
        /// The request's subject.
        subject: Subject,
    },
    /// It is there.
    Given {
        /// The key.
        key: PrivateKey,
        /// The request, PEM; one is made when there is none.
        csr_pem: Option<String>,
        /// The subject of the one that is made.
        subject: Subject,
    },
}

/// What a template is asked for, and by whom.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The service.
    pub line: Line,
    /// Who asks: a claim, or the present identity.
    pub asker: Identity,
    /// The template.
    pub template: TemplateName,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// The payloads' format.
    pub format: Format,
    /// The client id of the new identity, if it is known beforehand.
    pub client_id: Option<String>,
}

/// What is told while it goes on.
pub type Tell<'t> = dyn FnMut(&str) + 't;

impl Enrol<'_> {
    /// The beginning of a journal: the key, and the request for it.
    ///
    /// # Errors
    /// `key.*`, `csr.*`, `signer.*`.
    pub fn begin(
        &self,
        way: Way,
        client_id: Option<String>,
        wish: &KeyWish,
    ) -> Result<Journal, EnrolError> {
        let client_id = client_id.unwrap_or_else(|| format!("claim-{:016x}", self.random()));
        let mut journal = Journal::begin(way, client_id, self.clock.now());
        let (key, subject) = match wish {
            KeyWish::Service => return Ok(journal),
            KeyWish::Here { algorithm, subject } => (self.keys.generate(*algorithm)?.0, subject),
            KeyWish::Given { key, subject, .. } => (key.clone(), subject),
        };
        journal.key_pem = Some((&key.to_pem()[..]).into());
        let given = match wish {
            KeyWish::Given { csr_pem, .. } => csr_pem.clone(),
            _ => None,
        };
        journal.csr_pem = given;
        if journal.csr_pem.is_none() {
            let draft = CsrDraft::new(subject, &self.keys.public_of(&key)?)?;
            let signature = self.keys.sign_with(&key, draft.to_be_signed())?;
            journal.csr_pem = Some(draft.seal(&signature));
        }
        Ok(journal)
    }

    /// Asks until the certificate is registered by the template, patience is over, or asking again
    /// cannot help.
    ///
    /// # Errors
    /// `fleet.*`, `enrol.*`, `connect.*`, `dial.*`, `server.*`, `mqtt.*`, `file.*`.
    pub fn obtain(
        &self,
        terms: &Terms,
        kept: &mut Kept<'_>,
        tell: &mut Tell<'_>,
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<(), EnrolError> {
        let start = self.clock.monotonic();
        let mut failures = 0;
        while !matches!(kept.journal.stage, Stage::Registered | Stage::Proved) {
            let Err(error) = self.once(terms, kept, tell, witness) else {
                continue;
            };
            failures += 1;
            let passed = self.clock.monotonic().saturating_sub(start);
            if !error.may_pass() || passed >= terms.line.timeout {
                return Err(error);
            }
            let wait = terms.line.backoff.wait(failures, self.random());
            tell(&format!("{error}; next try in {:.1} s", wait.as_secs_f64()));
            self.clock.sleep(wait);
        }
        Ok(())
    }

    /// As many steps as one connection carries.
    fn once(
        &self,
        terms: &Terms,
        kept: &mut Kept<'_>,
        tell: &mut Tell<'_>,
        witness: &mut Option<Box<dyn Witness>>,
    ) -> Result<(), EnrolError> {
        let request = terms
            .line
            .request(terms.asker.clone(), &kept.journal.client_id);
        let connect = self.connect();
        let mut say = |progress: &crate::flows::connect::Progress<'_>| {
            tell(&format!("attempt {}: {}", progress.attempt, progress.fault));
        };
        let mut session = connect.session(&request, &mut say, witness)?;
        if matches!(kept.journal.stage, Stage::Begun | Stage::Asked) {
            self.ask_for_certificate(terms, kept, &mut session)?;
            tell("a certificate was issued");
        }
        let lost = ask_for_thing(terms, kept, &mut session)?;
        session.close();
        if lost {
            return self.look_for_itself(terms, kept);
        }
        tell("the template has registered it");
        Ok(())
    }

    fn connect(&self) -> Connect<'_> {
        Connect {
            clock: self.clock,
            entropy: self.entropy,
            dial: self.dial,
        }
    }

    fn ask_for_certificate(
        &self,
        terms: &Terms,
        kept: &mut Kept<'_>,
        session: &mut Session<'_>,
    ) -> Result<(), EnrolError> {
        let (operation, payload) = match &kept.journal.csr_pem {
            Some(csr) => (Operation::Csr, fleet::ask_for_csr(terms.format, csr)),
            None => (Operation::Keys, fleet::ask_for_keys(terms.format)),
        };
        listen(session, operation, terms.format)?;
        if kept.journal.stage == Stage::Asked {
            kept.journal.unanswered += 1;
        }
        kept.journal.stage = Stage::Asked;
        kept.save()?;
        let answer = match ask(session, operation, terms.format, &payload) {
            Err(EnrolError::Fleet(error)) => {
                // A no is an answer: nothing was issued.
                kept.journal.stage = Stage::Begun;
                kept.save()?;
                return Err(error.into());
            }
            other => other?,
        };
        let issued = fleet::issued(terms.format, &answer)?;
        let journal = &mut kept.journal;
        if let Some(key) = &issued.private_key {
            journal.key_pem = Some((&key[..]).into());
        }
        let key = journal.key()?.ok_or(EnrolError::NoKey)?;
        if self.keys.public_of(&key)? != issued.certificate.public_key {
            return Err(EnrolError::OtherKey);
        }
        journal.certified(&issued.certificate, &issued.token, self.clock.now());
        kept.save()
    }

    /// The token was taken, or ran out, and nobody heard which: the certificate itself tells. A
    /// second one is asked for only when the first cannot be in use.
    fn look_for_itself(&self, terms: &Terms, kept: &mut Kept<'_>) -> Result<(), EnrolError> {
        let names = names(&kept.journal, terms.client_id.as_deref(), &terms.parameters);
        let line = Line {
            timeout: terms.line.timeout.min(Duration::from_secs(5)),
            ..terms.line.clone()
        };
        let error = match self.try_each(&line, &names, kept)? {
            Ok(name) => {
                kept.journal.proved_as = Some(name);
                kept.journal.token = None;
                kept.journal.stage = Stage::Proved;
                return kept.save();
            }
            Err(error) => error,
        };
        if error.fault().may_pass() && !error.fault().is_answer() {
            return Err(EnrolError::Proof(Box::new(error)));
        }
        let age = kept.journal.token_at.map(|at| self.clock.now().since(at));
        let over = age.is_some_and(|age| age > Span::seconds(fleet::TOKEN_LIFE_S));
        let certificate = kept.journal.certificate()?.ok_or(EnrolError::NoKey)?;
        if over {
            kept.journal.give_up_certificate();
            kept.save()?;
            return Ok(());
        }
        Err(EnrolError::Lost {
            certificate: certificate.id().clone(),
            source: Box::new(error),
        })
    }

    /// Connects as the new identity, until CONNACK.
    ///
    /// # Errors
    /// `enrol.proof`, `file.*`.
    pub fn prove(&self, terms: &Proof<'_>, kept: &mut Kept<'_>) -> Result<(), EnrolError> {
        if kept.journal.stage == Stage::Proved {
            return Ok(());
        }
        let name = self
            .try_each(terms.line, &terms.names, kept)?
            .map_err(|error| EnrolError::Proof(Box::new(error)))?;
        kept.journal.proved_as = Some(name);
        kept.journal.stage = Stage::Proved;
        kept.save()
    }

    /// One round after the other over all names, until one is let in.
    fn try_each(
        &self,
        line: &Line,
        names: &[String],
        kept: &Kept<'_>,
    ) -> Result<Result<String, ConnectError>, EnrolError> {
        let identity = kept.identity()?;
        let start = self.clock.monotonic();
        let mut round = 0;
        loop {
            round += 1;
            let mut last = None;
            for name in names {
                let mut request = line.request(identity.clone(), name);
                request.attempts = Some(1);
                match self.connect().run(request) {
                    Ok(_) => return Ok(Ok(name.clone())),
                    Err(error) => last = Some(error),
                }
            }
            let passed = self.clock.monotonic().saturating_sub(start);
            match last {
                None => return Err(EnrolError::NoName),
                Some(error) if !error.fault().may_pass() || passed >= line.timeout => {
                    return Ok(Err(error));
                }
                Some(_) => {
                    let wait = line.backoff.wait(round, self.random());
                    self.clock.sleep(wait.max(BETWEEN_CONNECTS));
                }
            }
        }
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// How a new identity is proved.
pub struct Proof<'a> {
    /// The service.
    pub line: &'a Line,
    /// Client ids under which it may connect, the likeliest first.
    pub names: Vec<String>,
}

/// Client ids under which a new identity may connect: the one that was named, the thing's; where the
/// answer with the thing's name was lost, the certificate's and the parameters' values.
pub fn names(
    journal: &Journal,
    named: Option<&str>,
    parameters: &BTreeMap<String, String>,
) -> Vec<String> {
    if let Some(name) = named.or(journal.thing_name.as_deref()) {
        return vec![name.to_owned()];
    }
    let certificate = journal.certificate().ok().flatten();
    let common_name = certificate.and_then(|leaf| leaf.subject.first("CN").map(str::to_owned));
    let mut all: Vec<String> = common_name
        .into_iter()
        .filter(|name| name != "AWS IoT Certificate")
        .chain(parameters.values().cloned())
        .filter(|name| (1..=128).contains(&name.len()))
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    all
}

/// Whether an earlier question was answered, and the answer lost.
fn ask_for_thing(
    terms: &Terms,
    kept: &mut Kept<'_>,
    session: &mut Session<'_>,
) -> Result<bool, EnrolError> {
    let operation = Operation::Provision(&terms.template);
    listen(session, operation, terms.format)?;
    let asked_before = kept.journal.stage == Stage::Registering;
    let token = kept.journal.token.clone().unwrap_or_default();
    let payload = fleet::ask_for_thing(terms.format, token.expose(), &terms.parameters);
    kept.journal.stage = Stage::Registering;
    kept.save()?;
    match ask(session, operation, terms.format, &payload) {
        Ok(answer) => {
            let registered = fleet::registered(terms.format, &answer)?;
            kept.journal.thing_name = registered.thing_name;
            kept.journal.device_configuration = Some(registered.device_configuration);
            kept.journal.token = None;
            kept.journal.stage = Stage::Registered;
            kept.save()?;
            Ok(false)
        }
        Err(EnrolError::Fleet(FleetError::Rejected(no))) if no.is_of_token() => {
            if asked_before {
                return Ok(true);
            }
            // It ran out, and AWS IoT deletes a certificate that was never registered.
            kept.journal.give_up_certificate();
            kept.save()?;
            Err(FleetError::Rejected(no).into())
        }
        Err(EnrolError::Fleet(error)) => {
            if !asked_before {
                kept.journal.stage = Stage::Certified;
                kept.save()?;
            }
            Err(error.into())
        }
        Err(error) => Err(error),
    }
}

/// Subscribes to both answers; the service answers nobody who does not listen.
fn listen(
    session: &mut Session<'_>,
    operation: Operation<'_>,
    format: Format,
) -> Result<(), EnrolError> {
    let topic = operation.topic(format);
    for ending in ["accepted", "rejected"] {
        session.subscribe(&format!("{topic}/{ending}"))?;
    }
    Ok(())
}

/// Publishes, and waits for either answer.
fn ask(
    session: &mut Session<'_>,
    operation: Operation<'_>,
    format: Format,
    payload: &[u8],
) -> Result<Vec<u8>, EnrolError> {
    let topic = operation.topic(format);
    session.publish(&topic, payload)?;
    let from = format!("{topic}/accepted");
    let (came, payload) = session.receive(&from, |came, _| came.starts_with(&topic))?;
    if came.ends_with("/rejected") {
        return Err(fleet::rejected(operation.name(), format, &payload).into());
    }
    Ok(payload)
}
