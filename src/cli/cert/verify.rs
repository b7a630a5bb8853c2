//! `cert verify`

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::gather::{Places, time};
use crate::cli::report::{Report, count};
use crate::cli::settings::Settings;
use crate::cli::wire_device::Machine;
use crate::core::cert::Certificate;
use crate::core::ids::CertificateId;
use crate::core::intake::{Item, Thing};
use crate::core::path::{
    self, PathRequest, PathVerdict, PeerName, PolicyRequest, Pool, Spot, Usage,
};
use crate::core::time::{Span, UtcTime, Validity};
use crate::explain::{Explain, Failure, Kind};
use crate::flows::cert_gather::Artifact;
use crate::flows::cert_verify::{self, Asked};
use crate::ports::Clock;

/// Say whether certificates are good: a path to a root, and nothing against it
///
/// In a file, every certificate that issued no other one there is verified, and the others help to
/// build its path. What a server shows (`tls://HOST:PORT`) must be good for a TLS server of that
/// name. Exit code 0 when all are good, 1 when one is not; each reason is told with the certificate
/// that it is about.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  nameplate cert verify devices/pump-1 --root ca/factory/cert.pem --usage client
  nameplate cert verify chain.pem --root roots/ --crl crl.pem --within 90d
  nameplate cert verify --endpoint localhost:8883 --root amazon")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    places: Places,
    /// Trust this: every certificate in a file, in a folder those that signed themselves; `amazon`
    /// is the roots of AWS IoT's endpoints. Repeatable
    #[arg(long = "root", value_name = "FILE|DIR|amazon")]
    roots: Vec<PathBuf>,
    /// Certificates that may stand between, not trusted. Repeatable
    #[arg(long = "intermediate", value_name = "FILE|DIR")]
    intermediates: Vec<PathBuf>,
    /// Revocation lists, PEM or DER: an issuer's list that is given must be good, and decides. In a
    /// folder those in files that end in .crl or .pem. Repeatable
    #[arg(long = "crl", value_name = "FILE|DIR")]
    crls: Vec<PathBuf>,
    /// Refuse a certificate when no list of its issuer was given
    #[arg(long)]
    crl_check: bool,
    /// As seen at this time (RFC 3339, or `+90d`) [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<String>,
    /// Good for all of this span from then on, not just at that moment
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true)]
    within: Option<String>,
    /// Must be for this DNS name or IP address [default for a server: its own]
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// What it is to be used for [default: none; for a server: server]
    #[arg(long, value_enum, value_name = "USE")]
    usage: Option<Use>,
    /// Must be good for this certificate policy (dotted OID). Repeatable
    #[arg(long = "policy", value_name = "OID")]
    policies: Vec<String>,
    /// At most this many intermediates; self-issued ones do not count
    #[arg(long, value_name = "N")]
    max_intermediates: Option<usize>,
    /// Count as well what RFC 5280 §4 asks of issuers and readers need not check
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Use {
    /// Nothing in particular
    None,
    /// A TLS client: a device
    Client,
    /// A TLS server
    Server,
    /// A CA
    Ca,
}

/// What came of it, certificate by certificate.
#[derive(Serialize)]
pub(super) struct Verified {
    at: UtcTime,
    until: UtcTime,
    valid: usize,
    not_valid: usize,
    certificates: Vec<One>,
}

#[derive(Serialize)]
struct One {
    source: String,
    /// Its place in the source, from 0.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    valid: bool,
    subject: String,
    id: Option<CertificateId>,
    /// The certificate, its issuer, and so on.
    path: Vec<Step>,
    /// When all of the path is valid at once.
    window: Option<Validity>,
    reasons: Vec<Said>,
}

#[derive(Serialize)]
struct Step {
    role: &'static str,
    subject: String,
    id: CertificateId,
    source: String,
}

#[derive(Serialize)]
struct Said {
    code: &'static str,
    /// Its place in the path, from 0.
    position: usize,
    subject: String,
    source: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

/// What is asked of every certificate.
struct Question {
    when: Validity,
    name: Option<PeerName>,
    usage: Option<Usage>,
    crl_check: bool,
    strict: bool,
    max_intermediates: Option<usize>,
    policies: Vec<String>,
}

impl Args {
    pub(super) fn run(self, _settings: &Settings) -> Result<Verified, Failure> {
        self.stdin_once()?;
        let machine = Machine::default();
        let question = self.question(machine.clock.now())?;
        let asked = Asked {
            roots: self.roots.clone(),
            intermediates: self.intermediates.clone(),
            crls: self.crls.clone(),
        };
        let gather = self.places.gatherer(&machine)?;
        let mut sources = cert_verify::sources(&gather, &asked)?;
        let artifacts = self.places.gather(&machine)?;
        nothing(&artifacts)?;
        let own = sources.intermediates.clone();
        for artifact in &artifacts {
            sources.see(artifact);
            if !artifact.presented {
                sources.intermediates.extend(helpers(artifact));
            }
        }
        let shared = Pool::new(&sources.intermediates, &sources.roots, &sources.crls);
        let mut certificates = Vec::new();
        for artifact in &artifacts {
            let eye = |pool| Eye {
                pool,
                question: &question,
                places: &sources.places,
            };
            if artifact.presented {
                // What is presented must do without what other places hold.
                let shown = [own.clone(), helpers(artifact)].concat();
                let pool = Pool::new(&shown, &sources.roots, &sources.crls);
                certificates.extend(eye(&pool).look(artifact));
            } else {
                certificates.extend(eye(&shared).look(artifact));
            }
        }
        let valid = certificates.iter().filter(|one| one.valid).count();
        Ok(Verified {
            at: question.when.not_before,
            until: question.when.not_after,
            valid,
            not_valid: certificates.len() - valid,
            certificates,
        })
    }

