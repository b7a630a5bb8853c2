//! Pure: values in, values out. No files, network, environment, clock, randomness or printing.

/// How long to wait before trying again.
pub mod backoff;
/// A list of devices, read strictly.
#[cfg(feature = "operator")]
pub mod batch;
/// Which files one identity consists of, their names and secrecy.
pub mod bundle;
/// A certificate, parsed once at the door.
pub mod cert;
/// What is wrong or doubtful in certificates.
#[cfg(feature = "operator")]
pub mod certlint;
/// A leaf with its issuers: when it is valid, and whether it verifies.
pub mod chain;
/// One check of the device: how it ended, and what that means.
pub mod check;
/// What time it is: an interval that evidence only narrows.
pub mod clock;
/// Certificate revocation lists.
#[cfg(feature = "operator")]
pub mod crl;
/// Certification requests.
#[cfg(feature = "sandbox")]
pub mod csr;
/// A certification request before it is signed.
pub mod csr_draft;
/// DER, as far as no crate gives us the bytes themselves.
pub mod der;
/// What differs between two JSON texts.
#[cfg(feature = "operator")]
pub mod diff;
/// Distinguished names, for comparison.
#[cfg(feature = "operator")]
pub mod dn;
/// A certificate before it is signed: draft, sign elsewhere, seal.
#[cfg(feature = "sandbox")]
pub mod draft;
/// A host and a port, as a person writes them.
pub mod endpoint;
/// How far a device has come on its way to a new identity.
pub mod enrolment;
/// One result of a linter, audit or advisor.
pub mod finding;
/// Whether a draft will pass its provisioning template.
#[cfg(feature = "sandbox")]
pub mod fit;
/// Certificates that are wrong on purpose.
#[cfg(feature = "operator")]
pub mod flaw;
/// What a device asks of fleet provisioning, and what it is answered.
pub mod fleet;
/// Texts with `*` in them.
#[cfg(feature = "sandbox")]
pub mod glob;
/// The shapes in which an identity is handed over.
#[cfg(feature = "operator")]
pub mod handover;
/// Names that AWS IoT gives rules to, parsed once.
pub mod ids;
/// Everything a certificate says.
#[cfg(feature = "operator")]
pub mod inspect;
/// What a file of certificates really holds.
#[cfg(feature = "operator")]
pub mod intake;
/// A proof that no device of a fleet can act as another.
#[cfg(feature = "sandbox")]
pub mod isolate;
/// May a certificate connect, must it be provisioned first, or is it refused?
#[cfg(feature = "sandbox")]
pub mod jitp;
/// JSON read strictly.
pub mod json;
/// Public and private keys as bytes: formats, algorithms, encryption at rest.
pub mod key;
/// Where a private key lives.
pub mod key_uri;
/// A whole ledger as text.
#[cfg(feature = "operator")]
pub mod ledger_file;
/// Where a ledger is.
pub mod ledger_place;
/// What a ledger holds, in numbers.
#[cfg(feature = "operator")]
pub mod ledger_stats;
/// From when to when a certificate is valid.
pub mod lifetime;
/// Filter patterns of CloudWatch Logs.
#[cfg(feature = "sandbox")]
pub mod logfilter;
/// An MQTT 3.1.1 client's side of the conversation.
pub mod mqtt;
/// A distinguished name's DER.
pub mod name;
/// Which known word a wrong one was meant to be.
#[cfg(feature = "sandbox")]
pub mod near;
/// Network Time Security: proving who a time server is.
pub mod nts;
/// Whether a certificate is good, by path building and validation of our own.
#[cfg(feature = "operator")]
pub mod path;
/// Subjects with placeholders.
pub mod pattern;
/// The two payload formats of fleet provisioning.
pub mod payload;
/// PEM in, PEM out.
pub mod pem;
/// The AWS IoT policy language.
#[cfg(feature = "sandbox")]
pub mod policy;
/// The least policy for what devices do.
#[cfg(feature = "operator")]
pub mod policygen;
/// What is wrong or doubtful in AWS IoT policies.
#[cfg(feature = "operator")]
pub mod policylint;
/// The checks before the first connect: facts in, verdict out.
pub mod preflight;
/// What a kind of certificate says.
#[cfg(feature = "operator")]
pub mod profile;
/// An HTTP proxy that tunnels TCP by CONNECT.
pub mod proxy;
/// What the ledger remembers.
#[cfg(feature = "operator")]
pub mod record;
/// Whether a certificate is due for renewal.
pub mod renewal;
/// Why a certificate was revoked.
#[cfg(feature = "operator")]
pub mod revocation;
/// A rotation, step by step.
#[cfg(feature = "operator")]
pub mod rotation;
/// What every rule means.
#[cfg(feature = "operator")]
pub mod rules;
/// Whether a TLS server is the one it should be.
pub mod server;
/// Whether a key made the signature on a certificate, request or CRL.
pub mod signature;
/// SNTP: asking time servers, and believing only what their answers prove.
pub mod sntp;
/// The status of a registered certificate.
pub mod status;
/// Distinguished names.
pub mod subject;
/// Findings that somebody has looked at and lets stand, for a while.
#[cfg(feature = "operator")]
pub mod suppress;
/// AWS IoT provisioning templates.
#[cfg(feature = "sandbox")]
pub mod template;
/// Instants, windows and durations.
pub mod time;