    /// Stdin is read once; and nobody means to trust what is to be verified.
    fn stdin_once(&self) -> Result<(), Failure> {
        let files = self
            .roots
            .iter()
            .chain(&self.intermediates)
            .chain(&self.crls);
        let dashes = files.filter(|path| path.as_os_str() == "-").count();
        if dashes + self.places.stdin() < 2 {
            return Ok(());
        }
        let message = "`-` is named more than once, and stdin can be read once only";
        Err(Failure::new(Kind::Usage, "verify.stdin", message).hint("name the others as files"))
    }

    fn question(&self, now: UtcTime) -> Result<Question, Failure> {
        let at = time(self.at.as_deref(), now)?;
        let span = match &self.within {
            Some(text) => {
                let wrong = |error: crate::core::time::TimeError| {
                    Failure::new(Kind::Usage, error.code(), format!("--within: {error}"))
                };
                text.parse::<Span>().map_err(wrong)?
            }
            None => Span::ZERO,
        };
        let name = self.name.as_deref().map(str::parse).transpose()?;
        for oid in &self.policies {
            let dotted = oid.contains('.') && oid.split('.').all(|arc| arc.parse::<u64>().is_ok());
            if !dotted {
                let message = format!("--policy: `{oid}` is not a dotted OID");
                return Err(Failure::new(Kind::Usage, "verify.policy", message)
                    .hint("write it as 2.23.140.1.2.1"));
            }
        }
        Ok(Question {
            when: Validity {
                not_before: at,
                not_after: at.plus(span),
            },
            name,
            usage: self.usage.map(|usage| match usage {
                Use::None => Usage::Any,
                Use::Client => Usage::Client,
                Use::Server => Usage::Server,
                Use::Ca => Usage::Ca,
            }),
            crl_check: self.crl_check,
            strict: self.strict,
            max_intermediates: self.max_intermediates,
            policies: self.policies.clone(),
        })
    }
}

/// Refuses a file without anything in it that is, or should be, a certificate.
fn nothing(artifacts: &[Artifact]) -> Result<(), Failure> {
    let other = |item: &Item| matches!(item.thing, Thing::Other { .. });
    let empty = artifacts.iter().find(|one| one.items.iter().all(other));
    empty.map_or(Ok(()), |artifact| {
        let path = PathBuf::from(&artifact.name);
        Err(cert_verify::VerifyError::Empty(path).into())
    })
}

/// What helps to build paths: all but the certificates to be verified.
fn helpers(artifact: &Artifact) -> Vec<Certificate> {
    let chosen = cert_verify::to_verify(artifact);
    let items = artifact.items.iter().enumerate();
    let others = items.filter(|(n, _)| !chosen.contains(n));
    let others = others.filter_map(|(_, item)| item.certificate().cloned());
    // What is presented must do without what lies beside it.
    let beside = artifact.issuers.iter().filter(|_| !artifact.presented);
    others.chain(beside.cloned()).collect()
}

/// One look at one artifact.
struct Eye<'a> {
    pool: &'a Pool<'a>,
    question: &'a Question,
    places: &'a HashMap<CertificateId, String>,
}

impl Eye<'_> {
    fn look(&self, artifact: &Artifact) -> Vec<One> {
        let chosen = cert_verify::to_verify(artifact);
        let host = artifact.name.strip_prefix("tls://");
        let host = host.and_then(|endpoint| endpoint.rsplit_once(':'));
        let host = host.map(|(host, _)| host.trim_matches(['[', ']']));
        let mut all = Vec::new();
        for (index, item) in artifact.items.iter().enumerate() {
            let one = match &item.thing {
                Thing::Certificate { certificate, .. } if chosen.contains(&index) => {
                    self.verify(certificate, host)
                }
                Thing::Unreadable(why) => unreadable("cert.der", why.clone()),
                _ => continue,
            };
            let mut one = one;
            if let Thing::Certificate { trailing, .. } = item.thing
                && trailing > 0
            {
                let more = unreadable("path.malformed", format!("{trailing} bytes follow its end"));
                one.reasons.extend(more.reasons);
                one.valid = false;
            }
            (one.source, one.index, one.line) = (artifact.name.clone(), index, item.line);
            for said in one.reasons.iter_mut().filter(|said| said.position == 0) {
                said.source = place(&artifact.name, item.line);
            }
            for step in one.path.iter_mut().take(1) {
                step.source = place(&artifact.name, item.line);
            }
            all.push(one);
        }
        all
    }

    fn verify(&self, leaf: &Certificate, host: Option<&str>) -> One {
        let question = self.question;
        let own_name = || host.and_then(|host| host.parse::<PeerName>().ok());
        let name = question.name.clone().or_else(own_name);
        let default = host.map_or(Usage::Any, |_| Usage::Server);
        let request = PathRequest {
            usage: question.usage.unwrap_or(default),
            name: name.as_ref(),
            require_crls: question.crl_check,
            strict: question.strict,
            max_intermediates: question.max_intermediates,
            policies: PolicyRequest {
                acceptable: question.policies.clone(),
                require_explicit: !question.policies.is_empty(),
                ..PolicyRequest::default()
            },
            ..PathRequest::new(leaf, question.when)
        };
        let verdict = path::verify(self.pool, &request);
        self.describe(leaf, &verdict)
    }

    fn describe(&self, leaf: &Certificate, verdict: &PathVerdict) -> One {
        let on_path: Vec<&Certificate> = verdict
            .path
            .iter()
            .map(|spot| self.pool.certificate(*spot).unwrap_or(leaf))
            .collect();
        let source = |one: &Certificate| self.places.get(one.id()).cloned().unwrap_or_default();
        let steps = verdict.path.iter().zip(&on_path);
        let mut window = Some(leaf.validity);
        for one in &on_path {
            window = window.and_then(|window| window.overlap(&one.validity));
        }
        One {
            source: String::new(),
            index: 0,
            line: None,
            valid: verdict.is_valid(),
            subject: leaf.subject.to_string(),
            id: Some(leaf.id().clone()),
            path: steps
                .map(|(spot, one)| Step {
                    role: match spot {
                        Spot::Leaf => "leaf",
                        Spot::Intermediate(_) => "intermediate",
                        Spot::Root(_) => "root",
                    },
                    subject: one.subject.to_string(),
                    id: one.id().clone(),
                    source: source(one),
                })
                .collect(),
            window,
            reasons: verdict
                .faults
                .iter()
                .map(|fault| Said {
                    code: fault.reason.code(),
                    position: fault.at,
                    subject: on_path[fault.at].subject.to_string(),
                    source: source(on_path[fault.at]),
                    message: fault.reason.to_string(),
                    hint: fault.reason.hint(),
                })
                .collect(),
        }
    }
}

fn unreadable(code: &'static str, why: String) -> One {
    One {
        source: String::new(),
        index: 0,
        line: None,
        valid: false,
        subject: String::new(),
        id: None,
        path: Vec::new(),
        window: None,
        reasons: vec![Said {
            code,
            position: 0,
            subject: String::new(),
            source: String::new(),
            message: why,
            hint: None,
        }],
    }
}

fn place(source: &str, line: Option<usize>) -> String {
    line.map_or_else(|| source.to_owned(), |line| format!("{source}:{line}"))
}

impl Report for Verified {
    fn exit_code(&self) -> u8 {
        u8::from(self.not_valid > 0)
    }

    fn lines(&self) -> Option<Vec<serde_json::Value>> {
        Some(
            self.certificates
                .iter()
                .map(|one| serde_json::json!(one))
                .collect(),
        )
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.certificates {
            write_one(f, one, self.at)?;
        }
        match self.certificates.len() {
            1 => Ok(()),
            all => write!(
                f,
                "{}: {} valid, {} not valid",
                count(all as u64, "certificate"),
                self.valid,
                self.not_valid
            ),
        }
    }
}

fn write_one(f: &mut fmt::Formatter<'_>, one: &One, at: UtcTime) -> fmt::Result {
    let place = place(&one.source, one.line);
    match &one.window {
        Some(window) if one.valid => writeln!(f, "{place}: valid, {}", window.describe(at))?,
        _ => writeln!(f, "{place}: not valid")?,
    }
    for (n, step) in one.path.iter().enumerate() {
        let from = match (n, step.role) {
            (0, _) => String::new(),
            (_, "root") => format!("  (root, {})", step.source),
            _ => format!("  ({})", step.source),
        };
        let subject = if step.subject.is_empty() {
            "(empty)"
        } else {
            &step.subject
        };
        writeln!(
            f,
            "  {}{subject}{from}",
            if n == 0 { "" } else { "issued by " }
        )?;
    }
    for said in &one.reasons {
        let whose = if said.position == 0 {
            String::new()
        } else {
            format!("`{}` ({}): ", said.subject, said.source)
        };
        writeln!(f, "  error[{}]: {whose}{}", said.code, said.message)?;
        if let Some(hint) = said.hint {
            writeln!(f, "    hint: {hint}")?;
        }
    }
    Ok(())
}
